"""What ``eval.video`` counts, against counts by hand; the command on clips of squares."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

pytest.importorskip("av", reason="the extra video is not installed")
pytest.importorskip("motmetrics", reason="the extra video is not installed")

from eval import video
from eval.data import options
from eval.data.clips import Clip, ClipFace, clip_truth
from eval.tables import read_rows, render
from eval.video import count_clip, summarise
from faces.emotions import EMOTIONS
from faces.types import Box, Detection, EmotionProbabilities, Face
from tests.stand_ins import (
    ScriptedClassifier,
    ScriptedDetector,
    brightness,
    probabilities,
)
from tests.video.conftest import find_squares, frame, write_video
from video.analyze import VideoFace

PLACES = {0: Box(0, 0, 40, 40), 1: Box(200, 0, 240, 40)}


def truth(count: int, hidden: Sequence[int] = ()) -> Clip:
    """Two people for so many frames, 10 a second; the second is covered in some of them."""
    frames = [
        [
            ClipFace(0, PLACES[0], EMOTIONS.index("happy"), 1.0),
            ClipFace(1, PLACES[1], EMOTIONS.index("sad"), 0.2 if i in hidden else 1.0),
        ]
        for i in range(count)
    ]
    return Clip(Path("a.mp4"), 10.0, frames)


def answer(track: int | None, place: int, emotion: str, mood: str = "") -> VideoFace:
    row = EmotionProbabilities.from_row(probabilities(**{emotion: 0.9}))
    smoothed = EmotionProbabilities.from_row(probabilities(**{mood or emotion: 0.9}))
    return VideoFace(track, Face(Detection(PLACES[place], 0.9), row), smoothed, mood or emotion)


def test_right_answers_have_full_marks() -> None:
    answers = [(answer(7, 0, "happy"), answer(3, 1, "sad"))] * 20
    row = summarise([count_clip(truth(20), answers, 0.5)])
    assert row["idf1"] == row["mota"] == row["recall"] == row["accuracy"] == 1
    assert row["switches"] == row["flicker"] == row["true_changes"] == 0 and row["faces"] == 40


def test_tracks_that_swap_half_way_have_half_of_idf1() -> None:
    first = (answer(1, 0, "happy"), answer(2, 1, "sad"))
    second = (answer(2, 0, "happy"), answer(1, 1, "sad"))
    row = summarise([count_clip(truth(20), [first] * 10 + [second] * 10, 0.5)])
    assert row["idf1"] == pytest.approx(0.5) and row["switches"] == 2
    assert row["mota"] == pytest.approx((40 - 2) / 40)


def test_covered_faces_need_not_be_found_and_do_not_count() -> None:
    hidden = range(5, 15)
    both = (answer(1, 0, "happy"), answer(2, 1, "sad"))
    for while_hidden in (both, both[:1]):
        answers = [while_hidden if i in hidden else both for i in range(20)]
        row = summarise([count_clip(truth(20, hidden), answers, 0.5)])
        assert row["idf1"] == row["mota"] == 1 and row["faces"] == 30


def test_flicker_is_changes_per_second_and_face() -> None:
    answers = [
        (answer(1, 0, "fear" if i % 2 else "happy", "happy"), answer(2, 1, "sad"))
        for i in range(21)
    ]
    row = summarise([count_clip(truth(21), answers, 0.5)])
    assert row["flicker"] == pytest.approx(20 / 4) and row["mood_flicker"] == 0
    assert row["accuracy"] == pytest.approx((11 + 21) / 42) and row["mood_accuracy"] == 1
    assert row["mood_gain"] == pytest.approx(10 / 42)


def test_intervals_are_those_of_resampled_clips() -> None:
    good = count_clip(truth(20), [(answer(1, 0, "happy"), answer(2, 1, "sad"))] * 20, 0.5)
    bad = count_clip(truth(20), [()] * 20, 0.5)
    row = summarise([good, bad])
    assert row["recall"] == 0.5 and row["recall_ci"] == (0, 1)


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    """One clip of a white square that turns grey after a second."""
    folder = tmp_path / "clips"
    folder.mkdir()
    squares = [(10 + i, 20, 30, 250 if i < 10 else 70) for i in range(20)]
    write_video(folder / "a.mp4", (frame([square]) for square in squares))
    emotion = [EMOTIONS.index("happy" if light == 250 else "sad") for *_, light in squares]
    faces = [
        [ClipFace(0, Box(x, y, x + side, y + side), emotion[i], 1.0)]
        for i, (x, y, side, _) in enumerate(squares)
    ]
    info = {"limits": "squares", "command": "by hand", "match_iou": 0.5}
    document = {"info": info, "clips": [clip_truth("a.mp4", 10, faces)]}
    (folder / "truth.json").write_text(json.dumps(document))
    return folder


def test_the_command_writes_a_record_that_the_tables_show(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    detector, classifier = ScriptedDetector(find_squares), ScriptedClassifier(brightness)
    monkeypatch.setattr(options, "load_detectors", lambda *words: [detector])
    monkeypatch.setattr(options, "load_classifiers", lambda *words: [classifier])
    out = tmp_path / "results" / "clips.json"
    words = ["--clips", str(clips), "--out", str(out), "--detect-every", "1", "2"]
    assert video.main(words) == 0
    rows = read_rows(out.parent)
    assert [row["detect_every"] for row in rows] == [1, 2]
    assert rows[0]["idf1"] == rows[0]["accuracy"] == rows[0]["mood_accuracy"] == 1
    assert rows[0]["true_changes"] == pytest.approx(1 / 1.9)
    assert "Faces followed through composed clips" in render(rows)


def test_bad_arguments_are_refused_in_one_line(
    clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for words in (["--clips", str(tmp_path)], ["--clips", str(clips), "--smoothing", "-1"]):
        assert video.main(words) == 2
        assert len(capsys.readouterr().err.strip().splitlines()) == 1
