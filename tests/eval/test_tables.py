"""The results document holds what the records say, and the repository's is up to date."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from eval.records import publish
from eval.records.comparison import find_systems
from eval.tables import (
    END,
    ROOT,
    START,
    emotions,
    grid,
    main,
    read_rows,
    render,
    summary,
    update_readme,
)
from faces.command import UserError

CLASSIFIED = {
    "kind": "classification",
    "classifier": "small",
    "split": "PublicTest",
    "views": "single",
    "n": 200,
    "accuracy": 0.625,
    "accuracy_ci": [0.556, 0.689],
    "macro_f1": 0.6,
    "confusion": [],
    "command": "python -m eval.classification --data x",
}
DETECTED = {
    "kind": "detection",
    "detector": "light",
    "images": 3,
    "ap": 0.5,
    "ap50": 0.8012,
    "ap50_ci": [0.7, 0.9],
    "false_per_image": None,
    "command": "python -m eval.detection --coco y",
}


def cells(text: str) -> list[list[str]]:
    lines = [line for line in text.splitlines() if line.startswith("|") and ":-" not in line]
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]


def test_a_grid_has_a_row_per_model_and_a_column_per_set() -> None:
    runs = [
        {**DETECTED, "record": "portraits_detection", "faces": 9},
        {**DETECTED, "record": "my_scenes", "ap50": 0.25, "ap50_ci": [0.125, 1.0]},
        {**DETECTED, "record": "my_scenes", "detector": "crossval", "ap50": None},
        {"record": "any", "detector": "huge"},
    ]
    assert cells(grid(runs, "detector", "record", "ap50")) == [
        ["detector", "portraits (9 faces)", "my scenes"],
        ["light", "80.12 % (70.00 – 90.00)", "25.00 % (12.50 – 100.00)"],
        ["mobilenet_fpn, trained on Dataturks, cross-validated", "–", "–"],
        ["huge", "–", "–"],
    ]
    assert grid([], "detector", "record", "ap50") == ""


def test_the_summary_names_each_classifier_once() -> None:
    own = {**CLASSIFIED, "split": "PrivateTest", "without_twins": {"accuracy": 0.5}}
    timed = {**own, "record": "speed", "kind": "classifier_speed", "without_twins": None}
    runs = [
        {**own, "record": "a", "views": "ten", "accuracy": 0.75, "accuracy_ci": [0.7, 0.8]},
        {**own, "record": "e", "views": "flip", "accuracy": 0.5, "accuracy_ci": [0.4, 0.6]},
        {**timed, "accuracy": 0.1},
        {**timed, "classifier": "package", "macro_f1": 0.25},
        {**own, "record": "b", "ferplus_majority": {"accuracy": 0.875}},
        {**own, "record": "systems/c", "classifier": "simple"},
        {**CLASSIFIED, "record": "d", "classifier": "of another split"},
    ]
    single, flip = "62.50 % (55.60 – 68.90)", "50.00 % (40.00 – 60.00)"
    assert cells(emotions(runs))[1:] == [
        ["small", single, flip, "75.00 % (70.00 – 80.00)", "50.00 %", "87.50 %", "0.6"],
        ["package", single, "–", "–", "–", "–", "0.25"],
    ]


def test_the_summary_has_a_table_of_pairs_for_each_set() -> None:
    pair = {
        "kind": "joint",
        "joint_accuracy": 0.5,
        "joint_accuracy_ci": [0.25, 0.75],
        "record": "portraits_joint",
    }
    runs = [
        {**pair, "detector": detector, "classifier": classifier, "faces": 4}
        for detector in ("light", "haar")
        for classifier in ("small", "fer")
    ]
    text = "\n\n".join(summary([*runs, {**runs[0], "record": "own", "faces": 5}]))
    titles = [line for line in text.splitlines() if line.startswith("### ")]
    assert [title.split("all ")[1] for title in titles] == ["portraits (4 faces)", "own (5 faces)"]
    value = "50.00 % (25.00 – 75.00)"
    assert cells(text)[:3] == [
        ["classifier", "light", "haar"],
        ["small", value, value],
        ["fer", value, value],
    ]


def test_every_run_becomes_a_row_and_every_command_a_line(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(
        json.dumps({**CLASSIFIED, "split": "PrivateTest", "precision": "bfloat16"})
    )
    (tmp_path / "b.json").write_text(json.dumps({"runs": [DETECTED, {**DETECTED, "ap": 0.25}]}))
    readme = tmp_path / "README.md"
    readme.write_text(f"before\n{START}\nold\n{END}\nafter\n")
    arguments = ["--results", str(tmp_path), "--readme", str(readme)]
    assert main([*arguments, "--out", str(tmp_path / "results.md")]) == 0
    text = readme.read_text()
    assert text.startswith("before\n") and text.endswith("after\n") and "old" not in text
    document = (tmp_path / "results.md").read_text()
    assert document.index("](#emotions-of-face-crops)") < document.index("\n## ")
    lines = document.split("## Emotions of face crops\n")[1].splitlines()
    rows = [[c.strip() for c in line.split("|")[1:-1]] for line in lines if line.startswith("|")]
    head, row = rows[0], rows[2]
    assert dict(zip(head, row, strict=True)) == {
        "record": "a",
        "classifier": "small",
        "split": "PrivateTest",
        "views": "single",
        "n": "200",
        "accuracy": "62.50 %",
        "95 % interval": "55.60 – 68.90 %",
        "without twins": "–",
        "ferplus majority": "–",
        "macro f1": "0.6",
        "balanced accuracy": "–",
        "ms per face": "–",
        "number format": "bfloat16",
    }
    detected = [dict(zip(rows[3], row, strict=True)) for row in rows[5:]]
    assert [row["ap"] for row in detected] == ["50.00 %", "25.00 %", "–"]
    assert "needs a GPU and COCO weights, not measured here" in detected[2]["detector"]
    assert detected[0]["ap50"] == "80.12 %" and detected[0]["false per image"] == "–"
    assert lines.count("- `b`: `python -m eval.detection --coco y`") == 1


@pytest.mark.parametrize(
    "text", ["", "[1]", "3", '{"accuracy": 1, "command": "c"}', '{"runs": [{"kind": "joint"}]}']
)
def test_files_that_are_no_records_are_refused_by_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    (tmp_path / "odd.json").write_text(text)
    assert main(["--results", str(tmp_path), "--out", str(tmp_path / "results.md")]) == 2
    assert "odd.json" in capsys.readouterr().err
    assert not (tmp_path / "results.md").exists()


def test_an_empty_folder_says_how_to_fill_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--results", str(tmp_path)]) == 2
    assert "--out" in capsys.readouterr().err


def test_the_repositorys_documents_are_up_to_date() -> None:
    runs = read_rows(ROOT / "results")
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    written = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    assert written == render(runs), "run: python -m eval.tables"
    told = (ROOT / "docs" / "comparison.md").read_text(encoding="utf-8")
    assert told == publish.fill(publish.TEMPLATE.read_text("utf-8"), find_systems(runs))
    assert readme == update_readme(readme, runs), "run: python -m eval.tables"


def test_a_readme_without_marks_is_refused() -> None:
    with pytest.raises(UserError, match="put them back"):
        update_readme("no marks", [DETECTED])


def test_the_large_detectors_row_says_why_it_is_empty_until_it_is_measured() -> None:
    runs = [{"record": "a", **DETECTED, "ap50_ci": [0.7, 0.9]}]
    assert "not measured here" in render(runs) and "70.00 – 90.00 %" in render(runs)
    measured = [*runs, {"record": "b", **DETECTED, "detector": "x101_fpn"}]
    assert "not measured here" not in render(measured)


@pytest.mark.parametrize(
    ("kind", "found", "title", "row"),
    [
        (
            "joint",
            {
                "detector": "light",
                "classifier": "small",
                "joint_accuracy": 0.75,
                "joint_accuracy_ci": [0.7, 0.805],
                "without_doubtful": {"joint_accuracy": 0.5},
            },
            "Both stages together",
            {"joint accuracy": "75.00 %", "joint accuracy ci": "70.00 – 80.50 %"}
            | {"without doubtful": "50.00 %", "joint accuracy difference": "–"},
        ),
        (
            "multilabel",
            {"top_two_coverage": 0.5, "macro_f1_gain_over_argmax_ci": [-0.01, 0.02]},
            "Several emotions at once, against FER+'s votes",
            {"top two coverage": "50.00 %", "macro f1 gain over argmax ci": "-0.01 – 0.02"},
        ),
        ("calibration", {"ece": 0.0123, "n": 9}, "Calibration", {"ece": "0.0123", "n": "9"}),
        ("unsure", {"unsure_below": 0.4, "coverage": 0.9}, "Unsure faces", {"coverage": "90.00 %"}),
        (
            "crop_study",
            {"crop_shape": "square", "best_margin": 0.0},
            "The crop",
            {"best margin": "0"},
        ),
    ],
)
def test_every_kind_of_record_has_its_section(
    kind: str, found: dict[str, object], title: str, row: dict[str, str]
) -> None:
    section = render([{**found, "kind": kind, "record": "r", "command": "c"}]).split(
        f"## {title}\n"
    )[1]
    table = [line for line in section.splitlines() if line.startswith("|")]
    head, values = ([c.strip() for c in table[index].split("|")[1:-1]] for index in (0, 2))
    shown = dict(zip(head, values, strict=True))
    assert row == {key: shown[key] for key in row}
