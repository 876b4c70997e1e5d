"""The comparison's tables show what made-up records hold."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import sklearn.metrics

from eval import tables
from eval.records.comparison import find_systems, read_systems, sections
from eval.records.report import write_report
from faces.emotions import EMOTIONS
from tests.eval.made_records import TRUTH, N, record, rows


def test_rows_stand_in_the_order_of_the_systems(folder: Path) -> None:
    text = tables.render(tables.read_rows(folder))
    table = rows(text, "## The comparison on FER2013")
    titles = [row[0] for row in table]
    assert titles == [
        "system",
        "always the largest class",
        "chance",
        *(system.title for system in read_systems()),
    ]
    by_title = {row[0]: row for row in table}
    knn = by_title["KNN on pixels"]
    right = 80 + sum(TRUTH[80:] == 3)
    assert knn[1:4] == ["31.5 %", "not said", f"{100 * right / N:.2f} %"]
    assert knn[5] == f"{100 * (10 + sum(TRUTH[80:] == 3)) / 70:.2f} %"
    assert by_title["base net: 2 convolutions"][3:] == ["–"] * 5
    assert by_title["always the largest class"][3] == "14.29 %"
    costs = {row[0]: row[1:] for row in rows(text, "### What each is called, and costs")}
    assert costs["KNN on pixels"] == ["`knn_pixels`", "0.5", "2", "15", "1.5"]
    assert costs["base net: 2 convolutions"] == ["`base_cnn`", *["–"] * 4]


def test_systems_have_no_place_in_the_readme_and_the_general_table(folder: Path) -> None:
    runs = tables.read_rows(folder)
    text = tables.render(runs)
    assert [row[0] for row in rows(text, "## Emotions of face crops")[1:]] == ["fer2013", "ten"]
    readme = tables.update_readme(f"a{tables.START}b{tables.END}c", runs)
    assert "92.14 %" not in readme.split("knn_pixels")[0] and "knn" not in readme
    assert "- `systems/knn_pixels`: `python -m" in text


def test_neighbours_are_compared_on_the_same_pictures(folder: Path) -> None:
    text = tables.render(tables.read_rows(folder))
    table = rows(text, "### Neighbours")
    assert [row[:2] for row in table[1:3]] == [
        ["KNN on pixels", "MLP on pixels, properly trained"],
        ["MLP on pixels, properly trained", "simple CNN: 3 convolutions"],
    ]
    gained = sum(TRUTH[80:82] != 3)
    assert table[1][3:] == ["0", str(gained), f"{min(1, 2 / 2**gained):.4f}"]


def test_best_and_worst_of_each_emotion_are_marked(folder: Path) -> None:
    text = tables.render(tables.read_rows(folder))
    table = {row[0]: row for row in rows(text, "#### Fear")}
    predicted = np.where(np.arange(N) < 122, TRUTH, 3)
    recall = sklearn.metrics.recall_score(TRUTH, predicted, average=None)[2]
    assert table["ours, accurate, ten views"][2] == f"**{100 * recall:.2f} %**"
    assert table["KNN on pixels"][2].startswith("*") and table["KNN on pixels"][4] == "20"
    assert "**" not in table["MLP on pixels, properly trained"][2]
    assert [e in text for e in EMOTIONS]

    best = record("keras_cnn_resplit", N, split="PublicTest")  # other pictures than the others'
    write_report(folder / "systems" / "resplit.json", "classification", [best])
    text = tables.render(tables.read_rows(folder))
    again = {row[0]: row for row in rows(text, "#### Fear")}
    assert again["Keras-style CNN, its own split"][1:4] == ["100.00 %", "100.00 %", "1"]
    assert again["ours, accurate, ten views"] == table["ours, accurate, ten views"]


def test_without_records_there_is_no_section(folder: Path) -> None:
    assert sections([]) == []
    assert not any(system.row for system in find_systems([]))
