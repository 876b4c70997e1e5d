"""The two protocols that join the stages, and the one place where both run."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from faces.crops import CROP_MARGIN, crop_face, pad_to_square
from faces.draw import shrink
from faces.emotions import EMOTIONS
from faces.images import ImageError, ImageSource, read_image, source_name
from faces.types import Box, Detection, EmotionProbabilities, Face, ImageResult

Image = NDArray[np.uint8]
"""An upright image, shape (H, W, 3), uint8, RGB."""


class Detector(Protocol):
    """Stage 1: images → faces."""

    name: str
    score_threshold: float
    """The score from which on a detection is shown to users; chosen on validation data."""

    def detect(
        self, images: Sequence[Image], min_score: float | None = None
    ) -> list[list[Detection]]:
        """Find the faces of each image.

        Args:
            images: of any size, each (H, W, 3) uint8 RGB.
            min_score: keep detections from this score on; None means ``score_threshold``.

        Returns:
            One list per image, in order, highest score first; an image without faces gives [].
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
        """Return what ``detect`` returns for an image, and the merged boxes, best first."""
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

    def classify_crops(self, crops: Iterable[ImageSource]) -> NDArray[np.float32]:
        """Return the probabilities, (N, 7) float32, of N images that are one face each.

        Args:
            crops: of any kind that ``read_image`` reads; what is not square is padded
                (``faces.crops.pad_to_square``). N may be 0.

        Raises:
            ImageError: one of them cannot be read.
        """
        squares = [pad_to_square(read_image(crop)) for crop in crops]
        if not squares:
            return np.zeros((0, len(EMOTIONS)), np.float32)
        return self.classifier.probabilities(squares)

    def analyze(self, source: ImageSource, name: str | None = None) -> ImageResult:
        """Run both stages over one image.

        Args:
            source: a path, the bytes of a file, an open file, an array (H, W, 3) uint8 RGB, or a
                Pillow image; see ``faces.images.read_image``.
            name: what the result calls the image; by default its path or file name, or "image".

        Returns:
            The faces, most confident detection first; none is a result too. It keeps a small
            preview of an image that has no path, for notebooks.

        Raises:
            ImageError: the image cannot be read.
        """
        name = name or source_name(source)
        image = read_image(source, name)
        result = self.classify(image, self.locate(image), name)
        if isinstance(source, str | os.PathLike):
            return result
        return replace(result, preview=shrink(image))

    def analyze_many(
        self, sources: Iterable[ImageSource], batch_size: int = 8
    ) -> Iterator[ImageResult | ImageError]:
        """Run both stages over many images, several at a time.

        Each stage runs once over a batch: all its images in one call, all their crops in one. One
        batch of images is in memory at a time, whatever the length of ``sources``.

        Args:
            sources: as ``analyze`` takes them. They are read as they are needed.
            batch_size: images in a batch.

        Yields:
            One result per image, in order; an ``ImageError`` in the place of an image that cannot
            be read. A result's ``seconds`` are its share of the batch's time: of stage 1 an equal
            one, of stage 2 by the number of its faces.

        Raises:
            ValueError: ``batch_size`` is below 1.
        """
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        return self._analyze_batches(iter(sources), batch_size)

    def _analyze_batches(
        self, sources: Iterator[ImageSource], batch_size: int
    ) -> Iterator[ImageResult | ImageError]:
        while batch := list(itertools.islice(sources, batch_size)):
            # read the batch; an error stands in its image's place
            entries: list[tuple[str, Image] | ImageError] = []
            for source in batch:
                name = source_name(source)
                try:
                    entries.append((name, read_image(source, name)))
                except ImageError as error:
                    entries.append(error)
            results = iter(self._analyze_batch([e for e in entries if isinstance(e, tuple)]))
            for entry in entries:
                yield next(results) if isinstance(entry, tuple) else entry

    def _analyze_batch(self, images: Sequence[tuple[str, Image]]) -> list[ImageResult]:
        if not images:
            return []
        # both stages, each in one call
        start = time.perf_counter()
        found = self.detector.detect([image for _, image in images])
        detected = time.perf_counter()
        crops = [
            crop_face(image, detection.box, self.margin)
            for (_, image), detections in zip(images, found, strict=True)
            for detection in detections
        ]
        rows = self.classify_crops(crops)
        per_image = (detected - start) / len(images)
        per_face = (time.perf_counter() - detected) / max(1, len(crops))

        # each image's part of the rows and of the time
        results = []
        taken = 0
        for (name, image), detections in zip(images, found, strict=True):
            height, width = image.shape[:2]
            located = Located(width, height, tuple(detections), (), per_image)
            own = rows[taken : taken + len(detections)]
            taken += len(detections)
            results.append(_result(name, located, own, per_image + per_face * len(detections)))
        return results


def _result(
    source: str, located: Located, rows: NDArray[np.float32], seconds: float
) -> ImageResult:
    faces = tuple(
        Face(detection, EmotionProbabilities.from_row(row))
        for detection, row in zip(located.detections, rows, strict=True)
    )
    return ImageResult(source, located.width, located.height, seconds, faces)
