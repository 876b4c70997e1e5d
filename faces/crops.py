"""The crop rule: a face's box → the square image that stage 2 looks at. There is no other one.

The square has whole-pixel corners and the image's own resolution; each classifier resizes it to
its input.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from faces.types import Box

CROP_MARGIN = 0.0
"""Margin on each side of the square, as a fraction of the box's longer side.

FER2013's own framing is tight, forehead to chin, which is what face detectors box.
"""

_MAX_SIDE = 2.0
"""The square's side never exceeds this many times the image's longer side."""


def crop_face(image: NDArray[np.uint8], box: Box, margin: float = CROP_MARGIN) -> NDArray[np.uint8]:
    """Cut the square around a box out of an image, without resizing.

    With (cx, cy) the box's centre and L its longer side, the square has the side S = max(1, round(L
    * (1 + 2 * margin))) and its top left pixel at (round(cx - S / 2), round(cy - S / 2)), where
    halves are rounded up. So a box moved by whole pixels gives a square moved by as many, and a
    square box with whole-pixel corners and margin 0 gives its own pixels. Where the square leaves
    the image, the image's nearest pixel is repeated. S is at most twice the image's longer side,
    which bounds memory.

    Args:
        image: the upright image, (H, W, 3) uint8 RGB, not empty.
        box: any box, also one partly or wholly outside the image or smaller than a pixel.
        margin: on each side as a fraction of L, finite and above -0.5.

    Returns:
        The crop, (S, S, 3) uint8 RGB, contiguous, sharing no memory with ``image``.

    Raises:
        ValueError: ``image`` or ``margin`` is not as above.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
        raise ValueError(
            f"expected a non-empty (H, W, 3) uint8 image, got {image.shape} {image.dtype}"
        )
    if not -0.5 < margin < math.inf:
        raise ValueError(f"margin must be finite and above -0.5, got {margin}")
    height, width = image.shape[:2]
    longer = max(box.width, box.height) * (1 + 2 * margin)
    side = max(1, _round(min(longer, _MAX_SIDE * max(height, width))))
    columns = _pixels((box.x1 / 2 + box.x2 / 2) - side / 2, side, width)
    rows = _pixels((box.y1 / 2 + box.y2 / 2) - side / 2, side, height)
    return np.ascontiguousarray(image[rows[:, None], columns])


def pad_to_square(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Make a face crop of any shape square: centred, its edge pixels repeated on the shorter sides.

    This is the crop rule for the box that is the whole image: (H, W, 3) uint8 RGB becomes (S, S, 3)
    with S = max(H, W), and a square comes back unchanged; no memory is shared. Errors are
    ``crop_face``'s.
    """
    height, width = image.shape[:2]
    return crop_face(image, Box(0.0, 0.0, max(width, 1), max(height, 1)), margin=0.0)


def _round(value: float) -> int:
    return math.floor(value + 0.5)


def _pixels(start: float, count: int, length: int) -> NDArray[np.intp]:
    """Return ``count`` neighbouring pixel indices from round(start) on, clipped to [0, length)."""
    first = _round(min(max(start, -2.0 * count), float(length)))
    return np.clip(np.arange(first, first + count, dtype=np.intp), 0, length - 1)
