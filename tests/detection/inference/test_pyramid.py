"""Images of any size, with a detector that sees planted squares exactly: geometry, no network."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage

from detection.inference import pyramid
from detection.inference.pyramid import OVERLAP, SMALLEST, WINDOW
from faces.scope import DETAILS, Scope

SIZES = (400, 672)


class Squares:
    """Finds bright squares from 12 to 300 pixels, cut ones too; remembers what it was shown."""

    def __init__(self) -> None:
        self.shapes: list[tuple[int, int]] = []

    def __call__(
        self, views: Sequence[NDArray[np.uint8]]
    ) -> list[tuple[NDArray[np.float32], NDArray[np.float32]]]:
        found = []
        for view in views:
            self.shapes.append(view.shape[:2])
            labels, _ = ndimage.label(view[:, :, 0] > 180)
            slices = ndimage.find_objects(labels)
            rows = [(x.start, y.start, x.stop, y.stop) for y, x in slices]
            boxes = np.array(rows, np.float32).reshape(-1, 4)
            sides = (boxes[:, 2:] - boxes[:, :2]).max(axis=1, initial=0)
            # faint where it is too small or too large to be seen well, as a network has it
            scores = np.where((sides >= SMALLEST - 1) & (sides <= 300), 0.95, 0.3)
            seen = (sides >= SMALLEST / 2 - 1) & (sides <= 400)
            found.append((boxes[seen], scores[seen].astype(np.float32)))
        return found


def find(
    image: NDArray[np.uint8], scope: Scope, look: Squares
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    used = pyramid.scales(image.shape[1], image.shape[0], SIZES, scope)
    boxes, scores = pyramid.find(image, used, look, scope, sure=0.8)
    return boxes[scores >= 0.8], scores[scores >= 0.8]


@given(st.integers(1, 9000), st.integers(1, 9000))
def test_windows_cover_all_and_hold_every_face_up_to_the_overlap(width: int, height: int) -> None:
    parts = pyramid.windows(width, height)
    for length, low, high in ((width, "x1", "x2"), (height, "y1", "y2")):
        spans = sorted({(getattr(part, low), getattr(part, high)) for part in parts})
        assert spans[0][0] == 0 and spans[-1][1] == length
        assert all(end - start <= WINDOW for start, end in spans)
        for (_, end), (start, _) in pairwise(spans):
            assert end - start >= OVERLAP - 1  # rounding


@given(
    st.integers(1, 40_000), st.integers(1, 40_000),
    st.sampled_from(DETAILS), st.floats(4, 60),
)  # fmt: skip
def test_scales_leave_no_size_of_face_out(
    width: int, height: int, detail: str, min_face: float
) -> None:
    used = pyramid.scales(width, height, SIZES, Scope(detail, min_face))
    coarsest = min(SIZES[0] / min(width, height), SIZES[1] / max(width, height))
    assert used[0] == coarsest and list(used) == sorted(used)
    if detail == "fast":
        assert used == (coarsest,)
    elif len(used) > 1:
        assert pyramid.smallest_face(used) == pytest.approx(min_face)
    for coarse, fine in pairwise(used):
        assert OVERLAP / fine >= SMALLEST / coarse  # the larger ones are seen at the coarser scale


@pytest.mark.parametrize("detail", ["standard", "full"])
@pytest.mark.parametrize("size", [(300, 200), (1200, 900), (4000, 3000), (7000, 900)])
def test_squares_of_all_sizes_are_found_once(detail: str, size: tuple[int, int]) -> None:
    width, height = size
    rng = np.random.default_rng(width)
    image = np.full((height, width, 3), 40, np.uint8)
    planted: list[tuple[int, int, int, int]] = []
    for side in (14, 14, 20, 24, 40, 60, 90, 130, 200, 260, 600, 1100, 1800):
        for _ in range(40):
            if side + 8 >= min(size):
                break
            x, y = (int(rng.integers(2, length - side - 2)) for length in size)
            new = (x - 9, y - 9, x + side + 9, y + side + 9)
            if all(
                new[0] > b[2] or new[2] < b[0] or new[1] > b[3] or new[3] < b[1] for b in planted
            ):
                planted.append((x, y, x + side, y + side))
                image[y : y + side, x : x + side] = 250
                break
    boxes, _ = find(image, Scope(detail), Squares())
    assert len(boxes) == len(planted) > 3
    for box in planted:
        assert np.abs(boxes - box).max(axis=1).min() < 11  # a pixel at the coarsest scale


def test_fast_looks_once_whatever_the_size() -> None:
    look = Squares()
    image = np.full((3000, 4000, 3), 40, np.uint8)
    image[100:1100, 100:1100] = 250
    boxes, _ = find(image, Scope("fast"), look)
    assert len(boxes) == 1 and look.shapes == [(400, 533)]


def test_an_empty_image_costs_no_close_look_in_standard_detail() -> None:
    look = Squares()
    find(np.full((3000, 4000, 3), 40, np.uint8), Scope(), look)
    pixels = sum(height * width for height, width in look.shapes)
    assert pixels < 0.4 * 12e6
    look = Squares()
    find(np.full((3000, 4000, 3), 40, np.uint8), Scope("full"), look)
    assert sum(height * width for height, width in look.shapes) > 12e6


def test_a_face_from_edge_to_edge_is_found_on_a_padded_canvas() -> None:
    class NeedsRoom(Squares):
        def __call__(self, views: Sequence[NDArray[np.uint8]]) -> list[tuple]:  # type: ignore[type-arg]
            answers = super().__call__(views)
            return [
                (b, np.where((b[:, :2] < 2).any(1) | (b[:, 2:] > v.shape[0] - 2).any(1), 0.4, s))
                for v, (b, s) in zip(views, answers, strict=True)
            ]

    image = np.full((120, 100, 3), 250, np.uint8)
    boxes, _ = find(image, Scope(), NeedsRoom())
    np.testing.assert_allclose(boxes, [[0, 0, 100, 120]], atol=1)


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 30), st.integers(1, 3000))
def test_narrow_images_are_looked_at_too(narrow: int, long: int) -> None:
    for shape in ((narrow, long, 3), (long, narrow, 3)):
        boxes, scores = find(np.full(shape, 40, np.uint8), Scope(), Squares())
        assert boxes.shape == (0, 4) and scores.shape == (0,)
