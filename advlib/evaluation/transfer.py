"""What transfers: how often inputs that were made against one model fool another."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from advlib.checks import check_counts, check_inputs, check_labels
from advlib.evaluation.evaluate import text_of
from advlib.evaluation.plotting import INK, new_figure
from advlib.guarding import guard
from advlib.threats import Threat

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True, eq=False)
class TransferMatrix:
    """The result of :func:`transfer_matrix`. Rows of inputs are in the order that they were given in.

    Args:
        sources: Names of the models that were attacked.
        targets: Names of the models that were shown the result.
        threat: The threat model, in words.
        standing: ``(T, N)`` bool, where the unperturbed input did not reach the goal: where the target is right, or of
            a targeted attack does not say the wanted class.
        fooled: ``(S, T, N)`` bool, where the adversarial input reached it.
        x_adv: ``(S, N, ...)`` the adversarial inputs made against each source.

    Example:
        >>> from advlib.evaluation import transfer_matrix
        >>> models = {"one": model, "other": nn.Sequential(nn.Flatten(), nn.Linear(36, 10))}
        >>> matrix = transfer_matrix(models, models, x, y, Linf(0.1), mim)
        >>> matrix.rates.shape
        torch.Size([2, 2])
    """

    sources: tuple[str, ...]
    targets: tuple[str, ...]
    threat: str
    standing: Tensor
    fooled: Tensor = field(repr=False)
    x_adv: Tensor = field(repr=False)

    @property
    def rates(self) -> Tensor:
        """``(S, T)`` float64, the share of the rows standing at the target that are fooled; NaN where none stood."""
        fell = (self.fooled & self.standing).double().sum(2)
        return fell / self.standing.double().sum(1)

    @property
    def reached(self) -> Tensor:
        """``(S, T)`` float64, the share of all rows on which the goal is reached, whether or not it was before."""
        return self.fooled.double().mean(2)

    def __str__(self) -> str:
        width = max(len(name) for name in self.sources)
        columns = [max(len(name), 7) for name in self.targets]
        head = "  ".join(name.rjust(size) for name, size in zip(self.targets, columns, strict=True))
        lines = [f"fooled at {self.threat}, % of the rows standing", f"{'':{width}}  {head}"]
        for name, row in zip(self.sources, self.rates.tolist(), strict=True):
            cells = "  ".join(f"{100 * rate:{size}.1f}" for rate, size in zip(row, columns, strict=True))
            lines.append(f"{name:{width}}  {cells}")
        return "\n".join(lines)

    def plot(self, axes: Axes | None = None) -> Axes:
        """Draws the rates as a table of colours, sources down and targets across.

        Raises:
            ModuleNotFoundError: If matplotlib is not installed, with what to install.
        """
        if axes is None:
            size = 1.6 + 0.8 * len(self.targets), 1.2 + 0.6 * len(self.sources)
            axes = new_figure(*size, layout="constrained").add_subplot()
        percent = 100 * self.rates
        axes.imshow(percent.numpy(), cmap="Blues", vmin=0, vmax=100)
        for i, row in enumerate(percent.tolist()):
            for j, value in enumerate(row):
                axes.text(j, i, f"{value:.0f}", ha="center", va="center", color="white" if value > 60 else INK)
        axes.set_xticks(range(len(self.targets)), self.targets, rotation=30, ha="right", parse_math=False)
        axes.set_yticks(range(len(self.sources)), self.sources, parse_math=False)
        axes.set(xlabel="shown to", ylabel="made against", title=f"fooled at {self.threat} (%)")
        return axes


def transfer_matrix(
    sources: Mapping[str, Callable[[Tensor], Any]],
    targets: Mapping[str, Callable[[Tensor], Tensor]],
    x: Tensor,
    y: Tensor,
    threat: Threat,
    attack: Callable[..., Tensor],
    *,
    targeted: bool = False,
    batch_size: int | None = None,
) -> TransferMatrix:
    """Attacks each source once, and asks each target what it makes of the result.

    Args:
        sources: Models by name, which the attack must be able to follow: substitutes, and for several models at once
            :class:`~advlib.models.Ensemble`.
        targets: Models by name: networks, :mod:`oracles <advlib.oracles>`, or any callable from ``(N, ...)`` inputs to
            ``(N, C)`` scores. Each is asked about every row once unperturbed and once for each source.
        x: Clean inputs, ``(N, ...)``, within ``threat.bounds``.
        y: ``(N,)`` the true classes, or the wanted ones if ``targeted``.
        threat: The threat model.
        attack: Called as ``attack(model, x, y, threat)``, with ``targeted=True`` if it is; for example
            ``partial(advlib.vmi_fgsm, samples=10)``.
        targeted: Whether the goal is that a target says ``y``, in place of anything else.
        batch_size: Rows that a target is asked about at once; None means all.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If there is no source or no target, the arguments are out of place, or the attack leaves the threat
            model.

    Example:
        >>> from advlib.evaluation import transfer_matrix
        >>> always_zero = lambda z: torch.eye(10)[:1].expand(len(z), 10)
        >>> matrix = transfer_matrix({"net": model}, {"net": model, "zero": always_zero}, x, y, Linf(0.1), mim)
        >>> matrix.fooled.shape
        torch.Size([1, 2, 6])
    """
    if not sources or not targets:
        raise ValueError(f"at least one source and one target are needed, got {len(sources)} and {len(targets)}")
    check_counts(batch_size=batch_size)
    check_inputs(x)
    y = check_labels("y", y, x)
    settings = {"targeted": True} if targeted else {}

    def reached(target: Callable[[Tensor], Tensor], points: Tensor) -> Tensor:
        with guard(target):
            parts = torch.split(points, batch_size or max(len(points), 1))
            said = torch.cat([target(part).argmax(1) for part in parts])
        return said == y if targeted else said != y

    x_adv = []
    for name, source in sources.items():
        x_adv.append(attack(source, x, y, threat, **settings))
        if not bool(threat.contains(x_adv[-1], x).all()):
            raise ValueError(f"the attack left {text_of(threat)} against {name!r}: it must bring its points back")
    standing = torch.stack([~reached(target, x) for target in targets.values()])
    fooled = torch.stack([torch.stack([reached(target, points) for target in targets.values()]) for points in x_adv])
    names = tuple(sources), tuple(targets), text_of(threat)
    return TransferMatrix(*names, standing.cpu(), fooled.cpu(), torch.stack(x_adv))
