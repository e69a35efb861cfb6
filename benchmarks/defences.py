"""The honest table: every defence with one network and one budget, and what attacks of growing strength leave of it.

Each network is trained on MNIST with one objective, and then attacked at Linf 0.3 by FGSM, PGD-40 on the
cross-entropy, PGD-40 on the margin with 10 restarts, PGD-40 on the cross-entropy of the logits divided by the
distillation temperature, by PGD from images of other classes, and by points made against an undefended twin; by JSMA
within 30 pixels; and in L2, L1 and L0 by PGD from random points and from images of other classes. "worst Linf" counts
an image as right only if every Linf attack failed on it. Rows are written as they are finished: a run that was stopped
goes on where it was.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import common
import torch
from torch import Tensor, nn
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, TensorDataset

import advlib.data
import advlib.zoo
from advlib import L0, L1, L2, Linf, defenses, fgsm, jsma, pgd
from advlib.defenses import Objective
from advlib.threats import Threat
from advlib.training import Trainer

EPS, TEMPERATURE, VALIDATION = 0.3, 100.0, 1000
BATCH, LEARNING_RATE, AVERAGING = 64, 2e-3, 0.995
THREAT = Linf(EPS)
PGD = partial(pgd, threat=THREAT, steps=5, keep="last")
STANDARD, TWIN = "standard", "undefended twin"


class Settings(NamedTuple):
    """What an objective may be made of."""

    folder: Path  # where the networks of other rows are
    ramp: int  # batches over which eps grows to its value


class Recipe(NamedTuple):
    """One row of the table: what is minimised, and what else is done in training."""

    objective: Callable[[Settings], Objective]
    network: Callable[[int], nn.Module] = lambda seed: advlib.zoo.small_cnn(seed=seed)
    weight_decay: float = 0.0
    transform: Callable[[Tensor], Tensor] = lambda x: x
    judged: bool = False  # whether validation looks at PGD, or at clean images alone


def dropout_cnn(seed: int) -> nn.Module:
    layers = list(advlib.zoo.small_cnn(seed=seed))
    return nn.Sequential(*layers[:4], nn.Dropout(0.5), *layers[4:7], nn.Dropout(0.5), layers[7])


def cropped(x: Tensor) -> Tensor:
    """Images moved by up to two pixels, all of a batch alike."""
    down, right = torch.randint(-2, 3, (2,)).tolist()
    padded = nn.functional.pad(x, (2, 2, 2, 2))
    return padded[..., 2 + down : 30 + down, 2 + right : 30 + right]


def always(objective: Objective) -> Callable[[Settings], Objective]:
    return lambda settings: objective


def grown(
    defence: Callable[..., Objective], *args: object, attack: partial[Tensor] = PGD
) -> Callable[[Settings], Objective]:
    """An objective whose attack starts from eps 0."""
    return lambda settings: defence(advlib.zoo.growing(attack, settings.ramp), *args)


def random_fgsm(model: nn.Module, x: Tensor, y: Tensor, threat: Linf, **options: object) -> Tensor:
    """FGSM from a random start, with a step of 1.25 eps (Wong et al., 2001.03994)."""
    return pgd(model, x, y, threat, steps=1, step_size=1.25 * threat.eps, keep="last", **options)


RECIPES: dict[str, Recipe] = {
    STANDARD: Recipe(always(defenses.Standard())),
    TWIN: Recipe(always(defenses.Standard())),
    "dropout": Recipe(always(defenses.Standard()), network=dropout_cnn),
    "weight decay 1e-4": Recipe(always(defenses.Standard()), weight_decay=1e-4),
    "weight decay 1e-2": Recipe(always(defenses.Standard()), weight_decay=1e-2),
    "weight decay 1": Recipe(always(defenses.Standard()), weight_decay=1.0),
    "random cropping": Recipe(always(defenses.Standard()), transform=cropped),
    "label smoothing 0.1": Recipe(always(defenses.LabelSmoothing(0.1))),
    "label smoothing 0.5": Recipe(always(defenses.LabelSmoothing(0.5))),
    "distillation": Recipe(
        lambda settings: defenses.DefensiveDistillation(load(settings.folder, "distillation teacher"), TEMPERATURE)
    ),
    "distillation teacher": Recipe(always(defenses.Standard(TEMPERATURE))),
    "clean logit pairing": Recipe(always(defenses.CleanLogitPairing())),
    "logit squeezing": Recipe(always(defenses.LogitSqueezing())),
    "virtual adversarial": Recipe(always(defenses.VirtualAdversarialTraining(eps=2.0))),
    "FGSM": Recipe(grown(defenses.AdversarialTraining, 0.5, attack=partial(fgsm, threat=THREAT))),
    "FGSM, random start": Recipe(
        grown(defenses.AdversarialTraining, attack=partial(random_fgsm, threat=THREAT)), judged=True
    ),
    "N-FGSM": Recipe(
        grown(defenses.AdversarialTraining, attack=partial(defenses.noisy_fgsm, threat=THREAT)), judged=True
    ),
    "free, 4 replays": Recipe(lambda settings: defenses.FreeAdversarialTraining(THREAT, 4), judged=True),
    "ensemble": Recipe(
        lambda settings: defenses.EnsembleAdversarialTraining(
            [load(settings.folder, STANDARD)], advlib.zoo.growing(partial(fgsm, threat=THREAT), settings.ramp)
        )
    ),
    "PGD": Recipe(grown(defenses.AdversarialTraining), judged=True),
    "PGD, half clean": Recipe(grown(defenses.AdversarialTraining, 0.5), judged=True),
    "TRADES": Recipe(grown(defenses.TRADES), judged=True),
    "MART": Recipe(grown(defenses.MART), judged=True),
    "adversarial logit pairing": Recipe(grown(defenses.AdversarialLogitPairing), judged=True),
}


# -- training -----------------------------------------------------------------------------------------------------


class Digits(NamedTuple):
    x: Tensor
    y: Tensor
    x_validation: Tensor
    y_validation: Tensor
    x_test: Tensor
    y_test: Tensor


def digits(path: str | None, images: int) -> Digits:
    """MNIST: the last of the training images are kept for validation; attacked are the first test images."""
    data = advlib.data.mnist(path)
    x, y = data.x_train[:-VALIDATION], data.y_train[:-VALIDATION]
    validation = data.x_train[-VALIDATION:], data.y_train[-VALIDATION:]
    return Digits(x, y, *validation, data.x_test[:images], data.y_test[:images])


def loader(x: Tensor, y: Tensor, seed: int | None, transform: Callable[[Tensor], Tensor] = lambda x: x) -> DataLoader:
    """Batches of tensors, indexed a batch at a time."""
    if seed is None:
        return DataLoader(TensorDataset(x, y), sampler=BatchSampler(range(len(x)), 500, False), batch_size=None)
    order = RandomSampler(x, generator=torch.Generator().manual_seed(seed))
    sampler = BatchSampler(order, BATCH, drop_last=True)
    return DataLoader(
        TensorDataset(x, y),
        sampler=sampler,
        batch_size=None,
        collate_fn=lambda batch: (transform(batch[0]), batch[1]),
    )


def train(name: str, data: Digits, epochs: int, folder: Path) -> None:
    """Trains one network, and writes its weights to the folder with the seconds that it took."""
    recipe, seed = RECIPES[name], 1 if name == TWIN else 0
    torch.manual_seed(seed)
    train = loader(data.x, data.y, seed, recipe.transform)
    model, objective = recipe.network(seed), recipe.objective(Settings(folder, epochs * len(train) // 2))
    epochs = max(1, epochs // objective.replays)
    validation = loader(data.x_validation, data.y_validation, None)
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=recipe.weight_decay)
    steps = epochs * len(train) * objective.replays
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=steps)
    attack = PGD if recipe.judged else None
    trainer = Trainer(model, optimizer, objective, scheduler=schedule, averaging=AVERAGING, attack=attack)
    start = time.perf_counter()
    trainer.fit(train, epochs=epochs, validation=validation, progress=False)
    seconds = time.perf_counter() - start
    torch.save({"weights": model.state_dict(), "seconds": seconds}, folder / f"{name}.pt")


def load(folder: Path, name: str) -> nn.Module:
    model = RECIPES[name].network(0)
    model.load_state_dict(torch.load(folder / f"{name}.pt", weights_only=True)["weights"])
    return model.eval().requires_grad_(False)


# -- judging ------------------------------------------------------------------------------------------------------


def right(model: Callable[[Tensor], Tensor], x: Tensor, y: Tensor) -> Tensor:
    with torch.no_grad():
        return model(x).argmax(1) == y


def survivors(
    attack: Callable[..., Tensor], model: nn.Module, x: Tensor, y: Tensor, seen_by: nn.Module | None = None
) -> Tensor:
    """Which images are classified rightly, clean and at the points that the attack finds against ``seen_by``."""
    ok = right(model, x, y)
    todo = ok.nonzero().squeeze(1)
    generator = torch.Generator().manual_seed(0)
    x_adv = attack(seen_by or model, x[todo], y[todo], generator=generator)
    ok[todo] &= right(model, x_adv, y[todo])
    return ok


def from_other_classes(
    model: nn.Module, x: Tensor, y: Tensor, threat: Threat, *, donors: tuple[Tensor, Tensor], **options: Any
) -> Tensor:
    """PGD on the margin from beyond the boundary: from the nearest image of another class, in a ball that shrinks.

    Gradients at clean images of an Linf-trained network point away from what breaks it in other norms.
    """
    apart = torch.cdist(x.flatten(1), donors[0].flatten(1)).masked_fill(y.unsqueeze(1) == donors[1], torch.inf)
    point = donors[0][apart.argmin(1)]
    farther = (threat.distance(point, x) - threat.eps).clamp(min=0)
    settings = {"step_size": 0.1 * threat.eps, "random_start": False, "loss": "margin", **options}
    for share in torch.linspace(1, 0, 21)[1:].tolist():
        ball = dataclasses.replace(threat, eps=threat.eps + share * farther)
        point = pgd(model, x, y, ball, steps=3, init=point, keep="last", **settings)
    return pgd(model, x, y, threat, steps=40, init=point, **settings)


class Cooled(nn.Module):
    """The same network with logits divided by the distillation temperature: the softmax has a gradient again."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x) / TEMPERATURE


def judge(name: str, data: Digits, folder: Path) -> dict[str, object]:
    """Clean accuracy, and accuracy under each attack, in percent."""
    model, twin = load(folder, name), load(folder, TWIN)
    x, y = data.x_test, data.y_test
    strong = partial(pgd, threat=THREAT, steps=40)
    beyond = partial(from_other_classes, donors=(data.x_validation, data.y_validation))
    linf = {
        "FGSM": survivors(partial(fgsm, threat=THREAT), model, x, y),
        "PGD-40": survivors(partial(strong, keep="first"), model, x, y),
        "margin x10": survivors(partial(strong, loss="margin", restarts=10, keep="first"), model, x, y),
        "cooled": survivors(strong, model, x, y, Cooled(model)),
        "other classes": survivors(partial(beyond, threat=THREAT), model, x, y),
        "transfer": survivors(strong, model, x, y, twin),
    }
    others = {"JSMA, 30 px": survivors(partial(jsma, threat=L0(30)), model, x, y)}
    for column, threat in (("L2, 2", L2(2.0)), ("L1, 15", L1(15.0)), ("L0, 30", L0(30))):
        inside = survivors(partial(pgd, threat=threat, steps=100, keep="first"), model, x, y)
        others[column] = inside & survivors(partial(beyond, threat=threat), model, x, y)
    worst = torch.stack(list(linf.values())).all(0)
    found = {"clean": right(model, x, y), **linf, "worst Linf": worst, **others}
    return {attack: 100 * ok.float().mean().item() for attack, ok in found.items()}


def verdict(row: dict[str, float], standard: dict[str, float]) -> str:
    """What Goodfellow's pipeline of defence failures says of a row.

    The questions come in his order: does it do anything, what does it cost, does it hold when the attacker knows of
    it, against attacks it was not made for, and outside its threat model?
    """
    notes = []
    if row["clean"] < standard["clean"] - 3:
        notes.append("clean accuracy lost")
    gains = {name: row[name] - standard[name] for name in ("FGSM", "PGD-40", "transfer", "worst Linf")}
    if gains["worst Linf"] < 10:
        if gains["PGD-40"] >= 10:
            notes.append("an illusion: PGD on the cross-entropy is misled, a stronger attack is not")
        elif gains["FGSM"] >= 10:
            notes.append("does not generalise over attacks: holds against FGSM, falls to PGD")
        elif gains["transfer"] >= 20:
            notes.append("no effect on an adaptive attacker: holds against transferred points alone")
        else:
            notes.append("no effect")
    elif row["PGD-40"] - row["worst Linf"] >= 10:
        notes.append("partly an illusion: PGD on the cross-entropy overstates it")
    elif min(row["L2, 2"], row["L1, 15"], row["L0, 30"]) < row["worst Linf"] - 10:
        notes.append("holds within its norm ball only")
    else:
        notes.append("holds")
    return "; ".join(notes)


# -- the run ------------------------------------------------------------------------------------------------------


def row(name: str, given: argparse.Namespace) -> dict[str, object]:
    """Trains one network, unless its weights are there, and judges it; on one thread."""
    prepare(name, given)
    seconds = torch.load(given.folder / f"{name}.pt", weights_only=True)["seconds"]
    return {"defence": name, **judge(name, digits(given.mnist, given.images), given.folder), "training s": seconds}


def plot(rows: list[dict[str, object]], path: Path) -> None:
    import matplotlib.pyplot as plt

    names = [str(row["defence"]) for row in rows]
    figure, axes = plt.subplots(figsize=(9, 0.32 * len(names) + 1.2), layout="constrained")
    for attack, color in (("clean", "0.85"), ("FGSM", "#f2c14e"), ("PGD-40", "#5fa8d3"), ("worst Linf", "#b23a48")):
        axes.barh(names, [row[attack] for row in rows], color=color, label=attack, height=0.75)
    axes.invert_yaxis()
    axes.set(xlabel=f"accuracy in %, Linf {EPS:g}", xlim=(0, 100))
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, 1.06), ncols=4, frameon=False)
    figure.savefig(path, dpi=150)


def main() -> None:
    options = common.parser(__doc__.splitlines()[0], "defences.json")
    options.add_argument("--mnist", help="mnist.npz with the complete set; the 5,000 embedded digits otherwise")
    options.add_argument("--folder", type=Path, default=Path("defences"), help="where the trained networks are kept")
    options.add_argument("--epochs", type=int, default=10, help="passes over the training images")
    options.add_argument("--images", type=int, default=1000, help="test images that are attacked")
    options.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)), help="networks at once")
    options.add_argument("--only", nargs="*", help="names of rows; all otherwise")
    given = options.parse_args()
    environment = common.environment(given)
    given.folder.mkdir(parents=True, exist_ok=True)
    chosen = [name for name in RECIPES if not given.only or name in given.only]
    first = [STANDARD, TWIN, "distillation teacher"]
    kept = given.folder / "rows.json"
    rows: dict[str, dict[str, object]] = json.loads(kept.read_text()) if kept.exists() else {}
    with ProcessPoolExecutor(given.workers, mp_context=get_context("spawn")) as pool:
        for group in (first, [name for name in chosen if name not in first]):
            if group is first:  # judging needs the twin
                waiting = {pool.submit(prepare, name, given): name for name in first}
                for done in as_completed(waiting):
                    done.result()
                group = [name for name in chosen if name in first]
            waiting = {pool.submit(row, name, given): name for name in group if name not in rows}
            for done in as_completed(waiting):
                rows[waiting[done]] = done.result()
                print(f"{waiting[done]}: worst Linf {rows[waiting[done]]['worst Linf']:.1f} %", flush=True)
                kept.write_text(json.dumps(rows, indent=1))
    ordered = [rows[name] for name in RECIPES if name in rows and name != "distillation teacher"]
    for found in ordered:
        found["verdict"] = verdict(found, rows[STANDARD])  # type: ignore[arg-type]
    common.table(f"Accuracy in % on {given.images} MNIST test images, Linf {EPS:g}", ordered)
    settings = {"epochs": given.epochs, "batch": BATCH, "learning rate": LEARNING_RATE, "averaging": AVERAGING}
    common.save(given.out, {"environment": environment, "eps": EPS, **settings, "rows": ordered})
    plot(ordered, given.out.with_suffix(".png"))


def prepare(name: str, given: argparse.Namespace) -> None:
    """Trains a network that others need, unless its weights are there."""
    torch.set_num_threads(1)
    if not (given.folder / f"{name}.pt").exists():
        train(name, digits(given.mnist, given.images), given.epochs, given.folder)


if __name__ == "__main__":
    main()
