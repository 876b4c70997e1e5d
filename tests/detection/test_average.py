"""The mean of detectors' weights, from the command line to a run that other commands take."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from detectron2.modeling import build_model
from safetensors.torch import load_file

from detection import average
from detection.inference.detectron import load_run
from detection.modeling import checkpoints
from detection.modeling.config import load_config
from faces.files import file_sha256

CARD = {"kind": "detector", "chosen_on": [], "hours": 0.5, "metrics": {"x": 1}, "command": "c"}


def make_run(folder: Path, seed: int, data: str, *changes: str) -> Path:
    folder.mkdir()
    cfg = load_config("mobilenet_fpn", ["MODEL.WEIGHTS", "", *changes])
    torch.manual_seed(seed)
    model = build_model(cfg)
    for value in model.parameters():
        torch.nn.init.normal_(value, std=0.01)
    checkpoints.save_weights(folder / checkpoints.MODEL_FILE, model)
    (folder / checkpoints.CONFIG_FILE).write_text(cfg.dump())
    card = CARD | {"name": folder.name, "trained_on": [{"set": data}], "score_threshold": 0.7}
    (folder / checkpoints.CARD_FILE).write_text(json.dumps(card))
    return folder


def test_every_weight_is_the_mean(tmp_path: Path) -> None:
    first = make_run(tmp_path / "a", 1, "one", "MODEL.SCORE_THRESHOLD", "0.7")
    second = make_run(tmp_path / "b", 2, "two")
    out = tmp_path / "deep" / "c"
    assert average.main([f"{first}=0.25", f"{second}=0.75", "--out", str(out)]) == 0
    a, b, mean = (load_file(run / checkpoints.MODEL_FILE) for run in (first, second, out))
    assert mean.keys() == a.keys()
    for name, value in mean.items():
        torch.testing.assert_close(value, 0.25 * a[name] + 0.75 * b[name])
    card = json.loads((out / checkpoints.CARD_FILE).read_text())
    assert card["name"] == "c" and card["hours"] == 1.0 and "metrics" not in card
    assert card["trained_on"] == [{"set": "one"}, {"set": "two"}]
    assert [one["share"] for one in card["averaged"]] == [0.25, 0.75]
    assert card["averaged"][1]["sha256"] == file_sha256(second / checkpoints.MODEL_FILE)
    assert "score_threshold" not in card and card["command"].startswith("python -m detection.av")
    assert load_run(out).score_threshold == 0.7


def test_what_cannot_be_averaged_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_run(tmp_path / "a", 1, "one")
    other = make_run(tmp_path / "b", 1, "one", "MODEL.FPN.OUT_CHANNELS", "64")
    (tmp_path / "empty").mkdir()
    there = str(tmp_path / "empty")
    for words, message in (
        ([f"{run}=0.5", f"{run}=0.4", "--out", str(tmp_path / "c")], "do not sum to 1"),
        ([f"{run}=0.5", f"{other}=0.5", "--out", str(tmp_path / "c")], "does not fit"),
        ([f"{run}=0.5", f"{there}=0.5", "--out", str(tmp_path / "c")], "no finished run"),
        ([f"{run}=1", "--out", there], "exists already"),
    ):
        assert average.main(words) == 2
        assert message in capsys.readouterr().err
        assert not (tmp_path / "c").exists()
