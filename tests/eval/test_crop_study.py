"""The crop study: shapes by hand, misses by hand, known answers from detector to record."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from classification.data.fer2013 import Fer2013
from eval import crop_study
from eval.crop_study import box_error, cut, find_faces, jitter, main, measure
from eval.data import options
from faces.coco import AnnotatedImage, GroundTruthFace
from faces.crops import CROP_MARGIN, crop_face
from faces.emotions import EMOTIONS
from faces.pipeline import Image
from faces.types import Box, Detection
from tests.stand_ins import ScriptedDetector


class EdgeClassifier:
    """Says happy if the crop's middle row begins white, else sad."""

    name = "edge"

    def probabilities(self, crops: Sequence[Image]) -> NDArray[np.float32]:
        rows = np.full((len(crops), 7), 0.02, np.float32)
        for row, crop in zip(rows, crops, strict=True):
            row[3 if crop[crop.shape[0] // 2, 0, 0] > 128 else 4] = 0.88
        return rows


def offset_detector() -> ScriptedDetector:
    """A detector that finds every face of ``scenes``, two pixels too far right."""
    return ScriptedDetector([Detection(Box(22, 10, 62, 70), 0.9)], "offset")


def picture() -> Image:
    """White between columns 8 and 76, where the crop without a margin ends at 12."""
    image = np.zeros((80, 120, 3), np.uint8)
    image[:, 8:76] = 255
    return image


def scenes() -> list[tuple[AnnotatedImage, Image]]:
    face = GroundTruthFace(Box(20, 10, 60, 70), "happy", False)
    return [(AnnotatedImage(n, f"{n}.png", None, False, (face,)), picture()) for n in range(3)]


def test_shapes_equal_slices_by_hand() -> None:
    image = np.random.default_rng(0).integers(0, 256, (100, 100, 3), dtype=np.uint8)
    box = Box(30, 20, 46, 84)  # 16 by 64
    assert (cut(image, box, "longer side", 0.1) == crop_face(image, box, 0.1)).all()
    assert (cut(image, box, "shorter side", 0.0) == image[44:60, 30:46]).all()
    assert (cut(image, box, "mean side", 0.0) == image[36:68, 22:54]).all()  # √(16·64) = 32
    stretched = cv2.resize(image[20:84, 30:46], (64, 64))
    assert (cut(image, box, "stretched", 0.0) == stretched).all()


def test_box_errors_equal_those_by_hand() -> None:
    assert box_error(Box(10, 20, 30, 60), Box(10, 20, 30, 60)) == (0, 0, 0)
    dx, dy, size = box_error(Box(14, 18, 34, 98), Box(10, 20, 30, 60))
    assert (dx, dy) == (4 / 40, 18 / 40) and size == pytest.approx(math.log(2))


def test_every_shape_and_margin_is_held_against_the_rule_in_use() -> None:
    faces = find_faces(scenes(), offset_detector(), [EdgeClassifier()])
    assert faces.label == [EMOTIONS.index("happy")] * 3 and faces.image == [0, 1, 2]
    assert faces.errors[0] == pytest.approx((2 / 60, 0, 0))
    longer, _, shorter, _ = measure(faces, faces.probabilities[0])
    by_margin = {row["margin"]: row["accuracy"] for row in longer["by_margin"]}
    # the square begins at 42 - 60/2·(1 + 2·margin): 12 without a margin, 6 with 0.1
    assert by_margin == {m: float(12 - 60 * m >= 8) for m in crop_study.MARGINS}
    assert longer["accuracy_in_use"] == by_margin[CROP_MARGIN] == 1
    worse = next(row for row in longer["by_margin"] if row["margin"] == 0.2)
    assert (worse["accuracy_difference"], worse["accuracy_difference_ci"]) == (-1, (-1, -1))
    assert worse["nll"] == pytest.approx(-math.log(0.02))
    assert {row["accuracy"] for row in shorter["by_margin"][:-1]} == {1}


def test_jitter_moves_and_scales_the_box() -> None:
    image = np.zeros((48, 48), np.uint8)
    image[:, :12] = 255  # a box that moves right by a quarter or more does not begin white
    data = Fer2013(np.stack([image] * 40), np.full(40, 3), np.full(40, "PublicTest"), ("",) * 40)
    errors = np.array([[0.15, 0, 0], [-0.15, 0, 0]])
    rows = {
        (r["strength"], r["margin"]): r["accuracy"] for r in jitter(data, EdgeClassifier(), errors)
    }
    assert rows[0, 0] == rows[1, 0] == 1
    assert 0.2 < rows[2, 0] < 0.8  # ±0.3: half of them
    offset = np.array([[0.15, 0, 0]] * 2)  # the mean error is no jitter
    assert all(row["accuracy"] == 1 for row in jitter(data, EdgeClassifier(), offset))


def test_the_command_writes_record_and_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(options, "load_detectors", lambda *_: [offset_detector()])
    monkeypatch.setattr(options, "load_classifiers", lambda *_: [EdgeClassifier()])
    cv2.imwrite(str(tmp_path / "a.png"), picture())
    truth = {
        "images": [{"id": 1, "file_name": "a.png"}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [20, 10, 40, 60]}],
        "categories": [{"id": 1, "name": "Joy"}],
    }
    (tmp_path / "t.json").write_text(json.dumps(truth))
    paths = ["--coco", str(tmp_path / "t.json"), "--images", str(tmp_path)]
    out = ["--out", str(tmp_path / "r.json"), "--picture", str(tmp_path / "p.png")]
    assert main([*paths, *out]) == 0
    runs = json.loads((tmp_path / "r.json").read_text())["runs"]
    assert [run["crop_shape"] for run in runs] == list(crop_study.SHAPES)
    assert runs[0]["miss_mean"] == pytest.approx([2 / 60, 0, 0])
    assert cv2.imread(str(tmp_path / "p.png")) is not None
    truth["annotations"] = []
    (tmp_path / "t.json").write_text(json.dumps(truth))
    assert main(paths) == 2
    assert "has no face to find" in capsys.readouterr().err
