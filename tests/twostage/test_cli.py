"""``twostage analyze`` with stand-ins for the models: files, formats, failures, exit statuses."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from faces.types import Box, Detection
from twostage import cli, model_zoo


class TwoFaces:
    """Finds two faces in every picture at least 40 pixels wide."""

    name = "two"
    score_threshold = 0.5

    def detect(
        self, images: Sequence[NDArray[np.uint8]], min_score: float | None = None
    ) -> list[list[Detection]]:
        return [
            [Detection(Box(2, 3, 22, 28), 0.9), Detection(Box(20, 3, 38, 25), 0.7)]
            if image.shape[1] >= 40
            else []
            for image in images
        ]


class HappyThenSad:
    """Calls the first face happy and surprised, the others nothing clear."""

    name = "fixed"

    def probabilities(self, crops: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        rows = np.full((len(crops), 7), 1 / 7, np.float32)
        rows[:1] = [0, 0, 0, 0.6, 0, 0.4, 0]
        return rows


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(cli, "load_detector", lambda name, device: TwoFaces())
    monkeypatch.setattr(cli, "load_classifier", lambda name, device: HappyThenSad())
    folder = tmp_path / "photos"
    for name, size in (("a.jpg", (64, 48)), ("b.png", (40, 40)), ("sub/a.jpg", (20, 20))):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", size, (90, 120, 150)).save(folder / name)
    return folder


def test_table_files_and_status(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "new/results.json"
    marked = tmp_path / "marked"
    arguments = ["analyze", str(photos), "--out", str(out), "--annotated", str(marked)]
    assert cli.main(arguments) == 0
    shown = capsys.readouterr().out
    assert "happy 60%, surprise 40%" in shown and "unsure" in shown
    assert shown.splitlines()[-1] == "3 pictures analysed, 4 faces found, 0 failed"
    first = json.loads(out.read_text())[0]
    assert list(first) == ["schema_version", "source", "width", "height", "seconds", "faces"]
    assert (first["schema_version"], first["width"], first["height"]) == (1, 64, 48)
    face = first["faces"][0]
    assert list(face) == ["box", "score", "emotions", "labels", "unsure"]
    assert face["box"] == [2, 3, 22, 28]
    assert face["labels"] == ["happy", "surprise"] and face["unsure"] is False
    assert first["faces"][1]["labels"] == [] and first["faces"][1]["unsure"] is True
    assert sorted(p.name for p in marked.iterdir()) == ["a-2.png", "a.png", "b.png"]
    assert Image.open(marked / "a.png").size == (64, 48)


def test_annotated_pictures_are_not_analysed_again(
    photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(2):
        assert cli.main(["analyze", str(photos), "--annotated", str(photos / "marked")]) == 0
        assert capsys.readouterr().out.splitlines()[-1].startswith("3 pictures analysed")


def test_pictures_not_made_here_are_never_overwritten(
    photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (photos / "2019").mkdir()
    mine = photos / "2019" / "a.png"
    Image.new("RGB", (8, 8)).save(mine)
    before = mine.read_bytes()
    assert cli.main(["analyze", str(photos), "--annotated", str(photos / "2019")]) == 2
    assert "holds pictures that were not made here, such as a.png" in capsys.readouterr().err
    assert mine.read_bytes() == before


def test_file_names_need_not_be_text(photos: Path, tmp_path: Path) -> None:
    odd = os.fsencode(photos) + b"/caf\xe9.jpg"
    (photos / "a.jpg").rename(os.fsdecode(odd))
    out = tmp_path / "r.jsonl"
    assert cli.main(["analyze", os.fsdecode(odd), "--out", str(out)]) == 0
    assert json.loads(out.read_text())["source"] == os.fsdecode(odd)


def test_annotated_names_never_clash(photos: Path, tmp_path: Path) -> None:
    folder = cli.AnnotatedFolder(tmp_path / "marked", [])
    image = np.zeros((2, 2, 3), np.uint8)
    for source in ("a.jpg", "x/a.png", "A.jpg", "a-2.jpg", "y/a.jpg", "a-2.png"):
        folder.write(source, image)
    assert len(list((tmp_path / "marked").iterdir())) == folder.count == 6


def test_a_broken_picture_fails_alone(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (photos / "aa.jpg").write_bytes(b"")
    out = tmp_path / "r.csv"
    assert cli.main(["analyze", str(photos), "missing.jpg", "--out", str(out)]) == 1
    captured = capsys.readouterr()
    assert "aa.jpg" in captured.err and "missing.jpg" in captured.err
    assert captured.out.splitlines()[-1] == "3 pictures analysed, 4 faces found, 2 failed"
    with out.open(newline="") as file:
        assert len(list(csv.DictReader(file))) == 4


def test_thresholds_decide_the_labels(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "r.jsonl"
    arguments = ["analyze", str(photos / "a.jpg"), "--out", str(out), "--threshold"]
    labels = {}
    for words in (("0.5",), ("surprise=0.7", "anger=0.1"), ("0",), ("Happy=1",)):
        assert cli.main([*arguments, *words]) == 0
        faces = json.loads(out.read_text())["faces"]
        labels[words] = [face["labels"] for face in faces]
    assert labels["0.5",] == [["happy"], []]
    assert labels["surprise=0.7", "anger=0.1"] == [["happy"], ["angry"]]
    assert labels["0",][0][:2] == ["happy", "surprise"] and len(labels["0",][1]) == 7
    assert labels["Happy=1",] == [["surprise"], []]


@pytest.mark.parametrize(
    ("words", "cause"),
    [
        (["--threshold", "1.5"], "within 0..1"),
        (["--threshold", "glad=0.2"], "unknown emotion 'glad'"),
        (["--threshold", "0.3", "0.4"], "stands alone"),
        (["--threshold", "happy=0.3", "Happiness=0.4"], "named twice"),
        (["--threshold", "0.3", "photo.jpg"], "after the photos"),
        (["--out", "results.xml"], "unknown kind"),
        (["--out", "."], "results"),
        (["--annotated", "photo.txt/x"], "cannot be made"),
        (["--annotated", "."], "the photos' own folder"),
    ],
)
def test_impossible_wishes_stop_before_any_work(
    photos: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    cause: str,
) -> None:
    def forbidden(name: str, device: str | None) -> None:
        raise AssertionError("loaded a model for nothing")

    monkeypatch.setattr(cli, "load_detector", forbidden)
    monkeypatch.chdir(photos)
    (photos / "photo.txt").write_text("in the way")
    if words == ["--out", "."]:
        cause = "unknown kind"
    assert cli.main(["analyze", str(photos), *words]) == 2
    assert cause in capsys.readouterr().err


def test_unknown_models_are_explained(
    photos: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cli, "load_classifier", model_zoo.load_classifier)
    assert cli.main(["analyze", str(photos), "--classifier", "nobody"]) == 2
    assert "nobody" in capsys.readouterr().err


def test_stopping_keeps_what_was_finished(
    photos: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    original = cli.Pipeline.analyze
    calls = []

    def stop_at_second(*arguments: object) -> object:
        calls.append(arguments)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return original(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(cli.Pipeline, "analyze", stop_at_second)
    out = tmp_path / "r.json"
    assert cli.main(["analyze", str(photos), "--out", str(out)]) == 130
    assert len(json.loads(out.read_text())) == 1
    assert "what was finished is written" in capsys.readouterr().err


def test_models_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["models"]) == 0
    assert "detector" in capsys.readouterr().out
