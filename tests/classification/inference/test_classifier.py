"""Trained networks: files, preprocessing, precision."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import nn

from classification.inference.classifier import (
    NetworkClassifier,
    TrainedNetwork,
    WeightsError,
    load_network,
    save_network,
    to_grey,
)
from classification.modeling.face_resnet import MODELS, FaceResNet, parameter_count
from classification.modeling.normalization import Normalization
from networks import precision

CPU = torch.device("cpu")
NETWORK = TrainedNetwork(
    "face_resnet", {"widths": [8, 16], "depths": [1, 1]}, Normalization(0.5, 0.25)
)


def make_state(seed: int = 0) -> dict[str, torch.Tensor]:
    torch.manual_seed(seed)
    return MODELS[NETWORK.architecture](**NETWORK.model).state_dict()


@pytest.mark.parametrize("stem_pool", [True, False])
@pytest.mark.parametrize("size", [48, 44, 64])
def test_network_gives_seven_logits(stem_pool: bool, size: int) -> None:
    model = FaceResNet((8, 16), (1, 2), stem_pool)
    assert model(torch.zeros(3, 1, size, size)).shape == (3, 7)


def test_depth_18_has_the_parameters_of_torchvisions_resnet18() -> None:
    reference = torchvision.models.resnet18(num_classes=7)
    reference.conv1 = nn.Conv2d(1, 64, 3, 1, 1, bias=False)
    assert parameter_count(FaceResNet()) == parameter_count(reference)


def test_blocks_start_as_identity() -> None:
    model = FaceResNet((8,), (3,)).eval()
    x = torch.randn(2, 8, 5, 5).relu()
    assert torch.equal(model.stages(x), x)


def test_file_round_trip(tmp_path: Path) -> None:
    state = make_state()
    save_network(tmp_path / "w.safetensors", state, NETWORK)
    network, loaded = load_network(tmp_path / "w.safetensors")
    assert network == NETWORK
    assert all(torch.equal(loaded[key], state[key]) for key in state)
    assert [p.name for p in tmp_path.iterdir()] == ["w.safetensors"]


def test_unusable_files_are_named(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    with pytest.raises(WeightsError, match="no such"):
        load_network(path)
    save_network(path, make_state(), NETWORK)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(WeightsError, match=r"w\.safetensors: damaged"):
        load_network(path)
    save_file({"a": torch.zeros(1)}, path)
    with pytest.raises(WeightsError, match="not written by"):
        load_network(path)
    other = TrainedNetwork(
        "face_resnet", {"widths": [8, 8], "depths": [1, 1]}, Normalization(0.5, 0.25)
    )
    save_network(path, make_state(), other)
    with pytest.raises(WeightsError, match="has the shape"):
        NetworkClassifier.load(path, CPU, "x")


def test_scores_are_the_networks_softmax_on_normalised_grey() -> None:
    state = make_state()
    classifier = NetworkClassifier(NETWORK, state, CPU, "x", torch.float32)
    crop = np.random.default_rng(0).integers(0, 256, (48, 48, 3), dtype=np.uint8)
    scores = classifier.probabilities([crop, crop[:, ::-1]])
    luma = np.rint(crop @ np.array([0.299, 0.587, 0.114]))
    model = MODELS[NETWORK.architecture](**NETWORK.model).eval()
    model.load_state_dict(state)
    with torch.no_grad():
        x = torch.tensor((luma / 255 - 0.5) / 0.25, dtype=torch.float32)[None, None]
        expected = model(x).softmax(1).numpy()[0]
    assert scores.shape == (2, 7) and scores.dtype == np.float32
    assert scores.sum(1) == pytest.approx([1, 1], abs=1e-5)
    assert scores[0] == pytest.approx(expected, abs=2e-2)


def test_no_crops_give_no_rows() -> None:
    assert NetworkClassifier(NETWORK, make_state(), CPU, "x").probabilities([]).shape == (0, 7)


def test_bfloat16_moves_probabilities_little() -> None:
    state = make_state()
    images = np.random.default_rng(0).integers(0, 256, (20, 48, 48), dtype=np.uint8)
    exact, rounded = (
        NetworkClassifier(NETWORK, state, CPU, "x", dtype).probabilities_of_grey(images)
        for dtype in (torch.float32, torch.bfloat16)
    )
    assert np.abs(exact - rounded).max() < 0.02  # 0 where the processor has no bfloat16


@pytest.mark.parametrize(("capable", "dtype"), [(True, torch.bfloat16), (False, torch.float32)])
def test_classifier_computes_in_what_the_processor_has(
    monkeypatch: pytest.MonkeyPatch, capable: bool, dtype: torch.dtype
) -> None:
    monkeypatch.setattr(precision, "cpu_has_bf16", lambda: capable)
    assert NetworkClassifier(NETWORK, make_state(), CPU, "x").dtype == dtype


@pytest.mark.parametrize("side", [1, 5, 48, 49, 300])
def test_grey_crops_have_the_networks_size(side: int) -> None:
    crop = np.full((side, side, 3), (10, 200, 30), np.uint8)
    grey = to_grey(crop, 48)
    assert grey.shape == (48, 48) and grey.dtype == np.uint8
    assert np.abs(grey.astype(int) - round(0.299 * 10 + 0.587 * 200 + 0.114 * 30)).max() <= 1


def test_shrinking_averages_instead_of_sampling() -> None:
    board = np.zeros((96, 96, 3), np.uint8)
    board[::2, ::2] = board[1::2, 1::2] = 200
    assert np.array_equal(to_grey(board, 48), np.full((48, 48), 100, np.uint8))
