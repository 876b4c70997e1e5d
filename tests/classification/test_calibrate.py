"""Calibrating a run and a shipped classifier, from the command line to the pipeline's answers."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from classification import calibrate
from classification.calibrate import find_files, main
from classification.data.ferplus import FERPLUS_CLASSES
from classification.inference.calibration import negative_log_likelihood, one_hot, rescale
from classification.inference.classifier import (
    NetworkClassifier,
    TrainedNetwork,
    load_network,
    save_network,
)
from classification.modeling.face_resnet import FaceResNet
from classification.modeling.normalization import Normalization
from faces.command import UserError
from faces.emotions import EMOTIONS

NETWORK = TrainedNetwork("face_resnet", {"widths": [4], "depths": [1]}, Normalization(0.5, 0.25))
FERPLUS_ORDER = ("neutral", "happy", "surprise", "sad", "angry", "disgust", "fear")
PICTURES = np.random.default_rng(0).integers(0, 256, (60, 48, 48), dtype=np.uint8)


def answers(weights: Path) -> NDArray[np.float64]:
    classifier = NetworkClassifier.load(weights, torch.device("cpu"), "x")
    return classifier.probabilities_of_grey(PICTURES).astype(np.float64)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A network of random weights, far too sure of itself, with labels drawn from its answers."""
    folder = tmp_path / "run"
    folder.mkdir()
    torch.manual_seed(0)
    network = FaceResNet(**NETWORK.model)
    torch.nn.init.normal_(network.head.weight, std=1.5)
    save_network(folder / "model.safetensors", network.state_dict(), NETWORK)
    (folder / "card.json").write_text('{"task": "emotions"}')
    rng = np.random.default_rng(1)
    likely = rescale(answers(folder / "model.safetensors"), temperature=4.0)
    lines, votes = ["emotion,pixels,Usage"], [",".join(FERPLUS_CLASSES)]
    for picture, p in zip(PICTURES, likely, strict=True):
        pixels = " ".join(map(str, picture.ravel()))
        lines.append(f"{rng.choice(7, p=p)},{pixels},PublicTest")
        seven = rng.multinomial(10, p)
        cast = [str(seven[EMOTIONS.index(emotion)]) for emotion in FERPLUS_ORDER]
        votes.append(",".join([*cast, "0", "0", "0"]))
    (tmp_path / "fer2013.csv").write_text("\n".join(lines))
    (tmp_path / "votes.csv").write_text("\n".join(votes))
    return folder


def test_a_run_is_calibrated_in_place(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights, data = run / "model.safetensors", str(tmp_path / "fer2013.csv")
    before = answers(weights)
    assert main([str(run), "--data", data]) == 0
    assert "temperature" in capsys.readouterr().out
    network, _ = load_network(weights)
    assert network.uncalibrated() == NETWORK
    assert network.calibration(before).max() < before.max()
    after = answers(weights)
    c = network.calibration
    expected = rescale(before, c.temperature, c.smoothing, c.slope, c.mixing, c.biases)
    np.testing.assert_allclose(after, expected, atol=1e-6)
    card = json.loads((run / "card.json").read_text())
    figures = card["calibration"]
    assert card["task"] == "emotions" and "sha256" not in card
    assert figures["truth"] == "labels" and figures["pictures"] == 60
    assert list(figures["biases"]) == list(EMOTIONS)
    assert tuple(figures["biases"].values()) == c.biases
    assert np.array_equal(figures["mixing"], c.mixing)
    labels = [int(line[0]) for line in (tmp_path / "fer2013.csv").read_text().split("\n")[1:]]
    for key, p in (("before", before), ("after", after)):
        nll = negative_log_likelihood(p, one_hot(labels, 7))
        assert figures[key]["nll"] == pytest.approx(nll, abs=1e-5)
    assert figures["after"]["nll"] < figures["before"]["nll"]
    right = float((after.argmax(1) == labels).mean())
    assert card["public_test"]["accuracy"] == pytest.approx(right)

    assert main([str(run), "--data", data]) == 0  # again, from the network itself
    again, _ = load_network(weights)
    assert again.calibration == network.calibration


@pytest.mark.parametrize("share", [1.0, 0.5])
def test_the_truth_is_what_was_taught(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], share: float
) -> None:
    before = answers(run / "model.safetensors")
    data = ["--data", str(tmp_path / "fer2013.csv")]
    with_votes = [*data, "--ferplus", str(tmp_path / "votes.csv")]
    assert main([str(run), *with_votes]) == 2
    assert "held against labels" in capsys.readouterr().err
    card = {"training": {"recipe": {"votes": share}}}
    (run / "card.json").write_text(json.dumps(card))
    assert main([str(run), *data]) == 2
    assert "add --ferplus" in capsys.readouterr().err
    assert main([str(run), *with_votes]) == 0
    figures = json.loads((run / "card.json").read_text())["calibration"]
    expected = "shares of FER+'s votes" if share == 1 else "50% labels, 50% shares of FER+'s votes"
    assert figures["truth"] == expected
    labels = [int(line[0]) for line in (tmp_path / "fer2013.csv").read_text().split("\n")[1:]]
    rows = [line.split(",") for line in (tmp_path / "votes.csv").read_text().split("\n")[1:]]
    people = [[int(row[FERPLUS_ORDER.index(emotion)]) for emotion in EMOTIONS] for row in rows]
    truth = (1 - share) * np.eye(7)[labels] + share * np.array(people) / 10
    nll = negative_log_likelihood(before, truth)
    assert figures["before"]["nll"] == pytest.approx(nll, abs=1e-5)
    assert figures["after"]["ece"] < figures["before"]["ece"]


def test_a_shipped_classifiers_card_keeps_its_sum(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calibrate, "find_files", lambda name: find_files(name, tmp_path))
    weights = tmp_path / "small.safetensors"
    (run / "model.safetensors").rename(weights)
    (tmp_path / "small.json").write_text('{"sha256": "old"}')
    assert main(["small", "--data", str(tmp_path / "fer2013.csv")]) == 0
    card = json.loads((tmp_path / "small.json").read_text())
    assert card["sha256"] == hashlib.sha256(weights.read_bytes()).hexdigest()


def test_mistakes_are_one_line(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = str(tmp_path / "fer2013.csv")
    (run / "card.json").unlink()
    broken = tmp_path / "broken.csv"
    broken.write_text("a,b\n")
    weights = (run / "model.safetensors").read_bytes()
    for model, file, cause in (
        (str(run), data, "card.json"),
        ("nobody", data, "neither a finished run"),
        (str(run), str(broken), "card.json"),
    ):
        assert main([model, "--data", file]) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1 and cause in error
    (run / "card.json").write_text("{}")
    assert main([str(run), "--data", str(broken)]) == 2
    assert "broken.csv" in capsys.readouterr().err
    assert (run / "model.safetensors").read_bytes() == weights
    with pytest.raises(UserError, match="weights"):
        find_files("nobody", tmp_path / "weights")
