"""What PGD-40 costs beside the least it can cost, in advlib and in other libraries.

The floor of a K-step attack is K forward passes and K backward passes to the inputs alone: a bare loop of the two,
nothing else. Contestants take turns, one of each per round in a shuffled order, and every time is divided by the
mean of the two floors of its own round, so that a machine that slows down slows all alike. The floor runs twice to
show how much of a ratio is noise.
"""

from __future__ import annotations

import copy
import functools
import gc
from collections.abc import Callable

import common
import peers
import torch
from common import Case
from torch import Tensor, nn
from torch.nn import functional

import advlib
import advlib.zoo
from advlib.models import Counted

STEPS = 40
PROFILED_STEPS = 4  # the peak of one step is that of all
FLOORS = ("floor", "floor again")
BARE = "a loop by hand"
KEEPS = {"last": "advlib, last", "strongest": "advlib, strongest"}


def floor(model: nn.Module, x: Tensor, y: Tensor, steps: int) -> Tensor:
    """What no gradient attack can do without: forward, and backward to the input, ``steps`` times."""
    for _ in range(steps):
        x = x.detach().requires_grad_()
        loss = functional.cross_entropy(model(x), y, reduction="sum")
        (gradient,) = torch.autograd.grad(loss, x)
    return gradient


def bare(model: nn.Module, x: Tensor, y: Tensor, eps: float, step_size: float, steps: int) -> Tensor:
    """PGD and nothing else: no best point, no check of anything. What a short loop by hand costs."""
    low, high = (x - eps).clamp(0, 1), (x + eps).clamp(0, 1)
    x_adv = (x + eps * (2 * torch.rand_like(x) - 1)).clamp(low, high)
    for _ in range(steps):
        x_adv.requires_grad_()
        loss = functional.cross_entropy(model(x_adv), y, reduction="sum")
        (gradient,) = torch.autograd.grad(loss, x_adv)
        x_adv = torch.clamp(x_adv.detach() + step_size * gradient.sign(), low, high)
    return x_adv


def contestants(case: Case, names: list[str], steps: int = STEPS) -> dict[str, Callable[[], Tensor]]:
    """Everything that is compared on one network, with one step size: a quarter of eps."""
    _, model, x, y, eps = case
    step_size = eps / 4
    calls: dict[str, Callable[[], Tensor]] = {name: functools.partial(floor, model, x, y, steps) for name in FLOORS}
    calls[BARE] = functools.partial(bare, model, x, y, eps, step_size, steps)
    for keep, name in KEEPS.items():
        calls[name] = functools.partial(
            advlib.pgd, model, x, y, advlib.Linf(eps), steps=steps, step_size=step_size, keep=keep
        )
    for name in names:
        calls[name] = peers.PGD[name](model, x, y, eps, step_size, steps)
    return calls


# -- the two networks -------------------------------------------------------------------------------------------


def small(batch: int, device: str) -> Case:
    torch.manual_seed(0)
    x, y = torch.rand(batch, 1, 28, 28), torch.randint(10, (batch,))
    model = advlib.zoo.small_cnn().eval()
    return Case(f"small network, batch {batch}", model.to(device), x.to(device), y.to(device), 0.3)


def resnet18(batch: int, device: str) -> Case:
    torch.manual_seed(0)
    x, y = torch.rand(batch, 3, 32, 32), torch.randint(10, (batch,))
    model = common.ResNet18()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    model(x)  # gives BatchNorm the statistics of these images, so that activations have an ordinary size
    model.eval().to(device)
    return Case(f"ResNet-18, batch {batch}", model, x.to(device), y.to(device), 8 / 255)


# -- what is counted --------------------------------------------------------------------------------------------


def counts(case: Case, names: list[str]) -> dict[str, dict[str, object]]:
    """Forward and backward samples per example, and whether weight gradients were computed, outside the clock."""
    counted = Counted(copy.deepcopy(case.model)).eval()
    found: dict[str, dict[str, object]] = {}
    for name, call in contestants(case._replace(model=counted), names).items():
        counted.forwards = counted.backwards = 0
        forget_gradients(counted)
        call()
        found[name] = {
            "forwards": counted.forwards / len(case.x),
            "backwards": counted.backwards / len(case.x),
            "weight gradients": "yes" if any(p.grad is not None for p in counted.parameters()) else "no",
        }
    return found


def forget_gradients(model: nn.Module) -> None:
    for parameter in model.parameters():
        parameter.grad = None


def peak(call: Callable[[], object], device: str) -> int:
    """Most bytes of tensors alive at once during a call, above those alive before it."""
    gc.collect()
    if device == "cuda":
        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        call()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        call()
    events = [event for event in profile.profiler.kineto_results.events() if event.name() == "[memory]"]
    held = highest = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        held += event.nbytes()
        highest = max(highest, held)
    return highest


def peaks(case: Case, names: list[str], device: str) -> dict[str, float]:
    """Peak memory of a few steps, in tensors of the size of x. Arrays outside torch, such as ART's, are not seen."""
    size = case.x.numel() * case.x.element_size()
    found = {}
    for name, call in contestants(case, names, PROFILED_STEPS).items():
        call()
        forget_gradients(case.model)
        found[name] = peak(call, device) / size
    return found


# -- early exit -------------------------------------------------------------------------------------------------


def early_exit(case: Case, rounds: int, device: str) -> list[dict[str, object]]:
    """keep="first" beside "strongest" on a trained network: what stopping at the first success saves."""
    title, model, x, y, eps = case

    def attack(model: nn.Module, keep: str) -> Tensor:
        generator = torch.Generator().manual_seed(0)
        return advlib.pgd(model, x, y, advlib.Linf(eps), steps=STEPS, keep=keep, generator=generator)

    calls = {name: functools.partial(floor, model, x, y, STEPS) for name in FLOORS}
    calls |= {keep: functools.partial(attack, model, keep) for keep in ("strongest", "first")}
    seconds = common.interleaved(calls, dict.fromkeys(calls, rounds), device, title)
    ratio = common.ratios(seconds, FLOORS)
    rows = []
    for keep in ("strongest", "first"):
        counted = Counted(model)
        x_adv = attack(counted, keep)
        with torch.no_grad():
            robust = (model(x_adv).argmax(1) == y).float().mean().item()
        median, low, high = common.spread(ratio[keep])
        rows.append(
            {
                "network": title,
                "eps": eps,
                "keep": keep,
                "robust accuracy": 100 * robust,
                "x floor": median,
                "20 %": low,
                "80 %": high,
                "forwards": counted.forwards / len(x),
                "backwards": counted.backwards / len(x),
            }
        )
    return rows


# -- the run ----------------------------------------------------------------------------------------------------


def measure(case: Case, names: list[str], rounds: dict[str, int], device: str) -> list[dict[str, object]]:
    """One row for each contestant: ratio to the floor with quantiles, samples, weight gradients, memory."""
    calls = contestants(case, names)
    clear = functools.partial(forget_gradients, case.model)
    seconds = common.interleaved(calls, rounds, device, case.name, clear)
    ratio, asked, memory = common.ratios(seconds, FLOORS), counts(case, names), peaks(case, names, device)
    rows = []
    for name in calls:
        median, low, high = common.spread(ratio[name])
        rows.append(
            {
                "attack": name,
                "x floor": median,
                "20 %": low,
                "80 %": high,
                "rounds": len(seconds[name]),
                "seconds": common.spread(seconds[name])[0],
                **asked[name],
                "peak / x": memory[name],
                "over floor": memory[name] - memory["floor"],
            }
        )
    return rows


def main() -> None:
    options = common.parser(__doc__.splitlines()[0], "overhead.json")
    common.add_networks(options)
    options.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    options.add_argument("--rounds", type=int, default=25, help="rounds on the small network")
    options.add_argument("--resnet-rounds", type=int, default=15, help="rounds on the ResNet-18; 0 leaves it out")
    options.add_argument("--resnet-peer-rounds", type=int, default=5, help="of these, rounds with the other libraries")
    options.add_argument("--batch", type=int, default=256, help="batch on the small network")
    options.add_argument("--resnet-batch", type=int, default=16, help="batch on the ResNet-18")
    given = options.parse_args()
    device = given.device
    found = common.environment(given, device)
    names = [name for name in peers.PGD if name in found]
    results: dict[str, object] = {"environment": found, "steps": STEPS}

    cases = [(small(given.batch, device), given.rounds, given.rounds)]
    if given.resnet_rounds:
        cases.append((resnet18(given.resnet_batch, device), given.resnet_rounds, given.resnet_peer_rounds))
    for case, own, theirs in cases:
        rounds = dict.fromkeys([*FLOORS, BARE, *KEEPS.values()], own) | dict.fromkeys(names, theirs)
        results[case.name] = rows = measure(case, names, rounds, device)
        common.table(f"PGD-{STEPS}, {case.name}: time in floors, samples per example, memory in tensors like x", rows)

    try:
        trained = common.standard_and_robust(given.zoo, given.data, given.batch, device)
    except ModuleNotFoundError as missing:
        print(f"\nno trained networks, so early exit is left out: {missing}")
    else:
        results["early exit"] = rows = [row for case in trained for row in early_exit(case, given.rounds, device)]
        common.table(f"PGD-{STEPS} from a random start, default step: keep='first' stops rows that succeeded", rows)
    common.save(given.out, results)


if __name__ == "__main__":
    main()
