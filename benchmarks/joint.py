"""Both stages, ours and the packages', in one table: ``python -m benchmarks.joint --help``.

Every detector's faces are cut once (``eval.crops``), every package looks at the crops in a process
of its own, and ``eval.joint`` measures all pairs of detectors and classifiers. The first detector
with the first classifier is what the others are compared with.
"""

from __future__ import annotations

import tempfile
from argparse import ArgumentParser, Namespace
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
from faces.coco import load_coco
from faces.scope import add_scope_options

COMMAND = "benchmarks.joint"


def answer_all(crops: Path, folders: Sequence[str], peers: Sequence[str], said: Path) -> list[str]:
    """Let packages look at crops.

    Each package gets a folder in ``said``, with a csv per folder of the crops.

    Returns:
        The values of ``eval.joint``'s ``--scores``.
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


def _add_options(parser: ArgumentParser) -> None:
    options.add_photo_options(parser)
    options.add_models(parser, "detector", required=True)
    options.add_models(parser, "classifier", required=True)
    add_results_options(parser)
    add_scope_options(parser)
    parser.add_argument("--peers", nargs="*", choices=CLASSIFIERS, default=["fer"])
    parser.add_argument("--gallery", type=Path, metavar="FILE.html", help="as eval.joint has it")
    options.add_common_options(parser)


def _evaluate(arguments: Namespace) -> int:
    contest.check_peers(arguments.peers)
    truth = load_coco(arguments.coco)
    images = AnnotatedImages(truth, arguments.images)
    finders = load_sources(arguments, truth, MIN_SCORE)
    with tempfile.TemporaryDirectory() as folder:
        crops = Path(folder) / "crops"
        names = cut_all(images, finders, crops)
        images.close(COMMAND)
        asked = vars(arguments) | {
            "detector": [],
            "results": [f"{f.name}={crops / f.name / RESULTS}" for f in finders],
            "results_threshold": [f"{f.name}={f.threshold}" for f in finders],
            "scores": answer_all(crops, list(names), arguments.peers, Path(folder) / "said"),
            "ignore_class": [],
        }
        return joint.evaluate(Namespace(**asked))


main = options.Command(COMMAND, __doc__, _add_options, _evaluate)

if __name__ == "__main__":
    raise SystemExit(main())
