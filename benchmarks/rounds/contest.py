"""Runs the contestants in turn, each in a process of its own, and gathers their times."""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from eval.records import report
from faces.command import UserError

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


def python_command(module: str, *words: str) -> list[str]:
    """Return the command that runs a module of ours, with the packages in reach."""
    return [sys.executable, "-W", "ignore", "-m", module, *words]


def node_command(*words: str) -> list[str]:
    """Return the command that measures a Node package.

    Raises:
        UserError: Node is missing.
    """
    node = shutil.which("node")
    if node is None or not NODE_PEERS.is_dir():
        raise UserError(
            "Node.js or its packages are missing; install Node.js and run make peers, or leave "
            "human and face-api out (--peers)"
        )
    return [node, str(ROOT / "benchmarks" / "peers" / "classify.js"), *words]


def file_stem(name: str) -> str:
    """Return how the files of a contestant begin; a run folder's path becomes one word."""
    return name.replace(os.sep, "_").lstrip("._")


def add_options(parser: ArgumentParser) -> None:
    """Add the options that both benchmarks take."""
    parser.add_argument("--threads", type=int, default=1, help="of each (default %(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="default %(default)s")
    parser.add_argument(
        "--keep",
        type=Path,
        metavar="DIR",
        help="leave all answers there, as eval.* --scores and --results take them",
    )
    parser.add_argument("--out", type=Path, metavar="FILE.json", help="write the figures there")
    parser.add_argument("--picture", type=Path, metavar="FILE.png", help="quality beside speed")


def check_options(arguments: Namespace) -> None:
    """Refuse what cannot be measured before anything is, and make the folder of ``--keep``.

    Raises:
        UserError: an option is out of range, a file cannot be written, or the packages are
            not installed.
    """
    for path in (arguments.out, arguments.picture):
        report.check_out(path)
    if min(arguments.rounds, arguments.threads) < 1:
        raise UserError("--rounds and --threads must be 1 or more")
    if arguments.keep is not None:
        arguments.keep.mkdir(parents=True, exist_ok=True)
    if arguments.peers and not PYTHON_PEERS.is_dir():
        raise UserError(
            "the packages to compare with are not installed; run make peers, or leave them out "
            "(--peers without a name)"
        )


def take_turns(
    names: Sequence[str], rounds: int, run: Callable[[str, int], Sequence[str]], threads: int
) -> None:
    """Run every contestant once per round, in an order that each round turns by one.

    Args:
        names: the contestants.
        rounds: how often.
        run: (name, round) → the command, which leaves its files where the caller finds them.
        threads: for the libraries that take them from the environment.

    Raises:
        UserError: a contestant failed; the message has its last line.
    """
    environment = environment_of(threads)
    turns = [
        (turn, names[(turn + place) % len(names)])
        for turn in range(rounds)
        for place in range(len(names))
    ]
    for turn, name in tqdm(turns, unit=" runs", disable=None):
        done = subprocess.run(run(name, turn), env=environment, capture_output=True, text=True)
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise UserError(f"{name}: its measurement failed: {last}")


def environment_of(threads: int) -> dict[str, str]:
    """Return the environment of every contestant."""
    paths = [str(PYTHON_PEERS), str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {
        **os.environ,
        "NODE_PATH": str(NODE_PEERS),
        "OMP_NUM_THREADS": str(threads),
        "PYTHONPATH": os.pathsep.join(paths),
    }


def conditions(arguments: Namespace, made_by: str) -> report.Row:
    """Return what every row says of how it was measured; ask before anything is."""
    return {
        "rounds": arguments.rounds,
        "load_before": os.getloadavg()[0],
        **report.provenance(made_by, "cpu"),
        "threads": arguments.threads,
    }


def title(text: str, row: report.Row) -> str:
    """Return the title of a panel: ``text``, and what the times in it hold for."""
    return f"{text}, threads: {row['threads']}, {row['processor_class']}"


def spreads(times: Sequence[Mapping[str, float]]) -> dict[str, Spread]:
    """Gather the rounds' times, each a mapping of the same keys to milliseconds, by key."""
    return {key: Spread.of([one[key] for one in times]) for key in times[0]}
