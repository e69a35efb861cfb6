"""Recording: a step on a tree of tensors, traced once for each arrangement of the tree and replayed from then on."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

from advlib.kernels.looks import recording
from advlib.noise import Key

Tree = TypeVar("Tree")
Step = Callable[[Tree, Key], Tree]
Leaves = list[Tensor]
Recorder = Callable[[Callable[[Leaves], Leaves], Leaves, "Pool | None"], Callable[[], None]]
Pool = Any  # a handle of torch.cuda: where the recordings of one acceleration take their memory


def mapped(tree: Any, function: Callable[[Tensor], Tensor]) -> Any:
    """The same tree of tuples and frozen dataclasses with every tensor replaced."""
    if isinstance(tree, Tensor):
        return function(tree)
    if isinstance(tree, tuple):
        items = [mapped(part, function) for part in tree]
        return type(tree)(*items) if hasattr(tree, "_fields") else tuple(items)
    if dataclasses.is_dataclass(tree) and not isinstance(tree, type):
        parts = {field.name: mapped(getattr(tree, field.name), function) for field in dataclasses.fields(tree)}
        return dataclasses.replace(tree, **parts)
    return tree


def leaves(tree: Any) -> Leaves:
    """The tensors of a tree, in order."""
    found: Leaves = []
    mapped(tree, lambda leaf: found.append(leaf) or leaf)  # type: ignore[func-returns-value]
    return found


def outline(tree: Any) -> Any:
    """What a recording depends on besides the values of the tensors: all else in the tree, hashable."""
    if isinstance(tree, Tensor):
        return tree.shape, tree.dtype, tree.device
    if isinstance(tree, tuple):
        return type(tree), tuple(outline(part) for part in tree)
    if dataclasses.is_dataclass(tree) and not isinstance(tree, type):
        return type(tree), tuple(outline(getattr(tree, field.name)) for field in dataclasses.fields(tree))
    return tree


class _RecordedKey(Key):
    """Stands for the key of the noise in a recording, which reads its words from a tensor."""

    def __init__(self) -> None:
        self.tensor = torch.zeros(2, dtype=torch.int64)
        self.drawn = False

    @property
    def words(self) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        """The key's two halves, ``()`` int64 each."""
        self.drawn = True
        return self.tensor[0], self.tensor[1]


def capture(function: Callable[[Leaves], Leaves], static: Leaves, pool: Pool | None = None) -> Callable[[], None]:
    """Records a pure function as a CUDA graph that writes its results over its arguments.

    Graphs may share a pool: since results leave it with each replay, nothing in it outlives one.
    """
    stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(2):  # libraries choose their algorithms and take their workspaces
            function(static)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, pool=pool):
        overwrite(static, function(static))
    return graph.replay


RECORDERS: dict[str, Recorder] = {"cuda": capture}  # by type of device


def repeat(function: Callable[[Leaves], Leaves], static: Leaves, pool: Pool | None = None) -> Callable[[], None]:
    """A pure function that writes its results over its arguments at each call, where there is no recorder."""

    def again() -> None:
        overwrite(static, function(static))

    function(static)  # compiles, or fails to
    return again


def into_kernels(function: Callable[[Leaves], Leaves], static: Leaves) -> Callable[[Leaves], Leaves]:
    """The operations that a pure function does to these tensors, backward passes included, through the compiler."""
    from torch.fx.experimental.proxy_tensor import make_fx  # takes long to import

    kernels: Callable[[Leaves], Leaves] = torch.compile(make_fx(function)(static), dynamic=False)
    return kernels


def overwrite(static: Leaves, new: Leaves) -> None:
    """Writes each new tensor over its old one, though some may be views of others that are overwritten too."""
    places = {leaf.untyped_storage().data_ptr() for leaf in static}
    changed = [(old, leaf) for old, leaf in zip(static, new, strict=True) if leaf is not old]
    safe = [leaf.clone() if leaf.untyped_storage().data_ptr() in places else leaf for _, leaf in changed]
    for (old, _), leaf in zip(changed, safe, strict=True):
        old.copy_(leaf)


class Loop(Generic[Tree]):
    """A step that is taken again and again on one tree of tensors.

    Args:
        step: A pure function of the tree's tensors and of the noise.
        tree: What it is taken on; :meth:`load` says where the loop starts.
        graph: Whether the device's recorder records it.
        compiled: Whether it is compiled before.
        pool: Where a CUDA graph takes its memory; None for a pool of its own.

    Raises:
        Exception: Whatever recording or compiling raises.
    """

    def __init__(
        self, step: Step[Tree], tree: Tree, *, graph: bool = True, compiled: bool = False, pool: Pool | None = None
    ) -> None:
        self.tree: Tree = mapped(tree, torch.clone)
        static = leaves(self.tree)
        self._words = torch.zeros(2, dtype=torch.int64, device=static[0].device)
        recorded = _RecordedKey()

        def function(values: Leaves) -> Leaves:
            source, recorded.tensor = iter(values[:-1]), values[-1]
            return [*leaves(step(mapped(tree, lambda _: next(source)), recorded)), values[-1]]

        static = [*static, self._words]
        record = RECORDERS[self._words.device.type] if graph else repeat
        with recording(), _without_cached_casts():
            self._replay = record(into_kernels(function, static) if compiled else function, static, pool)
        self._draws = recorded.drawn  # a key that nothing needs is not drawn

    def load(self, tree: Tree, key: Key) -> None:
        """Goes on from another tree of the same outline."""
        overwrite(leaves(self.tree), leaves(tree))
        if self._draws:
            self._words.copy_(torch.tensor(key.words))

    def advance(self, steps: int) -> None:
        """Takes some steps; ``tree`` then holds where they led."""
        for _ in range(steps):
            self._replay()


class PlainLoop(Generic[Tree]):
    """The same without a recording: every step is a call."""

    def __init__(self, step: Step[Tree]) -> None:
        self._step = step

    def load(self, tree: Tree, key: Key) -> None:
        self.tree, self._key = tree, key

    def advance(self, steps: int) -> None:
        for _ in range(steps):
            self.tree = self._step(self.tree, self._key)


class _without_cached_casts:
    """Weights that autocast casts must be cast by the recording itself: what it keeps is freed before a replay."""

    def __enter__(self) -> None:
        self._enabled = torch.is_autocast_cache_enabled()
        torch.clear_autocast_cache()
        torch.set_autocast_cache_enabled(False)

    def __exit__(self, *exception: object) -> None:
        torch.set_autocast_cache_enabled(self._enabled)
