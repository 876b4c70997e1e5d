"""Table, totals and files of all faces, without the page."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import shlex
import zipfile

import numpy as np
import pytest
from PIL import Image

from demo.render import tables
from demo.render.tables import Filter
from demo.session import Choice
from faces.draw import draw_faces
from faces.emotions import EMOTIONS
from faces.scope import Scope
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
    assert list(rows[0]) == ["photo", "face", "shows", *EMOTIONS]
    assert rows[0]["happy"] == pytest.approx(60)
    assert [row["face"] for row in rows] == [1, 1, 2, 3]


@pytest.mark.parametrize(
    ("wanted", "kept"),
    [
        (Filter(), [0, 1, 2, 3]),
        (Filter(shows=("happy",)), [0, 3]),
        (Filter(shows=("unsure",)), [1, 2]),
        (Filter("B.", ("unsure", "surprise")), [1, 2, 3]),
        (Filter(shows=("fear",)), []),
        (Filter("a"), [0]),
    ],
)
def test_filters(wanted: Filter, kept: list[int]) -> None:
    rows = tables.table_rows(RESULTS, 0.3)
    assert [row for row in rows if wanted.takes(row)] == [rows[index] for index in kept]


@pytest.mark.parametrize("extension", tables.DOWNLOADS.values())
def test_files_hold_what_the_filter_keeps_under_the_page_s_numbers(extension: str) -> None:
    kept = tables.kept_of(RESULTS, 0.3, Filter(shows=("happy",)))
    text = tables.result_file(kept, 0.3, extension).decode()
    if extension == ".csv":
        rows = [(row["source"], row["face"]) for row in csv.DictReader(io.StringIO(text))]
        assert rows == [("a.jpg", "1"), ("b.jpg", "3")]
    elif extension == ".json":
        assert [(r["source"], len(r["faces"])) for r in json.loads(text)] == [
            ("a.jpg", 1),
            ("b.jpg", 1),
        ]
    else:
        assert [one["image_id"] for one in json.loads(text)["annotations"]] == [1, 2]


def test_a_file_of_all_holds_photos_without_faces_and_the_highest_score_first() -> None:
    faces = tuple(reversed(RESULTS[2].faces))
    mirrored = dataclasses.replace(RESULTS[2], faces=faces)
    kept = [(RESULTS[1], ()), (mirrored, (1, 2, 3))]
    found = json.loads(tables.result_file(kept, 0.3, ".json"))
    scores = [[face["score"] for face in one["faces"]] for one in found]
    assert scores == [[], pytest.approx([0.9, 0.8, 0.7])]


def test_a_zip_holds_its_pictures_within_the_bound_and_names_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tables, "ZIP_BYTES", 3000)
    pictures = [("a", bytes(1000)), ("../up/b", bytes(1500)), ("/c", bytes(2000)), ("d", b"1")]
    with zipfile.ZipFile(io.BytesIO(tables.annotated_zip(pictures))) as folder:
        assert set(folder.namelist()) == {
            *("a.png", "up/b.png", "d.png"),
            "left out, too large together.txt",
        }
        assert folder.read("left out, too large together.txt") == b"/c\n"


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
    names = ["-a b.jpg", "$(x).jpg"]
    command = tables.command_line(Choice("haar", "knn", "cpu"), threshold, names)
    assert command is not None
    args = build_parser().parse_args(shlex.split(command)[1:])
    assert (args.detector, args.classifier) == ("haar", "knn")
    assert args.paths == ["./-a b.jpg", "$(x).jpg"]
    meant = parse_threshold(args.threshold)
    for row in (HAPPY_OR_SURPRISED, UNCLEAR, WEAK):
        assert EmotionProbabilities(row).labels(meant) == EmotionProbabilities(row).labels(
            threshold
        )


def test_the_command_line_says_how_to_look_and_names_a_folder_for_many_photos() -> None:
    choice = Choice("haar", "knn", "cpu", scope=Scope("full", 24.0))
    command = tables.command_line(choice, 0.3, [f"{i}.jpg" for i in range(7)]) or ""
    args = build_parser().parse_args(shlex.split(command)[1:])
    assert (args.paths, args.detail, args.min_face) == (["."], "full", 24.0)
    whole = tables.command_line(Choice("haar", "knn", "cpu", whole=True), 0.3, ["a.jpg"]) or ""
    assert build_parser().parse_args(shlex.split(whole)[1:]).no_detector


@pytest.mark.parametrize("choice", [{"score": 0.5}, {"margin": 0.2}])
def test_what_the_command_line_lacks_has_no_command(choice: dict[str, float]) -> None:
    assert tables.command_line(Choice("haar", "knn", "cpu", **choice), 0.3, ["a.jpg"]) is None
