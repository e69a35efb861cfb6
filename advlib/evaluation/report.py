"""A result, or several beside one another, as one HTML page that holds all it shows and loads nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from html import escape
from importlib.resources import files
from os import PathLike
from typing import TYPE_CHECKING

import torch

from advlib.evaluation import figures
from advlib.evaluation.curves import Curve
from advlib.evaluation.export import replacing
from advlib.evaluation.gallery import gallery
from advlib.evaluation.result import Evaluation

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# What a threat model of each norm allows, as the page says it
_MEANING = {
    "Linf": "every feature may change by at most eps",
    "L2": "the Euclidean length of the change is at most eps",
    "L1": "the sizes of all changes add up to at most eps",
    "L0": "at most eps features, or pixels where it says so, may change by any amount",
}
_ACCESS = "white-box: the adversary sees the model's gradients and scores, and asks as often as the budget allows"


def save(result: Evaluation, path: str | PathLike[str], title: str, curve: Curve | None) -> None:
    """Writes a result as a page; see :meth:`Evaluation.save`."""
    curves = {} if curve is None else {title: curve}
    _check(curves)
    with replacing(path) as file:
        file.write(_page(title, _lead(result), _body(title, result, curves, "r0")).encode())


def compare(
    results: Mapping[str, Evaluation],
    path: str | PathLike[str],
    *,
    title: str = "Robustness compared",
    curves: Mapping[str, Curve] | None = None,
) -> None:
    """Writes several results as one HTML page: first beside one another, then each as :meth:`Evaluation.save` does.

    The page says where results are not comparable: other rows, another threat model, another budget. Where they are of
    the same rows, it counts for each pair those that one model holds and the other does not. Results whose labels
    agree, in order, are taken to be of the same rows: a result need not hold its inputs.

    Args:
        results: The results by the names that the page gives them.
        path: The file to write; it appears complete or not at all.
        title: Heading of the page.
        curves: Robust accuracy against eps, under the same names; not every result needs one.

    Raises:
        ModuleNotFoundError: If matplotlib is not installed.
        OSError: If the file cannot be written.
        TypeError: If ``results`` or ``curves`` hold anything else.
        ValueError: If there are no results, or there is a curve of another name.

    Example:
        >>> one, two = (advlib.evaluate(net, x, y, Linf(0.1), progress=False) for net in (model, other))
        >>> advlib.evaluation.compare({"one": one, "two": two}, "both.html")
    """
    curves = {} if curves is None else curves
    if not isinstance(results, Mapping):
        raise TypeError(f"results must be a dict of results by name, got {type(results).__name__}")
    if not results:
        raise ValueError("there must be results to compare, got none: compare({'name': result, ...}, path)")
    for name, result in results.items():
        if not isinstance(result, Evaluation):
            raise TypeError(
                f"results must hold what advlib.evaluate returned, got {type(result).__name__} for {name!r}"
            )
    if unknown := [name for name in curves if name not in results]:
        raise ValueError(f"a curve must have the name of a result, got {unknown}: name them as in {list(results)}")
    _check(curves)
    with replacing(path) as file:
        parts = [_side_by_side(results), *_differences(results), _held(results), _drawings(results, curves, "all")]
        for number, (name, result) in enumerate(results.items()):
            body = _body(name, result, {name: curves[name]} if name in curves else {}, f"r{number}")
            parts.append(f'<section class="result"><h1>{escape(name)}</h1>{_lead(result)}{body}</section>')
        file.write(_page(title, "", "".join(parts)).encode())


def _check(curves: Mapping[str, Curve]) -> None:
    for curve in curves.values():
        if not isinstance(curve, Curve):
            raise TypeError(f"a curve must be what robustness_curve returned, got {type(curve).__name__}")


def _page(title: str, lead: str, body: str) -> str:
    style = files("advlib.evaluation").joinpath("report.css").read_text("utf-8")
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<link rel="icon" href="data:,">'  # or the browser asks for one
        f"<title>{escape(title)}</title><style>{style}</style></head>"
        f"<body><main><h1>{escape(title)}</h1>{lead}{body}</main>"
        "<footer>Made by advlib. The page holds all that it shows and loads nothing.</footer></body></html>\n"
    )


def _lead(result: Evaluation) -> str:
    text = f"{len(result.y):,} rows, {escape(result.budget)} budget"
    return f'<p class="lead"><code>{escape(result.threat)}</code>, {text}</p>'


def _body(name: str, result: Evaluation, curves: Mapping[str, Curve], prefix: str) -> str:
    parts = (_cards(result), _findings(result), _threat(result), _drawings({name: result}, curves, prefix))
    return "".join((*parts, gallery(result), _cost(result), _provenance(result)))


# -- the parts of a result -----------------------------------------------------------------------------------


def _cards(result: Evaluation) -> str:
    doubts = len(result.findings)
    bound = "an upper bound: a stronger attack may break more"
    doubted = "an upper bound, and in doubt until the findings are settled"
    shares = (
        _card("Clean accuracy", result.clean_accuracy, result.clean_interval, "on the rows as they are"),
        _card("Robust accuracy", result.robust_accuracy, result.robust_interval, doubted if doubts else bound),
    )
    seen = f"{doubts} finding{'s' * (doubts > 1)}, below" if doubts else "none of the checks saw a reason for doubt"
    verdict = (
        '<div class="card"><dt>Verdict on the robust accuracy</dt>'
        f'<dd class="figure verdict {result.verdict}">{result.verdict}</dd><dd class="note">{seen}</dd></div>'
    )
    return f'<dl class="cards">{"".join(shares)}{verdict}</dl>'


def _card(name: str, share: float, interval: tuple[float, float], note: str) -> str:
    low, high = (100 * end for end in interval)
    return (
        f'<div class="card"><dt>{name}</dt><dd class="figure">{_percent(share)}</dd>'
        f'<dd class="bar"><i style="width:{100 * share:.2f}%"></i>'
        f'<b style="left:{low:.2f}%;width:{high - low:.2f}%"></b></dd>'
        f'<dd class="note">95\u00a0% interval {_interval(interval)}</dd><dd class="note">{note}</dd></div>'
    )


def _findings(result: Evaluation) -> str:
    shown = [
        _box(found.verdict, found.name, f"{_begun(found.seen)}. {_begun(found.meaning)}", found.remedy)
        for found in result.findings
    ]
    seen = "None of the checks saw a reason to doubt the robust accuracy. That is no proof that there is none"
    next_step = "Compare with a larger budget, and with an attack made for this model"
    return f"<h2>Findings</h2>{''.join(shown) or _box('reliable', 'no finding', seen, next_step)}"


def _box(kind: str, name: str, text: str, next_step: str) -> str:
    return (
        f'<div class="finding {escape(kind)}"><h3>{escape(_begun(name))}</h3><p>{escape(text)}.</p>'
        f"<p><b>Next:</b> {escape(_begun(next_step))}.</p></div>"
    )


def _begun(sentence: str) -> str:
    return sentence[:1].upper() + sentence[1:]


def _threat(result: Evaluation) -> str:
    meaning = _MEANING.get(result.threat.partition("(")[0])
    facts = {
        "Threat model": f"<code>{escape(result.threat)}</code>" + (f": {meaning}" if meaning else ""),
        "Access": _ACCESS,
        "Counted as robust": "right on the clean row, and no attack found a point within the threat model that changes "
        "this; the share is of all rows",
    }
    if proved := int(result.certified.sum()):
        facts["Proved robust"] = f"{proved:,} of {len(result.y):,} rows, which were given as such and never attacked"
    return f"<h2>What was asked</h2>{_facts(facts)}"


def _drawings(results: Mapping[str, Evaluation], curves: Mapping[str, Curve], prefix: str) -> str:
    caption = (
        "The share of rows still right after at most so many passes, forward and backward, on each. A flat end says "
        "that the search had stopped finding; one that still falls, that a larger budget may find more."
    )
    alt = f"Accuracy against passes: {'; '.join(f'{name} {_fallen(result)}' for name, result in results.items())}."
    found = _figure("How the accuracy fell", lambda: figures.draw_falls(results), alt, caption, f"{prefix}-fall-")
    if curves:
        alt = f"Robust accuracy: {'; '.join(f'{name} {_course(curve)}' for name, curve in curves.items())}."
        caption = "At each eps an upper bound, like the robust accuracy above. The band is the 95 % interval."
        found += _figure(
            "Robust accuracy against eps",
            lambda: figures.draw_curves(curves, results),
            alt,
            caption,
            f"{prefix}-curve-",
        )
    return f'<div class="figures">{found}</div>'


def _figure(title: str, draw: Callable[[], Figure], alt: str, caption: str, prefix: str) -> str:
    image = figures.svg(draw, escape(alt), prefix)
    return f"<section><h2>{title}</h2><figure>{image}<figcaption>{caption}</figcaption></figure></section>"


def _fallen(result: Evaluation) -> str:
    passes, right = figures.fall(result)
    return f"falls from {_percent(right[0])} at one pass to {_percent(right[-1])} at {passes[-1]:,}"


def _course(curve: Curve) -> str:
    points = zip(curve.eps, curve.accuracy, strict=True)
    return ", ".join(f"{_percent(share)} at eps {eps:.4g}" for eps, share in points)


def _cost(result: Evaluation) -> str:
    names = ("stage", "rows", "broken", "forward", "backward", "seconds")
    broken = f"{len(result.y) - int(result.robust.sum()):,}"
    passes = (f"{result.forward_samples:,}", f"{result.backward_samples:,}")
    foot = ("all", "", broken, *passes, f"{result.seconds:,.1f}")
    rows = [
        (
            escape(stage.name),
            f"{stage.rows:,}",
            f"{stage.broken:,}",
            f"{stage.forward_samples:,}",
            f"{stage.backward_samples:,}",
            f"{stage.seconds:,.1f}",
        )
        for stage in result.stages
    ]
    note = (
        "Rows count as often as a stage was run on them. Forward and backward are inputs that went through the model, "
        "and of which the gradient was taken. The stages one step, noise and findings look for gradient masking."
    )
    return f'<h2>What it cost</h2>{_table("Cost by stage", names, rows, foot)}<p class="note">{note}</p>'


def _provenance(result: Evaluation) -> str:
    facts = {
        "Budget": escape(result.budget),
        "Seed": f"<code>{escape(str(result.seed))}</code>",
        "Made with": escape(", ".join(f"{name} {version}" for name, version in result.versions.items())),
        "Time": f"{result.seconds:,.1f} seconds",
    }
    return f"<h2>To repeat it</h2>{_facts(facts)}"


# -- several results -----------------------------------------------------------------------------------------


def _side_by_side(results: Mapping[str, Evaluation]) -> str:
    names = ("", "clean", "robust, at most", "95 % interval", "verdict", "passes per row", "seconds")
    rows = []
    for name, result in results.items():
        passes = (result.forward_samples + result.backward_samples) / len(result.y)
        verdict = f'<span class="{result.verdict}">{result.verdict}</span>'
        rows.append(
            [
                escape(name),
                _percent(result.clean_accuracy),
                f"<b>{_percent(result.robust_accuracy)}</b>",
                _interval(result.robust_interval),
                verdict,
                f"{passes:,.0f}",
                f"{result.seconds:.1f}",
            ]
        )
    return f"<h2>Side by side</h2>{_table('Accuracy and cost', names, rows)}"


def _differences(results: Mapping[str, Evaluation]) -> list[str]:
    """What keeps the results from being compared."""
    given = list(results.values())
    found = []
    if not _same_rows(given):
        found.append("The results are not of the same rows: their intervals say how far they can be compared.")
    if len({result.threat for result in given}) > 1:
        found.append("The threat models differ, so the robust accuracies answer different questions.")
    if len({result.budget for result in given}) > 1:
        found.append("The budgets differ: a larger one lowers the robust accuracy, whatever the model.")
    return [f'<div class="finding suspicious"><p>{text}</p></div>' for text in found]


def _held(results: Mapping[str, Evaluation]) -> str:
    """For each pair, the rows that one holds and the other does not: on the same rows, intervals say too little."""
    if len(results) < 2 or not _same_rows(list(results.values())):
        return ""
    rows = [
        [escape(name), *(f"{int((one.robust & ~other.robust).sum()):,}" for other in results.values())]
        for name, one in results.items()
    ]
    caption = "Rows robust under the result on the left, and not under the one above"
    return _table(caption, ("", *(escape(name) for name in results)), rows)


def _same_rows(results: Sequence[Evaluation]) -> bool:
    """As far as their labels tell, which is all that every result holds."""
    return all(torch.equal(result.y, results[0].y) for result in results)


# -- pieces --------------------------------------------------------------------------------------------------


def _table(caption: str, names: Sequence[str], rows: Sequence[Sequence[str]], foot: Sequence[str] = ()) -> str:
    """A table of HTML that scrolls in a box of its own."""
    head = "".join(f'<th scope="col">{name}</th>' if name else "<td></td>" for name in names)
    body = "".join(_line(row) for row in rows)
    end = f"<tfoot>{_line(foot)}</tfoot>" if foot else ""
    return (
        f'<div class="wide" tabindex="0" role="region" aria-label="{caption}"><table><caption>{caption}</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody>{end}</table></div>"
    )


def _line(row: Sequence[str]) -> str:
    cells = "".join(f"<td>{cell}</td>" for cell in row[1:])
    return f'<tr><th scope="row">{row[0]}</th>{cells}</tr>'


def _facts(facts: Mapping[str, str]) -> str:
    return f'<dl class="facts">{"".join(f"<dt>{name}</dt><dd>{text}</dd>" for name, text in facts.items())}</dl>'


def _percent(share: float) -> str:
    return f"{100 * share:.2f}\u00a0%"


def _interval(interval: tuple[float, float]) -> str:
    return f"{100 * interval[0]:.2f} to {100 * interval[1]:.2f}\u00a0%"
