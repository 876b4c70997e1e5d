"""Composed scenes: the same every time, faces where the annotations say, mistakes in one line."""

from __future__ import annotations

import json
from collections import Counter
from itertools import combinations, islice
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PillowImage

from eval import scenes
from faces.coco import load_coco
from faces.emotions import EMOTIONS


@pytest.fixture(scope="module")
def crops(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three pictures of one grey value for each of three emotions."""
    folder = tmp_path_factory.mktemp("crops")
    for index, emotion in enumerate(("happy", "sad", "fear")):
        (folder / emotion).mkdir()
        for number in range(3):
            pixels = np.full((48, 48, 3), 60 * index + 20 * number, np.uint8)
            PillowImage.fromarray(pixels).save(folder / emotion / f"{number}.png")
    return folder


def make(crops: Path, out: Path, *arguments: str) -> int:
    return scenes.main(["--data", str(crops), "--out", str(out), "--count", "4", *arguments])


def test_the_same_call_gives_the_same_files(crops: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        assert make(crops, tmp_path / name) == 0
    assert make(crops, tmp_path / "c", "--seed", "1") == 0
    names = ["annotations.json", *(f"images/scene_000{n}.png" for n in range(1, 5))]
    read = {f: [(tmp_path / f / name).read_bytes() for name in names[1:]] for f in "abc"}
    assert read["a"] == read["b"] != read["c"]
    truth = [load_coco(tmp_path / f / "annotations.json") for f in "ab"]
    assert truth[0].images == truth[1].images
    assert truth[0].limits == scenes.LIMITS


@pytest.mark.parametrize("difficulty", scenes.DIFFICULTIES)
def test_faces_lie_apart_inside_the_picture(crops: Path, tmp_path: Path, difficulty: str) -> None:
    out = tmp_path / "set"
    arguments = ("--faces", "2", "5", "--difficulty", difficulty, "--size", "640", "400")
    assert make(crops, out, *arguments) == 0
    least, most = scenes.DIFFICULTIES[difficulty].sides
    truth = load_coco(out / "annotations.json")
    assert truth.faults == () and {s.size for s in truth.images} == {(640, 400)}
    for scene in truth.images:
        assert PillowImage.open(out / "images" / scene.file_name).size == (640, 400)
        assert 1 <= len(scene.faces) <= 5
        for face in scene.faces:
            x1, y1, x2, y2 = face.box.as_tuple()
            assert 0 <= x1 < x2 <= 640 and 0 <= y1 < y2 <= 400
            assert least <= x2 - x1 == y2 - y1 <= most
        for one, other in combinations(scene.faces, 2):
            assert one.box.intersection(other.box) == 0


def test_the_crop_is_where_its_box_is(crops: Path, tmp_path: Path) -> None:
    assert make(crops, tmp_path / "set", "--difficulty", "easy") == 0
    document = json.loads((tmp_path / "set" / "annotations.json").read_text())
    labels, values = [], []
    for row in document["annotations"]:
        picture = PillowImage.open(tmp_path / "set/images" / f"scene_{row['image_id']:04d}.png")
        x, y, side, _ = (int(v) for v in row["bbox"])
        values.append(np.asarray(picture)[y + side // 2, x + side // 2].tolist())
        labels.append(EMOTIONS[row["category_id"] - 1])
    of = {"happy": (0, 20, 40), "sad": (60, 80, 100), "fear": (120, 140, 160)}
    assert all(value[0] in of[label] for label, value in zip(labels, values, strict=True))
    assert set(labels) == set(of)


def test_emotions_come_equally_often_and_crops_in_turn() -> None:
    labels = [0] * 5 + [3] * 2 + [6]
    dealt = list(islice(scenes.deal_crops(labels, np.random.default_rng(0)), 30))
    assert Counter(labels[i] for i in dealt) == {0: 10, 3: 10, 6: 10}
    assert Counter(i for i in dealt if i < 5) == dict.fromkeys(range(5), 2)


def test_bad_arguments_exit_2_with_one_line(
    crops: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cases = [
        ((), crops, "exists already"),
        (("--faces", "3", "2"), tmp_path / "x", "least, then most"),
        (("--size", "100", "400"), tmp_path / "x", "at least 128"),
        (("--seed", "-1"), tmp_path / "x", "0 or more"),
        (("--split", "PublicTest"), tmp_path / "x", "is for FER2013"),
    ]
    for arguments, out, cause in cases:
        assert make(crops, out, *arguments) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1 and cause in error
    assert make(tmp_path / "none", tmp_path / "x") == 2
    assert "no such file" in capsys.readouterr().err
    assert not (tmp_path / "x").exists()
