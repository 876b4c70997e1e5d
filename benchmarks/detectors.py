"""Face detectors, ours and the packages': average precision and time, on the same images.

Each detector runs in a process of its own, one at a time, in rounds whose order turns, so that a
busy minute of the machine meets all. The packages come from `make peers`.

Definitions
    ap, ap50, coverage, …: as in eval.detection, on the images at their own size. The packages'
        detections count as shown from a score of 0.5 on (mtcnn, haar: from this project's choice).
    ms_per_image, ms_low, ms_high: wall-clock milliseconds per image of --size, letterboxed and in
        memory, one at a time: the median over the calls of about four seconds, of which the median,
        the minimum and the maximum over the rounds.
    precision, processor_class: as in benchmarks.classifiers.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.peers.detectors import DETECTORS
from benchmarks.rounds import contest
from benchmarks.rounds.picture import Point, draw
from eval.data import options
from eval.data.detections import SavedDetections, with_min_size
from eval.detection import measure_all
from eval.records import report
from eval.records.sections import DETECTOR_SPEED
from faces import command
from faces.coco import GroundTruth, load_coco, load_results
from faces.command import UserError
from faces.provenance import command_line

COMMAND = "benchmarks.detectors"


def run_command(arguments: argparse.Namespace, name: str, folder: Path, turn: int) -> list[str]:
    """Return the command that measures one detector; its files go to ``folder``."""
    words = [name, "--coco", str(arguments.coco)]
    words += ["--images", str(arguments.images)]
    words += ["--size", *map(str, arguments.size), "--threads", str(arguments.threads)]
    words += ["--times", str(folder / f"{contest.file_stem(name)}.times.{turn}.json")]
    if turn == 0:
        words += ["--results", str(folder / f"{contest.file_stem(name)}.json")]
    return contest.python_command("benchmarks.rounds.run_detector", *words)


def parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    result = options.make_parser(COMMAND, __doc__)
    result.add_argument("--coco", type=Path, required=True, help="ground truth")
    result.add_argument("--images", type=Path, required=True, help="where its pictures lie")
    result.add_argument("--min-size", type=command.positive_pixels, default=0.0, metavar="PX")
    result.add_argument(
        "--detector", nargs="+", action="extend", required=True, metavar="NAME|RUN", help="ours"
    )
    result.add_argument(
        "--peers", nargs="*", choices=DETECTORS, default=list(DETECTORS), help="default: all"
    )
    result.add_argument("--size", type=int, nargs=2, default=(640, 480), metavar=("W", "H"))
    contest.add_options(result)
    return result


def benchmark(arguments: argparse.Namespace, made_by: str) -> int:
    """Do what the command line ``made_by`` asks; returns the exit status."""
    contest.check_options(arguments)
    command.existing(arguments.images, "--images")
    if min(arguments.size) < 1:
        raise UserError("--size must be two numbers of pixels, 1 or more")
    options.load_detectors(arguments.detector, "cpu")  # refuses unknown ones before the wait
    truth = with_min_size(load_coco(arguments.coco), arguments.min_size)
    about = {
        "coco": str(truth.path),
        "fingerprint": truth.fingerprint,
        "min_size": arguments.min_size,
        "unreadable": 0,
        "timed_size": list(arguments.size),
    } | contest.conditions(arguments, made_by)
    rows = [row | about for row in measure(arguments, truth)]
    DETECTOR_SPEED.publish(arguments, rows, draw_rows)
    return 0


def measure(arguments: argparse.Namespace, truth: GroundTruth) -> list[report.Row]:
    """Let every detector look at the images of ``truth`` in turn: one row each."""
    names = [*arguments.detector, *arguments.peers]
    found, times = [], []
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.keep or Path(temporary)

        def run(name: str, turn: int) -> list[str]:
            return run_command(arguments, name, folder, turn)

        contest.take_turns(names, arguments.rounds, run, arguments.threads)
        for name in names:
            stem = contest.file_stem(name)
            rounds = [
                json.loads((folder / f"{stem}.times.{turn}.json").read_text("utf-8"))
                for turn in range(arguments.rounds)
            ]
            ms = contest.Spread.of([one["ms"] for one in rounds])
            times.append({"ms_low": ms.low, "ms_high": ms.high})
            threshold, precision = (rounds[0][key] for key in ("threshold", "precision"))
            by_image = load_results(folder / f"{stem}.json", truth.images)
            found.append(SavedDetections(name, threshold, by_image, ms.median, precision))
    return [
        row | {"ours": row["detector"] in arguments.detector} | ms
        for row, ms in zip(measure_all(truth.images, found), times, strict=True)
    ]


def draw_rows(rows: Sequence[report.Row], path: Path) -> None:
    """Draw AP50 and AP beside speed."""
    panels = []
    for key, title in (("ap", "AP (IoU 0.5 to 0.95)"), ("ap50", "AP50")):
        points = []
        for row in rows:
            low, high = row[f"{key}_ci"]
            points.append(
                Point(
                    Path(row["detector"]).name,
                    row["ours"],
                    (row["ms_per_image"], row["ms_low"], row["ms_high"]),
                    (100 * row[key], 100 * low, 100 * high),
                )
            )
        panels.append((contest.title(title, rows[0]), points))
    width, height = rows[0]["timed_size"]
    draw(panels, "average precision (%)", f"image of {width}×{height}", path)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    arguments = parser().parse_args(argv)
    return command.run(COMMAND, lambda: benchmark(arguments, command_line(COMMAND, argv)))


if __name__ == "__main__":
    sys.exit(main())
