"""Turned copies: answers are held against the annotations of the upright image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from benchmarks.rotations import measure
from faces.coco import AnnotatedImage, GroundTruthFace
from faces.emotions import EMOTIONS
from faces.pipeline import Pipeline
from faces.types import Box, Detection

FACE = Box(10, 20, 40, 70)


def photo() -> np.ndarray[Any, Any]:
    """Return a dark photo whose face is bright, brighter still towards its top."""
    image = np.zeros((100, 120, 3), np.uint8)
    image[20:70, 10:40] = np.linspace(250, 100, 50, dtype=np.uint8)[:, None, None]
    return image


class Bright:
    """Finds what is bright; surer of it if its top is brighter than its bottom."""

    name, score_threshold = "bright", 0.5

    def detect(
        self, images: Sequence[np.ndarray[Any, Any]], min_score: float | None = None
    ) -> list[list[Detection]]:
        found = []
        for image in images:
            rows, columns = np.nonzero(image[..., 0])
            x1, y1, x2, y2 = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
            upright = image[y1, x1:x2].mean() > image[y2 - 1, x1:x2].mean() + 100
            found.append([Detection(Box(x1, y1, x2, y2), 0.9 if upright else 0.7)])
        return found


class ByTop:
    """Sees joy where a crop is bright above its middle, and anger elsewhere; is always sure."""

    name = "by top"

    def probabilities(self, crops: Sequence[np.ndarray[Any, Any]]) -> np.ndarray[Any, Any]:
        rows = np.zeros((len(crops), len(EMOTIONS)), np.float32)
        for row, crop in zip(rows, crops, strict=True):
            half = len(crop) // 2
            bright = crop[:half].mean() > crop[half:].mean() + 20
            row[EMOTIONS.index("happy" if bright else "angry")] = 1
        return rows


def test_only_rotations_name_turned_faces_right() -> None:
    face = GroundTruthFace(FACE, "happy", ignored=False)
    image = AnnotatedImage(1, "a.png", (120, 100), False, (face,))
    pipelines = {
        name: Pipeline(Bright(), ByTop(), rotations=name == "yes") for name in ("no", "yes")
    }
    rows = {
        (row["turned"], row["rotations"]): row for row in measure([(image, photo())], pipelines)
    }
    assert len(rows) == 10
    for turned in ("0", "90", "180", "270"):
        for name in ("no", "yes"):
            row = rows[turned, name]
            assert (row["images"], row["faces"], row["coverage"]) == (1, 1, 1)
            right = name == "yes" or turned == "0"
            assert (row["joint_accuracy"], row["turn_found"]) == (right, right)
            assert row["wrong_and_sure"] == (not right)
    assert rows["all", "no"]["accuracy"] == pytest.approx(0.25)
    assert (rows["all", "yes"]["accuracy"], rows["all", "yes"]["images"]) == (1, 4)
