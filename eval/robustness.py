"""How accuracy holds when crops are not FER2013's: ``python -m eval.robustness --help``.

A detector's crops are looser or tighter, blurred and darker than the images of a training. Each
condition changes all images of one part of FER2013 alike.

Definitions
    scale: the side of the square that is cut out, as a share of the image's; above 1 the border
        pixels are repeated.
    blur: standard deviation in pixels (of 48) of a Gaussian.
    brightness: factor on the pixels, cut off at 255.
    lowest: the worst accuracy over all conditions, of each kind.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from classification.data.fer2013 import SPLITS, Fer2013
from eval.data import fer2013_parts as fer
from eval.data import options
from eval.records import plots, report
from eval.records.sections import Section, columns
from faces.pipeline import EmotionClassifier

COMMAND = "eval.robustness"

Change = Callable[[NDArray[np.uint8], float], NDArray[np.uint8]]
"""An image (S, S) uint8 and the strength → a changed one of the same size."""


def rescale(image: NDArray[np.uint8], scale: float) -> NDArray[np.uint8]:
    """Cut out the central square of ``scale`` times the side, and bring it to the old size."""
    shift = (len(image) - 1) / 2 * (1 - scale)
    towards = np.array([[scale, 0, shift], [0, scale, shift]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    border = cv2.BORDER_REPLICATE
    changed = cv2.warpAffine(image, towards, image.shape, flags=flags, borderMode=border)
    return changed.astype(np.uint8, copy=False)


def blur(image: NDArray[np.uint8], deviation: float) -> NDArray[np.uint8]:
    """Blur by a Gaussian of ``deviation`` pixels; 0 changes nothing."""
    if deviation == 0:
        return image
    return cv2.GaussianBlur(image, (0, 0), deviation).astype(np.uint8, copy=False)


def brighten(image: NDArray[np.uint8], factor: float) -> NDArray[np.uint8]:
    """Multiply the pixels by ``factor``, cut off at 255."""
    return np.asarray(np.clip(np.rint(image * factor), 0, 255), np.uint8)


CONDITIONS: dict[str, tuple[Change, tuple[float, ...]]] = {
    "scale": (rescale, (0.8, 0.9, 1.0, 1.1, 1.2, 1.3)),
    "blur": (blur, (0.0, 0.5, 1.0, 1.5, 2.0)),
    "brightness": (brighten, (0.4, 0.6, 0.8, 1.0, 1.25, 1.5)),
}
"""What is changed → how, and the values that are measured."""

SECTION = Section(
    kind="robustness",
    title="Accuracy when crops are not FER2013's",
    columns=columns(
        "text: record split classifier",
        *(f"percent: {kind}_usual {kind}_lowest" for kind in CONDITIONS),
    ),
)

_USUAL = {"scale": 1.0, "blur": 0.0, "brightness": 1.0}


def measure(data: Fer2013, classifiers: Sequence[EmotionClassifier], part: str) -> list[report.Row]:
    """Measure every classifier under every condition.

    Returns:
        One row per classifier: for each kind of change, ``kind``: a list of
        {"value", "accuracy"}, and its ``kind_usual`` and ``kind_lowest`` accuracy.
    """
    rows: list[report.Row] = [
        {"classifier": one.name, "n": len(data.labels), "robustness": part} for one in classifiers
    ]
    for kind, (change, values) in CONDITIONS.items():
        for value in values:
            crops = [fer.rgb(change(image, value)) for image in data.images]
            for row, classifier in zip(rows, classifiers, strict=True):
                found = fer.probabilities_of_crops(classifier, crops).argmax(axis=1)
                point = {"value": value, "accuracy": float((found == data.labels).mean())}
                row.setdefault(kind, []).append(point)
        for row in rows:
            accuracies = {point["value"]: point["accuracy"] for point in row[kind]}
            row[f"{kind}_usual"] = accuracies[_USUAL[kind]]
            row[f"{kind}_lowest"] = min(accuracies.values())
    return rows


def draw(rows: Sequence[report.Row], path: Path) -> None:
    """Draw accuracy against each kind of change."""
    figure, panels = plots.panels(len(CONDITIONS))
    for axes, kind in zip(panels, CONDITIONS, strict=True):
        for row in rows:
            xs, ys = plots.points(row[kind], "value", "accuracy")
            axes.plot(xs, ys, marker="o", markersize=3, label=row["classifier"])
        axes.axvline(_USUAL[kind], color="0.7", linewidth=0.8, linestyle=":")
        axes.set_xlabel({"scale": "crop scale", "blur": "blur (pixels of 48)"}.get(kind, kind))
        axes.sharey(panels[0])
        axes.grid(alpha=0.3)
    panels[0].set_ylabel(f"accuracy on {rows[0]['robustness']} (%)")
    panels[0].legend(fontsize=8)
    plots.save(figure, path)


def _add_options(parser: ArgumentParser) -> None:
    parser.add_argument("--data", type=Path, required=True, help="FER2013 in any form")
    parser.add_argument("--split", choices=SPLITS, default=fer.DEFAULT_SPLIT)
    options.add_models(parser, "classifier", required=True)
    options.add_picture_option(parser)
    options.add_common_options(parser)


def _evaluate(arguments: Namespace) -> None:
    classifiers = options.load_classifiers(arguments.classifier, arguments.device)
    part = fer.open_part(arguments.data, arguments.split)
    rows = measure(part.data, classifiers, part.name)
    SECTION.publish(arguments, [row | part.about() for row in rows], draw)


main = options.Command(COMMAND, __doc__, _add_options, _evaluate)

if __name__ == "__main__":
    raise SystemExit(main())
