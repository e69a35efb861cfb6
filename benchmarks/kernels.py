"""What the Triton kernels save on a GPU, beside the same arithmetic in torch, plain and under torch.compile.

Contestants take turns, one of each per round in a shuffled order, timed by CUDA events, alone and replayed from a CUDA
graph. A kernel belongs in ``advlib.kernels.dispatch.MEASURED`` once it beats the compiled reference at the sizes that
matter. On a CPU there is nothing to measure: every row runs once, tiny, in Triton's interpreter, and is compared.
"""

from __future__ import annotations

import csv
import os
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import NamedTuple

import common
import torch
from torch import Tensor
from tqdm import tqdm

from advlib import L1, L2, Linf
from advlib.attacks.mim import accumulated
from advlib.kernels.bookkeeping import extrapolate, keep_better
from advlib.kernels.pairs import best_pair
from advlib.losses import Loss, dlr, margin, probability_margin
from advlib.noise import Key, Noise

CALLS = 20  # between two events, whose clock ticks in half microseconds
CONTESTANTS = ("torch", "compiled", "triton")


class Row(NamedTuple):
    """One kernel."""

    make: Callable[..., Callable[[], object]]  # takes a size and a device, and gives what is timed
    sizes: tuple[tuple[int, ...], ...]
    tiny: tuple[int, ...] = (2, 5)
    captured: bool = True  # whether the reference can be captured in a CUDA graph
    whole: bool = True  # whether torch.compile makes one graph of it


# -- what is timed ----------------------------------------------------------------------------------------------


def images(size: tuple[int, ...], device: str) -> tuple[Tensor, Tensor, Tensor]:
    """Clean inputs, points near them, and gradients."""
    x, noise, grad = (torch.rand(size, generator=torch.Generator().manual_seed(i)).to(device) for i in range(3))
    return x, torch.clamp(x + 0.1 * (noise - 0.5), 0, 1), grad - 0.5


def step(threat: Linf | L2) -> Callable[..., Callable[[], object]]:
    def make(size: tuple[int, ...], device: str) -> Callable[[], object]:
        x, x_adv, grad = images(size, device)
        bound, length = threat.at(x), torch.full(size[:1], 0.02, device=device)
        return lambda: bound.step(x_adv, grad, length, x)

    return make


def l2_project(size: tuple[int, ...], device: str) -> Callable[[], object]:
    x, x_adv, _ = images(size, device)
    bound = L2(0.5).at(x)
    return lambda: bound.project(x_adv, x)


def momentum(size: tuple[int, ...], device: str) -> Callable[[], object]:
    before, _, grad = images(size, device)
    return lambda: accumulated(before, grad, 1.0)


def uniform(size: tuple[int, ...], device: str) -> Callable[[], object]:
    noise = Noise(Key(torch.Generator().manual_seed(0)), torch.arange(size[0], device=device), step=1)
    like = torch.zeros(size, device=device)
    noise.uniform(like)  # draws the key, which no graph holds
    return lambda: noise.uniform(like)


def l1_project(size: tuple[int, ...], device: str) -> Callable[[], object]:
    x, _, grad = images(size, device)
    bound = L1(12.0).at(x)
    far = x + grad  # where a step may lead
    return lambda: bound.project(far, x)


def loss(function: Loss, targeted: bool = False) -> Callable[..., Callable[[], object]]:
    """A loss and its gradient with respect to the logits."""

    def make(size: tuple[int, ...], device: str) -> Callable[[], object]:
        logits = 5 * torch.randn(size, generator=torch.Generator().manual_seed(0)).to(device)
        logits.requires_grad_()
        y = torch.arange(size[0], device=device) % size[1]
        target = (y + 1) % size[1] if targeted else None
        ones = torch.ones(size[0], device=device)
        return lambda: torch.autograd.grad(function(logits, y, target), logits, ones)[0]

    return make


def pairs(size: tuple[int, ...], device: str, opposed: float) -> Callable[[], object]:
    """Gradients of which the second is partly the first reversed: few lists settle a row where it is so nearly."""
    _, b, a = images(size, device)
    b = (1 - opposed) * (b - 0.5) - opposed * a
    return lambda: best_pair(a, b).score


def keeping(size: tuple[int, ...], device: str) -> Callable[[], object]:
    x, x_adv, grad = images(size, device)
    better = torch.arange(size[0], device=device) % 2 == 0
    return lambda: keep_better(better, (x_adv, grad), (x, x))


def extrapolation(size: tuple[int, ...], device: str) -> Callable[[], object]:
    x, x_adv, grad = images(size, device)
    share = torch.full(size[:1], 0.25, device=device)
    return lambda: extrapolate(grad, x, x_adv, share)


LOGITS = ((256, 10), (256, 1000), (4096, 1000))
FEATURES = ((100, 784), (100, 3072))
PIXELS = ((256, 784), (256, 3072), (64, 150528))
ROWS = {
    "linf_step": Row(step(Linf(8 / 255)), PIXELS),
    "l2_step": Row(step(L2(0.5)), PIXELS),
    "l2_project": Row(l2_project, PIXELS),
    "momentum": Row(momentum, PIXELS),
    "uniform": Row(uniform, PIXELS),
    "l1_project": Row(l1_project, PIXELS),
    "keep_better": Row(keeping, PIXELS),
    "extrapolate": Row(extrapolation, PIXELS),
    "margin": Row(loss(margin), LOGITS, whole=False),
    "margin_targeted": Row(loss(margin, targeted=True), LOGITS, whole=False),
    "probability_margin": Row(loss(probability_margin), LOGITS, whole=False),
    "dlr": Row(loss(dlr), LOGITS, whole=False),
    "dlr_targeted": Row(loss(dlr, targeted=True), LOGITS, whole=False),
    "best_pair": Row(partial(pairs, opposed=0.0), FEATURES, captured=False, whole=False),
    "best_pair_opposed": Row(partial(pairs, opposed=0.99), FEATURES, captured=False, whole=False),
}

# -- how --------------------------------------------------------------------------------------------------------


@contextmanager
def kernels(choice: str) -> Iterator[None]:
    """Chooses torch or Triton."""
    before = os.environ.get("ADVLIB_KERNELS", "auto")
    os.environ["ADVLIB_KERNELS"] = choice
    try:
        yield
    finally:
        os.environ["ADVLIB_KERNELS"] = before


def compare(row: Row, size: tuple[int, ...], device: str) -> None:
    """Raises an error where torch and Triton differ by more than rounding."""
    call = row.make(size, device)
    found = []
    for choice in ("torch", "triton"):
        with kernels(choice):
            found.append(call())
    torch.testing.assert_close(found[1], found[0], rtol=1e-5, atol=1e-5)


def replayed(call: Callable[[], object]) -> Callable[[], object]:
    """The same from a CUDA graph."""
    aside = torch.cuda.Stream()
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):
        for _ in range(3):
            call()
    torch.cuda.current_stream().wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        call()
    return graph.replay


def microseconds(call: Callable[[], object]) -> float:
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    for _ in range(CALLS):
        call()
    end.record()
    end.synchronize()
    return 1000 * start.elapsed_time(end) / CALLS


def measure(name: str, size: tuple[int, ...], rounds: int) -> list[dict[str, object]]:
    """A line for each contestant, plain and replayed, and which of them is the fastest."""
    row = ROWS[name]
    calls: dict[tuple[str, str], Callable[[], object]] = {}
    for contestant in CONTESTANTS:
        call = row.make(size, "cuda")
        if contestant == "compiled":
            call = torch.compile(call, fullgraph=row.whole)
        calls["plain", contestant] = call
        if row.captured or contestant == "triton":
            with kernels("triton" if contestant == "triton" else "torch"):
                calls["graph", contestant] = replayed(call)
    times: dict[tuple[str, str], list[float]] = {key: [] for key in calls}
    shuffle = random.Random(0)
    for number in range(-1, rounds):
        for key in shuffle.sample(list(calls), len(calls)):
            with kernels("triton" if key[1] == "triton" else "torch"):
                elapsed = microseconds(calls[key])
            if number >= 0:  # the first round warms up
                times[key].append(elapsed)
    lines = []
    for how in ("plain", "graph"):
        middle = {who: common.spread(times[h, who]) for h, who in times if h == how}
        fastest = min(middle, key=lambda who: middle[who][0])
        for who, (median, low, high) in middle.items():
            line = {"kernel": name, "size": "x".join(map(str, size)), "how": how, "who": who, "us": median}
            lines.append({**line, "20 %": low, "80 %": high, "fastest": "*" if who == fastest else ""})
    return lines


def main() -> None:
    options = common.parser(__doc__.splitlines()[0], "kernels.csv")
    options.add_argument("kernels", nargs="*", help="which; all by default")
    options.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    options.add_argument("--rounds", type=int, default=50)
    given = options.parse_args()
    names = given.kernels or list(ROWS)
    if given.device == "cpu":
        os.environ["TRITON_INTERPRET"] = "1"  # before triton is imported
        for name in names:
            compare(ROWS[name], ROWS[name].tiny, "cpu")
        print(f"torch and Triton agree: {', '.join(names)}. There is nothing to time without --device cuda.")
        return
    found = common.environment(given, "cuda")
    import triton

    lines: list[dict[str, object]] = []
    cases = [(name, size) for name in names for size in ROWS[name].sizes]
    for name, size in tqdm(cases, disable=None):
        compare(ROWS[name], size, "cuda")
        lines += measure(name, size, given.rounds)
    common.table("Microseconds a call, * the fastest", lines)
    versions = {"gpu": found["gpu"], "torch": torch.__version__, "triton": triton.__version__, "rounds": given.rounds}
    given.out.parent.mkdir(parents=True, exist_ok=True)
    with given.out.open("w", newline="") as file:
        writer = csv.DictWriter(file, [*lines[0], *versions])
        writer.writeheader()
        writer.writerows({**line, **versions} for line in lines)
    print(f"\nwritten to {given.out}")


if __name__ == "__main__":
    main()
