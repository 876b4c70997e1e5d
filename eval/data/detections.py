"""Stage 1 in an evaluation: detectors that are run and timed, or detections from files."""

from __future__ import annotations

import math
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

from eval.data import options
from faces.coco import AnnotatedImage, Detections, GroundTruth, ImageId, load_results
from faces.command import UserError
from faces.pipeline import Detector, Image
from faces.scope import Scope
from faces.types import Detection

RESULTS_THRESHOLD = 0.5
"""Score from which on detections of ``--results`` count as shown, if the user names no other."""


class TimedDetector:
    """A detector that is run on one image at a time, and timed.

    The first call is made twice (warm-up) and timed the second time. Detections below ``min_score``
    are dropped.
    """

    def __init__(self, detector: Detector, min_score: float) -> None:
        self.name, self.threshold = detector.name, detector.score_threshold
        self.precision = options.precision_of(detector)
        self._detector, self._min_score = detector, min_score
        self._seconds: list[float] = []

    @property
    def ms_per_image(self) -> float:
        """Median wall-clock time of a call in milliseconds; nan before the first."""
        return 1000 * median(self._seconds) if self._seconds else math.nan

    def find(self, image: AnnotatedImage, pixels: Image) -> Detections:
        """Run the detector."""
        if not self._seconds:
            self._detector.detect([pixels], min_score=self._min_score)
        start = time.perf_counter()
        found = self._detector.detect([pixels], min_score=self._min_score)[0]
        self._seconds.append(time.perf_counter() - start)
        return as_arrays(found)


@dataclass(frozen=True)
class SavedDetections:
    """Detections that are there already, such as those of a COCO result file."""

    name: str  # of the detector
    threshold: float  # score from which on they are shown to users
    by_image: Mapping[ImageId, Detections]  # image → all its detections, below the threshold too
    ms_per_image: float = math.nan  # nan where it was not measured
    # the number format that the detector computes in, where that is known
    precision: str | None = None

    def find(self, image: AnnotatedImage, pixels: Image) -> Detections:
        """Return the image's detections."""
        return self.by_image[image.id]


DetectionSource = TimedDetector | SavedDetections
"""Stage 1 in an evaluation."""


def as_arrays(detections: Sequence[Detection]) -> Detections:
    """Return a detector's answer as arrays."""
    return Detections.of([(found.box.as_tuple(), found.score) for found in detections])


def coco_results(image: ImageId, found: Detections) -> list[dict[str, Any]]:
    """Return an image's detections as a COCO result file has them."""
    rows = zip(found.boxes.tolist(), found.scores.tolist(), strict=True)
    return [
        {
            "image_id": image,
            "category_id": 1,
            "bbox": [x1, y1, x2 - x1, y2 - y1],
            "score": score,
        }
        for (x1, y1, x2, y2), score in rows
    ]


def with_min_size(truth: GroundTruth, pixels: float) -> GroundTruth:
    """Return the ground truth with every face ignored whose shorter side is below ``pixels``."""

    def mark(image: AnnotatedImage) -> AnnotatedImage:
        faces = tuple(
            replace(f, ignored=f.ignored or min(f.box.width, f.box.height) < pixels)
            for f in image.faces
        )
        return replace(image, faces=faces)

    return replace(truth, images=tuple(mark(image) for image in truth.images))


def add_results_options(parser: ArgumentParser) -> None:
    """Add the options for detections of other packages; ``load_saved`` reads them."""
    text = "detections of other packages as COCO result files, measured beside the detectors"
    options.add_several(parser, "--results", "name=FILE.json", text)
    text = f"score from which on those count as shown (default {RESULTS_THRESHOLD})"
    options.add_several(parser, "--results-threshold", "T|name=T", text)


def load_saved(arguments: Namespace, images: Collection[AnnotatedImage]) -> list[SavedDetections]:
    """Read the detections of ``--results name=FILE`` with ``--results-threshold T | name=T``."""
    files: dict[str, Path] = {}
    for value in arguments.results:
        name, separator, file = value.partition("=")
        if not separator or not name or not file:
            raise UserError(f"--results {value}: expected name=FILE, as in mtcnn=mtcnn.json")
        if name in files:
            raise UserError(f"--results {value}: the name {name} is given twice")
        files[name] = Path(file)

    thresholds = dict.fromkeys(files, RESULTS_THRESHOLD)
    values = [value.rpartition("=") for value in arguments.results_threshold]
    for name, _, number in sorted(values, key=lambda value: value[0] != ""):  # the general first
        try:
            threshold = float(number)
        except ValueError:
            threshold = math.nan
        if not math.isfinite(threshold) or (name and name not in files):
            raise UserError(
                f"--results-threshold {f'{name}={number}' if name else number}: expected a score, "
                "or name=score with the name of a --results"
            )
        thresholds |= {name: threshold} if name else dict.fromkeys(files, threshold)
    return [
        SavedDetections(name, thresholds[name], load_results(file, images))
        for name, file in files.items()
    ]


def load_sources(
    arguments: Namespace, truth: GroundTruth, min_score: float
) -> list[DetectionSource]:
    """Load the detectors of ``--detector``, then the files of ``--results``.

    Detectors give detections from ``min_score`` on, or from their threshold if that is lower.

    Raises:
        UserError: one cannot be loaded, or two have one name.
    """
    models = options.load_detectors(
        arguments.detector, arguments.device, scope=Scope(arguments.detail, arguments.min_face)
    )
    sources: list[DetectionSource] = [
        TimedDetector(model, min(min_score, model.score_threshold)) for model in models
    ]
    for saved in load_saved(arguments, truth.images):
        if any(saved.name == source.name for source in sources):
            raise UserError(f"--results {saved.name}=…: a --detector has that name already")
        sources.append(saved)
    return sources
