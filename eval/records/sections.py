"""Sections of docs/results.md: which rows of the records each shows, and their columns.

An evaluation command declares its ``SECTION`` beside its metrics. Those of the benchmarks stand
here, as this room must not import theirs.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tabulate import tabulate

from eval.records.report import Row, alignment, cell, table, value_at, write_report


@dataclass(frozen=True)
class Section:
    """A table of docs/results.md.

    Attributes:
        kind: of the rows that it shows, and that its command writes.
        title: of the section.
        columns: key → how it is shown, see ``report.cell``; ``a.b`` is the key b of the object a.
        headings: key → heading, where that is not the key itself with spaces.
        brief: keys of the table on a terminal, a blank between them, if ``columns`` are too many.
    """

    kind: str
    title: str
    columns: Mapping[str, str]
    headings: Mapping[str, str] = field(default_factory=dict)
    brief: str = ""

    def publish(
        self,
        arguments: Namespace,
        rows: Sequence[Row],
        draw: Callable[[Sequence[Row], Path], None] | None = None,
    ) -> None:
        """Write the record (``--out``) and its figure (``--picture``), if asked; print the table.

        The table lacks the record's name. Beside times it shows the number format.
        """
        if arguments.out is not None:
            write_report(arguments.out, self.kind, rows)
        if draw is not None and arguments.picture is not None:
            draw(rows, arguments.picture)
        keys = self.brief.split() or [key for key in self.columns if key != "record"]
        columns = {key: self.columns.get(key, "number") for key in keys}
        timed = any(key.startswith(("ms_", "cpu_ms_")) for key in keys)
        print(table(rows, columns | ({"precision": "text"} if timed else {})))

    def markdown(self, rows: Sequence[Row]) -> str:
        """Lay rows out as a table in Markdown; a dash stands for what a row lacks."""
        columns = self.columns.items()
        cells = [[cell(value_at(row, key), how) for key, how in columns] for row in rows]
        headings = [self.headings.get(key, key.replace("_", " ")) for key in self.columns]
        return str(
            tabulate(
                cells, headings, "pipe", colalign=alignment(self.columns), disable_numparse=True
            )
        )


DETECTOR_SPEED = Section(
    kind="detector_speed",
    title="Detectors on one thread, one picture at a time",
    columns={
        "record": "text",
        "detector": "text",
        "ms_per_image": "number",
        "ms_low": "number",
        "ms_high": "number",
        "ap": "percent",
        "ap50": "percent",
    },
)

DETECTOR_CURVE = Section(
    kind="detector_curve",
    title="The light detector's accuracy beside its speed, on validation",
    columns={
        "record": "text",
        "detector": "text",
        "shortest_side": "count",
        "longest_side": "count",
        "proposals": "count",
        "validation_ap": "percent",
        "validation_ap50": "percent",
        "coverage": "percent",
        "cpu_ms_per_image": "number",
    },
)

DETECTOR_BATCHES = Section(
    kind="detector_batches",
    title="The light detector's networks with several pictures per call",
    columns={
        "record": "text",
        "detector": "text",
        "pictures_per_batch": "count",
        "ms_trunk": "number",
        "ms_box_head": "number",
        "ms_per_image": "number",
        "ms_least": "number",
        "ms_most": "number",
        "threads": "count",
    },
)

DETECTOR_COST = Section(
    kind="detector_cost",
    title="What training X101-FPN costs, by the number of frozen stages",
    columns={
        "freeze_at": "count",
        "trained": "text",
        "trained_millions": "number",
        "training_gflops": "number",
        "memory_gb": "number",
        "expected_memory_gb": "number",
        "v100_hours": "number",
        "cpu_ms_per_image": "number",
    },
)

SERVICE_LOAD = Section(
    kind="service_load",
    title="The service under load, beside the pipeline without it",
    columns={
        "clients": "count",
        "images_per_s": "number",
        "analyze_images_per_s": "number",
        "relative": "percent",
        "p50_ms": "number",
        "p95_ms": "number",
        "p99_ms": "number",
        "failed": "count",
        "n": "count",
        "cpu_ms_service": "number",
        "cpu_ms_clients": "number",
        "cpu_ms_analyze": "number",
        "cores": "count",
    },
)

SERVICE_SOAK = Section(
    kind="service_soak",
    title="The service's memory over many requests",
    columns={
        "requests": "count",
        "failed": "count",
        "memory_mb": "number",
        "memory_most_mb": "number",
        "memory_after_mb": "number",
        "growth": "percent",
        "minutes": "number",
        "side": "count",
        "cores": "count",
    },
)

CLASSIFIER_SPEED = Section(
    kind="classifier_speed",
    title="Classifiers' accuracy beside their speed",
    columns={
        "record": "text",
        "classifier": "text",
        "n": "count",
        "accuracy": "percent",
        "accuracy_ci": "interval",
        "macro_f1": "number",
        "ms_at_1": "number",
        "ms_at_16": "number",
        "ms_at_64": "number",
        "ms_at_256": "number",
        "threads": "count",
    },
    headings={"accuracy_ci": "95 % interval"},
)
