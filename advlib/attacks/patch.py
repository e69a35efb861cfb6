"""Adversarial patches, for each image and for all (Brown et al., 2017, arXiv:1712.09665)."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from advlib.attacks.pgd import PGDState, ProjectedGradient
from advlib.attacks.transformed import Transformed
from advlib.checks import check_counts, check_inputs
from advlib.evaluator import Evaluator, without_gradient_warnings
from advlib.gradients import GradientSource, autograd
from advlib.losses import Loss
from advlib.noise import Key, Noise
from advlib.search import GradientMaskingWarning, Model, SearchOptions, Task
from advlib.threats import Linf
from advlib.threats.base import choose, tensor_like
from advlib.threats.patches import Patch

if TYPE_CHECKING:
    from typing_extensions import Unpack

Batches = Iterable[tuple[Tensor, Tensor]]

_GOAL = ("loss", "targeted", "target", "gradient", "logits_of", "generator")  # what a look at places shares
_PLACEMENT = 4  # numbers that say how a patch lies, after those of its content
_LOOKS, _BLUR = 4, 0.2  # points at which places are compared, and how far from x, in widths of the bounds
_FIRST = 0.5  # the first step of a universal patch, in halves of the width of the bounds


@dataclass(frozen=True)
class PatchSearch(ProjectedGradient):
    """Projected gradient steps on the content of a patch, that lies elsewhere in each restart.

    Args:
        places: ``(rows of the call, K, 2)`` numbers in [-1, 1]: restart ``r`` puts it at place ``r``; None for places
            at random.
    """

    places: Tensor | None = None

    def start(self, task: Task, point: Tensor, noise: Noise) -> PGDState:
        if self.places is not None:
            place = self.places[task.row, int(noise.restart)]
            point = torch.cat([point[:, :-_PLACEMENT], place, point[:, 2 - _PLACEMENT :]], dim=1)
        return super().start(task, point, noise)


def patched(model: Model, x: Tensor, threat: Patch) -> Transformed:
    """The model as a function of the patch on each image: its content, and the numbers that say how it lies."""
    check_inputs(x)
    threat.check(x)
    shape = (x.shape[1], *threat.sides)

    def transform(images: Tensor, unit: Tensor) -> Tensor:
        patch = _content(unit[:, :-_PLACEMENT], threat).reshape(len(images), *shape)
        return threat.apply(images, patch, threat.placement(images, unit[:, -_PLACEMENT:]))

    return Transformed(model, x, transform, math.prod(shape) + _PLACEMENT)


def _content(unit: Tensor, threat: Patch) -> Tensor:
    """Values of pixels from numbers in [-1, 1]."""
    low, high = (tensor_like(end, unit) for end in threat.bounds)
    return torch.lerp(low, high, (unit + 1) / 2)  # which ends exactly at the bounds


def ranked_places(gain: Tensor, sides: tuple[int, int], count: int) -> Tensor:
    """Where the most could be gained, ``(N, count, 2)`` numbers in [-1, 1] for rows and columns.

    They are those that :meth:`Patch.placement <advlib.threats.Patch.placement>` takes. Each place is at least half a
    patch from those before it, as long as there is such a place.

    Args:
        gain: ``(N, H, W)`` non-negative, what each pixel could add to the loss.
        sides: Height and width of the patch.
        count: How many places.
    """
    score = functional.avg_pool2d(gain.unsqueeze(1), sides, stride=1).squeeze(1)
    rows, columns = score.shape[1:]
    down, across = (torch.arange(side, device=gain.device) for side in (rows, columns))
    lower = 1 + score.flatten(1).amax(1).view(-1, 1, 1)  # brings what has been near one more place behind all others
    places = []
    for _ in range(count):
        best = score.flatten(1).argmax(1)
        top, left = best // columns, best % columns
        near = [
            (line - at.unsqueeze(1)).abs() <= side // 2
            for line, at, side in zip((down, across), (top, left), sides, strict=True)
        ]
        taken = near[0].unsqueeze(2) & near[1].unsqueeze(1)
        score = score - taken * lower
        middles = [(2 * at + 1) / space - 1 for at, space in ((top, rows), (left, columns))]  # of the shares of [-1, 1]
        places.append(torch.stack(middles, dim=1))
    return torch.stack(places, dim=1).to(gain)


def patch(
    model: Model,
    x: Tensor,
    y: Tensor,
    threat: Patch,
    *,
    steps: int = 20,
    step_size: float | None = None,
    places: Literal["ranked", "random"] = "ranked",
    loss: str | Loss = "cross_entropy",
    **options: Unpack[SearchOptions],
) -> Tensor:
    """Looks for a patch on each image, and a place for it, that the model gets most wrong.

    The content follows the gradient of the loss, from noise, within the bounds. Where the threat model leaves the place
    open, each restart tries another: those where the gradients of the image under noise promise most, which broke more
    images than as many random places (``benchmarks/beyond_balls.py``).

    Args:
        model: Callable from images ``(N, C, H, W)`` to ``(N, classes)`` logits.
        x: Clean images, ``(N, C, H, W)``, float32 or float64, within ``threat.bounds``.
        y: ``(N,)`` integer labels: the true classes, or the wanted ones if ``targeted``.
        threat: Size and bounds of the patch, and its location if that is given, a :class:`~advlib.threats.Patch`.
        steps: Updates per restart.
        step_size: Length of every step, in halves of the width of the bounds. None lets it fall from 2 to 0 along a
            cosine, as in :func:`~advlib.attacks.pgd`.
        places: ``"ranked"`` for the most promising places, at the price of five forward and four backward passes;
            ``"random"`` for uniform ones.
        loss: What is increased: a name from :data:`advlib.losses.LOSSES`, or a callable.
        **options: Any of :class:`~advlib.search.SearchOptions` but ``init``. ``restarts`` defaults to 10, each from
            other noise and at another place, and ``keep`` to ``"first"``: a row stops where it succeeds.

    Returns:
        ``(N, C, H, W)`` images with a patch: on each row the first success, or the strongest one asked about. A row
        that is wrong without a patch comes back unchanged.

    Raises:
        TypeError: If the threat model is not :class:`~advlib.threats.Patch`, ``init`` is given, or another argument is
            of the wrong type.
        ValueError: If ``x`` are no images, leave the bounds, or are smaller than the patch, ``places`` is another word,
            or shapes and values disagree.

    Example:
        >>> x_adv = patch(model, x, y, Patch(5))
    """
    if not isinstance(threat, Patch):
        raise TypeError(f"patch paints a window of each image, so it needs Patch(size), got {threat!r}")
    if places not in ("ranked", "random"):
        raise ValueError(f"places must be one of ranked, random, got {places!r}")
    check_counts(restarts=options.get("restarts"), batch_size=options.get("batch_size"))
    own = torch.Generator().manual_seed(Key(options.get("generator")).word)
    settings: dict[str, Any] = {"random_start": True, "restarts": 10, "keep": "first", "loss": loss, **options}
    settings["generator"] = own
    goal = {name: settings[name] for name in _GOAL if name in settings}
    moved, inside = patched(model, x, threat), Linf(math.inf, bounds=threat.bounds)
    with without_gradient_warnings(), Evaluator(model, x, y, inside, **goal) as evaluator:
        if len(x) == 0:  # nothing to rank
            return x.clone()
        parts = torch.split(torch.arange(len(x), device=x.device), settings.get("batch_size") or len(x))
        wrong = torch.cat([evaluator.ask(evaluator.x[part], part, order=0).reached for part in parts])
        ranking = None
        if places == "ranked" and threat.location is None:
            gains = [_gain(evaluator, part, threat) for part in parts]
            ranking = ranked_places(torch.cat(gains), threat.sides, settings["restarts"])
    found = moved.attacked(y, PatchSearch(steps, step_size, places=ranking), steps=steps, **settings)
    if found.success is None:
        return found.x_adv
    with torch.inference_mode(False):
        return choose(wrong, moved.x, found.x_adv)


def _gain(evaluator: Evaluator, rows: Tensor, threat: Patch) -> Tensor:
    """What each pixel alone could add to the loss to first order, ``(n, H, W)``, a mean over gradients under noise.

    The gradient at the image itself says less of images with a patch on them.
    """
    x, (low, high) = evaluator.x[rows], threat.bounds
    total = torch.zeros_like(x)
    for look in range(_LOOKS):
        noise = Noise(evaluator.key, rows, step=look).stream(3)
        at = torch.clamp(x + _BLUR * (high - low) * noise.normal(x), low, high)
        gradient = evaluator.ask(at, rows, step=look).gradient
        total += torch.maximum(gradient * (high - x), gradient * (low - x))
    return total.sum(1) / _LOOKS


def universal_patch(
    model: Model,
    batches: Batches,
    threat: Patch,
    *,
    steps: int = 500,
    target: int | None = None,
    loss: str | Loss = "cross_entropy",
    gradient: GradientSource = autograd,
    logits_of: Callable[[Any], Tensor] | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Trains one patch for all images, wherever it lies on them.

    Each step draws for every image of a batch a place, and an angle and a size where the threat model allows some, and
    moves the patch along the signs of the gradient, summed over the images (Brown et al. take the expectation over such
    placements). Steps fall from a quarter of the bounds' width to 0 along a cosine.

    Put it on images with :meth:`Patch.apply <advlib.threats.Patch.apply>`.

    Args:
        model: Callable from images ``(N, C, H, W)`` to ``(N, classes)`` logits.
        batches: Pairs of images within ``threat.bounds`` and their true classes, such as a DataLoader or ``[(x, y)]``;
            gone through as often as needed. They go to the device of the model's parameters.
        threat: Size and bounds of the patch, and how it may lie.
        steps: Batches that the patch is trained on.
        target: The class wanted of every image; None for any class but the true one.
        loss: What is increased: a name from :data:`advlib.losses.LOSSES`, or a callable.
        gradient: What it can see: a source from :mod:`advlib.gradients`.
        logits_of: How logits are read from what the model returns, where that is more than logits.
        generator: Source of the call's one random key; None means torch's global generator.

    Returns:
        The patch, ``(C, height, width)``, within the bounds.

    Raises:
        TypeError: If the threat model is not :class:`~advlib.threats.Patch`, or another argument is of the wrong type.
        ValueError: If there are no batches, images leave the bounds or are smaller than the patch, or shapes and values
            disagree.

    Example:
        >>> one = universal_patch(model, [(x, y)], Patch(5), steps=20)
        >>> x_adv = Patch(5).apply(x, one)
    """
    if not isinstance(threat, Patch):
        raise TypeError(f"universal_patch paints a window of each image, so it needs Patch(size), got {threat!r}")
    check_counts(steps=steps)
    key, seen, content, shape = Key(generator), False, torch.empty(0), (0, 0, 0)
    for step, (x, y) in zip(range(steps), _endless(model, batches), strict=False):
        moved = patched(model, x, threat)
        if step == 0:
            content, shape = moved.origin[0, 1:-_PLACEMENT], (x.shape[1], *threat.sides)
        with (
            without_gradient_warnings(),
            Evaluator(
                moved,
                moved.origin,
                y if target is None else torch.full_like(y, target),
                moved.threat,
                loss=loss,
                gradient=gradient,
                targeted=target is not None,
                logits_of=logits_of,
            ) as evaluator,
        ):
            noise = Noise(key, torch.arange(len(x), device=x.device), step=step)
            placement = 2 * noise.uniform(x.new_empty(len(x), _PLACEMENT)) - 1
            points = torch.cat([moved.origin[:, :1], content.expand(len(x), -1), placement], dim=1)
            feedback = evaluator.ask(points, step=step)
        slope = feedback.gradient[:, 1:-_PLACEMENT].sum(0)
        length = _FIRST / 2 * (1 + math.cos(math.pi * step / steps))
        content = torch.clamp(content + length * slope.sign(), -1, 1)
        seen = seen or bool(slope.any())
    if not seen:
        warnings.warn(
            "the patch never had a nonzero, finite gradient, and is gray: this says nothing about robustness. Try "
            "loss='margin', or advlib.models.BPDA around a non-differentiable layer",
            GradientMaskingWarning,
            stacklevel=2,
        )
    return _content(content, threat).reshape(shape)


def _endless(model: Model, batches: Batches) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches on the device of the model's parameters, again and again."""
    parameter = next(model.parameters(), None) if isinstance(model, nn.Module) else None
    while True:
        empty = True
        for batch in batches:
            if not isinstance(batch, tuple | list) or len(batch) != 2:
                raise TypeError(f"batches must be pairs of images and labels, got {type(batch).__name__}: yield (x, y)")
            x, y = batch
            yield (x, y) if parameter is None else (x.to(parameter.device), y.to(parameter.device))
            empty = False
        if empty:
            raise ValueError(
                "batches must hold pairs (x, y) as often as it is gone through, got none: give a DataLoader"
            )
