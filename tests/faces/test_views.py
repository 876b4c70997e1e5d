"""Views of a crop."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from faces.emotions import EMOTIONS
from faces.views import VIEWS, expand_views, probabilities_over_views


def crop_of(side: int) -> np.ndarray:
    return np.random.default_rng(side).integers(0, 256, (side, side, 3), dtype=np.uint8)


@given(st.integers(1, 120))
def test_numbers_shapes_and_mirrors(side: int) -> None:
    crop = crop_of(side)
    single, flip, ten = (expand_views(crop, views) for views in VIEWS)
    assert [len(v) for v in (single, flip, ten)] == [1, 2, 10]
    np.testing.assert_array_equal(single[0], crop)
    np.testing.assert_array_equal(flip[0], crop)
    for views in (flip, ten):
        half = len(views) // 2
        for view, mirror in zip(views[:half], views[half:], strict=True):
            np.testing.assert_array_equal(np.fliplr(view), mirror)
    part = ten[0].shape[0]
    assert part >= 1 and abs(part - side * 44 / 48) <= 0.5
    assert all(v.shape == (part, part, 3) and v.flags.c_contiguous for v in ten)


def test_ten_views_of_fer2013_by_hand() -> None:
    crop = crop_of(48)
    ten = expand_views(crop, "ten")
    for view, (y, x) in zip(ten, [(0, 0), (0, 4), (4, 0), (4, 4), (2, 2)], strict=False):
        np.testing.assert_array_equal(view, crop[y : y + 44, x : x + 44])


def test_ten_views_are_torchvisions() -> None:
    functional = pytest.importorskip("torchvision.transforms.functional")
    torch = pytest.importorskip("torch")
    crop = crop_of(96)
    theirs = functional.ten_crop(torch.from_numpy(crop).permute(2, 0, 1), 88)
    # theirs mirrors the picture, ours each view: the mirrored left corners are their right ones
    order = [0, 1, 2, 3, 4, 6, 5, 8, 7, 9]
    for ours, index in zip(expand_views(crop, "ten"), order, strict=True):
        np.testing.assert_array_equal(ours, theirs[index].permute(1, 2, 0).numpy())


def test_grey_crops() -> None:
    crop = crop_of(48)[:, :, 0]
    assert [v.shape for v in expand_views(crop, "ten")] == [(44, 44)] * 10


def test_bad_input() -> None:
    with pytest.raises(ValueError, match="single, flip, ten"):
        expand_views(crop_of(4), "five")
    with pytest.raises(ValueError, match="square"):
        expand_views(np.zeros((4, 5, 3), np.uint8), "single")


class LeftBrightness:
    """Says "angry" as often as the left half of the crop is bright."""

    def probabilities(self, crops: Sequence[np.ndarray]) -> np.ndarray:
        rows = np.zeros((len(crops), len(EMOTIONS)), np.float32)
        for row, crop in zip(rows, crops, strict=True):
            row[0] = crop[:, : crop.shape[1] // 2].mean() / 255
            row[1] = 1 - row[0]
        return rows


def test_scores_are_averaged() -> None:
    half = np.zeros((48, 48, 3), np.uint8)
    half[:, :24] = 255
    crops = [half, half[:, ::-1], np.zeros((10, 10, 3), np.uint8)]
    single = probabilities_over_views(LeftBrightness(), crops, "single")
    np.testing.assert_allclose(single[:, 0], [1, 0, 0])
    flip = probabilities_over_views(LeftBrightness(), crops, "flip")
    np.testing.assert_allclose(flip[:, 0], [0.5, 0.5, 0])
    ten = probabilities_over_views(LeftBrightness(), crops, "ten")
    np.testing.assert_allclose(ten[0], ten[1], atol=1e-6)
    assert ten.dtype == np.float32
    for views in VIEWS:
        assert probabilities_over_views(LeftBrightness(), [], views).shape == (0, 7)
