"""``twostage analyze PATH…``: find the faces in photos and say which emotions they show."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, TextIO

from tabulate import tabulate

from faces.annotated_folder import AnnotatedFolder
from faces.command import UserError, note, printable, run
from faces.emotions import EMOTIONS, canonical_emotion
from faces.paths import ImageError
from faces.pipeline import WholeImage
from faces.scope import MIN_FACE, add_scope_options
from faces.types import DEFAULT_THRESHOLD, ImageResult
from twostage import __version__, load_pipeline
from twostage.batch.measure import SMALL_RUN, add_workers_command, choose_workers
from twostage.batch.merge import add_merge_command
from twostage.batch.outputs import STANDARD, check_resumable, open_output, run_header
from twostage.batch.progress import Progress
from twostage.batch.resume import ResumableOutput, is_resumable
from twostage.batch.sources import MAX_BYTES, Source, in_shard, iter_sources, parse_shard, read_list
from twostage.batch.summary import add_summary_command
from twostage.batch.tasks import (
    Loader,
    Outcome,
    Task,
    analyze_here,
    analyze_in_workers,
    make_tasks,
)
from twostage.model_zoo import fingerprint, shipped_models
from twostage.video_command import add_video_command

STOPPED = "what was finished is written; --resume goes on with .jsonl, .csv and .parquet"

Threshold = float | Mapping[str, float]

SERVICE = {
    "serve": "answer over HTTP, see docs/service.md",
    "feedback": "export or sum up what people said of the service's answers",
}
"""Commands whose room stands above this one; ``service.commands`` is loaded when one is called."""


def parse_threshold(words: Sequence[str]) -> Threshold:
    """Turn ``["0.4"]`` or ``["happy=0.5", "fear=0.2"]`` into what ``labels`` takes.

    Raises:
        UserError: a word is neither a probability in 0..1 nor emotion=probability.
    """
    limits: dict[str, float] = {}
    for word in words:
        emotion, equals, number = word.rpartition("=")
        try:
            value = float(number)
            if not 0.0 <= value <= 1.0:
                raise ValueError(f"{number} is not within 0..1")
            if not equals:
                if len(words) > 1:
                    raise ValueError("one number for all emotions stands alone")
                return value
            if canonical_emotion(emotion) in limits:
                raise ValueError(f"{emotion} is named twice")
            limits[canonical_emotion(emotion)] = value
        except ValueError as error:
            raise UserError(
                f"--threshold {word}: {error}; give one number (--threshold 0.4) or "
                "emotion=number (--threshold happy=0.5 fear=0.2), after the photos"
            ) from error
    return limits or DEFAULT_THRESHOLD


def describe(result: ImageResult, threshold: Threshold) -> str:
    """Return an image's line and its table of faces, as the terminal shows them."""
    lines = [
        f"{printable(result.source)}: {result.width}×{result.height} pixels, "
        f"{_count(len(result.faces), 'face')}, {result.seconds:.2f} s"
    ]
    if result.turned:
        lines[0] += f", turned by {result.turned}°"
    if (result.smallest_face or 0) > 2 * MIN_FACE:
        lines[0] += f"; faces under {result.smallest_face:.0f} pixels cannot be seen"
    if result.faces:
        rows = []
        for number, face in sorted(
            zip(result.numbers, result.faces, strict=True), key=lambda numbered: numbered[0]
        ):
            shown = face.labels(threshold) or [face.emotions.top]
            text = ", ".join(f"{label} {face.emotions[label]:.0%}" for label in shown)
            corners = f"{face.box.x1:.0f},{face.box.y1:.0f} – {face.box.x2:.0f},{face.box.y2:.0f}"
            words = f"unsure ({text})" if face.unsure(threshold) else text
            rows.append((number, corners, f"{face.score:.2f}", words))
        heads = ("face", "box (pixels)", "score", "emotions")
        lines.append(tabulate(rows, headers=heads, disable_numparse=True))
    return "\n".join(lines)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def analyze(args: argparse.Namespace) -> int:
    """Run ``twostage analyze``; returns 0, or 1 if an image failed in this run."""
    # what cannot be asked for is refused before anything is loaded
    threshold = parse_threshold(args.threshold)
    shard = parse_shard(args.shard) if args.shard else None
    check_resumable(args.out, resume=args.resume, retry_failed=args.retry_failed)
    paths = [*args.paths, *(read_list(args.list) if args.list else ())]
    if not paths:
        raise UserError("name a photo, a folder or a pattern, or a --list of them")
    if STANDARD in paths:
        check_standard_input(paths)

    def wanted(name: str) -> bool:
        return shard is None or in_shard(name, *shard)

    # the images: all of them, or those of them that are still to be done
    def sources(is_wanted: Callable[[str], bool]) -> Iterator[Source | ImageError]:
        return iter_sources(paths, args.annotated, is_wanted)

    if args.engine == "ray":
        check_for_ray(args, paths)
        return analyze_on_cluster(args, threshold, lambda: sources(wanted))
    annotated = AnnotatedFolder(args.annotated, paths) if args.annotated else None
    shown = sys.stderr if args.out == STANDARD else sys.stdout
    with ExitStack() as stack:
        header = header_of(args, threshold) if args.out and is_resumable(args.out) else {}
        output = open_output(
            args.out, threshold, header, stack, resume=args.resume, retry_failed=args.retry_failed
        )
        before = output.before if isinstance(output, ResumableOutput) else None
        if isinstance(output, ResumableOutput) and output.note:
            note("twostage", output.note)
        rest = sources(lambda name: wanted(name) and not output.is_done(name))
        progress = stack.enter_context(
            Progress(args.log, len(before.done) if before else 0, lambda: count(sources(wanted)))
        )
        progress.log("start", **header)
        tasks = make_tasks(
            standard_input() if STANDARD in paths else rest, threshold if annotated else None
        )
        for outcome in outcomes_of(args, tasks):
            output.write(outcome.entries)
            show(outcome, threshold, progress, shown, quiet=args.quiet)
            for name, drawn in outcome.drawn:
                try:
                    annotated.write(name, drawn) if annotated else None
                except ImageError as error:
                    progress.fail(error)

    tell(args, progress, annotated, len(before.done) if before else 0, shown)
    failed_before = len(before.failed) if before and not args.retry_failed else 0
    if failed_before:
        again = "--resume --retry-failed tries again"
        note("twostage", f"{_count(failed_before, 'image')} failed in earlier runs; {again}")
    return 1 if progress.failed else 0


def check_for_ray(args: argparse.Namespace, paths: Sequence[str]) -> None:
    """Check that a command line asks for what a cluster can do.

    Raises:
        UserError: it does not.
    """
    if args.out is None or args.out == STANDARD:
        raise UserError("--engine ray writes a folder of Parquet files; name it with --out")
    if args.annotated or STANDARD in paths:
        raise UserError("--engine ray takes neither --annotated nor an image on standard input")


def analyze_on_cluster(
    args: argparse.Namespace,
    threshold: Threshold,
    sources: Callable[[], Iterator[Source | ImageError]],
) -> int:
    """Run ``twostage analyze --engine ray``; returns 0, or 1 if an image failed."""
    from twostage.batch.ray_engine import Cluster, analyze_on_ray
    from twostage.batch.ray_output import RayOutput

    header = header_of(args, threshold)
    output = RayOutput(args.out, header, resume=args.resume, retry_failed=args.retry_failed)
    cluster = Cluster(args.ray_address, args.workers, args.gpus_per_worker)
    with output, Progress(args.log, output.done, lambda: count(sources())) as progress:
        if output.note:
            note("twostage", output.note)
        progress.log("start", **header)
        analyze_on_ray(
            loader_of(args), sources(), output, cluster, threshold, progress,
            ordered=not args.unordered,
        )  # fmt: skip
        output.finish()
    tell(args, progress, None, output.done, sys.stdout)
    return 1 if progress.failed else 0


def header_of(args: argparse.Namespace, threshold: Threshold) -> dict[str, Any]:
    """Return what the results of a command line are made with, see ``run_header``."""
    detector = {} if args.no_detector else fingerprint("detector", args.detector)
    looks = {"detail": args.detail, "min_face": args.min_face, "rotations": args.rotations}
    return run_header(
        detector,
        fingerprint("classifier", args.classifier),
        threshold,
        looks,
        engine=args.engine,
        version=__version__,
        device=args.device,
        shard=args.shard,
    )


def loader_of(args: argparse.Namespace) -> Loader:
    """Return what loads both stages as a command line asks, here or in another process."""
    return partial(
        load_pipeline,
        WholeImage() if args.no_detector else args.detector,
        args.classifier,
        device=args.device,
        detail=args.detail,
        min_face=args.min_face,
        rotations=args.rotations,
    )


def outcomes_of(args: argparse.Namespace, tasks: Iterator[Task]) -> Iterator[Outcome]:
    """Analyse tasks in this process, or in as many as the command line asks for."""
    loader = loader_of(args)
    workers = args.workers
    if workers is None:
        workers, tasks = choose_workers(loader, tasks)
    if workers == 1:
        return analyze_here(loader(), tasks)
    return analyze_in_workers(loader, tasks, workers, ordered=not args.unordered)


def show(
    outcome: Outcome, threshold: Threshold, progress: Progress, shown: TextIO, *, quiet: bool
) -> None:
    """Print and count what came of a task."""
    for entry in outcome.entries:
        if isinstance(entry, ImageError):
            progress.fail(entry)
            continue
        if not quiet:
            progress.write(describe(entry, threshold) + "\n", shown)
        progress.succeed(entry)


def tell(
    args: argparse.Namespace,
    progress: Progress,
    annotated: AnnotatedFolder | None,
    before: int,
    shown: TextIO,
) -> None:
    """Print what a run has done."""
    if args.out and args.out != STANDARD:
        print(f"wrote {printable(args.out)}", file=shown)
    if annotated and annotated.count:
        others = annotated.count - 1
        more = f" and {_count(others, 'more image')} beside it" if others else ""
        print(f"wrote {printable(str(annotated.first))}{more}", file=shown)
    if before:
        print(f"{_count(before, 'image')} done by earlier runs", file=shown)
    if progress.analysed + progress.failed >= SMALL_RUN:
        speed = f"{progress.images_per_second:.1f} images per second"
        print(f"{timedelta(seconds=round(progress.seconds))}, {speed}", file=shown)
    images, faces = _count(progress.analysed, "image"), _count(progress.faces, "face")
    print(f"{images} analysed, {faces} found, {progress.failed} failed", file=shown)


def count(items: Iterator[object]) -> int:
    """Return how many items an iterator yields."""
    return sum(1 for _ in items)


def check_standard_input(paths: Sequence[str]) -> None:
    """Check that an image can be read from standard input.

    Raises:
        UserError: other photos are named too, or nothing comes in.
    """
    if len(paths) > 1:
        raise UserError(f"{STANDARD} (standard input) stands alone, without other photos")
    if sys.stdin is None or sys.stdin.isatty():
        raise UserError(f"{STANDARD}: give an image on standard input: … < photo.jpg")


def standard_input() -> Iterator[Source | ImageError]:
    """Yield the image on standard input."""
    data = sys.stdin.buffer.read(MAX_BYTES + 1)
    yield Source("stdin", STANDARD, size=len(data), data=data)


def list_models(args: argparse.Namespace) -> int:
    """Run ``twostage models``."""
    for stage in ("detector", "classifier"):
        rows = [
            (name, "yes" if index == 0 else "", model.about)
            for index, (name, model) in enumerate(shipped_models(stage).items())
        ]
        print(tabulate(rows, headers=(stage, "default", "about")), end="\n\n")
    return 0


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command."""
    parser = argparse.ArgumentParser(
        prog="twostage",
        description="Find every face in a photo and say which emotions it shows.",
    )
    parser.add_argument("--version", action="version", version=f"twostage {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    command = commands.add_parser(
        "analyze",
        help="analyse photos",
        description="Find the faces in photos and say which emotions they show.",
        epilog=f"The emotions are {', '.join(EMOTIONS)}.",
    )
    add_analyze_arguments(command)
    add_large_run_arguments(command.add_argument_group("large runs (docs/scale.md)"))
    command.set_defaults(run=analyze)
    add_video_command(commands)
    add_summary_command(commands)
    add_merge_command(commands)
    add_workers_command(commands)
    command = commands.add_parser("models", help="list the shipped models")
    command.set_defaults(run=list_models)
    for name, about in SERVICE.items():
        commands.add_parser(name, help=about, add_help=False)
    return parser


def add_analyze_arguments(command: argparse.ArgumentParser) -> None:
    """Add what to analyse, with which models, and where to write."""
    command.add_argument(
        "paths", nargs="*", metavar="PATH",
        help="files, folders, patterns, .tar and .zip archives, addresses (s3://…); or - for one "
        "image on standard input",
    )  # fmt: skip
    command.add_argument(
        "--out", metavar="FILE",
        help="write results; by extension: .jsonl, .json, .csv (a row per face), .parquet (a "
        "folder), .coco.json; or - for JSON lines on standard output",
    )  # fmt: skip
    command.add_argument("--annotated", type=Path, metavar="DIR", help="write images with boxes")
    stage_1 = command.add_mutually_exclusive_group()
    stage_1.add_argument(
        "--detector", default="default", metavar="NAME|RUN",
        help="a shipped detector, or the folder of a training run",
    )  # fmt: skip
    stage_1.add_argument(
        "--no-detector", action="store_true",
        help="take each photo as one face, as in sets of faces that are cut out already",
    )  # fmt: skip
    command.add_argument(
        "--classifier", default="default", metavar="NAME|RUN",
        help="a shipped classifier, or the folder of a training run",
    )  # fmt: skip
    command.add_argument(
        "--threshold", nargs="+", default=[], metavar="T",
        help="probability from which an emotion counts as shown: one number, or emotion=number "
        f"for some (default {DEFAULT_THRESHOLD})",
    )  # fmt: skip
    command.add_argument("--device", metavar="D", help="cpu, cuda, cuda:1 (default: a GPU if any)")
    add_scope_options(command)
    command.add_argument(
        "--rotations", action="store_true",
        help="try each photo in four turns, for photos that lie on their side (takes four times as "
        "long)",
    )  # fmt: skip
    command.add_argument("--quiet", action="store_true", help="print no table for each image")


def add_large_run_arguments(group: argparse._ArgumentGroup) -> None:
    """Add what runs over many images need."""
    group.add_argument("--list", type=Path, metavar="FILE", help="a text file with a path a line")
    group.add_argument(
        "--resume", action="store_true",
        help="go on with --out where a stopped run ended (.jsonl, .csv, .parquet)",
    )  # fmt: skip
    group.add_argument(
        "--retry-failed", action="store_true", help="with --resume: try what failed again, too"
    )
    group.add_argument(
        "--workers", type=positive, metavar="N",
        help="processes that share the cores (default: the fastest here, which is measured at the "
        "first large run, or by twostage workers; 1 for under 200 images)",
    )  # fmt: skip
    group.add_argument("--unordered", action="store_true", help="write results as they are ready")
    group.add_argument("--shard", metavar="I/N", help="only the I-th of N parts of the images")
    group.add_argument(
        "--engine", choices=("local", "ray"), default="local",
        help="where to work: on this machine, or on a Ray cluster, which writes .parquet",
    )  # fmt: skip
    group.add_argument(
        "--ray-address", metavar="ADDRESS",
        help="with --engine ray: a running Ray, or auto (default: start one on this machine)",
    )  # fmt: skip
    group.add_argument(
        "--gpus-per-worker", type=float, default=0, metavar="G",
        help="with --engine ray: GPUs for each worker, 1 or a part of one",
    )  # fmt: skip
    group.add_argument("--log", type=Path, metavar="FILE", help="add progress as JSON lines")


def positive(text: str) -> int:
    """Parse a number of processes, for argparse."""
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a number from 1 on, got {text!r}")
    return int(text)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status: 0, 1 (an image failed), 2 (misuse), 130."""
    words = sys.argv[1:] if argv is None else argv
    if words and words[0] in SERVICE:
        return int(importlib.import_module("service.commands").main(words))
    args = build_parser().parse_args(words)
    return run("twostage", lambda: args.run(args), STOPPED)


if __name__ == "__main__":
    sys.exit(main())
