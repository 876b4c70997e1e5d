"""The results document holds what the records say, and the repository's is up to date."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from eval.command import EvaluationError
from eval.tables import END, ROOT, START, main, read_runs, render, update_readme

CLASSIFIED = {
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
    "detector": "light",
    "images": 3,
    "ap": 0.5,
    "ap50": 0.8012,
    "false_per_image": None,
    "command": "python -m eval.detection --coco y",
}


def test_every_run_becomes_a_row_and_every_command_a_line(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps(CLASSIFIED))
    (tmp_path / "b.json").write_text(json.dumps({"runs": [DETECTED, {**DETECTED, "ap": 0.25}]}))
    readme = tmp_path / "README.md"
    readme.write_text(f"before\n{START}\nold\n{END}\nafter\n")
    arguments = ["--results", str(tmp_path), "--readme", str(readme)]
    assert main([*arguments, "--out", str(tmp_path / "results.md")]) == 0
    text = readme.read_text()
    assert text.startswith("before\n") and text.endswith("after\n") and "old" not in text
    assert "62.50 %" in text and "80.12 %" in text
    lines = (tmp_path / "results.md").read_text().splitlines()
    rows = [[c.strip() for c in line.split("|")[1:-1]] for line in lines if line.startswith("|")]
    head, row = rows[0], rows[2]
    assert dict(zip(head, row, strict=True)) == {
        "record": "a",
        "classifier": "small",
        "split": "PublicTest",
        "views": "single",
        "n": "200",
        "accuracy": "62.50 %",
        "95 % interval": "55.60 – 68.90 %",
        "macro f1": "0.6",
        "balanced accuracy": "–",
        "ms per face": "–",
        "precision": "–",
    }
    detected = [dict(zip(rows[3], row, strict=True)) for row in rows[5:]]
    assert [row["ap"] for row in detected] == ["50.00 %", "25.00 %"]
    assert detected[0]["ap50"] == "80.12 %" and detected[0]["false per image"] == "–"
    assert lines.count("- `b`: `python -m eval.detection --coco y`") == 1


@pytest.mark.parametrize("text", ["", "[1]", "3", '{"accuracy": 1}', '{"runs": [{"ap": 1}]}'])
def test_other_files_are_refused_by_name(
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
    runs = read_runs(ROOT / "results")
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    written = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    assert written == render(runs), "run: python -m eval.tables"
    assert readme == update_readme(readme, runs), "run: python -m eval.tables"


def test_a_readme_without_marks_is_refused() -> None:
    with pytest.raises(EvaluationError, match="put them back"):
        update_readme("no marks", [DETECTED])
