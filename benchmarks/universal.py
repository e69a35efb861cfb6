"""How many held-out images does one perturbation fool, beside ART's universal perturbation by DeepFool?

A perturbation is found on training images and added to test images that were not looked at. It fools an image where
the network's answer changes. ART runs first; advlib goes through the images as often as its forward and backward passes
allow, ten times at most. A pass is one image through the network, there or back.
"""

from __future__ import annotations

import dataclasses
import pathlib
import time

import common
import numpy as np
import torch
from torch import Tensor, nn

import advlib
from advlib.attacks.universal import nearly_fooled
from advlib.models import Counted
from advlib.threats import Threat

RUNS = [
    ("mnist_convsmall_eran", advlib.Linf(0.15)),
    ("mnist_convsmall_eran", advlib.L2(3.0)),
    ("mnist_cnn_a_adv", advlib.Linf(0.4)),
    ("cifar10_cnn_a_adv", advlib.Linf(12 / 255)),
]
ROUNDS = 1  # of ART, through all images
DEEPFOOL = {"max_iter": 20, "verbose": False}
BATCH = 50
LOSSES = {"advlib": nearly_fooled, "advlib, cross-entropy": "cross_entropy"}


def training_images(folder: pathlib.Path, name: str, count: int) -> Tensor:
    with np.load(folder / {"mnist": "mnist.npz", "cifar10": "cifar10_lossless.npz"}[name]) as file:
        x = file["x_train"][:count]
    x = x[:, None] if x.ndim == 3 else x.transpose(0, 3, 1, 2)
    return torch.from_numpy(x.astype(np.float32) / 255)


def by_art(model: nn.Module, x: Tensor, threat: Threat) -> Tensor:
    from art.attacks.evasion import UniversalPerturbation
    from art.estimators.classification import PyTorchClassifier

    classifier = PyTorchClassifier(
        model, nn.CrossEntropyLoss(), tuple(x.shape[1:]), 10, clip_values=(0.0, 1.0), device_type="cpu"
    )
    attack = UniversalPerturbation(
        classifier,
        eps=threat.eps,
        norm=np.inf if threat.p == torch.inf else 2,
        max_iter=ROUNDS,
        delta=0.01,
        verbose=False,
    )
    np.random.seed(0)
    attack.generate(x.numpy())
    return torch.from_numpy(np.asarray(attack.noise, dtype=np.float32)).reshape(x.shape[1:])


def by_advlib(model: nn.Module, x: Tensor, y: Tensor, threat: Threat, epochs: int, loss: object) -> Tensor:
    batches = list(zip(x.split(BATCH), y.split(BATCH), strict=True))
    return advlib.universal_perturbation(model, batches, threat, epochs=epochs, loss=loss)


def main() -> None:
    options = common.parser(__doc__.splitlines()[0], "universal.json")
    common.add_networks(options, required=True)
    options.add_argument("--images", type=int, default=100, help="training images")
    options.add_argument("--held-out", type=int, default=1000, help="test images")
    given = options.parse_args()
    found = {"environment": common.environment(given), "images": given.images, "rows": []}
    for name, threat in RUNS:
        data = name.split("_")[0]
        model = common.load(given.zoo, name)
        x, (unseen, _) = (
            training_images(given.data, data, given.images),
            common.test_images(given.data, data, given.held_out),
        )
        with torch.no_grad():
            y, before = model(x).argmax(1), model(unseen).argmax(1)
        allowed = 0
        for contestant in ("ART", *LOSSES):
            counted = Counted(model).eval()
            start = time.perf_counter()
            if contestant == "ART":
                delta = by_art(counted, x, threat)
            else:
                epochs = max(min(allowed // (2 * len(x)), 10), 1)
                delta = by_advlib(counted, x, y, threat, epochs, LOSSES[contestant])
            seconds, passes = time.perf_counter() - start, counted.forwards + counted.backwards
            allowed = allowed or passes
            ball = dataclasses.replace(threat, bounds=None)
            row = {"network": name, "norm": type(threat).__name__, "eps": threat.eps, "contestant": contestant}
            with torch.no_grad():
                row["fooled (%)"] = (
                    100 * ((model((unseen + delta).clamp(0, 1)).argmax(1) != before).double().mean()).item()
                )
                row["of those seen (%)"] = (
                    100 * ((model((x + delta).clamp(0, 1)).argmax(1) != y).double().mean()).item()
                )
            row["length"] = ball.distance(delta[None], torch.zeros_like(delta[None])).item()
            found["rows"].append({**row, "passes per image": passes / len(x), "seconds": seconds})
            common.save(given.out, found)  # as far as it is run
    common.table("One perturbation for all", found["rows"])


if __name__ == "__main__":
    main()
