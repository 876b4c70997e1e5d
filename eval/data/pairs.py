"""Both stages on annotated images: what every pair of a detector and a classifier answered.

``eval.joint`` defines the metrics and is the command.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from eval.data import options
from eval.data.detections import DetectionSource, as_arrays
from faces.boxes import Matching, match
from faces.coco import AnnotatedImage, Detections, GroundTruth, GroundTruthFace, ImageId
from faces.command import UserError
from faces.crops import crop_face
from faces.emotions import EMOTIONS, canonical_emotion
from faces.pipeline import Detector, EmotionClassifier, Image, Pipeline
from faces.types import Box, Detection

TRUTH = "truth"
"""Stands in for a detector's name where the ground-truth boxes are used."""

MIN_SCORE = 0.05
"""Detections from this score on enter average precision, as in Detectron2's evaluations."""

Probabilities = NDArray[np.float32]
"""Shape (N, 7), in the order of ``EMOTIONS``; rows sum to 1."""


def crop_name(image: ImageId, index: int) -> str:
    """Return the name of the ``index``-th box of an image; ``/`` and the like become ``-``."""
    return f"{re.sub(r'[^0-9A-Za-z.]+', '-', str(image))}_{index}"


class _NoDetector:
    """Stands in for stage 1 in a pipeline whose boxes come from elsewhere."""

    name, score_threshold = "none", 1.0

    def detect(
        self, images: Sequence[Image], min_score: float | None = None
    ) -> list[list[Detection]]:
        return [[] for _ in images]


class LiveClassifier:
    """A classifier that is run on the crops that the pipeline cuts, whatever the detector."""

    def __init__(self, classifier: EmotionClassifier) -> None:
        self.name = classifier.name
        self._pipeline = Pipeline(_NoDetector(), classifier)

    def knows(self, detector: str) -> bool:
        """Tell whether it has probabilities for this detector's boxes (``TRUTH``: true ones)."""
        return True

    def classify(
        self, detector: str, image: AnnotatedImage, pixels: Image, boxes: NDArray[np.float64]
    ) -> Probabilities:
        """Return the probabilities of the faces in all boxes (N, 4) of an image."""
        found = self._pipeline.classify_boxes(pixels, [Box(*box) for box in boxes.tolist()])
        options.check_finite(found, self.name)
        return found


@dataclass(frozen=True)
class SavedProbabilities:
    """Probabilities that another program wrote: detector → name of the crop → probabilities."""

    name: str
    by_detector: Mapping[str, Mapping[str, NDArray[np.float32]]]

    def knows(self, detector: str) -> bool:
        """See ``LiveClassifier``."""
        return detector in self.by_detector

    def classify(
        self, detector: str, image: AnnotatedImage, pixels: Image, boxes: NDArray[np.float64]
    ) -> Probabilities:
        """See ``LiveClassifier``; boxes are looked up by their order in the image."""
        rows = self.by_detector[detector]
        named = [rows[crop_name(image.id, index)] for index in range(len(boxes))]
        return np.array(named, np.float32).reshape(-1, len(EMOTIONS))


ProbabilitySource = LiveClassifier | SavedProbabilities
"""Stage 2 in an evaluation."""


@dataclass
class TrueFaces:
    """The ground-truth faces that are to be found, over all images; lists of one length."""

    image: list[int] = field(default_factory=list)  # number of the image
    label: list[int] = field(default_factory=list)  # index into ``EMOTIONS``
    doubtful: list[bool] = field(default_factory=list)  # whether its label is arguable
    height: list[float] = field(default_factory=list)  # of its box in pixels
    brightness: list[float] = field(default_factory=list)  # mean value of its crop's pixels, 0..255
    in_image: list[int] = field(default_factory=list)  # how many faces its image has

    def add(self, number: int, image: AnnotatedImage, pixels: Image) -> None:
        """Append an image's faces."""
        counted = [face for face in image.faces if not face.ignored]
        for face in counted:
            self.image.append(number)
            self.label.append(EMOTIONS.index(face.category))
            self.doubtful.append(face.doubtful)
            self.height.append(face.box.height)
            self.brightness.append(float(crop_face(pixels, face.box).mean()))
            self.in_image.append(len(counted))


@dataclass
class Answers:
    """What one pair of a detector and a classifier answered, a list entry per image."""

    detector: str  # stage 1's name
    classifier: str  # stage 2's name
    detections: list[Detections] = field(default_factory=list)  # all from ``MIN_SCORE`` on
    probabilities: list[Probabilities] = field(default_factory=list)  # of the detections, (N, 7)
    # of the detections at or above the threshold, in their order
    matchings: list[Matching] = field(default_factory=list)
    # the indices of those among ``detections``
    shown: list[NDArray[np.intp]] = field(default_factory=list)
    # the probabilities of the faces to be found in their true boxes, nan where unknown
    on_true_boxes: list[Probabilities] = field(default_factory=list)


Watcher = Callable[[AnnotatedImage, Image, Answers], None]
"""Called with the first pair's answers after every image, whose entries are then the last."""


def label_faces(truth: GroundTruth, ignore: Collection[str] = ()) -> GroundTruth:
    """Return the ground truth with categories as names in ``EMOTIONS``.

    Faces of the categories in ``ignore``, whatever the case, are ignored.

    Raises:
        UserError: a face that counts has a category that is no emotion.
    """
    left_out = {name.strip().lower() for name in ignore}

    def label(face: GroundTruthFace) -> GroundTruthFace:
        if face.ignored or face.category.strip().lower() in left_out:
            return replace(face, ignored=True)
        try:
            return replace(face, category=canonical_emotion(face.category))
        except ValueError as error:
            raise UserError(
                f"{truth.path}: the category {face.category!r} is no emotion; expected "
                f"{', '.join(EMOTIONS)} (or an alias), or leave it out: "
                f"--ignore-class {face.category!r}"
            ) from error

    images = (replace(i, faces=tuple(label(face) for face in i.faces)) for i in truth.images)
    return replace(truth, images=tuple(images))


def answer_all(
    images: Iterable[tuple[AnnotatedImage, Image]],
    detectors: Sequence[DetectionSource],
    classifiers: Sequence[ProbabilitySource],
    watch: Watcher | None = None,
) -> tuple[list[AnnotatedImage], TrueFaces, list[Answers]]:
    """Run every pair over labelled images, one at a time; each detector sees each image once.

    Pairs without probabilities are left out.

    Returns:
        The images that came, their faces, and each pair's answers, detectors in the outer order.
    """
    seen: list[AnnotatedImage] = []
    faces = TrueFaces()
    pairs = {
        (d.name, c.name): Answers(d.name, c.name)
        for d in detectors
        for c in classifiers
        if c.knows(d.name)
    }
    for image, pixels in images:
        faces.add(len(seen), image, pixels)
        seen.append(image)
        on_true_boxes = {c.name: _on_true_boxes(c, image, pixels) for c in classifiers}
        for detector in detectors:
            found = detector.find(image, pixels)
            shown = np.flatnonzero(found.scores >= detector.threshold)
            matching = match(found.boxes[shown], found.scores[shown], image.boxes, image.ignored)
            for classifier in classifiers:
                if answers := pairs.get((detector.name, classifier.name)):
                    said = classifier.classify(detector.name, image, pixels, found.boxes)
                    answers.detections.append(found)
                    answers.probabilities.append(said)
                    answers.matchings.append(matching)
                    answers.shown.append(shown)
                    answers.on_true_boxes.append(on_true_boxes[classifier.name])
        if watch is not None and pairs:
            watch(image, pixels, next(iter(pairs.values())))
    return seen, faces, list(pairs.values())


def _on_true_boxes(
    classifier: ProbabilitySource, image: AnnotatedImage, pixels: Image
) -> Probabilities:
    if not classifier.knows(TRUTH):
        return np.full((int((~image.ignored).sum()), len(EMOTIONS)), np.nan, np.float32)
    return classifier.classify(TRUTH, image, pixels, image.boxes)[~image.ignored]


@dataclass(frozen=True)
class MatchedFace:
    """A ground-truth face that a detector found."""

    number: int  # of the image, counted from 0
    pixels: Image  # of the image
    box: Box  # the detector's
    face: GroundTruthFace  # the annotation

    @property
    def label(self) -> int:
        """Its emotion's index into ``EMOTIONS``."""
        return EMOTIONS.index(self.face.category)


def matched_faces(
    images: Iterable[tuple[AnnotatedImage, Image]], detector: Detector
) -> Iterator[MatchedFace]:
    """Yield the labelled faces that a detector finds, with its boxes."""
    for number, (image, pixels) in enumerate(images):
        found = as_arrays(detector.detect([pixels])[0])
        matching = match(found.boxes, found.scores, image.boxes, image.ignored)
        for corners, index in zip(found.boxes.tolist(), matching.face, strict=True):
            if index >= 0:
                yield MatchedFace(number, pixels, Box(*corners), image.faces[index])
