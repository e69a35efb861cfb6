"""A model asked about how its inputs are transformed, so that every attack on a box searches transformations."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from advlib.evaluator import Model, unwrapped
from advlib.search import Rule, SearchResult, search
from advlib.threats import Linf

Transformation = Callable[[Tensor, Tensor], Tensor]


class Transformed(nn.Module):
    """The model as a function of what is done to its inputs, in place of the inputs.

    A point is a row of ``1 + count`` numbers: the index of an input, which stays, and what is done to it, ``count``
    numbers in [-1, 1]. With ``origin`` as inputs and ``threat`` as the ball, every attack in Linf searches them.

    Args:
        model: Callable from ``(N, ...)`` inputs to ``(N, C)`` logits.
        x: Clean inputs, ``(N, ...)``.
        transform: Called with some of the inputs, ``(n, ...)``, and numbers in [-1, 1], ``(n, count)``; returns
            inputs. An attack that follows gradients needs it differentiable.
        count: How many numbers say what is done to an input.

    Attributes:
        origin: ``(N, 1 + count)`` points where every number is 0, the inputs of an attack.
        threat: The ball around them that holds all points.

    Example:
        >>> lighting = Transformed(model, x, lambda x, by: (x + 0.2 * by.view(-1, 1, 1, 1)).clamp(0, 1), count=1)
        >>> points = pgd(lighting, lighting.origin, y, lighting.threat)
        >>> x_adv = lighting.inputs(points)
    """

    def __init__(self, model: Model, x: Tensor, transform: Transformation, count: int) -> None:
        super().__init__()
        self.model, self.transform = unwrapped(model), transform
        with torch.inference_mode(False), torch.no_grad():
            self.x = x.detach()
            index = torch.arange(len(x), dtype=x.dtype, device=x.device).unsqueeze(1)
            ones = x.new_ones(len(x), count)
            self.origin = torch.cat([index, 0 * ones], dim=1)
            self.threat = Linf(1.0, bounds=(torch.cat([index, -ones], dim=1), torch.cat([index, ones], dim=1)))

    def _inputs(self, points: Tensor) -> Tensor:
        # rounded, since finite differences ask beside the index, too
        return self.transform(self.x[points[:, 0].round().long()], points[:, 1:])

    def forward(self, points: Tensor) -> Any:
        return self.model(self._inputs(points))

    def inputs(self, points: Tensor) -> Tensor:
        """The transformed inputs that points ``(n, 1 + count)`` stand for."""
        with torch.inference_mode(False), torch.no_grad():
            return self._inputs(points)

    def attacked(self, y: Tensor, rule: Rule[Any], **options: Any) -> SearchResult:
        """What a rule finds, with the options of :func:`~advlib.search.search`: its ``x_adv`` are transformed inputs.

        Raises:
            TypeError: If ``init`` is given.
        """
        if options.pop("init", None) is not None:
            raise TypeError("a search of transformations starts from none or at random and takes no init: leave it out")
        result = search(self, self.origin, y, self.threat, rule, **options)
        return dataclasses.replace(result, x_adv=self.inputs(result.x_adv))
