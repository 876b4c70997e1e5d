"""The two protocols that join the stages, and the one place where both run."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from faces.crops import CROP_MARGIN, crop_face, pad_to_square
from faces.emotions import EMOTIONS
from faces.types import Box, Detection, EmotionProbabilities, Face, ImageResult

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

    def probabilities(self, crops: Sequence[Image]) -> NDArray[np.float32]:
        """Return probabilities, (N, 7) float32 in the order of ``EMOTIONS``, rows summing to 1.

        Args:
            crops: N square face crops of any size, each (S, S, 3) uint8 RGB. The classifier
                converts them to the size and colour it was trained on. N may be 0.
        """
        ...


@dataclass(frozen=True, slots=True)
class Located:
    """What stage 1 says about one image.

    Attributes:
        width: of the image in pixels.
        height: of the image in pixels.
        detections: highest score first.
        merged: boxes that were dropped because one of the detections has a better one; () unless
            the detector is an ``ExplainingDetector``.
        seconds: wall-clock time of stage 1.
    """

    width: int
    height: int
    detections: tuple[Detection, ...]
    merged: tuple[Merged, ...]
    seconds: float

    def above(self, score: float) -> Located:
        """Return the same with only the detections from ``score`` on, and what they merged."""
        kept = tuple(d for d in self.detections if d.score >= score)
        merged = tuple(one for one in self.merged if one.into < len(kept))
        return replace(self, detections=kept, merged=merged)


class Pipeline:
    """Both stages joined: image → faces → crops → emotions.

    Safe to use from several threads, as detectors and classifiers are.

    Args:
        detector: stage 1.
        classifier: stage 2.
        margin: of the crops, see ``faces.crops.crop_face``.
    """

    def __init__(
        self, detector: Detector, classifier: EmotionClassifier, *, margin: float = CROP_MARGIN
    ) -> None:
        self.detector = detector
        self.classifier = classifier
        self.margin = margin

    def locate(
        self, image: Image, min_score: float | None = None, *, explain: bool = False
    ) -> Located:
        """Run stage 1 on one image.

        Args:
            image: upright, (H, W, 3) uint8 RGB.
            min_score: keep detections from this score on; None means the detector's
                ``score_threshold``.
            explain: also fill ``merged``, where the detector can.
        """
        start = time.perf_counter()
        merged: list[Merged] = []
        if explain and isinstance(self.detector, ExplainingDetector):
            detections, merged = self.detector.explain(image, min_score)
        else:
            detections = self.detector.detect([image], min_score)[0]
        height, width = image.shape[:2]
        seconds = time.perf_counter() - start
        return Located(width, height, tuple(detections), tuple(merged), seconds)

    def classify(self, image: Image, located: Located, source: str = "") -> ImageResult:
        """Run stage 2 on what ``locate`` found in the same image.

        Args:
            image: upright, (H, W, 3) uint8 RGB.
            located: its detections become the faces, in their order.
            source: what the result calls the image.
        """
        start = time.perf_counter()
        boxes = [detection.box for detection in located.detections]
        rows = self.classify_boxes(image, boxes)
        seconds = located.seconds + time.perf_counter() - start
        return _result(source, located, rows, seconds)

    def classify_boxes(self, image: Image, boxes: Sequence[Box]) -> NDArray[np.float32]:
        """Return the probabilities, (N, 7) float32, of the faces in N boxes of an image."""
        return self.classify_crops([crop_face(image, box, self.margin) for box in boxes])

    def classify_crops(self, crops: Sequence[Image]) -> NDArray[np.float32]:
        """Return the probabilities, (N, 7) float32, of N images that are one face each.

        Args:
            crops: each (H, W, 3) uint8 RGB; what is not square is padded (``pad_to_square``).
        """
        if not crops:
            return np.zeros((0, len(EMOTIONS)), np.float32)
        return self.classifier.probabilities([pad_to_square(crop) for crop in crops])

    def analyze(self, image: Image, source: str = "") -> ImageResult:
        """Run both stages over one image.

        Args:
            image: upright, (H, W, 3) uint8 RGB.
            source: what the result calls the image.

        Returns:
            The faces, most confident detection first; none is a result too.
        """
        return self.classify(image, self.locate(image), source)

    def analyze_many(self, images: Sequence[tuple[str, Image]]) -> list[ImageResult]:
        """Run each stage once over several images: all in one batch, all their crops in one.

        Args:
            images: (source, image) of each.

        Returns:
            One result per image, in order. Its ``seconds`` are its share of the batch's time: of
            stage 1 an equal one, of stage 2 by the number of its faces.
        """
        start = time.perf_counter()
        found = self.detector.detect([image for _, image in images])
        detected = time.perf_counter()
        crops = [
            crop_face(image, detection.box, self.margin)
            for (_, image), detections in zip(images, found, strict=True)
            for detection in detections
        ]
        rows = self.classify_crops(crops)
        per_image = (detected - start) / max(1, len(images))
        per_face = (time.perf_counter() - detected) / max(1, len(crops))

        results = []
        taken = 0
        for (source, image), detections in zip(images, found, strict=True):
            height, width = image.shape[:2]
            located = Located(width, height, tuple(detections), (), per_image)
            own = rows[taken : taken + len(detections)]
            taken += len(detections)
            results.append(_result(source, located, own, per_image + per_face * len(detections)))
        return results


def _result(
    source: str, located: Located, rows: NDArray[np.float32], seconds: float
) -> ImageResult:
    faces = tuple(
        Face(detection, EmotionProbabilities.from_row(row))
        for detection, row in zip(located.detections, rows, strict=True)
    )
    return ImageResult(source, located.width, located.height, seconds, faces)
