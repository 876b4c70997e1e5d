"""What flows between the stages: frozen, validated value types.

Coordinates are pixels of the upright image, x to the right and y down, with (0, 0) the top left
corner of the top left pixel, so that an image of width W spans x from 0 to W.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from faces.emotions import EMOTIONS

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

DEFAULT_THRESHOLD = 0.3
"""An emotion counts as shown from this probability on, where the user names no other threshold."""

UNSURE_BELOW = 0.4
"""A face is unsure if its most likely emotion has less than this probability."""


@dataclass(frozen=True, slots=True)
class Box:
    """An axis-aligned rectangle (x1, y1, x2, y2) in pixels, with x1 < x2 and y1 < y2.

    Coordinates that are not finite, or enclose no area, are a ``ValueError``.
    """

    x1: float
    y1: float
    x2: float
    y2: float

    def __post_init__(self) -> None:
        if not all(math.isfinite(v) for v in self.as_tuple()):
            raise ValueError(f"box coordinates must be finite, got {self.as_tuple()}")
        if self.x2 <= self.x1 or self.y2 <= self.y1:
            raise ValueError(f"box must have x1 < x2 and y1 < y2, got {self.as_tuple()}")

    @property
    def width(self) -> float:
        """Width in pixels."""
        return self.x2 - self.x1

    @property
    def height(self) -> float:
        """Height in pixels."""
        return self.y2 - self.y1

    @property
    def area(self) -> float:
        """Area in square pixels."""
        return self.width * self.height

    def as_tuple(self) -> tuple[float, float, float, float]:
        """Return (x1, y1, x2, y2)."""
        return (self.x1, self.y1, self.x2, self.y2)

    def intersection(self, other: Box) -> float:
        """Return the area in square pixels that both boxes cover."""
        width = min(self.x2, other.x2) - max(self.x1, other.x1)
        height = min(self.y2, other.y2) - max(self.y1, other.y1)
        return max(width, 0.0) * max(height, 0.0)

    def iou(self, other: Box) -> float:
        """Return intersection over union, in [0, 1]."""
        inter = self.intersection(other)
        return inter / (self.area + other.area - inter)


@dataclass(frozen=True, slots=True)
class Detection:
    """One face as stage 1 reports it: a box and a confidence in [0, 1]."""

    box: Box
    score: float

    def __post_init__(self) -> None:
        if not 0.0 <= self.score <= 1.0:
            raise ValueError(f"detection score must lie in [0, 1], got {self.score}")


@dataclass(frozen=True, slots=True)
class EmotionProbabilities:
    """The seven probabilities of one face, in the order of ``EMOTIONS``, summing to 1 (±1e-3).

    Other than seven finite values in [0, 1], or another sum, are a ``ValueError``.
    """

    probabilities: tuple[float, ...]

    def __post_init__(self) -> None:
        values = self.probabilities
        if len(values) != len(EMOTIONS):
            raise ValueError(f"expected {len(EMOTIONS)} probabilities, got {len(values)}")
        if not all(math.isfinite(p) and 0.0 <= p <= 1.0 for p in values):
            raise ValueError(f"probabilities must lie in [0, 1], got {values}")
        if abs(sum(values) - 1.0) > 1e-3:
            raise ValueError(f"probabilities must sum to 1, got {sum(values)}")

    @classmethod
    def from_row(cls, row: Sequence[float]) -> EmotionProbabilities:
        """Build from one row, shape (7,), of a classifier's output.

        Sums and means of float32 may overshoot 0 and 1 by their rounding: up to 1e-6 is cut off.
        """
        values = (float(p) for p in row)
        return cls(tuple(min(max(p, 0.0), 1.0) if -1e-6 < p < 1 + 1e-6 else p for p in values))

    @property
    def top(self) -> str:
        """The most likely emotion; of equals, the first in ``EMOTIONS``."""
        return EMOTIONS[max(range(len(EMOTIONS)), key=lambda i: self.probabilities[i])]

    def __getitem__(self, emotion: str) -> float:
        """Return the probability of an emotion (``KeyError`` if there is none of that name)."""
        if emotion not in EMOTIONS:
            raise KeyError(f"{emotion!r}: the emotions are {', '.join(EMOTIONS)}")
        return self.probabilities[EMOTIONS.index(emotion)]

    def as_dict(self) -> dict[str, float]:
        """Return emotion → probability, in the order of ``EMOTIONS``."""
        return dict(zip(EMOTIONS, self.probabilities, strict=True))

    def labels(self, threshold: float | Mapping[str, float] = DEFAULT_THRESHOLD) -> list[str]:
        """Return every emotion at or above its threshold, most likely first.

        This is the several-emotions rule of the whole project: a face may show several emotions, or
        none that is clear enough.

        Args:
            threshold: one probability for all emotions, or one per emotion (those not named keep
                ``DEFAULT_THRESHOLD``).
        """
        limits = threshold if isinstance(threshold, Mapping) else dict.fromkeys(EMOTIONS, threshold)
        shown = [
            (probability, emotion)
            for emotion, probability in self.as_dict().items()
            if probability >= limits.get(emotion, DEFAULT_THRESHOLD)
        ]
        return [emotion for _, emotion in sorted(shown, key=lambda item: -item[0])]

    def unsure(self, threshold: float | Mapping[str, float] = DEFAULT_THRESHOLD) -> bool:
        """Tell whether the answer should be read with a question mark.

        That is where the most likely emotion stays below ``UNSURE_BELOW``, or no emotion reaches
        its threshold. The labels of an unsure face are the best guess there is.
        """
        return max(self.probabilities) < UNSURE_BELOW or not self.labels(threshold)


@dataclass(frozen=True, slots=True)
class Face:
    """One face of an image: where it is and what it shows."""

    detection: Detection
    emotions: EmotionProbabilities

    @property
    def box(self) -> Box:
        """Where it is, in pixels of the upright image."""
        return self.detection.box

    @property
    def score(self) -> float:
        """The detector's confidence, in [0, 1]."""
        return self.detection.score

    def labels(self, threshold: float | Mapping[str, float] = DEFAULT_THRESHOLD) -> list[str]:
        """Return its emotions, see ``EmotionProbabilities.labels``."""
        return self.emotions.labels(threshold)

    def unsure(self, threshold: float | Mapping[str, float] = DEFAULT_THRESHOLD) -> bool:
        """Tell whether its labels are a guess, see ``EmotionProbabilities.unsure``."""
        return self.emotions.unsure(threshold)


@dataclass(frozen=True, slots=True)
class ImageResult:
    """Everything found in one image; a notebook shows it as the annotated image.

    Attributes:
        source: where the image came from, as the user named it.
        width: width of the upright image in pixels.
        height: height of the upright image in pixels.
        seconds: wall-clock time of both stages for this image.
        faces: most confident detection first.
        smallest_face: the shorter side, in pixels, of the smallest faces that could be seen; None
            where the detector does not tell.
        turned: by how many degrees the image was turned clockwise to stand upright: 0, 90, 180,
            270. Boxes are of the image as it is stored.
        preview: the image, (h, w, 3) uint8 RGB, not larger than ``faces.draw.PREVIEW_SIDE``; None
            where ``source`` is a path that can be read again. Not compared, not written to files.
    """

    source: str
    width: int
    height: int
    seconds: float
    faces: tuple[Face, ...]
    smallest_face: float | None = None
    turned: int = 0
    preview: NDArray[np.uint8] | None = field(default=None, compare=False, repr=False)

    @property
    def numbers(self) -> tuple[int, ...]:
        """The number of each face, in the order of ``faces``: from 1, from left to right.

        A face stands where the centre of its box does; of two at the same x, the upper comes first.
        """
        boxes = [face.box for face in self.faces]
        order = sorted(
            range(len(boxes)),
            key=lambda i: (boxes[i].x1 + boxes[i].x2, boxes[i].y1 + boxes[i].y2),
        )
        ranks = {index: rank for rank, index in enumerate(order, start=1)}
        return tuple(ranks[index] for index in range(len(boxes)))

    def _repr_png_(self) -> bytes | None:
        """Return the annotated image for a notebook; None where the image is not at hand."""
        from faces.draw import preview_png  # here, as drawing needs these types

        return preview_png(self)
