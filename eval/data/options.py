"""The shell, the options, the models and the ground truth that the evaluation commands share."""

from __future__ import annotations

from argparse import REMAINDER, ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from eval.data.images import note_dropped
from faces import command
from faces.coco import GroundTruth
from faces.command import UserError, fraction, positive_pixels
from faces.pipeline import Detector, EmotionClassifier
from faces.scope import Scope
from twostage import model_zoo

T = TypeVar("T", Detector, EmotionClassifier)


class Command(command.Command):
    """A command whose ``--out``, ``--picture`` and ``--gallery`` are checked before all else."""

    def check(self, options: Namespace) -> None:
        """Raise a ``UserError`` if one of these files cannot be written."""
        for option in ("out", "picture", "gallery"):
            check_out(getattr(options, option, None))


def check_out(path: Path | None) -> None:
    """Raise a UserError, before anything is measured, if a file cannot be written."""
    if path is None:
        return
    if path.is_dir():
        raise UserError(f"{path}: is a folder; --out takes a file name such as report.json")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise UserError(
            f"{path}: cannot be written ({error.strerror}); choose another --out"
        ) from error


def positive(text: str) -> int:
    """Parse a whole number from 1 to 10,000, for argparse."""
    if not text.isdecimal() or not 1 <= int(text) <= 10_000:
        raise ArgumentTypeError(f"expected a whole number from 1 to 10000, got {text!r}")
    return int(text)


def add_common_options(parser: ArgumentParser) -> None:
    """Add the options that every evaluation command takes: ``--device`` and ``--out``."""
    parser.add_argument("--device", help="cpu, cuda, cuda:1, … (default: the best there is)")
    add_out_option(parser)


def add_out_option(parser: ArgumentParser) -> None:
    """Add ``--out``, the file of the record."""
    parser.add_argument("--out", type=Path, metavar="FILE.json", help="write the figures there")


def add_folder_option(parser: ArgumentParser) -> None:
    """Add ``--out`` of the commands that fill a folder (``new_folder``); its path is ``folder``."""
    parser.add_argument(
        "--out", dest="folder", type=Path, required=True, metavar="DIR", help="must not exist"
    )


def add_photo_options(parser: ArgumentParser, required: bool = True) -> None:
    """Add the options for annotated images: ``--coco`` and ``--images``."""
    parser.add_argument(
        "--coco", type=Path, required=required, metavar="FILE.json", help="ground truth"
    )
    parser.add_argument(
        "--images", type=Path, required=required, metavar="DIR|ZIP", help="where its images lie"
    )


def add_min_size_option(parser: ArgumentParser) -> None:
    """Add ``--min-size``, below which faces are ignored."""
    parser.add_argument(
        "--min-size",
        type=positive_pixels,
        default=0.0,
        metavar="PX",
        help="ignore faces whose shorter side is below this, in pixels of the stored image",
    )


def add_size_option(parser: ArgumentParser, what: str, default: tuple[int, int]) -> None:
    """Add ``--size WIDTH HEIGHT`` in pixels; ``what`` says of what."""
    parser.add_argument(
        "--size",
        type=positive,
        nargs=2,
        default=default,
        metavar=("WIDTH", "HEIGHT"),
        help=f"of {what}, in pixels (default {default[0]} {default[1]})",
    )


def add_several(
    parser: ArgumentParser, option: str, metavar: str, text: str, required: bool = False
) -> None:
    """Add an option that takes any number of values, and may be given again; ``text`` helps."""
    parser.add_argument(
        option,
        nargs="+",
        action="extend",
        required=required,
        default=[],
        metavar=metavar,
        help=text,
    )


def add_models(parser: ArgumentParser, stage: str, *, required: bool = False) -> None:
    """Add ``--detector`` or ``--classifier``, which take any number of models."""
    text = f"shipped {stage}s by name, or folders that a training left"
    add_several(parser, f"--{stage}", "NAME|RUN", text, required)


def add_overrides(parser: ArgumentParser) -> None:
    """Add ``opts``, the last words of a command line."""
    text = "KEY VALUE pairs that override the configuration"
    parser.add_argument("opts", nargs=REMAINDER, help=text)


def add_share_option(parser: ArgumentParser, option: str, default: float, text: str) -> None:
    """Add an option for a number above 0 and below 1; ``text`` helps."""
    text += " (default %(default)s)"
    parser.add_argument(option, type=fraction, default=default, metavar="SHARE", help=text)


def add_picture_option(parser: ArgumentParser) -> None:
    """Add ``--picture``, for the commands that draw curves."""
    parser.add_argument("--picture", type=Path, metavar="FILE.png", help="draw the curves there")


def check_truth(truth: GroundTruth, name: str) -> GroundTruth:
    """Return the ground truth, and tell what was dropped from it; UserError if no face is left."""
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
    names: Sequence[str],
    device: str | None,
    overrides: Sequence[str] = (),
    scope: Scope = Scope(),  # noqa: B008  (frozen)
) -> list[Detector]:
    """Load stage-1 models by shipped name or run folder; see ``model_zoo.load_detector``."""
    return _load(names, lambda name: model_zoo.load_detector(name, device, overrides, scope))


def load_classifiers(names: Sequence[str], device: str | None) -> list[EmotionClassifier]:
    """Load stage-2 models by shipped name or run folder; see ``model_zoo.load_classifier``."""
    return _load(names, lambda name: model_zoo.load_classifier(name, device=device))


def _load(names: Sequence[str], load: Callable[[str], T]) -> list[T]:
    models: list[T] = []
    for name in names:
        model = load(name)
        if any(model.name == other.name for other in models):
            model.name = name  # two run folders may have one name; rows must tell them apart
        models.append(model)
    return models


def precision_of(model: object) -> str | None:
    """Return the number format that a model computes in, where it or all its members say so."""
    formats = {getattr(part, "dtype", None) for part in getattr(model, "members", (model,))}
    dtype = formats.pop() if len(formats) == 1 else None
    return None if dtype is None else str(dtype).removeprefix("torch.")


def check_finite(probabilities: NDArray[np.float32], name: str) -> None:
    """Raise a UserError if some are not finite; nan would pass for the most likely emotion."""
    if not np.isfinite(probabilities).all():
        raise UserError(
            f"{name}: gives probabilities that are not finite; its weights are damaged, or its "
            "training diverged"
        )
