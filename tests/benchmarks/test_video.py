"""The benchmark of videos from end to end, with stand-ins for the models."""

from __future__ import annotations

from pathlib import Path

import pytest

av = pytest.importorskip("av", reason="the extra video is not installed")

from benchmarks import video  # noqa: E402
from eval.records import report  # noqa: E402
from eval.tables import read_rows, render  # noqa: E402
from faces.pipeline import Pipeline  # noqa: E402
from tests.stand_ins import ScriptedClassifier, ScriptedDetector, brightness  # noqa: E402
from tests.video.conftest import find_squares, frame, write_video  # noqa: E402
from video.frames import open_frames  # noqa: E402


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    squares = ((10 + i, 20, 30, 250) for i in range(20))
    return write_video(tmp_path / "clip.mp4", (frame([square]) for square in squares))


def test_a_video_is_scaled_and_repeated_without_a_gap(clip: Path, tmp_path: Path) -> None:
    video.loop(clip, (320, 192), 5.0, tmp_path / "looped.mp4")
    found = list(open_frames(tmp_path / "looped.mp4"))
    assert len(found) == 60 and found[0].image.shape == (192, 320, 3)
    assert [one.time for one in found] == pytest.approx([i / 10 for i in range(60)], abs=0.01)
    assert abs(found[20].image.astype(int) - found[0].image).mean() < 4


def test_the_record_has_speed_stages_and_memory(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline = Pipeline(ScriptedDetector(find_squares), ScriptedClassifier(brightness), margin=0.0)
    monkeypatch.setattr(video, "load_pipeline", lambda *names: pipeline)
    monkeypatch.setattr(report, "processor_class", lambda: "AVX2, float32")
    out = tmp_path / "results" / "video_speed.json"
    words = [str(clip), "--seconds", "4", "--size", "160x96", "--detect-every", "1", "2"]
    assert video.main([*words, "--out", str(out)]) == 0
    rows = read_rows(out.parent)
    assert [(row["size"], row["detect_every"], row["frames"]) for row in rows] == [
        ("160x96", 1, 40),
        ("160x96", 2, 40),
    ]
    for row in rows:
        stages = sum(row[f"ms_{name}"] for name in ("decode", "detect", "classify", "rest"))
        assert stages == pytest.approx(1000 / row["frames_per_second"])
        assert row["faces"] == 1 and row["memory_peak_mb"] >= row["memory_after_mb"] > 0
    assert "Videos: frames per second" in render(rows)


def test_a_missing_video_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert video.main([str(tmp_path / "none.mp4")]) == 2
    assert "none.mp4: no such file" in capsys.readouterr().err
