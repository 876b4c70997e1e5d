"""The mean of runs' weights, from the command line to a classifier."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from classification.average import average, main
from classification.inference.calibration import Scaling
from classification.inference.classifier import TrainedNetwork, load_network, save_network
from classification.modeling.face_resnet import FaceResNet
from classification.modeling.normalization import Normalization
from faces.command import UserError
from twostage.model_zoo import load_classifier

NETWORK = TrainedNetwork("face_resnet", {"widths": [4], "depths": [1]}, Normalization(0.5, 0.25))


def make_run(
    folder: Path, seed: int, votes: float = 0.0, network: TrainedNetwork = NETWORK
) -> Path:
    folder.mkdir()
    torch.manual_seed(seed)
    state = FaceResNet(**network.model).state_dict()
    for counter in (name for name in state if name.endswith("num_batches_tracked")):
        state[counter] += seed
    save_network(folder / "model.safetensors", state, network)
    training = {
        "recipe": {"architecture": "face_resnet", "votes": votes},
        "parameters": 7,
        "versions": {},
        "precision": "float32",
        "device": "cpu",
        "hours": 1.5,
    }
    (folder / "card.json").write_text(json.dumps({"training": training}))
    return folder


@pytest.fixture
def data(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    lines = ["emotion,pixels,Usage"]
    for number in range(21):
        pixels = " ".join(map(str, rng.integers(0, 256, 48 * 48)))
        lines.append(f"{number % 7},{pixels},{'PublicTest' if number < 14 else 'Training'}")
    path = tmp_path / "fer2013.csv"
    path.write_text("\n".join(lines))
    return path


def test_every_weight_is_the_mean(
    tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = make_run(tmp_path / "a", 1)
    calibrated = replace(NETWORK, calibration=Scaling(2.0))
    second = make_run(tmp_path / "b", 2, votes=0.5, network=calibrated)
    out = tmp_path / "c"
    words = [f"{first}=0.75", f"{second}=0.25", "--data", str(data), "--out", str(out)]
    assert main(words) == 0
    network, mean = load_network(out / "model.safetensors")
    assert network.calibration == Scaling()
    (_, a), (_, b) = (load_network(run / "model.safetensors") for run in (first, second))
    assert set(mean) == set(a)
    for name, value in mean.items():
        if value.is_floating_point():
            torch.testing.assert_close(value, 0.75 * a[name] + 0.25 * b[name])
        else:
            assert torch.equal(value, a[name])
    card = json.loads((out / "card.json").read_text())
    assert [one["share"] for one in card["training"]["averaged"]] == [0.75, 0.25]
    assert card["training"]["hours"] == 3 and card["training"]["recipe"]["votes"] == 0.125
    assert "12% of each target" in card["trained_on"]["votes"]
    assert card["training"]["command"].startswith("python -m classification.average")
    assert load_classifier(str(out), "cpu").probabilities([]).shape == (0, 7)
    kept = (out / "model.safetensors").read_bytes()
    assert main([f"{second}=1", *words[2:]]) == 2
    assert "holds a run already" in capsys.readouterr().err
    assert (out / "model.safetensors").read_bytes() == kept


def test_mistakes_are_one_line(
    tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = make_run(tmp_path / "a", 1)
    wide = TrainedNetwork("face_resnet", {"widths": [8], "depths": [1]}, Normalization(0.5, 0.25))
    other = make_run(tmp_path / "wide", 1, network=wide)
    out = ["--data", str(data), "--out", str(tmp_path / "out")]
    for members, cause in (
        ([f"{first}=0.5", f"{first}=0.4"], "sum to 1"),
        ([f"{first}=0.5", f"{other}=0.5"], "not of the same architecture"),
        (["nobody=1"], "neither a finished run"),
    ):
        assert main([*members, *out]) == 2
        error = capsys.readouterr().err
        assert cause in error and error.count("classification.average:") == 1
    assert not (tmp_path / "out").exists()
    for text in ("=1", "a", "a=0", "a=x", "a=2"):
        assert main([text, *out]) == 2
        assert "not RUN=SHARE" in capsys.readouterr().err
    with pytest.raises(UserError, match="no such weights file"):
        average([(tmp_path / "none.safetensors", 1.0)])
