"""What the page shows and hands out, without the page."""

from __future__ import annotations

import io
import re
import string

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from demo import views
from faces.draw import draw_faces
from faces.emotions import EMOTIONS
from faces.paths import PICTURE_SUFFIXES
from faces.types import Box, Detection, EmotionScores, Face, ImageResult

HAPPY_OR_SURPRISED = (0.0, 0.0, 0.05, 0.6, 0.0, 0.35, 0.0)
UNCLEAR = (0.2, 0.1, 0.1, 0.2, 0.1, 0.1, 0.2)


def result_of(*rows: tuple[float, ...], width: int = 80, height: int = 60) -> ImageResult:
    faces = (
        Face(Detection(Box(10 * i, 5, 10 * i + 9, 15), 0.9 - 0.1 * i), EmotionScores(row))
        for i, row in enumerate(rows)
    )
    return ImageResult("a.jpg", width, height, 0.5, tuple(faces))


def jpeg(width: int, height: int) -> bytes:
    file = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    Image.fromarray(noise).save(file, "JPEG")
    return file.getvalue()


def test_cards_show_labels_bars_and_threshold() -> None:
    analysis = views.Analysis(result_of(HAPPY_OR_SURPRISED, UNCLEAR), b"", (b"one", b"two"))
    cards = views.cards_html(analysis, 0.3).split("<li>")[1:]
    assert [re.findall(r'<span class="label[^>]*>(?:<i[^>]*></i>)?(\w+)', c) for c in cards] == [
        ["happy", "surprise"],
        ["unsure"],
    ]
    assert re.findall(r"<dt[^>]*>(\w+)", cards[0]) == list(EMOTIONS)
    assert re.findall(r"width:([\d.]+)%", cards[0]) == [
        f"{100 * p:.1f}" for p in HAPPY_OR_SURPRISED
    ]
    assert re.findall(r"left:([\d.]+)%", cards[0]) == ["30.0"] * 7
    assert re.findall(r'<dt class="name shown">(\w+)', cards[0]) == ["happy", "surprise"]
    assert 'alt="face 2"' in cards[1]


def test_cards_follow_the_threshold() -> None:
    analysis = views.Analysis(result_of(HAPPY_OR_SURPRISED), b"", (b"one",))
    assert views.cards_html(analysis, 0.36).count("name shown") == 1
    assert "unsure" in views.cards_html(analysis, 0.61)
    assert views.cards_html(analysis, 0.0).count("name shown") == 7


def test_description_in_words() -> None:
    result = result_of(HAPPY_OR_SURPRISED, UNCLEAR)
    words = views.describe("b.jpg", result, 0.3)
    assert words == "b.jpg with 2 faces, face 1 happy and surprise, face 2 unsure"
    assert views.describe("b.jpg", result_of(), 0.3) == "b.jpg with 0 faces"


def test_table_has_a_row_per_face() -> None:
    rows = views.table_rows([result_of(HAPPY_OR_SURPRISED), result_of(), result_of(UNCLEAR)], 0.3)
    assert [row["shows"] for row in rows] == ["happy, surprise", "unsure"]
    assert list(rows[0]) == ["photo", "face", "shows", *EMOTIONS, "detection score"]
    assert rows[0]["happy"] == pytest.approx(60)


def test_scaled_boxes_cover_the_same_part_of_the_picture() -> None:
    scaled = views.scale_result(result_of(UNCLEAR, UNCLEAR), (120, 40, 3))
    assert (scaled.width, scaled.height) == (40, 120)
    assert scaled.faces[1].detection.box.as_tuple() == (5, 10, 9.5, 30)
    assert scaled.faces[1].detection.score == 0.8


def test_annotated_png_is_the_drawing_at_full_size() -> None:
    photo = views.Photo.of("a.jpg", jpeg(80, 60))
    with Image.open(io.BytesIO(photo.data)) as picture:
        expected = draw_faces(np.array(picture), result_of(HAPPY_OR_SURPRISED), 0.3)
    file = views.annotated_png(photo, result_of(HAPPY_OR_SURPRISED), 0.3)
    with Image.open(io.BytesIO(file)) as picture:
        assert picture.format == "PNG"
        np.testing.assert_array_equal(np.array(picture), expected)


@pytest.mark.parametrize("size", [(1, 1), (20_000, 3), (80, 60), (640, 400), (2000, 3000)])
def test_any_size_is_shown_at_a_bounded_one(size: tuple[int, int]) -> None:
    width, height = size
    photo = views.Photo.of("a.png", jpeg(width, height))
    analysis = views.analyze_photo(photo, OneFace(), Flat())
    shown = views.annotated_preview(analysis, 0.3)
    with Image.open(io.BytesIO(shown)) as picture:
        assert 640 <= max(picture.size) <= 1280
    with Image.open(io.BytesIO(analysis.crops[0])) as crop:
        assert crop.width == crop.height <= views.CARD_SIDE
    assert 1 <= views.preview_width(analysis.result) <= 1280
    assert len(analysis.preview) + len(analysis.crops[0]) < 4_000_000  # noise: a photo takes less


@given(st.text(max_size=30))
def test_names_stay_as_they_are_in_markdown(name: str) -> None:
    escaped = views.plain(name)
    assert re.sub(r"\\(.)", r"\1", escaped) == " ".join(name.split())
    assert set(re.sub(r"\\.", "", escaped)).isdisjoint(string.punctuation)
    assert set(re.findall(r"\\(.)", escaped)) <= set(string.punctuation)


def test_content_tells_photos_apart_and_removed_ones_are_found() -> None:
    one, same, other = (views.Photo.of(*p) for p in (("a", b"x"), ("b", b"x"), ("a", b"y")))
    assert one.digest == same.digest != other.digest
    keys = [(one.digest, "d", "c"), (other.digest, "d", "c"), (other.digest, "e", "c")]
    assert views.stale_keys(keys, [same]) == keys[1:]


def test_file_dialog_lists_every_suffix_once() -> None:
    suffixes = views.sorted_suffixes(PICTURE_SUFFIXES)
    assert suffixes[:2] == ["jpg", "jpeg"]
    assert {f".{suffix}" for suffix in suffixes} == PICTURE_SUFFIXES
    assert len(suffixes) == len(PICTURE_SUFFIXES)


class OneFace:
    name = "one"
    score_threshold = 0.5

    def detect(
        self, images: list[np.ndarray], min_score: float | None = None
    ) -> list[list[Detection]]:
        return [[Detection(Box(0, 0, min(image.shape[:2]), 3), 0.9)] for image in images]


class Flat:
    name = "flat"

    def scores(self, crops: list[np.ndarray]) -> np.ndarray:
        return np.full((len(crops), 7), 1 / 7, np.float32)
