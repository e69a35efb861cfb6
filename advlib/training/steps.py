"""One batch: perturbed, learned from, and watched for a loss that is no number."""

from __future__ import annotations

import math
from contextlib import nullcontext
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler
from torch.optim.swa_utils import AveragedModel

from advlib.defenses import Objective, awp
from advlib.training.processes import total, world_size

LOOK_EVERY = 16  # steps between two looks at the loss where a look waits for a device, or for other processes


@dataclass
class Sums:
    """The epoch's loss so far, over all processes."""

    loss: float = 0.0
    rows: int = 0


@dataclass
class Stepper:
    """What a :class:`~advlib.training.Trainer` does with one batch.

    Args:
        module: The model, for everything but the pass that is learned from.
        wrapped: The same model, inside DistributedDataParallel where there are several processes.
        optimizer: Steps the model's parameters.
        objective: Perturbs the batch, and gives the loss.
        scheduler: Stepped after the optimizer.
        average: Follows the model.
        precision: What autocast computes in, in the forward pass alone.
        device: Where the model is.
    """

    module: nn.Module
    wrapped: nn.Module
    optimizer: torch.optim.Optimizer
    objective: Objective
    scheduler: LRScheduler | None
    average: AveragedModel | None
    precision: torch.dtype | None
    device: torch.device
    _pending: list[tuple[str, int, Tensor]] = field(default_factory=list)

    def take(self, x: Tensor, y: Tensor, sums: Sums, where: str, gamma: float) -> None:
        """Perturbs the batch, takes the gradient of the loss, and steps.

        Args:
            x: ``(N, ...)`` inputs, on the device.
            y: ``(N,)`` labels.
            sums: Where the loss is added up, some steps late.
            where: Epoch, batch and step, for an error.
            gamma: Of adversarial weight perturbation; 0 for none.

        Raises:
            FloatingPointError: If this loss, or one of the last steps, is not finite.
        """
        x_adv = self.objective.perturb(self.module, x, y)
        self.optimizer.zero_grad()

        def loss(model: nn.Module) -> Tensor:
            with torch.autocast(self.device.type, self.precision, enabled=self.precision is not None):
                return self.objective.loss(model, x, y, x_adv).loss

        moved = awp(self.module, lambda: loss(self.module), gamma) if gamma > 0 else nullcontext()
        with moved:
            value = loss(self.wrapped)
            self._pending.append((where, len(x), value.detach()))
            if len(self._pending) >= (1 if self.device.type == "cpu" and world_size() == 1 else LOOK_EVERY):
                self.settle(sums)
            value.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        if self.scheduler is not None:
            self.scheduler.step()
        if self.average is not None:
            self.average.update_parameters(self.module)

    def settle(self, sums: Sums) -> None:
        """Looks at the losses that were not looked at yet, and adds them up.

        Raises:
            FloatingPointError: If one is not finite, in whichever process.
        """
        if not self._pending:
            return
        where, rows, losses = zip(*self._pending, strict=True)
        self._pending.clear()
        count = torch.tensor(rows, dtype=torch.float64)
        weighted = torch.stack(losses).cpu().double() * count
        found, counts = (column.tolist() for column in total(torch.stack([weighted, count]), self.device))
        for place, loss, row_count in zip(where, found, counts, strict=True):
            if not math.isfinite(loss):
                raise FloatingPointError(
                    f"the loss must be finite, got {loss / row_count} in {place}: lower the learning rate, clip "
                    "gradients, or look at this batch. No checkpoint was written since"
                )
            sums.loss += loss
            sums.rows += int(row_count)
