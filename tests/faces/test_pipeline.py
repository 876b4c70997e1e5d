"""The two stages joined, with stand-ins for both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from faces.crops import crop_face
from faces.pipeline import Pipeline
from faces.types import Box, Detection


class Corners:
    """Finds a face in the top left corner of every picture that is not black, and a smaller one."""

    name = "corners"
    score_threshold = 0.5

    def detect(
        self, images: Sequence[np.ndarray], min_score: float | None = None
    ) -> list[list[Detection]]:
        found = [Detection(Box(0, 0, 8, 8), 0.9), Detection(Box(-2, 3, 4, 9.5), 0.6)]
        return [found if image.any() else [] for image in images]


class Recorder:
    """Says "happy" and keeps what it was shown."""

    name = "recorder"

    def __init__(self) -> None:
        self.crops: list[np.ndarray] = []

    def probabilities(self, crops: Sequence[np.ndarray]) -> np.ndarray:
        self.crops += crops
        return np.tile(np.float32([0, 0, 0, 1, 0, 0, 0]), (len(crops), 1))


def test_every_face_is_cropped_and_scored() -> None:
    image = np.random.default_rng(0).integers(1, 256, (20, 30, 3), dtype=np.uint8)
    classifier = Recorder()
    result = Pipeline(Corners(), classifier).analyze(image, "a")
    assert (result.source, result.width, result.height) == ("a", 30, 20)
    assert [f.detection.score for f in result.faces] == [0.9, 0.6]
    assert [f.emotions.labels() for f in result.faces] == [["happy"]] * 2
    assert result.seconds > 0
    boxes = [f.detection.box for f in result.faces]
    for crop, box in zip(classifier.crops, boxes, strict=True):
        np.testing.assert_array_equal(crop, crop_face(image, box))


def test_no_faces_is_a_result_too() -> None:
    assert Pipeline(Corners(), Recorder()).analyze(np.zeros((9, 9, 3), np.uint8)).faces == ()


def test_a_classifier_that_loses_faces_is_noticed() -> None:
    class Lossy(Recorder):
        def probabilities(self, crops: Sequence[np.ndarray]) -> np.ndarray:
            return super().probabilities(crops)[:1]

    with pytest.raises(ValueError, match="shorter"):
        Pipeline(Corners(), Lossy()).analyze(np.ones((9, 9, 3), np.uint8))


def test_batches_give_what_single_images_give_with_one_call_of_each_stage() -> None:
    rng = np.random.default_rng(0)
    images = [("a", rng.integers(1, 256, (20, 30, 3), dtype=np.uint8))]
    images += [("black", np.zeros((9, 9, 3), np.uint8))]
    images += [("b", rng.integers(1, 256, (15, 12, 3), dtype=np.uint8))]
    calls: list[int] = []

    class Counting(Recorder):
        def probabilities(self, crops: Sequence[np.ndarray]) -> np.ndarray:
            calls.append(len(crops))
            return super().probabilities(crops)

    classifier = Counting()
    results = Pipeline(Corners(), classifier).analyze_many(images)
    assert calls == [4]
    one_by_one = [Pipeline(Corners(), Recorder()).analyze(image, name) for name, image in images]
    assert [replace(r, seconds=0) for r in results] == [replace(r, seconds=0) for r in one_by_one]
    assert Pipeline(Corners(), Recorder()).analyze_many([]) == []


def test_stage_two_goes_on_from_what_stage_one_kept() -> None:
    image = np.random.default_rng(0).integers(1, 256, (20, 30, 3), dtype=np.uint8)
    pipeline = Pipeline(Corners(), Recorder(), margin=0.1)
    located = pipeline.locate(image, min_score=0.05)
    assert len(located.detections) == 2 and located.merged == ()
    result = pipeline.classify(image, located.above(0.7), "a")
    assert [face.score for face in result.faces] == [0.9]
    crops = [crop_face(image, located.detections[0].box, 0.1)]
    np.testing.assert_array_equal(pipeline.classifier.crops[0], crops[0])
    assert pipeline.classify_crops([]).shape == (0, 7)
