"""The square attack: robust accuracy and queries beside AutoAttack's, squares after a gradient attack, and its cost.

Both attack the same images with 1,000 queries and windows of 80 % of the plane at first. Images that the network gets
wrong without any attack are not attacked, and count as errors. The reference is AutoAttack's implementation, in the
package pyautoattack. Networks trained elsewhere come from ``--zoo`` and images from ``--data``; without them,
everything runs on small networks trained here.
"""

from __future__ import annotations

import pathlib
import time
from collections.abc import Callable

import common
import numpy as np
import torch
from torch import Tensor, nn

import advlib
import advlib.zoo
from advlib.attacks.pgd import ProjectedGradient
from advlib.attacks.square import SquareSearch
from advlib.search import search
from advlib.threats import Threat

Found = tuple[float, float, float]  # robust accuracy in percent, mean queries, seconds


def ours(model: nn.Module, x: Tensor, y: Tensor, threat: Threat, queries: int, seed: int) -> tuple[Tensor, Tensor]:
    """What comes back, and the queries of each row."""
    generator, rule = torch.Generator().manual_seed(seed), SquareSearch(queries)
    options = {"steps": queries - 1, "loss": "margin", "keep": "first", "generator": generator}
    result = search(model, x, y, threat, rule, **options)
    return result.x_adv, result.forwards


def reference(model: nn.Module, x: Tensor, y: Tensor, threat: Threat, queries: int, seed: int) -> tuple[Tensor, Tensor]:
    """The same from AutoAttack's implementation."""
    from pyautoattack.square import SquareAttack

    attack = SquareAttack(
        lambda z: model(z.contiguous()),
        norm=type(threat).__name__,
        n_queries=queries,
        eps=threat.eps,
        p_init=0.8,
        device=str(x.device),
    )
    torch.manual_seed(seed)
    attack.init_hyperparam(x)
    with torch.no_grad():
        spent, x_adv = attack.attack_single_run(x.contiguous(), y)
    return x_adv, spent


def measured(
    attack: Callable[..., tuple[Tensor, Tensor]], case: common.Case, threat: Threat, queries: int, seed: int
) -> Found:
    _, model, x, y, _ = case
    with torch.no_grad():
        right = model(x).argmax(1) == y
    start = time.perf_counter()
    x_adv, spent = attack(model, x[right], y[right], threat, queries, seed)
    seconds = time.perf_counter() - start
    with torch.no_grad():
        still = (model(x_adv).argmax(1) == y[right]) | ~threat.contains(x_adv, x[right])
    return 100 * still.sum().item() / len(x), spent.double().mean().item(), seconds


def strength(case: common.Case, threat: Threat, queries: int, seeds: int) -> dict[str, object]:
    """Both attacks on one network in one norm; means over the seeds, and the single robust accuracies."""
    row: dict[str, object] = {"network": case.name, "threat": f"{type(threat).__name__}({threat.eps:.4g})"}
    single = {}
    for name, attack in (("AutoAttack", reference), ("advlib", ours)):
        found = [measured(attack, case, threat, queries, seed) for seed in range(seeds)]
        means = np.mean(found, axis=0)
        row |= {name: means[0], f"{name}, queries": means[1], f"{name}, seconds": means[2]}
        single[name] = [accuracy for accuracy, _, _ in found]
        print(f"{row['network']}, {row['threat']}, {name}: {single[name]}", flush=True)
    return row | {"seeds": single}


def after_gradients(case: common.Case, threat: Threat, queries: int, seeds: int) -> list[dict[str, object]]:
    """How many of the rows that PGD-20 leaves fall to some squares from its best point; beside another PGD run."""
    name, model, x, y, _ = case
    generator = torch.Generator().manual_seed(0)
    first = search(
        model,
        x,
        y,
        threat,
        ProjectedGradient(20, None),
        steps=20,
        loss="margin",
        random_start=True,
        generator=generator,
    )
    left = (~first.success).nonzero().squeeze(1)
    x, y, best = x[left], y[left], first.x_adv[left]

    def broken(rule: object, steps: int, **options: object) -> list[int]:
        counts = []
        for seed in range(seeds):
            options["generator"] = torch.Generator().manual_seed(seed + 1)
            result = search(model, x, y, threat, rule, steps=steps, loss="margin", keep="first", **options)
            counts.append(int(result.success.sum()))
        return counts

    rules: dict[str, tuple[object, int, dict[str, object]]] = {
        f"windows of {share:.2%}": (SquareSearch(None, share, stripes=False), queries, {"init": best})
        for share in (0.3, 0.1, 0.05, 0.03, 0.02, 0.01, 0.005, 0.00128)
    }
    rules |= {
        f"schedule from {share:.0%}": (SquareSearch(queries, share, False), queries, {"init": best})
        for share in (0.8, 0.3, 0.1)
    }
    rules["from stripes"] = SquareSearch(queries), queries, {}
    rules["PGD at as many passes"] = ProjectedGradient(queries // 2, None), queries // 2, {"random_start": True}
    rows = []
    for label, (rule, steps, options) in rules.items():
        counts = broken(rule, steps, **options)
        print(f"{name}, {label}: {counts} of {len(x)}", flush=True)
        rows.append({"network": name, "rule": label, "left": len(x), "broken": float(np.mean(counts)), "seeds": counts})
    return rows


def cost(name: str, model: nn.Module, x: Tensor, threat: Threat, queries: int, rounds: int) -> dict[str, object]:
    """Time of a run over that of as many bare forward passes; no row stops, whatever it finds."""
    with torch.no_grad():
        y = model(x).argmax(1)

    def bare() -> None:
        with torch.no_grad():
            for _ in range(queries):
                model(x)

    def attack() -> None:
        advlib.square(model, x, y, threat, steps=queries - 1, keep="strongest")

    seconds = common.interleaved({"forwards": bare, "attack": attack}, {"forwards": rounds, "attack": rounds})
    median, low, high = common.spread(common.ratios(seconds, ["forwards"])["attack"])
    text = f"{type(threat).__name__}({threat.eps:.4g})"
    forward = 1000 * float(np.median(seconds["forwards"])) / queries
    return {"network": name, "threat": text, "forward, ms": forward, "ratio": median, "20 %": low, "80 %": high}


def cases(zoo: pathlib.Path | None, data: pathlib.Path | None, count: int) -> list[tuple[common.Case, list[Threat]]]:
    """The networks and their threat models; the first is the one that is attacked with gradients before."""
    linf, l2, l1 = advlib.Linf, advlib.L2, advlib.L1
    if zoo and data:
        mnist, cifar = common.test_images(data, "mnist", count), common.test_images(data, "cifar10", count)
        return [
            (common.Case(name, common.load(zoo, name), *images, threats[0].eps), threats)
            for name, images, threats in (
                ("mnist_cnn_a_adv", mnist, [linf(0.3), l2(2.0), l1(10.0)]),
                ("cifar10_resnet2b", cifar, [linf(2 / 255), l2(0.5), l1(8.0)]),
                ("mnist_convsmall_eran", mnist, [linf(0.1)]),
            )
        ]
    plain, robust = common.standard_and_robust(None, None, count, "cpu")
    return [(robust, [linf(robust.eps), l2(2.0), l1(10.0)]), (plain, [linf(plain.eps)])]


def main() -> None:
    options = common.parser(__doc__.splitlines()[0], "square.json")
    common.add_networks(options)
    options.add_argument("--images", type=int, default=200, help="test images attacked with squares alone")
    options.add_argument("--images-after", type=int, default=500, help="test images attacked with gradients before")
    options.add_argument("--queries", type=int, default=1000)
    options.add_argument("--queries-after", type=int, default=50)
    options.add_argument("--seeds", type=int, default=3)
    options.add_argument("--rounds", type=int, default=5, help="rounds of the timing")
    given = options.parse_args()
    found = common.environment(given)
    networks = cases(given.zoo, given.data, max(given.images, given.images_after))
    beside, costs = [], []
    for case, threats in networks:
        fewer = case._replace(x=case.x[: given.images], y=case.y[: given.images])
        beside += [strength(fewer, threat, given.queries, given.seeds) for threat in threats]
    first, threats = networks[0]
    after = after_gradients(first, threats[0], given.queries_after, given.seeds)
    for case, threats in networks:
        timed = [cost(case.name, case.model, case.x[:256], threat, 200, given.rounds) for threat in threats]
        costs += timed
    common.table(f"Robust accuracy after {given.queries} queries, mean of the seeds", without_seeds(beside))
    common.table(f"Rows that PGD-20 leaves, broken in {given.queries_after} queries", without_seeds(after))
    common.table("A run of 200 queries of 256 images over bare forward passes", costs)
    settings = {"queries": given.queries, "images": given.images, "p_init": 0.8}
    common.save(given.out, {"environment": found, **settings, "strength": beside, "after PGD-20": after, "cost": costs})


def without_seeds(rows: list[dict[str, object]]) -> list[dict[str, object]]:
    return [{key: value for key, value in row.items() if key != "seeds"} for row in rows]


if __name__ == "__main__":
    main()
