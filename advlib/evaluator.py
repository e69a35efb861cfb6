"""What stands between an attack and a model: the guard, the checks, and the count of what was asked."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor, nn
from typing_extensions import Self

from advlib.checks import check_inputs, check_labels
from advlib.gradients import Ask, Estimate, GradientSource, autograd
from advlib.guarding import guard as guard
from advlib.kernels.looks import may_look
from advlib.losses import Loss, resolve, unchanged
from advlib.noise import Key, Noise
from advlib.oracles import LabelOracle, Oracle, OracleError, OutOfBudget
from advlib.threats import Threat

Model = Callable[[Tensor], Any]
AnyModel = TypeVar("AnyModel", bound=Model)
Result = TypeVar("Result")
Objectives = Callable[[Any, "Task"], tuple[Tensor, ...]]


class GradientMaskingWarning(UserWarning):
    """The model gives an attack less than a gradient to follow, so its number is not to be trusted."""


class Task(NamedTuple):
    """What the rows of an attack are after; every tensor has one row per example."""

    x: Tensor  # (N, ...) clean inputs
    y: Tensor  # (N,) true classes, or the wanted ones if the attack is targeted
    target: Tensor | None  # (N,) classes that the loss aims at
    threat: Threat  # bound to x
    row: Tensor  # (N,) index of each row in the call

    def take(self, index: Tensor) -> Task:
        """The same task for some of its rows."""
        target = None if self.target is None else self.target[index]
        threat = self.threat.rows(index)
        return Task(self.x[index], self.y[index], target, threat, self.row[index])


def _reached(feedback: Feedback) -> Tensor:
    """Tells which rows have reached the goal, ``(N,)`` bool."""
    return feedback.reached


@dataclass(frozen=True)
class Feedback:
    """What the model said about the points it was asked."""

    point: Tensor  # (N, ...) where it was asked
    task: Task
    values: tuple[Tensor, ...]  # (N,) one per objective
    gradients: tuple[Tensor, ...]  # (N, ...) one per objective, finite; none if only values were asked for
    logits: Tensor  # (N, C)
    forwards: int = 1  # passes that each row took
    backwards: int = 0
    targeted: bool = False
    judge: Callable[[Feedback], Tensor] = _reached  # what counts as success
    candidate: Feedback | None = None  # what it said about the state's candidates, where a rule has them

    @cached_property
    def reached(self) -> Tensor:
        """Whether the class is left, or the wanted one reached, ``(N,)`` bool; never where a logit is NaN."""
        highest, prediction = self.logits.max(1)  # the highest of a row with a NaN is NaN
        reached = prediction == self.task.y if self.targeted else prediction != self.task.y
        return reached & (highest == highest)

    @cached_property
    def success(self) -> Tensor:
        """Whether the goal is reached as the rule sees it, ``(N,)`` bool."""
        return self.judge(self)

    @cached_property
    def distance(self) -> Tensor:
        """How far the points are from ``x`` in the threat model's norm, ``(N,)``."""
        return self.task.threat.distance(self.point, self.task.x)

    @property
    def moved(self) -> Tensor:
        """Whether there was a gradient to follow, or no need of one, ``(N,)`` bool."""
        # an objective beside the first has a gradient where that one has
        return self.success | (self.gradient.flatten(1).abs().amax(1) > 0)

    @property
    def loss(self) -> Tensor:
        """The first objective, ``(N,)``."""
        return self.values[0]

    @property
    def gradient(self) -> Tensor:
        """The gradient of the first objective, ``(N, ...)``."""
        return self.gradients[0]


_warns_of_gradients: ContextVar[bool] = ContextVar("warns_of_gradients", default=True)


@contextmanager
def without_gradient_warnings() -> Iterator[None]:
    """Keeps attacks from warning of rows without a gradient, for training, where a model may be sure of its batch."""
    token = _warns_of_gradients.set(False)
    try:
        yield
    finally:
        _warns_of_gradients.reset(token)


def unwrapped(model: AnyModel) -> AnyModel | nn.Module:
    """The module inside DistributedDataParallel, whose reducer must not see an attack's passes."""
    return model.module if isinstance(model, nn.parallel.DistributedDataParallel) else model


def precise(logits: Tensor) -> Tensor:
    """Logits in single precision at least, since losses lose too much in the half precision that autocast gives."""
    return logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits


class Evaluator(AbstractContextManager["Evaluator"]):
    """The guard and the counter without the loop, for algorithms that own theirs.

    Entering it checks the inputs and guards the model; leaving it puts the model back and warns once of rows
    that never had a gradient.

    Args:
        model: Callable from ``(N, ...)`` inputs to ``(N, C)`` logits.
        x: Clean inputs, ``(N, ...)``, float32 or float64, within ``threat.bounds``.
        y: ``(N,)`` integer labels: the true classes, or the wanted ones if ``targeted``.
        threat: Where the adversary may look.
        loss: What the adversary looks for: a name from :data:`advlib.losses.LOSSES`, or a callable.
        gradient: What the adversary can see, a source from :mod:`advlib.gradients`.
        targeted: Whether the goal is to reach class ``y`` in place of leaving it.
        target: ``(N,)`` classes that the loss aims at in an untargeted attack.
        logits_of: How logits are read from what the model returns, where that is more than logits.
        generator: Source of the call's key; None means torch's global generator.

    Raises:
        TypeError: If ``x``, ``y`` or what the model returns are of the wrong type.
        ValueError: If shapes or values are wrong; the message names the invariant, what came, and the mend.

    Example:
        >>> with Evaluator(model, x, y, Linf(0.1)) as evaluator:
        ...     values, gradients = evaluator.value_and_grad(x)
    """

    def __init__(
        self,
        model: Model,
        x: Tensor,
        y: Tensor,
        threat: Threat,
        *,
        loss: str | Loss = "cross_entropy",
        gradient: GradientSource = autograd,
        targeted: bool = False,
        target: Tensor | None = None,
        logits_of: Callable[[Any], Tensor] | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        if not callable(model):
            raise TypeError(f"model must be a callable from inputs to logits, got {type(model).__name__}")
        if not isinstance(threat, Threat):
            mend = f"no ball, its attack is {threat.attack}" if hasattr(threat, "attack") else "wrap the radius"
            raise TypeError(f"threat must be a threat model such as advlib.Linf(8/255), got {threat!r}: {mend}")
        if targeted and target is not None:
            raise ValueError("targeted=True takes the wanted classes as y: leave target out")
        self.model = unwrapped(model)
        self.loss = resolve(loss, logits_of)
        self.gradient = gradient
        self.targeted = targeted
        self.logits_of = logits_of or unchanged
        self.key = Key(generator)
        self._guard = guard(model)
        with torch.inference_mode(False), torch.no_grad():
            check_inputs(x)
            # An inference tensor cannot take part in autograd; a copy made here can.
            self.x = x.clone() if x.is_inference() else x.detach()
            self.y = check_labels("y", y, self.x)
            aim = self.y if targeted else None
            self.target = aim if target is None else check_labels("target", target, self.x)
            self.threat = threat.aligned(self.x)
            threat.check(self.x)
            count = torch.zeros(len(x), dtype=torch.int64, device=x.device)
            self._forwards, self._backwards, self._moved = count, count.clone(), count.clone()
        self._asked: Tensor | None = None  # the rows asked last, and passes not yet counted against them
        self._passes = (0, 0)
        self._settled: Tensor | None = None  # rows all known to have had a gradient to follow, or to need none
        self._checked = False
        self.interruption: OracleError | None = None  # what ended the attack before its time

    def __enter__(self) -> Self:
        self._guard.__enter__()
        return self

    def __exit__(self, *exception: Any) -> None:
        self._guard.__exit__(*exception)
        if exception[0] is None:
            self._warn_of_missing_gradients()

    def concluded(self, result: Result) -> Result:
        """The result of an attack; where the model failed on the way, what it raised is raised with the result."""
        if self.interruption is not None and not isinstance(self.interruption, OutOfBudget):
            self.interruption.result = result
            raise self.interruption
        return result

    @property
    def forwards(self) -> Tensor:
        """Forward passes spent on each row so far, ``(N,)``."""
        self._count(None)
        return self._forwards

    @property
    def backwards(self) -> Tensor:
        """Backward passes spent on each row so far, ``(N,)``."""
        self._count(None)
        return self._backwards

    def task(self, rows: Tensor | None = None) -> Task:
        """The task of some rows, an ``(n,)`` index in any order; None means all of them, without a copy."""
        x, y, target, threat = self.x, self.y, self.target, self.threat
        if rows is None:
            return Task(x, y, target, threat.at(x), torch.arange(len(x), device=x.device))
        x, y, target, threat = x[rows], y[rows], None if target is None else target[rows], threat.rows(rows)
        return Task(x, y, target, threat.at(x), rows)

    def ask(self, points: Tensor, rows: Tensor | None = None, *, order: int = 1, step: int = 0) -> Feedback:
        """Asks the model about points of some rows, and counts it against them.

        Args:
            points: ``(n, ...)`` points to ask the model about.
            rows: ``(n,)`` indices of the rows that they belong to, in any order, a row as often as it has points;
                None means all rows in order.
            order: 1 for values and gradients, 0 for values alone.
            step: Which step this is, for gradient sources that draw noise: each draws another.
        """
        task = self.task(rows)
        return self.feedback(points, task, self.default_objectives, order, Noise(self.key, task.row, step=step))

    def value_and_grad(self, points: Tensor, rows: Tensor | None = None, *, step: int = 0) -> tuple[Tensor, Tensor]:
        """The loss at ``points``, ``(n,)``, and its gradient, ``(n, ...)``; see :meth:`ask`."""
        feedback = self.ask(points, rows, step=step)
        return feedback.loss, feedback.gradient

    def default_objectives(self, output: Any, task: Task) -> tuple[Tensor, ...]:
        """The one loss of the call."""
        return (self.loss(output, task.y, task.target),)

    def feedback(
        self,
        points: Tensor,
        task: Task,
        objectives: Objectives,
        order: int,
        noise: Noise,
        judge: Callable[[Feedback], Tensor] = _reached,
    ) -> Feedback:
        """Asks the model once about each row's point, and counts it.

        Args:
            points: ``(n, ...)`` points.
            task: The rows that they belong to.
            objectives: What is evaluated and, for ``order`` 1, differentiated.
            order: 1 for values and gradients, 0 for values alone.
            noise: What a random gradient source draws from.
            judge: Tells from the feedback which rows have reached the goal.
        """
        feedback = self.answer(points, task, objectives, order, noise, judge)
        self._count(task.row, feedback.forwards, feedback.backwards)
        if order and task.row is not self._settled:
            moved = feedback.moved
            self._moved.index_add_(0, task.row, moved.long())
            if moved.device.type == "cpu" and bool(moved.all()):  # elsewhere a look would wait for the device
                self._settled = task.row
        return feedback

    def answer(
        self,
        points: Tensor,
        task: Task,
        objectives: Objectives,
        order: int,
        noise: Noise,
        judge: Callable[[Feedback], Tensor] = _reached,
    ) -> Feedback:
        """What :meth:`feedback` returns, uncounted: after the first question a pure function of tensors."""

        def ask(at: Tensor) -> tuple[Any, tuple[Tensor, ...]]:
            output = self.model(at)
            if isinstance(output, Tensor):
                output = precise(output)
            if not self._checked:
                self._check_logits(self.logits_of(output), task, order)
            return output, objectives(output, task)

        if order and isinstance(self.model, LabelOracle):  # it would refuse autograd, but not finite differences
            raise TypeError(self.model.refusal)
        estimate = self.gradient(ask, points, noise) if order else _values_only(ask, points)
        gradients = tuple(_finite(gradient) for gradient in estimate.gradients)
        logits = self.logits_of(estimate.output).detach()
        passes = (estimate.forwards, estimate.backwards)
        return Feedback(points, task, estimate.values, gradients, logits, *passes, self.targeted, judge)

    def count(self, row: Tensor, forwards: Tensor, backwards: Tensor, moved: Tensor) -> None:
        """Counts what was asked by :meth:`answer`, row by row.

        Args:
            row: ``(n,)`` indices of the rows.
            forwards: ``(n,)`` forward passes.
            backwards: ``(n,)`` backward passes.
            moved: ``(n,)`` questions whose gradient was not zero.
        """
        self._forwards.index_add_(0, row, forwards)
        self._backwards.index_add_(0, row, backwards)
        self._moved.index_add_(0, row, moved)

    def _count(self, row: Tensor | None, forwards: int = 0, backwards: int = 0) -> None:
        """Counts passes; as numbers while the same rows are asked, since even small tensor operations take time."""
        if row is not self._asked:
            if self._asked is not None:
                for count, passes in zip((self._forwards, self._backwards), self._passes, strict=True):
                    count.index_add_(0, self._asked, torch.full_like(self._asked, passes))
            self._asked, self._passes = row, (0, 0)
        self._passes = (self._passes[0] + forwards, self._passes[1] + backwards)

    def _check_logits(self, logits: Tensor, task: Task, order: int) -> None:
        self._checked = True
        if not isinstance(logits, Tensor):
            raise TypeError(
                f"the model must return logits (N, C), got {type(logits).__name__}: wrap it in "
                "advlib.models.Logits, or say how logits are read with logits_of="
            )
        if logits.ndim != 2 or len(logits) != len(task.y) or logits.shape[1] < 2:
            raise ValueError(
                f"the model must return logits of shape (N, C) with C >= 2 classes, here ({len(task.y)}, C), "
                f"got {tuple(logits.shape)}: return one row of class scores per input"
            )
        for name, labels in (("y", self.y), ("target", self.target)):
            if labels is not None and not bool(((labels >= 0) & (labels < logits.shape[1])).all()):
                raise ValueError(
                    f"{name} must hold classes from 0 to {logits.shape[1] - 1}, got values from "
                    f"{int(labels.min())} to {int(labels.max())}: number the classes from 0"
                )
        values = logits.detach()
        probabilities = bool((values >= 0).all() and (values.sum(1) - 1).abs().amax() < 1e-4)
        if order and probabilities and not isinstance(self.model, Oracle):  # which has no softmax to drop
            warnings.warn(
                "the model returns probabilities, not logits: gradients vanish where it is confident, and it "
                "looks more robust than it is. Drop its last softmax",
                GradientMaskingWarning,
                stacklevel=2,
            )

    def _warn_of_missing_gradients(self) -> None:
        missing = int(((self.backwards > 0) & (self._moved == 0)).sum())
        if missing and _warns_of_gradients.get():
            warnings.warn(
                f"{missing} of {len(self.x)} rows never had a nonzero, finite gradient: the attack could not "
                "move them, which says nothing about robustness. Try loss='margin', float64 inputs, "
                "advlib.models.BPDA around a non-differentiable layer, or "
                "gradient=advlib.gradients.finite_differences()",
                GradientMaskingWarning,
                stacklevel=2,
            )


def _finite(gradient: Tensor) -> Tensor:
    """The gradient with zeros for NaN, and numbers for infinities whose differences are finite too."""
    # a sum reads each number once and writes none; elsewhere a look at it would wait for the device
    if may_look(gradient) and math.isfinite(gradient.sum().item()):
        return gradient
    most = torch.finfo(gradient.dtype).max / 2
    return torch.nan_to_num(gradient, 0.0, most, -most)


def _values_only(ask: Ask, points: Tensor) -> Estimate:
    output, values = ask(points)
    return Estimate(output, values, (), 1, 0)
