"""The ray search by hand, on models small enough to compute on paper. That it reaches the closed form is a law."""

import math

import pytest
import torch
from by_hand import WIDE, Y, halfspace, points

from advlib import Linf, ray_search
from advlib.models import Counted

X = points([0.0, 0.0])


def asked(model, x, threat, **settings):
    """The points that the model is asked about, and the result."""
    seen = []

    def watched(z):
        seen.extend(z.tolist())
        return model(z)

    return seen, ray_search(watched, x, Y, threat, **settings)


def searched(hi, boundary, tolerance, first):
    """The lengths asked about once a ray has succeeded at ``hi``, and the one that it ends with."""
    lo, step, lengths = 0.0, math.inf if first else tolerance * hi, []
    while hi - lo > tolerance * hi:
        lengths.append((lo + hi) / 2 if lo else max(hi - step, hi / 2))
        if lengths[-1] > boundary:
            hi, step = lengths[-1], 2 * step
        else:
            lo = lengths[-1]
    return lengths, hi


@pytest.mark.parametrize("tolerance", [1e-3, 0.05])
def test_the_first_ray_is_halved_and_then_each_block_is_turned(tolerance):
    """3 a + 4 b > 1: upwards in both, the ray is 1/7 long, and no other is shorter."""
    settings = {} if tolerance == 1e-3 else {"tolerance": tolerance}
    seen, x_adv = asked(halfspace, X, Linf(math.inf, WIDE), **settings)
    lengths, end = searched(100.0, 1 / 7, tolerance, first=True)
    both = [0.0, 50.0, *(min(length, 50.0) for length in lengths)]  # the ray leaves the bounds
    assert seen[: len(both)] == [pytest.approx([length, length]) for length in both]
    turned = [[-end, -end], [-end, end], [end, -end], [-end, end]]  # both, each, and each again: then it is done
    assert seen[len(both) : -1] == [pytest.approx(point) for point in turned]
    assert seen[-1] == x_adv[0].tolist() == pytest.approx([end, end])


def test_a_shorter_ray_is_searched_from_the_longer_one_on():
    """a + b - 0.5 c - 0.5 d > 0.3: 0.3 away upwards in all, 0.1 with the second half turned."""

    def model(z):
        lead = z @ points([1.0], [1.0], [-0.5], [-0.5]) - 0.3
        return torch.cat([0 * lead, lead], dim=1)

    x = torch.zeros(1, 4, dtype=torch.float64)
    seen, x_adv = asked(model, x, Linf(math.inf, (-1.0, 1.0)))
    first, longer = searched(2.0, 0.3, 1e-3, first=True)
    after = seen[2 + len(first) :]
    assert after[0] == pytest.approx([-longer] * 4)
    assert after[1] == pytest.approx([-longer, -longer, longer, longer])
    assert after[2] == pytest.approx([longer, longer, -longer, -longer])
    lengths, shorter = searched(longer, 0.1, 1e-3, first=False)
    assert after[3 : 3 + len(lengths)] == [pytest.approx([v, v, -v, -v]) for v in lengths]
    singles = after[3 + len(lengths) :]
    for feature in range(4):
        point = [shorter, shorter, -shorter, -shorter]
        point[feature] *= -1
        assert singles[feature] == pytest.approx(point)
    assert len(singles) == 8 + 1  # in vain twice as often as there are features, and the last look
    assert x_adv[0].tolist() == pytest.approx([shorter, shorter, -shorter, -shorter])


def test_blocks_are_of_features_that_may_change():
    mask = torch.tensor([False, False, True, True, True, True])

    def model(z):
        lead = z @ points([5.0], [5.0], [1.0], [1.0], [-0.5], [-0.5]) - 0.3
        return torch.cat([0 * lead, lead], dim=1)

    x = torch.zeros(1, 6, dtype=torch.float64)
    seen, x_adv = asked(model, x, Linf(math.inf, (-1.0, 1.0), mask=mask))
    assert x_adv.abs().amax().item() == pytest.approx(0.1, rel=2e-3)
    signs = points(*seen).sign().int().unique_consecutive(dim=0).tolist()
    ways = [
        [1, 1, 1, 1],
        [-1, -1, -1, -1],
        [-1, -1, 1, 1],
        [1, 1, -1, -1],
    ]  # the last is shorter; then feature by feature
    ways += 2 * [[-1, 1, -1, -1], [1, -1, -1, -1], [1, 1, 1, -1], [1, 1, -1, 1]]
    assert signs == [[0] * 6, *([0, 0, *way] for way in [*ways, [1, 1, -1, -1]])]


def test_init_gives_the_direction():
    seen, x_adv = asked(halfspace, X, Linf(math.inf, WIDE), init=points([-0.1, 3.0]))
    assert seen[1] == [-50.0, 50.0]
    assert x_adv[0].tolist() == pytest.approx([1 / 7, 1 / 7], rel=2e-3)


def test_rays_end_at_the_bounds():
    """Class 1 beyond 0.95 a + 0.05 b = 0.9, from (0.5, 0.9): b ends at 1, and a goes on."""

    def model(z):
        lead = z @ points([0.95], [0.05]) - 0.9
        return torch.cat([0 * lead, lead], dim=1)

    x_adv = ray_search(model, points([0.5, 0.9]), Y, Linf(math.inf))
    assert x_adv[0].tolist() == pytest.approx([0.85 / 0.95, 1.0], rel=1e-3)


def test_rows_that_are_done_cost_nothing():
    x = points([0.0, 0.0], [0.1, 0.05], [1.0, 1.0])
    counted = Counted(halfspace)
    together = ray_search(counted, x, Y.repeat(3), Linf(math.inf, WIDE))
    total = counted.forwards
    for row in range(3):
        assert torch.equal(together[row : row + 1], ray_search(counted, x[row : row + 1], Y, Linf(math.inf, WIDE)))
    assert counted.forwards == 2 * total < 150


def test_nothing_is_drawn_where_the_first_ray_succeeds():
    state = torch.get_rng_state()
    ray_search(halfspace, X, Y, Linf(math.inf, WIDE), queries=50)
    assert torch.equal(torch.get_rng_state(), state)


def zigzag(z):
    """Errs where up in even and down in odd features, of 12, comes to more than 2: no turned block alone does that."""
    lead = (z - 0.5) @ torch.tensor([1.0, -1.0] * 6, dtype=z.dtype).unsqueeze(1) - 2
    return torch.cat([0 * lead, lead], dim=1)


def test_where_the_first_ray_fails_the_next_goes_to_a_random_success():
    x, threat = torch.full((3, 12), 0.5, dtype=torch.float64), Linf(math.inf)
    starts, settings = [], {"generator": torch.Generator().manual_seed(0), "queries": 600}

    def watched(z):
        starts.extend(z[zigzag(z).argmax(1) == 1])
        return zigzag(z)

    x_adv = ray_search(watched, x, Y.repeat(3), threat, **settings)
    assert threat.distance(x_adv, x).tolist() == pytest.approx([1 / 6] * 3, rel=0.02)  # 12 d = 2
    signs = [(start - 0.5).sign() for start in starts]
    assert any(torch.equal(signs[0], later) for later in signs[3:])  # the ray to the first success is asked about
    with pytest.warns(UserWarning, match="init is no success on 3 of 3 rows"):  # the user's way, and no other
        assert torch.equal(ray_search(zigzag, x, Y.repeat(3), threat, init=x + 0.1, **settings), x)


def test_features_at_their_upper_end_and_those_that_init_leaves_can_be_turned():
    """The first feature has no way up, and is a hundred times the second's weight downwards."""

    def model(z):
        lead = z @ points([-1.0], [0.01]) + 0.9
        return torch.cat([0 * lead, lead], dim=1)

    x, threat = points([1.0, 0.5]), Linf(math.inf)
    for init in (None, points([0.5, 1.0]), points([1.0, 0.0])):
        x_adv = ray_search(model, x, Y, threat, init=init)
        assert threat.distance(x_adv, x).item() == pytest.approx(
            0.095 / 1.01, rel=0.01
        )  # -(1 - d) + 0.01 (0.5 + d) + 0.9 = 0


def test_a_ray_as_long_is_no_progress():
    """The third feature plays no part, so that its sign can be turned for ever."""
    seen, x_adv = asked(lambda z: halfspace(z[:, :2]), points([0.0, 0.0, 0.0]), Linf(math.inf, WIDE))
    assert x_adv[0, :2].tolist() == pytest.approx([1 / 7, 1 / 7], rel=2e-3)
    assert len(seen) < 60
