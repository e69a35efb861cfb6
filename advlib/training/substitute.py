"""A copy of a model of which only answers can be had, trained on these (Papernot et al., arXiv:1602.02697)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from advlib.checks import check_counts
from advlib.defenses import Objective, Standard
from advlib.guarding import guard
from advlib.losses import cross_entropy
from advlib.noise import Key
from advlib.training.trainer import Trainer

Augmentation = Literal["jacobian", "random"]


@dataclass(frozen=True, eq=False)
class Substitute:
    """What :func:`train_substitute` made.

    Args:
        model: The substitute, trained and in evaluation mode: the module that was given.
        agreement: After each round of training, the share of ``holdout`` on which it says what the target says; empty
            without ``holdout``.
        queries: What the target had been asked by then.
        x: ``(M, ...)`` the inputs that the target was asked about.
        y: ``(M,)`` what it said.

    Example:
        >>> copy = nn.Sequential(nn.Flatten(), nn.Linear(36, 10))
        >>> found = train_substitute(model, x, copy, rounds=1)
        >>> x_adv = pgd(found.model, x, y, Linf(0.1))  # and see what the target makes of it
    """

    model: nn.Module
    agreement: tuple[float, ...]
    queries: tuple[int, ...]
    x: Tensor = field(repr=False)
    y: Tensor = field(repr=False)


def train_substitute(
    oracle: Callable[[Tensor], Tensor],
    seed_inputs: Tensor,
    substitute: nn.Module,
    *,
    rounds: int = 6,
    step: float = -0.2,
    period: int | None = None,
    reservoir: int | None = None,
    augmentation: Augmentation = "jacobian",
    optimizer: torch.optim.Optimizer | None = None,
    objective: Objective | None = None,
    epochs: int = 10,
    batch_size: int = 64,
    bounds: tuple[float, float] | None = (0.0, 1.0),
    holdout: tuple[Tensor, Tensor] | None = None,
    generator: torch.Generator | None = None,
) -> Substitute:
    """Trains a substitute on a target's answers to few inputs, and to more that it makes up where its own answers turn.

    After each round of training, every input gets a neighbour, one ``step`` along the sign of the substitute's gradient
    of the class that the target gave it, and the target is asked about it. The inputs double with each round, until
    ``reservoir`` or the oracle's budget says less; those to be moved are then drawn at random. What fools the
    substitute often fools the target: see :func:`advlib.evaluation.transfer_matrix`.

    Args:
        oracle: The target: an oracle, or any callable from ``(N, ...)`` inputs to ``(N, C)`` scores, of which the
            largest counts. A budget, :attr:`Oracle.left <advlib.oracles.Oracle.left>`, is kept.
        seed_inputs: ``(S, ...)`` the first inputs, such as a few of each class.
        substitute: What is trained, in place: any module that gives logits, of another kind than the target if need be.
        rounds: How often the inputs grow (6, as in section 5 of the paper).
        step: How far a neighbour is away in each feature, in the units of the inputs. The paper's 0.1 leads to where
            the substitute is surer of the class; back, to where it is less sure, copies learn more
            (``benchmarks/substitute.py``).
        period: After so many rounds the step changes its sign, and again (1605.07277, equation 7); None for never.
        reservoir: Most neighbours of a round (1605.07277, section 3.2; 400 there); None for no limit.
        augmentation: ``"jacobian"``, or ``"random"`` for random signs in place of the gradient's, to compare with.
        optimizer: Over the parameters of ``substitute``; None for SGD with learning rate 0.01 and momentum 0.9, as in
            the paper.
        objective: What is minimised, from :mod:`advlib.defenses`; None for cross-entropy.
        epochs: Passes over all inputs in each round of training (10, as in the paper).
        batch_size: Of training.
        bounds: Lowest and highest value of a feature, or None.
        holdout: Inputs and the target's classes for them, ``(N,)``, on which agreement is measured.
        generator: Source of the one key that all chance follows from; None means torch's global generator.

    Raises:
        ValueError: If a number is out of place, or ``augmentation`` is another word.
        advlib.oracles.OutOfBudget: If the budget does not even pay for ``seed_inputs``.

    Example:
        >>> from advlib.oracles import LabelOracle
        >>> oracle = LabelOracle(model, budget=20)
        >>> copy = nn.Sequential(nn.Flatten(), nn.Linear(36, 10))
        >>> found = train_substitute(oracle, x, copy, rounds=3)
        >>> found.queries
        (6, 12, 20)
    """
    check_counts(rounds=rounds, period=period, reservoir=reservoir, epochs=epochs, batch_size=batch_size)
    if augmentation not in Augmentation.__args__:  # type: ignore[attr-defined]
        raise ValueError(f"augmentation must be 'jacobian' or 'random', got {augmentation!r}")
    if optimizer is None:
        optimizer = torch.optim.SGD(substitute.parameters(), lr=0.01, momentum=0.9)
    trainer = Trainer(substitute, optimizer, objective or Standard())
    chance = torch.Generator().manual_seed(Key(generator).word % 2**63)
    x = seed_inputs.detach().clone()
    y = _classes(oracle, x)
    agreement, queries = [], []
    for number in range(rounds + 1):
        batches = DataLoader(TensorDataset(x, y), batch_size, shuffle=True, generator=chance)
        trainer.fit(batches, epochs=epochs, progress=False)
        queries.append(len(x))
        if holdout is not None:
            agreement.append(float((_classes(substitute, holdout[0]) == holdout[1]).double().mean()))
        most = min(len(x), math.inf if reservoir is None else reservoir, getattr(oracle, "left", math.inf))
        if number == rounds or most < 1:
            break
        chosen = torch.randperm(len(x), generator=chance)[: int(most)].sort().values.to(x.device)
        if augmentation == "jacobian":
            way = -_gradient(substitute, x[chosen], y[chosen]).sign()
        else:
            way = 2 * torch.randint(0, 2, x[chosen].shape, generator=chance).to(x) - 1
        turned = period is not None and number // period % 2 == 1
        new = x[chosen] + (-step if turned else step) * way
        if bounds is not None:
            new = new.clamp(*bounds)
        x, y = torch.cat([x, new]), torch.cat([y, _classes(oracle, new)])
    return Substitute(substitute, tuple(agreement), tuple(queries), x, y)


def _classes(model: Callable[[Tensor], Any], x: Tensor) -> Tensor:
    with guard(model):
        classes: Tensor = model(x).argmax(1)
    return classes


def _gradient(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """The gradient of each row's cross-entropy: minus that of its probability but for its length."""
    with guard(model), torch.enable_grad():
        x = x.clone().requires_grad_()
        return torch.autograd.grad(cross_entropy(model(x), y).sum(), x)[0]
