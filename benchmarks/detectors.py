"""Face detectors, ours and the packages': average precision and time, on the same pictures.

Each detector runs in a process of its own, one at a time, in rounds whose order turns, so that a
busy minute of the machine meets all. The packages come from `make peers`.

Definitions
    ap, ap50, coverage, …: as in eval.detection, on the pictures at their own size. The packages'
        detections count as shown from a score of 0.5 on (mtcnn, haar: from this project's choice).
    ms_per_image, ms_low, ms_high: wall-clock milliseconds per picture of --size, letterboxed and in
        memory, one at a time: the median over the calls of about four seconds, of which the median,
        the least and the most over the rounds.
"""

from __future__ import annotations

import argparse
import json
import os
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
from faces.coco import load_coco, load_results
from faces.command import UserError
from faces.provenance import command_line

COMMAND = "benchmarks.detectors"

COLUMNS = {
    "detector": "text",
    "images": "count",
    "faces": "count",
    "ap": "percent",
    "ap_ci": "percent",
    "ap50": "percent",
    "ap50_ci": "percent",
    "ms_per_image": "number",
    "ms_low": "number",
    "ms_high": "number",
}


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
    result = argparse.ArgumentParser(
        prog=f"python -m {COMMAND}",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
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
    names = [*arguments.detector, *arguments.peers]
    load_before = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.keep or Path(temporary)
        contest.take_turns(
            names,
            arguments.rounds,
            lambda name, turn: run_command(arguments, name, folder, turn),
            arguments.threads,
        )
        found, times = [], []
        for name in names:
            stem = contest.file_stem(name)
            rounds = [
                json.loads((folder / f"{stem}.times.{turn}.json").read_text("utf-8"))
                for turn in range(arguments.rounds)
            ]
            times.append(contest.Spread.of([one["ms"] for one in rounds]))
            by_image = load_results(folder / f"{stem}.json", truth.scenes)
            threshold, ms = rounds[0]["threshold"], times[-1].median
            found.append(SavedDetections(name, threshold, by_image, ms))
    about = {
        "coco": str(truth.path),
        "fingerprint": truth.fingerprint,
        "min_size": arguments.min_size,
        "unreadable": 0,
        "timed_size": list(arguments.size),
        "rounds": arguments.rounds,
        "load_before": load_before,
    } | report.provenance(made_by)
    runs = [
        run
        | {"ours": run["detector"] in arguments.detector, "ms_low": ms.low, "ms_high": ms.high}
        | about
        | {"threads": arguments.threads}
        for run, ms in zip(measure_all(truth.scenes, found), times, strict=True)
    ]
    if arguments.out is not None:
        report.write_report(arguments.out, DETECTOR_SPEED.kind, runs)
    if arguments.picture is not None:
        draw_runs(runs, arguments.picture)
    print(report.table(runs, COLUMNS))
    return 0


def draw_runs(runs: Sequence[report.Run], path: Path) -> None:
    """Draw AP50 and AP beside speed."""
    panels = []
    for key, title in (("ap", "AP (IoU 0.5 to 0.95)"), ("ap50", "AP50")):
        points = []
        for run in runs:
            low, high = run[f"{key}_ci"]
            points.append(
                Point(
                    Path(run["detector"]).name,
                    run["ours"],
                    (run["ms_per_image"], run["ms_low"], run["ms_high"]),
                    (100 * run[key], 100 * low, 100 * high),
                )
            )
        panels.append((f"{title}, threads: {runs[0]['threads']}", points))
    width, height = runs[0]["timed_size"]
    draw(panels, "average precision (%)", f"picture of {width}×{height}", path)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    arguments = parser().parse_args(argv)
    return command.run(COMMAND, lambda: benchmark(arguments, command_line(COMMAND, argv)))


if __name__ == "__main__":
    sys.exit(main())
