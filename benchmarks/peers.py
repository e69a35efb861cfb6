"""The other libraries' attacks, each with the same threat, steps, step size and start as advlib's.

Every function builds the attack, as a user would once, and returns a callable without arguments that runs it and
returns the adversarial examples: what is timed is that call. A peer that is not installed is left out.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

Attack = Callable[[], Tensor]

PACKAGES = {
    "torchattacks": "torchattacks",
    "Foolbox": "foolbox",
    "CleverHans": "cleverhans",
    "ART": "adversarial-robustness-toolbox",
    "AutoAttack": "pyautoattack",
}


def versions() -> dict[str, str]:
    """The installed peers and their versions."""
    found = {}
    for name, package in PACKAGES.items():
        try:
            found[name] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            print(f"{name} is not installed and left out: make bench makes an environment that has it")
    return found


# -- PGD in Linf, from a uniform random start, untargeted, bounds [0, 1] -----------------------------------------


def torchattacks_pgd(model: nn.Module, x: Tensor, y: Tensor, eps: float, step_size: float, steps: int) -> Attack:
    import torchattacks

    attack = torchattacks.PGD(model, eps=eps, alpha=step_size, steps=steps, random_start=True)
    return lambda: attack(x, y)


def foolbox_pgd(model: nn.Module, x: Tensor, y: Tensor, eps: float, step_size: float, steps: int) -> Attack:
    import foolbox

    wrapped = foolbox.PyTorchModel(model, bounds=(0, 1), device=x.device)
    attack = foolbox.attacks.LinfPGD(abs_stepsize=step_size, steps=steps, random_start=True)
    criterion = foolbox.criteria.Misclassification(y)
    return lambda: attack(wrapped, x, criterion, epsilons=eps)[1]


def cleverhans_pgd(model: nn.Module, x: Tensor, y: Tensor, eps: float, step_size: float, steps: int) -> Attack:
    from cleverhans.torch.attacks.projected_gradient_descent import projected_gradient_descent

    return lambda: projected_gradient_descent(
        model,
        x,
        eps,
        step_size,
        steps,
        np.inf,
        clip_min=0.0,
        clip_max=1.0,
        y=y,
        rand_init=True,
        sanity_checks=False,  # which they offer "to use less runtime"
    )


def art_pgd(model: nn.Module, x: Tensor, y: Tensor, eps: float, step_size: float, steps: int) -> Attack:
    from art.attacks.evasion import ProjectedGradientDescent

    attack = ProjectedGradientDescent(
        _art_classifier(model, x),
        eps=eps,
        eps_step=step_size,
        max_iter=steps,
        num_random_init=1,
        batch_size=len(x),
        verbose=False,
    )
    inputs, labels = x.cpu().numpy(), y.cpu().numpy()
    return lambda: torch.from_numpy(attack.generate(inputs, labels)).to(x.device)


PGD = {
    "torchattacks": torchattacks_pgd,
    "Foolbox": foolbox_pgd,
    "CleverHans": cleverhans_pgd,
    "ART": art_pgd,
}


# -- JSMA, targeted, theta 1 ------------------------------------------------------------------------------------

# Both peers take their budget as a share of the features. A whole number of pairs makes k features even; with
# gamma = (k - 1) / features torchattacks takes ceil((k - 1) / 2) = k / 2 pairs, and ART, which goes on while the
# share used is at most gamma, stops once k features are used: the budget L0(k) of advlib.


def _gamma(x: Tensor, k: int) -> float:
    if k % 2:
        raise ValueError(f"the budget must be even, since features are changed in pairs, got {k}")
    return (k - 1) / x[0].numel()


def torchattacks_jsma(model: nn.Module, x: Tensor, target: Tensor, k: int) -> Attack:
    import torchattacks

    attack = torchattacks.JSMA(model, theta=1.0, gamma=_gamma(x, k))
    attack.set_mode_targeted_by_label(quiet=True)
    return lambda: attack(x, target)


def art_jsma(model: nn.Module, x: Tensor, target: Tensor, k: int, batch_size: int | None = None) -> Attack:
    from art.attacks.evasion import SaliencyMapMethod

    attack = SaliencyMapMethod(
        _art_classifier(model, x), theta=1.0, gamma=_gamma(x, k), batch_size=batch_size or len(x), verbose=False
    )
    inputs, labels = x.cpu().numpy(), target.cpu().numpy()
    return lambda: torch.from_numpy(attack.generate(inputs, labels)).to(x.device)


def _art_classifier(model: nn.Module, x: Tensor):
    from art.estimators.classification import PyTorchClassifier

    with torch.no_grad():
        classes = model(x[:1]).shape[1]
    return PyTorchClassifier(
        model,
        loss=nn.CrossEntropyLoss(),
        input_shape=tuple(x.shape[1:]),
        nb_classes=classes,
        clip_values=(0.0, 1.0),
        device_type="gpu" if x.is_cuda else "cpu",
    )
