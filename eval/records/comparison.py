"""The comparison of systems on FER2013, made from records: what docs/results.md says of it.

``systems.toml`` names the systems and what was published of them; every other figure is a record's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path

from eval.metrics.significance import mcnemar
from eval.records.report import Row, cell, cells, markdown
from eval.records.sections import columns
from faces.emotions import EMOTIONS
from faces.files import read_toml

SYSTEMS = Path(__file__).resolve().parents[1] / "systems.toml"
TEMPLATE = Path(__file__).with_name("comparison_tables.md")
"""The text around the tables."""


@dataclass(frozen=True)
class System:
    """A line of the comparison."""

    title: str  # what the line is called
    classifier: str  # the record's
    split: str = "PrivateTest"  # the record's
    views: str = "single"  # the record's
    published: str | None = None  # the figure of the publication, with its unit
    protocol: str | None = None  # of that figure
    train: str | None = None  # the module and options that train it, None for what is shipped
    resplit: bool = False  # trained and measured on a random split of all images
    tolerance: float = 0.0  # points of accuracy by which a repeated training may differ
    row: Row = field(default_factory=dict)  # of its record, empty if there is none


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
    template = TEMPLATE.read_text(encoding="utf-8").rstrip("\n")
    text = template.format(
        accuracy=accuracy_table(systems),
        cost=cost_table(systems),
        guesses=guesses_table(measured),
        neighbours=neighbours_table(measured),
        emotions="\n\n".join(emotion_tables(measured)),
    )
    return [text]


def accuracy_table(systems: Sequence[System]) -> str:
    """Lay out the published figure and ours, one line per system."""
    ours = columns(
        "percent: accuracy accuracy_ci without_twins.accuracy",
        "number: macro_f1",
        "percent: balanced_accuracy",
    )
    lines = [_majority_row(systems), _chance_row()]
    for system in systems:
        published = [system.published or "–", system.protocol or "–"]
        lines.append([system.title, *published, *cells(system.row, ours)])
    heads = ["system", "published", "measured there on", "accuracy", "95 % interval"]
    heads += ["without twins", "macro F1", "balanced accuracy"]
    return markdown(heads, lines, ["left"] * 3)


def _majority_row(systems: Sequence[System]) -> list[str]:
    row = next((s.row for s in systems if s.row and s.row["split"] == "PrivateTest"), None)
    supports = [row["per_class"][e]["support"] for e in EMOTIONS] if row else [0]
    share = max(supports) / sum(supports) if sum(supports) else None
    return ["always the largest class", "–", "–", cell(share, "percent"), *["–"] * 4]


def _chance_row() -> list[str]:
    return ["chance", "14.3 %", "arithmetic", cell(1 / len(EMOTIONS), "percent"), *["–"] * 4]


def cost_table(systems: Sequence[System]) -> str:
    """Lay out name, size and time, one line per system."""
    factors = {"parameters": 1e-6, "weights_bytes": 1e-6, "training_hours": 60, "ms_per_face": 1}
    lines = []
    for system in systems:
        known = {key: system.row.get(key) for key in factors}
        values = (v if v is None else v * factors[key] for key, v in known.items())
        numbers = (cell(value, "number") for value in values)
        lines.append([system.title, f"`{system.classifier}`", *numbers])
    heads = ["system", "name", "parameters (million)", "file (MB)", "training (minutes)"]
    return markdown([*heads, "ms per face"], lines, ["left"] * 2)


def guesses_table(measured: Sequence[System]) -> str:
    """Lay out the accuracy of the first one, two and three guesses and of coarser classes."""
    figures = columns(
        "percent: top.0 top.1 top.2 groups.six.accuracy groups.valence.accuracy",
        "number: groups.six.macro_f1 groups.valence.macro_f1",
    )
    lines = [[system.title, *cells(system.row, figures)] for system in measured]
    heads = ["system", "top 1", "top 2", "top 3", "six classes", "valence"]
    return markdown([*heads, "six, macro F1", "valence, macro F1"], lines, ["left"])


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
    return markdown(heads, rows, ["left"] * 2)


def _right(system: System) -> list[bool]:
    return [a == b for a, b in zip(system.row["truth"], system.row["predicted"], strict=True)]


def emotion_tables(measured: Sequence[System]) -> list[str]:
    """Lay out precision, recall, F1 and support, one table per emotion; PrivateTest is marked."""
    tables = []
    heads = ["system", "precision", "recall", "F1", "support"]
    kinds = columns("percent: precision recall", "number: f1", "count: support")
    judged = [system for system in measured if system.row["split"] == "PrivateTest"]
    for emotion in EMOTIONS:
        lines = [[s.title, *cells(s.row["per_class"][emotion], kinds)] for s in measured]
        for column, key in enumerate(list(kinds)[:3], start=1):
            values = [system.row["per_class"][emotion][key] for system in measured]
            known = {s.row["per_class"][emotion][key] for s in judged} - {None}
            marks = {max(known): "**", min(known): "*"} if len(known) > 1 else {}
            for line, system, value in zip(lines, measured, values, strict=True):
                mark = marks.get(value, "") if system in judged else ""
                line[column] = f"{mark}{line[column]}{mark}"
        tables += [f"#### {emotion.capitalize()}", markdown(heads, lines, ["left"])]
    return tables
