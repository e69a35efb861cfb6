"""Acceleration: recorded steps, and cheaper stand-ins for a frozen model whose finds the model itself confirms."""

from __future__ import annotations

import copy
import itertools
from collections import OrderedDict
from collections.abc import Hashable, Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar, Token
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from typing_extensions import Self

from advlib.evaluator import Evaluator
from advlib.guarding import guard
from advlib.oracles import Oracle
from advlib.replay import RECORDERS, Loop, PlainLoop, Pool, Step, outline

_Loops = OrderedDict[Any, "Loop[Any] | None"]  # None for what cannot be recorded

PRECISIONS = ("bf16", "tf32")  # that a search may be told to compute in

_current: ContextVar[Acceleration | None] = ContextVar("acceleration", default=None)

_LOOPS = 32  # recordings kept at once; each holds a batch of points and a pool of memory
_SAMPLE = 4  # rows on which a stand-in is compared with its model
_TOLERANCE = 1e-3  # of the largest logit: folding and another layout change rounding alone


@dataclass
class Acceleration(AbstractContextManager["Acceleration"]):
    """What :func:`advlib.accelerate` turns on, and what came of it.

    It may be entered again and again, and keeps recordings and copies meanwhile.

    Args:
        graphs: Whether steps are recorded and replayed.
        compiled: Whether steps are compiled.
        channels_last: Whether stand-ins keep images with their channels last.
        fold: Whether stand-ins have their batch normalisation folded into the layers before it.
        precision: What the search computes in; None for the model's own precision.
        reasons: Why something was not done, each once.
    """

    graphs: bool
    compiled: bool
    channels_last: bool
    fold: bool
    precision: str | None
    reasons: list[str] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        self._loops: _Loops = OrderedDict()
        self._passing: WeakKeyDictionary[Evaluator, _Loops] = WeakKeyDictionary()  # that end with their call
        self._models: dict[int, tuple[Any, nn.Module, nn.Module]] = {}
        self._outside: list[Token[Acceleration | None]] = []

    def __enter__(self) -> Self:
        self._outside.append(_current.set(self))
        return self

    def __exit__(self, *exception: object) -> None:
        _current.reset(self._outside.pop())

    def records(self, evaluator: Evaluator) -> bool:
        """Whether steps against this model can be recorded or compiled at all."""
        wanted = self.compiled or self._graphs(evaluator.x)
        return wanted and not isinstance(evaluator.model, Oracle)

    def _graphs(self, x: Tensor) -> bool:
        return self.graphs and x.device.type in RECORDERS

    def loop(self, step: Step[Any], tree: Any, evaluator: Evaluator, by: tuple[Any, ...]) -> Any:
        """The recording of a step, made on ``tree`` where there is none yet.

        Args:
            step: A pure function of tensors.
            tree: What it is taken on.
            evaluator: Who is asked.
            by: What else decides what the step does.
        """
        model, kind = evaluator.model, tree.live.device.type
        casts = (torch.is_autocast_enabled(kind), torch.get_autocast_dtype(kind))
        asked = (model, evaluator.loss, evaluator.gradient, evaluator.logits_of, evaluator.targeted)
        key = (*(_Same(part) for part in (*asked, *by)), casts, _places(model), outline(tree))
        # what a plain function reads may be replaced from one call to the next, and some rules are made for one call
        lasts = isinstance(model, nn.Module) and all(_by_value(part) for part in by)
        loops = self._loops if lasts else self._passing.setdefault(evaluator, OrderedDict())
        if key not in loops:
            try:
                how = {"graph": self._graphs(tree.live), "compiled": self.compiled}
                loops[key] = Loop(step, tree, **how, pool=self._pool if kind == "cuda" else None)
            except Exception as error:  # whatever keeps it from being recorded, it can be called
                self._say(f"{type(model).__name__} is not recorded: {str(error).splitlines()[0]}")
                loops[key] = None
            if len(loops) > _LOOPS:
                loops.popitem(last=False)
        loops.move_to_end(key)
        return loops[key] or PlainLoop(step)

    def stand_in(self, model: Any, x: Tensor) -> Any:
        """What the search may ask in place of a model: a cheaper copy where it is frozen, or the model itself."""
        wanted = self.channels_last or self.fold or self.precision == "bf16"
        if not wanted or not isinstance(model, nn.Module) or len(x) == 0:
            return model
        if any(module.training for module in model.modules()):
            self._say(f"{type(model).__name__} is asked itself, being in training mode: call model.eval()")
            return model
        if any(module._forward_hooks or module._forward_pre_hooks for module in model.modules()):
            self._say(f"{type(model).__name__} is asked itself, since its hooks might not see a copy: remove them")
            return model
        version = tuple((t.data_ptr(), 0 if t.is_inference() else t._version) for t in _tensors(model))
        known = self._models.get(id(model))
        if known is None or known[0] != version:
            with guard(model):
                known = self._models[id(model)] = (version, model, self._copied(model, x[:_SAMPLE]))
        return known[2]

    @cached_property
    def _pool(self) -> Pool:
        return torch.cuda.graph_pool_handle()

    @contextmanager
    def products(self) -> Iterator[None]:
        """Lets float32 products be taken in TensorFloat-32, if so wanted, as CUDA devices do many times as fast."""
        before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
        if self.precision == "tf32":
            torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
        try:
            yield
        finally:
            torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before

    def _copied(self, model: nn.Module, sample: Tensor) -> nn.Module:
        try:
            cheap = self._folded(model) if self.fold else copy.deepcopy(model)
            if self.channels_last:
                cheap = cheap.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
            expected, found = model(sample), cheap(sample)
            off = float((found - expected).abs().amax() / expected.abs().amax().clamp_min(1e-30))
            if not off <= _TOLERANCE:
                raise ValueError(f"its copy's logits are off by {off:.1g} of the largest")
        except Exception as error:  # whatever keeps it from being copied, it can be asked itself
            self._say(f"{type(model).__name__} is asked itself: {str(error).splitlines()[0]}")
            return model
        return _Lowered(cheap) if self.precision == "bf16" else cheap

    def _folded(self, model: nn.Module) -> nn.Module:
        from torch.fx.experimental.optimization import fuse

        try:
            return fuse(model)
        except Exception as error:  # code that decides by values cannot be followed
            self._say(f"{type(model).__name__} is not folded: {str(error).splitlines()[0]}")
            return copy.deepcopy(model)

    def _say(self, reason: str) -> None:
        if reason not in self.reasons:
            self.reasons.append(reason)


def _by_value(part: object) -> bool:
    """Whether another object of the same content is equal to this one."""
    return isinstance(part, Hashable) and type(part).__hash__ is not object.__hash__


class _Same:
    """Equal where the objects are: by value if they can be compared so, else by identity."""

    def __init__(self, part: Any) -> None:
        self.part = part
        try:
            self.mark = hash(part)
        except TypeError:
            self.mark = id(part)

    def __hash__(self) -> int:
        return self.mark

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and (self.part is other.part or bool(self.part == other.part))


class _Lowered(nn.Module):
    """A network in bfloat16 between inputs and logits in float32."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network.to(torch.bfloat16)

    def forward(self, x: Tensor) -> Any:
        return self.network(x.to(torch.bfloat16))


def _tensors(model: Any) -> Iterator[Tensor]:
    if isinstance(model, nn.Module):
        yield from itertools.chain(model.parameters(), model.buffers())


def _places(model: Any) -> tuple[int, ...]:
    """Where a model's weights lie: a recording reads them there, as they are at each replay."""
    return tuple(tensor.data_ptr() for tensor in _tensors(model))


def current() -> Acceleration | None:
    """What is turned on here, None outside :func:`accelerate`."""
    return _current.get()


def accelerate(
    *,
    graphs: bool = True,
    compiled: bool = False,
    channels_last: bool = True,
    fold: bool = True,
    precision: str | None = None,
) -> Acceleration:
    """Makes the attacks called inside it faster.

    Steps of the search are recorded once for each shape and replayed, on CUDA devices, where Python and the launches
    of small operations take longer than the arithmetic. A model in evaluation mode is replaced, during the search, by
    a copy that computes the same for less; what the copy finds, the model itself is asked about, and rows on which it
    disagrees are attacked again without the copy. So every success that comes back is one of the model's own.

    Whatever cannot be done is left out, and ``reasons`` says why.

    Args:
        graphs: Whether steps are recorded and replayed. A recording repeats tensor operations, not Python: leave it
            off for a model that decides anything by counters or flags of its own.
        compiled: Whether steps go through ``torch.compile``, passes and arithmetic together, on any device. It takes
            up to minutes for each shape, model, loss and rule, and is worth that where many batches follow. What holds
            of recordings holds of compiled steps.
        channels_last: Whether the copy keeps images with their channels last in memory.
        fold: Whether the copy has its batch normalisation folded into the convolutions before it.
        precision: What the search computes in: ``"bf16"`` for a copy in bfloat16, ``"tf32"`` for float32 products in
            TensorFloat-32; None, the default, for the model's own precision. Perturbations are never less than float32.

    Returns:
        An :class:`~advlib.acceleration.Acceleration`, a context manager that may be entered again. It holds recordings
        and copies.

    Raises:
        ValueError: If ``precision`` is none of these.

    Example:
        >>> with advlib.accelerate() as acceleration:
        ...     x_adv = advlib.pgd(model.eval(), x, y, Linf(8 / 255))
        >>> acceleration.reasons
        []
    """
    if precision not in (None, *PRECISIONS):
        raise ValueError(f"precision must be None, 'bf16' or 'tf32', got {precision!r}")
    return Acceleration(graphs, compiled, channels_last, fold, precision)
