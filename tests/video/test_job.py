"""Videos → tables, notes, annotated videos, charts; stopped and gone on; the command."""

from __future__ import annotations

import base64
import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pillow

av = pytest.importorskip("av", reason="the extra video is not installed")

from faces.emotions import EMOTIONS  # noqa: E402
from faces.pipeline import Pipeline  # noqa: E402
from tests.stand_ins import ScriptedClassifier, ScriptedDetector, brightness  # noqa: E402
from tests.video.conftest import find_squares, frame, write_video  # noqa: E402
from twostage import cli, video_command  # noqa: E402
from twostage.pipeline import Pipeline as ApiPipeline  # noqa: E402
from video import job, render  # noqa: E402
from video.analyze import VideoOptions, analyze_video  # noqa: E402
from video.job import Outputs, VideoSummary, analyze_sources, notes_path  # noqa: E402
from video.tables import ROW_COLUMNS, TRACK_COLUMNS, tracks_path  # noqa: E402


def analyse(pipeline: Pipeline, source: Path, outputs: Outputs, **options: Any) -> VideoSummary:
    (summary,) = analyze_sources(
        lambda: pipeline, [str(source)], outputs, VideoOptions(**options), models={}
    )
    return summary


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def test_every_face_of_every_frame_has_a_row(
    squares_pipeline: Pipeline, moving: Path, tmp_path: Path
) -> None:
    out = tmp_path / "new" / "faces.jsonl"
    summary = analyse(squares_pipeline, moving, Outputs(out))
    rows = read_jsonl(out)
    assert len(rows) == 40 and summary.frames == 20 and summary.faces == 40
    assert [list(row) for row in rows] == [list(ROW_COLUMNS)] * 40
    assert {row["track"] for row in rows} == {1, 2}
    assert [row["x1"] for row in rows if row["track"] == 1] == [10 + i for i in range(20)]
    left = [row for row in rows if row["track"] == 1]
    assert [row["labels"] for row in left] == ["happy"] * 10 + ["sad"] * 10
    assert left[0]["mood"] == "happy" and left[-1]["mood"] == "sad"
    assert left[9]["smoothed_sad"] == pytest.approx(left[9]["sad"])  # the change is no earlier


def test_the_table_of_tracks_tells_what_each_showed(
    squares_pipeline: Pipeline, moving: Path, tmp_path: Path
) -> None:
    out = tmp_path / "faces.jsonl"
    analyse(squares_pipeline, moving, Outputs(out))
    first, second = read_jsonl(tracks_path(out))
    assert list(first) == list(TRACK_COLUMNS)
    assert (first["first"], first["last"], first["frames"]) == (0.0, 1.9, 20)
    assert [mood for _, mood in first["changes"]] == ["happy", "sad"]
    assert first["changes"][1][0] == 1.0
    assert second["share_happy"] == 1 and second["changes"] == [[0.0, "happy"]]
    crop = Pillow.open(io.BytesIO(base64.b64decode(first["best_crop"])))
    assert np.asarray(crop).mean() > 150


def test_csv_and_parquet_hold_the_same_rows(
    squares_pipeline: Pipeline, moving: Path, tmp_path: Path
) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    for name in ("a.jsonl", "a.csv", "a.parquet"):
        analyse(squares_pipeline, moving, Outputs(tmp_path / name))
    expected = read_jsonl(tmp_path / "a.jsonl")
    assert parquet.read_table(tmp_path / "a.parquet").to_pylist() == expected
    with open(tmp_path / "a.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["sad"]) for row in rows] == [row["sad"] for row in expected]
    assert [row["labels"] for row in rows] == [row["labels"] for row in expected]
    assert "best_crop" not in (tmp_path / "a.tracks.csv").read_text().splitlines()[0]


class Stopping:
    """A detector that is stopped by Ctrl-C, or by a full disk, at its n-th frame."""

    name = "stopping"
    score_threshold = 0.5

    def __init__(self, at: int | None, error: BaseException) -> None:
        self.at, self.error, self.calls = at, error, 0

    def detect(self, images: Any, min_score: float | None = None) -> Any:
        if self.calls == self.at:
            raise self.error
        self.calls += 1
        return [find_squares(image) for image in images]


@pytest.mark.parametrize("options", [{}, {"every": 0.25}, {"detect_every": 3}])
@pytest.mark.parametrize("ends_half", [False, True])
def test_a_stopped_analysis_goes_on_to_the_same_tables(
    moving: Path, tmp_path: Path, options: dict[str, Any], ends_half: bool
) -> None:
    def pipeline(at: int | None) -> Pipeline:
        detector = Stopping(at, KeyboardInterrupt())
        return Pipeline(detector, ScriptedClassifier(brightness), margin=0.0)

    whole, out = tmp_path / "whole.jsonl", tmp_path / "out.jsonl"
    analyse(pipeline(None), moving, Outputs(whole), **options)
    with pytest.raises(KeyboardInterrupt):
        analyse(pipeline(4), moving, Outputs(out), **options)
    stopped = read_jsonl(out)  # what was finished is there
    assert 0 < len(stopped) < len(read_jsonl(whole))
    if ends_half:  # as after a crash in the midst of writing
        with notes_path(out).open("ab") as file:
            file.write(b'{"frame": 7, "ti')
    again = pipeline(None)
    summary = analyse(again, moving, Outputs(out), **options)
    assert summary.noted > 0 and again.detector.calls < 20  # type: ignore[attr-defined]
    assert out.read_bytes() == whole.read_bytes()
    assert tracks_path(out).read_bytes() == tracks_path(whole).read_bytes()
    assert not notes_path(out).exists()


def test_notes_of_another_analysis_are_not_used(moving: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    stopping = Stopping(4, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        analyse(Pipeline(stopping, ScriptedClassifier()), moving, Outputs(out))
    fresh = Stopping(None, KeyboardInterrupt())
    summary = analyse(Pipeline(fresh, ScriptedClassifier()), moving, Outputs(out), every=0.2)
    assert summary.noted == 0 and fresh.calls == 10


def test_a_full_disk_keeps_the_former_table_and_the_notes(moving: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    out.write_text("former")
    stopping = Stopping(4, OSError(28, "No space left on device"))
    with pytest.raises(OSError, match="No space left"):
        analyse(Pipeline(stopping, ScriptedClassifier()), moving, Outputs(out))
    assert out.read_text() == "former" and len(read_jsonl(notes_path(out))) == 5
    assert sorted(p.name for p in tmp_path.iterdir() if p.suffix == ".part") == []


def test_the_annotated_video_has_all_frames_boxes_and_sound(
    squares_pipeline: Pipeline, tmp_path: Path
) -> None:
    images = [frame([(40, 40, 40, 250)]) for _ in range(20)]
    source = write_video(tmp_path / "a.mp4", images, sound=True)
    out = tmp_path / "marked.mp4"
    analyse(squares_pipeline, source, Outputs(annotated=out), every=0.5)
    with av.open(str(out)) as container:
        assert container.streams.video[0].codec_context.name == "h264"
        assert container.streams.video[0].codec_context.pix_fmt == "yuv420p"
        found = list(container.decode(video=0))
    assert [f.time for f in found] == pytest.approx([i / 10 for i in range(20)], abs=0.01)
    marked = found[12].to_ndarray(format="rgb24").astype(int)
    assert np.abs(marked - images[0]).max() > 100
    yellow = (marked[..., 0] - marked[..., 2]) > 80  # happy's colour, around the box only
    assert yellow.sum() > 50 and not yellow[50:70, 50:70].any()
    with av.open(str(out)) as container:
        sound = sum(one.samples for one in container.decode(audio=0))
    assert sound == pytest.approx(2 * 16000, abs=3000)
    assert not notes_path(out).exists()


def test_emoji_cover_the_faces(squares_pipeline: Pipeline, moving: Path) -> None:
    one = next(iter(analyze_video(squares_pipeline, moving)))
    assert one.image is not None
    drawn = render.draw_frame(one.image, one, render.Overlay.EMOJI).astype(int)
    middle = drawn[30:40, 15:35]
    assert np.abs(middle - one.image[30:40, 15:35]).max() > 100
    assert (drawn[80:] == one.image[80:]).all()


def test_each_emotion_has_a_drawing_of_its_own() -> None:
    drawings = [np.asarray(render.emoji(name, 64)) for name in EMOTIONS]
    assert all(drawing.shape == (64, 64, 4) for drawing in drawings)
    for i, drawing in enumerate(drawings):
        assert all((drawing != other).any() for other in drawings[:i])


def test_the_chart_is_a_picture_also_without_faces(moving: Path, tmp_path: Path) -> None:
    for name, detector in (
        ("faces", ScriptedDetector(find_squares)),
        ("none", ScriptedDetector(())),
    ):
        out = tmp_path / f"{name}.png"
        analyse(Pipeline(detector, ScriptedClassifier(brightness)), moving, Outputs(chart=out))
        with Pillow.open(out) as chart:
            assert chart.format == "PNG" and chart.width > 600


def test_boxes_are_predicted_between_detections(moving: Path) -> None:
    detector = ScriptedDetector(find_squares)
    pipeline = Pipeline(detector, ScriptedClassifier(brightness), margin=0.0)
    found = list(analyze_video(pipeline, moving, VideoOptions(detect_every=2)))
    assert len(detector.calls) == 10
    for one in found[4:]:
        assert [face.track for face in one.faces] == [1, 2]
        assert one.faces[0].face.box.x1 == pytest.approx(10 + one.index, abs=1.5)


def test_memory_does_not_grow_with_the_length_of_a_video() -> None:
    from video.analyze import Follower, LiveLook
    from video.frames import Frame
    from video.mood import SmoothingOptions
    from video.tracking import TrackingOptions

    pipeline = Pipeline(ScriptedDetector(find_squares), ScriptedClassifier(brightness), margin=0.0)
    follower = Follower("a", TrackingOptions(), SmoothingOptions())
    for number in range(1500):
        image = frame([((37 * (number // 10)) % 120, 20, 30, 250)])
        follower.take(LiveLook(Frame(number, number / 10, image), False, pipeline, 0.2))
    assert len(follower._smoothers) < 10


def test_the_api_yields_frames(squares_pipeline: Pipeline, moving: Path) -> None:
    pipeline = ApiPipeline(squares_pipeline.detector, squares_pipeline.classifier, margin=0.0)
    frames = pipeline.analyze_video(moving, every=0.5)
    assert isinstance(frames, Iterator)
    assert [len(one.faces) for one in frames] == [2, 2, 2, 2]


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch, squares_pipeline: Pipeline) -> list[str]:
    """The names of the models that the command loads; the stand-ins are loaded in their place."""
    calls: list[str] = []

    def load(detector: str, classifier: str, **options: Any) -> Pipeline:
        calls.append(detector)
        return squares_pipeline

    monkeypatch.setattr(video_command, "load_pipeline", load)
    return calls


def test_the_command_writes_all_and_tells_it(
    loaded: list[str], moving: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, marked, chart = (str(tmp_path / name) for name in ("a.csv", "a.mp4", "a.png"))
    arguments = ["video", str(moving), "--out", out, "--annotated", marked, "--chart", chart]
    assert cli.main([*arguments, "--fps", "5", "--overlay", "emoji"]) == 0
    shown = capsys.readouterr().out
    assert "10 frames, 20 faces, 2 tracks" in shown and f"wrote {out}" in shown
    assert all(Path(name).stat().st_size > 100 for name in (out, marked, chart))
    assert len(loaded) == 1


def test_one_bad_source_among_several_ends_with_status_1(
    loaded: list[str], moving: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "a.jsonl"
    assert cli.main(["video", str(moving), "missing.mp4", str(moving), "--out", str(out)]) == 1
    captured = capsys.readouterr()
    assert captured.err.count("missing.mp4: no such file") == 1
    assert len(read_jsonl(out)) == 80


@pytest.mark.parametrize(
    "arguments",
    [
        ["missing.mp4", "--out", "a.csv"],
        ["VIDEO"],
        ["VIDEO", "--out", "a.txt"],
        ["VIDEO", "--out", "."],
        ["VIDEO", "--annotated", "a.avi"],
        ["VIDEO", "--chart", "a.jpg"],
        ["VIDEO", "--out", "a.csv", "--threshold", "2"],
        ["camera:77", "--out", "a.csv"],
    ],
)
def test_bad_arguments_exit_2_with_one_line_and_leave_no_table(
    arguments: list[str],
    loaded: list[str],
    moving: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    words = [str(moving) if word == "VIDEO" else word for word in arguments]
    assert cli.main(["video", *words]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1
    assert not (tmp_path / "a.csv").exists() and loaded == []


def test_without_pyav_the_command_says_how_to_get_it(
    loaded: list[str],
    moving: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "av", None)
    assert cli.main(["video", str(moving), "--out", "a.csv"]) == 2
    assert "make setup EXTRAS=video" in capsys.readouterr().err


def test_a_live_source_is_annotated_as_it_comes(
    squares_pipeline: Pipeline, moving: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from video.frames import open_frames

    def live(*arguments: Any) -> Any:
        frames = open_frames(*arguments)
        frames.live = True
        return frames

    monkeypatch.setattr(job, "open_frames", live)
    detector = Stopping(6, KeyboardInterrupt())
    pipeline = Pipeline(detector, ScriptedClassifier(brightness), margin=0.0)
    out = Outputs(tmp_path / "a.jsonl", tmp_path / "a.mp4")
    with pytest.raises(KeyboardInterrupt):  # how a camera is stopped
        analyse(pipeline, moving, out)
    assert len(read_jsonl(tmp_path / "a.jsonl")) == 12
    with av.open(str(tmp_path / "a.mp4")) as container:
        assert len(list(container.decode(video=0))) == 6
