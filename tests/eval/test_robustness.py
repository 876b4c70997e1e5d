"""Changed crops, against OpenCV's and PIL's own and hand-made classifiers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image as PillowImage
from PIL import ImageFilter

from classification.data.fer2013 import Fer2013
from eval import robustness

RAMP = np.tile(np.linspace(20, 200, 48), (48, 1)).astype(np.uint8)


@pytest.mark.parametrize("scale", [0.8, 1.0, 1.3])
def test_rescale_cuts_the_central_square(scale: float) -> None:
    changed = robustness.rescale(RAMP, scale).astype(float)
    inner = slice(10, 38)
    # The slope of a ramp grows with the scale, its middle stays.
    slope = np.diff(changed[24, inner]).mean() / np.diff(RAMP[24, inner].astype(float)).mean()
    assert slope == pytest.approx(scale, rel=0.03)
    assert changed[:, 23:25].mean() == pytest.approx(RAMP[:, 23:25].mean(), abs=1)
    if scale > 1:
        assert (changed[:, 0] == RAMP[0, 0]).all() and (changed[:, -1] == RAMP[0, -1]).all()


def test_blur_is_a_gaussian() -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (48, 48), dtype=np.uint8)
    assert np.array_equal(robustness.blur(image, 0.0), image)
    found = robustness.blur(image, 1.5)[8:40, 8:40].astype(float)
    pillow = PillowImage.fromarray(image).filter(ImageFilter.GaussianBlur(1.5))
    assert np.abs(found - np.asarray(pillow, float)[8:40, 8:40]).mean() < 3


def test_brightness_is_cut_off() -> None:
    image = np.array([[0, 100], [200, 255]], np.uint8)
    assert robustness.brighten(image, 1.5).tolist() == [[0, 150], [255, 255]]
    assert robustness.brighten(image, 0.5).tolist() == [[0, 50], [100, 128]]


class SeesBright:
    """Says happy (3) from a mean of 100 on, else angry (0)."""

    name = "bright"

    def probabilities(self, crops: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        chosen = [3 if crop.mean() >= 100 else 0 for crop in crops]
        return np.eye(7, dtype=np.float32)[chosen]


def test_rows_hold_the_curves_and_their_lowest_accuracy(tmp_path: Path) -> None:
    images = np.concatenate([np.full((30, 48, 48), 120), np.full((70, 48, 48), 60)])
    labels = np.repeat([3, 0], [30, 70])
    names = tuple(map(str, range(100)))
    data = Fer2013(images.astype(np.uint8), labels, np.array(["PublicTest"] * 100), names)
    (run,) = robustness.measure(data, [SeesBright()], "PublicTest")
    curve = {point["value"]: point["accuracy"] for point in run["brightness"]}
    # 120 falls below 100 at 0.8; 60 reaches it at no factor up to 1.5.
    assert curve == {0.4: 0.7, 0.6: 0.7, 0.8: 0.7, 1.0: 1.0, 1.25: 1.0, 1.5: 1.0}
    assert (run["brightness_usual"], run["brightness_lowest"]) == (1.0, 0.7)
    assert run["scale_lowest"] == run["blur_lowest"] == 1.0
    robustness.draw([run], tmp_path / "curves.png")
    with PillowImage.open(tmp_path / "curves.png") as picture:
        assert picture.width > 800
