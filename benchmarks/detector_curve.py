"""What a Detectron2 detector gains and loses with the size of its input and its proposals.

One row per combination of ``--shortest`` and ``--proposals``, all of one detector, on validation
images: its test sizes are chosen from this curve, never on what is to be reported.

Definitions
    shortest_side, longest_side: INPUT.MIN_SIZE_TEST and MAX_SIZE_TEST; their ratio is that of the
        detector's configuration.
    proposals: MODEL.RPN.POST_NMS_TOPK_TEST; PRE_NMS_TOPK_TEST (per level) is twice that.
    validation_ap, validation_ap50, coverage, duplicates_per_image: as ap, … in eval.detection, at
        the images' own size and the detector's threshold.
    cpu_ms_per_image: processor time, in milliseconds, per image of --size, letterboxed and in
        memory, one at a time. With one thread it is what the wall clock would show on an idle
        machine. Median of a round; median, minimum and maximum over the rounds, whose order turns.
"""

from __future__ import annotations

import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from benchmarks.rounds.contest import Spread, add_effort, conditions, order
from benchmarks.rounds.run_detector import find, timed_images
from eval.data import options
from eval.data.detections import SavedDetections, with_min_size
from eval.data.images import AnnotatedImages
from eval.detection import measure_all
from eval.records import report
from eval.records.plots import panels, save
from eval.records.sections import DETECTOR_CURVE
from faces.coco import GroundTruth, load_coco
from faces.command import UserError
from faces.pipeline import Detector, Image

COMMAND = "benchmarks.detector_curve"

KEPT = (
    *("threshold", "images", "faces", "coverage", "coverage_ci", "duplicates_per_image"),
    "precision",
)
"""What a row has from ``eval.detection`` as it is there."""

Load = Callable[[Sequence[str]], Any]
"""Overrides of the configuration → the detector."""


@dataclass(frozen=True)
class Setting:
    """A point of the curve; the module's docstring defines the numbers."""

    shortest: int
    longest: int
    proposals: int

    @property
    def overrides(self) -> list[str]:
        """The configuration's keys and values."""
        values = {
            "INPUT.MIN_SIZE_TEST": self.shortest,
            "INPUT.MAX_SIZE_TEST": self.longest,
            "MODEL.RPN.PRE_NMS_TOPK_TEST": 2 * self.proposals,
            "MODEL.RPN.POST_NMS_TOPK_TEST": self.proposals,
        }
        return [str(word) for pair in values.items() for word in pair]

    def __str__(self) -> str:
        return f"{self.shortest} px, {self.proposals} proposals"


def settings(shortest: Sequence[int], proposals: Sequence[int], ratio: float) -> list[Setting]:
    """Return all combinations; ``ratio`` is that of the longest side to the shortest."""
    return [Setting(side, round(ratio * side), some) for side, some in product(shortest, proposals)]


def cpu_ms(detector: Detector, pictures: Sequence[Image]) -> float:
    """Return the median processor time of a call with one image, in milliseconds."""
    detector.detect(pictures[:1])
    times = []
    for picture in pictures:
        start = time.process_time()
        detector.detect([picture])
        times.append(time.process_time() - start)
    return 1000 * float(np.median(times))


def measure(
    load: Load,
    points: Sequence[Setting],
    truth: GroundTruth,
    images: Path,
    size: tuple[int, int],
    rounds: int,
) -> list[report.Row]:
    """Measure every point: one row each."""
    found = []
    for point in tqdm(points, desc="accuracy", unit=" settings", disable=None):
        detector = load(point.overrides)
        by_image, precision = find(detector, truth, images), options.precision_of(detector)
        saved = SavedDetections(str(point), detector.score_threshold, by_image, precision=precision)
        found.append(saved)
    pictures = timed_images(truth, images, size)
    times: list[list[float]] = [[] for _ in points]
    turns = list(order(len(points), rounds))
    for _, index in tqdm(turns, desc="speed", unit=" runs", disable=None):
        times[index].append(cpu_ms(load(points[index].overrides), pictures))
    rows = []
    for point, accuracy, ms in zip(points, measure_all(truth.images, found), times, strict=True):
        row = {
            "shortest_side": point.shortest,
            "longest_side": point.longest,
            "proposals": point.proposals,
            **{f"validation_{key}": accuracy[key] for key in ("ap", "ap_ci", "ap50", "ap50_ci")},
            **{key: accuracy[key] for key in KEPT},
            **Spread.of(ms).keys("cpu_ms"),
        }
        rows.append(row)
    return rows


def draw(rows: Sequence[report.Row], path: Path) -> None:
    """Draw AP and AP50 beside speed: a line per number of proposals, a point per size."""
    figure, axes = panels(2, side=4.8)
    for panel, (key, title) in zip(axes, (("ap", "AP"), ("ap50", "AP50")), strict=True):
        for proposals in dict.fromkeys(row["proposals"] for row in rows):
            line = sorted(
                (row for row in rows if row["proposals"] == proposals),
                key=lambda row: row["shortest_side"],
            )
            ms = [row["cpu_ms_per_image"] for row in line]
            quality = [100 * row[f"validation_{key}"] for row in line]
            panel.plot(ms, quality, marker="o", linewidth=1.2, label=f"{proposals} proposals")
        for row in rows:  # the sizes, once, below the lowest of their points
            same = [other for other in rows if other["shortest_side"] == row["shortest_side"]]
            if row is min(same, key=lambda other: other[f"validation_{key}"]):
                place = (row["cpu_ms_per_image"], 100 * row[f"validation_{key}"])
                panel.annotate(
                    f"{row['shortest_side']} px",
                    place,
                    xytext=(4, -11),
                    textcoords="offset points",
                    fontsize=8,
                )
        panel.set(title=title, ylabel="average precision (%)")
        panel.margins(0.12)
        panel.grid(alpha=0.3)
    axes[0].legend(fontsize=8)
    width, height = rows[0]["timed_size"]
    figure.supxlabel(
        f"processor time per picture of {width}×{height} (ms), threads: {rows[0]['threads']}",
        size=10,
    )
    save(figure, path)


def _add_options(parser: ArgumentParser) -> None:
    parser.set_defaults(device="cpu")
    parser.add_argument("--detector", required=True, metavar="NAME|RUN", help="one of Detectron2's")
    options.add_photo_options(parser)
    options.add_min_size_option(parser)
    for option, metavar in (("--shortest", "PX"), ("--proposals", "N")):
        parser.add_argument(
            option, type=options.positive, nargs="+", required=True, metavar=metavar
        )
    options.add_size_option(parser, "the timed images", (640, 480))
    add_effort(parser, threads=1, rounds=3)
    options.add_out_option(parser)
    options.add_picture_option(parser)


def _benchmark(arguments: Namespace) -> None:
    truth = with_min_size(load_coco(arguments.coco), arguments.min_size)
    AnnotatedImages(truth, arguments.images)  # refuses missing images before the wait

    import torch

    from twostage import model_zoo

    torch.set_num_threads(arguments.threads)

    def load(overrides: Sequence[str] = ()) -> Any:
        return model_zoo.load_detector(arguments.detector, "cpu", overrides)

    sides = getattr(load(), "test_sizes", None)
    if sides is None:
        raise UserError(f"{arguments.detector}: is no detector of Detectron2's; it has no sizes")
    points = settings(arguments.shortest, arguments.proposals, sides[1] / sides[0])
    size = tuple(arguments.size)
    about = {
        "detector": arguments.detector,
        "coco": str(truth.path),
        "fingerprint": truth.fingerprint,
        "min_size": arguments.min_size,
        "timed_size": list(size),
    } | conditions(arguments)
    rows = measure(load, points, truth, arguments.images, size, arguments.rounds)
    DETECTOR_CURVE.publish(arguments, [row | about for row in rows], draw)


main = options.Command(COMMAND, __doc__, _add_options, _benchmark)

if __name__ == "__main__":
    raise SystemExit(main())
