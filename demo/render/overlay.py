"""The boxes and labels that lie over a photo, as HTML: sharp and legible at every width.

The HTML needs ``faces.css``.
"""

from __future__ import annotations

import html
from collections import Counter
from collections.abc import Mapping

from demo.render.cards import Threshold, percent
from demo.session import Analysis
from faces.draw import colour_of, text_colour
from faces.types import Box, Face, ImageResult

MANY_FACES = 12
"""Of more faces only the numbers are shown; the labels come when one points at them."""

FEW_FACES = 6
"""The suppressed boxes of more faces have short reasons."""

LABELS_AT_ONCE = 2
"""Labels that a box shows; more come when one points at it."""


def overlay_html(
    analysis: Analysis,
    threshold: Threshold,
    suppressed: bool = False,
    notes: Mapping[int, str] | None = None,
) -> str:
    """Return the boxes of a photo's faces, each with its number and labels.

    Args:
        analysis: what was found in the photo.
        threshold: from which probability on an emotion is a label.
        suppressed: also show the boxes that do not count as faces.
        notes: number of a face → one more line of its label.
    """
    result, notes = analysis.result, notes or {}
    boxes = []
    if suppressed:
        for box, reason in suppressed_boxes(analysis):
            text = f"<span>{html.escape(reason)}</span>" if reason else ""
            boxes.append(f'<div class="box weak" style="{_place(box, result)}">{text}</div>')
    numbered = list(enumerate(result.faces, start=1))
    for number, face in sorted(numbered, key=lambda one: -one[1].box.area):
        boxes.append(_box_html(number, face, result, threshold, notes.get(number, "")))
    many = " many" if len(numbered) > MANY_FACES else " some" if len(numbered) > FEW_FACES else ""
    return f'<div class="boxes{many}" aria-hidden="true">{"".join(boxes)}</div>'


def _box_html(number: int, face: Face, result: ImageResult, threshold: Threshold, note: str) -> str:
    lines = _lines(face, threshold)
    spans = [
        f'<span class="{"line" if index < LABELS_AT_ONCE else "line more"}">{text}</span>'
        for index, text in enumerate(lines)
    ]
    if note:
        spans.append(f'<span class="line">{html.escape(note)}</span>')
    colour = colour_of(face, threshold)
    style = f"{_place(face.box, result)};--box:rgb{colour};--text:{text_colour(colour)}"
    unsure = " unsure" if face.unsure(threshold) else ""
    return (
        f'<div class="box{unsure}" data-face="{number}" style="{style}">'
        f'<div class="tag {_side(face.box, result)}"><b>{number}</b>{"".join(spans)}</div></div>'
    )


def _lines(face: Face, threshold: Threshold) -> list[str]:
    """Return a line per label; an unsure face has what it may show, with question marks."""
    labels = face.labels(threshold)
    mark = "?" if face.unsure(threshold) else ""
    return [
        f"{html.escape(label)}{mark}<i> {percent(face.emotions[label])}</i>"
        for label in labels or [face.emotions.top]
    ]


def _place(box: Box, result: ImageResult) -> str:
    """Return where a box lies, in percent of the photo, clipped to it."""
    x1, x2 = (100 * min(max(x, 0), result.width) / result.width for x in (box.x1, box.x2))
    y1, y2 = (100 * min(max(y, 0), result.height) / result.height for y in (box.y1, box.y2))
    return f"left:{x1:.2f}%;top:{y1:.2f}%;width:{x2 - x1:.2f}%;height:{y2 - y1:.2f}%"


def _side(box: Box, result: ImageResult) -> str:
    """Return where a label stands: above its box, or below it where there is no room above."""
    up = "above" if box.y1 > 0.12 * result.height else "below"
    if up == "below" and box.y2 > 0.85 * result.height:
        up = "inside"
    return f"{up} {'right' if box.x1 + box.x2 > 1.3 * result.width else 'left'}"


def suppressed_boxes(analysis: Analysis) -> list[tuple[Box, str]]:
    """Return (box, reason) of what does not count as a face.

    Of the boxes merged into one face, only the best has a reason. Among many faces reasons are
    short: ``= 2`` for the same face as 2, the score alone if that is low.
    """
    few = len(analysis.result.faces) <= FEW_FACES
    numbers = Counter(box.into for box in analysis.merged)
    found = []
    for box in analysis.merged:
        many = numbers.pop(box.into, 0)
        boxes = f" ({many} boxes)" if many > 1 else ""
        long, short = f"same face as {box.into + 1}{boxes}", f"= {box.into + 1}"
        found.append((box.detection.box, (long if few else short) if many else ""))
    weak = ((one.box, f"{one.score:.2f}{' low score' if few else ''}") for one in analysis.weak)
    return [*found, *weak]
