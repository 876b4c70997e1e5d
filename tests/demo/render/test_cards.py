"""Pictures and HTML of photos and faces, without the page."""

from __future__ import annotations

import re
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from demo.render import cards
from faces.emotions import EMOTIONS
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
    names = re.findall(r"<dt[^>]*>(\w+)", cards[0])
    assert names[:3] == ["happy", "surprise", "fear"] and sorted(names) == sorted(EMOTIONS)
    widths = [60.0, 35.0, 5.0, 0.0, 0.0, 0.0, 0.0]
    assert [float(width) for width in re.findall(r"width:([\d.]+)%", cards[0])] == widths
    assert cards[0].index("<details>") > cards[0].index("surprise</dt>")  # two bars at once
    assert cards[0].index("<details>") < cards[0].index("fear</dt>")
    assert re.findall(r"left:([\d.]+)%", cards[0]) == ["30.0"] * 7
    assert re.findall(r'<dt class="name shown">(\w+)', cards[0]) == ["happy", "surprise"]
    assert 'alt="face 2"' in cards[1]


def test_cards_follow_the_threshold() -> None:
    assert cards_of(HAPPY_OR_SURPRISED, threshold=0.36)[0].count("name shown") == 1
    assert labels_in(cards_of(HAPPY_OR_SURPRISED, threshold=0.61)[0]) == ["unsure"]
    assert cards_of(HAPPY_OR_SURPRISED, threshold=0.0)[0].count("name shown") == 7


def test_each_emotion_has_its_own_line() -> None:
    (card,) = cards_of(HAPPY_OR_SURPRISED, threshold={"happy": 0.7, "fear": 0.05})
    lines = re.findall(r"<dt[^>]*>(\w+)</dt>.*?left:([\d.]+)%", card)
    expected = dict.fromkeys(EMOTIONS, 30.0) | {"happy": 70.0, "fear": 5.0}
    assert {name: float(at) for name, at in lines} == expected
    assert labels_in(card) == ["surprise", "fear"]


def test_labels_of_an_unsure_face_carry_question_marks() -> None:
    assert EmotionProbabilities(WEAK).unsure(0.3)
    assert labels_in(cards_of(WEAK)[0]) == ["unsure", "happy?", "sad?"]


def test_a_part_of_the_cards_keeps_its_numbers() -> None:
    cards = cards_of(*[UNCLEAR] * 5, shown=slice(2, 4))
    assert [re.findall(r"Face (\d)", card) for card in cards] == [["3"], ["4"]]


def test_a_card_that_can_be_corrected_has_a_list_with_what_was_said() -> None:
    result = result_of(UNCLEAR, UNCLEAR)
    html = cards.cards_html(result, [b"x"] * 2, 0.3, corrected={2: "not a face"})
    first, second = html.split("<li")[1:]
    assert first.count("<option>") == 8 and "selected" not in first
    assert "<option selected>not a face</option>" in second
    assert 'aria-label="What face 2 really shows"' in second
    assert all("<select" not in card for card in cards_of(UNCLEAR))


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([[]], "0 faces"),
        ([[HAPPY_OR_SURPRISED]], "1 face: 1 happy, 1 surprise, none unsure"),
        ([[UNCLEAR, HAPPY_OR_SURPRISED, WEAK]], "3 faces: 1 happy, 1 surprise, 2 unsure"),
        ([[UNCLEAR], []], "1 face in 2 photos: 1 unsure"),
    ],
)
def test_the_answer_in_a_line(rows: list[list[tuple[float, ...]]], words: str) -> None:
    assert cards.summary([result_of(*row) for row in rows], 0.3) == words


def test_a_photo_in_words() -> None:
    assert cards.describe("b.jpg", result_of(UNCLEAR, UNCLEAR)) == "b.jpg with 2 faces"


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
