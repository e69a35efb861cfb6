"""assert_robust passes, fails, and says what to do next, on models whose robust accuracy is known."""

import re
from pathlib import Path

import pytest
import torch
from torch import nn

from advlib import Linf, fgsm
from advlib.testing import LAWS, assert_robust


class Threshold(nn.Module):
    """Class 1 where the mean of the features exceeds one half: a row stands while it is farther from that than eps."""

    def forward(self, x):
        lead = 40 * (x.mean(1) - 0.5)
        return torch.stack([-lead, lead], dim=1)


class Steps(Threshold):
    """The same, seen through grey levels that have no gradient."""

    def forward(self, x):
        return super().forward((x * 255).round() / 255)


def rows(distances):
    """Rows of class 1 at these distances from the boundary."""
    x = (0.5 + torch.tensor(distances)).unsqueeze(1).expand(-1, 6).contiguous()
    return x, torch.ones(len(x), dtype=torch.int64)


HALF = [0.02] * 20 + [0.4] * 20


def message(model, x, y, threat, at_least, **options):
    with pytest.raises(AssertionError) as caught:
        assert_robust(model, x, y, threat, at_least=at_least, **options)
    return str(caught.value)


def test_the_share_that_stands_passes_and_comes_back():
    x, y = rows(HALF)
    result = assert_robust(Threshold(), x, y, Linf(0.1), at_least=0.5)
    assert result.robust.tolist() == [False] * 20 + [True] * 20
    assert result.budget == "quick"
    assert assert_robust(Threshold(), x, y, Linf(0.1), at_least=0.5, budget="standard").budget == "standard"
    assert assert_robust(Threshold(), x, y, Linf(0.1), at_least=0.5, batch_size=7).robust_accuracy == 0.5


def test_the_key_is_fixed_and_the_global_generator_left_alone():
    x, y = rows(HALF)
    torch.manual_seed(1)
    before = torch.get_rng_state()
    seed = assert_robust(Threshold(), x, y, Linf(0.1), at_least=0).seed
    assert torch.equal(torch.get_rng_state(), before)
    assert seed == 0


def test_a_failure_tells_the_numbers_what_broke_the_rows_and_the_next_step():
    x, y = rows(HALF)
    told = message(Threshold(), x, y, Linf(0.1), 0.9)
    assert told.startswith("robust accuracy 50.00% (20 of 40 rows, 95 % interval 33.80% to 66.20%) is below")
    assert "at_least=90.00%" in told
    assert "Linf(0.1, bounds=(0, 1)), quick budget, clean accuracy 100.00%" in told
    assert "broken by: first 20 rows" in told
    assert "broken rows: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, and 10 more" in told
    assert "next: train with advlib.defenses.AdversarialTraining" in told


def test_too_few_rows_to_tell():
    x, y = rows(HALF)
    told = message(Threshold(), x, y, Linf(0.1), 0.6)
    assert "next: at_least lies within the interval, so 40 rows are too few to tell" in told
    assert "at_least=0.33" in told


def test_clean_errors_are_the_first_to_mend():
    x, y = rows([-0.3] * 8 + [0.4] * 12)
    told = message(Threshold(), x, y, Linf(0.1), 0.99)
    assert "broken by: clean 8 rows" in told
    assert "next: the model errs unperturbed on 40.00% of the rows" in told


def test_few_broken_rows_are_all_named():
    x, y = rows([0.02] * 3 + [0.4] * 37)
    assert message(Threshold(), x, y, Linf(0.1), 1.0).count("broken rows: 0, 1, 2\n") == 1


def test_an_unreliable_number_fails_though_it_is_high():
    x, y = rows([0.3] * 40)
    told = message(Steps(), x, y, Linf(0.01), 0.9)
    assert "robust accuracy 100.00%" in told
    assert "reaches at_least=90.00%, but the evaluation is unreliable: it proves nothing" in told
    assert "unreliable: vanishing gradients: on 32 of 32 rows" in told
    assert "next: Put advlib.models.BPDA around it" in told
    assert "broken" not in told.partition("unreliable: vanishing")[0]


def test_a_low_and_unreliable_number_tells_both():
    x, y = rows([-0.3] * 36 + [0.3] * 4)
    told = message(Steps(), x, y, Linf(0.01), 0.9)
    assert "is below at_least" in told
    assert "unreliable: vanishing gradients" in told


@pytest.mark.parametrize("at_least", [-0.1, 1.1, 40, float("nan"), "0.4", True, None])
def test_a_share_out_of_range(at_least):
    x, y = rows(HALF)
    with pytest.raises(ValueError, match=r"at_least must be a share of the rows, in \[0, 1\]"):
        assert_robust(Threshold(), x, y, Linf(0.1), at_least=at_least)


def test_the_page_on_testing_runs(capsys):
    """Its blocks, with the names that it asks for, and its tests called."""
    page = (Path(__file__).parents[2] / "docs" / "testing.md").read_text()
    x, y = rows([0.4] * 20)
    names = {"model": Threshold(), "x": x, "y": y, "our_attack": lambda model, x, y, eps: fgsm(model, x, y, Linf(eps))}
    for block in re.findall(r"^```python\n(.*?)^```$", page, re.DOTALL | re.MULTILINE):
        exec(block, names)
    for name in ("test_the_model_is_robust", "test_attacks_can_see_the_model", "test_our_attack"):
        names[name]()
    printed = capsys.readouterr().out
    told = {law for line in re.findall(r"^\| (`.*?`) \|", page, re.MULTILINE) for law in re.findall(r"`(.*?)`", line)}
    assert {line.partition(":")[0] for line in printed.splitlines()} == told == set(LAWS)
