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

from argparse import ArgumentParser, Namespace
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

COMMAND = "benchmarks.detectors"


def run_command(arguments: Namespace, name: str, folder: Path, turn: int) -> list[str]:
    """Return the command that measures one detector; its files go to ``folder``."""
    words = [name, "--coco", str(arguments.coco), "--images", str(arguments.images)]
    words += ["--size", *map(str, arguments.size), "--threads", str(arguments.threads)]
    words += ["--times", str(contest.times_file(folder, name, turn))]
    if turn == 0:
        words += ["--results", str(folder / f"{contest.file_stem(name)}.json")]
    return contest.python_command("benchmarks.rounds.run_detector", *words)


def _add_options(parser: ArgumentParser) -> None:
    options.add_photo_options(parser)
    options.add_min_size_option(parser)
    options.add_models(parser, "detector", required=True)
    peers = list(DETECTORS)
    parser.add_argument("--peers", nargs="*", choices=peers, default=peers, help="default: all")
    options.add_size_option(parser, "the images", (640, 480))
    contest.add_options(parser)


def _benchmark(arguments: Namespace) -> None:
    contest.check_peers(arguments.peers)
    command.existing(arguments.images, "--images")
    options.load_detectors(arguments.detector, "cpu")  # refuses unknown ones before the wait
    truth = with_min_size(load_coco(arguments.coco), arguments.min_size)
    about = {
        "coco": str(truth.path),
        "fingerprint": truth.fingerprint,
        "min_size": arguments.min_size,
        "unreadable": 0,
        "timed_size": list(arguments.size),
    } | contest.conditions(arguments)
    rows = [row | about for row in measure(arguments, truth)]
    DETECTOR_SPEED.publish(arguments, rows, draw_rows)


def measure(arguments: Namespace, truth: GroundTruth) -> list[report.Row]:
    """Let every detector look at the images of ``truth`` in turn: one row each."""
    names = [*arguments.detector, *arguments.peers]
    found, times = [], []
    with contest.answers_folder(arguments.keep) as folder:
        measured = contest.run_all(arguments, names, folder, run_command)
        for name, rounds in zip(names, measured, strict=True):
            ms = contest.Spread.of([one["ms"] for one in rounds])
            times.append(ms.keys("ms"))
            threshold, precision = (rounds[0][key] for key in ("threshold", "precision"))
            by_image = load_results(folder / f"{contest.file_stem(name)}.json", truth.images)
            found.append(SavedDetections(name, threshold, by_image, ms.median, precision))
    return [
        row | {"ours": row["detector"] in arguments.detector} | ms
        for row, ms in zip(measure_all(truth.images, found), times, strict=True)
    ]


def draw_rows(rows: Sequence[report.Row], path: Path) -> None:
    """Draw AP50 and AP beside speed."""
    times = [(row["ms_per_image"], row["ms_low"], row["ms_high"]) for row in rows]
    panels = []
    for key, title in (("ap", "AP (IoU 0.5 to 0.95)"), ("ap50", "AP50")):
        points = [Point.of(row, "detector", ms, key) for row, ms in zip(rows, times, strict=True)]
        panels.append((contest.title(title, rows[0]), points))
    width, height = rows[0]["timed_size"]
    draw(panels, "average precision (%)", f"image of {width}×{height}", path)


main = options.Command(COMMAND, __doc__, _add_options, _benchmark)

if __name__ == "__main__":
    raise SystemExit(main())
