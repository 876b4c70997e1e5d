"""The README stays short, and its figures are those of the records."""

from __future__ import annotations

import re
from pathlib import Path

from eval.tables import END, START

README = (Path(__file__).resolve().parents[2] / "README.md").read_text("utf-8")


def test_the_readme_has_at_most_140_lines() -> None:
    assert len(README.splitlines()) <= 140


def test_measured_figures_stand_only_in_the_part_made_from_records() -> None:
    before, rest = README.split(START)
    made, after = rest.split(END)
    assert len(re.findall(r"\d %", made)) > 10 and "ms per" in made
    assert re.findall(r"\d+\s?(?:%|ms\b|points\b)", before + after) == []
