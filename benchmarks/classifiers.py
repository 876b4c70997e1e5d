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

from argparse import ArgumentParser, Namespace
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

COMMAND = "benchmarks.classifiers"
PEERS = (*CLASSIFIERS, *NODE_CLASSIFIERS)
DRAWN = (1, 64)
"""Batch sizes that are drawn, where they were measured."""


def run_command(arguments: Namespace, name: str, folder: Path, turn: int) -> list[str]:
    """Return the command that measures one classifier; its files go to ``folder``."""
    words = [name, "--crops", str(folder / "crops.npy"), "--threads", str(arguments.threads)]
    words += ["--times", str(contest.times_file(folder, name, turn))]
    words += ["--batches", *map(str, arguments.batches)]
    if turn == 0:
        words += ["--scores", str(scores_file(folder, name))]
    if name in NODE_CLASSIFIERS:
        return contest.node_command(*words)
    return contest.python_command("benchmarks.rounds.run_classifier", *words)


def scores_file(folder: Path, name: str) -> Path:
    """Return where a classifier's probabilities go."""
    return folder / f"{contest.file_stem(name)}.csv"


def _add_options(parser: ArgumentParser) -> None:
    parser.add_argument("--data", type=Path, required=True, help="FER2013 in any form")
    parser.add_argument("--split", choices=SPLITS, default=DEFAULT_SPLIT)
    options.add_models(parser, "classifier", required=True)
    text = "the packages (default: all)"
    parser.add_argument("--peers", nargs="*", choices=PEERS, default=PEERS, help=text)
    sizes = [1, 16, 64, 256]
    parser.add_argument("--batches", type=options.positive, nargs="+", default=sizes, metavar="N")
    contest.add_options(parser)


def _benchmark(arguments: Namespace) -> None:
    contest.check_peers(arguments.peers)
    options.load_classifiers(arguments.classifier, "cpu")  # refuses unknown ones before the wait
    part = open_part(arguments.data, arguments.split)
    about = part.about() | {"views": "single"} | contest.conditions(arguments)
    rows = [row | about for row in measure(arguments, part.data)]
    CLASSIFIER_SPEED.publish(arguments, rows, draw_rows)


def measure(arguments: Namespace, data: Fer2013) -> list[report.Row]:
    """Let every classifier look at the images of ``data`` in turn: one row each."""
    names = [*arguments.classifier, *arguments.peers]
    with contest.answers_folder(arguments.keep) as folder:
        np.save(folder / "crops.npy", np.repeat(data.images[:, :, :, None], 3, axis=3))
        times = contest.run_all(arguments, names, folder, run_command)
        return [read_row(n, folder, own, data) for n, own in zip(names, times, strict=True)]


def read_row(name: str, folder: Path, times: Sequence[report.Row], data: Fer2013) -> report.Row:
    """Return the row of a classifier, whose answers are in ``folder``, from its rounds' times."""
    spreads = contest.spreads([one["ms"] for one in times])
    answers = scores_file(folder, name)
    probabilities = read_scores(answers, [str(index) for index in range(len(data.labels))])
    write_scores(answers, data.names, probabilities)  # for --keep
    return {
        "classifier": name,
        "ours": name not in PEERS,
        **figures(probabilities, data.labels),
        "ms_by_batch": {batch: asdict(ms) for batch, ms in spreads.items()},
        **{f"ms_at_{batch}": ms.median for batch, ms in spreads.items()},
        "precision": times[0]["precision"],
    }


def draw_rows(rows: Sequence[report.Row], path: Path) -> None:
    """Draw accuracy beside speed, a panel for each of ``DRAWN``, or else for the first batch."""
    measured = list(rows[0]["ms_by_batch"])
    panels = []
    for batch in [str(n) for n in DRAWN if str(n) in measured] or measured[:1]:
        times = [row["ms_by_batch"][batch] for row in rows]
        points = [
            Point.of(row, "classifier", (ms["median"], ms["low"], ms["high"]), "accuracy")
            for row, ms in zip(rows, times, strict=True)
        ]
        panels.append((contest.title(f"batch {batch}", rows[0]), points))
    draw(panels, f"accuracy on FER2013 {rows[0]['split']} (%)", "face", path)


main = options.Command(COMMAND, __doc__, _add_options, _benchmark)

if __name__ == "__main__":
    raise SystemExit(main())
