"""What a gradient costs in minimum-norm attacks, in advlib and in adv-lib.

The libraries take turns, one of each per round in a shuffled order, and each runs the same algorithm with the same
number of passes on the same images, all of which the network gets right. A time is the processor's, over the backward
passes that the attack asked for; a ratio is that of advlib's time to adv-lib's in the same round. Attacks that end
early ask for fewer gradients a row, and for some of them in small batches, where each is dearer.

    python benchmarks/minimum_norm_time.py --zoo MODELS --data DATA --threads 1 --steady-memory
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import common
import minimum_norm
import numpy as np
import torch
from minimum_norm import NETWORKS, NORMS, Run, adv_lib, ours
from torch import Tensor, nn

import advlib
from advlib.models import Counted

PASSES = 100
ONCE = {"steps": PASSES - 1}
CW = {"max_iterations": PASSES, "learning_rate": 0.05, "abort_early": False}
CW_LINF = {"max_iterations": 20, "learning_rate": 0.05, "initial_const": 0.1, "reduce_const": True}
PAIRS: dict[str, tuple[tuple[str, ...], Run, Run]] = {  # norms, advlib's, adv-lib's
    "deepfool": (("linf", "l2"), ours(advlib.deepfool, steps=100), adv_lib("df", steps=100)),
    "ddn": (("l2",), ours(advlib.ddn, **ONCE), adv_lib("ddn", takes_norm=False, steps=PASSES, levels=None)),
    "fmn": (("linf", "l2", "l1", "l0"), ours(advlib.fmn, **ONCE), adv_lib("fmn", steps=PASSES)),
    "fab": (
        ("linf", "l2", "l1"),
        ours(advlib.fab, steps=11, targets=9),
        adv_lib("fab", n_iter=5, targeted_restarts=True),
    ),
    "pdpgd": (("linf", "l2", "l1"), ours(advlib.pdpgd, **ONCE), adv_lib("pdpgd", num_steps=PASSES)),
    "pdpgd, L0": (("l0",), ours(advlib.pdpgd, **ONCE), adv_lib("pdpgd", num_steps=PASSES, proximal_operator=23)),
    "carlini_wagner": (
        ("l2",),
        ours(advlib.carlini_wagner, **ONCE),
        adv_lib("carlini_wagner_l2", takes_norm=False, binary_search_steps=1, initial_const=1.0, **CW),
    ),
    "carlini_wagner, Linf": (
        ("linf",),
        ours(advlib.carlini_wagner, **ONCE),
        adv_lib("carlini_wagner_linf", takes_norm=False, **CW_LINF),
    ),
    "sigma_zero": (("l0",), ours(advlib.sigma_zero, **ONCE), adv_lib("sigma_zero", takes_norm=False, num_steps=PASSES)),
}


def timed(run: Run, model: nn.Module, x: Tensor, y: Tensor, norm: str) -> tuple[float, int]:
    """Milliseconds of processor time, and backward passes, both over all rows."""
    counted = Counted(model).eval()
    torch.manual_seed(0)
    start = time.process_time()
    run(counted, x, y, norm)
    return 1000 * (time.process_time() - start), counted.backwards


def measured(pair: tuple[Run, Run], model: nn.Module, x: Tensor, y: Tensor, norm: str, rounds: int) -> dict[str, Any]:
    """What each library's gradients cost in each round, and how many of them a row takes."""
    found: dict[str, list[tuple[float, int]]] = {"advlib": [], "adv-lib": []}

    def contestant(name: str, run: Run) -> Callable[[], None]:
        return lambda: found[name].append(timed(run, model, x, y, norm))

    calls = {name: contestant(name, run) for name, run in zip(found, pair, strict=True)}
    common.interleaved(calls, dict.fromkeys(calls, rounds), title=norm)
    counted = {name: values[1:] for name, values in found.items()}  # the first warms up
    return {
        "ms per gradient": {name: [taken / count for taken, count in values] for name, values in counted.items()},
        "gradients": {name: values[0][1] / len(x) for name, values in counted.items()},
    }


def row(line: dict[str, object]) -> dict[str, object]:
    seconds = line["ms per gradient"]
    low, high = np.quantile(line["ratios"], [0.2, 0.8])
    return {name: line[name] for name in ("network", "norm", "attack")} | {
        **{name: float(np.median(values)) for name, values in seconds.items()},
        "ratio": float(np.median(line["ratios"])),
        "20 % to 80 %": f"{low:.2f} to {high:.2f}",
        "gradients a row": " and ".join(f"{count:.1f}" for count in line["gradients"].values()),
    }


def main() -> None:
    options = common.parser(__doc__.splitlines()[0], "minimum_norm_time.json")
    common.add_networks(options, required=True)
    options.add_argument("--networks", nargs="+", choices=list(NETWORKS), default=list(NETWORKS))
    options.add_argument("--norms", nargs="+", choices=list(NORMS), default=list(NORMS))
    options.add_argument("--algorithms", nargs="+", choices=list(PAIRS), default=list(PAIRS))
    options.add_argument("--rounds", type=int, default=9, help="rounds that count")
    given = options.parse_args()
    found = common.environment(given) | minimum_norm.versions()
    lines = json.loads(given.out.read_text())["lines"] if given.out.exists() else []
    for network in given.networks:
        data, images, _ = NETWORKS[network]
        model = common.load(given.zoo, network)
        x, y = common.test_images(given.data, data, 2 * images)
        right = (model(x).argmax(1) == y).nonzero().squeeze(1)[:images]  # advlib drops rows that need no attack
        x, y = x[right], y[right]
        for name in given.algorithms:
            norms, *pair = PAIRS[name]
            for norm in (norm for norm in norms if norm in given.norms):
                line = {"network": network, "norm": norm, "attack": name.split(",")[0]}
                taken = measured(tuple(pair), model, x, y, norm, given.rounds)
                ratios = [a / b for a, b in zip(*taken["ms per gradient"].values(), strict=True)]
                lines = [old for old in lines if any(old[key] != line[key] for key in line)]
                lines.append(line | taken | {"ratios": ratios})
                common.save(given.out, {"environment": found, "passes": PASSES, "lines": lines})
    common.table("Milliseconds per gradient", [row(line) for line in lines])


if __name__ == "__main__":
    main()
