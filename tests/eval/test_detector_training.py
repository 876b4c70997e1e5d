"""The record of a training: from the run folder's log, card and configuration."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from detection.modeling.config import load_config
from eval import detector_training


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    folder.mkdir()
    overrides = ["SOLVER.MAX_ITER", "20", "SOLVER.IMS_PER_BATCH", "2"]
    (folder / "config.yaml").write_text(load_config("x101_fpn", overrides).dump())
    card = {
        "kind": "detector", "name": "run", "hours": 0.1, "command": "python -m detection.train",
        "commit": "abc", "device": "cpu", "finished": "today", "started_from": "random weights",
        "trained_on": [], "processes": 1, "peak_memory_gb": 2.5,
        "parameters_by_part": {
            "res4": {"all": 5_000_000, "trained": 0},
            "res5": {"all": 3_000_000, "trained": 3_000_000},
            "rpn": {"all": 1_000_000, "trained": 1_000_000},
        },
    }  # fmt: skip
    (folder / "card.json").write_text(json.dumps(card))
    rows = [
        {"iteration": i, "total_loss": 3.0 - i / 10, "loss_cls": 1.0, "time": 1.0 + i % 3}
        for i in range(20)
    ]
    rows[9] |= {"validation/AP": 10.0, "validation/AP50": 30.0}
    rows[19] |= {"validation/AP": 20.0, "validation/AP50": 25.0}
    stale = {"iteration": 4, "total_loss": 99.0, "loss_cls": 9.0}  # before a stop; then repeated
    lines = [json.dumps(row) for row in (*rows[:4], stale, *rows[4:])]
    (folder / "training_log.jsonl").write_text("\n".join(lines) + "\n")
    return folder


def test_a_training_is_recorded_and_drawn(run: Path, tmp_path: Path, capsys) -> None:
    out, picture = tmp_path / "r.json", tmp_path / "r.png"
    words = ["--run", str(run), "--out", str(out), "--picture", str(picture)]
    assert detector_training.main(words) == 0
    one = json.loads(out.read_text())
    assert (one["iterations"], one["pictures_per_iteration"], one["freeze_at"]) == (20, 2, 4)
    assert one["trained"] == "res5, rpn" and one["trained_millions"] == 4.0
    assert one["loss_first"] == pytest.approx((3.0 + 2.9) / 2)
    assert one["loss_last"] == pytest.approx((1.2 + 1.1) / 2)
    assert one["seconds_per_iteration"] == 2.0 and one["peak_memory_gb"] == 2.5
    assert one["best_validation_ap50"] == 0.3 and list(one["validation"]) == ["10", "20"]
    losses = one["loss_by_iteration"]
    assert losses["iteration"] == list(range(20)) and max(losses["total_loss"]) == 3.0
    assert losses["loss_cls"] == [1.0] * 20
    assert one["training_commit"] == "abc" and one["command"].startswith("python -m eval.detector")
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert "res5, rpn" in capsys.readouterr().out


@pytest.mark.parametrize("missing", ["card.json", "training_log.jsonl", "config.yaml"])
def test_what_is_no_finished_run_is_one_line(run: Path, missing: str, capsys) -> None:
    (run / missing).unlink()
    assert detector_training.main(["--run", str(run)]) == 2
    error = capsys.readouterr().err
    assert "no finished run" in error and error.count("\n") == 1
