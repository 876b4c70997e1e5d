"""``twostage analyze PATH…``: find the faces in photos and say which emotions they show."""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tabulate import tabulate
from tqdm import tqdm

from faces.command import UserError
from faces.draw import draw_faces, is_annotated, write_annotated
from faces.emotions import EMOTIONS, canonical_emotion
from faces.images import read_images
from faces.paths import PICTURE_SUFFIXES, ImageError
from faces.pipeline import Pipeline
from faces.sinks import SinkError, open_sink
from faces.types import DEFAULT_THRESHOLD, ImageResult
from twostage.model_zoo import ModelError, load_classifier, load_detector, shipped_models

Threshold = float | dict[str, float]


class UsageError(UserError):
    """The command line asks for something impossible."""


def parse_threshold(words: Sequence[str]) -> Threshold:
    """Turn ``["0.4"]`` or ``["happy=0.5", "fear=0.2"]`` into what ``labels`` takes.

    Raises:
        UsageError: a word is neither a probability in 0..1 nor emotion=probability.
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
            raise UsageError(
                f"--threshold {word}: {error}; give one number (--threshold 0.4) or "
                "emotion=number (--threshold happy=0.5 fear=0.2), after the photos"
            ) from error
    return limits or DEFAULT_THRESHOLD


def describe(result: ImageResult, threshold: float | Mapping[str, float]) -> str:
    """Return a picture's line and its table of faces, as the terminal shows them."""
    lines = [
        f"{result.source}: {result.width}×{result.height} pixels, "
        f"{_count(len(result.faces), 'face')}, {result.seconds:.2f} s"
    ]
    if result.faces:
        rows = []
        for number, face in enumerate(result.faces, start=1):
            shares = face.emotions.as_dict()
            labels = face.emotions.labels(threshold)
            shown = labels or [face.emotions.top]
            text = ", ".join(f"{label} {shares[label]:.0%}" for label in shown)
            box = face.detection.box
            rows.append(
                (
                    number,
                    f"{box.x1:.0f},{box.y1:.0f} – {box.x2:.0f},{box.y2:.0f}",
                    f"{face.detection.score:.2f}",
                    f"unsure ({text})" if face.emotions.unsure(threshold) else text,
                )
            )
        heads = ("face", "box (pixels)", "score", "emotions")
        lines.append(tabulate(rows, headers=heads, disable_numparse=True))
    return "\n".join(lines)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


class AnnotatedFolder:
    """Writes annotated pictures into one folder, each under a name of its own.

    Args:
        folder: made if missing.
        inputs: what the user named as photos.

    Raises:
        UsageError: the folder cannot be made or written to, is the photos' own, or holds pictures
            that no such folder wrote.
    """

    def __init__(self, folder: Path, inputs: Sequence[str]) -> None:
        for path in map(Path, inputs):
            if folder.resolve() in (path.resolve(), path.resolve().parent):
                raise UsageError(
                    f"--annotated {folder}: is the photos' own folder, where they could be "
                    "overwritten; name another"
                )
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(f"--annotated {folder}: cannot be made: {error.strerror}") from error
        if not os.access(folder, os.W_OK):
            raise UsageError(f"--annotated {folder}: may not be written to")
        for path in folder.iterdir():
            if path.suffix.lower() in PICTURE_SUFFIXES and not is_annotated(path):
                raise UsageError(
                    f"--annotated {folder}: holds pictures that were not made here, such as "
                    f"{path.name}, and could be overwritten; name a new folder"
                )
        self.folder = folder
        self.first: Path | None = None
        self.count = 0
        self._last_number: dict[str, int] = {}

    def write(self, source: str, image: NDArray[np.uint8]) -> None:
        """Write the annotated ``source``: ``photo.jpg`` → ``photo.png``, the next ``photo-2.png``.

        Raises:
            ImageError: writing failed; nothing is left half written.
        """
        path = self.folder / f"{self._name(Path(source).stem)}.png"
        part = path.with_name(f"{path.name}.part")
        try:
            write_annotated(image, part)
            os.replace(part, path)
        except OSError as error:
            part.unlink(missing_ok=True)
            cause = f"cannot be written: {error.strerror or error}"
            raise ImageError(str(path), cause) from error
        self.first = self.first or path
        self.count += 1

    def _name(self, stem: str) -> str:
        number = self._last_number.get(stem.casefold(), 0) + 1
        while number > 1 and f"{stem}-{number}".casefold() in self._last_number:
            number += 1
        self._last_number[stem.casefold()] = number
        name = stem if number == 1 else f"{stem}-{number}"
        self._last_number.setdefault(name.casefold(), 1)
        return name


def analyze(args: argparse.Namespace) -> int:
    """Run ``twostage analyze``; returns 0, or 1 if a picture failed."""
    threshold = parse_threshold(args.threshold)
    annotated = AnnotatedFolder(args.annotated, args.paths) if args.annotated else None
    failed = analysed = found = 0
    with ExitStack() as stack:
        sink = stack.enter_context(open_sink(args.out, threshold)) if args.out else None
        detector = load_detector(args.detector, args.device)
        classifier = load_classifier(args.classifier, args.device)
        pipeline = Pipeline(detector, classifier)
        bar = stack.enter_context(
            tqdm(unit=" pictures", desc="analysing", disable=None, leave=False)
        )

        def report(error: ImageError) -> None:
            nonlocal failed
            failed += 1
            bar.write(f"twostage: {error}", file=sys.stderr)

        for source, image in read_images(args.paths, report, exclude=args.annotated):
            result = pipeline.analyze(image, source)
            if sink:
                sink.write(result)
            if annotated:
                try:
                    annotated.write(source, draw_faces(image, result, threshold))
                except ImageError as error:
                    report(error)
            bar.write(describe(result, threshold) + "\n", file=sys.stdout)
            analysed += 1
            found += len(result.faces)
            bar.update()
    if args.out:
        print(f"wrote {args.out}")
    if annotated and annotated.count:
        others = annotated.count - 1
        more = f" and {_count(others, 'more picture')} beside it" if others else ""
        print(f"wrote {annotated.first}{more}")
    pictures, faces = _count(analysed, "picture"), _count(found, "face")
    print(f"{pictures} analysed, {faces} found, {failed} failed")
    return 1 if failed else 0


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
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    command = commands.add_parser(
        "analyze",
        help="analyse photos",
        description="Find the faces in photos and say which emotions they show.",
        epilog=f"The emotions are {', '.join(EMOTIONS)}.",
    )
    command.add_argument("paths", nargs="+", metavar="PATH", help="files, folders, patterns")
    command.add_argument(
        "--out", type=Path, metavar="FILE",
        help="write results; by extension: .jsonl, .json, .csv (a row per face), .coco.json",
    )  # fmt: skip
    command.add_argument("--annotated", type=Path, metavar="DIR", help="write pictures with boxes")
    command.add_argument(
        "--detector", default="default", metavar="NAME|RUN",
        help="a shipped detector, or the folder of a training run",
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
    command.set_defaults(run=analyze)
    command = commands.add_parser("models", help="list the shipped models")
    command.set_defaults(run=list_models)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status: 0, 1 (a picture failed), 2 (misuse), 130."""
    args = build_parser().parse_args(argv)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # file names need not be valid text
    try:
        status: int = args.run(args)
    except (UsageError, ModelError, SinkError) as error:
        print(f"twostage: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\ntwostage: stopped; what was finished is written", file=sys.stderr)
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    return status


if __name__ == "__main__":
    sys.exit(main())
