"""What JSMA costs beside the least it can cost, and beside torchattacks and ART at an equal budget.

The floor of a JSMA step is one forward pass and two backward passes to the inputs, of the rows still running. The
attack is run once with ``trace=`` to see how many rows run in each step, and a bare loop replays the same passes.
Targets are the next class, ``(y + 1) % 10``, for all alike; images that the network already gives that class are
left out. torchattacks and ART one by one, which take images singly, attack fewer of them, since their time per image
is the same; success is compared on the same images.
"""

from __future__ import annotations

import argparse
import functools
import importlib
import multiprocessing
import pathlib
import re
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor

import common
import peers
import torch
from torch import Tensor, nn

import advlib
import advlib.data
from advlib.models import Counted

FLOORS = ("floor", "floor again")


def rows_per_step(model: nn.Module, x: Tensor, target: Tensor, k: int, batch_size: int) -> list[tuple[int, int]]:
    """How many rows are asked in each question of advlib's attack, and its step; the last one is not differentiated."""
    asked: list[tuple[int, int]] = []
    advlib.jsma(
        model,
        x,
        target,
        advlib.L0(k),
        targeted=True,
        batch_size=batch_size,
        trace=lambda trace: asked.append((len(trace.row), trace.step)),
    )
    return asked


def floor(model: nn.Module, x: Tensor, target: Tensor, asked: list[tuple[int, int]], last: int) -> None:
    """The same passes and nothing else: forward, backward from the wanted logit, backward from the sum of all."""
    for count, step in asked:
        points = x[:count].detach()
        if step == last:
            with torch.no_grad():
                model(points)
            continue
        points.requires_grad_()
        logits = model(points)
        wanted = logits.gather(1, target[:count].unsqueeze(1)).sum()
        torch.autograd.grad(wanted, points, retain_graph=True)
        torch.autograd.grad(logits.sum(), points)


def outcome(model: nn.Module, x: Tensor, x_adv: Tensor, target: Tensor, k: int) -> dict[str, object]:
    """Success of what came back, judged by one more forward pass; a row over the budget is no success."""
    with torch.no_grad():
        reached = model(x_adv).argmax(1) == target
    changed = (x_adv != x).flatten(1).sum(1)
    success = reached & (changed <= k)
    return {
        "success": 100 * success.float().mean().item(),
        "changed": changed[success].float().mean().item(),
        "over budget": int((changed > k).sum()),
    }


def compare(model: nn.Module, x: Tensor, y: Tensor, given: argparse.Namespace, names: list[str]) -> list[dict]:
    """One row for each contestant: time in floors and per image, success, samples."""
    target, k, batch = (y + 1) % 10, given.budget, given.batch
    asked = rows_per_step(model, x, target, k, batch)
    few = slice(given.single_images)

    def ours(model: nn.Module) -> Callable[[], Tensor]:
        return lambda: advlib.jsma(model, x, target, advlib.L0(k), targeted=True, batch_size=batch)

    attacks: dict[str, Callable[[nn.Module], Callable[[], Tensor]]] = {"advlib": ours}
    if "torchattacks" in names:
        attacks["torchattacks"] = lambda model: peers.torchattacks_jsma(model, x[few], target[few], k)
    if "ART" in names:
        attacks["ART"] = lambda model: peers.art_jsma(model, x, target, k, batch)
        attacks["ART, one by one"] = lambda model: peers.art_jsma(model, x[few], target[few], k, 1)
    replay = functools.partial(floor, model, x, target, asked, k // 2)
    calls: dict[str, Callable[[], object]] = dict.fromkeys(FLOORS, replay)
    calls |= {name: attack(model) for name, attack in attacks.items()}
    rounds = {name: given.rounds if name in (*FLOORS, "advlib") else given.peer_rounds for name in calls}
    seconds = common.interleaved(calls, rounds, title="JSMA")
    ratio = common.ratios(seconds, FLOORS)

    whole = ours(model)()
    each = common.spread(seconds["advlib"])[0] / len(x)
    rows = []
    for name in calls:
        row: dict[str, object] = {"attack": name, "images": len(x), "rounds": len(seconds[name])}
        if name in (*FLOORS, "advlib"):
            row |= dict(zip(("x floor", "20 %", "80 %"), common.spread(ratio[name]), strict=True))
        if name in attacks:
            counted = Counted(model).eval()
            attack = attacks[name](counted)
            counted.forwards = counted.backwards = 0
            x_adv = attack()
            part = row["images"] = len(x_adv)
            row |= outcome(model, x[:part], x_adv, target[:part], k)
            row["advlib there"] = outcome(model, x[:part], whole[:part], target[:part], k)["success"]
            row |= {"forwards": counted.forwards / part, "backwards": counted.backwards / part}
        own = common.spread(seconds[name])[0] / row["images"]
        rows.append(row | {"ms per image": 1000 * own, "x advlib": own / each})
    return rows


def costs(given: argparse.Namespace) -> list[dict[str, object]]:
    """Time in floors where passes are dearer, a ResNet-18 with random weights, with few classes and with many."""
    rows = []
    for classes in (10, 1000):
        torch.manual_seed(0)
        model, x = common.ResNet18(classes).eval(), torch.rand(16, 3, 32, 32)
        with torch.no_grad():
            target = model(x).argmin(1)  # the least likely class, so that few rows stop early
        asked = rows_per_step(model, x, target, 20, len(x))
        calls: dict[str, Callable[[], object]] = dict.fromkeys(
            FLOORS, functools.partial(floor, model, x, target, asked, 10)
        )
        calls["advlib"] = functools.partial(advlib.jsma, model, x, target, advlib.L0(20), targeted=True)
        seconds = common.interleaved(calls, dict.fromkeys(calls, given.resnet_rounds), title="JSMA, ResNet-18")
        ratio = common.ratios(seconds, FLOORS)
        for name in calls:
            median, low, high = common.spread(ratio[name])
            row = {"network": f"ResNet-18, {classes} classes", "attack": name, "x floor": median}
            rows.append(row | {"20 %": low, "80 %": high, "rounds": given.resnet_rounds})
    return rows


def saturation(model: nn.Module, x: Tensor, target: Tensor, k: int) -> list[dict[str, object]]:
    """Success by the share of the bounds' width within which a feature counts as saturated."""
    attack, rows = importlib.import_module("advlib.attacks.jsma"), []
    chosen = attack._SATURATED
    for share in (0.0, 0.01, 0.02, 0.05, 0.1, 0.2):
        attack._SATURATED = share
        x_adv = advlib.jsma(model, x, target, advlib.L0(k), targeted=True)
        rows.append({"share": share, "images": len(x), **outcome(model, x, x_adv, target, k)})
    attack._SATURATED = chosen
    return rows


# -- 3x224x224 and 1,000 classes --------------------------------------------------------------------------------


def large(rows: int, steps: int, threads: int) -> dict[str, object]:
    """The memory that a process needs above what it held before, for some rows of 150,528 features."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 32, 7, 4, 3),
        nn.ReLU(),
        nn.Conv2d(32, 64, 3, 2, 1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(7),
        nn.Flatten(),
        nn.Linear(64 * 49, 1000),
    ).eval()
    x = torch.rand(rows, 3, 224, 224)
    with torch.no_grad():
        order = model(x).argsort(1)
    target = order[:, 0]  # the least likely class, so that no row stops early
    model(x[:1].requires_grad_()).sum().backward()  # the libraries' own buffers, before the count begins
    before = _resident("VmRSS")
    pathlib.Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    counted = Counted(model).eval()
    call = functools.partial(advlib.jsma, counted, x.detach(), target, advlib.L0(2 * steps), targeted=True)
    seconds = common.timed(call)
    return {
        "rows": rows,
        "features": x[0].numel(),
        "classes": 1000,
        "steps": steps,
        "seconds": seconds,
        "forwards": counted.forwards / rows,
        "backwards": counted.backwards / rows,
        "peak MB above": (_resident("VmHWM") - before) / 1e6,
    }


def _resident(field: str) -> int:
    """Bytes that this process holds now (VmRSS), or held at most (VmHWM)."""
    status = pathlib.Path("/proc/self/status").read_text()
    return 1024 * int(re.search(rf"{field}:\s+(\d+)", status).group(1))


def large_alone(rows: int, steps: int, threads: int) -> dict[str, object]:
    """The same in a process of its own, so that no memory that was freed and kept before is used."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
        return process.submit(large, rows, steps, threads).result()


def main() -> None:
    options = common.parser(__doc__.splitlines()[0], "jsma.json")
    common.add_networks(options)
    options.add_argument("--model", default="mnist_convsmall_eran", help="a network of --zoo")
    options.add_argument("--images", type=int, default=200, help="images that advlib and its floor take")
    options.add_argument("--batch", type=int, default=200, help="images at once")
    options.add_argument("--single-images", type=int, default=100, help="images for attacks that take them one by one")
    options.add_argument("--budget", type=int, default=114, help="features that may change: the paper's 14.5 %% of 784")
    options.add_argument("--rounds", type=int, default=15, help="rounds of advlib and the floor")
    options.add_argument("--peer-rounds", type=int, default=3, help="of these, rounds with the other libraries")
    options.add_argument("--resnet-rounds", type=int, default=7, help="rounds of advlib and the floor on ResNet-18")
    given = options.parse_args()
    found = common.environment(given)
    if given.zoo and given.data:
        network, model = given.model, common.load(given.zoo, given.model)
        x, y = common.test_images(given.data, "mnist", 4 * given.images)
    else:
        digits = advlib.data.mnist()
        network, model = "standard, trained here", common.standard(digits)
        x, y = digits.x_test, digits.y_test
    with torch.no_grad():
        todo = model(x).argmax(1) != (y + 1) % 10
    x, y = x[todo], y[todo]
    many = slice(2 * given.images)
    shares = saturation(model, x[many], (y[many] + 1) % 10, given.budget)
    common.table("advlib's success by the share of the bounds' width that counts as saturated", shares)
    x, y = x[: given.images], y[: given.images]
    rows = compare(model, x, y, given, list(found))
    common.table(f"JSMA on {network}, theta 1, {given.budget} features, target (y + 1) % 10", rows)
    dearer = costs(given)
    common.table("JSMA where passes are dearer: 16 images 3x32x32, 20 features", dearer)
    big = [large_alone(rows, 5, given.threads) for rows in (1, 4)]
    common.table("JSMA at 3x224x224 with 1,000 classes: memory of the process above what it held before", big)
    results = {"environment": found, "network": network, "budget": given.budget, "rows": rows}
    common.save(given.out, results | {"saturation": shares, "dearer passes": dearer, "large": big})


if __name__ == "__main__":
    main()
