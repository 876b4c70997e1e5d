import json
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.rounds import contest
from benchmarks.rounds.picture import Point, draw
from benchmarks.rounds.run_classifier import MINIMUM_CALLS, ms_per_item
from benchmarks.rounds.run_detector import letterbox
from faces.command import UserError
from faces.images import read_image


def test_every_contestant_runs_once_a_round_and_the_order_turns(tmp_path: Path):
    log = tmp_path / "log"

    def run(name: str, turn: int) -> list[str]:
        code = f"open({str(log)!r}, 'a').write('{name}{turn} ')"
        return [sys.executable, "-c", code]

    contest.take_turns(["a", "b", "c"], 2, run, threads=1)
    assert log.read_text().split() == ["a0", "b0", "c0", "b1", "c1", "a1"]


def test_contestants_get_threads_and_packages(tmp_path: Path):
    target = tmp_path / "environment"
    code = (
        "import json, os; "
        f"json.dump([os.environ[k] for k in ('OMP_NUM_THREADS', 'PYTHONPATH')], "
        f"open({str(target)!r}, 'w'))"
    )
    contest.take_turns(["a"], 1, lambda name, turn: [sys.executable, "-c", code], threads=3)
    threads, path = json.loads(target.read_text())
    assert threads == "3"
    assert path.split(":")[:2] == [str(contest.PYTHON_PEERS), str(contest.ROOT)]


def test_a_failing_contestant_is_named_with_its_last_line():
    code = "import sys; sys.exit('first\\nno such model')"
    with pytest.raises(UserError, match="slow one: its measurement failed: no such model"):
        contest.take_turns(["slow one"], 1, lambda *_: [sys.executable, "-c", code], threads=1)


def test_spread_is_median_least_most():
    found = contest.spreads([{"1": 4.0, "16": 1.0}, {"1": 2.0, "16": 3.0}, {"1": 9.0, "16": 2.0}])
    assert found["1"] == contest.Spread(4.0, 2.0, 9.0)
    assert found["16"] == contest.Spread(2.0, 1.0, 3.0)


def test_batches_are_taken_in_turn_and_time_is_per_item(monkeypatch):
    clock = iter(np.arange(0, 1000, 0.5))
    monkeypatch.setattr("benchmarks.rounds.run_classifier.time.perf_counter", lambda: next(clock))
    seen = []
    ms = ms_per_item(lambda items: seen.append(list(items)), [0, 1, 2], batch=2, seconds=0.0)
    assert ms == 1000 * 0.5 / 2
    assert seen[:4] == [[0, 1], [0, 1], [2, 0], [1, 2]]
    assert len(seen) == 1 + MINIMUM_CALLS


def test_node_missing_is_said(monkeypatch):
    monkeypatch.setattr(contest.shutil, "which", lambda name: None)
    with pytest.raises(UserError, match=r"install Node\.js"):
        contest.node_command("human")


def test_run_folders_give_plain_file_names():
    assert contest.file_stem("runs/fast/x") == "runs_fast_x"
    assert contest.file_stem("../a") == "a"


def test_letterbox_keeps_the_aspect_and_centres():
    image = np.zeros((100, 300, 3), np.uint8)
    boxed = letterbox(image, 640, 480)
    assert boxed.shape == (480, 640, 3)
    rows = np.flatnonzero((boxed == 0).all(axis=(1, 2)))
    assert len(rows) == 213
    assert abs(rows[0] - (479 - rows[-1])) <= 1


def test_picture_is_a_png_of_all_panels(tmp_path: Path):
    points = [
        Point("ours", True, (0.2, 0.1, 0.4), (70, 68, 72)),
        Point("fer", False, (0.3, 0.3, 0.3), (66, 64, 67)),
    ]
    path = tmp_path / "speed.png"
    draw([("batch 1", points), ("batch 64", points)], "accuracy (%)", "face", path)
    image = read_image(path.read_bytes(), name="speed.png")
    assert image.shape[1] == 2 * 660
    blue, red = (
        (np.abs(image.astype(int) - c).max(2) < 8).any(0) for c in ((0, 114, 178), (213, 94, 0))
    )
    for half in (slice(0, 660), slice(660, None)):
        assert blue[half].any()
        assert red[half].any()
    assert [file.name for file in tmp_path.iterdir()] == ["speed.png"]
