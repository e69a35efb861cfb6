"""Black-box attacks through a substitute: how well it copies a target that gives labels alone, and what transfers.

The setting of Papernot et al. (1602.02697): 150 test images to begin with, at most 6,400 queries, and adversarial
images at Linf 0.3 from the substitute. There a substitute of a network agrees with 81 % of labels, and 84 % of the
images of FGSM are misclassified by the target. Targets are a network and four kinds of models from scikit-learn; the
substitute is a small network. Agreement is measured on test images that the adversary does not have, and so is
transfer, over those that the target gets right.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from functools import partial

import common
import numpy as np
import torch
from torch import Tensor, nn

import advlib
from advlib import Linf
from advlib.evaluation import transfer_matrix
from advlib.oracles import LabelOracle
from advlib.training import train_substitute
from advlib.zoo import small_cnn

SEEDS = 150
BUDGET = 6400
EPS = 0.3
ATTACKS = {
    "FGSM": advlib.fgsm,
    "MI-FGSM": partial(advlib.mim, keep="last"),
    "VNI-FGSM, margin": partial(advlib.vmi_fgsm, samples=5, nesterov=True, loss="margin"),
}
WAYS = {
    "Jacobian, back": {},
    "Jacobian": {"step": 0.1},  # as in the paper
    "Jacobian, periodic": {"step": 0.1, "period": 3, "reservoir": 400},  # as in 1605.07277
    "random": {"augmentation": "random"},  # at the distance of the first
}


def classifiers(x: np.ndarray, y: np.ndarray) -> dict[str, object]:
    """Models without a gradient, or used as if they had none."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.svm import SVC
    from sklearn.tree import DecisionTreeClassifier

    kinds = {
        "logistic regression": LogisticRegression(C=0.1, max_iter=100),
        "SVM": SVC(),
        "decision tree": DecisionTreeClassifier(random_state=0),
        "nearest neighbours": KNeighborsClassifier(5),
    }
    return {name: kind.fit(x, y) for name, kind in kinds.items()}


def training_images(folder: object, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The first training images of MNIST as lines in [0, 1], and their labels."""
    with np.load(f"{folder}/mnist.npz") as file:
        return file["x_train"][:count].reshape(count, -1).astype(np.float32) / 255, file["y_train"][:count]


def attacked(
    name: str, target: Callable[[Tensor], Tensor], way: str, x: Tensor, y: Tensor, rounds: int
) -> dict[str, object]:
    """One substitute, and what its adversarial images do to the target."""
    torch.manual_seed(0)
    model, generator = small_cnn(), torch.Generator().manual_seed(0)
    holdout = x[SEEDS:], target(x[SEEDS:]).argmax(1)
    oracle = LabelOracle(target, budget=BUDGET)
    start = time.process_time()
    found = train_substitute(
        oracle,
        x[:SEEDS],
        model,
        rounds=rounds,
        optimizer=torch.optim.Adam(model.parameters(), lr=1e-3),
        holdout=holdout,
        generator=generator,
        **WAYS[way],
    )
    seconds = time.process_time() - start
    row = {"target": name, "queries by": way, "queries": oracle.queries, "agreement": 100 * found.agreement[-1]}
    for attack, function in ATTACKS.items():
        rates = transfer_matrix({"it": model}, {"it": target}, x[SEEDS:], y[SEEDS:], Linf(EPS), function).rates
        row[attack] = 100 * float(rates)
    return {**row, "seconds": seconds, "rounds": [100 * a for a in found.agreement], "asked": found.queries}


def main() -> None:
    options = common.parser(__doc__.splitlines()[0], "substitute.json")
    common.add_networks(options, required=True)
    options.add_argument("--images", type=int, default=1000, help="test images beside the first 150")
    options.add_argument("--train", type=int, default=10_000, help="training images of scikit-learn's models")
    options.add_argument("--rounds", type=int, default=6, help="how often the inputs grow")
    options.add_argument(
        "--ways", nargs="*", choices=WAYS, default=list(WAYS), help="how queries of the network are made"
    )
    options.add_argument("--way", choices=WAYS, default="Jacobian, back", help="how those of the others are made")
    options.add_argument("--only", nargs="*", help="targets")
    given: argparse.Namespace = options.parse_args()
    environment = common.environment(given)
    x, y = common.test_images(given.data, "mnist", SEEDS + given.images)
    network: nn.Module = common.load(given.zoo, "mnist_convsmall_eran")
    targets = {"network": LabelOracle(network)}
    targets |= {
        name: LabelOracle(kind) for name, kind in classifiers(*training_images(given.data, given.train)).items()
    }
    runs = [("network", way) for way in given.ways] + [(name, given.way) for name in targets if name != "network"]
    settings = {"images": given.images, "train": given.train, "rounds": given.rounds}
    rows: list[dict[str, object]] = []
    if given.out.exists():  # rows that it holds are not measured again, so that a run may be stopped and continued
        found = json.loads(given.out.read_text())
        rows = found["rows"] if found["settings"] == settings else []
    done = {(row["target"], row["queries by"]) for row in rows}
    for name, way in runs:
        if (name, way) not in done and (given.only is None or name in given.only):
            rows.append(attacked(name, targets[name], way, x, y, given.rounds))
            common.table("so far", [{k: v for k, v in row.items() if k not in ("rounds", "asked")} for row in rows])
            common.save(given.out, {"environment": environment, "settings": settings, "rows": rows})


if __name__ == "__main__":
    main()
