"""What acceleration is worth: attacks on CUDA beside the floor, compiled or not, and beside other libraries.

The floor of a K-step attack is K forward passes and K backward passes to the inputs alone, in a bare loop. Contestants
take turns, one of each per round in a shuffled order, with the device waited for before and after each, and every time
is divided by the mean of the two floors of its own round. Weights are random, which is enough for time; with trained
networks (--zoo, --data) the script also says what the accelerated searches find.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import functools
import pathlib
from collections.abc import Callable

import common
import jsma
import peers
import torch
from common import Case
from networks import ResNet50, VisionTransformer, WideResNet
from overhead import FLOORS, bare, floor, peak, resnet18, small
from torch import Tensor, nn
from torch.nn import functional

import advlib
from advlib.replay import capture

STEPS = 40
BUDGET = 112  # features that JSMA may change
SEEDS = 3
TRAINED = (
    ("mnist_cnn_a_adv", "mnist", 0.3),
    ("cifar10_cnn_a_adv", "cifar10", 8 / 255),
    ("cifar10_resnet2b", "cifar10", 2 / 255),
)
WAYS: dict[str, dict[str, object]] = {
    "graphs": {"fold": False, "channels_last": False},
    "graphs, compiled": {"fold": False, "channels_last": False, "compiled": True},
    "graphs, folded": {"channels_last": False},
    "graphs, folded, channels last": {},
    "the same, tf32": {"precision": "tf32"},
    "the same, bf16": {"precision": "bf16"},
}


def random_case(name: str, network: Callable[[], nn.Module], batch: int, side: int, device: str) -> Case:
    """A network in evaluation mode, images, and what it says of them."""
    torch.manual_seed(0)
    model = network().to(device)
    x = torch.rand(batch, 3, side, side, device=device)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():
        model.train()(x[: min(batch, 16)])  # statistics, so that activations have an ordinary size
        y = model.eval()(x).argmax(1)
    return Case(f"{name}, batch {batch}", model, x, y, 8 / 255 if side == 32 else 4 / 255)


CASES: dict[str, Callable[[str], Case]] = {
    "small-256": functools.partial(small, 256),
    "small-2048": functools.partial(small, 2048),
    "resnet18": functools.partial(resnet18, 512),
    "wrn": functools.partial(random_case, "WideResNet-28-10", WideResNet, 256, 32),
    "resnet50": functools.partial(random_case, "ResNet-50", ResNet50, 64, 224),
    "vit": functools.partial(random_case, "ViT-B/16", VisionTransformer, 64, 224),
    "tiny": functools.partial(small, 8),  # to try the script where there is no GPU
}


def recorded_floor(case: Case) -> Callable[[], None]:
    """One step of the floor as a CUDA graph."""

    def step(static: list[Tensor]) -> list[Tensor]:
        with torch.enable_grad():
            x = static[0].detach().requires_grad_()
            loss = functional.cross_entropy(case.model(x), case.y, reduction="sum")
        (gradient,) = torch.autograd.grad(loss, x)
        return [gradient]

    with torch.no_grad():
        replay = capture(step, [case.x.clone()])

    def run() -> None:
        for _ in range(STEPS):
            replay()

    return run


def accelerated(acceleration: advlib.acceleration.Acceleration | None, attack: Callable[[], Tensor]) -> Tensor:
    with acceleration or contextlib.nullcontext():
        return attack()


def ways() -> dict[str, advlib.acceleration.Acceleration | None]:
    return {"eager": None} | {name: advlib.accelerate(**settings) for name, settings in WAYS.items()}


def contestants(case: Case, device: str, compiled: bool, others: list[str]) -> dict[str, Callable[[], object]]:
    """Everything that is compared on one network."""
    _, model, x, y, eps = case
    calls: dict[str, Callable[[], object]] = {name: functools.partial(floor, model, x, y, STEPS) for name in FLOORS}
    calls["a loop by hand"] = functools.partial(bare, model, x, y, eps, eps / 4, STEPS)
    if device == "cuda":
        calls["floor, recorded"] = recorded_floor(case)
    if compiled:
        calls["floor, compiled"] = functools.partial(floor, torch.compile(model), x, y, STEPS)
    for norm, threat in (("Linf", advlib.Linf(eps)), ("L2", advlib.L2(eps * x[0].numel() ** 0.5 / 2))):
        attack = functools.partial(advlib.pgd, model, x, y, threat, steps=STEPS, step_size=threat.eps / 4)
        for way, acceleration in ways().items():
            calls[f"PGD {norm}, {way}"] = functools.partial(accelerated, acceleration, attack)
    attack = functools.partial(advlib.apgd, model, x, y, advlib.Linf(eps), steps=100)
    for way, acceleration in list(ways().items())[:2]:
        calls[f"APGD-100 Linf, {way}"] = functools.partial(accelerated, acceleration, attack)
    for name in others:
        calls[f"PGD Linf, {name}"] = peers.PGD[name](model, x, y, eps, eps / 4, STEPS)
    return calls


def saliency(case: Case, device: str, rounds: int, others: bool) -> list[dict[str, object]]:
    """JSMA towards the next class, beside its own floor: the passes of the rows still running in each step."""
    _, model, x, y, _ = case
    target = (y + 1) % 10
    asked = jsma.rows_per_step(model, x, target, BUDGET, len(x))
    passes = functools.partial(jsma.floor, model, x, target, asked, BUDGET // 2)
    calls: dict[str, Callable[[], object]] = dict.fromkeys(FLOORS, passes)
    attack = functools.partial(advlib.jsma, model, x, target, advlib.L0(BUDGET), targeted=True)
    for way in ("eager", "graphs"):
        calls[f"JSMA, {way}"] = functools.partial(accelerated, ways()[way], attack)
    if others:
        calls["JSMA, torchattacks, a tenth"] = peers.torchattacks_jsma(model, x[::10], target[::10], BUDGET)
    return timings(case, calls, rounds, device)


def timings(case: Case, calls: dict[str, Callable[[], object]], rounds: int, device: str) -> list[dict[str, object]]:
    """One row for each contestant: ratio to the floor with quantiles, seconds, memory."""
    seconds = common.interleaved(calls, dict.fromkeys(calls, rounds), device, case.name)
    ratio = common.ratios(seconds, FLOORS)
    size = case.x.numel() * case.x.element_size()
    rows = []
    for name, call in calls.items():
        row: dict[str, object] = {"network": case.name, "attack": name, "rounds": rounds}
        row |= dict(zip(("x floor", "20 %", "80 %"), common.spread(ratio[name]), strict=True))
        row["seconds"] = common.spread(seconds[name])[0]
        if device == "cuda":
            row["peak / x"] = peak(call, device) / size
        rows.append(row)
    return rows


def found(given: argparse.Namespace) -> list[dict[str, object]]:
    """Robust accuracy on trained networks by PGD-40, eager and accelerated, and the time of that one call."""
    rows = []
    for name, data, eps in TRAINED:
        model = common.load(given.zoo, name).to(given.device)
        x, y = (part.to(given.device) for part in common.test_images(given.data, data, given.images))
        for way, acceleration in ways().items():
            for seed in range(SEEDS):
                generator = torch.Generator().manual_seed(seed)
                attack = functools.partial(
                    advlib.pgd, model, x, y, advlib.Linf(eps), steps=STEPS, generator=generator, batch_size=250
                )
                points: list[Tensor] = []
                seconds = common.timed(
                    lambda a=acceleration, f=attack, p=points: p.append(accelerated(a, f)), given.device
                )
                with torch.no_grad():
                    parts = zip(points[0].split(250), y.split(250), strict=True)
                    robust = torch.cat([model(part).argmax(1) == labels for part, labels in parts])
                row: dict[str, object] = {"network": name, "eps": eps, "way": way, "seed": seed}
                row |= {"robust accuracy": 100 * robust.float().mean().item(), "seconds": seconds}
                rows.append(row | {"said": "; ".join(acceleration.reasons) if acceleration else ""})
    return rows


def write_csv(path: pathlib.Path, environment: dict[str, object], rows: list[dict[str, object]]) -> None:
    """Every row with the device and the versions it was measured with."""
    kept = {key: environment[key] for key in ("gpu", "cpu", "advlib", "torch", "python") if key in environment}
    columns = list(dict.fromkeys(key for row in rows for key in row))
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, [*kept, *columns])
        writer.writeheader()
        writer.writerows([kept | row for row in rows])


def main() -> None:
    options = common.parser(__doc__.splitlines()[0], "gpu.json")
    common.add_networks(options)
    options.add_argument("--device", choices=("cpu", "cuda"), default="cuda")
    options.add_argument("--cases", nargs="*", choices=list(CASES), default=[name for name in CASES if name != "tiny"])
    options.add_argument("--rounds", type=int, default=15, help="rounds on the small network; a third on the others")
    options.add_argument("--no-compile", action="store_true", help="leave the compiled floor out")
    options.add_argument("--images", type=int, default=1000, help="test images on each trained network")
    given = options.parse_args()
    device = given.device
    environment = common.environment(given, device)
    others = [name for name in peers.PGD if name in environment]
    rows: list[dict[str, object]] = []
    for name in given.cases:
        case = CASES[name](device)
        rounds = given.rounds if "small" in name else max(given.rounds // 3, 1)
        part = timings(case, contestants(case, device, not given.no_compile, others), rounds, device)
        if case.x.shape[1] == 1:
            part += saliency(case, device, max(given.rounds // 3, 1), "torchattacks" in others)
        common.table(case.name, [{k: v for k, v in row.items() if k != "network"} for row in part])
        rows += part
        del case
    results: dict[str, object] = {"environment": environment, "steps": STEPS, "time": rows}
    if given.zoo and given.data:
        results["found"] = judged = found(given)
        common.table(f"Robust accuracy by PGD-{STEPS} on {given.images} images", judged)
    common.save(given.out, results)
    if rows:
        write_csv(given.out.with_suffix(".csv"), environment, rows)


if __name__ == "__main__":
    main()
