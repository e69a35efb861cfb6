"""Patches, for each image and for all, beside the best there are on models where those are known."""

import pytest
import torch
from torch import nn

from advlib import GradientMaskingWarning, Patch, patch, universal_patch
from advlib.attacks.patch import patched, ranked_places
from advlib.models import Counted


def uniform(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def linear(shape, seed=3):
    """Two classes, and the gradient of the lead of class 1, ``shape``."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(shape.numel(), 2, bias=False)).double()
    model[1].weight.data = 2 * uniform(2, shape.numel(), seed=seed) - 1
    model[1].weight.data[0] += 0.4  # so that class 0 leads
    return model, (model[1].weight.data[1] - model[1].weight.data[0]).reshape(shape)


def best_patch(x, weight, sides, low=0.0, high=1.0):
    """The largest rise of the lead by a patch on each image, ``(N, places down, places across)``."""
    rise = torch.maximum(weight * (high - x), weight * (low - x)).sum(1)
    return rise.unfold(1, sides[0], 1).unfold(2, sides[1], 1).sum((3, 4))


def lead(model, x):
    logits = model(x).detach()
    return logits[:, 1] - logits[:, 0]


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(("bounds", "sides"), [((0.0, 1.0), (2, 3)), ((-0.5, 1.5), (3, 3))])
def test_on_a_linear_model_the_best_patch_at_the_best_place_is_found(bounds, sides):
    x = uniform(8, 2, 6, 7)
    model, weight = linear(x[0].shape)
    y = torch.zeros(8, dtype=torch.int64)
    settings = {"steps": 10, "restarts": 1, "keep": "strongest", "loss": "margin", "generator": generator()}
    x_adv = patch(model, x, y, Patch(sides, bounds=bounds), **settings)
    best = best_patch(x, weight, sides, *bounds)
    torch.testing.assert_close(lead(model, x_adv) - lead(model, x), best.flatten(1).amax(1))
    given = patch(model, x, y, Patch(sides, location=(2, 1), bounds=bounds), **settings)
    torch.testing.assert_close(lead(model, given) - lead(model, x), best[:, 2, 1])
    assert Patch(sides, location=(2, 1), bounds=bounds).contains(given, x).all()
    random = patch(model, x, y, Patch(sides, bounds=bounds), places="random", **settings)
    rise = (lead(model, random) - lead(model, x)).unsqueeze(1)
    assert (best.flatten(1) - rise).abs().amin(1).max() < 1e-6  # the best at some place
    assert (rise.squeeze(1) < best.flatten(1).amax(1) - 1e-6).any()


def test_targeted_patches_lead_to_the_wanted_class():
    x = uniform(8, 2, 6, 7)
    model, weight = linear(x[0].shape)
    wanted = torch.ones(8, dtype=torch.int64)
    settings = {"steps": 10, "restarts": 1, "keep": "strongest", "loss": "margin", "generator": generator()}
    x_adv = patch(model, x, wanted, Patch(2), targeted=True, **settings)
    torch.testing.assert_close(
        lead(model, x_adv) - lead(model, x), best_patch(x, weight, (2, 2)).flatten(1).amax(1), rtol=1e-6, atol=1e-6
    )


def places_of(x_adv, x, threat):
    """Row and column of the first changed pixel."""
    changed = (x_adv != x).any(1)
    return [(int(row.any(1).nonzero()[0]), int(row.any(0).nonzero()[0])) for row in changed]


def test_each_restart_lies_elsewhere_and_rows_leave_as_they_break():
    x = 0.5 * torch.ones(3, 1, 9, 9).double()
    seen = []

    def flat(z):
        assert z.min() >= 0
        assert z.max() <= 1
        seen.extend(places_of(z[:1], x[:1], Patch(3)) if (z[:1] != x[:1]).any() else [])
        score = 1e-3 * z.flatten(1).sum(1)
        return torch.stack([score + 5, -score], dim=1)

    patch(flat, x, torch.zeros(3, dtype=torch.int64), Patch(3), steps=1, restarts=9, generator=generator())
    looks = 4
    assert len(set(seen[looks::2])) == 9


def test_rows_leave_where_they_break():
    x = uniform(20, 1, 6, 6)
    model, weight = linear(x[0].shape)
    y = torch.zeros(20, dtype=torch.int64)
    counted = Counted(model)
    x_adv = patch(counted, x, y, Patch(3), steps=5, restarts=3, generator=generator())
    broken = lead(model, x_adv) > 0
    assert torch.equal(broken, lead(model, x) + best_patch(x, weight, (3, 3)).flatten(1).amax(1) > 0)
    standing = int((~broken).sum())
    assert 0 < standing < 20
    assert counted.forwards < 20 * 5 + standing * 18 + (20 - standing) * 18
    assert counted.forwards >= 20 * 5 + standing * 18 + (20 - standing)


def test_places_are_ranked_by_what_a_patch_there_covers():
    gain = torch.zeros(2, 5, 6, dtype=torch.float64)
    gain[0, 1, 1] = 3.0
    gain[0, 4, 5] = 2.0
    gain[1, 0, 3], gain[1, 0, 4], gain[1, 3, 0] = 1.0, 1.0, 1.5

    def cells(places, rows, columns):
        down, across = (places[..., 0] + 1) / 2 * rows, (places[..., 1] + 1) / 2 * columns
        return torch.stack([down.floor(), across.floor()], dim=-1).long().tolist()

    found = cells(ranked_places(gain, (2, 2), 3), 4, 5)
    assert found[0][:2] == [[0, 0], [3, 4]]
    assert found[1][:2] == [[0, 3], [2, 0]]
    assert found[0][2] not in found[0][:2]


def test_places_come_again_once_all_are_near_one_before():
    gain = uniform(1, 4, 4)
    places = ranked_places(gain, (2, 2), 30)[0]
    first = {tuple(place) for place in places.tolist()}
    assert 4 <= len(first) <= 9
    assert ranked_places(gain, (4, 4), 3).flatten().tolist() == [0.0] * 6  # there is one


def test_ranked_places_do_not_look_at_other_rows():
    gain = uniform(4, 7, 8)
    together = ranked_places(gain, (2, 3), 5)
    gain[0] *= 1e6
    torch.testing.assert_close(ranked_places(gain, (2, 3), 5), together)
    torch.testing.assert_close(ranked_places(gain[2:3], (2, 3), 5), together[2:3])


def test_a_row_that_is_wrong_without_a_patch_comes_back_as_it_was():
    x = 0.5 * torch.ones(2, 1, 4, 4).double()

    def model(z):
        same = (z == 0.5).flatten(1).all(1).double()
        return torch.stack([1 - 2 * same, 0 * same], dim=1)

    with pytest.warns(GradientMaskingWarning):
        x_adv = patch(model, x, torch.tensor([0, 1]), Patch(2), steps=2, restarts=1, generator=generator())
    assert torch.equal(x_adv[0], x[0])
    assert not torch.equal(x_adv[1], x[1])  # right as it is, and wrong with a patch


def test_content_starts_from_noise_and_steps_have_the_size_given():
    x = uniform(1, 1, 4, 4)
    model, weight = linear(x[0].shape)
    seen = []

    def recording(z):
        seen.append(z.detach().clone())
        return model(z)

    threat = Patch(2, location=(1, 1), bounds=(0.0, 2.0))
    patch(recording, x, torch.tensor([0]), threat, steps=2, step_size=0.25, restarts=1, generator=generator())
    first, second = seen[1][0, 0, 1:3, 1:3], seen[2][0, 0, 1:3, 1:3]
    expected = torch.clamp(first + 0.25 * weight[0, 1:3, 1:3].sign(), 0, 2)  # a quarter of half of the width of 2
    torch.testing.assert_close(second, expected)
    assert len(first.unique()) == 4


def test_the_wrapped_model_covers_the_bounds_exactly():
    x = uniform(2, 1, 4, 4).float()
    moved = patched(lambda z: z, x, Patch(1, bounds=(-0.3, 1.7), location=(0, 0)))
    points = moved.origin.clone()
    points[:, 1] = torch.tensor([-1.0, 1.0])
    assert moved.inputs(points)[:, 0, 0, 0].tolist() == torch.tensor([-0.3, 1.7]).tolist()
    assert torch.equal(moved.inputs(points).flatten(1)[:, 1:], x.flatten(1)[:, 1:])


def test_bad_calls():
    x, y = uniform(2, 1, 4, 4), torch.tensor([0, 0])
    model, _ = linear(x[0].shape)
    with pytest.raises(ValueError, match="places must be one of ranked, random, got 'best'"):
        patch(model, x, y, Patch(2), places="best")
    with pytest.raises(ValueError, match="the patch must lie on the images, which are 4x4, got"):
        patch(model, x, y, Patch(5))
    with pytest.raises(ValueError, match="restarts must be a whole number of at least 1, got 0"):
        patch(model, x, y, Patch(2), restarts=0)
    with pytest.raises(ValueError, match="steps must be a whole number of at least 1, got 0"):
        patch(model, x, y, Patch(2), steps=0)
    with pytest.raises(ValueError, match=r"outside the bounds \(0, 0.5\)"):
        patch(model, x, y, Patch(2, bounds=(0.0, 0.5)))


# -- one patch for all ------------------------------------------------------------------------------------------------


def test_at_a_given_place_the_universal_patch_is_the_best_for_the_mean_of_a_linear_model():
    x = uniform(10, 2, 5, 5)
    model, weight = linear(x[0].shape)
    y, threat = torch.zeros(10, dtype=torch.int64), Patch((2, 3), location=(1, 2), bounds=(-1.0, 1.0))
    x = 2 * x - 1
    one = universal_patch(model, [(x, y)], threat, steps=10)
    window = weight[:, 1:3, 2:5]
    torch.testing.assert_close(one, window.sign())
    wanted = universal_patch(model, [(x, y)], threat, steps=10, target=0)
    torch.testing.assert_close(wanted, -window.sign())
    few = universal_patch(model, [(x, y)], threat, steps=1)
    torch.testing.assert_close(few, 0.5 * window.sign())  # the first step is a quarter of the width


def test_lengths_fall_along_a_cosine():
    """Halves of the bounds' width: 0.25 (1 + cos) at 0, 45, 90 and 135 degrees, up and down in turn from gray."""
    turns = []

    def model(z):
        turns.append((-1) ** len(turns))
        lead = turns[-1] * z.flatten(1).sum(1)
        return torch.stack([0 * lead, lead], dim=1)

    x, y = torch.zeros(1, 1, 2, 2).double(), torch.tensor([0])
    one = universal_patch(model, [(x, y)], Patch(1, location=(0, 0)), steps=4)
    half = 0.5**0.5
    assert 2 * one.item() - 1 == pytest.approx(0.25 * (2 - (1 + half) + 1 - (1 - half)))


def test_images_count_by_how_much_they_gain():
    """One image gains ten from a white pixel, two lose one each."""
    x = torch.zeros(3, 1, 2, 2).double()
    x[0, 0, 0, 0] = 1

    def model(z):
        lead = (11 * z[:, 0, 0, 0] - 1) * z[:, 0, 1, 1]
        return torch.stack([0 * lead, lead], dim=1)

    y = torch.zeros(3, dtype=torch.int64)
    assert universal_patch(model, [(x, y)], Patch(1, location=(1, 1)), steps=10, loss="margin").item() == 1


def template(seed=5):
    """Class 1 where some 3x3 window looks like a template, and the best patch, ``(1, 3, 3)``."""
    kernel = 2 * uniform(1, 1, 3, 3, seed=seed) - 1

    def model(z):
        likeness = torch.nn.functional.conv2d(z, kernel).flatten(1)
        lead = 4 * torch.logsumexp(4 * likeness, 1) - 16 * 0.8 * kernel.clamp_min(0).sum()
        return torch.stack([0 * lead, lead], dim=1)

    return model, (kernel[0] > 0).double()


def test_a_universal_patch_works_wherever_it_lies():
    model, best = template()
    x, y = 0.1 * uniform(60, 1, 8, 9), torch.zeros(60, dtype=torch.int64)
    threat, loader = Patch(3), torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, y), batch_size=20)
    assert (model(x).argmax(1) == 0).all()
    one = universal_patch(model, loader, threat, steps=30, loss="margin", generator=generator())

    def fooled(patch):
        return (model(threat.apply(x, patch, threat.placements(x, generator(9)))).argmax(1) == 1).double().mean()

    assert fooled(best) == 1
    assert fooled(one) > 0.6  # it also learns from what lies half beside it
    assert fooled(torch.full_like(one, 0.5)) == fooled(torch.ones_like(one)) == 0


def test_a_universal_patch_is_trained_as_the_threat_model_lets_it_lie():
    """Turned by any angle, half of a corner of the square is never seen, and its rim less than its middle."""
    x, y, seen = torch.zeros(30, 1, 9, 9).double(), torch.zeros(30, dtype=torch.int64), []

    def model(z):
        seen.append((z != 0).flatten(1).sum(1))
        total = z.flatten(1).sum(1)
        return torch.stack([0 * total, total], dim=1)

    one = universal_patch(model, [(x, y)], Patch(5, rotation=180.0, scale=0.5), steps=3, generator=generator())
    covered = torch.cat(seen)
    assert one.min() > 0.5
    assert covered.min() < 10
    assert covered.max() > 20
    assert len(covered.unique()) > 5


def test_placements_differ_from_step_to_step():
    x, y, seen = torch.zeros(3, 1, 9, 9).double(), torch.zeros(3, dtype=torch.int64), []

    def model(z):
        seen.append((z != 0).detach())
        total = z.flatten(1).sum(1)
        return torch.stack([0 * total, total], dim=1)

    universal_patch(model, [(x, y)], Patch(2), steps=4, generator=generator())
    assert len(torch.cat(seen).flatten(1).unique(dim=0)) > 6


def test_batches_are_gone_through_again_and_again():
    x = uniform(6, 1, 4, 4)
    model, _ = linear(x[0].shape)
    counted, y = Counted(model), torch.zeros(6, dtype=torch.int64)
    universal_patch(counted, [(x[:4], y[:4]), (x[4:], y[4:])], Patch(2), steps=5)
    assert counted.forwards == counted.backwards == 4 + 2 + 4 + 2 + 4


def test_bad_batches():
    x, y = uniform(6, 1, 4, 4), torch.zeros(6, dtype=torch.int64)
    model, _ = linear(x[0].shape)
    with pytest.raises(ValueError, match=r"batches must hold pairs \(x, y\) as often as it is gone through, got none"):
        universal_patch(model, [], Patch(2), steps=3)
    with pytest.raises(ValueError, match="as often as it is gone through"):
        universal_patch(model, iter([(x, y)]), Patch(2), steps=3)
    universal_patch(model, iter([(x, y)]), Patch(2), steps=1)
    with pytest.raises(TypeError, match="batches must be pairs of images and labels, got Tensor: yield"):
        universal_patch(model, x, Patch(2), steps=3)
    with pytest.raises(ValueError, match="steps must be a whole number of at least 1, got 0"):
        universal_patch(model, [(x, y)], Patch(2), steps=0)
    with pytest.raises(TypeError, match=r"universal_patch paints a window of each image, so it needs Patch\(size\)"):
        universal_patch(model, [(x, y)], 2)
    with pytest.raises(ValueError, match="the patch must lie on the images"):
        universal_patch(model, [(x, y)], Patch(5))
    with pytest.raises(ValueError, match="y must hold classes from 0 to 1"):
        universal_patch(model, [(x, y)], Patch(2), target=2)
