"""Runs the contestants in turn, each in a process of its own, and gathers their times."""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import cv2
import torch
from tqdm import tqdm

from eval.data import options
from eval.records import report
from faces.command import UserError
from faces.pipeline import Detector, EmotionClassifier

Contestant = TypeVar("Contestant", Detector, EmotionClassifier)

ROOT = Path(__file__).resolve().parents[2]
PYTHON_PEERS = ROOT / ".peers" / "python"
NODE_PEERS = ROOT / ".peers" / "node" / "node_modules"


@dataclass(frozen=True)
class Spread:
    """Times of several rounds, in milliseconds: their median, minimum and maximum."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, times: Sequence[float]) -> Spread:
        """Summarise the times of the rounds."""
        return cls(statistics.median(times), min(times), max(times))

    def keys(self, name: str) -> dict[str, float]:
        """Return ``NAME_per_image``, ``NAME_low`` and ``NAME_high``."""
        return {
            f"{name}_per_image": self.median,
            f"{name}_low": self.low,
            f"{name}_high": self.high,
        }


def python_command(module: str, *words: str) -> list[str]:
    """Return the command that runs a module of ours, with the packages in reach."""
    return [sys.executable, "-W", "ignore", "-m", module, *words]


def node_command(*words: str) -> list[str]:
    """Return the command that measures a Node package; UserError if Node is missing."""
    node = shutil.which("node")
    if node is None or not NODE_PEERS.is_dir():
        raise UserError(
            "Node.js or its packages are missing; install Node.js and run make peers, or leave "
            "human and face-api out (--peers)"
        )
    return [node, str(ROOT / "benchmarks" / "peers" / "classify.js"), *words]


def load(
    arguments: Namespace,
    peers: Mapping[str, Callable[[int], Contestant]],
    ours: Callable[[str, str], Contestant],
) -> Contestant:
    """Return a package's model, or one of ours by name or run folder, with ``--threads``."""
    cv2.setNumThreads(arguments.threads)
    if arguments.name in peers:
        return peers[arguments.name](arguments.threads)
    torch.set_num_threads(arguments.threads)
    return ours(arguments.name, "cpu")


def file_stem(name: str) -> str:
    """Return how the files of a contestant begin; a run folder's path becomes one word."""
    return name.replace(os.sep, "_").lstrip("._")


def add_options(parser: ArgumentParser) -> None:
    """Add the options that both benchmarks take."""
    parser.set_defaults(device="cpu")
    add_effort(parser, threads=1, rounds=5)
    text = "leave all answers there, as eval.* --scores and --results take them"
    parser.add_argument("--keep", type=Path, metavar="DIR", help=text)
    options.add_out_option(parser)
    options.add_picture_option(parser)


def add_effort(parser: ArgumentParser, threads: int, rounds: int) -> None:
    """Add ``--threads`` and ``--rounds``, with these defaults."""
    for option, default in (("--threads", threads), ("--rounds", rounds)):
        text = "default %(default)s"
        parser.add_argument(option, type=options.positive, default=default, metavar="N", help=text)


def check_peers(peers: Sequence[str]) -> None:
    """Raise a UserError if packages are to be compared with that are not installed."""
    if peers and not PYTHON_PEERS.is_dir():
        raise UserError(
            "the packages to compare with are not installed; run make peers, or leave them out "
            "(--peers without a name)"
        )


@contextmanager
def answers_folder(keep: Path | None) -> Iterator[Path]:
    """Yield the folder of ``--keep``, which is made, or else one that is gone afterwards."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        yield folder


def times_file(folder: Path, name: str, turn: int) -> Path:
    """Return where a run's times go."""
    return folder / f"{file_stem(name)}.times.{turn}.json"


def run_all(
    arguments: Namespace,
    names: Sequence[str],
    folder: Path,
    command: Callable[[Namespace, str, Path, int], Sequence[str]],
) -> list[list[dict[str, Any]]]:
    """Let the contestants look in turn.

    ``command`` gives (arguments, name, folder, round) → the words that measure one and write its
    ``times_file``.

    Returns:
        For each contestant, and each round, what stands in its ``times_file``.
    """

    def run(name: str, turn: int) -> Sequence[str]:
        return command(arguments, name, folder, turn)

    take_turns(names, arguments.rounds, run, arguments.threads)
    rounds = range(arguments.rounds)
    files = [[times_file(folder, name, turn) for turn in rounds] for name in names]
    return [[json.loads(file.read_text("utf-8")) for file in own] for own in files]


def order(contestants: int, rounds: int) -> Iterator[tuple[int, int]]:
    """Yield (round, contestant), from 0, so that the order of the contestants turns by one."""
    for turn in range(rounds):
        for place in range(contestants):
            yield turn, (turn + place) % contestants


def take_turns(
    names: Sequence[str], rounds: int, run: Callable[[str, int], Sequence[str]], threads: int
) -> None:
    """Run every contestant once per round, in ``order``.

    ``run`` gives (name, round) → the command, which leaves its files where the caller finds them;
    libraries take ``threads`` from the environment.

    Raises:
        UserError: a contestant failed; the message has its last line.
    """
    environment = environment_of(threads)
    for turn, index in tqdm(list(order(len(names), rounds)), unit=" runs", disable=None):
        words = run(names[index], turn)
        done = subprocess.run(words, env=environment, capture_output=True, text=True)
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise UserError(f"{names[index]}: its measurement failed: {last}")


def environment_of(threads: int) -> dict[str, str]:
    """Return the environment of every contestant."""
    paths = [str(PYTHON_PEERS), str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {
        **os.environ,
        "NODE_PATH": str(NODE_PEERS),
        "OMP_NUM_THREADS": str(threads),
        "PYTHONPATH": os.pathsep.join(paths),
    }


def conditions(arguments: Namespace) -> report.Row:
    """Return what every row says of how it was measured; ask before anything is."""
    return {
        "rounds": arguments.rounds,
        "load_before": os.getloadavg()[0],
        "threads": arguments.threads,
    }


def title(text: str, row: report.Row) -> str:
    """Return the title of a panel: ``text``, and what the times in it hold for."""
    return f"{text}, threads: {row['threads']}, {row['processor_class']}"


def spreads(times: Sequence[Mapping[str, float]]) -> dict[str, Spread]:
    """Gather the rounds' times, each a mapping of the same keys to milliseconds, by key."""
    return {key: Spread.of([one[key] for one in times]) for key in times[0]}
