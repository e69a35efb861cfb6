"""Auto-PGD (Croce & Hein, 2020, arXiv:2003.01690), and its form for L1 (Croce & Hein, 2021, arXiv:2103.01208)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from advlib.attacks.targets import search_targets
from advlib.kernels.bookkeeping import extrapolate, keep_better
from advlib.losses import Loss
from advlib.noise import Noise
from advlib.search import Feedback, Model, Rule, SearchOptions, Task, search
from advlib.threats import L0, L1, Threat
from advlib.threats.base import choose, column, rounding
from advlib.threats.l1 import movable

if TYPE_CHECKING:
    from typing_extensions import Unpack


class MomentumState(NamedTuple):
    query: Tensor  # (N, ...) where the model is asked next
    previous: Tensor  # (N, ...) where the last step started
    best: Tensor  # (N, ...) the point with the largest loss
    best_gradient: Tensor  # (N, ...) the gradient there
    best_loss: Tensor  # (N,)
    loss: Tensor  # (N,) of the point asked about last
    checked_loss: Tensor  # (N,) best_loss at the last checkpoint
    length: Tensor  # (N,) length of a step
    kept: Tensor  # (N,) bool, whether it was kept at the last checkpoint
    step: Tensor  # (N,) updates made
    since: Tensor  # (N,) of these, after the last checkpoint
    gains: Tensor  # (N,) of these, those that raised the loss
    period: Tensor  # (N,) updates from the last checkpoint to the next


@dataclass(frozen=True)
class MomentumPGD(Rule[MomentumState]):
    """Steps with momentum, halved at checkpoints where they stall, in Linf and L2 (2003.01690, algorithm 1).

    Args:
        steps: Updates of one run.
    """

    steps: int

    def start(self, task: Task, point: Tensor, noise: Noise) -> MomentumState:
        point, length = task.threat.project(point, task.x), 2 * task.threat.scale(task.x)
        zero, none = torch.zeros_like(length), torch.full_like(length, -torch.inf)
        best = (point, torch.zeros_like(point), none)
        period = zero + self._updates(22)
        return MomentumState(point, point, *best, none, none, length, zero == 0, zero, zero, zero, period)

    def update(self, state: MomentumState, feedback: Feedback, task: Task, noise: Noise) -> MomentumState:
        s, loss, threat = state, feedback.loss, task.threat
        first, better = s.step == 0, loss > s.best_loss
        best, best_gradient = keep_better(better, (s.query, feedback.gradient), (s.best, s.best_gradient))
        best_loss = torch.where(better, loss, s.best_loss)
        checked_loss = torch.where(first, loss, s.checked_loss)
        since, gains = s.since + ~first, s.gains + (~first & (loss > s.loss))

        check = since >= s.period
        # rho = 0.75 (section 3.2); the second condition sees nothing new where the step was just halved
        stalled = (gains < 0.75 * s.period) | (s.kept & (best_loss <= checked_loss))
        halve = check & stalled
        length = torch.where(halve, s.length / 2, s.length)
        point, gradient = keep_better(halve, (best, best_gradient), (s.query, feedback.gradient))

        ahead = threat.step(point, gradient, length, task.x)
        # point + 0.75 (ahead - point) + 0.25 (point - previous), but for the first step, which is plain
        query = extrapolate(ahead, s.previous, point, torch.where(first, 0.0, 0.25))

        shorter = (s.period - self._updates(3)).clamp_min(self._updates(6))
        progress = (best, best_gradient, best_loss, loss, torch.where(check, best_loss, checked_loss))
        pace = (length, torch.where(check, ~stalled, s.kept), s.step + 1)
        counts = (torch.where(check, 0, since), torch.where(check, 0, gains), torch.where(check, shorter, s.period))
        return MomentumState(threat.project(query, task.x), point, *progress, *pace, *counts)

    def _updates(self, percent: int) -> int:
        return max(percent * self.steps // 100, 1)


class SparseState(NamedTuple):
    query: Tensor  # (N, ...) where the model is asked next
    best: Tensor  # (N, ...) the point of this stage with the largest loss
    best_gradient: Tensor  # (N, ...) the gradient there
    best_loss: Tensor  # (N,)
    length: Tensor  # (N,) length of a step
    moves: Tensor  # (N,) features that a step moves
    changed: Tensor  # (N,) features in which the best point of the last checkpoint differed from x
    since: Tensor  # (N,) updates since then
    step: Tensor  # (N,) updates made


@dataclass(frozen=True)
class SparsePGD(Rule[SparseState]):
    """Sparse steps in L1, as many features as the best point so far suggests (2103.01208, section 3.3).

    The first 30 % of the steps are taken in a ball of three times ``eps``, the next 30 % in one of two times, and the
    rest in the ball itself. Each stage begins anew at the best point of the one before, projected.

    Args:
        steps: Updates of one run.
    """

    steps: int

    wanders = True

    def start(self, task: Task, point: Tensor, noise: Noise) -> SparseState:
        # A uniform point of the ball moves all features by next to nothing. Of its changes, stretched to a tenth of eps
        # on average, the projection keeps about the thirty largest, whatever the dimension.
        uniform = (point != task.x).flatten(1).sum(1) > _most_moves(task.x)
        far = torch.lerp(task.x, point, task.x[0].numel() / 10)
        step = torch.zeros_like(task.x.flatten(1)[:, 0])
        query = self._ball(task, step).project(choose(uniform, far, point), task.x)
        return self._stage(task, query, step)

    def update(self, state: SparseState, feedback: Feedback, task: Task, noise: Noise) -> SparseState:
        s, loss, x, step = state, feedback.loss, task.x, state.step + 1
        better = loss > s.best_loss
        best, best_gradient = keep_better(better, (s.query, feedback.gradient), (s.best, s.best_gradient))
        best_loss = torch.where(better, loss, s.best_loss)

        ball, eps = self._ball(task, step), self._radius(task, step)
        check = s.since >= max(16 * self.steps // 1000, 1)  # 4 % of the last stage's updates
        changed = ((best - x).abs() > rounding(x)).flatten(1).sum(1).to(loss)
        sparser = check & (changed < 0.95 * s.changed)
        length = torch.where(check, torch.maximum(s.length / 1.5, eps / 10), s.length)
        length = torch.where(sparser, eps, length)
        moves = torch.where(check, changed / 1.5, s.moves)
        point, gradient = keep_better(sparser, (best, best_gradient), (s.query, feedback.gradient))

        way = _steepest_features(movable(ball, gradient, point), moves).sign()
        each = length / way.flatten(1).abs().sum(1).clamp_min(1)
        ahead = torch.addcmul(point, column(each, point), way)
        narrower = self._factor(step) < self._factor(s.step)
        query = ball.project(choose(narrower, best, ahead), x)
        counts = (torch.where(check, changed, s.changed), torch.where(check, 0, s.since) + 1, step)
        going = SparseState(query, best, best_gradient, best_loss, length, moves, *counts)
        return SparseState(
            *(choose(narrower, *pair) for pair in zip(self._stage(task, query, step), going, strict=True))
        )

    def _stage(self, task: Task, query: Tensor, step: Tensor) -> SparseState:
        """The state at the beginning of a stage."""
        zero = torch.zeros_like(step)
        best = (query, torch.zeros_like(query), zero - torch.inf)
        pace = (self._radius(task, step), zero + _most_moves(query), zero + query[0].numel())
        return SparseState(query, *best, *pace, zero, step)

    def _factor(self, step: Tensor) -> Tensor:
        return 1.0 + (step < 30 * self.steps // 100) + (step < 60 * self.steps // 100)

    def _radius(self, task: Task, step: Tensor) -> Tensor:
        return self._factor(step) * task.threat.radius(task.x).flatten()

    def _ball(self, task: Task, step: Tensor) -> Threat:
        return task.threat.resized(self._radius(task, step))


def _most_moves(x: Tensor) -> int:
    """A fifth of the features: what the authors' code starts with, and a bound that spares a full sort."""
    return max(x[0].numel() // 5, 1)


def _steepest_features(gradient: Tensor, moves: Tensor) -> Tensor:
    """``gradient`` with zeros but for the ``moves`` largest entries of each row, at least one."""
    largest = gradient.abs().flatten(1).topk(_most_moves(gradient), dim=1).values
    rank = (moves.long() - 1).clamp(0, largest.shape[1] - 1)
    least = largest.gather(1, rank.unsqueeze(1))
    return torch.where(gradient.abs() >= column(least, gradient), gradient, 0)


@dataclass(frozen=True)
class AutoPGD(Rule[Any]):
    """Auto-PGD: with momentum in Linf and L2, with sparse steps from wider balls in L1.

    Args:
        steps: Updates of one run, by which checkpoints are set: as many as the search takes.
    """

    steps: int

    wanders = True  # in L1

    def start(self, task: Task, point: Tensor, noise: Noise) -> Any:
        if isinstance(task.threat, L0):
            raise ValueError(
                "Auto-PGD takes an Linf, L2 or L1 threat model, got L0: use advlib.pgd or advlib.jsma there"
            )
        if bool(torch.as_tensor(task.threat.eps).isinf().any()):
            raise ValueError(f"Auto-PGD measures its steps in eps, so it takes a finite eps, got {task.threat.eps}")
        return self._form(task.threat).start(task, point, noise)

    def update(self, state: Any, feedback: Feedback, task: Task, noise: Noise) -> Any:
        return self._form(task.threat).update(state, feedback, task, noise)

    def _form(self, threat: Threat) -> Rule[Any]:
        return SparsePGD(self.steps) if isinstance(threat, L1) else MomentumPGD(self.steps)


def apgd(
    model: Model,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    *,
    steps: int = 100,
    loss: str | Loss = "cross_entropy",
    targets: int = 0,
    random_start: bool = True,
    **options: Unpack[SearchOptions],
) -> Tensor:
    """Climbs the loss with steps whose length the attack sets itself, row by row, as it stalls.

    Solves, per example, ``max loss(model(x_adv), y)`` over ball, bounds and mask. In Linf and L2 steps have momentum,
    begin at ``2 * eps``, and are halved at checkpoints where too few of them raised the loss; the row then goes on from
    its best point. In L1 steps move few features, as many as its best point suggests; 60 % of them are taken in balls
    of three and two times ``eps``, and the rest goes on from the best point there, projected. A step costs one forward
    and one backward pass.

    Args:
        model: Callable from ``(N, ...)`` inputs to ``(N, C)`` logits.
        x: Clean inputs, ``(N, ...)``, float32 or float64, within ``threat.bounds``.
        y: ``(N,)`` integer labels: the true classes, or the wanted ones if ``targeted``.
        threat: An Linf, L2 or L1 ball, ``eps`` finite, in the units of ``x``.
        steps: Updates per run (100, as in AutoAttack).
        loss: What is increased: a name from :data:`advlib.losses.LOSSES`, or a callable.
        targets: How many of the likeliest wrong classes the loss aims at, in a run each; 0 is one run that aims
            at none. ``loss="dlr", targets=9`` is AutoAttack's APGD-T. The goal is to leave class ``y`` in both cases.
            With ``keep="first"`` a row that breaks leaves before the next class; else it is attacked at each.
        random_start: Whether each run begins at a random point in place of ``x``.
        **options: Any of :class:`~advlib.search.SearchOptions`: ``restarts`` (of each class), ``targeted``, ``keep``,
            ``generator``, ...

    Returns:
        ``(N, ...)`` inputs within ``threat``: on each row the strongest point asked about.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If the threat model is an L0 ball or ``eps`` infinite, ``x`` leaves the bounds, shapes and values
            disagree, or ``targets`` comes with ``targeted`` or ``target``.

    Example:
        >>> x_adv = apgd(model, x, y, Linf(8 / 255), steps=20)
    """
    rule = AutoPGD(steps)
    if targets:
        return search_targets(
            model, x, y, threat, rule, targets=targets, steps=steps, loss=loss, random_start=random_start, **options
        ).x_adv
    return search(model, x, y, threat, rule, steps=steps, loss=loss, random_start=random_start, **options).x_adv
