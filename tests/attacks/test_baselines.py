"""Noise: spread as it says, and no weaker than it says."""

import pytest
import torch

from advlib import L0, L1, L2, Linf, gaussian_noise, salt_and_pepper, uniform_noise

ROWS = 2000
X = torch.full((ROWS, 1, 4, 4), 0.5, dtype=torch.float64)
Y = torch.zeros(ROWS, dtype=torch.int64)


def flat(z):
    """Always class 0, by a margin that nothing changes, and a loss that grows with the distance from x."""
    away = (z - 0.5).abs().flatten(1).sum(1, keepdim=True)
    return torch.cat([10 - away, away], dim=1)


def draw(attack, threat, **settings):
    return attack(flat, X, Y, threat, generator=torch.Generator().manual_seed(0), **settings) - X


def test_uniform_noise_fills_the_ball():
    delta = draw(uniform_noise, Linf(0.3)).flatten()
    assert delta.abs().max() <= 0.3
    assert delta.mean().abs() < 0.005
    assert delta.std().item() == pytest.approx(0.3 / 3**0.5, rel=0.02)


@pytest.mark.parametrize(("threat", "p"), [(Linf(0.2), torch.inf), (L2(0.4), 2), (L1(1.0), 1)])
def test_gaussian_noise_lies_on_the_border(threat, p):
    delta = draw(gaussian_noise, threat).flatten(1)
    assert torch.allclose(torch.linalg.vector_norm(delta, ord=p, dim=1), torch.tensor(threat.eps).double())
    assert delta.mean().abs() < 0.005
    if p == torch.inf:  # stretched, not cut off: the largest feature alone is at the border
        assert ((delta.abs() > 0.2 - 1e-9).sum(1) == 1).all()


def test_salt_and_pepper_sets_ends_of_the_bounds_evenly():
    delta = draw(salt_and_pepper, L0(3))
    assert ((delta == 0) | (delta == 0.5) | (delta == -0.5)).all()
    changed = (delta != 0).flatten(1)
    assert (changed.sum(1) == 3).all()
    share = changed.double().mean(0)
    assert share.min() > 0.15, "each feature is as likely as the others: 3 of 16"
    assert share.max() < 0.225
    assert (delta > 0).sum().item() == pytest.approx((delta < 0).sum().item(), rel=0.08)
    linf = draw(salt_and_pepper, Linf(0.1))
    assert torch.isin(linf.round(decimals=9).abs(), torch.tensor([0.0, 0.1], dtype=torch.float64)).all()
    counts = (linf != 0).flatten(1).sum(1)
    assert (counts <= 2).sum() > 100, "the share differs from draw to draw"
    assert (counts >= 14).sum() > 100


def test_more_draws_are_stronger_and_failure_keeps_the_strongest():
    few, many = (draw(uniform_noise, Linf(0.3), steps=n).abs().flatten(1).sum(1).mean() for n in (1, 30))
    assert many > 1.1 * few
