"""Measure one classifier in a process of its own.

It reads crops (.npy, (N, S, S, 3) uint8 RGB, or a folder of PNGs, as ``eval.crops`` makes) and
writes its probabilities (csv, see ``eval.data.score_files``) and its times (json: ``ms``, batch
size → milliseconds per face; ``precision``, the number format where it is known).
"""

from __future__ import annotations

import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from benchmarks.peers.classifiers import CLASSIFIERS
from benchmarks.rounds.contest import load
from eval.data import options
from eval.data.options import precision_of
from eval.data.score_files import write_scores
from faces.files import write_json
from faces.images import read_image
from faces.pipeline import Image
from twostage import model_zoo

COMMAND = "benchmarks.rounds.run_classifier"

SECONDS = 1.0
"""For so long each batch size is measured."""

MINIMUM_CALLS = 5


def read_crops(path: Path) -> tuple[list[str], list[Image]]:
    """Read square crops, (S, S, 3) uint8 RGB, and their names: file names, or numbers of a .npy."""
    if not path.is_dir():
        crops = list(np.load(path))
        return [str(index) for index in range(len(crops))], crops
    files = sorted(path.glob("*.png"))
    return [file.stem for file in files], [read_image(file.read_bytes()) for file in files]


def ms_per_item(
    call: Callable[[Sequence[Image]], object],
    items: Sequence[Image],
    batch: int,
    seconds: float = SECONDS,
) -> float:
    """Return the median wall-clock milliseconds per item of calls with a batch of them.

    Items are taken in turn, and repeated where there are fewer. One call before is not timed; they
    go on for ``seconds``, and at least ``MINIMUM_CALLS`` times.
    """
    call([items[i % len(items)] for i in range(batch)])
    times: list[float] = []
    end = time.perf_counter() + seconds
    while len(times) < MINIMUM_CALLS or time.perf_counter() < end:
        first = len(times) * batch
        chosen = [items[(first + i) % len(items)] for i in range(batch)]
        start = time.perf_counter()
        call(chosen)
        times.append(time.perf_counter() - start)
    return 1000 * float(np.median(times)) / batch


def _measure(arguments: Namespace) -> None:
    names, crops = read_crops(arguments.crops)
    classifier = load(arguments, CLASSIFIERS, model_zoo.load_classifier)
    if arguments.scores is not None:
        rows = [classifier.probabilities(crops[i : i + 64]) for i in range(0, len(crops), 64)]
        write_scores(arguments.scores, names, np.concatenate([np.zeros((0, 7), np.float32), *rows]))
    if arguments.times is not None:
        times = {str(n): ms_per_item(classifier.probabilities, crops, n) for n in arguments.batches}
        write_json(arguments.times, {"ms": times, "precision": precision_of(classifier)})


def _add_options(parser: ArgumentParser) -> None:
    parser.add_argument("name", help="a package's classifier, or one of ours")
    parser.add_argument("--crops", type=Path, required=True, metavar="FILE.npy|DIR")
    parser.add_argument("--scores", type=Path, metavar="FILE.csv", help="of all crops")
    parser.add_argument("--times", type=Path, metavar="FILE.json")
    parser.add_argument("--batches", type=int, nargs="+", default=[], metavar="N")
    parser.add_argument("--threads", type=int, default=1)


main = options.Command(COMMAND, __doc__, _add_options, _measure)

if __name__ == "__main__":
    raise SystemExit(main())
