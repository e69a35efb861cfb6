"""The attacks of Carlini & Wagner (2016, arXiv:1608.04644) in L2, Linf and L0: minimum-norm."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from advlib.checks import check_counts
from advlib.noise import Noise
from advlib.rules import cosine
from advlib.search import Feedback, Model, Rule, SearchOptions, Task, search
from advlib.threats import L0, L1, Linf, Threat
from advlib.threats.base import choose, clamp, column

if TYPE_CHECKING:
    from typing_extensions import Unpack

_SHORTER = 0.7  # each round's first step over that of the round before
_LONGEST = 0.2  # step in Linf, in units of the nearest success's distance: on some networks that is below any fixed one
_NEARER = 0.1  # how much nearer than the nearest success changes are held in Linf: as in the paper


class CWState(NamedTuple):
    query: Tensor  # (N, ...) where the model is asked next
    mean: Tensor  # (N, ...) Adam's mean of gradients
    square: Tensor  # (N, ...) Adam's mean of their squares
    best: Tensor  # (N, ...) the nearest success
    distance: Tensor  # (N,) its distance, infinite where there is none
    c: Tensor  # (N,) weight of the margin
    step: Tensor  # (N,) updates made


class CWL0State(NamedTuple):
    query: Tensor  # this and the next five as above
    mean: Tensor
    square: Tensor
    best: Tensor
    distance: Tensor
    c: Tensor
    step: Tensor  # (N,) updates made in this round
    worth: Tensor  # (N, ...) what each change of the best does for the margin
    free: Tensor  # (N, ...) 1 where a feature may change, else 0
    share: Tensor  # (N,) of the features changed, how many the next round does without


@dataclass(frozen=True)
class CarliniWagner(Rule[Any]):
    """Descends ``size of the change - c * margin`` with Adam, the margin only up to a success.

    The size is the squared L2 norm, or in Linf the sum of what exceeds a limit somewhat below the distance so far.
    Each round begins at the nearest success so far with shorter steps, which fall to 0 along a cosine.

    Args:
        per_round: Updates of one round.
        step_size: Adam's first step in the first round; in Linf a fifth of the nearest success's distance at most.
        c: The first weight of the margin.
        confidence: The margin that counts as a success.
    """

    per_round: int
    step_size: float
    c: float = 1.0
    confidence: float = 0.0

    wanders = True
    growth: ClassVar[float] = 0.05  # by what share c grows after a failure, and falls after a success

    def start(self, task: Task, point: Tensor, noise: Noise) -> Any:
        zero, still = torch.zeros_like(task.x.flatten(1)[:, 0]), torch.zeros_like(point)
        return CWState(point, still, still, point, zero + torch.inf, zero + self.c, zero)

    def success(self, feedback: Feedback, task: Task) -> Tensor:
        return feedback.reached & (feedback.loss >= self.confidence)

    def update(self, state: Any, feedback: Feedback, task: Task, noise: Noise) -> Any:
        s = self._judged(state, feedback, task)
        change = s.query - task.x
        if isinstance(task.threat, Linf):
            limit = column((1 - _NEARER * self._fallen(s)) * s.distance, change)
            pull = (change - clamp(change, -limit, limit)).sign()
        else:
            pull = 2 * change
        s = self._moved(s, pull, feedback, task)
        ended = torch.remainder(s.step, self.per_round) == 0
        query, on = choose(ended & s.distance.isfinite(), s.best, s.query), column(~ended, change)
        return s._replace(query=query, mean=s.mean * on, square=s.square * on)

    def _judged(self, s: Any, feedback: Feedback, task: Task) -> Any:
        """The state after the answer."""
        distance = feedback.distance
        nearer = feedback.success & (distance < s.distance)
        return s._replace(best=choose(nearer, s.query, s.best), distance=torch.where(nearer, distance, s.distance))

    def _fallen(self, s: Any) -> Tensor:
        """``(N,)`` the length of this step over that of the first in its round."""
        fallen: Tensor = cosine(torch.remainder(s.step, self.per_round), self.per_round)
        return fallen

    def _moved(self, s: Any, pull: Tensor, feedback: Feedback, task: Task) -> Any:
        """The state after a step of Adam down ``pull`` less the push of the margin."""
        x, success = task.x, feedback.success
        gradient = torch.addcmul(pull, column(s.c * ~success, x), feedback.gradient, value=-1)
        mean = torch.lerp(s.mean, gradient, 0.1)  # this and the next: as in the paper, Adam's own
        square = torch.lerp(s.square, gradient * gradient, 0.001)
        step = torch.remainder(s.step, self.per_round) + 1
        length = self.step_size * _SHORTER ** ((s.step + 1 - step) / self.per_round)
        if isinstance(task.threat, Linf):
            length = torch.minimum(length, _LONGEST * s.distance)
        length = length * self._fallen(s) * (1 - 0.999**step).sqrt() / (1 - 0.9**step)
        spread = square.sqrt() + torch.finfo(x.dtype).tiny ** 0.5  # below it no square is a number
        query = clamp(torch.addcmul(s.query, column(-length, x), mean / spread), *task.threat.limits(x))
        c = torch.where(success, (1 - self.growth) * s.c, (1 + self.growth) * s.c)
        return s._replace(query=query, mean=mean, square=square, c=c, step=s.step + 1)

    def finished(self, state: Any) -> Tensor:
        done: Tensor = state.distance == 0
        return done


class CarliniWagnerL0(CarliniWagner):
    """The L2 attack on fewer and fewer features: a nearer success ends a round, and the next gives up the least.

    The least are those whose change times gradient, as in the paper, is below a share of the mean, and one at any rate.
    A round without such a success is tried again with half the share.
    """

    growth: ClassVar[float] = 0.1

    def start(self, task: Task, point: Tensor, noise: Noise) -> CWL0State:
        s, still = super().start(task, point, noise), torch.zeros_like(point)
        return CWL0State(**s._asdict(), worth=still, free=still + 1, share=0 * s.step + 0.5)

    def update(self, state: CWL0State, feedback: Feedback, task: Task, noise: Noise) -> Any:
        s, x = self._judged(state, feedback, task), task.x
        nearer, change = s.distance < state.distance, s.query - x
        s = s._replace(worth=choose(nearer, feedback.gradient * change, s.worth))
        s = self._moved(s, 2 * change, feedback, task)
        late = s.step >= self.per_round
        ended = (nearer | late) & s.distance.isfinite()
        share = torch.where(ended & ~nearer, s.share / 2, s.share)
        free = choose(ended, self._fewer(s, share, task), s.free)
        query = torch.lerp(x, choose(ended, s.best, s.query), free)
        return s._replace(query=query, step=torch.where(ended | late, 0, s.step), free=free, share=share)

    def _fewer(self, s: CWL0State, share: Tensor, task: Task) -> Tensor:
        """1 at the features that the best changes and that are worth enough, else 0."""
        changed, worth = s.best != task.x, s.worth
        if isinstance(task.threat, L0) and task.threat.per_pixel:
            changed, worth = changed.any(1, keepdim=True), worth.sum(1, keepdim=True)
        known = torch.where(changed, worth, torch.inf).flatten(1)
        mean = torch.where(changed, worth, 0).flatten(1).sum(1, keepdim=True) / s.distance.unsqueeze(1)
        kept = changed.flatten(1) & (known >= share.unsqueeze(1) * mean)  # a sort would take as long as the model
        kept = kept.scatter(1, known.argmin(1, keepdim=True), False)
        return kept.reshape(worth.shape).to(worth).expand_as(task.x)


def carlini_wagner(
    model: Model,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    *,
    steps: int = 1000,
    rounds: int | None = None,
    step_size: float | None = None,
    confidence: float = 0.0,
    c: float = 1.0,
    **options: Unpack[SearchOptions],
) -> Tensor:
    """Finds near inputs that change the prediction, weighing the margin against the size of the change.

    Looks, per example, for ``min ||x_adv - x||`` such that the model errs, over ball, bounds and mask. In L2 it
    descends ``||x_adv - x||_2**2 - c * margin`` with Adam, the margin only where it falls short of a success. In Linf
    what exceeds a limit takes the place of the squared norm, and the limit follows the distance of the nearest success.
    In L0 the L2 attack runs on fewer and fewer features. A step takes a forward and a backward pass.

    It departs from the paper where that brings it nearer at the same cost. The bounds are kept by clipping, which the
    paper compares with its change of variable by a tanh: that has no slope where an input is exactly at a bound, and
    here clipping came nearer. A binary search over ``c`` is spared: each row's ``c`` grows with each failure, and falls
    with each success. Rounds begin at the best so far, not at ``x``, and their steps fall to 0.

    Args:
        model: Callable from ``(N, ...)`` inputs to ``(N, C)`` logits.
        x: Clean inputs, ``(N, ...)``, float32 or float64, within ``threat.bounds``.
        y: ``(N,)`` integer labels: the true classes, or the wanted ones if ``targeted``.
        threat: An :class:`~advlib.threats.L2`, :class:`~advlib.threats.Linf` or :class:`~advlib.threats.L0` ball; its
            ``eps`` is the largest distance of interest, ``inf`` for the nearest adversarial inputs wherever they are.
            The search takes the same way whatever it is.
        steps: Updates in all.
        rounds: Into how many rounds they are split; None for 9 in L2 (the number of searches in the paper's code), 1 in
            Linf, and in L0 one for 10 steps: there a round ends with a success that changes fewer features, too.
        step_size: Adam's first step, in the units of ``x``; None for 1 in L2, 0.02 in Linf and 0.5 in L0, for inputs in
            [0, 1]. Later rounds' first steps are shorter, but for L0; and in Linf none is longer than a fifth of the
            nearest success's distance.
        confidence: How far the wrong class's logit is to be ahead (kappa in the paper).
        c: The first weight of the margin.
        **options: Any of :class:`~advlib.search.SearchOptions`. ``keep`` defaults to ``"nearest"``.

    Returns:
        ``(N, ...)`` inputs within ``threat``: on each row the nearest success, or the clean row where there is none.

    Raises:
        TypeError: If an argument is of the wrong type, or a loss is given.
        ValueError: If the threat model is L1, ``keep`` is ``"last"``, ``x`` leaves the bounds, or shapes and values
            disagree.

    Example:
        >>> x_adv = carlini_wagner(model, x, y, L2(torch.inf), steps=200)
    """
    if "loss" in options:
        raise TypeError("carlini_wagner follows the margin and takes no loss: leave it out")
    if isinstance(threat, L1):
        raise ValueError("Carlini and Wagner's attacks are in L2, Linf and L0: take ead for L1")
    form, usual, length = CarliniWagner, 9, 1.0
    if isinstance(threat, Linf):
        usual, length = 1, 0.02
    check_counts(steps=steps, rounds=rounds)
    if isinstance(threat, L0):
        form, usual, length = CarliniWagnerL0, math.ceil(steps / 10), 0.5
    rule = form(math.ceil(steps / (rounds or usual)), length if step_size is None else step_size, c, confidence)
    settings: dict[str, Any] = {"keep": "nearest", **options}
    return search(model, x, y, threat, rule, steps=steps, loss="margin", **settings).x_adv
