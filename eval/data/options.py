"""Options and models that the evaluation commands share."""

from __future__ import annotations

import os
from argparse import ArgumentParser
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from faces.command import UserError
from faces.pipeline import Detector, EmotionClassifier

T = TypeVar("T", Detector, EmotionClassifier)


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
        UserError: there is something at ``path`` already.
    """
    if path.exists():
        raise UserError(f"{path}: exists already; name a new folder as --out")
    path.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as name:
        part = Path(name, path.name)
        part.mkdir()
        yield part
        os.replace(part, path)


def load_detectors(names: Sequence[str], device: str | None) -> list[Detector]:
    """Load stage-1 models by shipped name or run folder.

    Raises:
        UserError: one of them cannot be loaded.
    """
    from twostage.model_zoo import load_detector

    return _load(names, lambda name: load_detector(name, device=device))


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
            model.name = name  # two runs may have folders of one name; reports must tell them apart
        models.append(model)
    return models


def top_emotions(classifier: EmotionClassifier, scores: NDArray[np.float32]) -> NDArray[np.int64]:
    """Return the index of the most likely emotion of each face, shape (N,).

    Raises:
        UserError: a probability is not finite; nan would pass for the most likely one.
    """
    if not np.isfinite(scores).all():
        raise UserError(
            f"{classifier.name}: gives probabilities that are not finite; its weights are damaged, "
            "or its training diverged"
        )
    return np.asarray(scores.argmax(axis=1), np.int64)
