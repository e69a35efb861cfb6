"""How near minimum-norm attacks come, in the manner of AttackBench (Cina et al., 2404.19460), in every library.

Each attack may ask for 1,000 forward and 1,000 backward passes per image. An image's distance is that of the nearest
adversarial point that the attack returned, or asked about where it asks about all images at once. So nobody loses by
returning its last point. An image that the network gets wrong without an attack is at distance 0 for all.

An attack's optimality is the area above its curve of robust accuracy over eps, up to the eps at which all attacks
together leave nothing, as a share of the area above the envelope of all attacks: 1 if it is best on every image.

    python benchmarks/minimum_norm.py --zoo MODELS --data DATA --threads 1
    python benchmarks/minimum_norm.py --zoo MODELS --data DATA --algorithms ddn --libraries advlib --again
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import operator
import sys
import time
import types
from collections.abc import Callable
from typing import Any, NamedTuple

import common
import torch
from torch import Tensor, nn

import advlib
from advlib.threats import Threat

PASSES = 1000
NETWORKS = {  # data, images, and per norm the eps at which success is quoted
    "mnist_cnn_a_adv": (
        "mnist",
        100,
        {"linf": (0.2, 0.3, 0.35), "l2": (1, 2, 3), "l1": (5, 10, 20), "l0": (5, 10, 20)},
    ),
    "mnist_convsmall_eran": (
        "mnist",
        100,
        {"linf": (0.05, 0.1, 0.15), "l2": (0.5, 1, 1.5), "l1": (2, 5, 10), "l0": (5, 10, 20)},
    ),
    "cifar10_cnn_a_adv": (
        "cifar10",
        100,
        {"linf": (0.01, 0.02, 0.04), "l2": (0.25, 0.5, 1), "l1": (2, 5, 10), "l0": (5, 10, 20)},
    ),
    "cifar10_resnet20": (
        "cifar10",
        50,
        {"linf": (0.002, 0.004, 0.008), "l2": (0.1, 0.2, 0.4), "l1": (1, 2, 4), "l0": (3, 6, 12)},
    ),
}
NORMS: dict[str, type[Threat]] = {"linf": advlib.Linf, "l2": advlib.L2, "l1": advlib.L1, "l0": advlib.L0}
PACKAGES = {
    "Foolbox": "foolbox",
    "torchattacks": "torchattacks",
    "ART": "adversarial-robustness-toolbox",
    "adv-lib": "adv-lib",
}

Run = Callable[[nn.Module, Tensor, Tensor, str], Tensor]  # model, x, y, norm: adversarial points


class Contestant(NamedTuple):
    """One library's form of an algorithm, within the passes."""

    algorithm: str
    library: str
    norms: tuple[str, ...]
    run: Run


class Watched(nn.Module):
    """A model that counts passes, and remembers each row's nearest success where it is asked about all rows."""

    def __init__(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> None:
        super().__init__()
        self.model, self.x, self.y, self.threat = model, x, y, threat
        self.nearest = torch.full((len(x),), torch.inf)
        self.forwards = self.backwards = 0
        self.seconds = 0.0  # spent on this

    def _count(self, gradient: Tensor) -> None:
        self.backwards += len(gradient)

    def judge(self, points: Tensor, logits: Tensor) -> None:
        success = (logits.argmax(1) != self.y) & ((points >= 0) & (points <= 1)).flatten(1).all(1)
        distance = self.threat.distance(points, self.x)
        self.nearest = torch.where(success & (distance < self.nearest), distance, self.nearest)

    def forward(self, x: Tensor) -> Tensor:
        self.forwards += len(x)
        if x.requires_grad:
            x = x.view_as(x)
            x.register_hook(self._count)
        logits = self.model(x)
        start = time.process_time()
        if x.shape == self.x.shape and self.forwards <= PASSES * len(x):
            with torch.no_grad():
                self.judge(x.detach(), logits.detach())
        self.seconds += time.process_time() - start
        return logits


# -- the attacks ------------------------------------------------------------------------------------------------


def ours(attack: Callable[..., Tensor], **settings: Any) -> Run:
    def run(model: nn.Module, x: Tensor, y: Tensor, norm: str) -> Tensor:
        return attack(model, x, y, NORMS[norm](torch.inf), **settings)

    return run


def foolbox(pattern: str, settings: dict[str, Any]) -> Run:
    """Foolbox's attack of that name, in which ``{}`` is the norm."""

    def run(model: nn.Module, x: Tensor, y: Tensor, norm: str) -> Tensor:
        import foolbox

        attack = getattr(foolbox.attacks, pattern.format({"linf": "LInf"}.get(norm, norm.upper())))(**settings)
        criterion = foolbox.criteria.Misclassification(y)
        wrapped = foolbox.PyTorchModel(model, bounds=(0, 1), device=x.device)
        return attack(wrapped, x, criterion, epsilons=None)[1]

    return run


def foolbox_deepfool(model: nn.Module, x: Tensor, y: Tensor, norm: str) -> Tensor:
    import foolbox

    attack = {"l2": foolbox.attacks.L2DeepFoolAttack, "linf": foolbox.attacks.LinfDeepFoolAttack}[norm](steps=100)
    wrapped = foolbox.PyTorchModel(model, bounds=(0, 1), device=x.device)
    return attack(wrapped, x, foolbox.criteria.Misclassification(y), epsilons=None)[1]


def torchattacks(name: str, *, takes_norm: bool = False, **settings: Any) -> Run:
    """torchattacks' attack of that name; what leaves the bounds is brought back."""

    def run(model: nn.Module, x: Tensor, y: Tensor, norm: str) -> Tensor:
        import torchattacks

        if takes_norm:
            settings["norm"] = norm.capitalize()
        return getattr(torchattacks, name)(model, **settings)(x, y).clamp(0, 1)

    return run


def art(name: str, *, together: bool = True, **settings: Any) -> Run:
    """ART's attack of that name, for all images together or one by one."""

    def run(model: nn.Module, x: Tensor, y: Tensor, norm: str) -> Tensor:
        from art.attacks import evasion
        from art.estimators.classification import PyTorchClassifier

        classifier = PyTorchClassifier(
            model, nn.CrossEntropyLoss(), x.shape[1:], model(x[:1]).shape[1], clip_values=(0.0, 1.0), device_type="cpu"
        )
        attack = getattr(evasion, name)(classifier, batch_size=len(x) if together else 1, verbose=False, **settings)
        return torch.from_numpy(attack.generate(x.numpy(), y.numpy()))

    return run


def adv_lib(name: str, *, takes_norm: bool = True, **settings: Any) -> Run:
    """adv-lib's attack of that name."""

    def run(model: nn.Module, x: Tensor, y: Tensor, norm: str) -> Tensor:
        # its import asks for a plotting server and a perceptual distance that no attack here uses
        for module, holds in (("visdom", "Visdom"), ("torchvision", "models")):
            if module not in sys.modules:
                sys.modules[module] = types.ModuleType(module)
                setattr(sys.modules[module], holds, object)
        import adv_lib.attacks

        if takes_norm:
            settings["norm"] = NORMS[norm].p
        return operator.attrgetter(name)(adv_lib.attacks)(model, x, y, **settings)

    return run


def adv_lib_alma(model: nn.Module, x: Tensor, y: Tensor, norm: str) -> Tensor:
    return adv_lib("alma", takes_norm=False, distance=norm, num_steps=PASSES)(model, x, y, norm)


def adv_lib_apgd(model: nn.Module, x: Tensor, y: Tensor, norm: str) -> Tensor:
    """Ten bisections between 0 and twice ``max_eps``, which the network at hand is known not to withstand."""
    largest = {"linf": 0.2, "l2": 2.0, "l1": 12.0}[norm]
    attack = adv_lib("auto_pgd.minimal_apgd", max_eps=largest, binary_search_steps=10, n_iter=97)
    return attack(model, x, y, norm)


ALL = ("linf", "l2", "l1", "l0")
# The elastic net asks twice a step in Foolbox and torchattacks, and four times in ART, for one gradient and two: these
# settings came nearest on the MNIST networks. torchattacks' moves the images that it was given by its first step, which
# a large first c makes large.
FOOLBOX_EAD = {"binary_search_steps": 5, "steps": 99, "initial_stepsize": 0.01, "initial_const": 10.0}
FOOLBOX_EAD |= {"regularization": 0.02, "decision_rule": "L1", "abort_early": False}
TORCHATTACKS_EAD = {"binary_search_steps": 9, "max_iterations": 55, "lr": 0.01, "initial_const": 0.1}
TORCHATTACKS_EAD |= {"beta": 0.003, "abort_early": False}
ART_EAD = {"binary_search_steps": 4, "max_iter": 60, "learning_rate": 0.01, "initial_const": 10.0}
ART_EAD |= {"beta": 0.02, "decision_rule": "L1"}
ONCE = {"steps": PASSES - 1}
TWICE, THRICE = ({"steps": PASSES // runs - 1, "restarts": runs} for runs in (2, 3))
FAB = {"eps": 1e6, "steps": 100}  # beyond eps it keeps nothing; aimed at each class, the first success, not the nearest
# Carlini and Wagner's: of up to ten settings each, those that came nearest on the first 20 images of the MNIST networks
FOOLBOX_CW = {"binary_search_steps": 5, "steps": 200, "stepsize": 0.05, "initial_const": 1.0, "abort_early": False}
ADV_LIB_CW = {
    "binary_search_steps": 5,
    "max_iterations": 200,
    "learning_rate": 0.05,
    "initial_const": 1.0,
    "abort_early": False,
}
ADV_LIB_CWI = {"learning_rate": 0.05, "max_iterations": 50, "initial_const": 0.1, "reduce_const": True}
ART_CW_L0 = {"binary_search_steps": 2, "max_iter": 10, "initial_const": 10.0}
CONTESTANTS = [
    Contestant("deepfool", "advlib", ("linf", "l2"), ours(advlib.deepfool, steps=100)),
    Contestant("deepfool", "Foolbox", ("linf", "l2"), foolbox_deepfool),
    Contestant("deepfool", "torchattacks", ("l2",), torchattacks("DeepFool", steps=100)),
    Contestant("deepfool", "ART", ("l2",), art("DeepFool", max_iter=100, epsilon=0.02, nb_grads=10)),
    Contestant("deepfool", "adv-lib", ("linf", "l2"), adv_lib("df", steps=100)),
    Contestant("ddn", "advlib", ("l2",), ours(advlib.ddn, **ONCE)),
    Contestant("ddn", "Foolbox", ("l2",), foolbox("DDNAttack", {"steps": PASSES - 1})),
    Contestant("ddn", "adv-lib", ("l2",), adv_lib("ddn", takes_norm=False, steps=PASSES - 1, levels=None)),
    Contestant("fmn", "advlib", ALL, ours(advlib.fmn, **THRICE)),
    Contestant("fmn, one run", "advlib", ALL, ours(advlib.fmn, **ONCE)),
    Contestant("fmn", "Foolbox", ALL, foolbox("{}FMNAttack", {"steps": PASSES - 1})),
    Contestant("fmn", "adv-lib", ALL, adv_lib("fmn", **ONCE)),
    Contestant("fab", "advlib", ("linf", "l2", "l1"), ours(advlib.fab, steps=110, targets=9)),
    Contestant("fab", "adv-lib", ("linf", "l2", "l1"), adv_lib("fab", n_iter=55, targeted_restarts=True)),
    Contestant("fab", "torchattacks", ("linf", "l2"), torchattacks("FAB", takes_norm=True, **FAB)),  # fails in L1
    Contestant("pdpgd", "advlib", ("linf", "l1", "l0"), ours(advlib.pdpgd, **THRICE)),
    Contestant("pdpgd, one run", "advlib", ("linf", "l1", "l0"), ours(advlib.pdpgd, **ONCE)),
    Contestant("pdpgd", "advlib", ("l2",), ours(advlib.pdpgd, **ONCE)),  # short runs end before the norm weighs enough
    Contestant("pdpgd, three runs", "advlib", ("l2",), ours(advlib.pdpgd, **THRICE)),
    Contestant("pdpgd", "adv-lib", ("linf", "l2", "l1"), adv_lib("pdpgd", num_steps=PASSES)),
    Contestant("pdpgd", "adv-lib", ("l0",), adv_lib("pdpgd", num_steps=PASSES, proximal_operator=23)),
    Contestant("pdgd", "adv-lib", ("l2",), adv_lib("pdgd", takes_norm=False, num_steps=PASSES)),
    Contestant("ead", "advlib", ("l1",), ours(advlib.ead, **ONCE)),
    Contestant("ead", "Foolbox", ("l1",), foolbox("EADAttack", FOOLBOX_EAD)),
    Contestant("ead", "torchattacks", ("l1",), torchattacks("EADL1", **TORCHATTACKS_EAD)),
    Contestant("eaden", "torchattacks", ("l1",), torchattacks("EADEN", **TORCHATTACKS_EAD)),
    Contestant("ead", "ART", ("l1",), art("ElasticNet", together=False, **ART_EAD)),
    Contestant("alma", "adv-lib", ("l2", "l1"), adv_lib_alma),
    Contestant("apgd", "adv-lib", ("linf", "l2", "l1"), adv_lib_apgd),
    Contestant("carlini_wagner", "advlib", ("linf", "l2", "l0"), ours(advlib.carlini_wagner, **ONCE)),
    Contestant("carlini_wagner", "Foolbox", ("l2",), foolbox("L2CarliniWagnerAttack", FOOLBOX_CW)),
    Contestant("carlini_wagner", "torchattacks", ("l2",), torchattacks("CW", c=10, steps=PASSES, lr=0.05)),
    Contestant("carlini_wagner", "ART", ("l2",), art("CarliniL2Method", initial_const=1.0)),  # 10 searches of 10 steps
    Contestant("carlini_wagner", "ART", ("linf",), art("CarliniLInfMethod", max_iter=20, initial_const=1.0)),
    Contestant("carlini_wagner", "ART", ("l0",), art("CarliniL0Method", **ART_CW_L0)),
    Contestant("carlini_wagner", "adv-lib", ("l2",), adv_lib("carlini_wagner_l2", takes_norm=False, **ADV_LIB_CW)),
    Contestant("carlini_wagner", "adv-lib", ("linf",), adv_lib("carlini_wagner_linf", takes_norm=False, **ADV_LIB_CWI)),
    Contestant("lbfgs", "advlib", ("l2",), ours(advlib.lbfgs, steps=PASSES)),
    Contestant("sigma_zero", "advlib", ("l0",), ours(advlib.sigma_zero, **TWICE)),
    Contestant("sigma_zero, one run", "advlib", ("l0",), ours(advlib.sigma_zero, **ONCE)),
    Contestant("sigma_zero", "adv-lib", ("l0",), adv_lib("sigma_zero", takes_norm=False, num_steps=PASSES)),
    Contestant("vfga", "adv-lib", ("l0",), adv_lib("vfga", takes_norm=False, targeted=False, max_iter=47)),
]


# -- the measurement --------------------------------------------------------------------------------------------


def measured(contestant: Contestant, network: str, norm: str, model: nn.Module, x: Tensor, y: Tensor) -> dict[str, Any]:
    """One line of the results."""
    torch.manual_seed(0)
    threat = NORMS[norm](torch.inf)
    watched = Watched(model, x, y, threat).eval()
    start = time.process_time()
    points, failed = None, ""
    try:
        points = contestant.run(watched, x, y, norm).detach()
    except Exception as error:  # what it asked until then counts, and the others go on
        failed = f"{type(error).__name__}: {error}"
    seconds = time.process_time() - start - watched.seconds
    forwards, backwards = watched.forwards / len(x), watched.backwards / len(x)
    with torch.no_grad():
        if points is not None:
            watched.judge(points, model(points))
        watched.nearest = torch.where(model(x).argmax(1) != y, 0, watched.nearest)
    return {
        "network": network,
        "norm": norm,
        "attack": contestant.algorithm,
        "library": contestant.library,
        "forwards": forwards,
        "backwards": backwards,
        "CPU seconds": seconds,
        "failed": failed,
        "distances": [value if value < torch.inf else None for value in watched.nearest.tolist()],
    }


def key(line: dict[str, Any]) -> tuple[str, ...]:
    return (line["network"], line["norm"], line["attack"], line["library"])


def distances(line: dict[str, Any]) -> Tensor:
    return torch.tensor([torch.inf if value is None else value for value in line["distances"]])


def summary(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What is quoted of each line, among all lines of its network and norm."""
    rows = []
    for line in lines:
        beside = [distances(other) for other in lines if key(other)[:2] == key(line)[:2]]
        least, found = torch.stack(beside).amin(0), distances(line)
        end = least[least.isfinite()].max()
        row = {name: line[name] for name in ("network", "norm", "attack", "library")}
        row["median"] = found.median().item()
        for index, eps in enumerate(NETWORKS[line["network"]][2][line["norm"]]):
            row[f"success {index + 1}"] = f"{100 * (found <= eps).double().mean().item():.0f} % at {eps}"
        row["optimality"] = ((end - found).clamp_min(0).sum() / (end - least).clamp_min(0).sum()).item()
        row |= {name: line[name] for name in ("forwards", "backwards")}
        row["ms per backward"] = 1000 * line["CPU seconds"] / max(line["backwards"] * len(found), 1)
        rows.append(row)
    return rows


def versions() -> dict[str, str]:
    return {name: importlib.metadata.version(package) for name, package in PACKAGES.items()}


def options() -> argparse.ArgumentParser:
    taken = common.parser(__doc__.splitlines()[0], "minimum_norm.json")
    common.add_networks(taken, required=True)
    taken.add_argument("--networks", nargs="+", choices=list(NETWORKS), default=list(NETWORKS))
    taken.add_argument("--norms", nargs="+", choices=list(NORMS), default=list(NORMS))
    taken.add_argument("--algorithms", nargs="+", help="all by default")
    taken.add_argument("--libraries", nargs="+", choices=["advlib", *PACKAGES], default=["advlib", *PACKAGES])
    taken.add_argument("--again", action="store_true", help="run lines that the results hold already")
    taken.add_argument("--images", type=int, help="fewer images, for a trial")
    return taken


def main(contestants: list[Contestant] = CONTESTANTS) -> None:
    given = options().parse_args()
    found = common.environment(given) | versions()
    lines = json.loads(given.out.read_text())["lines"] if given.out.exists() else []
    for network in given.networks:
        data, images, _ = NETWORKS[network]
        model = common.load(given.zoo, network)
        x, y = common.test_images(given.data, data, given.images or images)
        for norm in given.norms:
            for contestant in contestants:
                name = (network, norm, contestant.algorithm, contestant.library)
                wanted = norm in contestant.norms and contestant.library in given.libraries
                wanted &= contestant.algorithm in (given.algorithms or [contestant.algorithm])
                if not wanted or (not given.again and name in map(key, lines)):
                    continue
                line = measured(contestant, network, norm, model, x, y)
                lines = [old for old in lines if key(old) != name] + [line]
                common.save(given.out, {"environment": found, "passes": PASSES, "lines": lines})
                print(name, flush=True)
    common.table("Minimum-norm attacks", summary(sorted(lines, key=key)))


if __name__ == "__main__":
    main()
