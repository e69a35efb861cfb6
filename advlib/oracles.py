"""What a black-box adversary gets: labels or scores, a query budget, and no gradient."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from advlib.checks import check_counts
from advlib.guarding import guard

Observed = Literal["labels", "scores", "logits"]

_KNOWN = ("task", "architecture", "parameters", "training data")


@dataclass(frozen=True)
class Access:
    """What an adversary knows, what it may observe of the model's answers, and what it may spend.

    Args:
        knows: Any of ``"task"``, ``"architecture"``, ``"parameters"`` and ``"training data"``.
        observes: ``"labels"``, ``"scores"`` (such as probabilities) or ``"logits"``; None if it may not ask.
        queries: How many inputs it may ask about in all; None for no limit.

    Raises:
        ValueError: If a word or a number is none of these.

    Example:
        >>> Access(observes="labels", queries=1000).name
        'labels'
        >>> Access(knows=frozenset({"task", "architecture", "parameters"}), observes="logits").name
        'white-box'
        >>> Access(knows=frozenset({"task", "training data"})).name
        'transfer only'
    """

    knows: frozenset[str] = frozenset({"task"})
    observes: Observed | None = None
    queries: int | None = None

    def __post_init__(self) -> None:
        unknown = set(self.knows) - set(_KNOWN)
        if unknown:
            raise ValueError(f"knows must hold words among {', '.join(_KNOWN)}, got {', '.join(sorted(unknown))}")
        if self.observes not in (None, *Observed.__args__):  # type: ignore[attr-defined]
            raise ValueError(f"observes must be 'labels', 'scores', 'logits' or None, got {self.observes!r}")
        check_counts(queries=self.queries)

    @property
    def name(self) -> str:
        """The field's name for it, ``"white-box"``, ``"scores"``, ``"labels"`` or ``"transfer only"``."""
        if "parameters" in self.knows:
            return "white-box"
        if self.observes is None:
            return "transfer only"
        return "labels" if self.observes == "labels" else "scores"


class OracleError(RuntimeError):
    """The model behind an oracle raised, or gave an answer that cannot be read.

    What it raised is the ``__cause__``. ``queries`` is how many the oracle had answered before, and ``result`` the
    :class:`~advlib.search.SearchResult` of an attack until then, or None outside of one.
    """

    def __init__(self, message: str, queries: int) -> None:
        super().__init__(message)
        self.queries = queries
        self.result: Any = None


class OutOfBudget(OracleError):
    """A question that an oracle's budget no longer pays for. Attacks take it as their end, and raise nothing."""


class Oracle(ABC):
    """A model of which only answers can be had, each of which counts; a callable as attacks take it.

    It asks ``predict`` under ``torch.no_grad`` and in evaluation mode, and hands out numbers that have no graph. Asked
    with an input that requires a gradient, it raises an error rather than give one of zeros. A question is a batch of
    inputs; one that the budget cannot pay for in full is not asked at all, and raises :class:`OutOfBudget`.

    Args:
        predict: A model or function from a batch of inputs to answers, or a scikit-learn estimator.
        budget: How many inputs may be asked about in all; None for no limit.
        classes: How many classes there are, or their labels in order. Answers that are scores, and estimators that
            have been fitted, say so themselves.
        batch_size: Inputs that ``predict`` takes at once; None means all of a question.
        numpy: Whether a function takes arrays in place of tensors. Estimators do, with a line of features per input.

    Raises:
        TypeError: If ``predict`` is none of these.
        ValueError: If ``budget``, ``batch_size`` or ``classes`` is not positive.
    """

    observes: ClassVar[Observed]
    methods: ClassVar[tuple[str, ...]]  # of an estimator, the first that it has
    refusal: ClassVar[str]  # what is said to those who want a gradient

    def __init__(
        self,
        predict: Any,
        budget: int | None = None,
        *,
        classes: int | Sequence[Any] | None = None,
        batch_size: int | None = None,
        numpy: bool = False,
    ) -> None:
        check_counts(budget=budget, batch_size=batch_size)
        estimates = not callable(predict)
        found = [getattr(predict, name) for name in self.methods if estimates and hasattr(predict, name)]
        if estimates and not found:
            raise TypeError(
                f"predict must be a model, a function or an estimator with {' or '.join(self.methods)}, got "
                f"{type(predict).__name__}"
            )
        if estimates and classes is None and hasattr(predict, "classes_"):
            classes = list(predict.classes_)
        if isinstance(classes, int):
            check_counts(classes=classes)
            classes = range(classes)
        self.budget = budget
        self.queries = 0  # answered so far
        self.classes: tuple[Any, ...] | None = None if classes is None else tuple(classes)
        self._predict = found[0] if estimates else predict
        self._takes_lines = estimates
        self._takes_numpy = numpy or estimates
        self._batch_size = batch_size

    @property
    def access(self) -> Access:
        """What this oracle lets an adversary observe and spend."""
        return Access(observes=self.observes, queries=self.budget)

    @property
    def left(self) -> float:
        """How many inputs may still be asked about, infinity for any number."""
        return math.inf if self.budget is None else self.budget - self.queries

    def indices(self, labels: Any) -> Tensor:
        """Labels as places in ``classes``, ``(N,)`` integers: what attacks take as ``y``.

        Raises:
            ValueError: If the classes are not known yet, or a label is none of them.

        Example:
            >>> LabelOracle(lambda x: ["cat"] * len(x), classes=["cat", "dog"]).indices(["dog", "cat"])
            tensor([1, 0])
        """
        values = labels.tolist() if isinstance(labels, Tensor) else np.asarray(labels).tolist()
        if self.classes is None:
            raise ValueError(
                "answers that are labels do not say how many classes there are: give the oracle classes=10, or "
                "their labels in order"
            )
        place = {label: i for i, label in enumerate(self.classes)}
        unknown = [value for value in values if value not in place]
        if unknown:
            raise ValueError(
                f"labels must be among the {len(place)} classes, got {unknown[0]!r}: give the oracle all classes="
            )
        return torch.tensor([place[value] for value in values], dtype=torch.int64)

    def __call__(self, x: Tensor) -> Tensor:
        """Answers a question, ``(N, C)`` numbers in the dtype and on the device of ``x``.

        Raises:
            TypeError: If ``x`` requires a gradient where gradients are on.
            OutOfBudget: If the budget does not pay for it.
            OracleError: If ``predict`` raises, or gives an answer that cannot be read.
        """
        if x.requires_grad and torch.is_grad_enabled():
            raise TypeError(self.refusal)
        if len(x) > self.left:
            raise OutOfBudget(
                f"a question about {len(x)} inputs is more than what is left of the budget, {self.left} of "
                f"{self.budget} queries",
                self.queries,
            )
        return torch.cat([self._asked(part) for part in torch.split(x.detach(), self._batch_size or max(len(x), 1))])

    def _asked(self, x: Tensor) -> Tensor:
        try:
            with guard(self._predict):
                points = x.clone()  # what predict does to them in place is not the attack's affair
                points = points.flatten(1) if self._takes_lines else points
                answer = self._predict(points.cpu().numpy() if self._takes_numpy else points)
            scores = self._read(answer.detach() if isinstance(answer, Tensor) else np.array(answer))
            if len(scores) != len(x):
                raise ValueError(f"predict must give one answer per input, got {len(scores)} for {len(x)}")
        except Exception as error:
            raise OracleError(
                f"the model behind the oracle failed after {self.queries} queries: {type(error).__name__}: {error}",
                self.queries,
            ) from error
        self.queries += len(x)
        return scores.to(x)

    @abstractmethod
    def _read(self, answer: Any) -> Tensor:
        """What is handed out of an answer, ``(N, C)``."""

    def _scores(self, answer: Any) -> Tensor:
        """An answer of shape ``(N, C)`` as a tensor, of as many classes as those before."""
        scores = torch.as_tensor(answer)
        if bool(scores.isnan().any()):
            raise ValueError(
                f"scores must be numbers, got NaN for {int(scores.isnan().any(1).sum())} of {len(scores)} inputs"
            )
        if self.classes is None:
            self.classes = tuple(range(scores.shape[1]))
        if scores.shape[1] != len(self.classes):
            raise ValueError(f"every answer must be about the same {len(self.classes)} classes, got {scores.shape[1]}")
        return scores


class LabelOracle(Oracle):
    """Labels alone: one-hot scores, ``(N, C)``, 1 for the class that the model says and 0 for the others.

    Answers of ``predict`` may be labels, ``(N,)``, or scores, ``(N, C)``, of which only the place of the largest is
    told. :class:`Oracle` has the arguments.

    Example:
        >>> oracle = LabelOracle(model, budget=10)
        >>> oracle(x).sum(1)
        tensor([1., 1., 1., 1., 1., 1.])
        >>> oracle.queries, oracle.left
        (6, 4)
    """

    observes = "labels"
    methods = ("predict",)
    refusal = (
        "a LabelOracle gives labels alone, and no gradient: ask it with hop_skip_jump, ray_search, surfree or "
        "boundary_attack, or attack a copy from advlib.training.train_substitute and see what transfers"
    )

    def _read(self, answer: Any) -> Tensor:
        labels = self._scores(answer).argmax(1) if answer.ndim == 2 else self.indices(answer).to(_device(answer))
        return functional.one_hot(labels, len(self.classes or ()))


class ScoreOracle(Oracle):
    """Scores, ``(N, C)``: what the model returns, such as logits or probabilities, and no gradient.

    Of an estimator, ``predict_proba``, or ``decision_function`` where it has none. :class:`Oracle` has the arguments.

    Example:
        >>> oracle = ScoreOracle(model, budget=600)
        >>> x_adv = square(oracle, x, y, Linf(0.1), steps=50)
        >>> x_adv = pgd(oracle, x, y, Linf(0.1), steps=4, gradient=finite_differences(8))
    """

    observes = "scores"
    methods = ("predict_proba", "decision_function")
    refusal = (
        "a ScoreOracle gives scores, and no gradient: ask it with square, with an attack that takes "
        "gradient=advlib.gradients.finite_differences(), or with those that a LabelOracle takes; or attack a copy from "
        "advlib.training.train_substitute and see what transfers"
    )

    def _read(self, answer: Any) -> Tensor:
        if self._takes_lines and answer.ndim == 1:  # the decision function of two classes: one number, for the second
            answer = np.stack([-answer, answer], axis=1)
        if answer.ndim != 2 or answer.shape[1] < 2:
            raise ValueError(
                f"scores must have shape (N, C) with C >= 2 classes, got {tuple(answer.shape)}: a LabelOracle takes "
                "labels"
            )
        return self._scores(answer)


def _device(answer: Any) -> torch.device | str:
    return answer.device if isinstance(answer, Tensor) else "cpu"
