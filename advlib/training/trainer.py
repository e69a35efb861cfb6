"""The training loop: any objective, the best state by robust accuracy, and a run that can be killed and continued."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau
from tqdm import tqdm

from advlib.checks import check_counts
from advlib.defenses import Objective
from advlib.defenses.base import Attack, check_attack, check_number
from advlib.evaluator import unwrapped
from advlib.training.averaging import averaged_model, warmed_up_average
from advlib.training.checkpoint import describe
from advlib.training.loop import Loop, Stopped
from advlib.training.metrics import Metrics, Row
from advlib.training.processes import check_sharded, gathered, length, rank, world_size
from advlib.training.randomness import generators
from advlib.training.steps import Stepper


class CollapseWarning(UserWarning):
    """Single-step training began to fool its own attack, and was stopped."""


@dataclass(frozen=True)
class TrainingResult:
    """What a run gave, beside the model.

    Args:
        history: What ``metrics`` was given, one dictionary per epoch.
        best_epoch: The epoch, from 1, whose weights the model holds; None without validation.
        best_score: Its robust accuracy on the validation data, or the clean one where there is no attack.
        stopped: ``"early"`` or ``"collapse"`` if training stopped before its last epoch, else None.

    Example:
        >>> Trainer(model, optimizer, Standard()).fit([(x, y)], epochs=1, progress=False).stopped is None
        True
    """

    history: tuple[Row, ...]
    best_epoch: int | None
    best_score: float | None
    stopped: Stopped | None


class Trainer:
    """Trains a model with any objective, and keeps the weights that are the most robust on validation data.

    Under ``torchrun``, where ``torch.distributed`` is initialized, the model is put into DistributedDataParallel,
    losses and accuracies are those of all processes, and the first one writes. Each process then needs an optimizer
    over its own copy of the model, and loaders with a DistributedSampler.

    Args:
        model: The model, on its device. Modules in evaluation while the model is in training, such as frozen BatchNorm
            layers, stay so.
        optimizer: Over the model's parameters.
        objective: What to minimise, from :mod:`advlib.defenses`.
        scheduler: Of the optimizer; stepped after each of its steps, not after each epoch.
        averaging: Decay of an average of the weights, such as 0.995, which is then what is validated and kept.
        precision: ``torch.bfloat16`` computes the forward pass of the loss in it; perturbations stay in float32.
        awp_gamma: Size of adversarial weight perturbation, see :func:`advlib.defenses.awp`; 0 for none.
        awp_warmup: Epochs without it, at the start (10 of 200, as in 2004.05884).
        attack: Finds robust accuracy on validation data, called as ``attack(model, x, y)``.
        collapse_guard: An attack of several steps, run on one training batch after each epoch: where accuracy under it
            falls below half of its best, training has collapsed, goes back to the last good epoch, and stops.
        metrics: Called with a flat dictionary after each epoch, such as a
            :class:`~advlib.training.CSVWriter`.

    Raises:
        TypeError: If an attack is not configured, or the scheduler needs to be told a score.
        ValueError: If a parameter is out of range.

    Example:
        >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        >>> trainer = Trainer(model, optimizer, Standard(), averaging=0.995)
        >>> trainer.fit([(x, y)], epochs=2, progress=False).history[-1]["epoch"]
        2
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        objective: Objective,
        *,
        scheduler: LRScheduler | None = None,
        averaging: float | None = None,
        precision: torch.dtype | None = None,
        awp_gamma: float = 0.0,
        awp_warmup: int = 0,
        attack: Attack | None = None,
        collapse_guard: Attack | None = None,
        metrics: Metrics | None = None,
    ) -> None:
        for configured in (attack, collapse_guard):
            if configured is not None:
                check_attack(configured)
        if isinstance(scheduler, ReduceLROnPlateau):
            raise TypeError(
                "scheduler must follow the steps alone, got ReduceLROnPlateau, which needs a score: "
                "torch.optim.lr_scheduler.OneCycleLR, or patience= to stop where the score no longer improves"
            )
        if precision not in (None, torch.bfloat16):
            raise ValueError(
                f"precision must be None or torch.bfloat16, got {precision}: float16 needs its loss scaled, which "
                "torch.bfloat16 does not"
            )
        if averaging is not None:
            warmed_up_average(averaging)
        check_number("awp_gamma", awp_gamma)
        check_number("awp_warmup", awp_warmup)
        self.model, self.optimizer, self.objective, self.scheduler = model, optimizer, objective, scheduler
        self.averaging, self.precision, self.awp_gamma, self.awp_warmup = averaging, precision, awp_gamma, awp_warmup
        self.attack, self.collapse_guard, self.metrics = attack, collapse_guard, metrics
        self._frozen: list[nn.Module] = []

    def fit(
        self,
        train: Iterable[Any],
        *,
        epochs: int,
        validation: Iterable[Any] | None = None,
        patience: int | None = None,
        checkpoint: str | PathLike[str] | None = None,
        every: int | None = None,
        resume: bool = False,
        progress: bool = True,
    ) -> TrainingResult:
        """Trains, and leaves the model in evaluation mode with its best weights, or the last ones without validation.

        A run that was killed and is resumed ends with the weights of one that was not, to the last bit on a CPU, if the
        data come in an order that hangs on PyTorch's, Python's or numpy's generators, or those of the loaders.
        DataLoader workers that draw random numbers must not be persistent.

        Args:
            train: Batches ``(x, y)``, such as a DataLoader; gone through once per epoch.
            epochs: How many, those of a resumed run included.
            validation: Batches ``(x, y)`` that were set aside from the training data: the best weights are chosen on
                them, so a figure on them is too good to be reported.
            patience: Epochs without a better score after which training stops, since robust accuracy falls again long
                before clean accuracy does (robust overfitting, 2002.11569).
            checkpoint: A file, replaced as a whole at the end of each epoch.
            every: Optimizer steps after which it is written within an epoch.
            resume: Whether to go on from ``checkpoint``, if it is there.
            progress: Whether to show a progress bar.

        Returns:
            A :class:`TrainingResult`.

        Raises:
            FloatingPointError: If the loss or a weight is NaN or infinite. The checkpoint is then of a time before.
            TypeError: If a batch is no pair of tensors.
            ValueError: If a parameter is out of range, or the checkpoint is damaged or of another run.

        Warns:
            CollapseWarning: If training collapsed.
        """
        check_counts(epochs=epochs, patience=patience, every=every)
        _check_data(train, validation)
        if patience is not None and validation is None:
            raise ValueError(f"patience needs data to judge by, got patience={patience} without validation=")
        if checkpoint is None and (resume or every is not None):
            raise ValueError("resume and every need a file, got none: checkpoint='run.pt'")
        loop = self._loop(train, validation, patience, None if checkpoint is None else Path(checkpoint), every)
        if loop.checkpoint is not None and resume and gathered(loop.checkpoint.exists())[0]:
            loop.restore(loop.checkpoint)
        batches = length(train)
        done = loop.progress.epoch * (batches or 0) + loop.progress.batch
        hidden = not progress or rank() > 0
        whole = None if batches is None else epochs * batches
        with tqdm(total=whole, initial=done, desc="training", unit="batch", disable=hidden) as bar:
            loop.run(train, validation, epochs, bar)
        loop.stepper.module.eval()
        if loop.progress.stopped == "collapse" and rank() == 0:
            warnings.warn(_collapse(loop), CollapseWarning, stacklevel=2)
        run = loop.progress
        return TrainingResult(tuple(run.history), run.best_epoch, run.best_score, run.stopped)

    def _loop(
        self,
        train: Iterable[Any],
        validation: Iterable[Any] | None,
        patience: int | None,
        checkpoint: Path | None,
        every: int | None,
    ) -> Loop:
        module = unwrapped(self.model)
        if module is self.model and world_size() > 1:
            self.model = DistributedDataParallel(self.model)
        if module.training:
            self._frozen = [part for part in module.modules() if not part.training]
        average = None if self.averaging is None else averaged_model(module, self.averaging)
        device = next(module.parameters()).device
        parts = module, self.model, self.optimizer, self.objective, self.scheduler, average, self.precision, device
        streams = generators(train, validation, self.objective, self.attack, self.collapse_guard)
        settings = {
            "objective": describe(self.objective),
            "optimizer": f"{type(self.optimizer).__name__} over {_groups(self.optimizer)} parameters",
            "scheduler": type(self.scheduler).__name__,
            "averaging": str(self.averaging),
            "precision": str(self.precision),
            "awp": f"{self.awp_gamma} after {self.awp_warmup} epochs",
            "attack": describe(self.attack),
            "number of processes": str(world_size()),
            "number of generators": str(len(streams)),
        }
        return Loop(
            Stepper(*parts),
            self._frozen,
            streams,
            settings,
            self.attack,
            self.collapse_guard,
            self.metrics,
            self.awp_gamma,
            self.awp_warmup,
            patience,
            checkpoint,
            every,
        )


def _groups(optimizer: torch.optim.Optimizer) -> str:
    return " and ".join(str(len(group["params"])) for group in optimizer.param_groups)


def _check_data(train: Iterable[Any], validation: Iterable[Any] | None) -> None:
    for name, batches in (("train", train), ("validation", validation)):
        if batches is not None:
            if isinstance(batches, Iterator):
                raise TypeError(
                    f"{name} must be gone through anew in each epoch, got an iterator, {type(batches).__name__}: "
                    "a DataLoader, or a list of batches"
                )
            check_sharded(name, batches)


def _collapse(loop: Loop) -> str:
    run = loop.progress
    return (
        f"training collapsed in epoch {run.epoch}: accuracy on a training batch under the guard's attack fell to "
        f"{run.history[-1]['guard_accuracy']:.1%}, from {run.good_score:.1%} at best. The weights of epoch "
        f"{run.good_epoch} were put back, and training stopped. Train with noisy_fgsm, or with an attack of more steps"
    )
