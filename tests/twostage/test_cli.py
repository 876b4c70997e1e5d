"""``twostage analyze`` with stand-ins for the models: files, formats, failures, exit statuses."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import twostage
from faces.pipeline import Pipeline, WholeImage
from faces.types import Detection
from tests.stand_ins import TWO_FACES, ScriptedClassifier, ScriptedDetector, probabilities
from twostage import cli

ROOT = Path(__file__).parents[2]


def happy_first(crop: np.ndarray) -> tuple[float, ...]:
    """The first face, which is 25 pixels high, is happy and surprised; others nothing clear."""
    return probabilities(happy=0.6, surprise=0.4) if len(crop) == 25 else probabilities()


def stand_ins(*models: str, **options: object) -> Pipeline:
    detector = ScriptedDetector(lambda image: TWO_FACES if image.shape[1] >= 40 else ())
    return Pipeline(detector, ScriptedClassifier(happy_first))


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(cli, "load_pipeline", stand_ins)
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
    assert shown.splitlines()[-1] == "3 images analysed, 4 faces found, 0 failed"
    first = json.loads(out.read_text())[0]
    assert list(first) == [
        *("schema_version", "source", "width", "height", "seconds"),
        *("smallest_face", "turned", "faces"),
    ]
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
        assert capsys.readouterr().out.splitlines()[-1].startswith("3 images analysed")


def test_pictures_not_made_here_are_never_overwritten(
    photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (photos / "2019").mkdir()
    mine = photos / "2019" / "a.png"
    Image.new("RGB", (8, 8)).save(mine)
    before = mine.read_bytes()
    assert cli.main(["analyze", str(photos), "--annotated", str(photos / "2019")]) == 2
    assert "holds images that were not made here, such as a.png" in capsys.readouterr().err
    assert mine.read_bytes() == before


def test_file_names_need_not_be_text(photos: Path, tmp_path: Path) -> None:
    odd = os.fsencode(photos) + b"/caf\xe9.jpg"
    (photos / "a.jpg").rename(os.fsdecode(odd))
    out = tmp_path / "r.jsonl"
    assert cli.main(["analyze", os.fsdecode(odd), "--out", str(out)]) == 0
    assert json.loads(out.read_text())["source"] == os.fsdecode(odd)


def test_a_broken_picture_fails_alone(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (photos / "aa.jpg").write_bytes(b"")
    out = tmp_path / "r.csv"
    assert cli.main(["analyze", str(photos), "missing.jpg", "--out", str(out)]) == 1
    captured = capsys.readouterr()
    assert "aa.jpg" in captured.err and "missing.jpg" in captured.err
    assert captured.out.splitlines()[-1] == "3 images analysed, 4 faces found, 2 failed"
    with out.open(newline="") as file:
        assert len(list(csv.DictReader(file))) == 4


def test_one_odd_entry_of_a_folder_fails_alone(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    os.symlink("loop.jpg", photos / "loop.jpg")
    os.mkfifo(photos / "pipe.jpg")
    assert cli.main(["analyze", str(photos)]) == 1
    captured = capsys.readouterr()
    assert captured.out.splitlines()[-1] == "3 images analysed, 4 faces found, 2 failed"
    assert "loop.jpg: cannot be opened" in captured.err and "no regular file" in captured.err


def test_names_cannot_steer_the_terminal(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    odd = tmp_path / "odd"
    odd.mkdir()
    Image.new("RGB", (64, 48)).save(odd / "esc\x1b[31mred.jpg")
    (odd / "new\nline.jpg").touch()
    out, marked = odd / "r\x1b.jsonl", tmp_path / "m\x1b"
    command = ["analyze", str(odd), "--out", str(out), "--annotated", str(marked)]
    assert cli.main(command) == 1
    captured = capsys.readouterr()
    assert "\x1b" not in captured.out + captured.err
    assert (
        r"esc\x1b[31mred.jpg: 64×48" in captured.out and r"new\nline.jpg: is empty" in captured.err
    )
    assert json.loads(out.read_text())["source"].endswith("esc\x1b[31mred.jpg")


def test_without_a_detector_each_photo_is_one_face(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(detector: WholeImage, classifier: str, **others: object) -> Pipeline:
        return Pipeline(detector, ScriptedClassifier(happy_first))

    monkeypatch.setattr(cli, "load_pipeline", load)
    out = tmp_path / "r.jsonl"
    assert cli.main(["analyze", str(photos), "--no-detector", "--out", str(out)]) == 0
    results = [json.loads(line) for line in out.read_text().splitlines()]
    boxes = [[face["box"] for face in result["faces"]] for result in results]
    assert boxes == [[[0, 0, 64, 48]], [[0, 0, 40, 40]], [[0, 0, 20, 20]]]
    with pytest.raises(SystemExit):
        cli.main(["analyze", str(photos), "--no-detector", "--detector", "mtcnn"])


def test_a_name_of_255_bytes_is_annotated_too(photos: Path, tmp_path: Path) -> None:
    Image.new("RGB", (64, 48)).save(photos / f"{'n' * 251}.jpg")
    marked = tmp_path / "marked"
    assert cli.main(["analyze", str(photos), "--annotated", str(marked)]) == 0
    assert len(os.listdir(marked)) == 4


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
        (["-"], "stands alone"),
    ],
)
def test_bad_arguments_exit_2_before_models_load(
    photos: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    cause: str,
) -> None:
    def forbidden(*models: str, device: str | None) -> None:
        raise AssertionError("loaded models for nothing")

    monkeypatch.setattr(cli, "load_pipeline", forbidden)
    monkeypatch.chdir(photos)
    (photos / "photo.txt").write_text("in the way")
    if words == ["--out", "."]:
        cause = "unknown kind"
    assert cli.main(["analyze", str(photos), *words]) == 2
    assert cause in capsys.readouterr().err


def test_unknown_models_are_explained(
    photos: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cli, "load_pipeline", twostage.load_pipeline)
    for option in ("--detector", "--classifier"):
        assert cli.main(["analyze", str(photos), option, "nobody"]) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1 and error.startswith("twostage: ") and "'nobody'" in error


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_stopping_keeps_what_was_finished(
    photos: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    number: int,
) -> None:
    for index in range(10):
        Image.new("RGB", (64, 48)).save(photos / f"{index}.png")
    answers = iter([TWO_FACES] * 8)  # as many images are analysed at once

    def stop_at_ninth(image: np.ndarray) -> tuple[Detection, ...]:
        for answer in answers:
            return answer
        os.kill(os.getpid(), number)
        raise AssertionError("not stopped")

    pipeline = Pipeline(ScriptedDetector(stop_at_ninth), ScriptedClassifier())
    monkeypatch.setattr(cli, "load_pipeline", lambda *models, **options: pipeline)
    out = tmp_path / "r.json"
    assert cli.main(["analyze", str(photos), "--out", str(out)]) == 130
    assert len(json.loads(out.read_text())) == 8
    assert "what was finished is written" in capsys.readouterr().err


def standard_input(monkeypatch: pytest.MonkeyPatch, data: bytes, terminal: bool = False) -> None:
    stream = io.TextIOWrapper(io.BytesIO(data))
    monkeypatch.setattr(stream, "isatty", lambda: terminal)
    monkeypatch.setattr("sys.stdin", stream)


def test_a_picture_comes_from_standard_input_and_goes_to_standard_output(
    photos: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfdbinary: pytest.CaptureFixture[bytes],
) -> None:
    standard_input(monkeypatch, (photos / "a.jpg").read_bytes())
    marked = tmp_path / "marked"
    assert cli.main(["analyze", "-", "--out", "-", "--annotated", str(marked)]) == 0
    captured = capfdbinary.readouterr()
    (line,) = captured.out.splitlines()
    written = json.loads(line)
    assert (written["source"], written["width"], len(written["faces"])) == ("stdin", 64, 2)
    assert b"happy 60%" in captured.err and b"1 image analysed, 2 faces found" in captured.err
    assert os.listdir(marked) == ["stdin.png"]


def test_standard_output_gets_what_a_file_gets(
    photos: Path, tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    (photos / "bad.jpg").write_bytes(b"")
    out = tmp_path / "out.jsonl"
    written = []
    for target in (str(out), "-"):
        assert cli.main(["analyze", str(photos), "--out", target, "--threshold", "0.5"]) == 1
        data = out.read_bytes() if target != "-" else capfdbinary.readouterr().out
        written.append([json.loads(line) | {"seconds": 0} for line in data.splitlines()])
        capfdbinary.readouterr()
    assert written[0] == written[1] and len(written[0]) == 3


@pytest.mark.parametrize("data", [b"", b"no picture"])
def test_standard_input_that_is_no_picture_fails(
    photos: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    data: bytes,
) -> None:
    standard_input(monkeypatch, data)
    assert cli.main(["analyze", "-"]) == 1
    assert "twostage: stdin: is " in capsys.readouterr().err


def test_a_terminal_is_no_picture(
    photos: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    standard_input(monkeypatch, b"", terminal=True)
    assert cli.main(["analyze", "-"]) == 2
    assert "< photo.jpg" in capsys.readouterr().err


def test_a_reader_that_goes_away_ends_it_with_141(photos: Path) -> None:
    code = (
        "import sys; from tests.twostage import test_cli as t; t.cli.load_pipeline = t.stand_ins; "
        "sys.exit(t.cli.main(sys.argv[1:]))"
    )
    for number in range(200):
        Image.new("RGB", (64, 48)).save(photos / f"{number}.png")
    process = subprocess.Popen(
        [sys.executable, "-c", code, "analyze", str(photos), "--out", "-"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=ROOT,
    )
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    assert b"Traceback" not in process.stderr.read()
    assert process.wait(60) == 141


def test_the_version_is_the_packages(capsys: pytest.CaptureFixture[str]) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    with pytest.raises(SystemExit, match="0"):
        cli.main(["--version"])
    assert capsys.readouterr().out == f"twostage {project['version']}\n"


def test_models_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["models"]) == 0
    assert "detector" in capsys.readouterr().out
