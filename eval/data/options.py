"""Options, models and ground truth that the evaluation commands share."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from eval.data.images import note_dropped
from faces.coco import GroundTruth
from faces.command import UserError, run
from faces.pipeline import Detector, EmotionClassifier
from faces.provenance import command_line

T = TypeVar("T", Detector, EmotionClassifier)


def make_parser(name: str, text: str) -> ArgumentParser:
    """Return a parser for the command ``name``, with its docstring as help."""
    return ArgumentParser(
        prog=f"python -m {name}",
        description=text.replace("%", "%%"),
        formatter_class=RawDescriptionHelpFormatter,
    )


def run_command(
    name: str,
    parser: ArgumentParser,
    action: Callable[[Namespace, str], int],
    argv: Sequence[str] | None,
) -> int:
    """Parse a command line and run its action; return the exit status (``faces.command.run``).

    Args:
        name: of the command.
        parser: of its options.
        action: does what the options and the command line, as a record has it, ask.
        argv: the words of the command line; None for those of this process.
    """
    arguments = parser.parse_args(argv)
    made_by = command_line(name, argv)
    return run(name, lambda: action(arguments, made_by))


def add_common_options(parser: ArgumentParser) -> None:
    """Add the options that every evaluation command takes: ``--device`` and ``--out``."""
    parser.add_argument("--device", help="cpu, cuda, cuda:1, … (default: the best there is)")
    parser.add_argument(
        "--out", type=Path, metavar="FILE.json", help="also write the figures there"
    )


def add_photo_options(parser: ArgumentParser) -> None:
    """Add the options for annotated images: ``--coco`` and ``--images``."""
    parser.add_argument(
        "--coco", type=Path, required=True, metavar="FILE.json", help="ground truth"
    )
    parser.add_argument(
        "--images",
        type=Path,
        required=True,
        metavar="DIR|ZIP",
        help="where its images lie",
    )


def add_models(parser: ArgumentParser, stage: str, *, required: bool = False) -> None:
    """Add ``--detector`` or ``--classifier``, which take any number of models."""
    parser.add_argument(
        f"--{stage}",
        nargs="+",
        action="extend",
        required=required,
        default=None if required else [],
        metavar="NAME|RUN",
        help=f"shipped {stage}s by name, or folders that a training left",
    )


def add_picture_option(parser: ArgumentParser) -> None:
    """Add ``--picture``, for the commands that draw curves."""
    parser.add_argument("--picture", type=Path, metavar="FILE.png", help="draw the curves there")


def check_truth(truth: GroundTruth, name: str) -> GroundTruth:
    """Return the ground truth; tell on standard error what was dropped from it.

    Args:
        truth: as it will be used.
        name: of the command.

    Raises:
        UserError: no face is left to find.
    """
    note_dropped(name, f"{truth.path}: annotations", truth.faults)
    if not truth.faces:
        raise UserError(f"{truth.path}: has no face to find; there is nothing to measure")
    return truth


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Yield a folder to fill, which becomes ``path`` at the end; after an error nothing is left.

    Raises:
        UserError: there is something at ``path`` already.
    """
    if path.exists():
        raise UserError(f"{path}: exists already; name a new folder as --out")
    path.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as name:
        part = Path(name, path.name)
        part.mkdir()
        yield part
        part.rename(path)


def load_detectors(
    names: Sequence[str], device: str | None, overrides: Sequence[str] = ()
) -> list[Detector]:
    """Load stage-1 models by shipped name or run folder.

    Args:
        names: shipped names or run folders.
        device: as PyTorch names it; None for the best there is.
        overrides: key, value, key, value, … of the configuration of a Detectron2 model.

    Raises:
        UserError: one of them cannot be loaded.
    """
    from twostage.model_zoo import load_detector

    return _load(names, lambda name: load_detector(name, device, overrides))


def load_classifiers(names: Sequence[str], device: str | None) -> list[EmotionClassifier]:
    """Load stage-2 models by shipped name or run folder.

    Raises:
        UserError: one of them cannot be loaded.
    """
    from twostage.model_zoo import load_classifier

    return _load(names, lambda name: load_classifier(name, device=device))


def classifier_facts(name: str) -> dict[str, Any]:
    """Return what a record says of a classifier beside its figures: its file, its training.

    Raises:
        UserError: there is no such classifier.
    """
    from twostage import model_zoo

    return model_zoo.classifier_facts(name)


def _load(names: Sequence[str], load: Callable[[str], T]) -> list[T]:
    models: list[T] = []
    for name in names:
        model = load(name)
        if any(model.name == other.name for other in models):
            model.name = name  # two run folders may have one name; rows must tell them apart
        models.append(model)
    return models


def check_finite(probabilities: NDArray[np.float32], name: str) -> None:
    """Refuse probabilities that are not finite; nan would pass for the most likely emotion.

    Raises:
        UserError: one is not; the message names the classifier ``name``.
    """
    if not np.isfinite(probabilities).all():
        raise UserError(
            f"{name}: gives probabilities that are not finite; its weights are damaged, or its "
            "training diverged"
        )
