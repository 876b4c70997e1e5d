"""The two protocols that join the stages, and the one function that runs both on photos."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from faces.crops import crop_face
from faces.types import Detection, EmotionScores, Face, ImageResult

Image = NDArray[np.uint8]
"""An upright picture, shape (H, W, 3), uint8, RGB."""


class Detector(Protocol):
    """Stage 1: pictures → faces."""

    name: str
    score_threshold: float
    """The score from which on a detection is shown to users; chosen on validation data."""

    def detect(
        self, images: Sequence[Image], min_score: float | None = None
    ) -> list[list[Detection]]:
        """Find the faces of each picture.

        Args:
            images: pictures of any size, each (H, W, 3) uint8 RGB.
            min_score: keep detections from this score on; None means ``score_threshold``.

        Returns:
            One list per picture, in order, highest score first; a picture without faces gives [].
        """
        ...


@dataclass(frozen=True, slots=True)
class Merged:
    """A box that a detector dropped because a better one shows the same face.

    Attributes:
        detection: the box and its score.
        into: which of the reported detections has the better box, counted from 0.
    """

    detection: Detection
    into: int


@runtime_checkable
class ExplainingDetector(Detector, Protocol):
    """A detector that can tell which boxes it merged; others need not."""

    def explain(
        self, image: Image, min_score: float | None = None
    ) -> tuple[list[Detection], list[Merged]]:
        """Return what ``detect`` returns for a picture, and the merged boxes, best first."""
        ...


class EmotionClassifier(Protocol):
    """Stage 2: face crops → emotions."""

    name: str

    def scores(self, crops: Sequence[Image]) -> NDArray[np.float32]:
        """Return probabilities, (N, 7) float32 in the order of ``EMOTIONS``, rows summing to 1.

        Args:
            crops: N square face crops of any size, each (S, S, 3) uint8 RGB. The classifier
                converts them to the size and colour it was trained on. N may be 0.
        """
        ...


def analyze_image(
    source: str, image: Image, detector: Detector, classifier: EmotionClassifier
) -> ImageResult:
    """Run both stages over one picture.

    Args:
        source: what the result calls the picture.
        image: upright picture, (H, W, 3) uint8 RGB.
        detector: stage 1; faces below its ``score_threshold`` are not reported.
        classifier: stage 2.

    Returns:
        The faces, most confident detection first; none is a result too.
    """
    start = time.perf_counter()
    detections = detector.detect([image])[0]
    scores = classifier.scores([crop_face(image, detection.box) for detection in detections])
    found = tuple(
        Face(detection, EmotionScores.from_row(row))
        for detection, row in zip(detections, scores, strict=True)
    )
    height, width = image.shape[:2]
    return ImageResult(source, width, height, time.perf_counter() - start, found)
