"""Input transforms beside what torch, scipy and hand make of the same images, and the sources that look through them."""

import pytest
import scipy.fft
import torch
from torch.nn import functional

from advlib.gradients import autograd, finite_differences
from advlib.noise import Key, Noise
from advlib.transforms import (
    admixture,
    around,
    averaged,
    block_shuffle,
    block_structure,
    resize_and_pad,
    scales,
    spectrum,
    translation_invariant,
    unchanged,
)


def noise(rows, **place):
    return Noise(Key(torch.Generator().manual_seed(0)), torch.arange(rows), **place)


def images(*shape, seed=1):
    return torch.rand(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


class Fixed:
    """Noise of which each draw is told: a number for all, or a list with one for each part."""

    branch = 0

    def __init__(self, draws, number=None):
        self.draws, self.number = draws, number

    def stream(self, number):
        return Fixed(self.draws, number)

    def uniform(self, like):
        told = torch.as_tensor(self.draws.get(self.number, 0.0), dtype=like.dtype)
        return told.expand(like.shape).clone()


class Recorder:
    """An ``ask`` about the sum of each row times ``weight`` that keeps the points it was asked about."""

    def __init__(self, weight=1.0):
        self.weight, self.points = weight, []

    def __call__(self, x):
        self.points.append(x.detach().clone())
        value = (self.weight * x).flatten(1).sum(1)
        return torch.stack([value, -value], 1), (value,)


# -- sources -----------------------------------------------------------------------------------------------------


def plus(amount):
    return lambda x, noise: x + amount


def test_an_average_looks_through_each_transform():
    x, ask = torch.tensor([[2.0, 4.0]]), Recorder(torch.tensor([1.0, -3.0]))
    estimate = averaged(scales(3))(ask, x, noise(1))
    assert [point.tolist() for point in ask.points] == [[[2.0, 4.0]], [[1.0, 2.0]], [[0.5, 1.0]]]
    assert estimate.gradients[0][0].tolist() == pytest.approx([1.75 / 3, -1.75])
    assert (estimate.forwards, estimate.backwards) == (3, 3)
    assert estimate.values[0].item() == estimate.output[0, 0].item() == -10.0  # at x, the first of the copies


@pytest.mark.parametrize("judge", [True, False])
def test_an_average_says_what_the_model_says_about_the_input_itself(judge):
    x, ask = torch.tensor([[2.0, 4.0]]), Recorder()
    estimate = averaged([plus(1.0), plus(2.0)], judge=judge)(ask, x, noise(1))
    assert len(ask.points) == estimate.forwards == (3 if judge else 2)
    assert estimate.backwards == 2
    assert estimate.values[0].item() == estimate.output[0, 0].item() == (6.0 if judge else 8.0)
    assert not estimate.values[0].requires_grad
    assert not estimate.output.requires_grad


def test_inner_transforms_are_applied_first():
    ask = Recorder()
    source = averaged([lambda x, noise: 10 * x], source=averaged([plus(1.0), plus(2.0)], judge=False), judge=False)
    estimate = source(ask, torch.tensor([[3.0]]), noise(1))
    assert [point.item() for point in ask.points] == [40.0, 50.0]
    assert estimate.gradients[0].item() == 10.0
    assert (estimate.forwards, estimate.backwards) == (2, 2)


def test_no_two_looks_share_noise():
    """Not those of other copies, of other steps, nor of the sources inside."""
    drawn = []

    def drawing(x, noise):
        for number in (0, 1):
            drawn.extend(noise.stream(noise.branch + number).uniform(x).flatten().tolist())
        return x

    through = averaged([drawing] * 3, source=around([drawing] * 2, source=averaged([drawing] * 2)))
    for step in range(6):
        for restart in range(2):
            through(Recorder(), torch.zeros(2, 3), noise(2, step=step, restart=restart))
    looks = 3 * (1 + 2 + 3 * 2)  # `around` draws for two of its three looks
    assert len(set(drawn)) == 6 * 2 * looks * 2 * 6  # a transform draws the same for every look inside it


def test_copies_of_one_transform_differ_and_are_the_same_again():
    x, ask = images(3, 1, 8, 8), Recorder()
    source = averaged([block_shuffle()] * 2, judge=False)
    for _ in range(2):
        source(ask, x, noise(3))
    assert not torch.equal(ask.points[0], ask.points[1])
    assert torch.equal(ask.points[0], ask.points[2])


def test_values_alone_see_through_transforms():
    x, ask = images(2, 3), Recorder()
    estimate = averaged(scales(2), source=finite_differences(8))(ask, x, noise(2))
    assert (estimate.forwards, estimate.backwards) == (2 * 17 + 1, 0)
    assert torch.equal(ask.points[-1], x)
    assert len({tuple(point.flatten().tolist()) for point in ask.points[:34]}) == 34


def test_around_gives_the_gradient_and_the_mean_over_copies():
    def ask(x):
        return x, (x.square().sum(1),)

    x = torch.tensor([[1.0, -2.0]])
    estimate = around([plus(1.0), plus(2.0)])(ask, x, noise(1))
    assert [gradient.tolist() for gradient in estimate.gradients] == [[[2.0, -4.0]], [[5.0, -1.0]]]
    assert (estimate.forwards, estimate.backwards) == (3, 3)
    assert estimate.values[0].item() == 5.0
    assert torch.equal(estimate.output, x)


@pytest.mark.parametrize("source", [averaged, around])
def test_without_a_transform_there_is_an_error(source):
    with pytest.raises(ValueError, match="needs at least one transform, got none"):
        source([])


def test_transforms_keep_their_precision_under_autocast():
    x, weight = images(2, 3, 8, 8).float(), images(3, 8, 8, seed=3).float()
    asked, smoothed = [], []
    for enabled in (False, True):
        ask = Recorder(weight)
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            averaged([resize_and_pad(0.5, 1.0)], judge=False)(ask, x, noise(2))
            smoothed += translation_invariant(3)(Recorder(weight), x, noise(2)).gradients
        asked += ask.points
    assert torch.equal(*asked)
    assert torch.equal(*smoothed)


# -- translation invariance --------------------------------------------------------------------------------------


def test_the_smoothed_gradient_is_a_convolution_with_a_gaussian():
    weight = images(2, 9, 7, seed=2)
    x = images(3, 2, 9, 7)
    estimate = translation_invariant(5)(Recorder(weight), x, noise(3))
    line = torch.exp(-(torch.tensor([-3.0, -1.5, 0.0, 1.5, 3.0]).double() ** 2) / 2)
    kernel = (line[:, None] * line).expand(2, 1, 5, 5)
    expected = functional.conv2d(weight[None], kernel, padding="same", groups=2)
    torch.testing.assert_close(estimate.gradients[0], expected.expand(3, -1, -1, -1))
    assert (estimate.forwards, estimate.backwards) == (1, 1)


@pytest.mark.parametrize(("side", "size"), [(299, 15), (28, 3), (32, 3), (8, 3), (100, 5), (224, 13)])
def test_the_gaussian_grows_with_the_image(side, size):
    weight = torch.zeros(1, 1, side)
    weight[..., side // 2] = 1.0
    estimate = translation_invariant()(Recorder(weight), torch.zeros(1, 1, 1, side), noise(1))
    assert int((estimate.gradients[0] > 0).sum()) == size


@pytest.mark.parametrize("size", [1, 4, -3])
def test_the_gaussian_has_a_middle(size):
    with pytest.raises(ValueError, match=f"size must be odd and at least 3, got {size}"):
        translation_invariant(size)


# -- transforms of images ----------------------------------------------------------------------------------------


def test_scales_start_with_the_input():
    assert scales(3)[0] is unchanged
    assert len(scales()) == 5
    with pytest.raises(ValueError, match="copies must be a whole number of at least 1, got 0"):
        scales(0)


def test_a_resized_image_is_torchs_on_zeros():
    x = images(40, 3, 12, 9)
    moved = resize_and_pad(0.5, 1.0)(x, noise(40))
    places = set()
    for before, after in zip(x, moved, strict=True):
        rows, columns = ((after != 0).any(0).any(dim) for dim in (1, 0))
        top, left, height, width = int(rows.int().argmax()), int(columns.int().argmax()), rows.sum(), columns.sum()
        assert 6 <= height < 12
        assert 4 <= width < 9
        small = functional.interpolate(before[None], (int(height), int(width)), mode="bilinear")[0]
        torch.testing.assert_close(after[:, top : top + height, left : left + width], small)
        places.add((top, int(height), left, int(width)))
        assert int((after != 0).sum()) == 3 * height * width
    assert len(places) > 25
    assert {place[1] for place in places} == set(range(6, 12))
    assert any(top + height == 12 for top, height, _, _ in places)


def test_an_image_is_resized_as_often_as_asked():
    x = images(400, 1, 10, 10)
    moved = resize_and_pad(0.5, 0.25)(x, noise(400))
    share = (moved != x).flatten(1).any(1).float().mean()
    assert 0.18 < share < 0.32
    assert torch.equal(resize_and_pad(0.5, 0.0)(x, noise(400)), x)
    assert torch.equal(resize_and_pad(1.0, 1.0)(x, noise(400)), x)


@pytest.mark.parametrize("settings", [(0.0, 0.5), (1.1, 0.5), (0.9, -0.1), (0.9, 1.1)])
def test_sizes_and_chances_are_shares(settings):
    with pytest.raises(ValueError, match=r"low must be in \(0, 1\] and probability in \[0, 1\], got"):
        resize_and_pad(*settings)


def test_an_admixture_is_of_another_class_and_any_of_these():
    labels = torch.tensor([2, 0, 1, 0, 2, 2, 1, 5])
    others = torch.arange(1.0, 9.0).reshape(8, 1)
    y = torch.tensor([0, 2, 1, 7, 5]).repeat(200)
    added = admixture(others, labels, y, 0.5)(torch.zeros(1000, 1), noise(1000)) / 0.5
    for label in y.unique():
        expected = set((others[labels != label]).flatten().tolist())
        found, counts = added[y == label].unique(return_counts=True)
        assert set(found.tolist()) == expected
        assert counts.min() > 0.4 * 200 / len(expected)


def test_an_admixture_is_of_the_own_class_where_there_is_no_other():
    x = torch.tensor([[1.0], [2.0]])
    y = torch.tensor([3, 3], dtype=torch.int32)
    added = admixture(x, y.long(), y)(torch.zeros(2, 1), noise(2))
    assert set((added / 0.2).flatten().tolist()) <= {1.0, 2.0}


def test_an_admixture_knows_rows_by_their_index():
    y = torch.tensor([0, 1])
    transform = admixture(torch.tensor([[1.0], [2.0]]), y, y)
    second = noise(2)._replace(row=torch.tensor([1]))
    assert transform(torch.zeros(1, 1), second).item() == pytest.approx(0.2)


def test_the_spectrum_is_scipys():
    x = images(2, 3, 6, 5)
    assert torch.allclose(spectrum(0.0, 0.0)(x, noise(2)), x)
    moved = spectrum(0.1, 0.3)(x, noise(2))
    before, after = (
        scipy.fft.dctn(z.numpy(), axes=(2, 3), norm="ortho") for z in (x + 0.1 * noise(2).normal(x), moved)
    )
    factors = torch.as_tensor(after / before)
    assert factors.min() > 0.7
    assert factors.max() < 1.3
    assert factors.std() == pytest.approx(0.6 / 12**0.5, rel=0.2)
    assert factors.flatten().unique().numel() == x.numel()


# -- transforms of blocks ----------------------------------------------------------------------------------------


def test_blocks_shuffled_by_hand():
    x = torch.arange(24.0).reshape(1, 1, 4, 6)
    # equal strips, the second first; in the first strip the columns stay, in the second they are exchanged
    draws = {2: 0.5, 3: [0.9, 0.1], 4: [[0.1, 0.9], [0.9, 0.1]]}
    expected = [[15, 16, 17, 12, 13, 14], [21, 22, 23, 18, 19, 20], [0, 1, 2, 3, 4, 5], [6, 7, 8, 9, 10, 11]]
    torch.testing.assert_close(block_shuffle(2)(x, Fixed(draws))[0, 0], torch.tensor(expected).float())
    # lengths in the ratio of 1 + 0.4 to 1: 3.5 of 6 columns, rounded to 4, and 2.33 of 4 rows
    draws = {0: [0.4, 0.0], 1: [0.4, 0.0], 2: 0.5, 3: [0.9, 0.1], 4: [0.9, 0.1]}
    expected = [[16, 17, 12, 13, 14, 15], [22, 23, 18, 19, 20, 21], [4, 5, 0, 1, 2, 3], [10, 11, 6, 7, 8, 9]]
    torch.testing.assert_close(block_shuffle(2)(x, Fixed(draws))[0, 0], torch.tensor(expected).float())


@pytest.mark.parametrize(("draw", "turns"), [(1.0, -1), (0.0, 1)])
def test_a_block_turned_by_a_right_angle(draw, turns):
    x = images(1, 2, 5, 5)
    turned = block_shuffle(1, 90.0)(x, Fixed({2: draw}))
    torch.testing.assert_close(turned, torch.rot90(x, turns, (2, 3)))


def test_a_turned_block_leaves_zeros_and_takes_nothing_from_its_neighbour():
    x = torch.cat([torch.ones(1, 1, 8, 8), torch.full((1, 1, 8, 8), 100.0)], dim=3)
    turned = block_shuffle(2, 24.0)(x, Fixed({2: 1.0, 3: [0.1, 0.9], 4: [0.1, 0.9]}))
    assert turned[..., :8].max() <= 1.0 + 1e-6
    assert (turned == 0).any()
    assert (turned[..., 2, 2:6] - 1).abs().max() < 1e-6


@pytest.mark.parametrize("transform", [block_shuffle(3, 0.0), block_shuffle(1, 0.0)])
def test_blocks_are_rearranged_and_nothing_is_lost(transform):
    x = images(30, 2, 11, 13)
    moved = transform(x, noise(30))
    torch.testing.assert_close(*(z.flatten(2).sort(2).values for z in (moved, x)))


def structure(kind, amount=0.0, chance=0.5, blocks=1):
    return lambda x: block_structure(blocks, 0.1)(x, Fixed({2: kind / 10 + 0.05, 3: amount, 4: chance}))


PIXELS = images(2, 3, 6, 5)
KINDS = {
    "shifted down": (0, 0.5, lambda x: x.roll(-3, 2)),
    "shifted across": (1, 0.7, lambda x: x.roll(-3, 3)),
    "flipped": (2, 0.5, lambda x: x.flip(2)),
    "mirrored": (3, 0.5, lambda x: x.flip(3)),
    "turned": (4, 0.5, lambda x: x.flip(2, 3)),
    "scaled": (5, 0.3, lambda x: 0.3 * x),
    "coarser": (
        6,
        0.5,
        lambda x: functional.interpolate(functional.interpolate(x, (5, 5), mode="bilinear"), (6, 5), mode="bilinear"),
    ),
}


@pytest.mark.parametrize("name", KINDS)
def test_what_happens_to_a_block(name):
    kind, amount, expected = KINDS[name]
    torch.testing.assert_close(structure(kind, amount)(PIXELS), expected(PIXELS))


def test_a_smoother_block_is_bare_of_its_highest_frequencies():
    waves = scipy.fft.dctn(structure(7)(PIXELS).numpy(), axes=(2, 3), norm="ortho")
    expected = scipy.fft.dctn(PIXELS.numpy(), axes=(2, 3), norm="ortho")
    expected[:, :, 4:], expected[:, :, :, 3:] = 0, 0
    torch.testing.assert_close(torch.as_tensor(waves), torch.as_tensor(expected))


def test_noise_and_gaps_in_a_block():
    torch.testing.assert_close(structure(8, chance=0.75)(PIXELS), PIXELS + 0.05)
    torch.testing.assert_close(structure(9, chance=0.11)(PIXELS), PIXELS / 0.9)
    torch.testing.assert_close(structure(9, chance=0.09)(PIXELS), 0 * PIXELS)


def test_a_block_is_changed_within_itself():
    x = torch.arange(24.0).reshape(1, 1, 4, 6)
    kinds = [[0.05, 0.35], [0.15, 0.55]]  # shifted down, mirrored; shifted across, scaled
    moved = block_structure(2)(x, Fixed({2: kinds, 3: 0.5}))[0, 0]
    expected = [[6, 7, 8, 5, 4, 3], [0, 1, 2, 11, 10, 9], [13, 14, 12, 7.5, 8, 8.5], [19, 20, 18, 10.5, 11, 11.5]]
    torch.testing.assert_close(moved, torch.tensor(expected))


def test_all_ten_kinds_occur_and_differ_from_row_to_row():
    x = images(60, 1, 9, 9)
    moved = block_structure(1)(x, noise(60))
    kinds = (10 * noise(60).stream(2).uniform(torch.zeros(60, 1, 1))).long().flatten()
    assert kinds.unique().numel() == 10
    turned = kinds == 4
    torch.testing.assert_close(moved[turned], x[turned].flip(2, 3))


@pytest.mark.parametrize("transform", [block_shuffle, block_structure])
def test_there_is_a_block(transform):
    with pytest.raises(ValueError, match="blocks must be a whole number of at least 1, got 0"):
        transform(0)


TRANSFORMS = {
    "resize_and_pad": resize_and_pad(0.5, 1.0),
    "spectrum": spectrum(),
    "block_shuffle": block_shuffle(),
    "block_structure": block_structure(),
}


@pytest.mark.parametrize("name", TRANSFORMS)
@pytest.mark.parametrize("shape", [(7,), (6, 5), (3, 6, 5), (2, 3, 4, 5)])
def test_a_row_is_transformed_as_if_alone_in_any_shape(name, shape):
    x = images(4, *shape)
    together = TRANSFORMS[name](x, noise(4))
    assert together.shape == x.shape
    assert not torch.equal(together, x)
    for i in range(4):
        alone = TRANSFORMS[name](x[i : i + 1], noise(4)._replace(row=torch.tensor([i])))
        torch.testing.assert_close(alone[0], together[i])


@pytest.mark.parametrize("name", TRANSFORMS)
def test_a_transform_draws_from_the_stream_that_it_is_given(name):
    x = images(4, 3, 8, 8)
    assert not torch.equal(TRANSFORMS[name](x, noise(4)), TRANSFORMS[name](x, noise(4).stream(300)))


def test_the_gradient_of_a_transform_reaches_the_input():
    x = images(2, 1, 8, 8)
    for transform in TRANSFORMS.values():
        estimate = averaged([transform])(Recorder(), x, noise(2))
        at = x.clone().requires_grad_()
        (expected,) = torch.autograd.grad(transform(at, noise(2).stream(2**15)).sum(), at)
        torch.testing.assert_close(estimate.gradients[0], expected)
    assert autograd(Recorder(), x, noise(2)).gradients[0].eq(1).all()
