"""Sections of docs/results.md: which rows of the records each shows, and their columns.

An evaluation command declares its ``SECTION`` beside its metrics. Those of the benchmarks stand
here, as this room must not import theirs.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from eval.records import report
from eval.records.report import Row


def columns(*runs: str) -> dict[str, str]:
    """Return the columns of a table, key → kind, from runs such as ``text: key other_key``."""
    kinds = (run.split(": ") for run in runs)
    return {key: kind for kind, keys in kinds for key in keys.split()}


@dataclass(frozen=True)
class Section:
    """A table of docs/results.md."""

    kind: str  # of the rows that it shows, and that its command writes
    title: str  # of the section
    # key → how it is shown, see ``report.cell``; ``a.b`` is the key b of the object a
    columns: Mapping[str, str]
    # key → heading, where that is not the key itself with spaces
    headings: Mapping[str, str] = field(default_factory=dict)
    # keys of the table on a terminal, a blank between them, if ``columns`` are too many
    brief: str = ""

    def publish(
        self,
        arguments: Namespace,
        rows: Sequence[Row],
        draw: Callable[[Sequence[Row], Path], None] | None = None,
    ) -> None:
        """Write the record (``--out``) and its figure (``--picture``), if asked; print the table.

        Each row also gets what ``provenance`` says, where it does not say so itself. The table
        lacks the record's name; beside times it shows the number format.
        """
        made = report.provenance(arguments.made_by, getattr(arguments, "device", None))
        rows = [row | made | row for row in rows]
        if arguments.out is not None:
            report.write_report(arguments.out, self.kind, rows)
        if draw is not None and arguments.picture is not None:
            draw(rows, arguments.picture)
        keys = self.brief.split() or [key for key in self.columns if key != "record"]
        shown = {key: self.columns.get(key, "number") for key in keys}
        timed = any(key.startswith(("ms_", "cpu_ms_")) for key in keys)
        print(report.table(rows, shown | ({"precision": "text"} if timed else {})))

    def markdown(self, rows: Sequence[Row]) -> str:
        """Lay rows out as a table in Markdown; a dash stands for what a row lacks."""
        headings = [self.headings.get(key, key.replace("_", " ")) for key in self.columns]
        lines = [report.cells(row, self.columns) for row in rows]
        return report.markdown(headings, lines, report.alignment(self.columns))


DETECTOR_SPEED = Section(
    kind="detector_speed",
    title="Detectors on one thread, one picture at a time",
    columns=columns(
        "text: record detector processor_class precision",
        "number: ms_per_image ms_low ms_high",
        "percent: ap ap50",
    ),
)

DETECTOR_SIZES = Section(
    kind="detector_sizes",
    title="The same faces in small and large images",
    columns=columns(
        "text: record detector size",
        "count: images faces",
        "percent: ap50 ap50_ci coverage coverage_lost",
        "number: false_per_photo duplicates_per_photo ms_per_image ms_per_megapixel",
    ),
)

DETECTOR_CURVE = Section(
    kind="detector_curve",
    title="The light detector's accuracy beside its speed, on validation",
    columns=columns(
        "text: record detector",
        "count: shortest_side longest_side proposals",
        "percent: validation_ap validation_ap50 coverage",
        "number: cpu_ms_per_image",
    ),
)

DETECTOR_BATCHES = Section(
    kind="detector_batches",
    title="The light detector's networks with several pictures per call",
    columns=columns(
        "text: record detector",
        "count: pictures_per_batch",
        "number: ms_trunk ms_box_head ms_per_image ms_least ms_most",
        "count: threads",
    ),
)

DETECTOR_COST = Section(
    kind="detector_cost",
    title="What training X101-FPN costs, by the number of frozen stages",
    columns=columns(
        "count: freeze_at",
        "text: trained",
        "number: trained_millions training_gflops memory_gb expected_memory_gb v100_hours "
        "cpu_ms_per_image",
    ),
)

ROTATIONS = Section(
    kind="rotations",
    title="Photos on their side",
    columns=columns(
        "text: record detector classifier turned rotations",
        "count: images faces",
        "percent: coverage accuracy joint_accuracy wrong_and_sure turn_found",
    ),
)

VIDEO_SPEED = Section(
    kind="video_speed",
    title="Videos: frames per second, the share of each stage, and memory",
    columns=columns(
        "text: record detector classifier size",
        "count: seconds detect_every",
        "number: faces frames_per_second first_fps last_fps",
        "number: ms_decode ms_detect ms_classify ms_rest",
        "number: memory_mb memory_after_mb memory_peak_mb",
        "count: cores",
    ),
)

SERVICE_LOAD = Section(
    kind="service_load",
    title="The service under load, beside the pipeline without it",
    columns=columns(
        "count: clients",
        "number: images_per_s analyze_images_per_s",
        "percent: relative",
        "number: p50_ms p95_ms p99_ms",
        "count: failed n",
        "number: cpu_ms_service cpu_ms_clients cpu_ms_analyze",
        "count: cores",
    ),
)

SERVICE_SOAK = Section(
    kind="service_soak",
    title="The service's memory over many requests",
    columns=columns(
        "count: requests failed",
        "number: memory_mb memory_most_mb memory_after_mb",
        "percent: growth",
        "number: minutes",
        "count: side cores",
    ),
)

LIVE = Section(
    kind="live",
    title="The live page: a camera of 640×480 pixels in Chromium",
    columns=columns(
        "number: frames_per_s p50_ms p95_ms p99_ms",
        "count: n dropped",
        "number: camera_frames_per_s faces_per_frame cpu_ms_service",
        "count: cores",
    ),
)

ROBUSTNESS_CAMPAIGN = Section(
    kind="robustness_campaign",
    title="Damaged and hostile inputs, and processes killed at random moments",
    columns=columns(
        "text: campaign",
        "count: inputs answered refused kills runs",
        "count: tracebacks hangs crashes lost unclear differing accepted peak_mb",
    ),
)

FOLDER_SOAK = Section(
    kind="folder_soak",
    title="Many images: memory, and images per second by workers",
    columns={
        "workers": "count",
        "cores": "count",
        "images": "count",
        "images_per_s": "number",
        "relative": "percent",
        "memory_mb": "number",
        "memory_after_mb": "number",
        "peak_mb": "number",
        "growth": "percent",
    },
)

CLASSIFIER_SPEED = Section(
    kind="classifier_speed",
    title="Classifiers' accuracy beside their speed",
    columns=columns(
        "text: record classifier",
        "count: n",
        "percent: accuracy",
        "interval: accuracy_ci",
        "number: macro_f1 ms_at_1 ms_at_16 ms_at_64 ms_at_256",
        "count: threads",
    ),
    headings={"accuracy_ci": "95 % interval"},
)
