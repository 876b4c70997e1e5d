"""What a classifier looks at, and what its layers see."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from torch import nn

from classification.inference.classifier import NetworkClassifier, TrainedNetwork
from classification.inference.explain import SALIENCY_SIDE, feature_maps, layers, saliency_map
from classification.modeling.face_resnet import build_network
from classification.modeling.normalization import Normalization
from faces.emotions import EMOTIONS


class Corner:
    """Happy as far as the top left quarter of a crop is white."""

    name = "corner"

    def probabilities(self, crops: list[np.ndarray]) -> np.ndarray:
        rows = np.zeros((len(crops), 7), np.float32)
        for row, crop in zip(rows, crops, strict=True):
            half = max(1, len(crop) // 2)
            row[EMOTIONS.index("happy")] = crop[:half, :half].mean() / 255
            row[EMOTIONS.index("sad")] = 1 - row.sum()
        return rows


def white_corner(side: int) -> np.ndarray:
    crop = np.zeros((side, side, 3), np.uint8)
    crop[: side // 2, : side // 2] = 255
    return crop


@pytest.mark.parametrize("side", [20, 48, 96, 300])
def test_what_makes_an_emotion_stands_out(side: int) -> None:
    found = saliency_map(Corner(), white_corner(side), "happy")
    size = min(side, SALIENCY_SIDE)
    assert found.shape == (size, size) and found.dtype == np.float32
    quarter, half = size // 4, size // 2
    assert found[:quarter, :quarter].min() > 0.1
    np.testing.assert_allclose(found[half + quarter :, half + quarter :], 0, atol=1e-6)
    np.testing.assert_allclose(saliency_map(Corner(), white_corner(side), "sad"), -found, atol=1e-6)


def test_the_effect_of_one_square_by_hand() -> None:
    # A quarter of the white quarter turns to the mean, a quarter of 255: 3/4 of 1/4 is lost.
    found = saliency_map(Corner(), white_corner(96), "happy")
    assert found[0, 0] == pytest.approx((1 - 64 / 255) / 4, abs=1e-3)


@pytest.mark.parametrize("side", [1, 2, 5])
def test_tiny_crops(side: int) -> None:
    assert (
        saliency_map(Corner(), np.full((side, side, 3), 9, np.uint8), "fear").shape == (side,) * 2
    )


@pytest.fixture(scope="module")
def network() -> NetworkClassifier:
    torch.manual_seed(0)
    arguments = {"widths": [4, 6, 8, 10], "depths": [1, 1, 1, 1]}
    state = build_network("face_resnet", arguments).state_dict()
    described = TrainedNetwork("face_resnet", arguments, Normalization(0.5, 0.25))
    return NetworkClassifier(described, state, torch.device("cpu"), "tiny", torch.float32)


def test_layers_come_in_order_with_their_sizes(network: NetworkClassifier) -> None:
    found = layers(network)
    assert list(found) == [
        *("stem.0", "stem.2", "stem.3", "stages.0", "stages.1", "stages.2", "stages.3")
    ]
    assert found["stem.2"] == (4, 48, 48)
    assert found["stages.3"] == (10, 3, 3)


def test_feature_maps_are_what_the_layer_returns(network: NetworkClassifier) -> None:
    crop = np.random.default_rng(0).integers(0, 256, (48, 48, 3), np.uint8)
    maps = feature_maps(network, crop, "stem.0")
    assert maps.shape == layers(network)["stem.0"] and maps.dtype == np.float32
    grey = (cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY) / 255 - 0.5) / 0.25
    kernel = network.model.get_submodule("stem.0").weight[2, 0].detach().numpy()
    expected = cv2.filter2D(grey, -1, kernel, borderType=cv2.BORDER_CONSTANT)
    np.testing.assert_allclose(maps[2], expected, atol=1e-4)


def test_a_network_is_left_as_it_was(network: NetworkClassifier) -> None:
    crop = np.full((30, 30, 3), 77, np.uint8)
    before = network.probabilities([crop])
    layers(network)
    feature_maps(network, crop, "stages.1")
    np.testing.assert_array_equal(network.probabilities([crop]), before)
    assert all(not module._forward_hooks for module in network.model.modules())
    assert isinstance(network.model, nn.Module)
