"""From FER2013 to a run folder to a classifier by name, and everything that can be wrong."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from baselines import fitting, train
from baselines.classifier import BaselineError, is_baseline, load_baseline
from baselines.features import FEATURES
from classification.data.fer2013 import load_fer2013
from classification.inference.calibration import rescale
from classification.modeling.normalization import Normalization
from faces.command import UserError
from faces.emotions import EMOTIONS
from twostage import model_zoo
from twostage.model_zoo import classifier_facts, load_classifier

RANDOM = np.random.default_rng(2)
PATTERNS = RANDOM.integers(0, 200, (7, 48, 48))


def face(emotion: int) -> np.ndarray:
    return (PATTERNS[emotion] + RANDOM.integers(0, 56, (48, 48))).astype(np.uint8)


@pytest.fixture(scope="module")
def fer2013(tmp_path_factory: pytest.TempPathFactory) -> Path:
    lines = ["emotion,Usage,pixels"]
    for part, count in (("Training", 140), ("PublicTest", 28)):
        for number in range(count):
            pixels = " ".join(map(str, face(number % 7).ravel()))
            lines.append(f"{number % 7},{part},{pixels}")
    path = tmp_path_factory.mktemp("data") / "fer2013.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fitting, "MLP_EPOCHS", 15)
    monkeypatch.setattr(fitting, "MLP_PENALTIES", (0.1,))
    monkeypatch.setattr(fitting, "SVM_COSTS", (1e-4,))


def run(data: Path, out: Path, model: str, features: str, *more: str) -> int:
    options = ["--model", model, "--features", features, "--data", str(data), "--out", str(out)]
    return train.main([*options, *more])


@pytest.mark.parametrize(
    ("model", "features"),
    [("knn", "pixels"), ("knn", "hog_pca"), ("svm", "hog"), ("knn", "pca"), ("mlp", "lbp")],
)
def test_a_run_is_a_classifier(fer2013: Path, tmp_path: Path, model: str, features: str) -> None:
    out = tmp_path / "run"
    assert run(fer2013, out, model, features) == 0
    classifier = load_classifier(str(out), "cpu")
    crops = [np.repeat(face(e)[..., None], 3, axis=2) for e in range(7)]
    scores = classifier.probabilities(crops)
    assert classifier.name == "run" and scores.dtype == np.float32
    assert scores.argmax(1).tolist() == list(range(7))
    assert np.allclose(scores.sum(1), 1, atol=1e-5)
    assert classifier.probabilities([]).shape == (0, 7)
    large = [np.kron(crop, np.ones((2, 2, 1), np.uint8)) for crop in crops]
    assert classifier.probabilities(large).argmax(1).tolist() == list(range(7))
    record = json.loads((out / "record.json").read_text())
    card = json.loads((out / "card.json").read_text())
    assert card["training"]["command"].startswith("python -m baselines.train --model")
    facts = classifier_facts(str(out))
    assert facts["parameters"] == record["parameters"] > 0
    assert facts["weights_bytes"] == (out / "model.safetensors").stat().st_size
    assert list(facts["weights_sha256"]) == ["run"]
    figures = card["calibration"]
    assert figures["after"]["nll"] <= figures["before"]["nll"] and figures["pictures"] == 28
    plain = classifier.uncalibrated()
    assert plain is not None and plain.uncalibrated() is None
    public = load_fer2013(fer2013).split("PublicTest")
    right = plain.probabilities_of_grey(public.images).argmax(1) == public.labels
    assert right.mean() == max(one["accuracy"] for one in record["tried"])
    scaled = rescale(
        plain.probabilities(crops),
        *(figures[k] for k in ("temperature", "smoothing_undone", "slope", "mixing")),
        list(figures["biases"].values()),
    )
    assert np.allclose(scores, scaled, atol=1e-6)


def test_the_published_perceptron_is_left_as_it_comes(fer2013: Path, tmp_path: Path) -> None:
    assert run(fer2013, tmp_path / "run", "mlp_defaults", "pixels") == 0
    card = json.loads((tmp_path / "run" / "card.json").read_text())
    assert card["calibration"] is None
    assert load_baseline(tmp_path / "run" / "model.safetensors", "x").uncalibrated() is None


def test_the_same_seed_gives_the_same_file(fer2013: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        assert run(fer2013, tmp_path / name, "mlp", "hog", "--seed", "4") == 0
    a, b = (load_file(tmp_path / name / "model.safetensors") for name in ("a", "b"))
    assert all(np.array_equal(a[key], b[key]) for key in a)


def test_embedding_carries_its_network(fer2013: Path, tmp_path: Path) -> None:
    import torch

    from classification.inference.classifier import TrainedNetwork, save_network
    from classification.modeling.face_resnet import FaceResNet

    network = TrainedNetwork(
        "face_resnet", {"widths": [8, 16], "depths": [1, 1]}, Normalization(0.5, 0.25)
    )
    torch.manual_seed(0)
    weights = tmp_path / "network.safetensors"
    save_network(weights, FaceResNet(**network.model).state_dict(), network)
    assert run(fer2013, tmp_path / "run", "knn", "embedding", "--network", str(weights)) == 0
    seen = hashlib.sha256(weights.read_bytes()).hexdigest()
    assert classifier_facts(str(tmp_path / "run"))["weights_sha256"]["network"] == seen
    weights.unlink()
    assert load_classifier(str(tmp_path / "run"), "cpu").probabilities([]).shape == (0, 7)


def test_shipping(fer2013: Path, tmp_path: Path) -> None:
    run(fer2013, tmp_path / "knn_small", "knn", "hog_pca")
    (tmp_path / "weights").mkdir()
    target = train.ship(tmp_path / "knn_small", tmp_path / "weights")
    card = json.loads(target.with_suffix(".json").read_text())
    assert card["name"] == "knn_small" and card["classes"] == list(EMOTIONS)
    assert card["sha256"] == hashlib.sha256(target.read_bytes()).hexdigest()


def test_baselines_that_are_not_shipped_name_their_command() -> None:
    for model in fitting.MODELS:
        for features in FEATURES:
            name = f"{model}_{features}"
            if name in model_zoo.shipped_models("classifier"):
                continue
            with pytest.raises(UserError, match=f"--model {model} --features {features} "):
                load_classifier(name)
    with pytest.raises(UserError, match="neither a shipped one"):
        load_classifier("knn_colours")


def test_damaged_files_are_refused(fer2013: Path, tmp_path: Path) -> None:
    run(fer2013, tmp_path / "run", "svm", "hog_pca")
    path = tmp_path / "run" / "model.safetensors"
    whole = path.read_bytes()
    arrays = load_file(path)
    path.write_bytes(whole[:-100])
    with pytest.raises(BaselineError, match="damaged or no baseline"):
        load_baseline(path, "x")
    assert not is_baseline(path)
    save_file(arrays, path)
    with pytest.raises(BaselineError, match="damaged or no baseline"):
        load_baseline(path, "x")
    about = {"features": "hog_pca", "features_about": {}, "classes": EMOTIONS, "layers": 1}
    save_file({k: v[:3] for k, v in arrays.items()}, path, {"baseline": json.dumps(about)})
    with pytest.raises(UserError, match="cannot be used"):
        load_classifier(str(tmp_path / "run"), "cpu")


def test_mistakes_are_one_line(
    fer2013: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("x")
    for data, out, more, cause in (
        (tmp_path / "none.csv", "run", ["pixels"], "no such file"),
        (fer2013, "file", ["pixels"], "is a file; --out takes a folder"),
        (fer2013, "run", ["embedding"], "--network WEIGHTS.safetensors goes with"),
        (fer2013, "run", ["pixels", "--network", "x"], "--network WEIGHTS.safetensors goes with"),
        (fer2013, "run", ["embedding", "--network", "x"], "x: no such weights file"),
    ):
        capsys.readouterr()
        assert run(data, tmp_path / out, "knn", *more) == 2
        lines = [x for x in capsys.readouterr().err.splitlines() if x.startswith("baselines.train")]
        assert cause in lines[-1]
        assert all("not the official FER2013" in line for line in lines[:-1])
