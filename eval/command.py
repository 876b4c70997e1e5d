"""What the three evaluation commands share: models by name, errors as one line, exit statuses."""

from __future__ import annotations

import io
import os
import sys
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from faces.pipeline import Detector, EmotionClassifier

T = TypeVar("T", Detector, EmotionClassifier)


class EvaluationError(ValueError):
    """An evaluation cannot be done as asked; the message names file, cause and way out."""


def run(command: str, action: Callable[[], int]) -> int:
    """Call ``action``; turn a mistake of the user's into one line on standard error.

    Returns:
        What ``action`` returns; 2 for bad input, 130 after Ctrl-C.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # tables hold → and –, which not every console has
    try:
        return action()
    except EvaluationError as error:
        cause = str(error)
    except OSError as error:
        cause = f"{error.filename}: {error.strerror}" if error.filename else str(error)
    except KeyboardInterrupt:
        print(f"{command}: stopped; what was finished before is kept", file=sys.stderr)
        return 130
    print(f"{command}: {' '.join(cause.split())}", file=sys.stderr)
    return 2


def add_common_options(parser: ArgumentParser) -> None:
    """Add the options that every evaluation command takes: ``--device`` and ``--out``."""
    parser.add_argument("--device", help="cpu, cuda, cuda:1, … (default: the best there is)")
    parser.add_argument(
        "--out", type=Path, metavar="FILE.json", help="also write the figures there"
    )


def add_photo_options(parser: ArgumentParser) -> None:
    """Add the options for labelled photos: ``--coco`` and ``--images``."""
    parser.add_argument(
        "--coco", type=Path, required=True, metavar="FILE.json", help="ground truth"
    )
    parser.add_argument(
        "--images", type=Path, required=True, metavar="DIR|ZIP", help="where its pictures lie"
    )


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Yield a folder to fill, which becomes ``path`` at the end; after an error nothing is left.

    Raises:
        EvaluationError: there is something at ``path`` already.
    """
    if path.exists():
        raise EvaluationError(f"{path}: exists already; name a new folder as --out")
    path.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as name:
        part = Path(name, path.name)
        part.mkdir()
        yield part
        os.replace(part, path)


def note(command: str, text: str) -> None:
    """Tell the user something on standard error, as one line."""
    print(f"{command}: {' '.join(text.split())}", file=sys.stderr)


def load_detectors(names: Sequence[str], device: str | None) -> list[Detector]:
    """Load stage-1 models by shipped name or run folder.

    Raises:
        EvaluationError: one of them cannot be loaded.
    """
    from twostage.models import load_detector

    return _load(names, lambda name: load_detector(name, device=device))


def load_classifiers(names: Sequence[str], device: str | None) -> list[EmotionClassifier]:
    """Load stage-2 models by shipped name or run folder.

    Raises:
        EvaluationError: one of them cannot be loaded.
    """
    from twostage.models import load_classifier

    return _load(names, lambda name: load_classifier(name, device=device))


def classifier_facts(name: str) -> dict[str, Any]:
    """Return what a record says of a classifier beside its figures: its file, its training.

    Raises:
        EvaluationError: there is no such classifier.
    """
    from twostage import models

    try:
        return models.classifier_facts(name)
    except models.ModelError as error:
        raise EvaluationError(str(error)) from error


def _load(names: Sequence[str], load: Callable[[str], T]) -> list[T]:
    models: list[T] = []
    for name in names:
        try:
            model = load(name)
        except (ValueError, ImportError) as error:
            raise EvaluationError(str(error)) from error
        if any(model.name == other.name for other in models):
            model.name = name  # two runs may have folders of one name; reports must tell them apart
        models.append(model)
    return models


def top_emotions(classifier: EmotionClassifier, scores: NDArray[np.float32]) -> NDArray[np.int64]:
    """Return the index of the most likely emotion of each face, shape (N,).

    Raises:
        EvaluationError: a probability is not finite; nan would pass for the most likely one.
    """
    if not np.isfinite(scores).all():
        raise EvaluationError(
            f"{classifier.name}: gives probabilities that are not finite; its weights are damaged, "
            "or its training diverged"
        )
    return np.asarray(scores.argmax(axis=1), np.int64)


def positive_pixels(text: str) -> float:
    """Parse a size in pixels, for argparse."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise ArgumentTypeError(f"expected a size in pixels, 0 or more, got {text!r}")
    return value


def fraction(text: str) -> float:
    """Parse a number above 0 and below 1, for argparse."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value < 1:
        raise ArgumentTypeError(f"expected a number above 0 and below 1, got {text!r}")
    return value


def existing(path: Path, option: str) -> Path:
    """Return ``path`` if it exists.

    Raises:
        EvaluationError: it does not.
    """
    if not path.exists():
        raise EvaluationError(f"{path}: no such file or folder; check {option}")
    return path
