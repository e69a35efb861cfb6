"""Rotations and translations found, by hand: which are asked about, in which order, and what comes back."""

import pytest
import torch

import advlib
from advlib import Linf, Spatial, spatial
from advlib.attacks.pgd import ProjectedGradient
from advlib.attacks.spatial import grid
from advlib.attacks.transformed import Transformed
from advlib.models import Counted

Y = torch.tensor([0])


def dot(down, across, size=5):
    x = torch.zeros(1, 1, size, size, dtype=torch.float64)
    x[0, 0, down, across] = 1
    return x


def watcher(down, across):
    """Class 1 where one pixel is more than half bright."""

    def model(z):
        lead = z[:, 0, down, across] - 0.5
        return torch.stack([0 * lead, lead], dim=1)

    return model


def test_grid_holds_each_point_but_zeros_the_farthest_first():
    points = grid((3, 5))
    assert len(points) == 14
    assert len(points.unique(dim=0)) == 14
    assert set(points[:, 1].tolist()) == {-1.0, -0.5, 0.0, 0.5, 1.0}
    length = points.norm(dim=1)
    assert (length.diff() <= 0).all()
    assert length[3] == 2**0.5
    assert length[-1] == 0.5
    assert (grid((31, 1))[:, 0] == 0).sum() == 0  # zero is a point exactly, and left out
    assert grid((1, 1)).tolist() == [[0.0, 0.0]]


@pytest.mark.parametrize("counts", [(4, 5, 5), (0, 5, 5), (3, -1, 5), (3, 2.5, 5)])
def test_a_grid_without_zero_is_refused(counts):
    with pytest.raises(ValueError, match="grid must hold odd numbers of points, so that 0 is one of them"):
        grid(counts)


def test_the_shift_that_the_model_errs_at_comes_back_exactly():
    x = dot(2, 2)
    x_adv = spatial(watcher(3, 1), x, Y, Spatial(0, 1), counts=(1, 3, 3))
    assert torch.equal(x_adv, dot(3, 1))


def test_an_angle_is_found():
    x = dot(2, 4)
    x_adv = spatial(watcher(0, 2), x, Y, Spatial(90, 0), counts=(5, 3, 3))
    torch.testing.assert_close(x_adv, dot(0, 2))
    assert torch.equal(spatial(watcher(0, 2), x, Y, Spatial(40, 0), counts=(5, 3, 3), keep="nearest"), x)


def asked(x, y, threat, model, **settings):
    seen = []

    def recording(z):
        seen.append(z.detach().clone())
        return model(z)

    return seen, spatial(recording, x, y, threat, **settings)


def test_the_image_comes_first_then_the_corners():
    x, blind = dot(2, 2), watcher(0, 0)
    seen, _ = asked(x, Y, Spatial(0, 1), blind, counts=(1, 3, 3))
    assert torch.equal(seen[0], x)
    shifts = [tuple((z[0, 0].nonzero() - 2)[0].tolist()) for z in seen]
    assert shifts[1:5] == [(-1, -1), (-1, 1), (1, -1), (1, 1)]
    assert set(shifts[5:]) == {(-1, 0), (0, -1), (0, 1), (1, 0)}


def test_every_transformation_is_asked_about_once():
    x = torch.rand(1, 1, 5, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    never = lambda z: torch.zeros(len(z), 2).double() + torch.tensor([3.0, 0.0])  # noqa: E731
    seen, x_adv = asked(x, Y, Spatial(30, 1), never, counts=(3, 3, 3))
    assert len(seen) == 27
    assert len(torch.cat(seen).unique(dim=0)) == 27
    assert torch.equal(seen[0], x)
    seen, _ = asked(x, Y, Spatial(0, 1), never, counts=(31, 3, 3))
    assert len(seen) == 9  # angles that are all 0 are one
    seen, x_adv = asked(x, Y, Spatial(0, 0), never)
    assert all(torch.equal(z, x) for z in [*seen, x_adv])
    seen, _ = asked(x, Y, Spatial(30, 1), never)
    assert len(seen) == 31 * 5 * 5
    seen, _ = asked(x, Y, Spatial(30, 1), never, method="random")
    assert len(seen) == 11
    assert torch.equal(seen[0], x)


def test_each_row_has_its_own_and_leaves_where_it_breaks():
    x = torch.cat([dot(2, 2), dot(2, 3), dot(2, 1), dot(3, 1)])
    model = Counted(watcher(3, 1))
    y = torch.tensor([0, 0, 0, 0])
    x_adv = spatial(model, x, y, Spatial(0, 1), counts=(1, 3, 3))
    assert torch.equal(x_adv[[0, 2, 3]], torch.cat([dot(3, 1)] * 3))
    assert (watcher(3, 1)(x_adv[1:2]).argmax(1) == 0).all()
    corners = [1 + [(-1, -1), (-1, 1), (1, -1), (1, 1)].index((1, -1)) + 1, 9, 1, 1]  # asked of each, at most
    assert model.forwards < 9 * 4
    assert model.forwards >= sum(corners[:2]) + 2


def test_the_strongest_is_kept_by_its_loss():
    x = dot(2, 2)
    x[0, 0, 2, 2] = 0.4  # no shift succeeds
    x_adv = spatial(watcher(3, 2), x, Y, Spatial(0, 1), counts=(1, 3, 3))
    assert x_adv[0, 0, 3, 2] == 0.4


def test_the_nearest_is_the_smallest_share_of_the_limits():
    x = torch.zeros(1, 1, 9, 9, dtype=torch.float64)
    x[..., :4, 4] = 1  # any shift down by one brings it to (4, 4)
    near = spatial(watcher(4, 4), x, Y, Spatial(0, 4), counts=(1, 9, 1), keep="nearest")
    assert torch.equal(near, Spatial().apply(x, down=1))


@pytest.mark.parametrize("way", [-1.0, 1.0])
def test_the_gradient_leads_to_the_farthest_shift(way):
    """A blob, and a model that likes it to the right, or to the left."""
    grid_across = torch.arange(11.0, dtype=torch.float64)
    x = torch.exp(-((grid_across - 5) ** 2) / 8).expand(1, 1, 11, 11).contiguous()

    def model(z):
        lead = way * (z.sum((1, 2)) * (grid_across - 5)).sum(1) - 1e6
        return torch.stack([0 * lead, lead], dim=1)

    threat, generator = Spatial(0, 2), torch.Generator().manual_seed(0)
    x_adv = spatial(model, x, Y, threat, method="gradient", steps=20, loss="margin", generator=generator)
    best = threat.apply(x, across=2 * way)
    assert model(x_adv)[0, 1] >= model(best)[0, 1] - 0.01 * (model(best) - model(x))[0, 1].abs()
    other = spatial(model, x, Y, threat, method="gradient", steps=1, loss="margin", generator=generator)
    assert not torch.equal(x_adv, other)


def test_random_restarts_of_the_gradient_start_elsewhere():
    x = torch.rand(1, 1, 5, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    weight = torch.rand(2, 25, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    weight[0] += 1
    seen, _ = asked(x, Y, Spatial(30, 1), lambda z: z.flatten(1) @ weight.T, method="gradient", steps=3, restarts=2)
    assert len(seen) == 8
    assert len({tuple(seen[i].flatten().tolist()) for i in (0, 4)} | {tuple(x.flatten().tolist())}) == 3


def test_bad_calls():
    x = dot(2, 2)
    with pytest.raises(ValueError, match="method must be one of grid, random, gradient, got 'worst'"):
        spatial(watcher(0, 0), x, Y, Spatial(), method="worst")
    with pytest.raises(ValueError, match=r"x must be images \(N, C, H, W\), got shape \(1, 25\)"):
        spatial(watcher(0, 0), x.flatten(1), Y, Spatial())
    with pytest.raises(ValueError, match="translation must be less than the sides"):
        spatial(watcher(0, 0), x, Y, Spatial(0, 5))
    with pytest.raises(TypeError, match="x must be float32 or float64"):
        spatial(watcher(0, 0), x.half(), Y, Spatial(0, 1))


# -- transformations of one's own -------------------------------------------------------------------------------------


def lighting(model, x):
    return Transformed(model, x, lambda x, by: (x + 0.3 * by.view(-1, 1, 1, 1)).clamp(0, 1), 1)


def mean_over(threshold):
    def model(z):
        lead = z.flatten(1).mean(1) - threshold
        return torch.stack([0 * lead, lead], dim=1)

    return model


def test_any_attack_on_a_box_searches_a_transformation_of_ones_own():
    x = torch.tensor([0.2, 0.4, 0.5]).double().reshape(3, 1, 1, 1).expand(3, 1, 2, 2)
    model, y = mean_over(0.6), torch.zeros(3, dtype=torch.int64)
    moved = lighting(model, x)
    points = advlib.bim(moved, moved.origin, y, moved.threat, keep="strongest")
    assert points[:, 0].tolist() == [0, 1, 2]
    torch.testing.assert_close(moved.inputs(points), x + 0.3)
    near = advlib.fmn(moved, moved.origin, y, moved.threat, steps=200)
    assert torch.equal(near[0], moved.origin[0])  # 0.5 at most
    torch.testing.assert_close(near[1:, 1], torch.tensor([2 / 3, 1 / 3]).double(), rtol=0.01, atol=0)


def test_rows_keep_their_inputs_whatever_is_dropped_or_estimated():
    x = torch.rand(40, 1, 2, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    model, y = mean_over(0.6), torch.zeros(40, dtype=torch.int64)
    moved = lighting(model, x)
    source = advlib.gradients.finite_differences(8, delta=0.1)
    result = moved.attacked(y, ProjectedGradient(5), steps=5, keep="first", gradient=source, batch_size=7)
    assert torch.equal(result.success, model(x + 0.3)[:, 1] > 0) or result.success.sum() > 10
    assert torch.equal(model(result.x_adv).argmax(1) == 1, result.success)
    assert ((result.x_adv - x).flatten(1).std(1)[(result.x_adv < 1).flatten(1).all(1)] < 1e-9).all()


def test_a_point_beside_the_index_of_a_row_is_that_row():
    """Finite differences ask there."""
    x = torch.rand(4, 1, 2, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    moved = lighting(mean_over(0.6), x)
    beside = moved.origin[[3, 1]] + torch.tensor([[0.2, 0.0], [-0.2, 0.0]])
    assert torch.equal(moved.inputs(beside), x[[3, 1]])


def test_an_evaluation_of_transformations():
    x = torch.tensor([0.2, 0.4, 0.5, 0.9]).reshape(4, 1, 1, 1).expand(4, 1, 2, 2).contiguous()
    moved = lighting(mean_over(0.6), x)
    result = advlib.evaluate(
        moved, moved.origin, torch.zeros(4, dtype=torch.int64), moved.threat, budget="quick", progress=False
    )
    assert result.robust.tolist() == [True, False, False, False]
    assert result.correct.tolist() == [True, True, True, False]
    assert isinstance(moved.threat, Linf)
