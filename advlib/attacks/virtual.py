"""The virtual adversarial perturbation (Miyato et al., 2015, arXiv:1507.00677), which needs no label."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from advlib.evaluator import Evaluator
from advlib.losses import Loss, divergence, unchanged
from advlib.noise import Noise
from advlib.search import Feedback, Model, Rule, SearchOptions, Task, search
from advlib.threats import Threat
from advlib.threats.base import column

if TYPE_CHECKING:
    from typing_extensions import Unpack


class VirtualState(NamedTuple):
    query: Tensor  # (N, ...) where the model is asked next
    step: Tensor  # (N,) updates made


@dataclass(frozen=True, eq=False)
class VirtualAdversarial(Rule[VirtualState]):
    """The power method on the divergence from the clean answer, over ball, bounds and mask.

    Each step goes to the farthest point along the gradient, and asks again there, or nearer to ``x``.

    Args:
        logits: ``(rows of the call, C)`` the clean answers.
        steps: Updates of one run.
        xi: How far from ``x`` the gradient is taken; None for as far as the perturbation reaches.
        logits_of: How logits are read from what the model returns.
    """

    logits: Tensor
    steps: int
    xi: float | None = None
    logits_of: Callable[[Any], Tensor] = unchanged

    def start(self, task: Task, point: Tensor, noise: Noise) -> VirtualState:
        return self._ahead(point - task.x, torch.zeros_like(task.x.flatten(1)[:, 0]), task)

    def objectives(self, output: Any, task: Task, loss: Loss) -> tuple[Tensor, ...]:
        return (divergence(self.logits[task.row], self.logits_of(output)),)

    def success(self, feedback: Feedback, task: Task) -> Tensor:
        # where nothing may change, nothing is to be found, and no gradient is missing
        return feedback.reached | (task.threat.radius(task.x).flatten() == 0)

    def update(self, state: VirtualState, feedback: Feedback, task: Task, noise: Noise) -> VirtualState:
        return self._ahead(feedback.gradient, state.step + 1, task)

    def _ahead(self, way: Tensor, step: Tensor, task: Task) -> VirtualState:
        ahead = task.threat.maximize(way, task.x)
        if self.xi is not None:
            length = task.threat.distance(ahead, task.x).clamp_min(torch.finfo(way.dtype).tiny)
            share = torch.where(step < self.steps, (self.xi / length).clamp_max(1), 1.0)  # the last is the result
            ahead = torch.lerp(task.x, ahead, column(share, way))
        return VirtualState(ahead, step)


def virtual_adversarial_perturbation(
    model: Model,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    *,
    steps: int = 10,
    xi: float | None = None,
    **options: Unpack[SearchOptions],
) -> Tensor:
    """Finds where the model's answer differs most from its clean one, whatever the label.

    Solves, per example, ``max KL(p(x) || p(x_adv))`` over ball, bounds and mask, by the power method from a random
    direction: go as far as the ball, the bounds and the mask allow along the gradient of the divergence, and take the
    gradient again. Labels are for the judge alone. Costs a forward pass for the clean answers, and one forward and one
    backward pass per step.

    The paper takes the gradient next to ``x``, where the divergence is its Hessian, and the perturbation an eigenvector
    of it. That is exact for small perturbations, and in float32 a length of a millionth, the paper's, leaves little but
    rounding. Taken where the perturbation ends, as here by default, the gradient is that of the divergence itself.

    Args:
        model: Callable from ``(N, ...)`` inputs to ``(N, C)`` logits.
        x: Clean inputs, ``(N, ...)``, float32 or float64, within ``threat.bounds``.
        y: ``(N,)`` integer labels: the classes to leave, which only the judge looks at.
        threat: An :class:`~advlib.threats.L2` ball, as in the paper, or one in another norm, with a finite ``eps``.
        steps: Updates of one run.
        xi: How far from ``x`` the gradient is taken, in the threat's norm; None for as far as the perturbation reaches.
        **options: Any of :class:`~advlib.search.SearchOptions` but those that aim; ``init`` is the direction in which
            the first run begins.

    Returns:
        ``(N, ...)`` inputs within ``threat``: on each row a success before a failure, then the largest divergence.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If the attack is told to aim, ``eps`` is infinite, ``xi`` is not positive, ``x`` leaves the bounds,
            or shapes and values disagree.

    Example:
        >>> x_adv = virtual_adversarial_perturbation(model, x, y, L2(1.0))
    """
    if "loss" in options:
        raise TypeError("the virtual adversarial perturbation climbs a divergence and takes no loss: leave it out")
    if options.get("targeted") or options.get("target") is not None:
        raise ValueError("the virtual adversarial perturbation leaves the clean answer, and cannot aim: take pgd")
    if xi is not None and not xi > 0:
        raise ValueError(f"xi must be positive, got {xi}: None takes the gradient where the perturbation ends")
    logits_of = options.get("logits_of") or unchanged
    with Evaluator(model, x, y, threat, logits_of=logits_of) as evaluator:
        if len(x) == 0:  # the model is asked about nothing
            return evaluator.x.clone()
        rows = torch.split(torch.arange(len(x), device=x.device), options.get("batch_size") or len(x))
        logits = torch.cat([evaluator.ask(evaluator.x[part], part, order=0).logits for part in rows])
    rule = VirtualAdversarial(logits, steps, xi, logits_of)
    return search(model, x, y, threat, rule, steps=steps, random_start=True, **options).x_adv
