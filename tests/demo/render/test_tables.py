"""Table, totals and files of all faces, without the page."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from demo.render import tables
from demo.session import Choice
from faces.draw import draw_faces
from faces.emotions import EMOTIONS
from faces.types import Box, Detection, EmotionProbabilities, Face, ImageResult
from twostage.cli import build_parser, parse_threshold

HAPPY_OR_SURPRISED = (0.0, 0.0, 0.05, 0.6, 0.0, 0.35, 0.0)
UNCLEAR = (0.2, 0.1, 0.1, 0.2, 0.1, 0.1, 0.2)
WEAK = (0.0, 0.0, 0.2, 0.31, 0.305, 0.1, 0.085)


def result_of(*rows: tuple[float, ...], source: str = "a.jpg") -> ImageResult:
    faces = (
        Face(Detection(Box(10 * i, 5, 10 * i + 9, 15), 0.9 - 0.1 * i), EmotionProbabilities(row))
        for i, row in enumerate(rows)
    )
    return ImageResult(source, 80, 60, 0.5, tuple(faces))


RESULTS = [
    result_of(HAPPY_OR_SURPRISED),
    result_of(),
    result_of(UNCLEAR, WEAK, HAPPY_OR_SURPRISED, source="b.jpg"),
]


def test_table_has_a_row_per_face() -> None:
    rows = tables.table_rows(RESULTS, 0.3)
    assert [row["shows"] for row in rows] == [
        ["happy", "surprise"],
        ["unsure"],
        ["unsure", "happy?", "sad?"],
        ["happy", "surprise"],
    ]
    assert list(rows[0]) == ["photo", "face", "shows", *EMOTIONS, "detection score"]
    assert rows[0]["happy"] == pytest.approx(60)
    assert [row["face"] for row in rows] == [1, 1, 2, 3]


@pytest.mark.parametrize(
    ("shows", "photos", "kept"),
    [
        ([], [], [0, 1, 2, 3]),
        (["happy"], [], [0, 3]),
        (["unsure"], [], [1, 2]),
        (["unsure", "surprise"], ["b.jpg"], [1, 2, 3]),
        (["fear"], [], []),
        ([], ["a.jpg"], [0]),
    ],
)
def test_filters(shows: list[str], photos: list[str], kept: list[int]) -> None:
    rows = tables.table_rows(RESULTS, 0.3)
    assert tables.filtered(rows, shows, photos) == [rows[index] for index in kept]


def test_totals_count_a_face_for_each_of_its_emotions() -> None:
    counts = tables.totals(tables.table_rows(RESULTS, 0.3))
    assert list(counts) == [*EMOTIONS, "unsure"]
    assert {k: v for k, v in counts.items() if v} == {"happy": 2, "surprise": 2, "unsure": 2}
    html = tables.totals_html(counts, 4)
    assert html.count("width:50.0%") == 3
    assert "width:0.0%" in tables.totals_html(dict.fromkeys(counts, 0), 0)


def test_annotated_png_is_the_drawing_at_full_size() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)
    expected = draw_faces(noise, RESULTS[0], 0.3)
    png = tables.annotated_png(noise, RESULTS[0], 0.3)
    with Image.open(io.BytesIO(png)) as picture:
        assert picture.format == "PNG"
        np.testing.assert_array_equal(np.array(picture), expected)


@pytest.mark.parametrize("threshold", [0.3, 0.41, {"happy": 0.5, "fear": 0.2}, {"sad": 0.3}])
def test_the_command_line_means_the_same(threshold: float | dict[str, float]) -> None:
    command = tables.command_line(Choice("haar", "knn", "cpu"), threshold)
    assert command is not None
    words = command.split()[1:]
    args = build_parser().parse_args(words)
    assert (args.detector, args.classifier, args.paths) == ("haar", "knn", ["PHOTOS"])
    meant = parse_threshold(args.threshold)
    for row in (HAPPY_OR_SURPRISED, UNCLEAR, WEAK):
        assert EmotionProbabilities(row).labels(meant) == EmotionProbabilities(row).labels(
            threshold
        )


@pytest.mark.parametrize("choice", [{"score": 0.5}, {"margin": 0.2}])
def test_what_the_command_line_lacks_has_no_command(choice: dict[str, float]) -> None:
    assert tables.command_line(Choice("haar", "knn", "cpu", **choice), 0.3) is None
