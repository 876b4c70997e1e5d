"""The README's table answers what is asked first, from records alone."""

from __future__ import annotations

from typing import Any

import pytest

from eval.records.front_table import contents, front_table

FOUND = {"record": "wider_held_out", "faces": 2253, "ap50": 0.9064, "ap50_ci": [0.88, 0.925]}
NAMED = {
    "record": "speed_classifiers",
    "classifier": "fast",
    "n": 3589,
    "accuracy": 0.675,
    "accuracy_ci": [0.66, 0.69],
    "ms_at_1": 0.355,
    "processor": "Some CPU",
    "threads": 1,
}


def cells(text: str) -> list[list[str]]:
    lines = [line for line in text.splitlines() if line.startswith("|") and ":-" not in line]
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines[1:]]


def test_each_figure_stands_beside_its_interval_and_its_time() -> None:
    rows: list[dict[str, Any]] = [
        {**FOUND, "detector": "mobilenet_fpn"},
        {**FOUND, "detector": "mtcnn", "ap50": 0.5},
        {**FOUND, "detector": "mobilenet_fpn", "record": "other_events", "ap50": 0.1},
        {"record": "speed_detectors", "detector": "default", "ms_per_image": 19.46}
        | {"processor": "Some CPU", "threads": 1, "timed_size": [640, 480]},
        NAMED,
    ]
    faces = "Faces: AP50, WIDER FACE's held-out events (2,253 faces)"
    emotion = "Emotion as labelled: accuracy, FER2013's PrivateTest (3,589)"
    found, own = "88.00 – 92.50 %", "66.00 – 69.00 %"
    assert cells(front_table(rows)) == [
        [faces, "**mobilenet_fpn** (default)", "90.64 %", found, "19.5 ms per image"],
        ["", "MTCNN", "50.00 %", found, "–"],
        [emotion, "**fast**", "67.50 %", own, "0.355 ms per face"],
    ]


def test_nested_figures_are_found_and_missing_ones_leave_no_row() -> None:
    row = {"record": "fer2013_private_single", "classifier": "blend"}
    votes = {"n": 3137, "accuracy": 0.846, "accuracy_ci": [0.83, 0.86]}
    assert cells(front_table([{**row, "ferplus_majority": votes}]))[0][2:4] == [
        "84.60 %",
        "83.00 – 86.00 %",
    ]
    assert front_table([{**row, "ferplus_majority": None}]) == ""


@pytest.mark.parametrize(
    ("precision", "told"), [("bfloat16", "Some CPU (bfloat16)"), (None, "Some CPU")]
)
def test_the_line_below_names_the_processor_and_its_number_format(
    precision: str | None, told: str
) -> None:
    measured = {"record": "m", "classifier": "fast", "precision": precision}
    elsewhere = {**measured, "processor": "Other CPU", "precision": "float16"}
    another = {**measured, "classifier": "knn", "processor": "Some CPU", "precision": "float64"}
    rows: list[dict[str, Any]] = [NAMED, another, elsewhere, {**measured, "processor": "Some CPU"}]
    assert f"Times: {told}; 1 thread; one image" in front_table(rows)


def test_the_line_below_names_the_class_of_each_processor() -> None:
    narrow = {"processor_class": "AVX2, float32", "processor": "Other CPU"}
    rows: list[dict[str, Any]] = [
        {**NAMED, "processor_class": "AVX-512, bfloat16", "precision": "bfloat16"},
        {**NAMED, **narrow, "classifier": "fer"},
    ]
    assert "Times: Other CPU (AVX2, float32), Some CPU (AVX-512, bfloat16); " in front_table(rows)


def test_contents_link_to_the_headings_as_github_names_them() -> None:
    text = "# Top\n\n## Votes of FER+'s people, 2\n\n### A b-c (d_e)\n\n#### No\n\ntext ## no\n"
    assert contents(text) == (
        "- [Votes of FER+'s people, 2](#votes-of-fers-people-2)\n  - [A b-c (d_e)](#a-b-c-d_e)"
    )
