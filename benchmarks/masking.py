"""What the findings of an evaluation measure, on models built to hide their gradients and on honest ones.

Each finding compares one number with a limit. The table shows the number on every model, so that the room on both sides
of the limit can be seen. A masked model has to be called suspicious or unreliable, an honest one reliable. Results are
added to those of earlier runs, so that models can be run one by one.
"""

from __future__ import annotations

import argparse
import functools
import importlib
import json
from collections.abc import Callable
from typing import Any
from unittest import mock

import common
import torch
from torch import Tensor, nn
from torch.nn import functional

import advlib
import advlib.data
import advlib.zoo
from advlib.defenses import distill
from advlib.evaluation import findings
from advlib.models import BPDA

evaluation = importlib.import_module("advlib.evaluation.evaluate")  # the function hides the module

# name in the folder of networks: eps in Linf
HONEST = {
    "mnist_cnn_a_adv": 0.3,
    "mnist_kw_0.1": 0.1,
    "mnist_convsmall_eran": 0.1,
    "mnist_cw_fmn": 0.1,
    "mnist_mlp_3layer": 0.1,
    "cifar10_resnet2b": 2 / 255,
    "cifar10_cnn_a_adv": 2 / 255,
    "cifar10_wide_madry8": 8 / 255,
    "cifar10_base_kw": 2 / 255,
    "cifar10_resnet20": 8 / 255,
}

Case = tuple[Callable[[Tensor], Tensor], Tensor, Tensor, advlib.threats.Threat]


class WinnersTakeAll(nn.Module):
    """Keeps the largest tenth of the activations of a layer (Xiao et al., 1905.10510)."""

    def forward(self, x: Tensor) -> Tensor:
        flat = x.flatten(1)
        least = flat.topk(max(1, flat.shape[1] // 10), dim=1).values[:, -1:]
        return torch.where(flat >= least, flat, 0).reshape(x.shape)


def winners_take_all() -> nn.Sequential:
    layers = advlib.zoo.small_cnn()
    return nn.Sequential(*(WinnersTakeAll() if isinstance(layer, nn.ReLU) else layer for layer in layers))


def quantised(x: Tensor) -> Tensor:
    return (8 * x).round() / 8


def masked(digits: advlib.data.Dataset) -> dict[str, Callable[[], Callable[[Tensor], Tensor]]]:
    """Ways to make each model that hides its gradients, from one network trained on clean digits."""
    fit = functools.partial(advlib.zoo.train, x=digits.x_train, y=digits.y_train)
    plain = functools.cache(lambda: common.standard(digits))
    untrained = advlib.zoo.small_cnn(seed=1)

    def distilled() -> nn.Module:
        networks = (advlib.zoo.small_cnn(seed=seed) for seed in (1, 2))
        return distill(*networks, lambda model, objective: fit(model, objective=objective), temperature=100.0)

    def around(answer: Callable[[nn.Module, Tensor], Tensor]) -> Callable[[], Callable[[Tensor], Tensor]]:
        return lambda: functools.partial(answer, plain())

    return {
        "quantised inputs": around(lambda net, x: net(quantised(x))),
        "softmax at temperature 1/100": around(lambda net, x: (100 * net(x)).softmax(1)),
        "k winners take all": lambda: fit(winners_take_all()),
        "detached branch": around(lambda net, x: net(x.detach()) + 1e-3 * untrained(x)),
        "dropout left on": around(lambda net, x: net(functional.dropout(x, 0.1, training=True))),
        "distilled at temperature 100": distilled,
        "labels only": around(lambda net, x: functional.one_hot(net(x).argmax(1), 10).to(x)),
    }


def cases(given: argparse.Namespace) -> dict[str, tuple[str, Callable[[], Case]]]:
    """What each model is, ``"masked"``, ``"honest"`` or in question, and how to make it, its inputs and threat."""
    digits = advlib.data.mnist()
    shown = digits.x_test[: given.images], digits.y_test[: given.images]
    found: dict[str, tuple[str, Callable[[], Case]]] = {}

    def add(kind: str, name: str, make: Callable[[], Any], data: Any, threat: advlib.threats.Threat) -> None:
        found[name] = kind, lambda: (make(), *data(), threat)

    for name, make in masked(digits).items():
        add("masked", name, make, lambda: shown, advlib.Linf(0.1))
    stand_in = lambda: nn.Sequential(BPDA(quantised), common.standard(digits))  # noqa: E731
    add("in question", "quantised inputs behind BPDA", stand_in, lambda: shown, advlib.Linf(0.1))
    if not (given.zoo and given.data):
        add("honest", "standard, trained here", lambda: common.standard(digits), lambda: shown, advlib.Linf(0.1))
        robust = functools.partial(common.adversarially_trained, digits, eps=0.2)
        add("honest", "robust, trained here", robust, lambda: shown, advlib.Linf(0.2))
        return found
    for name, eps in HONEST.items():
        data = functools.partial(common.test_images, given.data, name.split("_")[0], given.images)
        add("honest", name, functools.partial(common.load, given.zoo, name), data, advlib.Linf(eps))
    data = functools.partial(common.test_images, given.data, "mnist", given.images)
    load = functools.partial(common.load, given.zoo, "mnist_cnn_a_adv")
    add("in question", "mnist_cnn_a_adv in L2", load, data, advlib.L2(1.5))
    add("in question", "mnist_cnn_a_adv in L1", load, data, advlib.L1(10.0))
    return found


def judged(case: Case, seed: int) -> dict[str, Any]:
    """One evaluation, and every number that a finding rests on."""
    model, x, y, threat = case
    measured: list[findings.Sign] = []

    def diagnose(rows: Any) -> tuple[advlib.evaluation.Finding, ...]:
        measured.extend(findings.signs(rows))
        return tuple(sign.finding for sign in measured if sign.value > sign.limit)

    torch.manual_seed(seed)  # for models that are random themselves
    with mock.patch.object(evaluation.findings, "diagnose", diagnose):
        generator = torch.Generator().manual_seed(seed)
        result = advlib.evaluate(model, x, y, threat, generator=generator, progress=False, batch_size=200)
    numbers = {sign.finding.name: sign.value for sign in measured}
    numbers["random search"] = findings.random_share({stage.name: stage for stage in result.stages})
    return {
        "threat": result.threat,
        "clean": 100 * result.clean_accuracy,
        "robust": 100 * result.robust_accuracy,
        "verdict": result.verdict,
        "findings": [finding.name for finding in result.findings],
        "numbers": numbers,
    }


def main() -> None:
    options = common.parser(__doc__.splitlines()[0], "masking.json")
    common.add_networks(options)
    options.add_argument("--images", type=int, default=200, help="test images")
    options.add_argument("--seeds", type=int, default=2, help="generator seeds")
    options.add_argument("--only", nargs="*", help="models whose name or kind holds one of these")
    given = options.parse_args()
    results: dict[str, Any] = {"models": {}}
    if given.only and given.out.exists():
        results = json.loads(given.out.read_text())
    results["environment"] = common.environment(given)
    for name, (kind, make) in cases(given).items():
        if given.only and not any(word in f"{kind} {name}" for word in given.only):
            continue
        case = make()
        seeds = [judged(case, seed) for seed in range(given.seeds)]
        results["models"][name] = {"kind": kind, "seeds": seeds}
        for seed in seeds:
            wrong = {"masked": seed["verdict"] == "reliable", "honest": seed["verdict"] != "reliable"}
            mark = "  WRONG" if wrong.get(kind) else ""
            print(f"{name}: {seed['verdict']}, {', '.join(seed['findings']) or 'no findings'}{mark}", flush=True)
        common.save(given.out, results)
    rows = [
        {"model": name, "kind": found["kind"], **{key: seed[key] for key in ("clean", "robust", "verdict")}}
        | seed["numbers"]
        for name, found in results["models"].items()
        for seed in found["seeds"]
    ]
    common.table("What each finding rests on", rows)


if __name__ == "__main__":
    main()
