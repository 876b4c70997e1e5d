"""Accuracy beside speed, as a figure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from eval.records.plots import save
from eval.records.report import Row

OURS, THEIRS = "#0072b2", "#d55e00"
"""Blue and vermilion of Okabe and Ito's palette; the names are written beside the points."""


@dataclass(frozen=True)
class Point:
    """A contestant."""

    name: str  # written beside the point
    ours: bool  # decides colour and shape
    ms: tuple[float, float, float]  # median milliseconds, with the minimum and the maximum
    quality: tuple[float, float, float]  # in percent, with the ends of its interval

    @classmethod
    def of(cls, row: Row, stage: str, ms: tuple[float, float, float], quality: str) -> Point:
        """Return the point of a row; ``stage`` is the key of its name, ``quality`` of a share."""
        low, high = (100 * end for end in row[f"{quality}_ci"])
        return cls(Path(row[stage]).name, row["ours"], ms, (100 * row[quality], low, high))


def draw(panels: Sequence[tuple[str, Sequence[Point]]], axis: str, unit: str, path: Path) -> None:
    """Draw one panel (title, points) per setting, side by side, and write them as PNG.

    ``axis`` is what ``quality`` is, ``unit`` what the milliseconds are of, such as ``face``.
    """
    figure = Figure(figsize=(5.5 * len(panels), 4.6), layout="constrained")
    axes = figure.subplots(1, len(panels), squeeze=False, sharey=True)[0]
    for panel, (title, points) in zip(axes, panels, strict=True):
        for place, point in enumerate(sorted(points, key=lambda one: one.ms)):
            ms, ms_low, ms_high = point.ms
            quality, low, high = point.quality
            panel.errorbar(
                ms,
                quality,
                xerr=[[ms - ms_low], [ms_high - ms]],
                yerr=[[quality - low], [high - quality]],
                fmt="o" if point.ours else "s",
                color=OURS if point.ours else THEIRS,
                capsize=2,
                elinewidth=0.8,
            )
            panel.annotate(
                point.name,
                (ms, quality),
                # neighbours do not write over each other
                xytext=(-6 if point.ours else 6, 5 if place % 2 else -12),
                ha="right" if point.ours else "left",
                textcoords="offset points",
                fontsize=8,
                color=OURS if point.ours else THEIRS,
            )
        panel.set(xscale="log", title=title, xlabel=f"milliseconds per {unit} (log scale)")
        panel.margins(x=0.25, y=0.12)
        panel.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        panel.xaxis.set_major_formatter("{x:g}")
        panel.xaxis.set_minor_formatter(NullFormatter())
        panel.grid(alpha=0.3, which="both", linewidth=0.5)
    axes[0].set_ylabel(axis)
    figure.supxlabel(
        "circles: this project; squares: packages; bars: rounds, 95 % interval", size=8
    )
    save(figure, path)
