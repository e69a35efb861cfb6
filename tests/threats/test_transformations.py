"""Threat models that are no norm balls, by hand: rotations and translations, patches, negatives."""

import math

import pytest
import torch

from advlib import Negative, Patch, Spatial
from advlib.threats import Placement
from advlib.threats.images import sampled

SQUARE = torch.arange(1.0, 10.0, dtype=torch.float64).reshape(1, 1, 3, 3)


def images(*shape, seed=0, dtype=torch.float64):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def placement(top, left, angle=0.0, scale=1.0, dtype=torch.float64):
    numbers = torch.broadcast_tensors(*(torch.as_tensor(value, dtype=dtype) for value in (top, left, angle, scale)))
    return Placement(*(value.reshape(-1) for value in numbers))


# -- rotations and translations ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", [(1, 1), (2, 5), (28, 28), (33, 17)])
def test_no_motion_gives_the_image_exactly(size, dtype):
    x = images(3, 2, *size, dtype=dtype)
    assert torch.equal(Spatial().apply(x), x)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_whole_shifts_move_pixels_exactly_and_black_comes_in(dtype):
    x = images(2, 3, 7, 10, dtype=dtype)
    moved = Spatial().apply(x, down=2, across=-3)
    assert torch.equal(moved[:, :, 2:, :-3], x[:, :, :-2, 3:])
    assert (moved[:, :, :2] == 0).all()
    assert (moved[..., -3:] == 0).all()


def test_a_shift_between_pixels_is_the_mean_of_two():
    x = torch.tensor([[[[1.0, 3.0, 7.0]]]])
    assert Spatial().apply(x, across=0.5).flatten().tolist() == [0.5, 2.0, 5.0]
    assert Spatial().apply(x, across=-0.25).flatten().tolist() == [1.5, 4.0, 5.25]


def test_angles_are_degrees_counterclockwise_around_the_middle():
    torch.testing.assert_close(Spatial().apply(SQUARE, 90), SQUARE.rot90(1, (2, 3)))
    even = images(1, 2, 6, 6)
    torch.testing.assert_close(Spatial().apply(even, -90), even.rot90(-1, (2, 3)))
    torch.testing.assert_close(Spatial().apply(even, 180), even.flip(2, 3))


def test_images_are_turned_first_and_shifted_then():
    both = Spatial().apply(SQUARE, 90, down=1, across=0)
    torch.testing.assert_close(both, Spatial().apply(Spatial().apply(SQUARE, 90), down=1))


def test_forty_five_degrees_by_hand():
    """What is one pixel beside the middle comes from (1 / sqrt(2), 1 / sqrt(2)) between four of them."""
    share = math.sqrt(0.5)
    corner, side, middle = 9.0, 6.0 + 8.0, 5.0
    expected = share**2 * corner + share * (1 - share) * side + (1 - share) ** 2 * middle
    assert Spatial().apply(SQUARE, 45)[0, 0, 1, 2].item() == pytest.approx(expected, rel=1e-12)


def test_each_row_moves_as_it_is_told():
    x = images(3, 1, 5, 5)
    angle, down, across = (
        torch.tensor([0.0, 10.0, -20.0]),
        torch.tensor([1.0, 0.0, 2.5]),
        torch.tensor([0.0, -1.0, 3.0]),
    )
    together = Spatial().apply(x, angle, down, across)
    for i in range(3):
        alone = Spatial().apply(x[i : i + 1], angle[i].item(), down[i].item(), across[i].item())
        torch.testing.assert_close(together[i : i + 1], alone, rtol=0, atol=1e-6)


def test_values_stay_between_black_and_the_image():
    x = 0.5 + images(20, 1, 8, 8) / 2
    moved = Spatial().apply(x, torch.linspace(-180, 180, 20), torch.linspace(-3, 3, 20), 0.3)
    assert moved.min() == 0
    assert moved.max() <= x.max()


def test_motion_is_differentiable():
    x, numbers = images(2, 1, 4, 5), torch.tensor([[7.0, 0.3, -0.4], [-11.0, 0.2, 0.6]], dtype=torch.float64)
    x.requires_grad_()
    numbers.requires_grad_()
    assert torch.autograd.gradcheck(lambda x, n: Spatial().apply(x, *n.unbind(1)), (x, numbers), atol=1e-5)


def test_sampling_beyond_a_side_that_is_padded_is_black():
    at = torch.tensor([[[-1.0, 2.0]]], dtype=torch.float64)
    assert sampled(SQUARE, (at, at)).flatten().tolist() == [0.0, 9.0]
    beyond = torch.tensor([[[2.5, 3.0]]], dtype=torch.float64)
    assert sampled(SQUARE, (beyond, torch.full_like(beyond, 2.0))).flatten().tolist() == [4.5, 0.0]


# -- patches ----------------------------------------------------------------------------------------------------------


def test_an_upright_patch_covers_its_window_exactly():
    x, one = images(2, 3, 6, 9, dtype=torch.float32), images(3, 2, 4, seed=1, dtype=torch.float32)
    painted = Patch((2, 4)).apply(x, one, placement([4, 0], [5, 2], dtype=torch.float32))
    expected = x.clone()
    expected[0, :, 4:6, 5:9] = one
    expected[1, :, 0:2, 2:6] = one
    assert torch.equal(painted, expected)


def test_each_row_may_have_a_patch_of_its_own_and_values_beyond_the_bounds_are_clamped():
    x, own = torch.zeros(2, 1, 2, 2), torch.tensor([-1.0, 3.0]).reshape(2, 1, 1, 1)
    painted = Patch(1, bounds=(-0.5, 2.0)).apply(x, own, placement([0, 1], [0, 1], dtype=torch.float32))
    assert painted.flatten(1).tolist() == [[-0.5, 0, 0, 0], [0, 0, 0, 2]]


def test_a_patch_turns_around_its_own_middle_counterclockwise():
    x, one = torch.zeros(1, 1, 7, 7).double(), images(1, 3, 3, seed=1)
    painted = Patch(3, rotation=90).apply(x, one, placement(1, 3, angle=90))
    torch.testing.assert_close(painted[0, :, 1:4, 3:6], one.rot90(1, (1, 2)))
    painted[0, :, 1:4, 3:6] = 0
    assert (painted == 0).all()


def test_a_patch_shrinks_around_its_own_middle():
    painted = Patch(4, scale=0.5).apply(
        torch.zeros(1, 1, 6, 6).double(), torch.ones(1, 4, 4), placement(1, 2, scale=0.5)
    )
    assert painted[0, 0].nonzero().tolist() == [[2, 3], [2, 4], [3, 3], [3, 4]]
    # 3.2 and 4.8 pixels hold the middles of 4, the outer ones beyond the middles of the patch's own
    lie, white = placement(1, 1, scale=0.8), torch.ones(1, 4, 6)
    painted = Patch((4, 6), scale=0.8).apply(torch.zeros(1, 1, 6, 8).double(), white, lie)
    assert torch.equal(painted[0, 0, 1:5, 2:6], torch.ones(4, 4).double())
    assert painted.sum() == 16


def test_numbers_stand_for_every_placement_alike():
    x, threat = torch.zeros(7, 1, 4, 6), Patch(2, rotation=20.0, scale=0.5)
    unit = torch.tensor([-1.0, -0.34, -0.32, 0.0, 0.32, 0.34, 1.0])
    lie = threat.placement(x, unit.unsqueeze(1).expand(-1, 4))
    assert lie.top.tolist() == [0, 0, 1, 1, 1, 2, 2]  # thirds
    assert lie.left.tolist() == [0, 1, 1, 2, 3, 3, 4]  # fifths
    torch.testing.assert_close(lie.angle, 20 * unit)
    torch.testing.assert_close(lie.scale, 0.75 + 0.25 * unit)
    given = Patch(2, location=(2, 1)).placement(x, unit.unsqueeze(1).expand(-1, 4))
    assert given.top.tolist() == [2] * 7
    assert given.left.tolist() == [1] * 7


def test_random_placements_are_all_used_and_follow_the_generator():
    x, threat = torch.zeros(300, 1, 4, 5), Patch(2)
    first, again, other = (threat.placements(x, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1))
    assert all(map(torch.equal, first, again))
    assert not torch.equal(first.top, other.top)
    counts = torch.bincount((4 * first.top + first.left).long(), minlength=12)
    assert counts.min() > 10
    assert counts.max() < 45
    black = threat.apply(torch.ones(50, 1, 4, 5), torch.zeros(1, 2, 2))
    assert (black.flatten(1).sum(1) == 16).all()
    assert len(black.unique(dim=0)) > 5


def test_a_patch_is_differentiable():
    x, one = images(2, 1, 5, 5), (0.2 + 0.6 * images(2, 1, 3, 3, seed=1)).requires_grad_()
    lie = placement([0, 2], [1, 1], angle=[10, -20], scale=[1, 0.8])
    assert torch.autograd.gradcheck(lambda one: Patch(3).apply(x, one, lie), (one,))


def test_a_patch_holds_what_lies_in_one_window_within_the_bounds():
    x = torch.full((6, 2, 5, 5), 0.5)
    x_adv, threat = x.clone(), Patch((2, 3))
    x_adv[1, 0, 3, 2], x_adv[1, 1, 4, 4] = 0.0, 1.0  # the corners of a window
    x_adv[2, 0, 2, 2], x_adv[2, 0, 4, 2] = 0.0, 0.0  # too far down
    x_adv[3, 0, 0, 0], x_adv[3, 1, 0, 3] = 0.0, 0.0  # too far across
    x_adv[4, 0, 0, 0] = 1.01
    x_adv[5, 0, 0, 0] = torch.nan
    assert threat.contains(x_adv, x).tolist() == [True, True, False, False, False, False]
    assert Patch((2, 3), location=(3, 2)).contains(x_adv, x)[:2].tolist() == [True, True]
    assert Patch((2, 3), location=(3, 1)).contains(x_adv, x)[:2].tolist() == [True, False]
    assert Patch((2, 3), location=(2, 2)).contains(x_adv, x)[:2].tolist() == [True, False]


def test_a_turned_patch_lies_in_its_window_at_the_widest():
    x = torch.zeros(400, 1, 12, 12)
    for threat in (
        Patch((2, 5), rotation=40.0),
        Patch(3, rotation=180.0),
        Patch((4, 1), location=(4, 5), rotation=90.0),
    ):
        painted = threat.apply(x, torch.ones(1, *threat.sides), threat.placements(x, torch.Generator().manual_seed(0)))
        assert threat.contains(painted, x).all()
    square = Placement(*torch.tensor([[3.0], [3.0], [90.0], [1.0]]))  # 5 rows high, or 6 with both edges
    painted = Patch((2, 5), rotation=90.0).apply(x[:1], torch.ones(1, 2, 5), square)
    assert Patch((2, 5), rotation=90.0).contains(painted, x[:1]).all()
    far = x[:1].clone()
    far[0, 0, 0, 0] = far[0, 0, 4, 0] = 1  # 5 rows, where a patch of 3 is at most 4.2 high
    assert Patch(3, rotation=180.0).contains(far, x[:1]).tolist() == [True]
    far[0, 0, 5, 0] = 1
    assert Patch(3, rotation=180.0).contains(far, x[:1]).tolist() == [False]
    assert Patch(3, location=(1, 0), rotation=180.0).contains(far, x[:1]).tolist() == [False]


# -- negatives --------------------------------------------------------------------------------------------------------


def test_negatives_within_their_bounds():
    x = torch.tensor([[0.0, 0.3, 1.0]])
    torch.testing.assert_close(Negative().apply(x), torch.tensor([[1.0, 0.7, 0.0]]))
    torch.testing.assert_close(Negative((-1.0, 1.0)).apply(x), -x)
    ends = torch.tensor([[0.1, 0.7]])
    turned = Negative((0.1, 0.7)).apply(ends)
    assert turned.min() >= 0.1 - 1e-9
    assert turned.max() <= torch.tensor(0.7)


def test_a_negative_is_held_as_a_whole():
    x = torch.tensor([[0.0, 0.3], [0.2, 0.9], [0.2, 0.9]])
    x_adv = Negative().apply(x)
    x_adv[1] = x[1]
    x_adv[2, 0] = 0.2
    assert Negative().contains(x_adv, x).tolist() == [True, True, False]


# -- mistakes ---------------------------------------------------------------------------------------------------------

NAN = float("nan")


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Spatial(-1), ValueError, r"rotation must be degrees, in \[0, 180\], got -1"),
        (lambda: Spatial(NAN), ValueError, "rotation must be degrees"),
        (lambda: Spatial(181), ValueError, "rotation must be degrees.*got 181"),
        (lambda: Spatial("30"), TypeError, "rotation must be a number of degrees.*got '30'"),
        (lambda: Spatial(True), TypeError, "rotation must be a number"),
        (lambda: Spatial(30, -0.5), ValueError, "translation must be pixels, finite and at least 0, got -0.5"),
        (lambda: Spatial(30, NAN), ValueError, "translation must be pixels"),
        (lambda: Spatial(30, math.inf), ValueError, "translation must be pixels, finite"),
        (lambda: Patch(0), ValueError, r"size must be at least 1 pixels, got \(0, 0\): Patch\(5\)"),
        (lambda: Patch((3, -1)), ValueError, "size must be at least 1"),
        (lambda: Patch(2.5), TypeError, r"size must be whole numbers of pixels, got \(2.5, 2.5\)"),
        (lambda: Patch(NAN), TypeError, "size must be whole numbers"),
        (lambda: Patch((1, 2, 3)), TypeError, "size must be whole numbers"),
        (lambda: Patch(2, location=(-1, 0)), ValueError, "location must be at least 0"),
        (lambda: Patch(2, location=3), TypeError, "location must be whole numbers of pixels, got 3"),
        (lambda: Patch(2, location=(0.5, 1)), TypeError, "location must be whole numbers"),
        (lambda: Patch(2, rotation=200.0), ValueError, r"rotation must be degrees, in \[0, 180\], got 200"),
        (lambda: Patch(2, scale=0.0), ValueError, r"scale must be a share of size, in \(0, 1\], got 0"),
        (lambda: Patch(2, scale=1.5), ValueError, r"scale must be a share of size, in \(0, 1\], got 1.5"),
        (lambda: Patch(2, scale=NAN), ValueError, "scale must be a share"),
        (lambda: Patch(2, bounds=(0.0, math.inf)), ValueError, r"bounds must be finite and in order.*got \(0.0, inf\)"),
        (lambda: Patch(2, bounds=(1.0, 0.0)), ValueError, "bounds must be finite and in order"),
        (lambda: Patch(2, bounds=None), TypeError, r"bounds must be two numbers \(low, high\), got None"),
        (lambda: Negative((0.0, NAN)), ValueError, "bounds must be finite and in order"),
        (lambda: Negative((torch.zeros(2), torch.ones(2))), TypeError, "bounds must be two numbers"),
    ],
)
def test_bad_settings(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_bad_images():
    with pytest.raises(ValueError, match=r"x must be images \(N, C, H, W\), got shape \(2, 3\)"):
        Spatial().apply(torch.zeros(2, 3))
    with pytest.raises(ValueError, match="translation must be less than the sides of the images, 5x3, got 3"):
        Spatial(0, 3).check(torch.zeros(1, 1, 5, 3))
    Spatial(0, 2.9).check(torch.zeros(1, 1, 5, 3))
    with pytest.raises(ValueError, match=r"the patch must lie on the images, which are 5x3, got Patch\(size=4"):
        Patch(4).check(torch.zeros(1, 1, 5, 3))
    with pytest.raises(ValueError, match="the patch must lie on the images"):
        Patch(2, location=(4, 1)).check(torch.zeros(1, 1, 5, 3))
    with pytest.raises(ValueError, match="the patch must lie on the images"):
        Patch(2, location=(3, 2)).check(torch.zeros(1, 1, 5, 3))
    Patch(2, location=(3, 1)).check(torch.zeros(1, 1, 5, 3))
    with pytest.raises(ValueError, match=r"x must be images \(N, C, H, W\), got shape \(2, 9\)"):
        Patch(2).check(torch.zeros(2, 9))
    for threat in (Patch(2), Negative()):
        with pytest.raises(ValueError, match=r"x has values in \[2, 2\], outside the bounds \(0, 1\)"):
            threat.check(torch.full((1, 1, 3, 3), 2.0))
