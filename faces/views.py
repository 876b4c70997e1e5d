"""Several views of one face crop, whose predictions are averaged (test-time augmentation)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

VIEWS: tuple[str, ...] = ("single", "flip", "ten")
"""The crop; with its mirror image; five smaller crops and their mirror images."""

_TEN_SHARE = 44, 48
"""The share of the side that each of the ten views keeps: customarily 44 of FER2013's 48 px."""


class _Classifier(Protocol):
    def probabilities(self, crops: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]: ...


def expand_views(crop: NDArray[np.uint8], views: str) -> list[NDArray[np.uint8]]:
    """Return the views of one crop, always the same ones in the same order.

    Args:
        crop: a square face crop, (S, S, 3) or (S, S), S >= 1.
        views: ``"single"``: the crop itself. ``"flip"``: the crop, its mirror image. ``"ten"``: the
            squares of side T = max(1, round(44/48 * S)) at the top left, top right, bottom left,
            bottom right and the centre (offset (S - T) // 2), then their five mirror images.

    Returns:
        1, 2 or 10 contiguous arrays, which may share memory with ``crop``.

    Raises:
        ValueError: ``views`` is none of ``VIEWS``, or the crop is not square.
    """
    if views not in VIEWS:
        raise ValueError(f"unknown views {views!r}; expected one of {', '.join(VIEWS)}")
    if crop.ndim not in (2, 3) or crop.shape[0] != crop.shape[1] or crop.shape[0] < 1:
        raise ValueError(f"expected a square crop, got {crop.shape}")
    if views == "single":
        chosen = [crop]
    elif views == "flip":
        chosen = [crop, crop[:, ::-1]]
    else:
        side = crop.shape[0]
        kept, whole = _TEN_SHARE
        part = max(1, (2 * kept * side + whole) // (2 * whole))
        last, middle = side - part, (side - part) // 2
        corners = ((0, 0), (0, last), (last, 0), (last, last), (middle, middle))
        five = [crop[y : y + part, x : x + part] for y, x in corners]
        chosen = five + [view[:, ::-1] for view in five]
    return [np.ascontiguousarray(view) for view in chosen]


def probabilities_over_views(
    classifier: _Classifier, crops: Sequence[NDArray[np.uint8]], views: str
) -> NDArray[np.float32]:
    """Return a classifier's probabilities, averaged over the views (``expand_views``) of each crop.

    ``crops`` are N square faces, each (S, S, 3) uint8 RGB, N may be 0; the answer is (N, 7)
    float32, rows summing to 1.
    """
    expanded = [view for crop in crops for view in expand_views(crop, views)]
    scores = np.asarray(classifier.probabilities(expanded), np.float32)
    if not crops:
        return scores
    per_crop = scores.reshape(len(crops), -1, scores.shape[1])
    means: NDArray[np.float32] = per_crop.mean(axis=1, dtype=np.float64).astype(np.float32)
    return means
