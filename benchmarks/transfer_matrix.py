"""Transfer between kinds of models on MNIST: network, logistic regression, SVM, decision tree, nearest neighbours.

After figure 3 of Papernot et al. (1605.07277). Models with a gradient are attacked themselves; SVM, tree and
neighbours through a substitute that was trained on their answers (``train_substitute``), as the paper attacks all of
them where they give answers alone. Targets are the models themselves. The picture is drawn beside the results.
"""

from __future__ import annotations

import argparse
from functools import partial

import common
import torch
from substitute import SEEDS, WAYS, classifiers, training_images
from torch import Tensor, nn

import advlib
from advlib import Linf
from advlib.evaluation import transfer_matrix
from advlib.oracles import LabelOracle
from advlib.training import train_substitute
from advlib.zoo import small_cnn


def as_module(regression: object) -> nn.Module:
    """A logistic regression of scikit-learn's as a layer."""
    layer = nn.Linear(*regression.coef_.shape[::-1])
    layer.weight.data, layer.bias.data = (
        torch.tensor(part).float() for part in (regression.coef_, regression.intercept_)
    )
    return nn.Sequential(nn.Flatten(), layer)


def substitute(target: LabelOracle, seeds: Tensor, rounds: int) -> nn.Module:
    torch.manual_seed(0)
    model = small_cnn()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    generator = torch.Generator().manual_seed(0)
    settings = {"rounds": rounds, "optimizer": optimizer, "generator": generator, **WAYS["Jacobian, back"]}
    return train_substitute(target, seeds, model, **settings).model


def main() -> None:
    options = common.parser(__doc__.splitlines()[0], "transfer_matrix.json")
    common.add_networks(options, required=True)
    options.add_argument("--images", type=int, default=500, help="test images beside the first 150")
    options.add_argument("--train", type=int, default=10_000, help="training images of scikit-learn's models")
    options.add_argument("--rounds", type=int, default=4, help="how often a substitute's inputs grow")
    options.add_argument("--eps", type=float, default=0.2, help="radius in Linf")
    given: argparse.Namespace = options.parse_args()
    environment = common.environment(given)
    x, y = common.test_images(given.data, "mnist", SEEDS + given.images)
    network = common.load(given.zoo, "mnist_convsmall_eran")
    others = classifiers(*training_images(given.data, given.train))
    targets = {"network": network, **{name: LabelOracle(other) for name, other in others.items()}}
    sources: dict[str, nn.Module] = {"network": network}
    for name, other in others.items():
        whole = name == "logistic regression"
        sources[name] = as_module(other) if whole else substitute(LabelOracle(other), x[:SEEDS], given.rounds)
    x, y = x[SEEDS:], y[SEEDS:]
    rows = []
    for attack, function in {"FGSM": advlib.fgsm, "MI-FGSM": partial(advlib.mim, keep="last")}.items():
        matrix = transfer_matrix(sources, targets, x, y, Linf(given.eps), function)
        print(f"\n{attack}\n{matrix}")
        for source, rates in zip(matrix.sources, matrix.rates.tolist(), strict=True):
            percent = (100 * rate for rate in rates)
            rows.append({"attack": attack, "source": source, **dict(zip(matrix.targets, percent, strict=True))})
    accuracy = {name: 100 * float(row.double().mean()) for name, row in zip(targets, matrix.standing, strict=True)}
    common.save(given.out, {"environment": environment, "eps": given.eps, "accuracy": accuracy, "rows": rows})
    matrix.plot().figure.savefig(given.out.with_suffix(".png"), dpi=120)


if __name__ == "__main__":
    main()
