"""Noise: the baselines that an attack has to beat, and a check that it does."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from advlib.kernels.looks import may_wait
from advlib.losses import Loss
from advlib.noise import Noise
from advlib.search import Feedback, Model, Rule, SearchOptions, Task, search
from advlib.threats import L0, Threat
from advlib.threats.base import column, normalized

if TYPE_CHECKING:
    from typing_extensions import Unpack


class NoiseState(NamedTuple):
    query: Tensor  # (N, ...) where the model is asked next


class RandomPoints(Rule[NoiseState]):
    """Asks about the starting point, then about random ones, each drawn afresh."""

    order = 0

    def start(self, task: Task, point: Tensor, noise: Noise) -> NoiseState:
        return NoiseState(point)

    def update(self, state: NoiseState, feedback: Feedback, task: Task, noise: Noise) -> NoiseState:
        return NoiseState(self.draw(task, noise))

    @abstractmethod
    def draw(self, task: Task, noise: Noise) -> Tensor:
        """A random point of the threat model for each row."""


class UniformNoise(RandomPoints):
    """Points uniform in the ball."""

    def draw(self, task: Task, noise: Noise) -> Tensor:
        return task.threat.sample(task.x, noise)


class GaussianNoise(RandomPoints):
    """Gaussian directions, stretched to the border of the ball."""

    def draw(self, task: Task, noise: Noise) -> Tensor:
        low, high = task.threat.box(task.x)
        direction = normalized(torch.where(low < high, noise.normal(task.x), 0))
        length = task.threat.distance(task.x + direction, task.x)
        stretch = torch.where(length > 0, task.threat.scale(task.x) / length, 0)
        return task.threat.project(task.x + column(stretch, task.x) * direction, task.x)


class SaltAndPepper(RandomPoints):
    """Random features, as many as L0 allows or a random share, set to the lowest or the highest value."""

    def draw(self, task: Task, noise: Noise) -> Tensor:
        low, high = task.threat.box(task.x)
        if may_wait() and not bool((low.isfinite() & high.isfinite()).all()):
            raise ValueError("salt and pepper are the ends of the bounds: give the threat model finite bounds")
        if isinstance(task.threat, L0):
            chosen = task.threat.sample(task.x, noise) != task.x  # the whole budget, each feature as likely
        else:
            share = noise.stream(2).uniform(column(torch.empty_like(task.x.flatten(1)[:, 0]), task.x))
            chosen = noise.uniform(task.x) < share
        extreme = torch.where(noise.stream(3).uniform(task.x) < 0.5, low, high)
        return task.threat.project(torch.where(chosen, extreme, task.x), task.x)


def uniform_noise(
    model: Model,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    *,
    steps: int = 1,
    loss: str | Loss = "cross_entropy",
    **options: Unpack[SearchOptions],
) -> Tensor:
    """Tries the clean input and ``steps`` points uniform in the ball; the baseline every attack has to beat.

    Args:
        model: Callable from ``(N, ...)`` inputs to ``(N, C)`` logits.
        x: Clean inputs, ``(N, ...)``, float32 or float64, within ``threat.bounds``.
        y: ``(N,)`` integer labels: the true classes, or the wanted ones if ``targeted``.
        threat: The norm ball, in the units of ``x``.
        steps: Random points tried.
        loss: What ranks the points: a name from :data:`advlib.losses.LOSSES`, or a callable.
        **options: Any of :class:`~advlib.search.SearchOptions`.

    Returns:
        ``(N, ...)`` inputs within ``threat``: on each row the strongest point tried.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If ``x`` leaves the bounds, shapes and values disagree, or ``eps`` is infinite.

    Example:
        >>> x_adv = uniform_noise(model, x, y, Linf(8 / 255), steps=10)
    """
    return search(model, x, y, threat, UniformNoise(), steps=steps, loss=loss, **options).x_adv


def gaussian_noise(
    model: Model,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    *,
    steps: int = 1,
    loss: str | Loss = "cross_entropy",
    **options: Unpack[SearchOptions],
) -> Tensor:
    """Tries the clean input and ``steps`` Gaussian directions, stretched to the border of the ball.

    Args:
        model: Callable from ``(N, ...)`` inputs to ``(N, C)`` logits.
        x: Clean inputs, ``(N, ...)``, float32 or float64, within ``threat.bounds``.
        y: ``(N,)`` integer labels: the true classes, or the wanted ones if ``targeted``.
        threat: An Linf, L2 or L1 ball, in the units of ``x``; a direction has no length in L0.
        steps: Random points tried.
        loss: What ranks the points: a name from :data:`advlib.losses.LOSSES`, or a callable.
        **options: Any of :class:`~advlib.search.SearchOptions`.

    Returns:
        ``(N, ...)`` inputs within ``threat``: on each row the strongest point tried.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If ``x`` leaves the bounds, shapes and values disagree, ``eps`` is infinite, or the threat
            model is L0.

    Example:
        >>> x_adv = gaussian_noise(model, x, y, L2(0.5), steps=10)
    """
    if isinstance(threat, L0):
        raise ValueError("gaussian_noise needs an Linf, L2 or L1 ball, got L0: use salt_and_pepper")
    return search(model, x, y, threat, GaussianNoise(), steps=steps, loss=loss, **options).x_adv


def salt_and_pepper(
    model: Model,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    *,
    steps: int = 1,
    loss: str | Loss = "cross_entropy",
    **options: Unpack[SearchOptions],
) -> Tensor:
    """Tries the clean input and ``steps`` copies with some features set to the lowest or the highest value.

    Args:
        model: Callable from ``(N, ...)`` inputs to ``(N, C)`` logits.
        x: Clean inputs, ``(N, ...)``, float32 or float64, within ``threat.bounds``.
        y: ``(N,)`` integer labels: the true classes, or the wanted ones if ``targeted``.
        threat: The norm ball, in the units of ``x``, with finite bounds; points outside it are projected.
        steps: Random points tried, each with another share of the features changed.
        loss: What ranks the points: a name from :data:`advlib.losses.LOSSES`, or a callable.
        **options: Any of :class:`~advlib.search.SearchOptions`.

    Returns:
        ``(N, ...)`` inputs within ``threat``: on each row the strongest point tried.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If ``x`` leaves the bounds, shapes and values disagree, or there are no finite bounds.

    Example:
        >>> x_adv = salt_and_pepper(model, x, y, L0(20), steps=10)
    """
    return search(model, x, y, threat, SaltAndPepper(), steps=steps, loss=loss, **options).x_adv
