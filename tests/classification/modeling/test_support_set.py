"""Networks that decide by likeness to known faces, from the layer to the command."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.reference
import pytest
import torch
from scipy.special import softmax
from sklearn.neighbors import KNeighborsRegressor
from sklearn.preprocessing import normalize

from baselines.features import EmbeddingFeatures
from classification import export_onnx, support
from classification.inference.calibration import Scaling
from classification.inference.classifier import (
    NetworkClassifier,
    TrainedNetwork,
    load_network,
    save_network,
)
from classification.inference.compiled import CompiledNetwork
from classification.modeling.face_resnet import build_network
from classification.modeling.normalization import Normalization
from classification.modeling.published_cnns import PlainCnn
from classification.modeling.support_set import FLOOR, NEAREST, SupportHead, matching_network
from twostage.model_zoo import load_classifier

SIZE = 32
SMALL = {"widths": [8, 16], "depths": [1, 1]}
POWER = 4.0
CPU = torch.device("cpu")


def csv(path: Path, training: int = 21, public: int = 14) -> Path:
    """FER2013 of random pictures whose first ones of PublicTest are those of Training."""
    pixels = np.random.default_rng(0).integers(0, 256, (training, 48 * 48))
    lines = ["emotion,pixels,Usage"]
    for split, number in (("Training", training), ("PublicTest", public)):
        for index in range(number):
            row = " ".join(map(str, pixels[index]))
            lines.append(f"{index % 7},{row},{split}")
    path.write_text("\n".join(lines))
    return path


def make_run(folder: Path, votes: float = 0.0, name: str = "face_recognition_resnet") -> Path:
    folder.mkdir()
    torch.manual_seed(0)
    model = {"face_recognition_resnet": {"size": SIZE}, "face_resnet": SMALL}[name]
    network = TrainedNetwork(
        name, model, Normalization(0.5, 0.25), calibration=Scaling(2.0, biases=(1.0,) * 7)
    )
    state = build_network(name, model).state_dict()
    save_network(folder / "model.safetensors", state, network)
    training = {
        "recipe": {"architecture": name, "votes": votes},
        "parameters": 100,
        "versions": {},
        "precision": "float32",
        "device": "cpu",
        "hours": 1.5,
    }
    (folder / "card.json").write_text(json.dumps({"training": training}))
    return folder


@pytest.fixture(params=[{"size": SIZE}, {"network": "face_resnet", **SMALL}])
def matching(request: pytest.FixtureRequest) -> NetworkClassifier:
    torch.manual_seed(0)
    arguments = {"faces": 40, "power": POWER, **request.param}
    model = matching_network(**arguments)
    assert isinstance(model.head, SupportHead)
    model(torch.randn(16, 1, 48, 48))  # fills the statistics of the normalisations
    model.eval()
    with torch.no_grad():
        known = model.features(torch.randn(40, 1, 48, 48))
    model.head.support.copy_(torch.nn.functional.normalize(known))
    model.head.targets.copy_((5 * torch.randn(40, 7)).softmax(1))
    described = TrainedNetwork("matching_network", arguments, Normalization(0.5, 0.25))
    return NetworkClassifier(described, model.state_dict(), CPU, "m", torch.float32)


def test_the_head_is_a_mean_of_targets_weighed_by_inverse_distances() -> None:
    rng = np.random.default_rng(0)
    known, seen = (normalize(rng.normal(size=(n, 5))) for n in (30, 4))
    targets = softmax(rng.normal(size=(30, 7)), axis=1)
    head = SupportHead(5, 30, power=6.0)
    head.support = torch.tensor(known, dtype=torch.float32)
    head.targets = torch.tensor(targets, dtype=torch.float32)
    expected = KNeighborsRegressor(30, weights=lambda d: d**-6.0).fit(known, targets).predict(seen)
    for length in (1, 3):
        found = head(torch.tensor(length * seen, dtype=torch.float32)).exp().numpy()
        np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_a_known_face_is_found_and_an_emotion_that_none_shows_gets_the_floor() -> None:
    head = SupportHead(2, 2, power=8.0)
    head.support = torch.eye(2)
    head.targets = torch.eye(7)[[3, 5]]
    answers = head(torch.tensor([[0.0, 2.0], [1.0, 1.0]])).exp().numpy()
    np.testing.assert_allclose(answers[0, [5, 3]], [1, FLOOR], rtol=1e-5)
    np.testing.assert_allclose(answers[1, [3, 5]], 0.5, rtol=1e-5)
    np.testing.assert_allclose(np.delete(answers, [3, 5], axis=1), FLOOR, rtol=1e-5)


def test_half_precision_moves_a_twin_by_about_the_nearest_distance() -> None:
    known = normalize(np.abs(np.random.default_rng(0).normal(size=(50, 256))))
    halved = known.astype(np.float16).astype(np.float64)
    moved = np.abs(2 - 2 * (known * halved).sum(1)).max()
    assert NEAREST / 2 < moved < 2 * NEAREST


def test_compiled_and_onnx_answer_as_pytorch(matching: NetworkClassifier, tmp_path: Path) -> None:
    faces = torch.randn(3, 1, 48, 48)
    with torch.inference_mode():
        expected = matching.model(faces).softmax(1).numpy()
    assert np.ptp(expected, axis=0).max() > 1e-3
    compiled = CompiledNetwork(matching.model, (1, 48, 48), bf16=False)
    np.testing.assert_allclose(np.exp(compiled(faces.numpy())), expected, atol=1e-3)

    path = tmp_path / "m.onnx"
    assert export_onnx.export_classifier(matching, path) < export_onnx.TOLERANCE
    grey = np.random.default_rng(3).integers(0, 256, (5, 48, 48), dtype=np.uint8)
    (answers,) = onnx.reference.ReferenceEvaluator(onnx.load(path)).run(None, {"faces": grey})
    np.testing.assert_allclose(answers, matching.probabilities_of_grey(grey), atol=1e-3)


@pytest.mark.parametrize(("name", "width"), [("face_recognition_resnet", 256), ("face_resnet", 16)])
def test_the_command_makes_a_run_that_knows_the_training_faces(
    name: str, width: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, out = make_run(tmp_path / "run", name=name), tmp_path / "out"
    data = csv(tmp_path / "fer2013.csv")
    assert support.main([str(run), "--data", str(data), "--out", str(out)]) == 0
    card = json.loads((out / "card.json").read_text())
    assert card["training"]["support"]["pictures"] == 21
    assert card["training"]["parameters"] == 100 + 21 * (width + 7) - 7 * (width + 1)
    assert card["training"]["network"]["recipe"] == card["training"]["recipe"]
    assert card["training"]["command"].startswith("python -m classification.support")
    network, state = load_network(out / "model.safetensors")
    assert network.calibration == Scaling()

    # features are those of the network before, and those that baselines see
    grey = np.random.default_rng(0).integers(0, 256, (21, 48, 48)).astype(np.uint8)
    before = EmbeddingFeatures(*load_network(run / "model.safetensors")).rows(grey)
    after = EmbeddingFeatures(network, state).rows(grey)
    np.testing.assert_allclose(before, after, atol=1e-5)
    lengths = np.linalg.norm(before, axis=1, keepdims=True)
    np.testing.assert_allclose(state["head.support"].numpy(), before / lengths, atol=0.02)

    # the chosen power is the best of those that are tried
    tried = card["training"]["support"]["public_test_accuracy_by_power"]
    power = card["training"]["support"]["power"]
    assert tried[str(power)] == max(tried.values())
    assert set(tried) == {str(one) for one in support.POWERS}
    assert load_classifier(str(out), "cpu").probabilities([]).shape == (0, 7)

    kept = (out / "model.safetensors").read_bytes()
    assert support.main([str(run), "--data", str(data), "--out", str(out)]) == 2
    assert "holds a run already" in capsys.readouterr().err
    assert (out / "model.safetensors").read_bytes() == kept
    again = ["--data", str(data), "--out", str(tmp_path / "again")]
    assert support.main([str(out), *again]) == 2
    assert "is a matching_network" in capsys.readouterr().err


def test_the_known_faces_may_show_another_truth_than_was_taught(tmp_path: Path) -> None:
    run, data = make_run(tmp_path / "run", votes=0.5), csv(tmp_path / "fer2013.csv")
    out = tmp_path / "out"
    words = [str(run), "--data", str(data), "--votes", "0", "--out", str(out)]
    assert support.main(words) == 0
    _, state = load_network(out / "model.safetensors")
    assert torch.equal(state["head.targets"], torch.eye(7)[torch.arange(21) % 7])
    card = json.loads((out / "card.json").read_text())
    assert card["training"]["recipe"]["votes"] == 0  # what it is calibrated against
    assert card["training"]["network"]["recipe"]["votes"] == 0.5
    assert "50% of each target" in card["trained_on"]["votes"]


def test_an_exact_duplicate_is_found() -> None:
    rng = np.random.default_rng(0)
    known = torch.nn.functional.normalize(torch.tensor(rng.normal(size=(70, 64))).float())
    labels = np.arange(70) % 7
    accuracies = support.accuracy_by_power(
        known, torch.eye(7)[torch.from_numpy(labels)], known, labels
    )
    assert next(iter(accuracies.values())) == 1 and set(accuracies) == set(support.POWERS)


def test_mistakes_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = csv(tmp_path / "fer2013.csv")
    run, voted = make_run(tmp_path / "run"), make_run(tmp_path / "voted", votes=0.5)
    other = make_run(tmp_path / "other")
    layers: dict[str, Any] = {"widths": [4], "depth": 1, "dense": []}
    plain = TrainedNetwork("plain_cnn", layers, Normalization(0.5, 0.25))
    save_network(other / "model.safetensors", PlainCnn(**layers).state_dict(), plain)
    file = tmp_path / "file"
    file.touch()
    for words, cause in (
        ([str(run), "--votes", "1.5"], "is no share"),
        ([str(run), "--votes", "1"], "add --ferplus"),
        ([str(voted)], "50% labels, 50% shares of FER+'s votes"),
        ([str(run), "--ferplus", str(file)], "leave --ferplus out"),
        ([str(other)], "is a plain_cnn"),
        (["nobody"], "neither a finished run"),
    ):
        out = tmp_path / "out"
        assert support.main([*words, "--data", str(data), "--out", str(out)]) == 2
        error = capsys.readouterr().err
        assert cause in error and error.count("classification.support:") == 1
        assert not out.exists()
    (voted / "card.json").write_text("{")
    assert support.main([str(voted), "--data", str(data), "--out", str(tmp_path / "out")]) == 2
    assert "not valid JSON" in capsys.readouterr().err
    assert support.main([str(run), "--data", str(data), "--out", str(file)]) == 2
    assert "--out takes a folder" in capsys.readouterr().err
