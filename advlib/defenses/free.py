"""Free adversarial training (Shafahi et al., 2019, arXiv:1904.12843)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from advlib.checks import check_counts
from advlib.defenses.base import LossOutput, Objective, given
from advlib.evaluator import Model, precise
from advlib.threats import Threat


@dataclass(frozen=True)
class FreeAdversarialTraining(Objective):
    """Takes each batch several times in a row, and moves its perturbation with the gradient of the same backward pass.

    The loop calls the objective and steps the optimizer ``replays`` times on each batch, so that a run of as many
    epochs as a standard one divided by ``replays`` costs no more than that. The perturbation is carried from batch to
    batch, as in the paper, and moves when ``backward`` is called on the loss.

    Args:
        threat: The norm ball; ``eps`` a number.
        replays: How often each batch is taken (8, the paper's m on CIFAR-10).

    Raises:
        TypeError: If ``threat`` is no threat model.
        ValueError: If ``replays`` is below 1.

    Example:
        >>> objective = FreeAdversarialTraining(Linf(0.1), replays=4)
        >>> for _ in range(objective.replays):
        ...     optimizer.zero_grad()
        ...     objective(model, x, y).loss.backward()
        ...     optimizer.step()
    """

    threat: Threat
    replays: int = 8
    _carried: dict[str, Tensor] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not isinstance(self.threat, Threat):
            raise TypeError(f"threat must be a threat model such as advlib.Linf(8/255), got {self.threat!r}")
        check_counts(replays=self.replays)

    def perturb(self, model: Model, x: Tensor, y: Tensor) -> Tensor:
        self.threat.check(x)
        delta = self._carried.get("delta")
        if delta is None or delta.shape[1:] != x.shape[1:] or len(delta) < len(x):
            delta = torch.zeros_like(x)
        with torch.no_grad():
            return self.threat.at(x).project(x + delta[: len(x)].to(x), x)

    def loss(self, model: Model, x: Tensor, y: Tensor, x_adv: Tensor | None) -> LossOutput:
        x_adv = given(x_adv).detach().requires_grad_()

        def move(gradient: Tensor) -> None:
            threat, at = self.threat.at(x), x_adv.detach()
            gradient = torch.nan_to_num(gradient.to(x), nan=0.0)
            step = threat.scale(x).reshape(-1, *[1] * (x.ndim - 1)) * threat.steepest(gradient, at)
            delta = threat.project(at + step, x) - x
            carried = self._carried.get("delta")
            if carried is not None and carried.shape[1:] == x.shape[1:] and len(carried) > len(x):
                delta = torch.cat([delta, carried[len(x) :].to(x)])  # a last, smaller batch
            self._carried["delta"] = delta

        x_adv.register_hook(move)  # type: ignore[no-untyped-call]
        logits_adv = precise(model(x_adv))
        return LossOutput(functional.cross_entropy(logits_adv, y), None, logits_adv, x_adv.detach())

    def state_dict(self) -> dict[str, Any]:
        """The perturbation that is carried from batch to batch."""
        return dict(self._carried)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes up a perturbation from :meth:`state_dict`."""
        self._carried.clear()
        self._carried.update(state)
