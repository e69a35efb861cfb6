"""HopSkipJump by hand, on models small enough to compute on paper. That it reaches the closed form is a law."""

import math

import pytest
import torch
from by_hand import WIDE, Y, halfspace, points

from advlib import L2, Linf, hop_skip_jump
from tests.laws.table import seeded

X, INIT = points([0.0, 0.0]), points([1.0, 0.5])


def asked(model, x, threat, init, **settings):
    """All points that the model is asked about, in order, and the result."""
    seen = []

    def watched(z):
        seen.extend(z.unbind())
        return model(z)

    x_adv = hop_skip_jump(watched, x, Y, threat, init=init, generator=seeded(), **settings)
    return torch.stack(seen), x_adv


def success(z):
    return halfspace(z).argmax(1) == 1


def bisected(seen, far, norm):
    """Follows a bisection from ``far`` towards the origin: where it ends, and the questions after it."""
    least, most, size = 0.0, 1.0, far.abs().max()
    for number in range(10):  # to a thousandth
        middle = (least + most) / 2
        expected = far.clamp(-middle * size, middle * size) if norm is Linf else middle * far
        assert torch.allclose(seen[number], expected, rtol=0, atol=1e-12)
        least, most = (least, middle) if success(expected[None]) else (middle, most)
    return (far.clamp(-most * size, most * size) if norm is Linf else most * far), seen[10:]


@pytest.mark.parametrize("norm", [L2, Linf])
@pytest.mark.parametrize(("samples", "memory"), [(50, 0.8), (20, 0.0)])
def test_three_rounds(norm, samples, memory):
    threat, zero = norm(math.inf, WIDE), points([0.0, 0.0])
    settings = {"samples": samples, "memory": memory} if samples != 50 else {}
    seen, _ = asked(halfspace, X, threat, INIT, queries=1000, **settings)
    assert torch.equal(seen[0], X[0])
    assert torch.equal(seen[1], INIT[0])
    point, seen = bisected(seen[2:], INIT[0], norm)
    normal = zero
    for number in (1, 2, 3):
        count = int(samples * math.sqrt(number))
        length = threat.distance(point[None], X)[0]
        around, seen = seen[:count] - point, seen[count:]
        assert torch.allclose(around.norm(dim=1), length / 2)  # the length over the number of features
        sign = torch.where(success(around + point), 1.0, -1.0).double()
        normal = memory * normal + ((sign - sign.mean())[:, None] * around / (length / 2)).sum(0)
        way = normal.sign() if norm is Linf else normal / normal.norm()
        step = length / math.sqrt(number)
        while not success((point + step * way)[None]):
            assert torch.allclose(seen[0], point + step * way)
            step, seen = step / 2, seen[1:]
        assert torch.allclose(seen[0], point + step * way)
        point, seen = bisected(seen[1:], point + step * way, norm)


def test_a_step_is_halved_until_it_succeeds():
    """A thin strip of successes, which a whole step crosses."""

    def strip(z):
        lead = 0.1 - (z[:, :1] - 1).abs() + 0 * z[:, 1:]
        return torch.cat([0 * lead, lead], dim=1)

    seen, x_adv = asked(strip, X, L2(math.inf, WIDE), points([1.05, 0.0]), queries=80)
    after = seen[12 + 50 :]
    lengths = (after - after.new_tensor([0.9, 0.0])).norm(dim=1)
    assert lengths[0] == pytest.approx(0.9, rel=0.01)
    ratio = lengths[1:4] / lengths[:3]
    assert torch.allclose(ratio, torch.full_like(ratio, 0.5), rtol=0.05)
    assert x_adv[0, 0].item() == pytest.approx(0.9, rel=0.002)


def test_a_step_that_never_succeeds_is_given_up():
    """Success at one point alone: every sample and every step fails, and the search goes on until its questions end."""

    def needle(z):
        lead = 1e-9 - (z - INIT).abs().sum(1, keepdim=True)
        return torch.cat([0 * lead, lead], dim=1)

    seen, x_adv = asked(needle, X, L2(math.inf, WIDE), INIT, queries=300)
    assert torch.equal(x_adv, INIT)
    around, steps = seen[12:62] - INIT[0], seen[62:82] - INIT[0]
    mean = -around.mean(0)  # where all answers are equal, their mean way
    cosine = torch.nn.functional.cosine_similarity(steps, mean[None].expand_as(steps))
    assert torch.allclose(cosine, torch.ones_like(cosine))


def linear(features):
    def model(z):
        lead = z.sum(1, keepdim=True) - 0.4 * features
        return torch.cat([0 * lead, lead], dim=1)

    return model


@pytest.mark.parametrize(
    ("norm", "features", "dtype", "questions"),
    [
        (L2, 10, torch.float64, 10),  # theta is 0.03, and at most a thousandth
        (L2, 400, torch.float64, 13),  # 400 ** -1.5
        (Linf, 400, torch.float64, 18),  # 400 ** -2
        (Linf, 40000, torch.float32, 21),  # what float32 can tell apart
    ],
)
def test_bisection_is_the_finer_the_more_features(norm, features, dtype, questions):
    x, init = torch.zeros(1, features, dtype=dtype), torch.ones(1, features, dtype=dtype)
    seen, _ = asked(linear(features), x, norm(math.inf), init, queries=questions + 30)
    line = (seen == seen[:, :1]).all(1)
    assert int(line[:-1].sum()) == 2 + questions


def test_the_last_questions_are_for_the_step_and_the_bisection():
    """Of 60, 12 come before the samples, one after all, and 15 are kept: 10 for the bisection and 5 for the step."""
    seen, _ = asked(halfspace, X, L2(math.inf, WIDE), INIT, queries=60)
    point, seen = bisected(seen[2:], INIT[0], L2)
    near = torch.isclose((seen - point).norm(dim=1), point.norm() / 2)
    assert near.tolist()[:33] == [True] * 32 + [False]


def test_features_that_may_not_change_do_not_count():
    """Four of eight: samples are as far away as with four."""
    mask = torch.arange(8) < 4
    x, init = torch.zeros(1, 8, dtype=torch.float64), mask[None].double()
    seen, _ = asked(linear(4), x, L2(math.inf, WIDE, mask=mask), init, queries=60)
    assert (seen[:, 4:] == 0).all()
    around = seen[12:40]
    center = points([0.4, 0.4, 0.4, 0.4])
    assert 0.6 * center.norm() / 4 < (around[:, :4] - center).norm(dim=1).max() <= 1.02 * center.norm() / 4
