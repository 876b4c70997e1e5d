"""Starts from published weights: the network computes what the published one computes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from classification.modeling import face_recognition_resnet
from classification.modeling.normalization import Normalization
from networks.pretrained.face_recognition import MEAN, ScaledConvolution

WIDTHS = [32] * 7 + [64] * 8 + [128] * 6 + [256] * 8


def published() -> list[ScaledConvolution]:
    rng = np.random.default_rng(0)
    layers, inputs = [], 3
    for index, outputs in enumerate(WIDTHS):
        side = 3 if index else 7
        kernel = rng.normal(size=(outputs, inputs, side, side)) / np.sqrt(inputs * side**2)
        scale, shift = rng.uniform(0.5, 1.5, outputs), rng.normal(size=outputs) / 5
        layers.append(ScaledConvolution(*(a.astype(np.float32) for a in (kernel, scale, shift))))
        inputs = outputs
    return layers


def reference(pixels: Tensor, layers: list[ScaledConvolution]) -> Tensor:
    """dlib's network on RGB pixels (N, 3, 96, 96) of 0..255, written out; borders are padded."""

    def scaled(x: Tensor, layer: ScaledConvolution, stride: int, padding: int) -> Tensor:
        y = functional.conv2d(x, torch.tensor(layer.kernel), stride=stride, padding=padding)
        return (
            y * torch.tensor(layer.scale)[:, None, None] + torch.tensor(layer.shift)[:, None, None]
        )

    x = (pixels - torch.tensor(MEAN)[:, None, None]) / 256
    x = functional.max_pool2d(scaled(x, layers[0], 2, 3).relu(), 3, 2, 1)
    for first, second in zip(layers[1:27:2], layers[2:27:2], strict=True):
        stride = 1 if len(first.scale) == x.shape[1] else 2
        y = scaled(scaled(x, first, stride, 1).relu(), second, 1, 1)
        if stride == 2:
            x = functional.avg_pool2d(x, 2)
            x = torch.cat([x, torch.zeros(len(x), y.shape[1] - x.shape[1], *x.shape[2:])], 1)
        x = (x + y).relu()
    return x.mean((2, 3))


def test_the_face_recognition_start_keeps_the_published_features(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    layers = published()
    monkeypatch.setattr(face_recognition_resnet, "face_recognition_file", lambda: None)
    monkeypatch.setattr(face_recognition_resnet, "read_face_recognition", lambda _: layers)
    torch.manual_seed(0)
    network = face_recognition_resnet.FaceRecognitionResNet(size=96)
    faces = torch.rand(4, 1, 48, 48)
    mean, std = 0.45, 0.25
    network.load_published((faces - mean) / std, Normalization(mean, std))
    assert network.training
    network.eval()
    found = network.features((faces - mean) / std)
    grey = functional.interpolate(faces, size=(96, 96), mode="bilinear", align_corners=False)
    expected = reference(255 * grey.expand(-1, 3, -1, -1), layers)
    inner = nn.functional.cosine_similarity(found, expected).min()
    assert inner > 0.99
    # In training mode the statistics of the same pictures normalise: almost the same features.
    network.train()
    again = network.features((faces - mean) / std)
    assert nn.functional.cosine_similarity(found, again).min() > 0.99


def test_faces_become_logits() -> None:
    network = face_recognition_resnet.FaceRecognitionResNet(size=64).eval()
    assert network(torch.zeros(3, 1, 48, 48)).shape == (3, 7)
    assert isinstance(network, face_recognition_resnet.PublishedStart)
