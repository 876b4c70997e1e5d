"""Pictures and HTML of photos and faces, without the page."""

from __future__ import annotations

import io
import re
import string

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from demo.render import cards
from demo.session import Analysis
from faces.draw import UNSURE_COLOUR
from faces.emotions import EMOTIONS
from faces.pipeline import Merged
from faces.types import Box, Detection, EmotionProbabilities, Face, ImageResult

HAPPY_OR_SURPRISED = (0.0, 0.0, 0.05, 0.6, 0.0, 0.35, 0.0)
UNCLEAR = (0.2, 0.1, 0.1, 0.2, 0.1, 0.1, 0.2)
WEAK = (0.0, 0.0, 0.2, 0.31, 0.305, 0.1, 0.085)


def result_of(*rows: tuple[float, ...], width: int = 80, height: int = 60) -> ImageResult:
    faces = (
        Face(Detection(Box(10 * i, 5, 10 * i + 9, 15), 0.9 - 0.1 * i), EmotionProbabilities(row))
        for i, row in enumerate(rows)
    )
    return ImageResult("a.jpg", width, height, 0.5, tuple(faces))


def cards_of(
    *rows: tuple[float, ...], threshold: cards.Threshold = 0.3, shown: slice = slice(99)
) -> list[str]:
    result = result_of(*rows)
    return cards.cards_html(result, [b"x"] * len(rows), threshold, shown).split("<li")[1:]


def labels_in(card: str) -> list[str]:
    return re.findall(r'<span class="label[^>]*>(?:<i[^>]*></i>)?(\w+\??)', card)


def test_cards_show_labels_bars_and_threshold() -> None:
    cards = cards_of(HAPPY_OR_SURPRISED, UNCLEAR)
    assert [labels_in(card) for card in cards] == [["happy", "surprise"], ["unsure"]]
    assert re.findall(r"<dt[^>]*>(\w+)", cards[0]) == list(EMOTIONS)
    assert re.findall(r"width:([\d.]+)%", cards[0]) == [
        f"{100 * p:.1f}" for p in HAPPY_OR_SURPRISED
    ]
    assert re.findall(r"left:([\d.]+)%", cards[0]) == ["30.0"] * 7
    assert re.findall(r'<dt class="name shown">(\w+)', cards[0]) == ["happy", "surprise"]
    assert 'alt="face 2"' in cards[1]


def test_cards_follow_the_threshold() -> None:
    assert cards_of(HAPPY_OR_SURPRISED, threshold=0.36)[0].count("name shown") == 1
    assert labels_in(cards_of(HAPPY_OR_SURPRISED, threshold=0.61)[0]) == ["unsure"]
    assert cards_of(HAPPY_OR_SURPRISED, threshold=0.0)[0].count("name shown") == 7


def test_each_emotion_has_its_own_line() -> None:
    (card,) = cards_of(HAPPY_OR_SURPRISED, threshold={"happy": 0.7, "fear": 0.05})
    assert re.findall(r"left:([\d.]+)%", card) == [f"{v:.1f}" for v in (30, 30, 5, 70, 30, 30, 30)]
    assert labels_in(card) == ["surprise", "fear"]


def test_labels_of_an_unsure_face_carry_question_marks() -> None:
    assert EmotionProbabilities(WEAK).unsure(0.3)
    assert labels_in(cards_of(WEAK)[0]) == ["unsure", "happy?", "sad?"]
    assert cards.shows(result_of(WEAK).faces[0], 0.3) == "unsure (happy and sad?)"


def test_a_part_of_the_cards_keeps_its_numbers() -> None:
    cards = cards_of(*[UNCLEAR] * 5, shown=slice(2, 4))
    assert [re.findall(r"Face (\d)", card) for card in cards] == [["3"], ["4"]]


def test_description_in_words() -> None:
    result = result_of(HAPPY_OR_SURPRISED, UNCLEAR)
    words = cards.describe("b.jpg", result, 0.3)
    assert words == "b.jpg with 2 faces, face 1 happy and surprise, face 2 unsure"
    assert cards.describe("b.jpg", result_of(), 0.3) == "b.jpg with 0 faces"


def test_scaled_boxes_cover_the_same_part_of_the_picture() -> None:
    scaled = cards.scale_result(result_of(UNCLEAR, UNCLEAR), (120, 40, 3))
    assert (scaled.width, scaled.height) == (40, 120)
    assert scaled.faces[1].detection.box.as_tuple() == (5, 10, 9.5, 30)
    assert scaled.faces[1].detection.score == 0.8


def test_suppressed_boxes_are_drawn_on_demand() -> None:
    file = io.BytesIO()
    Image.new("RGB", (640, 480), (10, 20, 30)).save(file, "PNG")
    box = Detection(Box(20, 15, 60, 45), 0.4)
    analysis = Analysis(result_of(), (box,), (), {})
    for shown in (False, True):
        data = cards.annotated_preview(file.getvalue(), analysis, 0.3, shown)
        with Image.open(io.BytesIO(data)) as picture:
            close = np.abs(np.array(picture).astype(int) - UNSURE_COLOUR).max(axis=2) < 30
        rows, columns = np.nonzero(close)
        assert bool(len(rows)) == shown
    # the box in pixels of the preview, which is eight times as large as the photo
    assert (columns.min() // 8, columns.max() // 8) == (20, 59)
    assert (rows.min() // 8, rows.max() // 8) == (15, 47)  # the reason stands below it


def test_suppressed_boxes_carry_their_reason_once_per_face() -> None:
    boxes = [Detection(Box(x, 0, x + 8, 8), 0.9 - x / 100) for x in range(4)]
    merged = tuple(Merged(box, into) for box, into in zip(boxes, (1, 0, 1, 1), strict=True))
    weak = (Detection(Box(60, 20, 70, 40), 0.4),)
    analysis = Analysis(result_of(UNCLEAR, UNCLEAR), weak, merged, {})
    found = cards.suppressed_boxes(analysis, (120, 80, 3))
    reasons = [reason for _, reason in found]
    assert reasons == ["same face as 2 (3 boxes)", "same face as 1", "", "", "0.40 low score"]
    crowd = Analysis(result_of(*[UNCLEAR] * 7), weak, merged, {})
    found = cards.suppressed_boxes(crowd, (120, 80, 3))
    assert [reason for _, reason in found] == ["= 2", "= 1", "", "", "0.40"]
    assert found[1][0] == Box(1, 0, 9, 16) and found[4][0] == Box(60, 40, 70, 80)


@pytest.mark.parametrize("size", [(1, 1), (20_000, 3), (80, 60), (640, 400), (2000, 3000)])
def test_pictures_fit_the_page(size: tuple[int, int]) -> None:
    assert 1 <= cards.preview_width(result_of(width=size[0], height=size[1])) <= 1280


@given(st.text(max_size=30))
def test_names_stay_as_they_are_in_markdown(name: str) -> None:
    escaped = cards.plain(name)
    assert re.sub(r"\\(.)", r"\1", escaped) == " ".join(name.split())
    assert set(re.sub(r"\\.", "", escaped)).isdisjoint(string.punctuation)
    assert set(re.findall(r"\\(.)", escaped)) <= set(string.punctuation)


@given(st.text(alphabet="`a: *", max_size=20))
def test_a_name_in_code_is_one_fenced_run(name: str) -> None:
    shown = cards.code(name)
    fence = re.match("`+", shown).group()  # type: ignore[union-attr]
    inner = shown.removeprefix(fence).removesuffix(fence)
    assert len(fence) not in {len(run) for run in re.findall("`+", inner)}
    assert inner.strip() == " ".join(name.split()).strip()
    assert not inner.startswith("`") and not inner.endswith("`")


@pytest.mark.parametrize(
    ("sent", "name"), [("a%22b%22.png", 'a"b".png'), ("100%.png", "100%.png"), ("a%20.png",) * 2]
)
def test_a_sent_name_is_the_file_s_own(sent: str, name: str) -> None:
    assert cards.sent_name(sent) == name


@pytest.mark.parametrize(
    ("url", "allowed"),
    [
        ("http://localhost:8501/", True),
        ("http://127.0.0.1:8501/", True),
        ("http://[::1]:8501/", True),
        ("https://faces.example.org/", True),
        ("http://192.168.1.7:8501/", False),
        ("http://0.0.0.0:8501/", False),
        ("http://localhost.example.org/", False),
        ("", True),
    ],
)
def test_the_camera_needs_https_or_this_machine(url: str, allowed: bool) -> None:
    assert cards.camera_allowed(url) == allowed


def test_pictures_describe_themselves_safely() -> None:
    assert 'alt="&lt;b&gt;&quot;"' in cards.image_html(b"x", '<b>"')
