"""How near attacks come that see labels alone, after so many questions per image, in every library.

Every attack runs on one image after the other, since that is how the others count their questions. Whatever it asks is
judged, so that nobody loses by what it returns; the question after the last ends it. An image that the network gets
wrong without an attack is at distance 0 for all, and one without a success at infinity.

Beside them, robust accuracy at one eps in Linf of networks that hide their gradients (``masking.py``): what PGD leaves,
and what attacks leave that see scores or labels alone.

    python benchmarks/black_box.py --zoo MODELS --data DATA --threads 1
    python benchmarks/black_box.py --zoo MODELS --data DATA --only hop_skip_jump --libraries advlib --again
"""

from __future__ import annotations

import importlib.metadata
import json
import time
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import common
import masking
import torch
from torch import Tensor, nn

import advlib
import advlib.data
from advlib.oracles import LabelOracle, ScoreOracle
from advlib.threats import Threat

QUERIES = (100, 1000, 5000)
NORMS: dict[str, type[Threat]] = {"l2": advlib.L2, "linf": advlib.Linf}
PACKAGES = {"Foolbox": "foolbox", "ART": "adversarial-robustness-toolbox"}

Run = Callable[[nn.Module, Tensor, Tensor, str], object]  # model, x of one image, y, norm


class Contestant(NamedTuple):
    """One library's form of an algorithm."""

    algorithm: str
    library: str
    norms: tuple[str, ...]
    run: Run


class Enough(Exception):
    """All questions are asked."""


class Watched(nn.Module):
    """A model that counts questions about one image, and remembers the nearest success after so many."""

    def __init__(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> None:
        super().__init__()
        self.model, self.x, self.y, self.threat = model, x, y, threat
        self.asked = 0
        self.nearest = dict.fromkeys(QUERIES, float("inf"))

    def forward(self, points: Tensor) -> Tensor:
        if self.asked >= QUERIES[-1]:
            raise Enough
        points = points.to(self.x)  # ART asks in float64
        with torch.no_grad():
            logits = self.model(points)
            inside = ((points >= 0) & (points <= 1)).flatten(1).all(1)
            found = (logits.argmax(1) != self.y) & inside
            distance = torch.where(found, self.threat.distance(points, self.x.expand_as(points)), torch.inf)
        for queries in QUERIES:
            paid = distance[: max(queries - self.asked, 0)]
            if len(paid):
                self.nearest[queries] = min(self.nearest[queries], float(paid.amin()))
        self.asked += len(points)
        return logits


# -- the attacks ------------------------------------------------------------------------------------------------


def ours(attack: Callable[..., Tensor]) -> Run:
    def run(model: nn.Module, x: Tensor, y: Tensor, norm: str) -> Tensor:
        generator = torch.Generator().manual_seed(0)
        return attack(LabelOracle(model), x, y, NORMS[norm](torch.inf), queries=QUERIES[-1], generator=generator)

    return run


def foolbox(name: str, **settings: Any) -> Run:
    def run(model: nn.Module, x: Tensor, y: Tensor, norm: str) -> object:
        import foolbox

        if name == "HopSkipJumpAttack":
            settings["constraint"] = norm
        wrapped = foolbox.PyTorchModel(model, bounds=(0, 1), device=x.device)
        criterion = foolbox.criteria.Misclassification(y)
        return getattr(foolbox.attacks, name)(**settings)(wrapped, x, criterion, epsilons=None)

    return run


def art(name: str, **settings: Any) -> Run:
    def run(model: nn.Module, x: Tensor, y: Tensor, norm: str) -> object:
        from art.attacks import evasion
        from art.estimators.classification import PyTorchClassifier

        if name == "HopSkipJump":
            settings["norm"] = {"l2": 2, "linf": "inf"}[norm]
        loss, shape = nn.CrossEntropyLoss(), x.shape[1:]
        classifier = PyTorchClassifier(model, loss, shape, 10, clip_values=(0.0, 1.0), device_type="cpu")
        attack = getattr(evasion, name)(classifier, targeted=False, verbose=False, **settings)
        return attack.generate(x.numpy(), y.numpy())

    return run


BOTH = ("l2", "linf")
CONTESTANTS = [
    Contestant("hop_skip_jump", "advlib", BOTH, ours(advlib.hop_skip_jump)),
    Contestant("hop_skip_jump", "Foolbox", BOTH, foolbox("HopSkipJumpAttack", steps=100)),
    Contestant("hop_skip_jump", "ART", BOTH, art("HopSkipJump", max_iter=100)),
    Contestant("boundary_attack", "advlib", ("l2",), ours(advlib.boundary_attack)),
    Contestant("boundary_attack", "Foolbox", ("l2",), foolbox("BoundaryAttack", steps=QUERIES[-1])),
    Contestant("boundary_attack", "ART", ("l2",), art("BoundaryAttack", max_iter=QUERIES[-1])),
    Contestant("surfree", "advlib", ("l2",), ours(advlib.surfree)),
    Contestant("ray_search", "advlib", ("linf",), ours(advlib.ray_search)),
]


# -- the measurement --------------------------------------------------------------------------------------------


def measured(contestant: Contestant, network: str, norm: str, model: nn.Module, x: Tensor, y: Tensor) -> dict[str, Any]:
    """One line of the results."""
    threat = NORMS[norm](torch.inf)
    found: dict[int, list[float]] = {queries: [] for queries in QUERIES}
    start, failed = time.process_time(), ""
    for row in range(len(x)):
        torch.manual_seed(row)
        one = slice(row, row + 1)
        watched = Watched(model, x[one], y[one], threat).eval()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                contestant.run(watched, x[one], y[one], norm)
            except Enough:
                pass
            except Exception as error:  # what it asked until then counts
                if not isinstance(error.__cause__, Enough):
                    failed = f"{type(error).__name__}: {error}"
        with torch.no_grad():
            wrong = bool(model(x[one]).argmax(1) != y[one])
        for queries, distances in found.items():
            distances.append(0.0 if wrong else watched.nearest[queries])
    return {
        "network": network,
        "norm": norm,
        "attack": contestant.algorithm,
        "library": contestant.library,
        "CPU seconds": time.process_time() - start,
        "failed": failed,
        "distances": {str(q): [d if d < float("inf") else None for d in values] for q, values in found.items()},
    }


def key(line: dict[str, Any]) -> tuple[str, ...]:
    return (line["network"], line["norm"], line["attack"], line["library"])


def summary(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    rows = []
    for line in sorted(lines, key=lambda line: (line["network"], line["norm"])):
        row = {name: line[name] for name in ("network", "norm", "attack", "library")}
        for queries, distances in line["distances"].items():
            row[f"after {queries}"] = (
                torch.tensor([float("inf") if d is None else d for d in distances]).median().item()
            )
        rows.append(row | {"CPU seconds": line["CPU seconds"]})
    return rows


def behind_masks(images: int, queries: int, eps: float = 0.1) -> list[dict[str, Any]]:
    """Robust accuracies, in percent, of networks that hide their gradients."""
    digits = advlib.data.mnist()
    x, y = digits.x_test[:images], digits.y_test[:images]
    threat, rows = advlib.Linf(eps), []
    search: dict[str, Callable[[Callable[[Tensor], Tensor]], Tensor]] = {
        "pgd": lambda model: advlib.pgd(model, x, y, threat),
        "square on scores": lambda model: advlib.square(ScoreOracle(model), x, y, threat, steps=queries),
        "ray_search on labels": lambda model: advlib.ray_search(LabelOracle(model), x, y, threat, queries=queries),
    }
    for name, make in masking.masked(digits).items():
        model = make()
        row: dict[str, Any] = {"model": name}
        for attack, run in search.items():
            torch.manual_seed(0)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                x_adv = run(model)
                row[attack] = 100 * (model(x_adv).argmax(1) == y).float().mean().item()
        rows.append(row)
        print(row, flush=True)
    return rows


def main() -> None:
    options = common.parser(__doc__.splitlines()[0], "black_box.json")
    common.add_networks(options, required=True)
    options.add_argument("--images", type=int, default=50, help="test images")
    options.add_argument("--networks", nargs="+", default=["mnist_convsmall_eran"])
    options.add_argument("--only", nargs="+", help="algorithms; all by default")
    options.add_argument("--libraries", nargs="+", choices=["advlib", *PACKAGES], default=["advlib", *PACKAGES])
    options.add_argument("--norms", nargs="+", choices=list(NORMS), default=list(NORMS))
    options.add_argument("--again", action="store_true", help="run lines that the results hold already")
    options.add_argument("--masks", action="store_true", help="the networks that hide their gradients too")
    given = options.parse_args()
    held: dict[str, Any] = json.loads(given.out.read_text()) if given.out.exists() else {"lines": [], "masks": []}
    held["environment"] = common.environment(given) | {
        name: importlib.metadata.version(package) for name, package in PACKAGES.items()
    }
    for network in given.networks:
        model = common.load(given.zoo, network)
        x, y = common.test_images(given.data, network.split("_")[0], given.images)
        for norm in given.norms:
            for contestant in CONTESTANTS:
                name = (network, norm, contestant.algorithm, contestant.library)
                wanted = norm in contestant.norms and contestant.library in given.libraries
                wanted &= contestant.algorithm in (given.only or [contestant.algorithm])
                if not wanted or (not given.again and name in map(key, held["lines"])):
                    continue
                line = measured(contestant, network, norm, model, x, y)
                held["lines"] = [old for old in held["lines"] if key(old) != name] + [line]
                common.save(given.out, held)
    if given.masks:
        held["masks"] = behind_masks(given.images, queries=1000)
        common.save(given.out, held)
    common.table("Median distance after so many questions", summary(held["lines"]))
    common.table("Robust accuracy in percent at Linf 0.1", held["masks"])


if __name__ == "__main__":
    main()
