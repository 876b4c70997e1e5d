"""The curves of detectors, drawn from the rows of ``eval.detection``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from eval.metrics.average_precision import RECALLS
from eval.records.plots import draw_lines, panels, save
from eval.records.report import Row, strict


def draw_curves(rows: Sequence[Row], folder: Path, stem: str) -> None:
    """Draw precision against recall, and miss rate against false positives per image.

    The rows are of one data set. The two files' names begin with ``stem``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rows = [strict(row) for row in rows]
    lines = []
    for row in rows:
        precision = np.array(row["precision_by_recall"], float)  # null becomes nan
        reached = precision > 0
        name = f"{row['detector']} (AP50 {_percent(row['ap50'])})"
        lines.append((name, RECALLS[reached].tolist(), precision[reached].tolist()))
    figure, (axes,) = panels(1, side=5.0)
    draw_lines(axes, lines, "recall", "precision (IoU 0.5)")
    axes.set(xlim=(0, 1), ylim=(0, 1.02))
    save(figure, folder / f"{stem}_precision_recall.png")

    lines = []
    for row in rows:
        name = f"{row['detector']} (mean {_percent(row['log_average_miss_rate'])})"
        curve = row["miss_rate"]
        lines.append((name, curve["false_per_image"], curve["miss_rate"]))
    figure, (axes,) = panels(1, side=5.0)
    draw_lines(axes, lines, "false faces per picture, duplicates included", "faces missed")
    axes.set(xscale="log", ylim=(0, 1.02))
    save(figure, folder / f"{stem}_miss_rate.png")


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f} %"
