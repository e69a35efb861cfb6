"""Untargeted attacks that aim at one wrong class after another (Croce & Hein, 2020, arXiv:2003.01690, section 5)."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from advlib.evaluator import Evaluator
from advlib.losses import Loss
from advlib.noise import Noise
from advlib.search import Feedback, Model, Rule, SearchOptions, SearchResult, Task, search
from advlib.threats import Threat

if TYPE_CHECKING:
    from typing_extensions import Unpack


def ranked_classes(logits: Tensor, y: Tensor) -> Tensor:
    """All classes but the true one, the likeliest first, ``(N, C - 1)``.

    Args:
        logits: ``(N, C)`` scores of the classes.
        y: ``(N,)`` true classes.

    Example:
        >>> ranked_classes(torch.tensor([[3.0, 1.0, 2.0]]), torch.tensor([0]))
        tensor([[2, 1]])
    """
    return logits.scatter(1, y.unsqueeze(1), -torch.inf).sort(dim=1, descending=True, stable=True).indices[:, :-1]


@dataclass
class InTurn(Rule[Any]):
    """A rule whose restarts aim at one class after another.

    Args:
        rule: What it does otherwise.
        classes: ``(rows of the call, k)`` the classes aimed at, in that order; restart ``r`` aims at ``r % k``.
        init: Where the first run at each class starts, in place of the driver's point.
    """

    rule: Rule[Any]
    classes: Tensor
    init: Tensor | None = None

    def __post_init__(self) -> None:
        self.order, self.wanders = self.rule.order, self.rule.wanders

    def aim(self, task: Task, restart: int) -> Task:
        return task._replace(target=self.classes[task.row, restart % self.classes.shape[1]])

    def start(self, task: Task, point: Tensor, noise: Noise) -> Any:
        if int(noise.restart) < self.classes.shape[1]:  # to the rule, the first run at each class is a first run
            noise = noise._replace(restart=0)
            if self.init is not None:
                point = self.enter(self.init[task.row], task)
        return self.rule.start(task, point, noise)

    def objectives(self, output: Any, task: Task, loss: Loss) -> tuple[Tensor, ...]:
        return self.rule.objectives(output, task, loss)

    def success(self, feedback: Feedback, task: Task) -> Tensor:
        return self.rule.success(feedback, task)

    def update(self, state: Any, feedback: Feedback, task: Task, noise: Noise) -> Any:
        return self.rule.update(state, feedback, task, noise)

    def finished(self, state: Any) -> Tensor | None:
        return self.rule.finished(state)


def search_targets(
    model: Model,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    rule: Rule[Any],
    *,
    targets: int,
    steps: int,
    loss: str | Loss = "cross_entropy",
    random_start: bool = False,
    **options: Unpack[SearchOptions],
) -> SearchResult:
    """Runs a rule once at each of the wrong classes that the model finds likeliest at ``x``.

    The goal stays to leave class ``y``, to whatever class: only the loss aims, as ``task.target`` tells the rule. To
    the driver these runs are restarts, and ``keep`` means what it means there. With ``"first"`` a row that breaks
    leaves before the next class. With ``"strongest"`` every row is attacked at every class, and the largest of its
    losses, each at its own class, decides between its points of equal success; ``"nearest"`` keeps the nearest success
    over all classes. Costs one forward pass for the ranking.

    Args:
        model: Callable from ``(N, ...)`` inputs to ``(N, C)`` logits.
        x: Clean inputs, ``(N, ...)``.
        y: ``(N,)`` true classes.
        threat: Where the adversary may look.
        rule: Where it steps next.
        targets: How many classes are aimed at; all wrong ones where there are fewer.
        steps: Updates per class.
        loss: What it looks for; it is called with the class aimed at.
        random_start: Whether each run starts from a random point of its own.
        **options: Any of :class:`~advlib.search.SearchOptions` but ``targeted`` and ``target``. ``restarts`` counts
            runs per class, and ``init`` starts the first run at each class.

    Returns:
        A :class:`~advlib.search.SearchResult` over all classes.

    Raises:
        ValueError: If ``targets`` is no whole number of at least 1, or the attack is aimed otherwise already; and
            whatever :func:`~advlib.search.search` raises.

    Example:
        >>> result = search_targets(model, x, y, Linf(8 / 255), AutoPGD(100), targets=9, steps=100, loss="dlr")
    """
    if not isinstance(targets, int) or targets < 1:
        raise ValueError(f"targets must be a whole number of classes, at least 1, got {targets!r}")
    if options.get("targeted") or options.get("target") is not None:
        raise ValueError("targets= aims at several wrong classes in turn: leave targeted and target out, or targets")
    with Evaluator(model, x, y, threat, logits_of=options.get("logits_of")) as evaluator:
        if len(x) == 0:  # the model is asked about nothing, and there are no classes to aim at
            return search(model, x, y, threat, rule, steps=steps, loss=loss, random_start=random_start, **options)
        rows = torch.split(torch.arange(len(x), device=x.device), options.get("batch_size") or len(x))
        logits = torch.cat([evaluator.ask(evaluator.x[part], part, order=0).logits for part in rows])
    classes = ranked_classes(logits, evaluator.y)[:, :targets]
    in_turn = InTurn(rule, classes, options.get("init"))
    options["restarts"] = options.get("restarts", 1) * classes.shape[1]
    found = search(model, x, y, threat, in_turn, steps=steps, loss=loss, random_start=random_start, **options)
    return dataclasses.replace(found, forwards=found.forwards + evaluator.forwards)
