"""Emotion classifiers, ours and the packages': accuracy and time, on the same crops.

Each classifier runs in a process of its own, one at a time, in rounds whose order turns, so that a
busy minute of the machine meets all. The crops are FER2013's images as the pipeline gives them,
(48, 48, 3) uint8 RGB in memory; the times hold all from there to the probabilities. The packages
come from `make peers`.

Definitions
    accuracy, macro_f1, …: as in eval.classification, single view.
    ms_by_batch: batch size → wall-clock milliseconds per face: the median over the calls of about
        one second, of which the median, the minimum and the maximum over the rounds; ms_at_N is the
        median. fer, facex, human and facial-emotion-recognition take one face at a time whatever
        the batch, as their code does.
    precision: the number format that a classifier computes in; processor_class: as
        ``networks.precision.processor_class`` says, for what kind of processor the times hold. A
        processor passes for a lesser one by ONEDNN_MAX_CPU_ISA=AVX2 ATEN_CPU_CAPABILITY=avx2.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from benchmarks.peers.classifiers import CLASSIFIERS, NODE_CLASSIFIERS
from benchmarks.rounds import contest
from benchmarks.rounds.picture import Point, draw
from classification.data.fer2013 import SPLITS, Fer2013
from eval.data import options
from eval.data.fer2013_parts import DEFAULT_SPLIT, open_part
from eval.data.score_files import read_scores, write_scores
from eval.metrics.classification import figures
from eval.records import report
from eval.records.sections import CLASSIFIER_SPEED
from faces import command
from faces.command import UserError
from faces.provenance import command_line

COMMAND = "benchmarks.classifiers"
PEERS = (*CLASSIFIERS, *NODE_CLASSIFIERS)
DRAWN = (1, 64)
"""Batch sizes that are drawn, where they were measured."""


def run_command(
    name: str, folder: Path, batches: Sequence[int], threads: int, turn: int
) -> list[str]:
    """Return the command that measures one classifier; its files go to ``folder``."""
    words = [name, "--crops", str(folder / "crops.npy"), "--threads", str(threads)]
    words += ["--times", str(times_file(folder, name, turn))]
    words += ["--batches", *map(str, batches)]
    if turn == 0:
        words += ["--scores", str(scores_file(folder, name))]
    if name in NODE_CLASSIFIERS:
        return contest.node_command(*words)
    return contest.python_command("benchmarks.rounds.run_classifier", *words)


def times_file(folder: Path, name: str, turn: int) -> Path:
    """Return where a run's times go."""
    return folder / f"{contest.file_stem(name)}.times.{turn}.json"


def scores_file(folder: Path, name: str) -> Path:
    """Return where a classifier's probabilities go."""
    return folder / f"{contest.file_stem(name)}.csv"


def parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    result = options.make_parser(COMMAND, __doc__)
    result.add_argument("--data", type=Path, required=True, help="FER2013 in any form")
    result.add_argument("--split", choices=SPLITS, default=DEFAULT_SPLIT)
    result.add_argument(
        "--classifier", nargs="+", action="extend", required=True, metavar="NAME|RUN", help="ours"
    )
    result.add_argument(
        "--peers", nargs="*", choices=PEERS, default=PEERS, help="the packages (default: all)"
    )
    result.add_argument("--batches", type=int, nargs="+", default=[1, 16, 64, 256], metavar="N")
    contest.add_options(result)
    return result


def benchmark(arguments: argparse.Namespace, made_by: str) -> int:
    """Do what the command line ``made_by`` asks; returns the exit status."""
    contest.check_options(arguments)
    if min(arguments.batches) < 1:
        raise UserError("--batches must be 1 or more")
    options.load_classifiers(arguments.classifier, "cpu")  # refuses unknown ones before the wait
    part = open_part(arguments.data, arguments.split)
    about = part.about() | {"views": "single"} | contest.conditions(arguments, made_by)
    rows = [row | about for row in measure(arguments, part.data)]
    CLASSIFIER_SPEED.publish(arguments, rows, draw_rows)
    return 0


def measure(arguments: argparse.Namespace, data: Fer2013) -> list[report.Row]:
    """Let every classifier look at the images of ``data`` in turn: one row each."""
    names = [*arguments.classifier, *arguments.peers]
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.keep or Path(temporary)
        np.save(folder / "crops.npy", np.repeat(data.images[:, :, :, None], 3, axis=3))

        def run(name: str, turn: int) -> list[str]:
            return run_command(name, folder, arguments.batches, arguments.threads, turn)

        contest.take_turns(names, arguments.rounds, run, arguments.threads)
        return [read_row(name, folder, arguments.rounds, data) for name in names]


def read_row(name: str, folder: Path, rounds: int, data: Fer2013) -> report.Row:
    """Return the row of a classifier whose answers and times are in ``folder``."""
    found = [
        json.loads(times_file(folder, name, turn).read_text("utf-8")) for turn in range(rounds)
    ]
    spreads = contest.spreads([one["ms"] for one in found])
    answers = scores_file(folder, name)
    probabilities = read_scores(answers, [str(index) for index in range(len(data.labels))])
    write_scores(answers, data.names, probabilities)  # for --keep
    return {
        "classifier": name,
        "ours": name not in PEERS,
        **figures(probabilities, data.labels),
        "ms_by_batch": {batch: asdict(ms) for batch, ms in spreads.items()},
        **{f"ms_at_{batch}": ms.median for batch, ms in spreads.items()},
        "precision": found[0]["precision"],
    }


def draw_rows(rows: Sequence[report.Row], path: Path) -> None:
    """Draw accuracy beside speed, a panel for each of ``DRAWN``, or else for the first batch."""
    measured = list(rows[0]["ms_by_batch"])
    batches = [str(n) for n in DRAWN if str(n) in measured] or measured[:1]
    panels = []
    for batch in batches:
        points = []
        for row in rows:
            ms, (low, high) = row["ms_by_batch"][batch], row["accuracy_ci"]
            points.append(
                Point(
                    Path(row["classifier"]).name,
                    row["ours"],
                    (ms["median"], ms["low"], ms["high"]),
                    (100 * row["accuracy"], 100 * low, 100 * high),
                )
            )
        panels.append((contest.title(f"batch {batch}", rows[0]), points))
    draw(panels, f"accuracy on FER2013 {rows[0]['split']} (%)", "face", path)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    arguments = parser().parse_args(argv)
    return command.run(COMMAND, lambda: benchmark(arguments, command_line(COMMAND, argv)))


if __name__ == "__main__":
    sys.exit(main())
