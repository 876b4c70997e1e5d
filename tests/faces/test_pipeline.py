"""The two stages joined, with stand-ins for both."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from faces.crops import crop_face
from faces.pipeline import analyze_image
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

    def scores(self, crops: Sequence[np.ndarray]) -> np.ndarray:
        self.crops += crops
        return np.tile(np.float32([0, 0, 0, 1, 0, 0, 0]), (len(crops), 1))


def test_every_face_is_cropped_and_scored() -> None:
    image = np.random.default_rng(0).integers(1, 256, (20, 30, 3), dtype=np.uint8)
    classifier = Recorder()
    result = analyze_image("a", image, Corners(), classifier)
    assert (result.source, result.width, result.height) == ("a", 30, 20)
    assert [f.detection.score for f in result.faces] == [0.9, 0.6]
    assert [f.emotions.labels() for f in result.faces] == [["happy"]] * 2
    assert result.seconds > 0
    boxes = [f.detection.box for f in result.faces]
    for crop, box in zip(classifier.crops, boxes, strict=True):
        np.testing.assert_array_equal(crop, crop_face(image, box))


def test_no_faces_is_a_result_too() -> None:
    assert analyze_image("b", np.zeros((9, 9, 3), np.uint8), Corners(), Recorder()).faces == ()


def test_a_classifier_that_loses_faces_is_noticed() -> None:
    class Lossy(Recorder):
        def scores(self, crops: Sequence[np.ndarray]) -> np.ndarray:
            return super().scores(crops)[:1]

    with pytest.raises(ValueError, match="shorter"):
        analyze_image("a", np.ones((9, 9, 3), np.uint8), Corners(), Lossy())
