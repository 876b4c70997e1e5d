"""Names and run folders become models; whatever else is refused with a way out."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from classification.inference.classifier import TrainedNetwork, save_network
from classification.modeling.face_resnet import FaceResNet
from classification.modeling.normalization import Normalization
from detection.inference.classical import CLASSICAL
from faces.command import UserError
from twostage import model_zoo
from twostage.model_zoo import load_classifier, load_detector, shipped_models

NETWORK = TrainedNetwork(
    "face_resnet", {"widths": [8, 16], "depths": [1, 1]}, Normalization(0.5, 0.25)
)


def write_network(path: Path) -> Path:
    torch.manual_seed(0)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_network(path, FaceResNet(**NETWORK.model).state_dict(), NETWORK)
    return path


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    folder = tmp_path / "weights"
    file = write_network(folder / "tiny.safetensors")
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    (folder / "tiny.json").write_text(json.dumps({"sha256": digest}))
    (folder / "models.toml").write_text('[classifier.tiny]\nabout = "small"\n[detector]\n')
    monkeypatch.setattr(model_zoo, "WEIGHTS", folder)
    shipped_models.cache_clear()
    yield folder
    shipped_models.cache_clear()


CROP = np.full((60, 60, 3), 90, np.uint8)


def test_name_default_and_run_folder_give_the_same_classifier(
    weights: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    write_network(run / "model.safetensors")
    loaded = [load_classifier(name, "cpu") for name in ("tiny", "default", str(run))]
    assert [classifier.name for classifier in loaded] == ["tiny", "tiny", "run"]
    rows = [classifier.probabilities([CROP])[0] for classifier in loaded]
    assert np.array_equal(rows[0], rows[1]) and np.array_equal(rows[0], rows[2])


def test_names_and_runs_joined_by_plus_are_an_ensemble(weights: Path, tmp_path: Path) -> None:
    run = tmp_path / "c++" / "run"
    other = FaceResNet(**NETWORK.model)
    torch.nn.init.normal_(other.head.weight)
    run.mkdir(parents=True)
    save_network(run / "model.safetensors", other.state_dict(), NETWORK)
    one, two = load_classifier("tiny", "cpu"), load_classifier(str(run), "cpu")
    (tmp_path / "again").symlink_to(run)
    ensemble = load_classifier(f"tiny+{tmp_path / 'again'}", "cpu")
    mean = (one.probabilities([CROP]) + two.probabilities([CROP])) / 2
    np.testing.assert_allclose(ensemble.probabilities([CROP]), mean, atol=1e-6)
    with pytest.raises(UserError, match="'nobody'"):
        load_classifier("tiny+nobody")


def test_a_setting_shares_weights_and_says_what_differs(weights: Path) -> None:
    (weights / "tiny.json").write_text('{"name": "tiny", "sha256": "x", "score_threshold": 1}')
    (weights / "large.json").write_text('{"name": "large", "score_threshold": 2}')
    model = model_zoo.ShippedModel("large", "", weights_of="tiny")
    assert model.weights == weights / "tiny.safetensors" and model.config == weights / "large.yaml"
    assert model.card() == {"name": "large", "sha256": "x", "score_threshold": 2}


def test_the_fast_detector_is_the_default_on_smaller_pictures() -> None:
    default, fast = (load_detector(name, "cpu") for name in ("default", "mobilenet_fpn_fast"))
    assert default.test_sizes == (400, 672) and fast.test_sizes == (320, 544)
    shipped = shipped_models("detector")
    assert shipped["mobilenet_fpn_fast"].weights == shipped["mobilenet_fpn"].weights
    card = shipped["mobilenet_fpn_fast"].card()
    assert fast.score_threshold == card["score_threshold"] != default.score_threshold


def test_unknown_names_list_the_known(weights: Path) -> None:
    with pytest.raises(UserError, match=r"'tinny'.*default, tiny"):
        load_classifier("tinny")


def test_changed_and_missing_weights_are_refused(weights: Path) -> None:
    file = weights / "tiny.safetensors"
    raw = bytearray(file.read_bytes())
    raw[-1] ^= 1
    file.write_bytes(raw)
    with pytest.raises(UserError, match="damaged or changed"):
        load_classifier("tiny")
    file.unlink()
    with pytest.raises(UserError, match="missing"):
        load_classifier("tiny")


def test_folders_that_are_no_runs_are_refused(weights: Path, tmp_path: Path) -> None:
    for load, cause in (
        (load_classifier, "no run of"),
        (load_detector, "no finished detector run"),
    ):
        with pytest.raises(UserError, match=cause):
            load(str(tmp_path))


def test_missing_devices_are_named(weights: Path) -> None:
    for device in ("cuda:7", "toaster", "meta", "mps"):
        with pytest.raises(UserError, match=f"device {device}: not usable"):
            load_classifier("tiny", device)


def test_device_errors_are_short(weights: Path) -> None:
    with pytest.raises(UserError) as caught:
        load_classifier("tiny", "mps")
    assert len(str(caught.value)) < 300


def test_every_shipped_model_is_whole() -> None:
    for name, load in (("detector", load_detector), ("classifier", load_classifier)):
        shipped = shipped_models(name)
        assert shipped
        for model in (m for m in shipped.values() if not m.classical):
            assert load(model.name, "cpu").name == model.name
            assert model.weights.stat().st_size < 30e6
            card = model.card()
            assert card["name"] == model.name and card["limits"] and card["intended_use"]


def test_the_classical_detectors_go_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    listed = {name for name, model in shipped_models("detector").items() if model.classical}
    assert listed == set(CLASSICAL)
    assert load_detector("haar", "cpu").name == "haar"
    monkeypatch.setitem(sys.modules, "facenet_pytorch", None)
    with pytest.raises(UserError, match="make mtcnn"):
        load_detector("mtcnn", "cpu")
