"""The number that people quote: how many rows nothing that was tried within the threat model breaks."""

from __future__ import annotations

import dataclasses
import os
import platform
import warnings
from collections.abc import Iterable, Iterator, Sized
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from advlib.checks import check_counts
from advlib.evaluation import findings, schedule
from advlib.evaluation.blocks import Block, Chance, Folder, data_of, settings_of
from advlib.evaluation.result import Evaluation, Stage
from advlib.evaluation.rows import Rows
from advlib.evaluation.schedule import Budget
from advlib.evaluator import GradientMaskingWarning, Model
from advlib.noise import Key
from advlib.threats import Threat
from advlib.training import processes
from advlib.version import __version__

BLOCK = 1000  # rows that are ranked among one another

Batches = Iterable[tuple[Tensor, Tensor]]


def evaluate(
    model: Model,
    x: Tensor | Batches,
    y: Tensor | None = None,
    threat: Threat | None = None,
    *,
    budget: Budget = "standard",
    certified: Tensor | None = None,
    batch_size: int | None = None,
    generator: torch.Generator | None = None,
    path: str | os.PathLike[str] | None = None,
    distributed: bool = False,
    examples: bool = True,
    progress: bool = True,
) -> Evaluation:
    """Finds out how robust a model is, and how far the number is to be trusted.

    Attacks in stages, the cheapest first; a row leaves as soon as a point within the threat model breaks it, which is
    verified by one more pass through the model in full precision. Later stages go where they pay: to the rows nearest
    to breaking, within blocks of 1,000 rows. Every evaluation looks for signs of gradient masking too.

    Args:
        model: Callable from ``(N, ...)`` inputs to ``(N, C)`` logits, with normalisation inside.
        x: Inputs, ``(N, ...)``, float32 or float64, within ``threat.bounds``; or an iterable of pairs of inputs and
            labels, such as a DataLoader, whose batches go to the device of the model's parameters.
        y: ``(N,)`` true classes; None where ``x`` yields them.
        threat: Where the adversary may look, with a finite ``eps``.
        budget: ``"quick"`` for a first look, ``"standard"`` for a number to report, ``"thorough"`` where a missed row
            would matter; ``benchmarks/evaluation.py`` compares each with AutoAttack.
        certified: ``(N,)`` bool, rows that are proved robust: they are never attacked.
        batch_size: Rows asked at once; None means a block. It does not change the result beyond the model's own
            rounding.
        generator: Source of the call's one random key; None means torch's global generator.
        path: Folder in which what is known is kept after each attack, so that the same call goes on where a killed one
            was; None keeps nothing.
        distributed: Whether all processes of torch.distributed's default group make this call, with the same
            arguments: each takes every so many blocks, and all get the whole result.
        examples: Whether the result holds the inputs and what broke them; not where they are more than memory holds.
        progress: Whether to show a bar with the falling accuracy.

    Returns:
        An :class:`~advlib.evaluation.Evaluation`.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If ``x`` leaves the bounds, shapes and values disagree, ``eps`` is infinite, a certified row is
            one that the model errs on, there are no rows, or ``path`` holds an evaluation of something else.
        OSError: If ``path`` cannot be written to.

    Example:
        >>> result = advlib.evaluate(model, x, y, Linf(8 / 255), progress=False)
        >>> accuracy, verdict = result.robust_accuracy, result.verdict
    """
    plan = schedule.check_budget(budget)
    check_counts(batch_size=batch_size)
    threat = _checked(x, y, threat)
    batches: Batches = [(x, y)] if isinstance(x, Tensor) and y is not None else _on_device(model, x)
    ranks, rank = (processes.world_size(), processes.rank()) if distributed else (1, 0)
    seed = torch.initial_seed() if generator is None else generator.initial_seed()
    chance = Chance(seed, Key(generator).word)
    folder: Folder | None = None
    done: dict[int, Block] = {}
    start = 0
    bar = tqdm(total=len(x) if isinstance(x, Tensor) else _rows_of(x), unit="row", disable=not progress or rank > 0)
    with bar, warnings.catch_warnings(), torch.inference_mode(False):
        warnings.simplefilter("ignore", GradientMaskingWarning)  # what it says, findings say better

        def tell(rows: Rows | None = None) -> None:
            held = [block.robust for block in done.values()] + ([] if rows is None else [rows.robust.cpu()])
            settled = sum(len(block.y) for block in done.values())
            bar.update(settled + (0 if rows is None else int((~rows.standing).sum())) - bar.n)
            bar.set_postfix_str(f"robust accuracy {100 * float(torch.cat(held).double().mean()):.1f} %")

        for index, (inputs, labels) in enumerate(_blocks(batches)):
            begin, start = start, start + len(inputs)
            within = _part(threat, x if isinstance(x, Tensor) else None, begin, start)
            proved = _proved(certified, inputs, begin, start)
            if index == 0:
                if path is not None and rank == 0:
                    settings = settings_of(model, inputs, threat=threat, budget=budget, certified=certified)
                    folder = Folder(Path(path), settings, chance, generator is not None)
                    chance = folder.chance
                if ranks > 1:
                    chance = processes.gathered(chance)[0]
                    folder = Folder(Path(path), {}, chance, False) if path is not None and rank > 0 else folder
            if index % ranks != rank:
                continue
            data = data_of(inputs, labels) if folder is not None else ""
            block = folder.done(index, data, inputs) if folder is not None else None
            if block is None:
                keys = torch.Generator().manual_seed((chance.key + index) % 2**63)
                rows = Rows(model, inputs, labels, within, proved, keys, batch_size, tell)
                if folder is not None:
                    folder.resume(index, data, rows)
                schedule.run(rows, plan)
                rows.keep = None  # after a kill, findings are looked for anew
                block = Block.of(rows, findings.diagnose(rows) if index == 0 else ())
                if folder is not None:
                    folder.finish(index, data, block)
            done[index] = block if examples else block.without_examples()
            tell()
    if start == 0:
        raise ValueError("there must be rows to evaluate, got none: look at the loader, or at how x was sliced")
    if certified is not None and len(certified) != start:
        raise ValueError(f"certified must have one entry per row, got {len(certified)} for {start} rows")
    if ranks > 1:
        done = dict(pair for part in processes.gathered(done) for pair in part.items())
    known = {"threat": text_of(threat), "budget": budget, "seed": chance.seed, "versions": _versions(inputs.device)}
    return _joined([done[index] for index in sorted(done)], known)


def _joined(blocks: list[Block], known: dict[str, Any]) -> Evaluation:
    """The result of all blocks, in order."""
    stages = _added(blocks)
    wire = findings.random_search(stages)

    def joined(name: str) -> Tensor:
        return torch.cat([getattr(block, name) for block in blocks])

    names = ("y", "correct", "robust", "predicted", "distance", "samples", "certified")
    told: dict[str, Any] = {**known, **{name: joined(name) for name in names}}
    return Evaluation(
        **told,
        broken_by=tuple(name for block in blocks for name in block.broken_by),
        stages=tuple(stages.values()),
        findings=blocks[0].findings + (() if wire is None else (wire,)),
        x=joined("x") if blocks[0].x is not None else None,
        x_adv=joined("x_adv") if blocks[0].x_adv is not None else None,
    )


def _checked(x: object, y: object, threat: object) -> Threat:
    """The threat model, where the arguments are of the right types."""
    if isinstance(y, Threat):
        raise TypeError(
            f"y must be labels, or left out where x yields them, got {y!r}: write threat={type(y).__name__}(...)"
        )
    if not isinstance(threat, Threat):
        raise TypeError(f"threat must be a threat model such as advlib.Linf(8/255), got {threat!r}: threat=Linf(8/255)")
    if bool(torch.isinf(torch.as_tensor(threat.eps)).any()):
        raise ValueError(f"robust accuracy needs a finite eps, got {threat.eps}: say how far the adversary may go")
    if hasattr(x, "__array__") and not isinstance(x, Tensor):
        raise TypeError(f"x must be a tensor (N, ...), got {type(x).__name__}: torch.as_tensor(x)")
    if y is not None and not isinstance(y, Tensor):
        raise TypeError(f"y must be a tensor of labels (N,), got {type(y).__name__}: torch.tensor(y)")
    if isinstance(x, Tensor) and y is None:
        raise TypeError("y must be the labels of x, got None: evaluate(model, x, y, threat)")
    if isinstance(x, Tensor) and isinstance(y, Tensor) and y.shape != x.shape[:1]:
        raise ValueError(f"y must have shape ({len(x)},), one label per row of x, got {tuple(y.shape)}")
    if not isinstance(x, Tensor) and y is not None:
        raise ValueError("an iterable of batches brings its own labels: evaluate(model, loader, threat=threat)")
    return threat


def _versions(device: torch.device) -> dict[str, str]:
    """What a result was found with."""
    hardware = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    parts = {"advlib": __version__, "python": platform.python_version(), "torch": str(torch.__version__)}
    return {**parts, "device": hardware}


def _on_device(model: Model, batches: Batches) -> Batches:
    """The batches on the device of the model's parameters."""
    parameter = next(model.parameters(), None) if isinstance(model, nn.Module) else None
    if not isinstance(batches, Iterable):
        raise TypeError(
            f"x must be a tensor or an iterable of batches, got {type(batches).__name__}: torch.as_tensor(x)"
        )
    for batch in batches:
        if not isinstance(batch, tuple | list) or len(batch) != 2:
            raise TypeError(f"batches must be pairs of inputs and labels, got {type(batch).__name__}: yield (x, y)")
        inputs, labels = batch
        yield (inputs, labels) if parameter is None else (inputs.to(parameter.device), labels.to(parameter.device))


def _rows_of(batches: Any) -> int | None:
    """How many rows a loader yields, where it tells."""
    data = getattr(batches, "dataset", None)
    return len(data) if isinstance(data, Sized) else None


def _blocks(batches: Batches) -> Iterator[tuple[Tensor, Tensor]]:
    """The same rows in blocks, however they come in batches."""
    inputs: list[Tensor] = []
    labels: list[Tensor] = []
    held = 0
    for x, y in batches:
        inputs.append(x)
        labels.append(y)
        held += len(x)
        if held >= BLOCK:  # joined and copied once, however many blocks that makes
            whole, rest_x, rest_y = held // BLOCK * BLOCK, torch.cat(inputs), torch.cat(labels)
            for start in range(0, whole, BLOCK):
                yield rest_x[start : start + BLOCK], rest_y[start : start + BLOCK]
            inputs, labels, held = [rest_x[whole:]], [rest_y[whole:]], held - whole
    if held:
        yield torch.cat(inputs), torch.cat(labels)


def _part(threat: Threat, x: Tensor | None, start: int, stop: int) -> Threat:
    """The threat model of some rows: of those of ``x``, or of a stream, where only ``eps`` may differ by row."""
    if x is not None:
        return threat.aligned(x).rows(torch.arange(start, stop, device=x.device))
    if isinstance(threat.eps, Tensor) and threat.eps.numel() > 1:
        return dataclasses.replace(threat, eps=threat.eps[start:stop])
    return threat


def _proved(certified: Tensor | None, inputs: Tensor, start: int, stop: int) -> Tensor:
    if certified is None:
        return torch.zeros(stop - start, dtype=torch.bool, device=inputs.device)
    if not isinstance(certified, Tensor) or certified.dtype != torch.bool or certified.ndim != 1:
        raise TypeError("certified must be a boolean tensor (N,), True where a row is proved robust")
    if len(certified) < stop:
        raise ValueError(f"certified must have one entry per row, got {len(certified)} for {stop} rows or more")
    return certified[start:stop].to(inputs.device)


def _added(blocks: list[Block]) -> dict[str, Stage]:
    """The stages of all blocks, those of one name added up, in the order of the schedule."""
    total: dict[str, Stage] = {}
    for stage in (stage for block in blocks for stage in block.stages.values()):
        total[stage.name] = total[stage.name] + stage if stage.name in total else stage
    later = len(schedule.STAGES)
    order = {name: place for place, name in enumerate(schedule.STAGES)}
    return dict(sorted(total.items(), key=lambda item: order.get(item[0], later)))


def text_of(threat: Threat) -> str:
    """The threat model in short: tensors, which may be as large as the data, by their shape."""

    def value(part: Any) -> str:
        if isinstance(part, tuple):
            return f"({', '.join(value(end) for end in part)})"
        if isinstance(part, Tensor):
            return f"tensor{tuple(part.shape)}" if part.numel() > 1 else f"{part.item():.6g}"
        return f"{part:.6g}" if isinstance(part, float) else str(part)

    pixels = getattr(threat, "per_pixel", None) or None
    given = [("", threat.eps), ("per_pixel=", pixels), ("bounds=", threat.bounds), ("mask=", threat.mask)]
    shown = (f"{name}{value(part)}" for name, part in given if part is not None)
    return f"{type(threat).__name__}({', '.join(shown)})"
