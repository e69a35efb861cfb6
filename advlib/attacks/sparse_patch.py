"""Sparse-RS over patches (Croce et al., 2020, arXiv:2006.12834): squares painted on a window that moves about."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from advlib.attacks.square import SquareSearch
from advlib.attacks.windows import sides, span, window
from advlib.noise import Noise
from advlib.search import Feedback, Rule, Task
from advlib.threats import Patch, Placement
from advlib.threats.base import choose

_MOVES_EVERY = 5  # proposals: one move after four squares; the authors' moves become rarer after each 1,000 queries
_FARTHEST = 0.75  # of the image, how far the first moves go at most; this and the next as in the authors' experiments
_SQUARES = 100  # of which the first content is made


class PatchState(NamedTuple):
    query: Tensor  # (N, C, H, W) the proposal
    content: Tensor  # (N, C, height, width) the best patch
    corner: Tensor  # (N, 2) its first row and column
    loss: Tensor  # (N,) the loss there
    painted: Tensor  # (N, C, height, width) the proposed patch
    moved: Tensor  # (N, 2) its first row and column
    step: Tensor  # (N,) proposals made, -1 before the first patch


@dataclass(frozen=True)
class SparsePatchSearch(Rule[PatchState]):
    """Paints a square of the patch, each channel at an end of the bounds, or moves the patch, and keeps what is better.

    Args:
        threat: Size, bounds, and perhaps the location of the patches.
        steps: Length of the schedule along which squares and moves shrink.
        share: Share of the patch in the first squares.

    Raises:
        ValueError: If patches may be turned or scaled.
    """

    threat: Patch
    steps: int
    share: float = 0.4

    order = 0

    def __post_init__(self) -> None:
        if self.threat.rotation > 0 or self.threat.scale < 1:
            raise ValueError(f"sparse_rs paints upright patches of full size, got {self.threat}: take advlib.patch")

    def start(self, task: Task, point: Tensor, noise: Noise) -> PatchState:
        step = torch.zeros_like(point.flatten(1)[:, 0])
        place = self.threat.placement(point, 2 * noise.stream(3).uniform(point.new_empty(len(point), 4)) - 1)
        corner = torch.stack((place.top, place.left), 1)
        chance = noise.stream(4).uniform(point.new_empty(len(point), _SQUARES, 5 + point.shape[1]))
        content = point.new_full((len(point), point.shape[1], *self.threat.sides), self.threat.bounds[0])
        for drawn in chance.unbind(1):
            content = self._painted(content, drawn[:, 4], drawn)
        return PatchState(point, content, corner, step - torch.inf, content, corner, step - 1)

    def update(self, state: PatchState, feedback: Feedback, task: Task, noise: Noise) -> PatchState:
        opening = state.step < 0  # the first patch comes next, whatever the loss without one
        better = (feedback.loss > state.loss) & ~opening
        content, corner = choose(better, state.painted, state.content), choose(better, state.moved, state.corner)
        loss = torch.where(better, feedback.loss, state.loss)
        chance = noise.uniform(content.new_empty(len(content), 5 + content.shape[1]))
        moves = (state.step % _MOVES_EVERY == _MOVES_EVERY - 1) & (self.threat.location is None)
        share = SquareSearch(self.steps, self.share).shares(state.step)
        painted = choose(moves | opening, content, self._painted(content, share, chance))
        moved = torch.where((moves & ~opening).unsqueeze(1), self._moved(corner, chance, state.step, task), corner)
        place = Placement(moved[:, 0], moved[:, 1], torch.zeros_like(loss), torch.ones_like(loss))
        query = self.threat.apply(task.x, painted, place)
        return PatchState(query, content, corner, loss, painted, moved, state.step + 1)

    def _painted(self, content: Tensor, share: Tensor, chance: Tensor) -> Tensor:
        """The patch with one square painted, never in the color that a random pixel of it has."""
        height, width = sides(share, *self.threat.sides, odd=False)
        down, across = span(content.shape[2], height, chance[:, 0]), span(content.shape[3], width, chance[:, 1])
        pixel = (down.at(chance[:, 2]) * content.shape[3] + across.at(chance[:, 3])).view(-1, 1, 1)
        there = content.flatten(2).gather(2, pixel.expand(-1, content.shape[1], -1)).squeeze(2)
        low, high = self.threat.bounds
        up = chance[:, 5:] < 0.5
        same = (there == torch.where(up, high, low)).all(1, keepdim=True)
        color = torch.where(up ^ same, high, low).to(content).unsqueeze(2).unsqueeze(3)
        return torch.where(window(down, across), color, content)

    def _moved(self, corner: Tensor, chance: Tensor, step: Tensor, task: Task) -> Tensor:
        """The corner shifted at random, less and less far."""
        moved = []
        for axis, (length, side) in enumerate(zip(task.x.shape[2:], self.threat.sides, strict=True)):
            reach = (_FARTHEST * (1 - step / self.steps) * length).floor().clamp_min(1)
            shift = (chance[:, axis] * (2 * reach + 1)).floor() - reach
            moved.append((corner[:, axis] + shift).clamp(0, length - side))
        return torch.stack(moved, 1)
