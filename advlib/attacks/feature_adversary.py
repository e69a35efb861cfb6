"""Feature adversaries (Sabour et al., 2015, arXiv:1511.05122): another image's representation, near the clean input."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from advlib.attacks.pgd import ProjectedGradient
from advlib.evaluator import Evaluator, precise, unwrapped
from advlib.losses import Loss, unchanged
from advlib.noise import Noise
from advlib.search import Feedback, Model, Rule, SearchOptions, Task, search
from advlib.threats import Threat

if TYPE_CHECKING:
    from typing_extensions import Unpack


@dataclass(frozen=True, eq=False)
class FeatureMatch(Rule[Any]):
    """A rule on the closeness of a representation, for a model that returns its output and that.

    Args:
        rule: Where it steps.
        guide: ``(rows of the call, ...)`` the representations wanted.
    """

    rule: Rule[Any]
    guide: Tensor

    def start(self, task: Task, point: Tensor, noise: Noise) -> Any:
        return self.rule.start(task, point, noise)

    def objectives(self, output: Any, task: Task, loss: Loss) -> tuple[Tensor, ...]:
        apart = precise(output[1]) - self.guide[task.row]
        return (-apart.flatten(1).square().sum(1),)

    def success(self, feedback: Feedback, task: Task) -> Tensor:
        return feedback.loss >= 0

    def update(self, state: Any, feedback: Feedback, task: Task, noise: Noise) -> Any:
        return self.rule.update(state, feedback, task, noise)


class _Tapped(nn.Module):
    """A model that returns its output and that of a layer, or the logits in its place."""

    def __init__(self, model: Model, layer: nn.Module | None, logits_of: Callable[[Any], Tensor]) -> None:
        super().__init__()
        self.model, self.layer, self.logits_of = model, layer, logits_of
        self.seen: Any = None

    def tap(self, layer: nn.Module, inputs: Any, output: Tensor) -> None:
        self.seen = output

    def forward(self, x: Tensor) -> tuple[Any, Tensor]:
        self.seen = None
        output = self.model(x)
        if self.layer is None:
            self.seen = self.logits_of(output)
        if not isinstance(self.seen, Tensor) or len(self.seen) != len(x):
            raise ValueError(
                f"layer must be run by the model and return a tensor with a row for each input, got "
                f"{'nothing' if self.seen is None else getattr(self.seen, 'shape', type(self.seen).__name__)}: "
                "take another layer, or the model that is inside a compiled one"
            )
        return output, self.seen


def feature_adversary(
    model: Model,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    *,
    guide: Tensor,
    layer: nn.Module | str | None = None,
    steps: int = 40,
    step_size: float | None = None,
    random_start: bool = False,
    **options: Unpack[SearchOptions],
) -> Tensor:
    """Brings the model's representation of an input as near as it can to that of another, its guide.

    Solves, per example, ``min ||layer(x_adv) - layer(guide)||_2`` over ball, bounds and mask, by projected gradient
    descent: the input goes on looking like itself, and to whatever comes after the layer it is the guide. A step costs
    one forward and one backward pass, and the guides one forward pass.

    What counts is the distance of the representations, not the class: of two points the one with the nearer
    representation is kept, whatever the model says, and success is a representation that is reached exactly.

    Args:
        model: Callable from ``(N, ...)`` inputs to ``(N, C)`` logits.
        x: Clean inputs, ``(N, ...)``, float32 or float64, within ``threat.bounds``.
        y: ``(N,)`` integer labels, of which no use is made but to check them: the guide says where to go.
        threat: A ball in any norm; the paper's is Linf.
        guide: ``(N, ...)`` inputs, one for each of ``x``, in any place.
        layer: The module inside ``model`` whose output is the representation, or its dotted name, as in
            ``model.named_modules()``; None for the logits.
        steps: Updates per run.
        step_size: Length of every step in the threat's norm; None for a cosine from ``2 * eps`` down to 0.
        random_start: Whether each run begins at a random point in place of ``x``.
        **options: Any of :class:`~advlib.search.SearchOptions` but those that aim.

    Returns:
        ``(N, ...)`` inputs within ``threat``: on each row the point asked about with the nearest representation.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If ``guide`` is not like ``x``, the model has no such layer or does not run it, the attack is aimed
            otherwise, ``x`` leaves the bounds, or shapes and values disagree.

    Example:
        >>> x_adv = feature_adversary(model, x, y, Linf(0.1), guide=x.flip(0), layer="1")
    """
    if "loss" in options:
        raise TypeError("feature_adversary has its own loss, the distance of representations: leave loss out")
    if options.get("targeted") or options.get("target") is not None:
        raise ValueError("feature_adversary aims at the guides: leave targeted and target out")
    if not isinstance(guide, Tensor) or (guide.shape, guide.dtype, guide.device) != (x.shape, x.dtype, x.device):
        raise ValueError(f"guide must match x in shape, dtype and device, got {getattr(guide, 'shape', guide)}")
    read = options.get("logits_of") or unchanged
    tapped = _Tapped(unwrapped(model), _layer(unwrapped(model), layer), read)
    handle = None if tapped.layer is None else tapped.layer.register_forward_hook(tapped.tap)
    try:
        logits_of = lambda output: read(output[0])  # noqa: E731
        with Evaluator(tapped, x, y, threat, logits_of=logits_of) as evaluator:
            if len(x) == 0:  # the model is asked about nothing
                return evaluator.x.clone()
            parts = torch.split(torch.arange(len(x), device=x.device), options.get("batch_size") or len(x))
            wanted = []
            for part in parts:
                evaluator.ask(guide[part], part, order=0)
                wanted.append(precise(tapped.seen))
        rule = FeatureMatch(ProjectedGradient(steps, step_size), torch.cat(wanted))
        settings: dict[str, Any] = {**options, "logits_of": logits_of}
        return search(tapped, x, y, threat, rule, steps=steps, random_start=random_start, **settings).x_adv
    finally:
        if handle is not None:
            handle.remove()


def _layer(model: Any, layer: nn.Module | str | None) -> nn.Module | None:
    """The module of that name, or the module itself."""
    if layer is None or isinstance(layer, nn.Module):
        return layer
    modules = dict(model.named_modules()) if isinstance(model, nn.Module) else {}
    if layer not in modules:
        raise ValueError(
            f"layer must be a module inside the model or the name of one, got {layer!r}: the names are "
            f"{', '.join(name for name in modules if name) or 'none, since the model is no module'}"
        )
    found: nn.Module = modules[layer]
    return found
