"""The curves of detectors, drawn from the runs of ``eval.detection``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from eval.metrics.average_precision import RECALLS
from eval.records.plots import draw_lines, panels, save
from eval.records.report import Run, strict


def draw_curves(runs: Sequence[Run], folder: Path, stem: str) -> list[Path]:
    """Draw precision against recall, and miss rate against false faces per picture.

    Args:
        runs: of one data set, as measured or as read from a record.
        folder: made if missing.
        stem: how the files' names begin.

    Returns:
        The two PNG files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    runs = [strict(run) for run in runs]
    figure, (axes,) = panels(1, side=5.0)
    lines = []
    for run in runs:
        precision = np.array(run["precision_by_recall"], float)  # null becomes nan
        reached = precision > 0
        name = f"{run['detector']} (AP50 {_percent(run['ap50'])})"
        lines.append((name, RECALLS[reached].tolist(), precision[reached].tolist()))
    draw_lines(axes, lines, "recall", "precision (IoU 0.5)")
    axes.set(xlim=(0, 1), ylim=(0, 1.02))
    first = folder / f"{stem}_precision_recall.png"
    save(figure, first)

    figure, (axes,) = panels(1, side=5.0)
    lines = []
    for run in runs:
        name = f"{run['detector']} (mean {_percent(run['log_average_miss_rate'])})"
        curve = run["miss_rate"]
        lines.append((name, curve["false_per_image"], curve["miss_rate"]))
    draw_lines(axes, lines, "false faces per picture, duplicates included", "faces missed")
    axes.set(xscale="log", ylim=(0, 1.02))
    second = folder / f"{stem}_miss_rate.png"
    save(figure, second)
    return [first, second]


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f} %"
