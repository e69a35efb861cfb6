"""The library's own tests: they pass."""

import margins
import pytest
import torch

from advlib import Linf
from advlib.testing import assert_attack_valid, assert_gradients_reach_input, assert_robust


@pytest.fixture
def corners():
    """Prototypes at 0.1 and 0.9 in every feature, and rows near them: nothing closer than 0.3 breaks one in Linf."""
    model = margins.NearestPrototype(torch.tensor([[0.1], [0.9]]).expand(-1, 16))
    y = torch.arange(60) % 2
    noise = 0.2 * torch.rand(60, 16, generator=torch.Generator().manual_seed(0)) - 0.1
    return model, model.prototypes[y] + noise, y


def test_the_classifier_is_as_robust_as_its_margins(corners):
    assert_robust(*corners, Linf(0.3), at_least=1.0)


def test_gradients(corners):
    assert_gradients_reach_input(*corners)


def test_the_attack():
    assert_attack_valid(lambda model, x, y, threat: margins.climb(model, x, y, threat.eps), Linf(0.1))
