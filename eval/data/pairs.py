"""Both stages on labelled photos: what every detector-classifier pair found and said.

``eval.joint`` defines the metrics and is the command.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from eval.data import options
from eval.data.annotated import TimedDetector, scored
from faces.boxes import Matching, match
from faces.coco import AnnotatedImage, Detections, GroundTruth, GroundTruthFace, ImageId
from faces.command import UserError
from faces.crops import crop_face
from faces.emotions import EMOTIONS, canonical_emotion
from faces.pipeline import Detector, EmotionClassifier, Image
from faces.types import Box

TRUTH = "truth"
"""The name, where detectors have theirs, of the faces as their true boxes show them."""

LEAST_SCORE = 0.05
"""Detections from this score on enter average precision, as in Detectron2's evaluations."""

Rows = NDArray[np.float32]
"""Probabilities, shape (N, 7)."""


def crop_name(image: ImageId, index: int) -> str:
    """Return the name of the ``index``-th box of a picture; ``/`` and the like become ``-``."""
    return f"{re.sub(r'[^0-9A-Za-z.]+', '-', str(image))}_{index}"


class Finder(Protocol):
    """Stage 1 in an evaluation: a detector, or detections made elsewhere."""

    @property
    def name(self) -> str:
        """What reports call it."""
        ...

    @property
    def threshold(self) -> float:
        """The score from which on a detection counts as shown."""
        ...

    @property
    def ms_per_image(self) -> float:
        """Mean time of a picture in milliseconds; nan where it was not measured."""
        ...

    def find(self, scene: AnnotatedImage, image: Image) -> Detections:
        """Return the detections in a picture from ``LEAST_SCORE`` on."""
        ...


class Judge(Protocol):
    """Stage 2 in an evaluation: a classifier, or scores made elsewhere."""

    @property
    def name(self) -> str:
        """What reports call it."""
        ...

    def knows(self, finder: str) -> bool:
        """Tell whether there are scores for the boxes of this finder (``TRUTH``: the true ones)."""
        ...

    def judge(
        self, finder: str, scene: AnnotatedImage, image: Image, boxes: NDArray[np.float64]
    ) -> Rows:
        """Return the probabilities of the faces in all boxes (N, 4) of a picture, (N, 7)."""
        ...


class LiveFinder:
    """A detector that is run, and timed."""

    def __init__(self, detector: Detector) -> None:
        self.name, self.threshold = detector.name, detector.score_threshold
        self.dtype = getattr(detector, "dtype", None)
        self._run = TimedDetector(detector, min(LEAST_SCORE, detector.score_threshold))

    @property
    def ms_per_image(self) -> float:
        """Mean time of a call in milliseconds."""
        return self._run.ms_per_image

    def find(self, scene: AnnotatedImage, image: Image) -> Detections:
        """Run the detector."""
        return scored(self._run(image))


@dataclass(frozen=True)
class FiledFinder:
    """Detections of a COCO result file (``faces.coco.load_results``)."""

    name: str
    threshold: float
    by_image: Mapping[ImageId, Detections]
    ms_per_image: float = float("nan")

    def find(self, scene: AnnotatedImage, image: Image) -> Detections:
        """Look the picture up."""
        return self.by_image[scene.id]


class LiveJudge:
    """A classifier that is run on crops."""

    def __init__(self, classifier: EmotionClassifier) -> None:
        self.name, self._classifier = classifier.name, classifier

    def knows(self, finder: str) -> bool:
        """Tell that it can look at any box."""
        return True

    def judge(
        self, finder: str, scene: AnnotatedImage, image: Image, boxes: NDArray[np.float64]
    ) -> Rows:
        """Cut the crops and classify them."""
        if not len(boxes):
            return np.zeros((0, len(EMOTIONS)), np.float32)
        crops = [crop_face(image, Box(*box)) for box in boxes.tolist()]
        scores = self._classifier.probabilities(crops)
        options.top_emotions(self._classifier, scores)
        return scores


@dataclass(frozen=True)
class FiledJudge:
    """Scores that another program wrote: finder → name of the crop → probabilities."""

    name: str
    by_finder: Mapping[str, Mapping[str, NDArray[np.float32]]]

    def knows(self, finder: str) -> bool:
        """Tell whether there is a file for this finder."""
        return finder in self.by_finder

    def judge(
        self, finder: str, scene: AnnotatedImage, image: Image, boxes: NDArray[np.float64]
    ) -> Rows:
        """Look the boxes up by their order in the picture."""
        rows = self.by_finder[finder]
        named = [rows[crop_name(scene.id, index)] for index in range(len(boxes))]
        return np.array(named, np.float32).reshape(-1, len(EMOTIONS))


@dataclass
class Faces:
    """The faces that are to be found, over all pictures; lists of one length.

    Attributes:
        picture: number of the picture.
        label: index into ``EMOTIONS``.
        doubtful: whether its label is arguable.
        height: of its box in pixels.
        brightness: mean value of its crop's pixels, 0..255.
        together: how many faces its picture has.
    """

    picture: list[int] = field(default_factory=list)
    label: list[int] = field(default_factory=list)
    doubtful: list[bool] = field(default_factory=list)
    height: list[float] = field(default_factory=list)
    brightness: list[float] = field(default_factory=list)
    together: list[int] = field(default_factory=list)

    def add(self, number: int, scene: AnnotatedImage, image: Image) -> None:
        """Append a picture's faces."""
        counted = [face for face in scene.faces if not face.ignored]
        for face in counted:
            self.picture.append(number)
            self.label.append(EMOTIONS.index(face.category))
            self.doubtful.append(face.doubtful)
            self.height.append(face.box.height)
            self.brightness.append(float(crop_face(image, face.box).mean()))
            self.together.append(len(counted))


@dataclass
class Answers:
    """What one pair said.

    Attributes:
        finder: stage 1's name.
        judge: stage 2's name.
        found: per picture, all detections from ``LEAST_SCORE`` on.
        rows: per picture, their probabilities, (N, 7).
        matchings: per picture, of the detections at or above the threshold, in their order.
        shown: per picture, the indices of those among ``found``.
        through_truth: per picture, the probabilities of the counted faces through their true boxes,
            nan where unknown.
    """

    finder: str
    judge: str
    found: list[Detections] = field(default_factory=list)
    rows: list[Rows] = field(default_factory=list)
    matchings: list[Matching] = field(default_factory=list)
    shown: list[NDArray[np.intp]] = field(default_factory=list)
    through_truth: list[Rows] = field(default_factory=list)


Watcher = Callable[[AnnotatedImage, Image, Answers], None]
"""Called with the first pair's answers after every picture, whose entries are then the last."""


def label_faces(truth: GroundTruth, ignore: Collection[str] = ()) -> GroundTruth:
    """Return the ground truth with categories as names in ``EMOTIONS``.

    Args:
        truth: as read.
        ignore: categories whose faces are to be ignored, whatever the case.

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

    scenes = (replace(s, faces=tuple(label(face) for face in s.faces)) for s in truth.scenes)
    return replace(truth, scenes=tuple(scenes))


def ask_all(
    pictures: Iterable[tuple[AnnotatedImage, Image]],
    finders: Sequence[Finder],
    judges: Sequence[Judge],
    watch: Watcher | None = None,
) -> tuple[list[AnnotatedImage], Faces, list[Answers]]:
    """Run every pair over the pictures, one at a time; each finder sees each picture once.

    Args:
        pictures: labelled scenes (``label_faces``) with their pictures.
        finders: stage 1.
        judges: stage 2; pairs for which a judge has no scores are left out.
        watch: see ``Watcher``.

    Returns:
        The scenes that came, their faces, and each pair's answers, finders in the outer order.
    """
    scenes: list[AnnotatedImage] = []
    faces = Faces()
    pairs = {
        (f.name, j.name): Answers(f.name, j.name)
        for f in finders
        for j in judges
        if j.knows(f.name)
    }
    for scene, image in pictures:
        faces.add(len(scenes), scene, image)
        scenes.append(scene)
        through_truth = {j.name: _through_truth(j, scene, image) for j in judges}
        for finder in finders:
            found = finder.find(scene, image)
            shown = np.flatnonzero(found.scores >= finder.threshold)
            matching = match(found.boxes[shown], found.scores[shown], scene.boxes, scene.ignored)
            for judge in judges:
                answers = pairs.get((finder.name, judge.name))
                if answers is None:
                    continue
                answers.found.append(found)
                answers.rows.append(judge.judge(finder.name, scene, image, found.boxes))
                answers.matchings.append(matching)
                answers.shown.append(shown)
                answers.through_truth.append(through_truth[judge.name])
        if watch is not None and pairs:
            watch(scene, image, next(iter(pairs.values())))
    return scenes, faces, list(pairs.values())


def _through_truth(judge: Judge, scene: AnnotatedImage, image: Image) -> Rows:
    """Return the probabilities of the counted faces in their true boxes."""
    if not judge.knows(TRUTH):
        return np.full((int((~scene.ignored).sum()), len(EMOTIONS)), np.nan, np.float32)
    return judge.judge(TRUTH, scene, image, scene.boxes)[~scene.ignored]


def matched_crops(
    pictures: Iterable[tuple[AnnotatedImage, Image]], detector: Detector
) -> tuple[list[Image], list[int]]:
    """Return the labelled faces that a detector finds, as its own boxes show them.

    Returns:
        Crops, and as many indices into ``EMOTIONS``.
    """
    crops: list[Image] = []
    labels: list[int] = []
    for scene, image in pictures:
        found = scored(detector.detect([image])[0])
        for index, face in enumerate(
            match(found.boxes, found.scores, scene.boxes, scene.ignored).face
        ):
            if face >= 0:
                crops.append(crop_face(image, Box(*found.boxes[index].tolist())))
                labels.append(EMOTIONS.index(scene.faces[face].category))
    return crops, labels
