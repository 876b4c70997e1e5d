"""Annotated pictures."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import ImageDraw

from faces.draw import COLOURS, UNSURE_COLOUR, draw_faces, label_lines
from faces.emotions import EMOTIONS
from faces.types import Box, Detection, EmotionProbabilities, Face, ImageResult


def scores(**shares: float) -> EmotionProbabilities:
    rest = (1 - sum(shares.values())) / len(EMOTIONS)
    return EmotionProbabilities(tuple(shares.get(name, 0) + rest for name in EMOTIONS))


def face(box: tuple[float, float, float, float], **shares: float) -> Face:
    return Face(Detection(Box(*box), 0.9), scores(**shares))


def drawn(image: np.ndarray, *faces: Face, threshold: float = 0.3) -> np.ndarray:
    height, width = image.shape[:2]
    before = image.copy()
    out = draw_faces(image, ImageResult("a", width, height, 0.0, faces), threshold)
    assert out.shape == image.shape and out.dtype == np.uint8
    np.testing.assert_array_equal(image, before)
    return out


def count(image: np.ndarray, colour: tuple[int, int, int]) -> int:
    return int((image == np.uint8(colour)).all(axis=2).sum())


def test_one_colour_per_emotion() -> None:
    assert tuple(COLOURS) == EMOTIONS
    assert len({*COLOURS.values(), UNSURE_COLOUR}) == 8


def test_text() -> None:
    happy = face((0, 0, 1, 1), happy=0.6, surprise=0.3)
    assert label_lines(3, happy) == ["3 happy 61%", "surprise 31%"]
    assert label_lines(3, happy, 0.5) == ["3 happy 61%"]
    assert label_lines(1, happy, {"happy": 0.9}) == ["1 surprise 31%"]
    assert label_lines(2, face((0, 0, 1, 1), sad=0.1)) == ["2 unsure", "sad? 23%"]
    weak = face((0, 0, 1, 1), sad=0.19, fear=0.18)  # labels, but none that is clear
    assert weak.emotions.unsure(0.25) and weak.emotions.labels(0.25) == ["sad", "fear"]
    assert label_lines(1, weak, 0.25) == ["1 unsure", "sad? 28%", "fear? 27%"]


def test_no_faces_leave_the_picture() -> None:
    image = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    np.testing.assert_array_equal(drawn(image), image)


@pytest.mark.parametrize("background", [0, 128, 255])
def test_frame_in_two_tones_around_the_box(background: int) -> None:
    image = np.full((300, 400, 3), background, np.uint8)
    out = drawn(image, face((100, 120, 180, 220), fear=0.8))
    inside = out[121:219, 101:179]
    np.testing.assert_array_equal(inside, image[121:219, 101:179])
    row = [tuple(int(v) for v in out[170, x]) for x in range(94, 101)]
    assert row[-5:-1] == [(0, 0, 0), COLOURS["fear"], COLOURS["fear"], (0, 0, 0)]
    assert row[-1] == (background,) * 3
    assert count(out, COLOURS["fear"]) > 1500  # the label is filled


def test_unsure_is_grey() -> None:
    out = drawn(np.zeros((300, 400, 3), np.uint8), face((100, 120, 180, 220)))
    assert count(out, UNSURE_COLOUR) > 1500
    assert not any(count(out, colour) for colour in COLOURS.values())


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[tuple[tuple[int, ...], str]]:
    """The filled rectangles and texts that are drawn."""
    found: list[tuple[tuple[int, ...], str]] = []
    rectangle, text = ImageDraw.ImageDraw.rectangle, ImageDraw.ImageDraw.text

    def keep_rectangle(self, xy, fill=None, **options):
        if fill is not None:
            found.append((tuple(xy), ""))
        rectangle(self, xy, fill=fill, **options)

    def keep_text(self, xy, text_, **options):
        found.append((tuple(self.textbbox(xy, text_, options["font"], options["anchor"])), text_))
        text(self, xy, text_, **options)

    monkeypatch.setattr(ImageDraw.ImageDraw, "rectangle", keep_rectangle)
    monkeypatch.setattr(ImageDraw.ImageDraw, "text", keep_text)
    return found


POSITIONS = [
    (0, 0, 40, 50),
    (360, 0, 400, 50),
    (0, 250, 40, 300),
    (360, 250, 400, 300),
    (-30, -30, 10, 10),
    (390, 290, 450, 350),
    (0, 0, 400, 300),
    (-50, -50, 500, 400),
    (1000, 1000, 1100, 1100),
]


@pytest.mark.parametrize("box", POSITIONS)
def test_labels_stay_in_the_picture(
    written: list[tuple[tuple[int, ...], str]], box: tuple[float, float, float, float]
) -> None:
    out = drawn(np.zeros((300, 400, 3), np.uint8), face(box, surprise=0.4, disgust=0.4))
    label, *texts = written
    assert [text for _, text in texts] == ["1 disgust 43%", "surprise 43%"]
    for area, _ in written:
        assert area[0] >= 0 and area[1] >= 0 and area[2] <= 400 and area[3] <= 300
    for area, _ in texts:  # the letters lie on the filled ground
        assert area[0] >= label[0][0] and area[1] >= label[0][1]
        assert area[2] <= label[0][2] + 1 and area[3] <= label[0][3] + 1
    assert count(out, COLOURS["disgust"]) > 500


def test_labels_avoid_each_other(written: list[tuple[tuple[int, ...], str]]) -> None:
    faces = [
        face((x, y, x + 60, y + 70), neutral=0.8)
        for y in range(60, 900, 140)
        for x in range(20, 1200, 170)
    ]
    drawn(np.zeros((1000, 1300, 3), np.uint8), *faces)
    labels = [area for area, text in written if not text]
    assert len(labels) == len(faces)
    for index, a in enumerate(labels):
        for b in labels[:index]:
            assert a[2] < b[0] or b[2] < a[0] or a[3] < b[1] or b[3] < a[1]


def test_letters_grow_with_the_picture(written: list[tuple[tuple[int, ...], str]]) -> None:
    heights = []
    for scale in (1, 2, 4):
        written.clear()
        image = np.zeros((500 * scale, 700 * scale, 3), np.uint8)
        drawn(image, face(tuple(v * scale for v in (200, 200, 300, 300)), sad=0.9))  # type: ignore[arg-type]
        heights.append(written[1][0][3] - written[1][0][1])
    assert heights[0] >= 8
    assert heights[1] > 1.5 * heights[0] and heights[2] > 1.7 * heights[1]


def test_faces_are_numbered_from_left_to_right(
    written: list[tuple[tuple[int, ...], str]],
) -> None:
    image = np.zeros((300, 400, 3), np.uint8)
    faces = (face((250, 120, 330, 220), happy=0.8), face((100, 120, 180, 220), sad=0.8))
    result = ImageResult("a", 400, 300, 0.0, faces)
    draw_faces(image, result)
    draw_faces(image, result, numbers=(1, 2))
    texts = [text for _, text in written if text]
    assert texts == ["2 happy 83%", "1 sad 83%", "1 happy 83%", "2 sad 83%"]


@pytest.mark.parametrize("shape", [(1, 1), (1, 500), (500, 1), (5, 5), (48, 48), (1, 20_000)])
def test_odd_pictures(shape: tuple[int, int]) -> None:
    boxes = [(0, 0, 1, 1), (-5, -5, 3, 3), (0.2, 0.2, 0.3, 0.3), (0, 0, shape[1], shape[0])]
    drawn(np.zeros((*shape, 3), np.uint8), *(face(b, happy=0.5, sad=0.4) for b in boxes))


corner = st.floats(-1e9, 1e9)


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.tuples(corner, corner, st.floats(1e-3, 1e9), st.floats(1e-3, 1e9)), max_size=4),
    st.integers(1, 90),
    st.integers(1, 90),
)
def test_any_box(boxes: list[tuple[float, float, float, float]], height: int, width: int) -> None:
    faces = [
        face((x, y, x + w, y + h), fear=0.5) for x, y, w, h in boxes if x + w > x and y + h > y
    ]
    drawn(np.zeros((height, width, 3), np.uint8), *faces)


@pytest.mark.slow
def test_a_thousand_faces_take_seconds() -> None:
    rng = np.random.default_rng(1)
    corners = rng.uniform(0, 3900, (1000, 2))
    faces = [face((x, y * 0.75, x + 40, y * 0.75 + 50), happy=0.7) for x, y in corners]
    start = time.process_time()
    drawn(np.zeros((3000, 4000, 3), np.uint8), *faces)
    assert time.process_time() - start < 10
