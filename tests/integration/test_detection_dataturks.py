"""eval.detection on a Dataturks export: the same figures as on the same faces in a COCO file."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import eval.detection
from detection.data.catalog import split_of
from eval.data import options
from faces.types import Box, Detection

SIZE = (160, 120)
BOX = (20.0, 30.0, 60.0, 90.0)


class OneAnswer:
    """A detector that finds the same two boxes in every image: the face, and one that is none."""

    name = "one_answer"
    score_threshold = 0.5

    def detect(
        self, images: Sequence[np.ndarray[Any, Any]], min_score: float | None = None
    ) -> list[list[Detection]]:
        found = [Detection(Box(*BOX), 0.9), Detection(Box(100, 10, 140, 50), 0.6)]
        return [list(found) for _ in images]


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write six images, each with a face, as a Dataturks export and as a COCO file."""
    monkeypatch.setattr(options, "load_detectors", lambda names, device: [OneAnswer()])
    (tmp_path / "images").mkdir()
    lines, images, annotations = [], [], []
    width, height = SIZE
    corners = [{"x": BOX[i] / width, "y": BOX[i + 1] / height} for i in (0, 2)]
    for number in range(1, 7):
        name = f"{number}.png"
        Image.new("RGB", SIZE).save(tmp_path / "images" / name)
        annotation = [{"label": ["Face"], "points": corners}]
        lines.append(json.dumps({"content": f"http://h/{name}", "annotation": annotation}))
        images.append({"id": number, "file_name": name, "width": width, "height": height})
        box = [BOX[0], BOX[1], BOX[2] - BOX[0], BOX[3] - BOX[1]]
        annotations.append({"id": number, "image_id": number, "category_id": 1, "bbox": box})
    lines.append(json.dumps({"content": "http://h/gone.png", "annotation": None}))
    (tmp_path / "dataturks.json").write_text("\n".join(lines))
    categories = [{"id": 1, "name": "face"}]
    coco = {"images": images, "annotations": annotations, "categories": categories}
    (tmp_path / "coco.json").write_text(json.dumps(coco))
    return tmp_path


def measure(data: Path, *words: str) -> dict[str, Any]:
    out = data / "out.json"
    assert eval.detection.main([*words, "--detector", "one_answer", "--out", str(out)]) == 0
    row: dict[str, Any] = json.loads(out.read_text())
    return row


def test_both_forms_of_the_same_faces_give_the_same_figures(data: Path) -> None:
    images = str(data / "images")
    ours = measure(data, "--dataturks", str(data / "dataturks.json"), images)
    coco = measure(data, "--coco", str(data / "coco.json"), "--images", images)
    differing = {key for key in coco if ours[key] != coco[key]}
    assert differing <= {"coco", "fingerprint", "command", "measured", "date", "ms_per_image"}
    assert ours["images"] == 6 and ours["coverage"] == 1 and ours["false_per_image"] == 1


def test_one_split_can_be_measured(data: Path) -> None:
    pair = ["--dataturks", str(data / "dataturks.json"), str(data / "images")]
    expected = Counter(split_of(f"{number}.png") for number in range(1, 7))
    assert len(expected) > 1
    for split, count in expected.items():
        assert measure(data, *pair, "--split", split)["images"] == count


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--coco", "coco.json", "--images", "images", "--split", "val"], "--split: only with"),
        (["--dataturks", "dataturks.json", "images", "--images", "images"], "--images: only with"),
        (["--dataturks", "coco.json", "images"], "content"),
        (["--coco", "coco.json"], "give their folder as --images"),
    ],
)
def test_options_that_contradict_each_other_exit_2(
    data: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(data)
    assert eval.detection.main([*words, "--detector", "one_answer"]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
