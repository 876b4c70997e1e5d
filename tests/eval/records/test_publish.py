"""docs/comparison.md takes its figures from the records."""

from __future__ import annotations

from pathlib import Path

import pytest

from eval import tables
from eval.records import publish
from eval.records.comparison import find_systems, read_systems
from eval.records.report import write_report
from faces.command import UserError
from tests.eval.made_records import N, record


def test_the_page_takes_its_figures_from_the_records(folder: Path) -> None:
    found = find_systems(tables.read_rows(folder))
    text = (
        "{{knn_pixels accuracy}} {{simple_cnn - knn_pixels accuracy}} {{base_cnn accuracy}} "
        "{{simple_cnn - base_cnn accuracy}} {{simple_cnn per_class.fear.support}} "
        "{{simple_cnn ms_per_face}} {{simple_cnn top.2}} {{accurate@ten - accurate accuracy}}"
    )
    runs = {system.classifier: system.row for system in reversed(found)}
    knn, cnn = runs["knn_pixels"], runs["simple_cnn"]
    assert publish.fill(text, found) == (
        f"{100 * knn['accuracy']:.1f} % {100 * (cnn['accuracy'] - knn['accuracy']):+.1f} points – "
        f"– 2000.0 % 1.5 {100 * cnn['top'][2]:.1f} % {100 * 2 / N:+.1f} points"
    )


def test_a_figure_of_no_system_or_no_key_is_refused(folder: Path) -> None:
    found = find_systems(tables.read_rows(folder))
    for text, cause in (("{{magic accuracy}}", "no system magic"), ("{{simple_cnn x}}", "no such")):
        with pytest.raises(UserError, match=cause):
            publish.fill(text, found)


@pytest.mark.parametrize("name", ["knn_pixels", "mlp_defaults_pixels", "simple_cnn"])
def test_the_published_figure_is_reached(name: str) -> None:
    found = find_systems(tables.read_rows(tables.ROOT / "results"))
    (system,) = (one for one in found if one.classifier == name)
    if system.row:
        assert 100 * system.row["accuracy"] >= float(str(system.published).split()[0])


def test_every_figure_of_the_committed_page_can_be_filled(folder: Path) -> None:
    for system in read_systems():
        name = system.classifier
        one = record(name, 100, split=system.split, views=system.views)
        write_report(folder / "systems" / f"{name}_{system.views}.json", "classification", [one])
    filled = publish.fill(
        publish.TEMPLATE.read_text("utf-8"), find_systems(tables.read_rows(folder))
    )
    assert "{{" not in filled and "–" not in filled
