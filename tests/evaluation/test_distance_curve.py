"""Curves from one minimum-norm run: distances by the closed form, what counts as broken, and bad input."""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch

from advlib import L0, L1, L2, Linf, deepfool, fab, fmn
from advlib.evaluation import distance_curve
from advlib.models import Counted
from tests.evaluation.test_evaluate import distances, problem


def still(model, x, y, threat):
    return x


class Still:
    def __call__(self, model, x, y, threat):
        return x


@pytest.mark.parametrize(("norm", "dual"), [(Linf, 1), (L2, 2), (L1, torch.inf)])
def test_the_closed_form_on_a_linear_model(norm, dual):
    model, x, y = problem()
    far = distances(model, x, y, dual)
    curve = distance_curve(model, x, y, partial(norm, bounds=None), fab)
    assert torch.allclose(curve.broken_at, far, rtol=2e-3)
    assert torch.equal(curve.broken_at == 0, far == 0)
    assert curve.median == pytest.approx(float(far.sort().values[len(x) // 2 - 1]), rel=2e-3)
    assert curve.accuracy[0] == float((model(x).argmax(1) == y).double().mean()) < 1
    assert curve.accuracy[-1] == 0
    assert curve.eps == pytest.approx(tuple(float(curve.broken_at.max()) * step / 8 for step in range(9)))
    middle = float(far.sort().values[20:22].mean())
    told = distance_curve(model, x, y, partial(norm, bounds=None), fab, eps=[middle])
    assert told.eps == (0.0, middle)
    assert told.accuracy[1] == float((far > middle).double().mean())


def test_what_it_says():
    model, x, y = problem()
    curve = distance_curve(model, x, y, partial(L2, bounds=None), partial(deepfool, steps=20), eps=[0.1])
    assert str(curve).splitlines()[0] == f"L2, deepfool, 40 rows, median {curve.median:.4g}"
    assert (curve.norm, curve.method, curve.findings) == ("L2", "deepfool", ())
    assert distance_curve(model, x, y, partial(L2, bounds=None), Still()).method == "Still"


def test_rows_on_which_nothing_is_found():
    model, x, y = problem()
    wrong = model(x).argmax(1) != y
    curve = distance_curve(model, x, y, partial(L2, bounds=None), still)
    assert torch.equal(curve.broken_at, torch.where(wrong, 0.0, math.inf).double())
    assert curve.eps == (0.0,)
    assert curve.median == math.inf
    assert torch.equal(curve.x_adv, x)


def test_only_points_that_err_within_bounds_and_mask_count():
    model, x, y = problem()
    low, high = x.amin(0) - 0.1, x.amax(0) + 0.1
    right = (model(x).argmax(1) == y).nonzero().squeeze(1)

    def outside(model, x, y, threat):
        found = fab(model, x, y, Linf(math.inf, bounds=None))
        found[0, 0], found[1] = high[0] + 100, math.nan
        return found

    curve = distance_curve(model, x, y, partial(Linf, bounds=(low, high), mask=torch.arange(6) < 3), outside)
    assert bool(curve.broken_at[right].isinf().all())  # all but the first three features are held
    curve = distance_curve(model, x, y, partial(Linf, bounds=(low - 50, high + 50)), outside)
    assert bool(curve.broken_at[right[:2]].isinf().all())
    assert bool(curve.broken_at[right[2:]].isfinite().all())
    assert torch.equal(curve.x_adv[right[:2]], x[right[:2]])
    assert bool((model(curve.x_adv[right[2:]]).argmax(1) != y[right[2:]]).all())


def test_the_attack_gets_the_rows_that_are_right_with_what_belongs_to_them():
    model, x, y = problem()
    may = torch.zeros(len(x), 1, dtype=torch.bool)
    may[::2] = True
    seen = []

    def watched(model, x, y, threat):
        seen.append((x, y, threat))
        return fmn(model, x, y, threat, steps=40)

    curve = distance_curve(model, x, y, partial(L2, bounds=(-90.0, 90.0), mask=may.expand(x.shape)), watched)
    right = model(x).argmax(1) == y
    (points, labels, threat), *more = seen
    assert not more
    assert torch.equal(points, x[right])
    assert torch.equal(labels, y[right])
    assert threat.eps == math.inf
    assert torch.equal(threat.mask[:, 0], may[right].squeeze(1))
    assert bool(curve.broken_at[::2].isfinite().all())
    assert bool(curve.broken_at[1::2][right[1::2]].isinf().all())


def test_a_count_of_features():
    model, *_ = problem()
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[1.0, 1, 1, 0, 0, 0], [0.0, 0, 0, 0, 0, 0], [-9.0, -9, -9, 0, 0, 0]]))
    x = torch.tensor([[0.9, -0.1, -0.1, 0, 0, 0], [0.9, 0.9, 0.9, 0, 0, 0]], dtype=torch.float64)
    curve = distance_curve(model, x, torch.tensor([0, 0]), partial(L0, bounds=(-1.0, 1.0)), fmn)
    assert curve.broken_at.tolist() == [1.0, 2.0]
    assert curve.median == 1.0


def test_nothing_to_attack():
    model, x, _ = problem()
    curve = distance_curve(model, x, (model(x).argmax(1) + 1) % 3, partial(L2, bounds=None), pytest.fail)
    assert curve.broken_at.tolist() == [0.0] * 40
    assert curve.eps == (0.0,)


def test_passes_are_counted():
    model, x, y = problem()
    counted = Counted(model)
    curve = distance_curve(counted, x, y, partial(L2, bounds=None), partial(deepfool, steps=9))
    assert (curve.forward_samples, curve.backward_samples) == (counted.forwards, counted.backwards)
    assert counted.backwards > 0


def test_the_model_is_asked_in_batches():
    model, x, y = problem()
    sizes = set()

    def watched(points):
        sizes.add(len(points))
        return model(points)

    distance_curve(watched, x, y, partial(L2, bounds=None), still, batch_size=7)
    assert max(sizes) == 7


def test_under_inference_mode():
    model, x, y = problem()
    expected = distance_curve(model, x, y, partial(L2, bounds=None), fmn)
    with torch.inference_mode():
        curve = distance_curve(model, x.clone(), y.clone(), partial(L2, bounds=None), fmn)
    assert torch.equal(curve.broken_at, expected.broken_at)
    assert not curve.x_adv.is_inference()
    assert not expected.x_adv.requires_grad


def test_bad_input():
    model, x, y = problem()
    family = partial(L2, bounds=None)
    with pytest.raises(TypeError, match=r"threat_family must be callable, as advlib\.L2"):
        distance_curve(model, x, y, L2(0.1), fmn)
    with pytest.raises(TypeError, match="attack must be callable"):
        distance_curve(model, x, y, family, "fmn")
    with pytest.raises(TypeError, match="threat must be a threat model"):
        distance_curve(model, x, y, lambda eps: eps, fmn)
    with pytest.raises(TypeError, match=r"torch\.cat"):
        distance_curve(model, [(x, y)], None, family, fmn)
    with pytest.raises(ValueError, match=r"one label per row of x, got \(39,\) for 40 rows"):
        distance_curve(model, x, y[1:], family, fmn)
    with pytest.raises(ValueError, match="rows to evaluate"):
        distance_curve(model, x[:0], y[:0], family, fmn)
    with pytest.raises(ValueError, match="increasing"):
        distance_curve(model, x, y, family, pytest.fail, eps=[0.2, 0.1])  # before the attack, which may take hours
