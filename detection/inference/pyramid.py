"""Images of any size: at which scales a detector looks at one, and in which windows.

A detector finds faces from some 12 to 300 pixels of its input. The first scale shows the whole
image in one window, as small as the detector's configuration says. Where that hides small faces,
finer scales follow, in overlapping windows. The finest one is looked at where a coarser one has
seen something small (coarse to fine), or everywhere (``full``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torchvision.ops import nms

from detection.data.mapper import resize
from faces.pipeline import Image
from faces.scope import Scope

FloatArray = NDArray[np.float32]
Look = Callable[[Sequence[Image]], Sequence[tuple[FloatArray, FloatArray]]]
"""Finds faces in windows: boxes (N, 4) in the window's pixels, scores (N,) of each window."""

SMALLEST = 12.0
"""Faces from this shorter side on, in pixels of a detector's input, can be found, if not all."""

WINDOW, OVERLAP = 1024, 160
"""Side of a window and overlap of neighbours, in pixels of the detector's input. A face up to the
overlap's size is whole in one of them."""

CLOSE_WINDOW, CLOSE_OVERLAP = 512, 80
"""The same where only small candidates are looked at closely."""

EDGE = 4.0
"""Boxes this near to a window's inner border may be parts of faces, whole in the neighbour."""

GAP = 1.25
"""A finer scale that is not finer by this factor is not worth a look."""

CANDIDATE_SCORE, CANDIDATE_SIDE = 0.1, 64.0
"""What makes a closer look worth while: a box of this score, and at most this side at the finest
scale."""

PADDING, FILLED = 1.6, 0.5
"""An image in which nothing is sure may be one face from edge to edge. It is looked at once more on
a canvas larger by ``PADDING``, for boxes of at least ``FILLED`` of its shorter side."""

GREY = 114
"""What the canvas is filled with."""

SAME_FACE = 0.5
"""Boxes of different windows or scales are of one face from this IoU on."""


@dataclass(frozen=True, slots=True)
class Window:
    """A part of a scaled image, in whole pixels of it: columns x1 … x2 - 1, rows y1 … y2 - 1."""

    x1: int
    y1: int
    x2: int
    y2: int


def scales(width: int, height: int, sizes: tuple[int, int], scope: Scope) -> tuple[float, ...]:
    """Return the factors by which an image, its sides in pixels, is scaled, the coarsest first.

    ``sizes`` are the shorter side that the whole image is scaled to, and the limit of the longer
    one, in pixels.
    """
    shortest, longest = sizes
    coarsest = min(shortest / min(width, height), longest / max(width, height))
    finest = SMALLEST / scope.min_face
    if scope.detail == "fast" or finest < coarsest * GAP:
        return (coarsest,)
    chosen = [finest]
    if scope.detail == "standard" and finest / 2 > coarsest * GAP:
        chosen.insert(0, finest / 2)
    # A face too large for a window's overlap must be large enough for the next coarser scale.
    step = OVERLAP / (1.5 * SMALLEST)
    while chosen[0] / coarsest > step:
        chosen.insert(0, chosen[0] / step)
    return (coarsest, *chosen)


def smallest_face(used: Sequence[float]) -> float:
    """Return the shorter side of the smallest faces that these scales show, in image pixels."""
    return SMALLEST / used[-1]


def windows(width: int, height: int, side: int = WINDOW, overlap: int = OVERLAP) -> list[Window]:
    """Cover a scaled image with overlapping windows, as few as there can be."""
    columns, rows = _spans(width, side, overlap), _spans(height, side, overlap)
    return [Window(x1, y1, x2, y2) for y1, y2 in rows for x1, x2 in columns]


def _spans(length: int, side: int, overlap: int) -> list[tuple[int, int]]:
    if length <= side:
        return [(0, length)]
    count = -(-(length - overlap) // (side - overlap))
    side = -(-(length + (count - 1) * overlap) // count)
    step = (length - side) / (count - 1)
    return [(round(i * step), round(i * step) + side) for i in range(count)]


def find(
    image: Image,
    used: Sequence[float],
    look: Look,
    scope: Scope,
    sure: float,
    batch: int = 1,
    merge: bool = True,
) -> tuple[FloatArray, FloatArray]:
    """Find faces at several scales: boxes (N, 4) in pixels of the image and scores (N,).

    Args:
        image: (H, W, 3) uint8.
        used: see ``scales``.
        look: the detector.
        scope: how closely to look.
        sure: the score from which on a detection is shown to users.
        batch: windows per call of ``look``.
        merge: drop the worse of two boxes that different windows or scales have found of one face.
    """
    boxes = np.zeros((0, 4), np.float32)
    scores = np.zeros(0, np.float32)
    looks = 0
    for index, scale in enumerate(used):
        scaled, factor = _scaled(image, scale)
        rows, columns = scaled.shape[:2]
        if index == 0:
            parts = [Window(0, 0, columns, rows)]
        elif scope.detail == "standard" and index == len(used) - 1:
            parts = windows(columns, rows, CLOSE_WINDOW, CLOSE_OVERLAP)
            parts = _promising(parts, boxes * factor, scores)
        else:
            parts = windows(columns, rows)
        found = _look_at(scaled, parts, look, batch)
        looks += len(parts)
        boxes = np.concatenate([boxes, found[0] / factor])
        scores = np.concatenate([scores, found[1]])
        if index == 0 and scope.detail != "fast" and not (scores >= sure).any():
            found = _filling(image, scale, look)
            looks += bool(len(found[0]))
            boxes = np.concatenate([boxes, found[0]])
            scores = np.concatenate([scores, found[1]])
    if merge and looks > 1:
        keep = nms(torch.from_numpy(boxes), torch.from_numpy(scores), SAME_FACE).numpy()
        boxes, scores = boxes[keep], scores[keep]
    return boxes, scores


def _scaled(image: Image, scale: float) -> tuple[Image, FloatArray]:
    """Return a scaled image, and by what its boxes (x1, y1, x2, y2) are multiplied, shape (4,)."""
    height, width = image.shape[:2]
    rows, columns = max(1, round(height * scale)), max(1, round(width * scale))
    scaled = image if (rows, columns) == (height, width) else resize(image, rows, columns)
    return scaled, np.array([columns / width, rows / height] * 2, np.float32)


def _filling(image: Image, scale: float, look: Look) -> tuple[FloatArray, FloatArray]:
    """Return the boxes of a face that fills the image, in pixels of the image and inside it."""
    scaled, factor = _scaled(image, scale / PADDING)
    rows, columns = scaled.shape[:2]
    canvas = np.full((round(rows * PADDING), round(columns * PADDING), 3), GREY, np.uint8)
    top, left = (canvas.shape[0] - rows) // 2, (canvas.shape[1] - columns) // 2
    canvas[top : top + rows, left : left + columns] = scaled
    ((boxes, scores),) = look([canvas])
    corner = np.array([left, top] * 2, np.float32)
    boxes = np.clip(boxes - corner, 0, np.array([columns, rows] * 2, np.float32))
    large = (boxes[:, 2:] - boxes[:, :2]).min(axis=1) >= FILLED * min(rows, columns)
    return boxes[large] / factor, scores[large]


def _promising(parts: Sequence[Window], boxes: FloatArray, scores: FloatArray) -> list[Window]:
    """Return the windows in which a small candidate lies, by boxes in pixels of their scale."""
    sides = boxes[:, 2:] - boxes[:, :2]
    small = (scores >= CANDIDATE_SCORE) & (sides.min(1, initial=np.inf) <= CANDIDATE_SIDE)
    x, y = ((boxes[small, :2] + boxes[small, 2:]) / 2).T
    reach = CLOSE_OVERLAP / 4  # a face at the border is whole in the neighbour
    return [
        part
        for part in parts
        if bool(
            (
                (x >= part.x1 - reach)
                & (x < part.x2 + reach)
                & (y >= part.y1 - reach)
                & (y < part.y2 + reach)
            ).any()
        )
    ]


def _look_at(
    scaled: Image, parts: Sequence[Window], look: Look, batch: int
) -> tuple[FloatArray, FloatArray]:
    """Return what the detector finds in windows, in pixels of the scaled image."""
    height, width = scaled.shape[:2]
    boxes, scores = [np.zeros((0, 4), np.float32)], [np.zeros(0, np.float32)]
    for start in range(0, len(parts), batch):
        group = parts[start : start + batch]
        views = [scaled[part.y1 : part.y2, part.x1 : part.x2] for part in group]
        for part, (found, score) in zip(group, look(views), strict=True):
            inner = np.array([part.x1 > 0, part.y1 > 0, part.x2 < width, part.y2 < height])
            far = np.array([part.x2 - part.x1, part.y2 - part.y1])
            room = np.concatenate([found[:, :2], far - found[:, 2:]], axis=1)
            whole = ~((room < EDGE) & inner).any(axis=1)
            corner = np.array([part.x1, part.y1] * 2, np.float32)
            boxes.append(found[whole] + corner)
            scores.append(score[whole])
    return np.concatenate(boxes), np.concatenate(scores)
