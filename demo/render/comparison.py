"""Two analyses of the same photo side by side, with what they disagree on."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from demo.render.cards import Threshold, css, image_html, labels_html, limits, percent
from faces.boxes import iou_matrix, match
from faces.emotions import EMOTIONS
from faces.types import Face, ImageResult

ONLY_HERE = "only here"
"""The note on a face that the other analysis lacks."""


@dataclass(frozen=True)
class Pair:
    """A face as two analyses have it."""

    left: int | None  # its index in the first, or None
    right: int | None  # its index in the second, or None


def pair_faces(left: ImageResult, right: ImageResult) -> list[Pair]:
    """Match the faces of two results one to one; those without a partner come last.

    ``faces.boxes.match`` takes the faces of ``left`` in the order of their largest overlap.
    """
    boxes, others = ([face.box.as_tuple() for face in one.faces] for one in (left, right))
    closest = iou_matrix(boxes, others).max(axis=1, initial=0.0)
    partners: list[int] = match(boxes, closest, others, np.zeros(len(others), bool)).face.tolist()
    both = [Pair(i, j) for i, j in enumerate(partners) if j >= 0]
    alone = [Pair(i, None) for i, j in enumerate(partners) if j < 0]
    return both + alone + [Pair(None, j) for j in range(len(others)) if j not in partners]


def differs(pair: Pair, left: ImageResult, right: ImageResult, threshold: Threshold) -> bool:
    """Tell whether the two see different emotions in a face, or only one sees the face."""
    if pair.left is None or pair.right is None:
        return True
    a, b = left.faces[pair.left].emotions, right.faces[pair.right].emotions
    sure = a.unsure(threshold) == b.unsure(threshold)
    return not sure or set(a.labels(threshold)) != set(b.labels(threshold))


def notes(
    pairs: Sequence[Pair], left: ImageResult, right: ImageResult, threshold: Threshold
) -> tuple[dict[int, str], dict[int, str]]:
    """Return the notes of each result's faces: number of a face → note."""
    found: tuple[dict[int, str], dict[int, str]] = {}, {}
    for pair in pairs:
        if not differs(pair, left, right, threshold):
            continue
        alone = pair.left is None or pair.right is None
        for side, index in zip(found, (pair.left, pair.right), strict=True):
            if index is not None:
                side[index + 1] = ONLY_HERE if alone else "differs"
    return found


def summary(
    pairs: Sequence[Pair], left: ImageResult, right: ImageResult, threshold: Threshold
) -> str:
    """Return in a sentence how far the two agree."""
    both = [pair for pair in pairs if pair.left is not None and pair.right is not None]
    same = sum(not differs(pair, left, right, threshold) for pair in both)
    only = {"A": len(left.faces) - len(both), "B": len(right.faces) - len(both)}
    alone = "".join(f"; only {side} finds {number}" for side, number in only.items() if number)
    return (
        f"Both find {len(both)} of {len(pairs)} faces and agree on the emotions of {same}{alone}."
    )


def pairs_html(
    pairs: Sequence[Pair],
    results: tuple[ImageResult, ImageResult],
    crops: tuple[Sequence[bytes], Sequence[bytes]],
    threshold: Threshold,
) -> str:
    """Return a card per face with both opinions above each other, marked where they differ."""
    cards = []
    for pair in pairs:
        indices = pair.left, pair.right
        faces = [
            None if index is None else result.faces[index]
            for index, result in zip(indices, results, strict=True)
        ]
        images = [
            image_html(side[index], f"face {index + 1}")
            for index, side in zip(indices, crops, strict=True)
            if index is not None
        ]
        mark = ""
        if differs(pair, *results, threshold):
            mark = f'<span class="mark">{ONLY_HERE if None in faces else "differs"}</span>'
        opinions = "".join(
            f'<div class="opinion"><span class="side">{side}</span>'
            f"{labels_html(face, threshold) if face else _NOT_FOUND}</div>"
            for side, face in zip("AB", faces, strict=True)
        )
        cards.append(
            f'<li class="card{" differs" if mark else ""}"><div class="head">{images[0]}'
            f'<div><p class="number">{_numbers(pair)}{mark}</p>{opinions}</div></div>'
            f'<dl class="bars">{_bars(faces, threshold)}</dl></li>'
        )
    return f'<ul class="faces">{"".join(cards)}</ul>'


_NOT_FOUND = '<div class="labels"><span class="label unsure">not found</span></div>'


def _numbers(pair: Pair) -> str:
    if pair.left == pair.right and pair.left is not None:
        return f"Face {pair.left + 1}"
    sides = zip("AB", (pair.left, pair.right), strict=True)
    return "Face " + ", ".join(f"{i + 1} in {side}" for side, i in sides if i is not None)


def _bars(faces: Sequence[Face | None], threshold: Threshold) -> str:
    rows = []
    for emotion in EMOTIONS:
        both = [face.emotions[emotion] if face else None for face in faces]
        bars = "".join(
            f'<i class="{side}" style="width:{100 * (probability or 0):.1f}%;'
            f'background-color:{css(emotion)}"></i>'
            for side, probability in zip("ab", both, strict=True)
        )
        texts = " · ".join("–" if p is None else percent(p) for p in both)
        rows.append(
            f'<dt class="name">{html.escape(emotion)}</dt>'
            f'<dd class="track two" aria-hidden="true"><b></b>{bars}'
            f'<s style="left:{100 * limits(threshold)[emotion]:.1f}%"></s></dd>'
            f'<dd class="share two">{texts}</dd>'
        )
    return "".join(rows)
