import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from benchmarks import detector_curve
from faces.types import Box, Detection

BOXES = [[10, 10, 20, 20], [50, 50, 30, 30]]


class Sized:
    """Finds the second face only in large inputs, with many proposals."""

    name = "sized"
    score_threshold = 0.5

    def __init__(self, overrides):
        values = {k: int(v) for k, v in zip(overrides[::2], overrides[1::2], strict=True)}
        self.test_sizes = (200, 300)
        self.sharp = values.get("INPUT.MIN_SIZE_TEST", 0) >= 200
        self.many = values.get("MODEL.RPN.POST_NMS_TOPK_TEST", 0) >= 100
        self.values = values

    def detect(self, images, min_score=None):
        found = [
            Detection(Box(x, y, x + w, y + h), 0.9)
            for x, y, w, h in BOXES[: 1 + (self.sharp and self.many)]
        ]
        return [found for _ in images]


@pytest.fixture
def words(tmp_path: Path, monkeypatch) -> list[str]:
    monkeypatch.setattr("twostage.model_zoo.load_detector", lambda name, device, o=(): Sized(o))
    cv2.imwrite(str(tmp_path / "a.png"), np.full((100, 120, 3), 90, np.uint8))
    document = {
        "images": [{"id": 1, "file_name": "a.png", "width": 120, "height": 100}],
        "annotations": [
            {"id": i, "image_id": 1, "category_id": 1, "bbox": box, "area": 1, "iscrowd": 0}
            for i, box in enumerate(BOXES)
        ],
        "categories": [{"id": 1, "name": "face"}],
    }
    (tmp_path / "faces.json").write_text(json.dumps(document))
    where = ["--coco", str(tmp_path / "faces.json"), "--images", str(tmp_path)]
    return [*where, "--detector", "x", "--shortest", "100", "200", "--proposals", "50", "100"]


def test_a_curve_is_measured_and_drawn(words, tmp_path, capsys):
    out, picture = tmp_path / "c.json", tmp_path / "c.png"
    more = ["--rounds", "2", "--out", str(out), "--picture", str(picture)]
    assert detector_curve.main([*words, *more]) == 0
    rows = json.loads(out.read_text())["runs"]
    assert [(r["shortest_side"], r["longest_side"], r["proposals"]) for r in rows] == [
        *((100, 150, 50), (100, 150, 100), (200, 300, 50), (200, 300, 100))
    ]
    assert [row["coverage"] for row in rows] == [0.5, 0.5, 0.5, 1.0]
    assert rows[3]["validation_ap50"] == 1.0 > rows[0]["validation_ap50"]
    assert all(r["cpu_ms_low"] <= r["cpu_ms_per_image"] <= r["cpu_ms_high"] for r in rows)
    assert not any("ap" in row for row in rows)  # the key of another section of docs/results.md
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert "100.00 %" in capsys.readouterr().out


def test_settings_become_overrides():
    (one,) = detector_curve.settings([320], [150], 1.68)
    assert one.overrides == [
        *("INPUT.MIN_SIZE_TEST", "320", "INPUT.MAX_SIZE_TEST", "538"),
        *("MODEL.RPN.PRE_NMS_TOPK_TEST", "300", "MODEL.RPN.POST_NMS_TOPK_TEST", "150"),
    ]


def test_mistakes_are_one_line(words, monkeypatch, capsys):
    assert detector_curve.main([*words, "--rounds", "0"]) == 2
    assert "expected a whole number from 1" in capsys.readouterr().err
    monkeypatch.setattr("twostage.model_zoo.load_detector", lambda name, device, o=(): object())
    assert detector_curve.main(words) == 2
    error = capsys.readouterr().err
    assert "no detector of Detectron2's" in error and error.count("\n") == 1
