"""Mosaics: every image stands where its boxes say, and nothing overlaps."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

from eval import mosaics
from faces.coco import load_coco
from faces.images import read_image

SIZES = [(60, 40), (90, 30), (50, 50), (100, 20), (30, 80)]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Images of one colour each, with a white face each; the last face is ignored."""
    images, annotations = [], []
    for number, (width, height) in enumerate(SIZES, start=1):
        pixels = np.full((height, width, 3), 20 * number, np.uint8)
        x, y = 3 * number, 2 * number
        pixels[y : y + 12, x : x + 10] = 255
        Pillow.fromarray(pixels).save(tmp_path / f"{number}.png")
        size = {"width": width, "height": height}
        images.append({"id": number, "file_name": f"{number}.png"} | size)
        crowd = int(number == len(SIZES))
        about = {"id": number, "image_id": number, "category_id": 1, "iscrowd": crowd}
        annotations.append(about | {"bbox": [x, y, 10, 12], "area": 120})
    document = {"images": images, "annotations": annotations}
    document["categories"] = [{"id": 1, "name": "face"}]
    (tmp_path / "truth.json").write_text(json.dumps(document))
    return tmp_path


def run(data: Path, *more: str) -> int:
    given = ["--coco", str(data / "truth.json"), "--images", str(data)]
    return mosaics.main([*given, "--out", str(data / "out"), *more])


def test_boxes_lie_on_their_faces_and_all_images_are_whole(data: Path) -> None:
    assert run(data, "--size", "160", "100") == 0
    truth = load_coco(data / "out" / "annotations.json")
    assert truth.faces == len(SIZES) - 1 and "cannot show" in truth.limits
    seen: dict[int, int] = {}
    for image in truth.images:
        canvas = read_image(data / "out" / "images" / image.file_name)
        assert canvas.shape == (100, 160, 3)
        for face in image.faces:
            x1, y1, x2, y2 = map(int, face.box.as_tuple())
            assert canvas[y1:y2, x1:x2].min() > 240
            assert canvas[y1 - 2, x1 - 2].max() < 140  # the face ends there
        for number in range(1, len(SIZES) + 1):  # JPEG moves grey values by a few
            near = np.abs(canvas[:, :, 0].astype(int) - 20 * number) < 5
            seen[number] = seen.get(number, 0) + int(near.sum())
    for number, (width, height) in enumerate(SIZES, start=1):
        assert seen[number] == pytest.approx(width * height - 120, rel=0.1)


def test_a_seed_gives_the_same_files_and_another_seed_others(data: Path) -> None:
    written = []
    for name, seed in (("a", "1"), ("b", "1"), ("c", "2")):
        given = ["--coco", str(data / "truth.json"), "--images", str(data), "--seed", seed]
        assert mosaics.main([*given, "--out", str(data / name), "--size", "160", "100"]) == 0
        written.append((data / name / "annotations.json").read_text())
    assert written[0] == written[1] != written[2]


def test_an_image_larger_than_a_canvas_is_one_line_and_leaves_nothing(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(data, "--size", "80", "50") == 2
    assert "larger than a canvas" in capsys.readouterr().err.splitlines()[-1]
    assert not (data / "out").exists()
