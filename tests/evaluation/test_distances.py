"""The nearest inputs of different classes: against all pairs in float64, and noise whose length is known."""

from __future__ import annotations

import importlib
import math
import sys

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist

from advlib.evaluation import nearest_class_distances
from tests.evaluation.test_evaluate import seeded

module = importlib.import_module("advlib.evaluation.distances")
METRICS = {"L1": "cityblock", "L2": "euclidean", "Linf": "chebyshev"}


def brute(x: torch.Tensor, y: torch.Tensor) -> dict[str, np.ndarray]:
    """Distances of all pairs, infinite within a class."""
    flat = x.flatten(1).double().numpy()
    found = {norm: cdist(flat, flat, metric) for norm, metric in METRICS.items()}
    found["L0"] = cdist(flat, flat, "hamming") * flat.shape[1]
    same = (y[:, None] == y[None]).numpy()
    return {norm: np.where(same, np.inf, table) for norm, table in found.items()}


def inputs(rows: int = 60, features: int = 300, classes: int = 4, dtype: torch.dtype = torch.float32):
    x = torch.rand(rows, features, generator=seeded(0), dtype=dtype)
    x = (4 * x).round() / 4 * (torch.rand(rows, features, generator=seeded(1)) < 0.4)  # so that some are equal
    return x, torch.randint(classes, (rows,), generator=seeded(2))


@pytest.mark.parametrize("held", [1, 1000, 2**22])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("features", [3, 64, 65, 300])
def test_all_pairs(held, dtype, features, monkeypatch):
    monkeypatch.setattr(module, "_HELD", held)
    x, y = inputs(features=features, dtype=dtype)
    found, tables = nearest_class_distances(x, y), brute(x, y)
    for norm, pair in found.pairs.items():
        assert pair.distances[norm] == pytest.approx(tables[norm].min(), rel=1e-12)
        assert found.least[norm] == pair.distances[norm]
        i, j = pair.rows
        assert i < j
        assert pair.labels == (int(y[i]), int(y[j]))
        assert torch.equal(pair.x, x[[i, j]])
        for other, distance in pair.distances.items():
            assert distance == pytest.approx(tables[other][i, j], rel=1e-12)


@pytest.mark.parametrize("place", [(0, 1), (0, 59), (30, 31), (58, 59)])
def test_a_pair_wherever_it_is(place, monkeypatch):
    monkeypatch.setattr(module, "_HELD", 400)  # chunks of six rows
    x, y = torch.rand(60, 200, generator=seeded()), torch.arange(60)
    x[place[1]] = x[place[0]]
    x[place[1], :2] += torch.tensor([0.01, 0.02]) * (1 - 2 * (x[place[0], :2] > 0.5))
    found = nearest_class_distances(x, y)
    assert {pair.rows for pair in found.pairs.values()} == {place}
    assert found.least == {
        "L0": 2.0,
        "L1": pytest.approx(0.03, rel=1e-4),
        "L2": pytest.approx(math.hypot(0.01, 0.02), rel=1e-4),
        "Linf": pytest.approx(0.02, rel=1e-4),
    }


def test_in_linf_features_do_not_add_up(monkeypatch):
    monkeypatch.setattr(module, "_HELD", 1)  # no pair is looked at before all features are
    x = torch.zeros(4, 128)
    x[1, 0] = 0.6
    x[2:] = 1.0
    x[3] = 0.5
    assert nearest_class_distances(x, torch.arange(4)).pairs["Linf"].rows == (0, 3)


def test_most_pairs_are_given_up_early(monkeypatch):
    seen = []
    cdist_ = torch.cdist

    def watched(a, b, *args, **kwargs):
        seen.append(a.shape[1] * len(a) * len(b))
        return cdist_(a, b, *args, **kwargs)

    monkeypatch.setattr(torch, "cdist", watched)
    monkeypatch.setattr(module, "_HELD", 20_000)
    x, y = torch.rand(400, 1024, generator=seeded()), torch.arange(400)
    x[:, :900] = 0.5  # what differs comes last
    x[1::50] = x[::50]  # a near pair in each chunk, told apart by a feature that differs little
    x[1::50, 0] = 0.6
    nearest_class_distances(x, y)
    assert sum(seen) < 0.5 * 4 * 1024 * 400 * 400 / 2


def test_ties_and_twins():
    x = torch.tensor([[0.0, 0.0], [0.5, 0.0], [1.0, 0.0]])
    found = nearest_class_distances(x, torch.tensor([0, 1, 0]))
    assert set(found.least.values()) == {0.5, 1.0}
    assert found.pairs["L2"].rows == (0, 1)  # the first of the equal ones
    twins = nearest_class_distances(torch.cat([x, x[:1]]), torch.tensor([0, 1, 0, 1]))
    assert twins.least == dict.fromkeys(("L0", "L1", "L2", "Linf"), 0.0)
    assert twins.pairs["L1"].rows == (0, 3)
    assert twins.radius == 0
    assert twins.noise["L0"] == 0


def test_rows_of_one_class_are_no_pair():
    x = torch.tensor([[0.0], [0.01], [1.0], [0.98]])
    assert nearest_class_distances(x, torch.tensor([7, 7, -1, -1])).pairs["L1"].rows == (1, 3)


def test_the_length_of_the_noise():
    x, y = torch.full((200, 400), 0.5), torch.arange(200)
    x[:, 0] = torch.linspace(0, 1, 200)
    found = nearest_class_distances(x, y, radius=0.25, generator=seeded())
    assert found.radius == 0.25
    assert found.noise["L0"] == pytest.approx(400, rel=1e-3)
    assert found.noise["L1"] == pytest.approx(400 * 0.25 / 2, rel=0.01)
    assert found.noise["L2"] == pytest.approx(math.sqrt(400 / 3) * 0.25, rel=0.01)
    assert found.noise["Linf"] == pytest.approx(0.25, rel=0.01)
    clean, noisy = found.x_noise
    assert torch.equal(clean, x[found.pairs["Linf"].rows[0]])
    assert 0.2 < float((noisy - clean).abs().max()) <= 0.25
    assert found.inverted == ("L0", "L1", "L2", "Linf")


def test_noise_is_clipped_to_the_bounds():
    x, y = torch.zeros(100, 50), torch.arange(100) % 2
    x[1::2] = 1
    clipped = nearest_class_distances(x, y, generator=seeded())
    assert clipped.radius == 0.5  # half of the way from 0 to 1
    assert clipped.noise["L0"] == pytest.approx(25, rel=0.05)  # half of the features would leave the bounds
    assert clipped.inverted == ()
    free = nearest_class_distances(x, y, bounds=None, radius=0.5, generator=seeded())
    assert free.noise["L0"] == 50


@pytest.mark.parametrize("held", [100, 2**22])
def test_noise_is_that_of_its_row(held, monkeypatch):
    x, y = inputs()
    whole = nearest_class_distances(x, y, generator=seeded(3))
    monkeypatch.setattr(module, "_HELD", held)
    parts = nearest_class_distances(x, y, generator=seeded(3))
    assert parts.noise == pytest.approx(whole.noise, rel=1e-9)
    assert torch.equal(parts.x_noise, whole.x_noise)
    assert nearest_class_distances(x, y, generator=seeded(4)).noise["L1"] != whole.noise["L1"]


def test_images_are_rows_of_any_shape():
    x, y = inputs(features=48)
    flat, images = nearest_class_distances(x, y), nearest_class_distances(x.reshape(-1, 3, 4, 4), y)
    assert flat.least == images.least
    assert images.pairs["L1"].x.shape == (2, 3, 4, 4)


def test_text():
    x, y = torch.zeros(4, 10), torch.tensor([0, 0, 1, 1])
    x[2:, 0] = 1
    found = nearest_class_distances(x, y, radius=0.3, generator=seeded())
    lines = str(found).splitlines()
    assert lines[0].split() == ["L0", "L1", "L2", "Linf", "rows"]
    assert lines[1].split() == ["nearest", "in", "L0", "1", "1", "1", "1", "0", "and", "2"]
    assert lines[5].startswith("noise within 0.3")
    assert lines[5].endswith("all, on average")
    assert lines[6].endswith("in: L0") is (found.inverted == ("L0",))
    harmless = nearest_class_distances(x, y, radius=0.0)
    assert str(harmless).endswith("in: no norm")


@pytest.mark.parametrize(
    ("x", "y", "error", "says"),
    [
        (torch.zeros(3, 2, dtype=torch.uint8), torch.arange(3), TypeError, r"x.float\(\) / 255"),
        (np.zeros((3, 2)), torch.arange(3), TypeError, "got ndarray"),
        (torch.zeros(3, 2), [0, 1, 2], TypeError, "got list"),
        (torch.zeros(3, 2), torch.zeros(3), TypeError, "integer classes"),
        (torch.zeros(3, 2), torch.zeros(3, dtype=torch.bool), TypeError, "integer classes"),
        (torch.zeros(3, 2), torch.arange(2), ValueError, r"got \(3, 2\) and \(2,\)"),
        (torch.zeros(3), torch.arange(3), ValueError, r"got \(3,\)"),
        (torch.tensor([[0.0], [math.nan]]), torch.arange(2), ValueError, "finite"),
        (torch.zeros(3, 2), torch.ones(3, dtype=torch.int64), ValueError, "two classes or more"),
        (torch.zeros(0, 2), torch.arange(0), ValueError, "two classes or more, got 0 rows"),
        (torch.tensor([[0.0], [2.0]]), torch.arange(2), ValueError, "outside the bounds"),
    ],
)
def test_bad_input(x, y, error, says):
    with pytest.raises(error, match=says):
        nearest_class_distances(x, y)


def test_what_is_refused_is_refused_before_the_search(monkeypatch):
    monkeypatch.setattr(module, "_nearest", None)
    with pytest.raises(ValueError, match="eps must be a number >= 0"):
        nearest_class_distances(torch.eye(2), torch.arange(2), radius=-0.1)
    with pytest.raises(ValueError, match="outside the bounds"):
        nearest_class_distances(2 * torch.eye(2), torch.arange(2))


def test_plot():
    x, y = inputs(features=48)
    found = nearest_class_distances(x.reshape(-1, 3, 4, 4), y, generator=seeded())
    figure = found.plot()
    assert len(figure.axes) == 5 * 3
    texts = [text.get_text() for text in figure.texts]
    assert texts[:5] == ["L0", "L1", "L2", "Linf", "difference"]
    for norm, pair in found.pairs.items():
        place = texts.index(f"nearest in {norm}")
        assert texts[place + 1 : place + 5] == [f"{distance:.3g}" for distance in pair.distances.values()]
    bold = {text.get_text() for text in figure.texts[5:] if text.get_fontweight() == "bold"}
    assert bold == {f"{distance:.3g}" for distance in found.least.values()}
    grey = nearest_class_distances(x.reshape(-1, 6, 8), y).plot()
    assert grey.axes[0].images[0].get_array().tolist() == found.pairs["L0"].x[0].reshape(6, 8).tolist()
    with pytest.raises(ValueError, match="only images"):
        nearest_class_distances(x, y).plot()


def test_plot_without_matplotlib_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ModuleNotFoundError, match=r"advlib-torch\[plot\]"):
        nearest_class_distances(torch.eye(4).reshape(4, 2, 2), torch.arange(4)).plot()
