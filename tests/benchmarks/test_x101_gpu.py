"""The script for a GPU: its commands, held against their own parsers and configuration."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import x101_gpu
from detection.modeling.config import load_config
from detection.train import build_parser
from eval import detection, detector_training


def test_the_trial_decides_how_many_iterations_fit_and_all_commands_can_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    runs, commands = tmp_path / "runs", list[list[str]]()

    def python(*words: str) -> None:
        commands.append(list(words))
        if words[1] == "detection.train":
            folder = Path(words[words.index("OUTPUT_DIR") + 1])
            folder.mkdir(parents=True)
            (folder / "card.json").write_text(json.dumps({"kind": "detector", "hours": 0.01}))

    monkeypatch.setattr(x101_gpu, "python", python)
    words = ["--data", str(tmp_path), "--runs", str(runs), "--minutes", "2"]
    words += ["--records", str(tmp_path)]
    assert x101_gpu.main([*words, "INPUT.FACE_CROP.SIZE", "64"]) == 0
    assert "1.20 s per iteration: 100 iterations" in capsys.readouterr().err
    trial, training, record, *evaluations = commands
    for command, iterations in ((trial, 30), (training, 100)):
        parsed = build_parser().parse_args(command[2:])
        assert parsed.num_gpus == 1 and len(parsed.train_coco) == 2
        cfg = load_config(parsed.config_file, parsed.opts)
        assert cfg.SOLVER.MAX_ITER == iterations and cfg.SOLVER.AMP.ENABLED
        assert (cfg.MODEL.WEIGHTS, cfg.INPUT.FACE_CROP.SIZE) == ("", 64)
    assert detector_training.main.parser().parse_args(record[2:]).run == runs / "x101_gpu"
    parsed = [detection.main.parser().parse_args(command[2:]) for command in evaluations]
    assert [one.detector[0] for one in parsed] == [str(runs / "x101_gpu")] * 3
    assert {one.out.stem for one in parsed} == {"x101_wider", "x101_portraits", "x101_scenes"}
    assert x101_gpu.main(["--data", str(tmp_path / "none")]) == 2
