"""Why the system says what it says: maps of a face, the model's card, its calibration, times."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from demo.render.cards import percent
from demo.session import jpeg
from faces.draw import COLOURS
from faces.emotions import EMOTIONS
from faces.pipeline import Image

MAPS_AT_ONCE = 32
"""Maximum number of a layer's feature maps on the page: those that vary most over this face."""

CARD_FACTS = {
    "task": "task",
    "trained_on": "trained on",
    "chosen_on": "chosen on",
    "intended_use": "intended use",
    "limits": "limits",
    "licence_of_weights": "licence",
    "data_licences": "licences of the data",
}
"""Key of a model's card → what the page calls it."""

STEPS = {
    "read": "read the photo",
    "detect": "find the faces",
    "classify": "cut the faces out, name their emotions",
}
"""Step of ``Analysis.seconds`` → what the page calls it."""

_FOR, _AGAINST = COLOURS["surprise"], COLOURS["sad"]
_SIDE = 288
_CELL, _GAP, _COLUMNS = 64, 3, 8
_FAINT = 0.1

DIAGRAM_WIDTH = 256
"""Width of the reliability diagram in CSS pixels."""


def saliency_jpeg(crop: Image, saliency: NDArray[np.float32]) -> bytes:
    """Return a grey face, orange where it speaks for the emotion, blue where against it, as JPEG.

    The colour is full at the strongest place, or at 0.1 if all are weaker. ``saliency`` is that of
    ``classification.inference.explain.saliency_map``, (T, T), of the face, (S, S, 3) uint8 RGB.
    """
    size = (_SIDE, _SIDE)
    grey = cv2.cvtColor(cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    face = cv2.resize(grey, size, interpolation=cv2.INTER_AREA if len(crop) > _SIDE else 1)
    strength = cv2.GaussianBlur(cv2.resize(saliency, size), (0, 0), _SIDE / 30)
    strength = np.clip(strength / max(_FAINT, float(np.abs(saliency).max())), -1, 1)[..., None]
    colour = np.where(strength > 0, np.array(_FOR), np.array(_AGAINST))
    weight = 0.75 * np.abs(strength)
    return jpeg((face * (1 - weight) + colour * weight).astype(np.uint8))


def feature_sheet(maps: NDArray[np.float32]) -> bytes:
    """Return a layer's feature maps beside each other, each scaled to its own range, as JPEG.

    Of the maps, (channels, height, width), the ``MAPS_AT_ONCE`` that vary most are shown, in order.
    """
    varied = np.sort(np.argsort(-maps.std(axis=(1, 2)), kind="stable")[:MAPS_AT_ONCE])
    columns = min(_COLUMNS, len(varied))
    rows = math.ceil(len(varied) / columns)
    step = _CELL + _GAP
    sheet = np.full((rows * step - _GAP, columns * step - _GAP, 3), 255, np.uint8)
    for index, values in enumerate(maps[varied]):
        low, high = float(values.min()), float(values.max())
        grey = ((values - low) * (255 / max(high - low, 1e-9))).astype(np.uint8)
        cell = cv2.resize(grey, (_CELL, _CELL), interpolation=cv2.INTER_NEAREST)
        y, x = step * (index // columns), step * (index % columns)
        coloured = cv2.applyColorMap(cell, cv2.COLORMAP_VIRIDIS)[:, :, ::-1]
        sheet[y : y + _CELL, x : x + _CELL] = coloured
    return jpeg(sheet)


def times_html(seconds: Mapping[str, float]) -> str:
    """Return a bar per step, as long as its share of the time."""
    total = max(sum(seconds.values()), 1e-9)
    rows = "".join(
        f'<dt class="name">{html.escape(STEPS[step])}</dt><dd class="track" aria-hidden="true">'
        f'<b></b><i style="width:{100 * value / total:.1f}%"></i></dd>'
        f'<dd class="share">{1000 * value:.0f} ms</dd>'
        for step, value in seconds.items()
    )
    return f'<div class="faces totals"><dl class="bars wide">{rows}</dl></div>'


def card_html(card: Mapping[str, Any]) -> str:
    """Return the facts of a model's card that people ask for."""
    rows = "".join(
        f"<dt>{html.escape(name)}</dt><dd>{html.escape(_text(card[key]))}</dd>"
        for key, name in CARD_FACTS.items()
        if card.get(key)
    )
    return f'<dl class="facts">{rows}</dl>'


def recall_html(confusion: Sequence[Sequence[int]]) -> str:
    """Return a bar per emotion: how many of its faces are recognised; truth by prediction, 7×7."""
    rows = []
    for index, (emotion, counts) in enumerate(zip(EMOTIONS, confusion, strict=True)):
        share = counts[index] / max(1, sum(counts))
        rows.append(
            f'<dt class="name">{emotion}</dt><dd class="track" aria-hidden="true"><b></b>'
            f'<i style="width:{100 * share:.1f}%"></i></dd>'
            f'<dd class="share">{percent(share)}</dd>'
        )
    return f'<div class="faces totals"><dl class="bars">{"".join(rows)}</dl></div>'


def calibration_text(calibration: Mapping[str, Any]) -> str:
    """Return a card's calibration, as ``classification.calibrate`` writes it, in words."""
    before, after = (calibration[key]["ece"] for key in ("before", "after"))
    return (
        f"When it says 70%, is it right in 70 of 100? On average its probability misses by "
        f"{100 * after:.1f} points ({100 * before:.1f} before it was calibrated), measured on "
        f"{calibration['pictures']} pictures of {calibration['fitted_on']}."
    )


def reliability_svg(bins: Sequence[Sequence[float]]) -> str:
    """Return the reliability diagram of a calibration: mean probability against accuracy.

    A browser shows it as an image, where the page's style sheet has no effect. Each bin has the
    mean probability, the accuracy, the number of images.
    """
    side = 220
    dots = "".join(
        f'<circle cx="{side * said:.1f}" cy="{side * (1 - right):.1f}" r="5" fill="#0072B2" '
        f'stroke="#fff"/>'
        for said, right, _ in bins
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="-8 -8 {side + 16} {side + 16}">'
        f'<rect x="-8" y="-8" width="{side + 16}" height="{side + 16}" rx="6" fill="#fff"/>'
        f'<rect width="{side}" height="{side}" fill="none" stroke="#bbb"/>'
        f'<line x1="0" y1="{side}" x2="{side}" y2="0" stroke="#777" stroke-dasharray="4 4"/>{dots}'
        f'<g fill="#444" font-family="sans-serif" font-size="11">'
        f'<text x="{side - 6}" y="{side - 6}" text-anchor="end">says →</text>'
        f'<text x="6" y="16">↑ is right</text></g></svg>'
    )


def reliability_text(bins: Sequence[Sequence[float]]) -> str:
    """Return the same diagram in words."""
    points = (f"says {percent(said)}, right {percent(right)}" for said, right, _ in bins)
    return f"Reliability: {'; '.join(points)}"


def _text(value: object) -> str:
    if isinstance(value, Mapping):
        named = value.get("data") or value.get("set")
        return str(named or "; ".join(f"{key}: {_text(v)}" for key, v in value.items()))
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "; ".join(map(_text, value))
    return str(value)
