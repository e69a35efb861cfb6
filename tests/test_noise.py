"""Noise is a pure function of key, row, restart, step and stream, and has the distributions it says."""

import itertools

import pytest
import torch
from scipy import stats

from advlib.noise import Key, Noise, philox

DRAWS = ["uniform", "normal", "exponential", "signs"]


def noise(rows, seed=0, **place):
    return Noise(Key(torch.Generator().manual_seed(seed)), torch.as_tensor(rows, dtype=torch.int64), **place)


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [  # kat_vectors of Random123 1.14, the lines "philox4x32 10"
        ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ],
)
def test_philox_known_answers(counter, key, expected):
    words = philox(tuple(torch.tensor(word) for word in counter), key)
    assert tuple(int(word) for word in words) == expected


def test_uniform_numbers_are_the_words_of_block_row_lane_and_step():
    place = noise([3, 70000], restart=5, step=9).stream(2)
    drawn = place.uniform(torch.empty(2, 7))
    for i, row in enumerate((3, 70000)):
        words = []
        for block in range(2):
            counter = tuple(torch.tensor(word) for word in (block, row, 5 | 2 << 16, 9))
            words += [int(word) for word in philox(counter, place.key.words)]
        assert drawn[i].tolist() == [(word >> 8) / 2**24 for word in words[:7]]


@pytest.mark.parametrize("draw", DRAWS)
def test_a_row_depends_on_its_own_index_only(draw):
    like = torch.empty(6, 3, 5)
    together = getattr(noise(range(6)), draw)(like)
    shuffled = [4, 0, 5, 3, 1, 2]
    assert torch.equal(getattr(noise(shuffled), draw)(like), together[shuffled])
    for row in range(6):
        assert torch.equal(getattr(noise([row]), draw)(like[:1]), together[row : row + 1])


def test_rows_at_steps_and_restarts_of_their_own():
    like = torch.empty(3, 2, 5)
    together = noise([4, 4, 9], step=torch.tensor([0, 1, 7]), restart=torch.tensor([2, 0, 2]), branch=3)
    alone = [noise([r], step=s, restart=t, branch=3) for r, s, t in ((4, 0, 2), (4, 1, 0), (9, 7, 2))]
    assert torch.equal(together.uniform(like), torch.cat([one.uniform(like[:1]) for one in alone]))


def test_a_feature_does_not_depend_on_how_many_there_are():
    assert torch.equal(noise([1]).uniform(torch.empty(1, 9)), noise([1]).uniform(torch.empty(1, 50))[:, :9])


def test_both_dtypes_see_the_same_uniform_numbers():
    single, double = (noise(range(4)).uniform(torch.empty(4, 33, dtype=d)) for d in (torch.float32, torch.float64))
    assert single.dtype == torch.float32
    assert double.dtype == torch.float64
    assert torch.equal(single.double(), double)


@pytest.mark.parametrize("draw", ["normal", "exponential", "signs"])
def test_both_dtypes_see_the_same_other_numbers_up_to_rounding(draw):
    single, double = (getattr(noise([0]), draw)(torch.empty(1, 1001, dtype=d)) for d in (torch.float32, torch.float64))
    assert double.dtype == torch.float64
    torch.testing.assert_close(single.double(), double, rtol=1e-5, atol=1e-6)


PLACES = [
    (row, {"restart": restart, "step": step, "branch": branch})
    for row, restart, step, branch in itertools.product((0, 1, 2**20), (0, 1), (0, 1, 1000), (0, 1, 255, 256))
]


def test_rows_restarts_steps_and_streams_share_no_noise():
    numbers = torch.cat([noise([row], **place).uniform(torch.empty(1, 2000)) for row, place in PLACES])
    correlation = torch.corrcoef(numbers.double()).fill_diagonal_(0)
    assert correlation.abs().max() < 6 / 2000**0.5  # six standard deviations
    # any two places agree in one feature of 2**24, and in no run of features
    equal = (numbers[:, None] == numbers[None]).sum(2).fill_diagonal_(0)
    assert equal.max() <= 2
    # nor does one place hold the numbers of another in another order: 144,000 numbers of 24 bits, by chance 618 pairs
    assert len(PLACES) * 2000 - len(numbers.unique()) < 618 + 6 * 618**0.5


def test_places_with_equal_sums_differ():
    """Indices are laid side by side, never added: row 1 step 0 is not row 0 step 1."""
    like = torch.empty(1, 8)
    draws = [
        noise([1]).uniform(like),
        noise([0], step=1).uniform(like),
        noise([0], restart=1).uniform(like),
        noise([0], branch=1).uniform(like),
        noise([0]).stream(1 << 8).uniform(like),
        noise([0], restart=1 << 8).uniform(like),
    ]
    assert len({tuple(draw[0].tolist()) for draw in draws}) == len(draws)


@pytest.mark.parametrize(
    ("draw", "law"), [("uniform", stats.uniform), ("normal", stats.norm), ("exponential", stats.expon)]
)
@pytest.mark.parametrize("across", ["features", "rows", "steps", "keys"])
def test_distributions(draw, law, across):
    """Kolmogorov-Smirnov, along each of the indices that noise is a function of."""
    count = 2000
    if across == "features":
        numbers = getattr(noise([0]), draw)(torch.empty(1, 10 * count))
    elif across == "rows":
        numbers = getattr(noise(range(count)), draw)(torch.empty(count, 1))
    elif across == "steps":
        numbers = torch.cat([getattr(noise([0], step=step), draw)(torch.empty(1, 1)) for step in range(500)])
    else:
        numbers = torch.cat([getattr(noise([0], seed=seed), draw)(torch.empty(1, 1)) for seed in range(500)])
    assert stats.kstest(numbers.flatten().double().numpy(), law.cdf).pvalue > 1e-3


def test_normal_numbers_are_independent_of_their_neighbors():
    """Box and Muller's pairs share a radius; features must not."""
    numbers = noise([0]).normal(torch.empty(1, 40000, dtype=torch.float64)).reshape(-1, 4)
    for values in (numbers, numbers**2):
        assert torch.corrcoef(values.T).fill_diagonal_(0).abs().max() < 5 / 100


def test_signs_are_fair():
    signs = noise(range(100)).signs(torch.empty(100, 100))
    assert set(signs.unique().tolist()) == {-1.0, 1.0}
    assert signs.mean().abs() < 4 / 100
    assert signs.mean(0).abs().max() < 5 / 10


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("word", [0, 0xFFFFFFFF])
def test_extreme_words_stay_in_range(dtype, word, monkeypatch):
    """The largest word must not round up to 1, whose logarithm is infinite."""
    monkeypatch.setattr("advlib.noise.philox", lambda counter, key: (torch.full((1, 3), word),) * 4)
    like = torch.empty(1, 12, dtype=dtype)
    uniform = noise([0]).uniform(like)
    assert uniform[0, 0] == word / 2**32 // 2**-24 * 2**-24
    assert ((uniform >= 0) & (uniform < 1)).all()
    assert noise([0]).normal(like).isfinite().all()
    exponential = noise([0]).exponential(like)
    assert (exponential.isfinite() & (exponential >= 0)).all()


def test_key_draws_one_number_when_it_is_first_needed():
    generator, twin = (torch.Generator().manual_seed(5) for _ in range(2))
    key = Key(generator)
    assert torch.equal(generator.get_state(), twin.get_state())
    words = key.words
    value = int(torch.randint(-(2**63), 2**63 - 1, (), generator=twin, dtype=torch.int64)) % 2**64
    assert words == (value % 2**32, value // 2**32)
    assert torch.equal(generator.get_state(), twin.get_state())
    assert key.words == words
    assert torch.equal(generator.get_state(), twin.get_state())


def test_a_generator_of_ones_own_leaves_the_global_one_alone():
    before = torch.get_rng_state()
    noise(range(3)).normal(torch.empty(3, 4))
    assert torch.equal(torch.get_rng_state(), before)


def test_without_a_generator_the_key_comes_from_the_global_one():
    with torch.random.fork_rng():
        torch.manual_seed(1)
        first, second = Key().words, Key().words
        torch.manual_seed(1)
        again = Key().words
    assert first == again != second


def test_generator_states_give_different_keys():
    keys = {Key(torch.Generator().manual_seed(seed)).words for seed in range(1000)}
    assert len(keys) == 1000
    for half in zip(*keys, strict=True):  # all 32 bits of both words are in use
        for bit in range(32):
            assert 400 < sum(word >> bit & 1 for word in half) < 600


@pytest.mark.parametrize("draw", DRAWS)
@pytest.mark.parametrize("shape", [(0, 3), (2, 0), (0, 0), (1, 1), (2, 3, 4, 5)])
def test_shapes(draw, shape):
    assert getattr(noise(range(shape[0])), draw)(torch.empty(shape)).shape == shape


def test_layout_of_like_does_not_matter():
    like = torch.empty(2, 3, 4, 4)
    other = noise(range(2)).uniform(like.to(memory_format=torch.channels_last))
    assert torch.equal(other, noise(range(2)).uniform(like))
