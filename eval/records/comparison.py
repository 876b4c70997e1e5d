"""The comparison of systems on FER2013, made from records: what docs/results.md says of it.

``systems.toml`` names the systems and what was published of them; every other figure is a record's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tabulate import tabulate

from eval.metrics.significance import mcnemar
from eval.records.report import Row, cell
from faces.emotions import EMOTIONS
from faces.files import read_toml

SYSTEMS = Path(__file__).resolve().parents[1] / "systems.toml"


@dataclass(frozen=True)
class System:
    """A line of the comparison.

    Attributes:
        title: what the line is called.
        classifier: the record's.
        split: the record's.
        views: the record's.
        published: the figure of the publication, with its unit.
        protocol: of that figure.
        train: the module and options that train it, None for what is shipped.
        resplit: trained and measured on a random split of all images.
        tolerance: points of accuracy by which a repeated training may differ.
        row: of its record, empty if there is none.
    """

    title: str
    classifier: str
    split: str = "PrivateTest"
    views: str = "single"
    published: str | None = None
    protocol: str | None = None
    train: str | None = None
    resplit: bool = False
    tolerance: float = 0.0
    row: Row = field(default_factory=dict)


def find_systems(rows: Sequence[Row], path: Path = SYSTEMS) -> list[System]:
    """Return the systems of the comparison with their records, in the order of ``path``."""
    found = []
    for system in read_systems(path):
        key = [system.classifier, system.split, system.views]
        measured = (r for r in rows if r["kind"] == "classification")
        row = next((r for r in measured if [r["classifier"], r["split"], r["views"]] == key), {})
        found.append(replace(system, row=row))
    return found


def read_systems(path: Path = SYSTEMS) -> list[System]:
    """Read the systems, in order, without their records."""
    document = read_toml(path)
    systems = [System(**one) for one in document["system"]]
    tolerances: dict[str, float] = document["tolerance"]
    return [replace(s, tolerance=tolerances[s.train.split()[0]]) if s.train else s for s in systems]


def sections(rows: Sequence[Row], path: Path = SYSTEMS) -> list[str]:
    """Return the comparison's part of the document in Markdown; empty without any record of it."""
    systems = find_systems(rows, path)
    measured = [system for system in systems if system.row]
    if not measured:
        return []
    return [
        "## The comparison on FER2013",
        "Trained on Training, chosen on PublicTest, measured once on PrivateTest, unless the row "
        "says otherwise. *Without twins* leaves out the pictures that are pixel for pixel in "
        "Training too. A dash: not published, or not measured yet. How each is trained is in "
        "`eval/systems.toml`; `python -m eval.systems --data fer2013.zip NAME` does it; ours as "
        "the [training log](training_log.md#classifiers) says. What this says in words: "
        "[comparison.md](comparison.md).",
        accuracy_table(systems),
        "### What each is called, and costs",
        "KNN and support sets keep their training faces: their numbers are parameters too. "
        "Minutes and milliseconds are wall time, of a face in batches of 64, all its views "
        "included; an ensemble's are its members' sums. Minutes are those of the row's own "
        "training: not of the networks that it started from, was taught by or looks through; a "
        "mean of networks has its members' sum.",
        cost_table(systems),
        "### Right at the second or third guess, and in coarser classes",
        "*Six classes*: disgust counts as angry. *Valence*: positive (happy, surprise), neutral, "
        "negative. KNN has no second guess where all its neighbours agree: the emotions that are "
        "left then count in their usual order. As a picture: [all systems](figures/guesses.png).",
        guesses_table(measured),
        "### Neighbours",
        "Each system and the next better one on the same pictures, by McNemar's test: below p = "
        "0.05 the difference is hardly chance, though of so many tests one or two come out so by "
        "chance.",
        neighbours_table(measured),
        "### Emotion by emotion",
        "The best of each column is **bold**, the worst *italic*, among the systems measured on "
        "PrivateTest. What is taken for what: [counts](figures/confusion_counts.png), "
        "[shares](figures/confusion_shares.png).",
        *emotion_tables(measured),
    ]


def accuracy_table(systems: Sequence[System]) -> str:
    """Lay out the published figure and ours, one line per system."""
    lines = [_majority_row(systems), _chance_row()]
    for system in systems:
        row = system.row
        lines.append(
            [
                system.title,
                system.published or "–",
                system.protocol or "–",
                _percent(row.get("accuracy")),
                cell(row.get("accuracy_ci"), "percent"),
                _percent((row.get("without_twins") or {}).get("accuracy")),
                cell(row.get("macro_f1"), "number"),
                _percent(row.get("balanced_accuracy")),
            ]
        )
    heads = ["system", "published", "measured there on", "accuracy", "95 % interval"]
    return _markdown(
        [*heads, "without twins", "macro F1", "balanced accuracy"], lines, text=(0, 1, 2)
    )


def _majority_row(systems: Sequence[System]) -> list[str]:
    row = next((s.row for s in systems if s.row and s.row["split"] == "PrivateTest"), None)
    supports = [row["per_class"][e]["support"] for e in EMOTIONS] if row else [0]
    share = max(supports) / sum(supports) if sum(supports) else None
    return ["always the largest class", "–", "–", _percent(share), *["–"] * 4]


def _chance_row() -> list[str]:
    return ["chance", "14.3 %", "arithmetic", _percent(1 / len(EMOTIONS)), *["–"] * 4]


def cost_table(systems: Sequence[System]) -> str:
    """Lay out name, size and time, one line per system."""
    lines = []
    for system in systems:
        row = system.row
        size, parameters, hours = (
            row.get(key) for key in ("weights_bytes", "parameters", "training_hours")
        )
        values = (
            None if parameters is None else parameters / 1e6,
            None if size is None else size / 1e6,
            None if hours is None else 60 * hours,
            row.get("ms_per_face"),
        )
        numbers = (cell(value, "number") for value in values)
        lines.append([system.title, f"`{system.classifier}`", *numbers])
    heads = ["system", "name", "parameters (million)", "file (MB)", "training (minutes)"]
    return _markdown([*heads, "ms per face"], lines, text=(0, 1))


def guesses_table(measured: Sequence[System]) -> str:
    """Lay out the accuracy of the first one, two and three guesses and of coarser classes."""
    lines = []
    for system in measured:
        row = system.row
        groups = row["groups"]
        lines.append(
            [
                system.title,
                *(_percent(share) for share in row["top"]),
                *(_percent(groups[name]["accuracy"]) for name in ("six", "valence")),
                *(cell(groups[name]["macro_f1"], "number") for name in ("six", "valence")),
            ]
        )
    heads = ["system", "top 1", "top 2", "top 3", "six classes", "valence"]
    return _markdown([*heads, "six, macro F1", "valence, macro F1"], lines, text=(0,))


def neighbours_table(measured: Sequence[System]) -> str:
    """Compare each system with the next better one on the same images by McNemar's test."""
    comparable: dict[str, list[System]] = {}
    for system in measured:
        comparable.setdefault(system.row["truth"], []).append(system)
    same = max(comparable.values(), key=len)
    ranked = sorted(same, key=lambda s: s.row["accuracy"])
    rows = []
    for worse, better in pairwise(ranked):
        test = mcnemar(_right(worse), _right(better))
        gain = better.row["accuracy"] - worse.row["accuracy"]
        rows.append(
            [
                worse.title,
                better.title,
                f"{100 * gain:+.2f}",
                str(test.only_first),
                str(test.only_second),
                "< 0.0001" if test.p < 1e-4 else f"{test.p:.4f}",
            ]
        )
    heads = ["system", "the next better", "points", "only first right", "only second right", "p"]
    return _markdown(heads, rows, text=(0, 1))


def _right(system: System) -> NDArray[np.bool_]:
    truth, predicted = (np.frombuffer(system.row[k].encode(), np.uint8) for k in _DIGITS)
    return np.asarray(truth == predicted, bool)


_DIGITS = ("truth", "predicted")


def emotion_tables(measured: Sequence[System]) -> list[str]:
    """Lay out precision, recall, F1 and support, one table per emotion; PrivateTest is marked."""
    tables = []
    kinds = {"precision": "percent", "recall": "percent", "f1": "number"}
    judged = [system.row["split"] == "PrivateTest" for system in measured]
    for emotion in EMOTIONS:
        scores = [system.row["per_class"][emotion] for system in measured]
        columns = []
        for key, kind in kinds.items():
            values = [score[key] for score in scores]
            known = {v for v, fits in zip(values, judged, strict=True) if fits and v is not None}
            marks = {max(known): "**", min(known): "*"} if len(known) > 1 else {}
            marked = (
                marks.get(v, "") if fits else "" for v, fits in zip(values, judged, strict=True)
            )
            columns.append([f"{m}{cell(v, kind)}{m}" for m, v in zip(marked, values, strict=True)])
        support = [cell(score["support"], "count") for score in scores]
        titles = [system.title for system in measured]
        rows = [list(row) for row in zip(titles, *columns, support, strict=True)]
        heads = ["system", "precision", "recall", "F1", "support"]
        tables += [f"#### {emotion.capitalize()}", _markdown(heads, rows, text=(0,))]
    return tables


def _percent(value: float | None) -> str:
    return cell(value, "percent")


def _markdown(heads: Sequence[str], rows: Sequence[Sequence[Any]], text: Sequence[int]) -> str:
    align = ["left" if index in text else "right" for index in range(len(heads))]
    return str(tabulate(rows, heads, "pipe", colalign=align, disable_numparse=True))
