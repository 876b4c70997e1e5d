"""Find every face in an image and say which emotions it shows: the Python API.

>>> import twostage
>>> pipeline = twostage.load_pipeline()
>>> result = pipeline.analyze("photo.jpg")
>>> for face in result.faces:
...     print(face.box, face.score, face.emotions["happy"], face.labels(threshold=0.3))

Importing this package is quick: PyTorch and Detectron2 are imported when a model is loaded.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from faces.command import UserError, expect_interrupts
from faces.emotions import EMOTIONS
from faces.scope import MIN_FACE, Scope
from faces.types import (
    DEFAULT_THRESHOLD,
    Box,
    Detection,
    EmotionProbabilities,
    Face,
    ImageResult,
)

if TYPE_CHECKING:
    import numpy as np
    import pandas
    from numpy.typing import NDArray

    from faces.images import ImageError, ImageSource, read_image
    from faces.pipeline import Detector, EmotionClassifier
    from twostage.pipeline import Pipeline

__version__ = "0.1.0"

__all__ = [
    "EMOTIONS",
    "Box",
    "Detection",
    "Detector",
    "EmotionClassifier",
    "EmotionProbabilities",
    "Face",
    "ImageError",
    "ImageResult",
    "ImageSource",
    "Pipeline",
    "UserError",
    "draw",
    "load_classifier",
    "load_detector",
    "load_pipeline",
    "read_image",
    "to_pandas",
]

_HOMES = {
    "faces.images": ("ImageError", "ImageSource", "read_image"),
    "faces.pipeline": ("Detector", "EmotionClassifier"),
    "twostage.pipeline": ("Pipeline",),
}
"""Module → what it defines of this package's names, imported at its first use."""

expect_interrupts(__name__)


def __getattr__(name: str) -> Any:
    for module, names in _HOMES.items():
        if name in names:
            value = globals()[name] = getattr(importlib.import_module(module), name)
            return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def load_pipeline(
    detector: str | os.PathLike[str] | Detector = "default",
    classifier: str | os.PathLike[str] | EmotionClassifier = "default",
    *,
    device: str | None = None,
    margin: float | None = None,
    detail: str = "standard",
    min_face: float = MIN_FACE,
    rotations: bool = False,
) -> Pipeline:
    """Load both stages.

    Args:
        detector: name of a shipped detector, a run folder of ``detection.train``, or a detector.
        classifier: name of a shipped classifier, a run folder of ``classification.train`` or
            ``baselines.train``, several of these joined by ``+``, or a classifier.
        device: ``cpu``, ``cuda``, ``cuda:1``; None takes a GPU if there is one.
        margin: added to each side of a face's box before it is cut out, as a fraction of the box's
            longer side; None takes the margin that the shipped classifiers were chosen with.
        detail: how closely to look for small faces in large images: ``fast`` (one look at the
            whole image, scaled down), ``standard`` (closer where something small was seen) or
            ``full`` (as close everywhere).
        min_face: the shorter side of the smallest faces to look for, in pixels of the image.
        rotations: try each image in four turns, for images that lie on their side.

    Raises:
        UserError: there is no such model, its files are damaged, or the device is missing.
    """
    from faces.crops import CROP_MARGIN
    from twostage.pipeline import Pipeline

    stage_1 = (
        load_detector(detector, device, detail=detail, min_face=min_face)
        if isinstance(detector, str | os.PathLike)
        else detector
    )
    stage_2 = (
        load_classifier(classifier, device)
        if isinstance(classifier, str | os.PathLike)
        else classifier
    )
    margin = CROP_MARGIN if margin is None else margin
    return Pipeline(stage_1, stage_2, margin=margin, rotations=rotations)


def load_detector(
    detector: str | os.PathLike[str] = "default",
    device: str | None = None,
    *,
    detail: str = "standard",
    min_face: float = MIN_FACE,
) -> Detector:
    """Load stage 1; see ``load_pipeline``."""
    from twostage.model_zoo import load_detector as load

    return load(detector, device, scope=Scope(detail, min_face))


def load_classifier(
    classifier: str | os.PathLike[str] = "default", device: str | None = None
) -> EmotionClassifier:
    """Load stage 2; see ``load_pipeline``."""
    from twostage.model_zoo import load_classifier as load

    return load(classifier, device)


def to_pandas(
    results: ImageResult | Iterable[ImageResult | ImageError],
    threshold: float | Mapping[str, float] = DEFAULT_THRESHOLD,
) -> pandas.DataFrame:
    """Return a table with one row per face, in the columns of the command line's ``.csv`` files.

    Images without a face have no row, and neither have images that failed.

    Args:
        results: of ``Pipeline.analyze`` or ``Pipeline.analyze_many``.
        threshold: probability from which an emotion is a label: one number, or one per emotion.

    Raises:
        UserError: pandas is not installed.
    """
    from faces.sinks import CSV_COLUMNS, csv_rows

    try:
        import pandas
    except ImportError as error:
        raise UserError("pandas is not installed; run: pip install pandas") from error
    listed = [results] if isinstance(results, ImageResult) else results
    rows = [
        row for one in listed if isinstance(one, ImageResult) for row in csv_rows(one, threshold)
    ]
    return pandas.DataFrame(rows, columns=list(CSV_COLUMNS))


def draw(
    image: ImageSource,
    result: ImageResult,
    threshold: float | Mapping[str, float] = DEFAULT_THRESHOLD,
) -> NDArray[np.uint8]:
    """Return a copy of an image with its faces boxed, numbered and labelled.

    Args:
        image: what ``result`` was found in: a path, bytes, an open file, an array, a Pillow image.
        result: of ``Pipeline.analyze``.
        threshold: see ``to_pandas``.

    Returns:
        (H, W, 3) uint8 RGB; ``PIL.Image.fromarray(…).save("faces.png")`` writes it.
    """
    from faces.draw import draw_faces
    from faces.images import read_image

    return draw_faces(read_image(image), result, threshold)
