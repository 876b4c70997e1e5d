"""The crop rule against a per-pixel reference."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from faces.crops import CROP_MARGIN, crop_face, pad_to_square
from faces.types import Box

quarters = st.integers(-400, 400).map(lambda v: v / 4)
lengths = st.integers(1, 240).map(lambda v: v / 4)
sides = st.integers(1, 24)


def picture(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(height * 1000 + width).integers(
        0, 256, (height, width, 3), dtype=np.uint8
    )


@st.composite
def boxes(draw: st.DrawFn) -> Box:
    x, y, w, h = draw(quarters), draw(quarters), draw(lengths), draw(lengths)
    return Box(x, y, x + w, y + h)


def reference(image: np.ndarray, box: Box, margin: float = 0.0) -> np.ndarray:
    """The docstring's rule in exact arithmetic, one pixel at a time."""
    height, width = image.shape[:2]
    x1, y1, x2, y2 = (Fraction(v) for v in box.as_tuple())
    longer = max(x2 - x1, y2 - y1) * (1 + 2 * Fraction(margin))
    longer = min(longer, Fraction(2 * max(height, width)))
    half = Fraction(1, 2)
    side = max(1, math.floor(longer + half))
    left = math.floor((x1 + x2) / 2 - Fraction(side, 2) + half)
    top = math.floor((y1 + y2) / 2 - Fraction(side, 2) + half)
    out = np.empty((side, side, 3), np.uint8)
    for i in range(side):
        for j in range(side):
            out[i, j] = image[min(max(top + i, 0), height - 1), min(max(left + j, 0), width - 1)]
    return out


@given(sides, sides, boxes(), st.sampled_from([0.0, 0.25, 0.5, -0.25]))
def test_equals_the_reference(height: int, width: int, box: Box, margin: float) -> None:
    image = picture(height, width)
    crop = crop_face(image, box, margin)
    assert crop.dtype == np.uint8
    assert crop.shape[0] == crop.shape[1] >= 1
    np.testing.assert_array_equal(crop, reference(image, box, margin))


@given(boxes(), st.integers(-20, 20), st.integers(-20, 20))
def test_moving_box_and_picture_by_whole_pixels_changes_nothing(box: Box, dx: int, dy: int) -> None:
    canvas = picture(300, 300)
    moved = np.roll(canvas, (dy, dx), axis=(0, 1))
    inside = Box(*(v % 60 + 100 for v in (box.x1, box.y1)), 165.25, 170.5)
    shifted = Box(inside.x1 + dx, inside.y1 + dy, inside.x2 + dx, inside.y2 + dy)
    np.testing.assert_array_equal(crop_face(canvas, inside), crop_face(moved, shifted))


@given(
    st.tuples(*[st.floats(allow_nan=False, allow_infinity=False)] * 4).filter(
        lambda v: v[0] != v[1] and v[2] != v[3]
    )
)
def test_any_finite_box_gives_a_square_of_bounded_size(values: tuple[float, ...]) -> None:
    (x1, x2), (y1, y2) = sorted(values[:2]), sorted(values[2:])
    crop = crop_face(picture(5, 9), Box(x1, y1, x2, y2))
    assert crop.shape[0] == crop.shape[1]
    assert 1 <= crop.shape[0] <= 18


def test_by_hand() -> None:
    image = picture(6, 8)
    np.testing.assert_array_equal(crop_face(image, Box(2, 1, 5, 4)), image[1:4, 2:5])
    # 2 wide, 4 high: one column more on each side
    np.testing.assert_array_equal(crop_face(image, Box(3, 1, 5, 5)), image[1:5, 2:6])
    # one pixel to the left of the picture: its first column twice
    np.testing.assert_array_equal(crop_face(image, Box(-1, 0, 2, 3)), image[0:3][:, [0, 0, 1]])
    # sub-pixel: the pixel that holds its centre
    np.testing.assert_array_equal(crop_face(image, Box(3.2, 2.6, 3.3, 2.7)), image[2:3, 3:4])


def test_far_outside_is_the_corner_pixel() -> None:
    image = picture(4, 4)
    crop = crop_face(image, Box(1e12, 1e12, 1e12 + 3, 1e12 + 3))
    assert (crop == image[3, 3]).all()
    crop = crop_face(image, Box(-1e12 - 3, 1e12, -1e12, 1e12 + 3))
    assert (crop == image[3, 0]).all()


def test_crop_is_independent_of_the_picture() -> None:
    image = picture(6, 6)
    crop = crop_face(image, Box(0, 0, 6, 6))
    assert crop.flags.c_contiguous and crop.flags.writeable
    crop[:] = 0
    assert image.any()


@given(sides, sides)
def test_pad_to_square(height: int, width: int) -> None:
    image = picture(height, width)
    square = pad_to_square(image)
    side = max(height, width)
    assert square.shape == (side, side, 3)
    top, left = (side - height) // 2, (side - width) // 2
    np.testing.assert_array_equal(square[top : top + height, left : left + width], image)
    pads = ((top, side - height - top), (left, side - width - left), (0, 0))
    np.testing.assert_array_equal(square, np.pad(image, pads, mode="edge"))


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((4, 4, 3), np.float32),
        np.zeros((0, 4, 3), np.uint8),
    ],
)
def test_refuses_what_is_no_picture(image: np.ndarray) -> None:
    with pytest.raises(ValueError, match="uint8"):
        crop_face(image, Box(0, 0, 1, 1))
    with pytest.raises(ValueError, match="uint8"):
        pad_to_square(image)


@pytest.mark.parametrize("margin", [-0.5, math.nan, math.inf])
def test_refuses_a_senseless_margin(margin: float) -> None:
    with pytest.raises(ValueError, match="margin"):
        crop_face(picture(4, 4), Box(0, 0, 1, 1), margin)


def test_the_default_margin_is_the_constant() -> None:
    image, box = picture(9, 9), Box(2, 2, 6, 6)
    np.testing.assert_array_equal(crop_face(image, box), crop_face(image, box, CROP_MARGIN))
