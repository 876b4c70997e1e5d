"""Both stages, ours and the packages', in one table: ``python -m benchmarks.joint --help``.

Every detector's faces are cut once (``eval.crops``), every package looks at the crops in a process
of its own, and ``eval.joint`` measures all pairs of detectors and classifiers. The first detector
with the first classifier is what the others are compared with.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.peers.classifiers import CLASSIFIERS
from benchmarks.rounds import contest
from eval import joint
from eval.crops import RESULTS, cut_all
from eval.data import options
from eval.data.detections import add_results_options, load_sources
from eval.data.images import AnnotatedImages
from eval.data.pairs import MIN_SCORE
from eval.records import report
from faces import command
from faces.coco import load_coco
from faces.command import UserError
from faces.provenance import command_line
from faces.scope import add_scope_options

COMMAND = "benchmarks.joint"


def answer_all(crops: Path, folders: Sequence[str], peers: Sequence[str], said: Path) -> list[str]:
    """Let packages look at crops.

    Args:
        crops: the folder of ``eval.crops``.
        folders: names of the folders in it.
        peers: names of packages.
        said: gets a folder per package, with a csv per folder of crops.

    Returns:
        The values of ``eval.joint``'s ``--scores``.

    Raises:
        UserError: a package failed.
    """
    for peer in peers:
        (said / peer).mkdir(parents=True)

    def run(job: str, turn: int) -> list[str]:
        peer, folder = job.split("/", 1)
        words = ["--crops", str(crops / folder), "--scores", str(said / peer / f"{folder}.csv")]
        return contest.python_command("benchmarks.rounds.run_classifier", peer, *words)

    jobs = [f"{peer}/{folder}" for peer in peers for folder in folders]
    contest.take_turns(jobs, 1, run, threads=1)
    return [f"{peer}={said / peer}" for peer in peers]


def parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    result = options.make_parser(COMMAND, __doc__)
    options.add_photo_options(result)
    for stage in ("detector", "classifier"):
        result.add_argument(f"--{stage}", nargs="+", required=True, metavar="NAME|RUN")
    add_results_options(result)
    add_scope_options(result)
    result.add_argument("--peers", nargs="*", choices=CLASSIFIERS, default=["fer"])
    result.add_argument("--gallery", type=Path, metavar="FILE.html", help="as eval.joint has it")
    options.add_common_options(result)
    return result


def evaluate(arguments: argparse.Namespace, made_by: str) -> int:
    """Do what the command line ``made_by`` asks; returns the exit status."""
    report.check_out(arguments.out)
    if arguments.peers and not contest.PYTHON_PEERS.is_dir():
        raise UserError(
            "the packages to compare with are not installed; run make peers, or leave them out "
            "(--peers without a name)"
        )
    truth = load_coco(arguments.coco)
    images = AnnotatedImages(truth, arguments.images)
    finders = load_sources(arguments, truth, MIN_SCORE)
    with tempfile.TemporaryDirectory() as folder:
        crops = Path(folder) / "crops"
        names = cut_all(images, finders, crops)
        images.close(COMMAND)
        scores = answer_all(crops, list(names), arguments.peers, Path(folder) / "said")
        words = ["--coco", str(arguments.coco), "--images", str(arguments.images)]
        words += ["--results", *(f"{f.name}={crops / f.name / RESULTS}" for f in finders)]
        words += ["--results-threshold", *(f"{f.name}={f.threshold}" for f in finders)]
        words += ["--classifier", *arguments.classifier]
        words += ["--scores", *scores] if scores else []
        for option in ("out", "gallery", "device"):
            value = getattr(arguments, option)
            words += [f"--{option}", str(value)] if value else []
        return joint.evaluate(joint.parser().parse_args(words), made_by)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    arguments = parser().parse_args(argv)
    made_by = command_line(COMMAND, argv)
    return command.run(COMMAND, lambda: evaluate(arguments, made_by))


if __name__ == "__main__":
    sys.exit(main())
