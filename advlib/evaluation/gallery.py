"""Pictures of what broke a model, as a page shows them."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape

import torch
from torch import Tensor

from advlib.evaluation.export import attacked, is_pictures, png
from advlib.evaluation.result import Evaluation

_SHOWN = 6  # rows whose pictures are shown
_SMALL = 128  # pixels up to which a picture is drawn as squares, not smoothed


def gallery(result: Evaluation) -> str:
    """A few rows that attacks broke: clean, adversarial and the difference; or why there are none to be seen."""
    rows = attacked(result)
    if result.x is None or result.x_adv is None:
        text = "This result holds no examples: it was read from JSON, or evaluated with examples=False."
    elif not is_pictures(result.x):
        text = f"The rows are of shape {tuple(result.x.shape[1:])}, which are no images (1 or 3, height, width)."
    elif len(rows) == 0:
        text = "No attack broke a row, so there is nothing to show."
    else:
        return _triples(result, rows, result.x, result.x_adv)
    return f'<h2>What broke it</h2><p class="note">{text}</p>'


def _triples(result: Evaluation, broken: Tensor, x: Tensor, x_adv: Tensor) -> str:
    rows = broken[torch.linspace(0, len(broken) - 1, min(_SHOWN, len(broken))).round().long()]
    clean, changed = (points[rows.to(points.device)].double().cpu() for points in (x, x_adv))
    black = min(0.0, float(clean.min()), float(changed.min()))
    white = max(1.0, float(clean.max()), float(changed.max()))
    factor = 0.5 / (float((changed - clean).abs().max()) or 0.5)  # a random model errs without a change
    kinds = ((clean - black) / (white - black), (changed - black) / (white - black), 0.5 + factor * (changed - clean))
    shown = "".join(_triple(result, row, images) for row, *images in zip(rows.tolist(), *kinds, strict=True))
    text = (
        f"{len(rows)} of the {len(broken):,} rows that an attack broke, spread evenly over them: clean, adversarial, "
        f"and the difference times {factor:.3g} on grey."
    )
    if (black, white) != (0.0, 1.0):
        text += f" Black is {black:.3g} and white {white:.3g}."
    return f'<h2>What broke it</h2><p class="note">{text}</p><div class="pictures">{shown}</div>'


def _triple(result: Evaluation, row: int, images: Sequence[Tensor]) -> str:
    label, predicted = int(result.y[row]), int(result.predicted[row])
    words = (f"row {row}, label {label}", f"row {row} attacked, predicted {predicted}", f"row {row}, the difference")
    shown = "".join(_image(image, alt) for image, alt in zip(images, words, strict=True))
    by = f"stage {escape(result.broken_by[row])}, distance {float(result.distance[row]):.4g}"
    caption = f"<figcaption>Row {row}: <b>{label} → {predicted}</b><br>{by}</figcaption>"
    return f'<figure><div class="triple">{shown}</div>{caption}</figure>'


def _image(image: Tensor, alt: str) -> str:
    grey = (255 * image).round().clamp(0, 255).to(torch.uint8)
    kind = ' class="small"' if max(image.shape) < _SMALL else ""
    data = base64.b64encode(png(grey)).decode()
    return (
        f'<img{kind} alt="{alt}" src="data:image/png;base64,{data}" width="{image.shape[2]}" height="{image.shape[1]}">'
    )
