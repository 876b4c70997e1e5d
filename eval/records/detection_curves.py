"""The curves of detectors, drawn from the rows of ``eval.detection``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from eval.metrics.average_precision import RECALLS
from eval.records.plots import draw_lines, panels, save
from eval.records.report import Row, strict


def draw_curves(rows: Sequence[Row], folder: Path, stem: str) -> list[Path]:
    """Draw precision against recall, and miss rate against false positives per image.

    Args:
        rows: of one data set, as measured or as read from a record.
        folder: made if missing.
        stem: how the files' names begin.

    Returns:
        The two PNG files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rows = [strict(row) for row in rows]
    figure, (axes,) = panels(1, side=5.0)
    lines = []
    for row in rows:
        precision = np.array(row["precision_by_recall"], float)  # null becomes nan
        reached = precision > 0
        name = f"{row['detector']} (AP50 {_percent(row['ap50'])})"
        lines.append((name, RECALLS[reached].tolist(), precision[reached].tolist()))
    draw_lines(axes, lines, "recall", "precision (IoU 0.5)")
    axes.set(xlim=(0, 1), ylim=(0, 1.02))
    first = folder / f"{stem}_precision_recall.png"
    save(figure, first)

    figure, (axes,) = panels(1, side=5.0)
    lines = []
    for row in rows:
        name = f"{row['detector']} (mean {_percent(row['log_average_miss_rate'])})"
        curve = row["miss_rate"]
        lines.append((name, curve["false_per_image"], curve["miss_rate"]))
    draw_lines(axes, lines, "false faces per picture, duplicates included", "faces missed")
    axes.set(xscale="log", ylim=(0, 1.02))
    second = folder / f"{stem}_miss_rate.png"
    save(figure, second)
    return [first, second]


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f} %"
