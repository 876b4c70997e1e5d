"""The figures of the evaluations: curves in panels, written as PNG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from faces.files import replacing

matplotlib.use("Agg")


def panels(count: int, columns: int = 3, side: float = 3.6) -> tuple[Figure, list[Axes]]:
    """Return a figure of ``count`` square panels in rows of at most ``columns``."""
    across = min(count, columns)
    down = -(-count // across)
    figure = Figure(figsize=(side * across, side * down), layout="constrained")
    axes = np.asarray(figure.subplots(down, across, squeeze=False)).ravel().tolist()
    for unused in axes[count:]:
        unused.set_axis_off()
    return figure, axes[:count]


def save(figure: Figure, path: Path) -> None:
    """Write the figure as PNG, whole or not at all."""
    with replacing(path) as part:
        figure.savefig(part, dpi=120, format="png")


def points(
    rows: Sequence[Mapping[str, float]], x: str, y: str, factor: float = 100
) -> tuple[list[float], list[float]]:
    """Return the values of two keys, those of ``y`` times ``factor``: a share becomes percent."""
    return [row[x] for row in rows], [factor * row[y] for row in rows]


def draw_lines(
    axes: Axes,
    lines: Sequence[tuple[str, Sequence[float], Sequence[float]]],
    x: str,
    y: str,
    title: str = "",
) -> None:
    """Draw named lines (name, x values, y values) with a legend and a light grid."""
    for name, xs, ys in lines:
        axes.plot(xs, ys, label=name, linewidth=1.5)
    axes.set(xlabel=x, ylabel=y)
    axes.set_title(title, fontsize=9)
    axes.grid(alpha=0.3)
    if lines:
        axes.legend(fontsize=8)
