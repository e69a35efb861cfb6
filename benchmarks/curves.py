"""Measures what Goodfellow's figures 16 and 18 need on MNIST, and what a curve costs beside its points one by one.

Figure 16, accuracy against the share of adversarial inputs: curves of networks trained differently. Figure 18, the
least distances between classes: the whole training part, with and without the ones, which the figure leaves out since
many look like sevens. Its numbers are those of slide 19 of "Defense against the dark arts" (Goodfellow, 2018).
``figures_16_and_18.ipynb`` draws both. Samples are forward plus backward; "one by one" evaluates all rows anew at each
radius, "upwards" those that no smaller radius broke.
"""

from __future__ import annotations

import argparse
import json
import pathlib

import common
import torch
from torch import Tensor, nn

import advlib
import advlib.data
from advlib.evaluation import ClassDistances, Curve, nearest_class_distances, robustness_curve

# network: what the figure calls it
NETWORKS = {
    "mnist_mlp_3layer": "fully connected",
    "mnist_convsmall_eran": "convolutional",
    "mnist_cw_fmn": "convolutional, wider",
    "mnist_kw_0.1": "certified at 0.1",
    "mnist_cnn_a_adv": "PGD training at 0.3",
}
EPS = [0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4]
PARTS = ["curves", "distances", "without ones"]

# slide 19: the pair nearest in each norm, without the ones, and clipped noise
FIGURE = {
    "L0": {"L0": 63, "L1": 35.0, "L2": 4.86, "Linf": 1.0},
    "L1": {"L0": 91, "L1": 19.9, "L2": 3.21, "Linf": 0.996},
    "L2": {"L0": 110, "L1": 21.7, "L2": 2.83, "Linf": 1.0},
    "Linf": {"L0": 121, "L1": 34.0, "L2": 3.82, "Linf": 0.76},
    "noise": {"L0": 784, "L1": 116.0, "L2": 4.8, "Linf": 0.3},
}


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def curve_of(model: nn.Module, x: Tensor, y: Tensor) -> tuple[Curve, dict[str, object]]:
    """A network's curve, and the same radii in the two ways that need no bisection."""
    curve = robustness_curve(model, x, y, advlib.Linf(EPS[-1]), eps=EPS, generator=seeded(), progress=False)
    return curve, {
        "images": len(x),
        "eps": curve.eps,
        "accuracy": [100 * share for share in curve.accuracy],
        "interval": [[100 * end for end in ends] for ends in curve.intervals],
        "samples": curve.forward_samples + curve.backward_samples,
        "findings": [finding.name for finding in curve.findings],
        "one by one": evaluated(model, x, y, again=True),
        "upwards": evaluated(model, x, y, again=False),
    }


def evaluated(model: nn.Module, x: Tensor, y: Tensor, again: bool) -> dict[str, object]:
    """Robust accuracy at each radius by an evaluation of its own, of all rows again or of those still standing."""
    left = (model(x).argmax(1) == y).nonzero().squeeze(1)
    accuracy, samples = [100 * len(left) / len(x)], 0
    for eps in EPS:
        rows = torch.arange(len(x)) if again else left
        if len(rows):
            result = advlib.evaluate(
                model, x[rows], y[rows], advlib.Linf(eps), budget="quick", generator=seeded(), progress=False
            )
            left, samples = rows[result.robust], samples + result.forward_samples + result.backward_samples
        accuracy.append(100 * len(left) / len(x))
    return {"accuracy": accuracy, "samples": samples}


def distances_of(found: ClassDistances) -> dict[str, object]:
    pairs = {
        norm: {"rows": pair.rows, "labels": pair.labels, "distances": pair.distances}
        for norm, pair in found.pairs.items()
    }
    return {"pairs": pairs, "radius": found.radius, "noise": found.noise, "larger noise in": found.inverted}


def upward(x: Tensor, radius: float) -> dict[str, float]:
    """Mean lengths of noise that only brightens, clipped: as long as that of the figure."""
    noisy = (x + radius * torch.rand(x.shape, generator=seeded())).clamp_max(1)
    change = (noisy - x).flatten(1).double()
    return {
        "L0": float((change != 0).sum(1).double().mean()),
        "L1": float(change.abs().sum(1).mean()),
        "L2": float(change.norm(dim=1).mean()),
        "Linf": float(change.abs().amax(1).mean()),
    }


def draw(path: pathlib.Path, curves: dict[str, Curve]) -> None:
    axes = None
    for name, curve in curves.items():
        axes = curve.plot(axes, NETWORKS[name])
    axes.set_title("MNIST, quick budget")
    axes.figure.savefig(path, dpi=150)


def main() -> None:
    options = common.parser(__doc__, "curves.json")
    common.add_networks(options, required=True)
    options.add_argument("--images", type=int, default=500, help="test images for the curves")
    options.add_argument("--device", default="cpu", help="where the distances are computed")
    options.add_argument("--parts", nargs="*", default=PARTS, choices=PARTS, help="others keep their results")
    given: argparse.Namespace = options.parse_args()
    environment = common.environment(given)
    found: dict[str, object] = json.loads(given.out.read_text()) if given.out.exists() else {}
    found = {"environment": environment, **{key: found[key] for key in found if key != "environment"}}
    if "curves" in given.parts:
        curves, networks = {}, {}
        x, y = common.test_images(given.data, "mnist", given.images)
        for name in NETWORKS:
            curves[name], networks[name] = curve_of(common.load(given.zoo, name), x, y)
            print(f"\n{name}\n{curves[name]}", flush=True)
            common.save(given.out, found | {"networks": networks})
        found["networks"] = networks
        draw(given.out.with_suffix(".png"), curves)
    if not {"distances", "without ones"} & set(given.parts):
        return
    digits = advlib.data.mnist(given.data / "mnist.npz")
    x, y = digits.x_train.to(given.device), digits.y_train.to(given.device)
    found["figure 18"] = {**found.get("figure 18", {}), "figure": FIGURE}
    if "distances" in given.parts:
        found["figure 18"]["all"] = distances_of(nearest_class_distances(x, y, generator=seeded()))
    if "without ones" in given.parts:
        x, y = x[y != 1], y[y != 1]
        result = nearest_class_distances(x, y, radius=FIGURE["noise"]["Linf"], generator=seeded())
        print(result)
        found["figure 18"] |= {"without ones": distances_of(result), "noise upwards": upward(x.cpu(), result.radius)}
        result.plot().savefig(given.out.with_name("distances.png"), dpi=150)
    common.save(given.out, found)


if __name__ == "__main__":
    main()
