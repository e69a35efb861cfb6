"""Robust accuracy over eps: by bisection of the radius at which each row breaks, or from one minimum-norm attack."""

from __future__ import annotations

import dataclasses
import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from tqdm import tqdm

from advlib.attacks.pgd import ProjectedGradient
from advlib.evaluation.evaluate import evaluate
from advlib.evaluation.intervals import clopper_pearson
from advlib.evaluation.plotting import percent_axes
from advlib.evaluation.result import Evaluation, Finding, Stage
from advlib.evaluation.rows import Rows
from advlib.evaluation.schedule import Budget
from advlib.evaluator import GradientMaskingWarning, Model
from advlib.models import Counted
from advlib.threats import Threat

if TYPE_CHECKING:
    from matplotlib.axes import Axes


_STEPS = 8  # of the curve by default


@dataclass(frozen=True, eq=False)
class Curve:
    """The result of :func:`robustness_curve` or :func:`distance_curve`. Rows are in the order of the inputs.

    Args:
        norm: Name of the threat model.
        method: What found it: ``"quick budget"``, say, or the attack's name.
        eps: The radii, increasing from 0.
        broken_at: ``(N,)`` float64, the least of ``eps`` at which each row was broken, or the distance of what broke
            it: 0 where the model errs unperturbed, infinite where nothing broke it.
        x_adv: ``(N, ...)`` the point that broke each row, within the ball of ``broken_at``; the clean row where it is 0
            or infinite.
        findings: Reasons not to trust it, as in an :class:`~advlib.evaluation.Evaluation`.
        forward_samples: Inputs that went through the model.
        backward_samples: Inputs whose gradient was taken.

    Example:
        >>> from advlib.evaluation import robustness_curve
        >>> curve = robustness_curve(model, x, y, Linf(0.1), progress=False)
        >>> half = next((eps for eps, accuracy in zip(curve.eps, curve.accuracy) if accuracy < 0.5), None)
    """

    norm: str
    method: str
    eps: tuple[float, ...]
    broken_at: Tensor
    x_adv: Tensor = dataclasses.field(repr=False)
    findings: tuple[Finding, ...]
    forward_samples: int
    backward_samples: int

    @property
    def accuracy(self) -> tuple[float, ...]:
        """Robust accuracy at each of ``eps``, an upper bound: it never rises."""
        return tuple(standing / len(self.broken_at) for standing in self._standing())

    @property
    def intervals(self) -> tuple[tuple[float, float], ...]:
        """95 % confidence interval (Clopper and Pearson) of each accuracy on data like these, one by one."""
        return tuple(clopper_pearson(standing, len(self.broken_at)) for standing in self._standing())

    @property
    def median(self) -> float:
        """The least radius within which half of all rows are broken; infinite where more than half are not."""
        return float(self.broken_at.median())

    def _standing(self) -> list[int]:
        return [int((self.broken_at > eps).sum()) for eps in self.eps]

    def __str__(self) -> str:
        head = f"{self.norm}, {self.method}, {len(self.broken_at):,} rows, median {self.median:.4g}"
        lines = [head, "     eps  accuracy"]
        for eps, accuracy, (low, high) in zip(self.eps, self.accuracy, self.intervals, strict=True):
            lines.append(f"{eps:8.4g}  {100 * accuracy:6.2f} %  ({100 * low:.2f} to {100 * high:.2f} %)")
        lines += [f"{f.verdict}: {f.name}: {f.seen}. {f.meaning}. {f.remedy}." for f in self.findings]
        return "\n".join(lines)

    def plot(self, axes: Axes | None = None, label: str | None = None) -> Axes:
        """Draws the accuracy over eps, with the confidence intervals as a band.

        Args:
            axes: Where to draw, such as what another curve's plot returned; by default in a new figure.
            label: What the legend calls it.

        Returns:
            Where it was drawn; ``axes.figure.savefig(path)`` writes it.

        Raises:
            ModuleNotFoundError: If matplotlib is not installed.
        """
        axes = percent_axes(axes, f"eps ({self.norm})", "robust accuracy (%)")
        (line,) = axes.plot(self.eps, [100 * a for a in self.accuracy], "o-", markersize=4, linewidth=2, label=label)
        low, high = zip(*((100 * low, 100 * high) for low, high in self.intervals), strict=True)
        axes.fill_between(self.eps, low, high, color=line.get_color(), alpha=0.15, linewidth=0)
        line.set(zorder=3, clip_on=False)  # points at 0 and 100 % show whole
        axes.margins(x=0.01)
        if label is not None:
            axes.legend(frameon=False)
        return axes


def robustness_curve(
    model: Model,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    *,
    eps: Sequence[float] | None = None,
    budget: Budget = "quick",
    batch_size: int | None = None,
    generator: torch.Generator | None = None,
    progress: bool = True,
) -> Curve:
    """Finds robust accuracy over eps: clean accuracy at 0, then how it falls.

    What breaks a row in one ball breaks it in every larger one, and a row that stands in one ball is taken to stand in
    every smaller one. So the radius at which each row breaks is bracketed: all rows are evaluated at the middle radius,
    then each at the middle of what is left for it, every row with a radius of its own; one that broke further out is
    first attacked from the nearest point to what broke it. K radii take about log2 K rounds in place of K, and the
    curve never rises. In ``benchmarks/curves.py`` ten radii cost half of what ten evaluations do, and little less on a
    network that breaks at the first of them. Where a row is counted as right at some radius, an evaluation at that
    radius or a larger one left it standing; where as broken, a point within that radius was verified to break it.

    Args:
        model: Callable from ``(N, ...)`` inputs to ``(N, C)`` logits, with normalisation inside.
        x: Inputs, ``(N, ...)``, float32 or float64, within ``threat.bounds``.
        y: ``(N,)`` true classes.
        threat: The norm, the bounds and the mask; its ``eps`` is the end of the curve if ``eps`` is None.
        eps: The radii, increasing; 0 is added if it is not there. None means eight even steps to ``threat.eps``.
        budget: That of each :func:`~advlib.evaluate`.
        batch_size: Rows asked at once; None means a block of 1,000.
        generator: Source of the random keys; None means torch's global generator.
        progress: Whether to show a bar of the rows whose radius is known.

    Returns:
        A :class:`Curve`.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If the radii are none, negative, infinite, or not increasing, or what
            :func:`~advlib.evaluate` raises.

    Example:
        >>> from advlib.evaluation import robustness_curve
        >>> curve = robustness_curve(model, x, y, Linf(0.1), eps=[0.02, 0.05, 0.1], progress=False)
        >>> curve.eps
        (0.0, 0.02, 0.05, 0.1)
    """
    if not isinstance(threat, Threat):
        raise TypeError(f"threat must be a threat model such as advlib.Linf(8/255), got {threat!r}")
    _check_rows(x, y)
    radii = _radii(threat, eps)
    grid = torch.tensor(radii, dtype=torch.float64)
    # the greatest index of `grid` at which each row is taken to stand, and the least at which it is known to break
    stands, breaks = torch.zeros(len(x), dtype=torch.int64), torch.full((len(x),), len(radii))
    x_adv, threat, left = x.detach().clone(), threat.aligned(x), torch.arange(len(x))
    found: tuple[Finding, ...] = ()
    stages: list[Stage] = []

    def learn(rows: Tensor, radius: Tensor, result: Evaluation | Rows) -> None:
        broken = ~result.robust.cpu()
        reached = torch.searchsorted(grid, result.distance.cpu()).minimum(radius)  # its point may lie further inside
        breaks[rows] = torch.where(broken, reached, breaks[rows])
        if result.x_adv is not None:
            x_adv[rows[broken]] = result.x_adv[broken]

    with tqdm(total=len(x), unit="row", disable=not progress) as bar:
        while len(left) or not stages:
            middle = (stands + breaks) // 2
            balls = threat.resized(grid[middle].to(x))
            further = left[breaks[left] < len(radii)]
            if len(further):
                rows = _pull_in(model, x[further], y[further], balls.rows(further), x_adv[further], batch_size)
                learn(further, middle[further], rows)
                stages += rows.stages.values()
            left = left[breaks[left] > middle[left]]
            if len(left) or not stages:
                result = evaluate(
                    model,
                    x[left],
                    y[left],
                    balls.rows(left),
                    budget=budget,
                    batch_size=batch_size,
                    generator=generator,
                    progress=False,
                )
                learn(left, middle[left], result)
                found = found if stages else result.findings  # later ones look at chosen rows, which are harder
                stages += result.stages
                stands[left[result.robust]] = middle[left[result.robust]]
            left = (breaks - stands > 1).nonzero().squeeze(1)
            bar.update(len(x) - len(left) - bar.n)
    return Curve(
        norm=type(threat).__name__,
        method=f"{budget} budget",
        eps=radii,
        broken_at=torch.cat([grid, grid.new_tensor([math.inf])])[breaks],
        x_adv=x_adv,
        findings=found,
        forward_samples=sum(stage.forward_samples for stage in stages),
        backward_samples=sum(stage.backward_samples for stage in stages),
    )


def distance_curve(
    model: Model,
    x: Tensor,
    y: Tensor,
    threat_family: Callable[[float], Threat],
    attack: Callable[[Model, Tensor, Tensor, Threat], Tensor],
    *,
    eps: Sequence[float] | None = None,
    batch_size: int | None = None,
) -> Curve:
    """Finds robust accuracy over eps from one run of a minimum-norm attack: how far each row's nearest success is.

    One run stands for all radii, since a point at some distance breaks its row in every ball that reaches so far. The
    attack sees the rows that the model is right about, and all the room there is within bounds and mask, ``eps=inf``.
    Each point that it returns is verified: a row counts as broken, at the distance of the point, where the model errs
    on it in full precision and it lies within bounds and mask. The curve is an upper bound, and as good as the attack:
    where that finds far points, or none, the model looks robust. :func:`robustness_curve` tries several on each row.

    Args:
        model: Callable from ``(N, ...)`` inputs to ``(N, C)`` logits, with normalisation inside.
        x: Inputs, ``(N, ...)``, float32 or float64, within the bounds.
        y: ``(N,)`` true classes.
        threat_family: Threat models by their radius: :class:`~advlib.threats.L2`, or ``partial(L2, mask=mask)``.
        attack: A minimum-norm attack, such as :func:`~advlib.attacks.fmn` or ``partial(fmn, steps=1000)``, called as
            ``attack(model, x, y, threat)``.
        eps: The radii at which the curve is told, increasing; 0 is added if it is not there. They cost nothing. None
            means eight even steps to the largest distance found.
        batch_size: Rows that are verified at once; None means all. The attack takes its own: ``partial(fmn,
            batch_size=100)``.

    Returns:
        A :class:`Curve`, whose ``broken_at`` are the distances themselves, whatever ``eps``.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If the radii are negative, infinite, or not increasing, there are no rows, ``x`` leaves the bounds,
            or what the attack raises.

    Example:
        >>> from advlib.evaluation import distance_curve
        >>> curve = distance_curve(model, x, y, L2, partial(fmn, steps=50), eps=[0.05, 0.1, 0.2])
        >>> curve.eps, curve.method
        ((0.0, 0.05, 0.1, 0.2), 'fmn')
    """
    for name, value in (("threat_family", threat_family), ("attack", attack)):
        if not callable(value):
            raise TypeError(f"{name} must be callable, as advlib.L2 and advlib.fmn are, got {value!r}")
    _check_rows(x, y)
    threat = threat_family(math.inf)
    radii = None if eps is None else _radii(threat, eps)
    with torch.inference_mode(False):
        certified = torch.zeros(len(x), dtype=torch.bool, device=x.device)
        rows = Rows(model, x, y, threat, certified, torch.Generator(), batch_size, lambda rows: None)
        left, counted = rows.left(), Counted(rows.model)
        if len(left):
            found = attack(counted, rows.x[left], rows.y[left], threat.aligned(rows.x).rows(left))
            rows.verify("attack", left, found)
    end = float(torch.where(rows.distance.isfinite(), rows.distance, 0).amax())
    stages = rows.stages.values()
    return Curve(
        norm=type(threat).__name__,
        method=getattr(getattr(attack, "func", attack), "__name__", type(attack).__name__),
        eps=radii or (_even(end) if end > 0 else (0.0,)),
        broken_at=rows.distance.cpu(),
        x_adv=rows.x_adv,
        findings=(),
        forward_samples=counted.forwards + sum(stage.forward_samples for stage in stages),
        backward_samples=counted.backwards,
    )


def _pull_in(model: Model, x: Tensor, y: Tensor, threat: Threat, points: Tensor, batch_size: int | None) -> Rows:
    """Steps from the nearest points of a smaller ball to those that broke rows in a larger one."""
    certified = torch.zeros(len(x), dtype=torch.bool, device=x.device)
    generator = torch.Generator()  # nothing here is random
    with warnings.catch_warnings(), torch.inference_mode(False):
        warnings.simplefilter("ignore", GradientMaskingWarning)  # what it says, findings say better
        rows = Rows(model, x, y, threat, certified, generator, batch_size, lambda rows: None)
        rows.attack("pulled in", rows.left(), ProjectedGradient(10, first=0.5), 10, init=points)  # projected first
    return rows


def _radii(threat: Threat, eps: Sequence[float] | None) -> tuple[float, ...]:
    if isinstance(threat.eps, Tensor) and threat.eps.numel() > 1:
        raise ValueError(
            f"a curve has the same radii for all rows, got a threat model with {threat.eps.numel()} of them: "
            f"{type(threat).__name__}(eps) with one number, the end of the curve"
        )
    if eps is None:
        end = float(threat.eps)
        if not 0 < end < math.inf:
            raise ValueError(f"the curve needs an end above 0, got eps={end:g}: give a finite one, or eps=[...]")
        return _even(end)
    radii = tuple(float(radius) for radius in eps)
    if not radii:
        raise ValueError("eps must hold radii, got none: eps=[0.1, 0.2, 0.3]")
    if not all(0 <= radius < math.inf for radius in radii):
        raise ValueError(f"eps must be finite and not negative, got {list(radii)}")
    if any(later <= radius for radius, later in pairwise(radii)):
        raise ValueError(f"eps must be increasing, without repetition, got {list(radii)}: sorted(set(eps))")
    return radii if radii[0] == 0 else (0.0, *radii)


def _even(end: float) -> tuple[float, ...]:
    return tuple(end * step / _STEPS for step in range(_STEPS + 1))


def _check_rows(x: object, y: object) -> None:
    if not isinstance(x, Tensor) or not isinstance(y, Tensor):
        raise TypeError(
            f"x and y must be tensors, got {type(x).__name__} and {type(y).__name__}: a curve goes over the rows "
            "several times, so gather the batches with torch.cat first"
        )
    if y.shape != x.shape[:1]:
        raise ValueError(f"y must have one label per row of x, got {tuple(y.shape)} for {len(x)} rows")
    if len(x) == 0:
        raise ValueError("there must be rows to evaluate, got none: look at how x was sliced")
