"""``twostage analyze PATH…``: find the faces in photos and say which emotions they show."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from tabulate import tabulate
from tqdm import tqdm

from faces.annotated_folder import AnnotatedFolder
from faces.command import UserError, printable, run
from faces.draw import draw_faces
from faces.emotions import EMOTIONS, canonical_emotion
from faces.images import read_image, read_images
from faces.paths import ImageError
from faces.pipeline import Image, WholeImage
from faces.scope import MIN_FACE, add_scope_options
from faces.sinks import json_line, open_sink
from faces.types import DEFAULT_THRESHOLD, ImageResult
from twostage import __version__, load_pipeline
from twostage.model_zoo import shipped_models
from twostage.video_command import add_video_command

Threshold = float | Mapping[str, float]

SERVICE = {
    "serve": "answer over HTTP, see docs/service.md",
    "feedback": "export or sum up what people said of the service's answers",
}
"""Commands whose room stands above this one; ``service.commands`` is loaded when one is called."""

STANDARD = "-"
"""Stands for standard input among the photos, for standard output as ``--out``."""


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
    """Run ``twostage analyze``; returns 0, or 1 if an image failed."""
    # what cannot be asked for is refused before anything is loaded
    threshold = parse_threshold(args.threshold)
    if STANDARD in args.paths:
        check_standard_input(args.paths)
    annotated = AnnotatedFolder(args.annotated, args.paths) if args.annotated else None
    shown = sys.stderr if args.out == STANDARD else sys.stdout
    analysed = found = failed = 0
    with ExitStack() as stack:
        write = writer_of(args.out, threshold, stack)
        pipeline = load_pipeline(
            WholeImage() if args.no_detector else args.detector,
            args.classifier,
            device=args.device,
            detail=args.detail,
            min_face=args.min_face,
            rotations=args.rotations,
        )
        bar = stack.enter_context(tqdm(unit=" images", desc="analysing", disable=None, leave=False))

        def report(error: ImageError) -> None:
            nonlocal failed
            failed += 1
            bar.write(printable(f"twostage: {error}"), file=sys.stderr)

        # one image at a time, so that memory stays flat
        for source, image in images_of(args.paths, report, args.annotated):
            result = pipeline.classify(image, pipeline.locate(image), source)
            if write:
                write(result)
            if annotated:
                try:
                    annotated.write(source, draw_faces(image, result, threshold))
                except ImageError as error:
                    report(error)
            bar.write(describe(result, threshold) + "\n", file=shown)
            analysed += 1
            found += len(result.faces)
            bar.update()

    # what was done
    if args.out and args.out != STANDARD:
        print(f"wrote {printable(args.out)}", file=shown)
    if annotated and annotated.count:
        others = annotated.count - 1
        more = f" and {_count(others, 'more image')} beside it" if others else ""
        print(f"wrote {printable(str(annotated.first))}{more}", file=shown)
    images, faces = _count(analysed, "image"), _count(found, "face")
    print(f"{images} analysed, {faces} found, {failed} failed", file=shown)
    return 1 if failed else 0


def check_standard_input(paths: Sequence[str]) -> None:
    """Check that an image can be read from standard input.

    Raises:
        UserError: other photos are named too, or nothing comes in.
    """
    if len(paths) > 1:
        raise UserError(f"{STANDARD} (standard input) stands alone, without other photos")
    if sys.stdin is None or sys.stdin.isatty():
        raise UserError(f"{STANDARD}: give an image on standard input: … < photo.jpg")


def images_of(
    paths: Sequence[str], on_error: Callable[[ImageError], None], exclude: Path | None
) -> Iterator[tuple[str, Image]]:
    """Yield name and image of every photo, as ``read_images``, or of standard input."""
    if STANDARD not in paths:
        yield from read_images(paths, on_error, exclude)
        return
    try:
        image = read_image(sys.stdin.buffer, "stdin")
    except ImageError as error:
        on_error(error)
    else:
        yield "stdin", image


def writer_of(
    out: str | None, threshold: Threshold, stack: ExitStack
) -> Callable[[ImageResult], None] | None:
    """Return what writes results: to a file, to standard output as JSON lines, or nowhere.

    Args:
        out: the option ``--out``.
        threshold: probability from which an emotion is a label.
        stack: closes the file.

    Raises:
        UserError: the file cannot be written.
    """
    if out is None:
        return None
    if out != STANDARD:
        return stack.enter_context(open_sink(out, threshold)).write

    def print_line(result: ImageResult) -> None:
        sys.stdout.buffer.write(json_line(result, threshold))
        sys.stdout.buffer.flush()

    return print_line


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
    command.add_argument(
        "paths", nargs="+", metavar="PATH",
        help="files, folders, patterns; or - for one image on standard input",
    )  # fmt: skip
    command.add_argument(
        "--out", metavar="FILE",
        help="write results; by extension: .jsonl, .json, .csv (a row per face), .coco.json; or - "
        "for JSON lines on standard output",
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
    command.set_defaults(run=analyze)
    add_video_command(commands)
    command = commands.add_parser("models", help="list the shipped models")
    command.set_defaults(run=list_models)
    for name, about in SERVICE.items():
        commands.add_parser(name, help=about, add_help=False)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status: 0, 1 (an image failed), 2 (misuse), 130."""
    words = sys.argv[1:] if argv is None else argv
    if words and words[0] in SERVICE:
        return int(importlib.import_module("service.commands").main(words))
    args = build_parser().parse_args(words)
    return run("twostage", lambda: args.run(args), "what was finished is written")


if __name__ == "__main__":
    sys.exit(main())
