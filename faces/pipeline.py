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

from faces.boxes import turned_back
from faces.crops import CROP_MARGIN, crop_face, pad_to_square
from faces.draw import shrink
from faces.emotions import EMOTIONS
from faces.images import ImageError, ImageSource, read_image, source_name
from faces.scope import Scope
from faces.types import Box, Detection, EmotionProbabilities, Face, ImageResult

Image = NDArray[np.uint8]
"""An upright image, shape (H, W, 3), uint8, RGB."""


TURNS = (0, 90, 180, 270)
"""By how many degrees an image may have to be turned clockwise to stand upright."""


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


@dataclass(frozen=True, slots=True)
class Merged:
    """A box that a detector dropped because a better one shows the same face.

    ``into`` is which of the reported detections has the better box, counted from 0.
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


@runtime_checkable
class ScalingDetector(Detector, Protocol):
    """A detector that users can tell how closely to look; others need not."""

    def with_scope(self, scope: Scope) -> Detector:
        """Return the same detector, its weights shared, that looks as closely as ``scope`` says."""

    def smallest_face(self, width: int, height: int) -> float:
        """Return the shorter side of the smallest faces it sees in an image, in its pixels."""


class WholeImage:
    """Stands for stage 1 where each image is one face already: its box is the whole image.

    ``Pipeline`` then gives the image itself to stage 2, without a margin around it.
    """

    name = "whole image"
    score_threshold = 0.5

    def detect(
        self, images: Sequence[Image], min_score: float | None = None
    ) -> list[list[Detection]]:
        """Return one detection per image, of score 1, whose box is the image."""
        return [[Detection(Box(0, 0, image.shape[1], image.shape[0]), 1.0)] for image in images]


class EmotionClassifier(Protocol):
    """Stage 2: face crops → emotions."""

    name: str

    def probabilities(self, crops: Sequence[Image]) -> NDArray[np.float32]:
        """Return probabilities, (N, 7) float32 in the order of ``EMOTIONS``, rows summing to 1.

        ``crops`` are N square faces of any size, each (S, S, 3) uint8 RGB, which the classifier
        converts to the size and colour it was trained on. N may be 0.
        """


@dataclass(frozen=True, slots=True)
class Located:
    """What stage 1 says about one image."""

    width: int  # of the image in pixels
    height: int
    detections: tuple[Detection, ...]  # highest score first
    merged: tuple[Merged, ...]  # dropped as worse boxes of these; () unless the detector explains
    seconds: float  # wall-clock time of stage 1
    smallest_face: float | None = None  # see ``ImageResult``
    turned: int = 0  # see ``ImageResult``

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
        rotations: look at each image in four turns and keep the one in which stage 1 is surest.
            For images that lie on their side without EXIF data that says so; four times the work.
    """

    def __init__(
        self,
        detector: Detector,
        classifier: EmotionClassifier,
        *,
        margin: float = CROP_MARGIN,
        rotations: bool = False,
    ) -> None:
        self.detector = detector
        self.classifier = classifier
        self.margin = margin
        self.rotations = rotations

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
        turned, detections = 0, None
        if self.rotations:
            turned, detections = self._surest_turn(image, min_score)
        merged: list[Merged] = []
        if explain and isinstance(self.detector, ExplainingDetector):
            detections, merged = self.detector.explain(_turn(image, turned), min_score)
        elif detections is None:
            detections = self.detector.detect([image], min_score)[0]
        if turned:
            detections = [_turned_back(d, turned, image) for d in detections]
            merged = [Merged(_turned_back(m.detection, turned, image), m.into) for m in merged]
        height, width = image.shape[:2]
        seconds = time.perf_counter() - start
        smallest = self._smallest_face(image)
        return Located(width, height, tuple(detections), tuple(merged), seconds, smallest, turned)

    def _surest_turn(self, image: Image, min_score: float | None) -> tuple[int, list[Detection]]:
        """Return the turn in which most scores add up, of equals the smallest; its detections.

        Detectors find a face on its side nearly as surely, but its box then is wider than high, as
        no upright face is. Such boxes do not count.
        """
        threshold = self.detector.score_threshold
        best, kept, found_best = 0, -1.0, list[Detection]()
        for turned in TURNS:
            found = self.detector.detect([_turn(image, turned)], min_score)[0]
            total = sum(
                d.score for d in found if d.score >= threshold and d.box.height >= d.box.width
            )
            if total > kept + 1e-6:
                best, kept, found_best = turned, total, found
        return best, found_best

    def _smallest_face(self, image: Image) -> float | None:
        if not isinstance(self.detector, ScalingDetector):
            return None
        return self.detector.smallest_face(image.shape[1], image.shape[0])

    def classify(self, image: Image, located: Located, source: str = "") -> ImageResult:
        """Run stage 2 on what ``locate`` found in the same image, ``source`` in the result.

        The detections become the faces, in their order.
        """
        start = time.perf_counter()
        boxes = [detection.box for detection in located.detections]
        rows = self.classify_boxes(image, boxes, located.turned)
        seconds = located.seconds + time.perf_counter() - start
        return _result(source, located, rows, seconds)

    def classify_boxes(
        self, image: Image, boxes: Sequence[Box], turned: int = 0
    ) -> NDArray[np.float32]:
        """Return the probabilities, (N, 7) float32, of the faces in N boxes of an image.

        The image is (H, W, 3) uint8 RGB, and boxes are in its pixels. Crops are turned clockwise by
        ``turned`` degrees, to stand upright.
        """
        crops = (self._crop(image, box) for box in boxes)
        return self.classify_crops([_turn(crop, turned) for crop in crops])

    def _crop(self, image: Image, box: Box) -> Image:
        return (
            image if isinstance(self.detector, WholeImage) else crop_face(image, box, self.margin)
        )

    def classify_crops(self, crops: Iterable[ImageSource]) -> NDArray[np.float32]:
        """Return the probabilities, (N, 7) float32, of N images that are one face each; N may be 0.

        They are of any kind that ``read_image`` reads, which raises an ``ImageError`` where one
        cannot be read; what is not square is padded (``faces.crops.pad_to_square``).
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
        if self.rotations:
            return [self.classify(image, self.locate(image), name) for name, image in images]
        # both stages, each in one call
        start = time.perf_counter()
        found = self.detector.detect([image for _, image in images])
        detected = time.perf_counter()
        crops = [
            self._crop(image, detection.box)
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
            smallest = self._smallest_face(image)
            located = Located(width, height, tuple(detections), (), per_image, smallest)
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
    return ImageResult(
        source, located.width, located.height, seconds, faces, located.smallest_face, located.turned
    )


def _turn(image: Image, turned: int) -> Image:
    """Return an image turned clockwise by 0, 90, 180 or 270 degrees."""
    return np.ascontiguousarray(np.rot90(image, -turned // 90)) if turned else image


def _turned_back(detection: Detection, turned: int, image: Image) -> Detection:
    height, width = image.shape[:2]
    return replace(detection, box=turned_back(detection.box, turned, width, height))
