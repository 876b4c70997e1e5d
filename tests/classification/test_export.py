"""Exporting a run: half precision, same answers, a card that knows its file."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from classification.export import main
from classification.inference.classifier import NetworkClassifier, TrainedNetwork, save_network
from classification.modeling.face_resnet import FaceResNet
from classification.modeling.normalization import Normalization

NETWORK = TrainedNetwork(
    "face_resnet", {"widths": [8, 16], "depths": [1, 1]}, Normalization(0.5, 0.25)
)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    folder.mkdir()
    torch.manual_seed(0)
    save_network(folder / "model.safetensors", FaceResNet(**NETWORK.model).state_dict(), NETWORK)
    (folder / "card.json").write_text('{"task": "emotions"}')
    return folder


def test_export_halves_the_file_and_keeps_the_answers(run: Path, tmp_path: Path) -> None:
    assert main([str(run), "small", "--weights", str(tmp_path / "weights")]) == 0
    target = tmp_path / "weights/small.safetensors"
    source = run / "model.safetensors"
    assert target.stat().st_size < 0.6 * source.stat().st_size
    card = json.loads((tmp_path / "weights/small.json").read_text())
    assert card["sha256"] == hashlib.sha256(target.read_bytes()).hexdigest()
    assert card["task"] == "emotions"
    images = np.random.default_rng(0).integers(0, 256, (9, 48, 48), dtype=np.uint8)
    full, half = (
        NetworkClassifier.load(path, torch.device("cpu"), "x").probabilities_of_grey(images)
        for path in (source, target)
    )
    assert np.abs(full - half).max() < 5e-3


def test_unfinished_runs_are_refused(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (run / "card.json").unlink()
    for folder, cause in ((run, "card.json"), (tmp_path / "none", "no such weights")):
        assert main([str(folder), "small", "--weights", str(tmp_path / "weights")]) == 2
        assert cause in capsys.readouterr().err
    assert not (tmp_path / "weights").exists()
