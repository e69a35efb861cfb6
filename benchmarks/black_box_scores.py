"""Attacks that see scores alone: what they break, in how many queries, and how fast, beside other libraries'.

In each group all attack the same images in the same threat model, with the same budget of queries a row. Images that
the network gets wrong anyway are left out. Queries are counted at the network, row by row: each input that it is asked
about counts against the image that it is nearest to. A row is broken if what comes back for it errs (or is taken for
the wanted class) inside the threat model. CPU time is taken in runs of their own, without the counting. ART's Square
asks three times per proposal, and gets as many proposals as the others have queries. Its SimBA knows no radius, so all
of that group have none. Networks trained elsewhere come from ``--zoo`` and images from ``--data``; without them,
everything runs on small networks trained here. What the file of results holds of a network and a group is not measured
again, so that a run may be stopped and continued.
"""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import common
import numpy as np
import torch
from torch import Tensor, nn

import advlib
from advlib.threats import Threat

# (model, x, y, threat, budget, seed, targeted) to inputs; y holds the wanted classes if targeted
Contestant = Callable[[nn.Module, Tensor, Tensor, Threat, int, int, bool], Tensor]

SAMPLES = 25  # pairs of points that a gradient is estimated from


class Counting(nn.Module):
    """A network that counts the queries of each image."""

    def __init__(self, inner: nn.Module, x: Tensor) -> None:
        super().__init__()
        self.inner, self.x = inner, x.flatten(1)
        self.queries = torch.zeros(len(x), dtype=torch.int64)

    def forward(self, z: Tensor) -> Tensor:
        with torch.no_grad():
            row = torch.cdist(z.detach().flatten(1), self.x).argmin(1)
            self.queries.index_add_(0, row, torch.ones_like(row))
        return self.inner(z)


# -- contestants --------------------------------------------------------------------------------------------------


def ours(attack, per_step, model, x, y, threat, budget, seed, targeted, **settings):
    """An attack of advlib's, of which a step takes ``per_step`` queries; the first or last point takes one more."""
    settings |= {"targeted": targeted, "generator": torch.Generator().manual_seed(seed)}
    return attack(model, x, y, threat, steps=(budget - 1) // per_step, **settings)


def torchattacks_square(model, x, y, threat, budget, seed, targeted):
    import torchattacks

    norm = type(threat).__name__
    attack = torchattacks.Square(model, norm=norm, eps=threat.eps, n_queries=budget - 1, p_init=0.8, seed=seed)
    if targeted:
        attack.set_mode_targeted_by_label(quiet=True)
    return attack(x, y)


def autoattack_square(model, x, y, threat, budget, seed, targeted):
    from pyautoattack.square import SquareAttack

    norm = type(threat).__name__
    attack = SquareAttack(model, norm=norm, n_queries=budget - 1, eps=threat.eps, p_init=0.8, device="cpu")
    attack.targeted = targeted
    torch.manual_seed(seed)
    attack.init_hyperparam(x)
    with torch.no_grad():
        return attack.attack_single_run(x, y)[1]


def art_square(model, x, y, threat, budget, seed, targeted):
    from art.attacks.evasion import SquareAttack

    np.random.seed(seed)
    settings = {"norm": 2 if threat.p == 2 else np.inf, "eps": threat.eps, "max_iter": budget - 2, "p_init": 0.8}
    attack = SquareAttack(_art(model, x), batch_size=len(x), verbose=False, **settings)
    return torch.from_numpy(attack.generate(x.numpy(), y.numpy()))


def torchattacks_spsa(model, x, y, threat, budget, seed, targeted, step=None):
    import torchattacks

    torch.manual_seed(seed)
    settings = {"nb_sample": SAMPLES, "max_batch_size": SAMPLES, "lr": 0.01 if step is None else step * threat.eps}
    attack = torchattacks.SPSA(model, eps=threat.eps, nb_iter=budget // (2 * SAMPLES), **settings)
    if targeted:
        attack.set_mode_targeted_by_label(quiet=True)
    return attack(x, y)


def cleverhans_spsa(model, x, y, threat, budget, seed, targeted):
    from cleverhans.torch.attacks.spsa import spsa

    torch.manual_seed(seed)
    settings = {"clip_min": 0.0, "clip_max": 1.0, "targeted": targeted, "early_stop_loss_threshold": 0.0}
    steps = budget // (1 + 2 * SAMPLES)
    return spsa(model, x, threat.eps, steps, y=y, spsa_samples=SAMPLES, sanity_checks=False, **settings)


def art_simba(basis, model, x, y, threat, budget, seed, targeted):
    from art.attacks.evasion import SimBA

    np.random.seed(seed)
    sure = _art(nn.Sequential(model, nn.Softmax(1)).eval(), x)
    settings = {"attack": basis, "max_iter": budget // 2, "epsilon": 0.2, "targeted": targeted, "verbose": False}
    with torch.no_grad():
        classes = model(x[:1]).shape[1]
    return torch.from_numpy(SimBA(sure, **settings).generate(x.numpy(), np.eye(classes)[y.numpy()]))


def torchattacks_one_pixel(model, x, y, threat, budget, seed, targeted):
    import torchattacks

    np.random.seed(seed)
    attack = torchattacks.OnePixel(model, pixels=int(threat.eps), steps=max(1, budget // 100 - 1), popsize=100)
    if targeted:
        attack.set_mode_targeted_by_label(quiet=True)
    return attack(x, y)


def _art(model, x):
    from art.estimators.classification import PyTorchClassifier

    with torch.no_grad():
        classes = model(x[:1]).shape[1]
    settings = {"loss": nn.CrossEntropyLoss(), "input_shape": tuple(x.shape[1:]), "nb_classes": classes}
    return PyTorchClassifier(model, clip_values=(0.0, 1.0), device_type="cpu", **settings)


STEP = 1 + 2 * SAMPLES
SQUARE = {"advlib square": partial(ours, advlib.square, 1), "torchattacks Square": torchattacks_square}
SQUARE |= {"AutoAttack Square": autoattack_square}
GROUPS: dict[str, dict[str, Contestant]] = {
    "squares": SQUARE | {"ART Square": art_square},
    "squares, targeted": SQUARE,
    "estimated gradients": {
        "advlib spsa": partial(ours, advlib.spsa, STEP, samples=SAMPLES),
        "advlib nes": partial(ours, advlib.nes, STEP, samples=SAMPLES),
        "torchattacks SPSA": torchattacks_spsa,
        "torchattacks SPSA, steps of eps": partial(torchattacks_spsa, step=1.0),
        "CleverHans spsa": cleverhans_spsa,
    },
    "directions": {
        "advlib simba, dct": partial(ours, advlib.simba, 1),
        "advlib simba, pixels": partial(ours, advlib.simba, 1, basis="pixels"),
        "ART SimBA, dct": partial(art_simba, "dct"),
        "ART SimBA, pixels": partial(art_simba, "px"),
    },
    "pixels": {"advlib sparse_rs": partial(ours, advlib.sparse_rs, 1), "torchattacks OnePixel": torchattacks_one_pixel},
}


# -- measurements -------------------------------------------------------------------------------------------------


class Found(NamedTuple):
    broken: Tensor  # (N,) bool
    queries: Tensor  # (N,)
    distance: Tensor  # (N,)
    seconds: float


def measured(attack: Contestant, case: common.Case, threat: Threat, budget: int, seed: int, targeted: bool) -> Found:
    counting = Counting(case.model, case.x).eval()
    x_adv = attack(counting, case.x.clone(), case.y, threat, budget, seed, targeted)
    start = time.process_time()
    attack(case.model, case.x.clone(), case.y, threat, budget, seed, targeted)
    seconds = time.process_time() - start
    with torch.no_grad():
        reached = (case.model(x_adv).argmax(1) == case.y) == targeted
    return Found(reached & threat.contains(x_adv, case.x), counting.queries, threat.distance(x_adv, case.x), seconds)


def group(name: str, case: common.Case, threat: Threat, budget: int, seeds: int) -> list[dict[str, object]]:
    """All contestants of a group on one network; means over the seeds, and queries also on the rows that all break."""
    contestants, targeted = GROUPS[name], name.endswith("targeted")
    if targeted:
        with torch.no_grad():
            second = case.model(case.x).topk(2).indices[:, 1]  # the class that is nearest to being reached
        case = case._replace(y=second)
    found: dict[str, list[Found]] = {label: [] for label in contestants}
    for seed in range(seeds):
        for label, attack in contestants.items():
            found[label].append(measured(attack, case, threat, budget, seed, targeted))
            last = found[label][-1]
            print(f"{case.name}, {name}, {label}: {int(last.broken.sum())} of {len(case.x)}", flush=True)
    stacks = {
        label: [torch.stack([getattr(f, part) for f in runs]) for part in ("broken", "queries", "distance")]
        for label, runs in found.items()
    }
    common_rows = torch.stack([broken for broken, *_ in stacks.values()]).all(0)
    rows = []
    for label, (broken, queries, distance) in stacks.items():
        spent = queries[broken].double()
        rows.append(
            {
                "network": case.name,
                "threat": f"{type(threat).__name__}({threat.eps:.4g})",
                "attack": label,
                "targeted": str(targeted),
                "images": len(case.x),
                "seeds": seeds,
                "broken, %": 100 * broken.double().mean().item(),
                "queries, mean": spent.mean().item(),
                "median": spent.median().item() if len(spent) else float("nan"),
                "where all break": queries[common_rows].double().mean().item(),
                "all rows": queries.double().mean().item(),
                "their median": queries.double().median().item(),
                "distance": distance[broken].double().mean().item(),
                "us a query": 1e6 * float(np.median([f.seconds / int(f.queries.sum()) for f in found[label]])),
            }
        )
    return rows


def cases(given) -> list[tuple[common.Case, dict[str, Threat]]]:
    """The networks, and the threat models of each group."""
    linf, l2, l0 = advlib.Linf, advlib.L2, partial(advlib.L0, per_pixel=True)

    def threats(eps: float, pixels: int) -> dict[str, Threat]:
        ball, free = linf(eps), l2(torch.inf)
        around = {"squares": ball, "squares, targeted": ball, "estimated gradients": ball}
        return around | {"directions": free, "pixels": l0(pixels)}

    if given.zoo and given.data:
        chosen = [
            ("mnist_convsmall_eran", "mnist", 0.1, 8),
            ("cifar10_cnn_a_adv", "cifar10", 8 / 255, 8),
            ("cifar10_resnet20", "cifar10", 4 / 255, 8),
        ]
        found = []
        for name, data, eps, pixels in chosen:
            case = common.Case(
                name, common.load(given.zoo, name), *common.test_images(given.data, data, given.images), eps
            )
            found.append((case, threats(eps, pixels)))
        return [pair for pair in found if not given.networks or pair[0].name in given.networks]
    trained = common.standard_and_robust(None, None, given.images, "cpu")
    return [(case, threats(case.eps, 8)) for case in trained]


def main() -> None:
    options = common.parser(__doc__.splitlines()[0], "black_box_scores.json")
    common.add_networks(options)
    options.add_argument(
        "--images", type=int, default=100, help="test images, of which those that are right are attacked"
    )
    options.add_argument("--queries", type=int, default=1000, help="budget of each row")
    options.add_argument("--seeds", type=int, default=3)
    options.add_argument("--groups", nargs="*", choices=list(GROUPS), default=list(GROUPS))
    options.add_argument("--networks", nargs="*", help="only these of the networks")
    given = options.parse_args()
    found = common.environment(given)
    warnings.simplefilter("ignore")
    settings = {"queries": given.queries}
    results: dict[str, list[dict[str, object]]] = {name: [] for name in GROUPS}
    if given.out.exists():
        held = json.loads(given.out.read_text())
        results |= held["groups"] if held["settings"] == settings else {}
    for case, threats in cases(given):
        with torch.no_grad():
            right = case.model(case.x).argmax(1) == case.y
        attacked = case._replace(x=case.x[right].contiguous(), y=case.y[right])
        for name in given.groups:
            if case.name not in {row["network"] for row in results[name]}:
                results[name] += group(name, attacked, threats[name], given.queries, given.seeds)
                common.save(given.out, {"environment": found, "settings": settings, "groups": results})
    for name, rows in results.items():
        if rows:
            common.table(f"{name}, {given.queries} queries a row, mean of the seeds", rows)


if __name__ == "__main__":
    main()
