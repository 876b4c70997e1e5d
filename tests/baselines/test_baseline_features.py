"""Features against their definitions, written out slowly."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from baselines.features import (
    FEATURES,
    EmbeddingFeatures,
    Features,
    PcaFeatures,
    PlainFeatures,
    hog_rows,
    lbp_rows,
    load_features,
    pixel_rows,
)
from classification.inference.classifier import TrainedNetwork
from classification.modeling.face_resnet import FaceResNet
from classification.modeling.normalization import Normalization

RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.integers(0, 256, (12, 48, 48), dtype=np.uint8)
NETWORK = TrainedNetwork(
    "face_resnet", {"widths": [8, 16], "depths": [1, 1]}, Normalization(0.5, 0.25)
)


def network_features() -> EmbeddingFeatures:
    torch.manual_seed(0)
    return EmbeddingFeatures(NETWORK, FaceResNet(**NETWORK.model).eval().state_dict())


def make(kind: str) -> Features:
    if kind == "embedding":
        return network_features()
    return PcaFeatures.fit(kind, IMAGES, 0) if "pca" in kind else PlainFeatures(kind)


def slow_lbp(image: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Local binary patterns pixel by pixel, as Ojala et al. (2002) define the uniform ones."""
    circle = [(-1, -1), (-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1)]

    def changes(code: int) -> int:
        bits = [code >> i & 1 for i in range(8)]
        return sum(bits[i] != bits[i - 1] for i in range(8))

    uniform = [code for code in range(256) if changes(code) <= 2]
    assert len(uniform) == 58
    result = np.zeros((6, 6, 59))
    for y in range(48):
        for x in range(48):
            code = 0
            for bit, (dy, dx) in enumerate(circle):
                ny, nx = min(max(y + dy, 0), 47), min(max(x + dx, 0), 47)
                code |= int(image[ny, nx] >= image[y, x]) << bit
            result[y // 8, x // 8, uniform.index(code) if code in uniform else 58] += 1
    return np.sqrt(result / 64).ravel()


def test_lbp_is_as_defined() -> None:
    smooth = np.add.outer(np.arange(48), 2 * np.arange(48)).astype(np.uint8)
    for image in (IMAGES[0], smooth, np.zeros((48, 48), np.uint8)):
        assert np.allclose(lbp_rows(image[None])[0], slow_lbp(image), atol=1e-6)


def test_hog_sees_the_direction_of_edges() -> None:
    stripes = np.tile(np.repeat(np.array([40, 200], np.uint8), 4), 6)
    upright, lying = np.tile(stripes, (48, 1)), np.tile(stripes[:, None], (1, 48))
    rows = hog_rows(np.stack([upright, lying])).reshape(2, -1, 9)
    # Gradients across upright stripes point to 0°, which votes for the first and the last bin.
    assert set(rows[0].sum(0).argsort()[-2:]) == {0, 8}
    assert rows[1].sum(0).argmax() == 4
    assert np.allclose(np.linalg.norm(rows.reshape(2, -1, 36), axis=2), 1, atol=5e-3)


def test_pixels_are_pixels() -> None:
    assert np.array_equal(pixel_rows(IMAGES).reshape(IMAGES.shape), IMAGES)


def test_pca_is_that_of_numpy() -> None:
    features = PcaFeatures.fit("pca", IMAGES, 0)
    rows = pixel_rows(IMAGES).astype(np.float64)
    centred = rows - rows.mean(0)
    variances = np.linalg.svd(centred, compute_uv=False)
    found = features.rows(IMAGES)
    assert np.array_equal(found, np.rint(found)) and np.abs(found).max() == 127
    share = (found**2).sum(0) / (found**2).sum()
    assert np.allclose(share, variances**2 / (variances**2).sum(), atol=0.01)
    assert np.array_equal(features.rows(IMAGES).astype(features.stored), found)


def test_embedding_is_the_input_of_the_last_layer() -> None:
    features = network_features()
    torch.manual_seed(0)
    network = FaceResNet(**NETWORK.model).eval()
    with torch.inference_mode():
        x = NETWORK.normalization(IMAGES)
        expected = network.stages(network.stem(x)).mean((2, 3)).numpy()
    assert np.allclose(features.rows(IMAGES), expected, atol=1e-5)


@pytest.mark.parametrize("kind", FEATURES)
def test_no_faces_no_rows_and_files_give_the_same(kind: str) -> None:
    features = make(kind)
    rows = features.rows(IMAGES)
    assert rows.dtype == np.float32 and features.rows(IMAGES[:0]).shape == (0, rows.shape[1])
    again = load_features(kind, features.arrays(), features.about())
    assert np.array_equal(again.rows(IMAGES), rows) and again.stored == features.stored


def test_unknown_features_are_refused() -> None:
    with pytest.raises(ValueError, match="unknown features 'sift'"):
        load_features("sift", {}, {})
