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

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from classification.data.fer2013 import SPLITS, Fer2013
from eval.data import fer2013_parts as fer
from eval.data import options
from eval.data.crop_folders import BATCH
from eval.records import plots, report
from eval.records.sections import Section
from faces.pipeline import EmotionClassifier

COMMAND = "eval.robustness"

Change = Callable[[NDArray[np.uint8], float], NDArray[np.uint8]]
"""An image (S, S) uint8 and the strength → a changed one of the same size."""


def rescale(image: NDArray[np.uint8], scale: float) -> NDArray[np.uint8]:
    """Cut out the central square of ``scale`` times the side, and bring it to the old size."""
    side = image.shape[0]
    centre = (side - 1) / 2
    towards = np.array([[scale, 0, centre * (1 - scale)], [0, scale, centre * (1 - scale)]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    changed = cv2.warpAffine(
        image, towards, (side, side), flags=flags, borderMode=cv2.BORDER_REPLICATE
    )
    return changed.astype(np.uint8, copy=False)


def blur(image: NDArray[np.uint8], deviation: float) -> NDArray[np.uint8]:
    """Blur by a Gaussian of ``deviation`` pixels; 0 changes nothing."""
    if deviation == 0:
        return image
    return cv2.GaussianBlur(image, (0, 0), deviation).astype(np.uint8, copy=False)


def brighten(image: NDArray[np.uint8], factor: float) -> NDArray[np.uint8]:
    """Multiply the pixels by ``factor``, cut off at 255."""
    changed: NDArray[np.uint8] = np.clip(np.rint(image * factor), 0, 255).astype(np.uint8)
    return changed


CONDITIONS: dict[str, tuple[Change, tuple[float, ...]]] = {
    "scale": (rescale, (0.8, 0.9, 1.0, 1.1, 1.2, 1.3)),
    "blur": (blur, (0.0, 0.5, 1.0, 1.5, 2.0)),
    "brightness": (brighten, (0.4, 0.6, 0.8, 1.0, 1.25, 1.5)),
}
"""What is changed → how, and the values that are measured."""

SECTION = Section(
    kind="robustness",
    title="Accuracy when crops are not FER2013's",
    columns={"record": "text", "split": "text"}
    | {"classifier": "text"}
    | {key: "percent" for kind in CONDITIONS for key in (f"{kind}_usual", f"{kind}_lowest")},
)

_USUAL = {"scale": 1.0, "blur": 0.0, "brightness": 1.0}


def measure(data: Fer2013, classifiers: Sequence[EmotionClassifier], part: str) -> list[report.Row]:
    """Measure every classifier under every condition.

    Returns:
        One row per classifier: for each kind of change, ``kind``: a list of
        {"value", "accuracy"}, and its ``kind_usual`` and ``kind_lowest`` accuracy.
    """
    rows: list[report.Row] = [
        {"classifier": one.name, "n": len(data.labels)} for one in classifiers
    ]
    conditions = [(kind, value) for kind, (_, values) in CONDITIONS.items() for value in values]
    right = np.zeros((len(classifiers), len(conditions)), np.int64)
    with tqdm(total=len(conditions) * len(data.labels), unit=" faces", disable=None) as progress:
        for column, (kind, value) in enumerate(conditions):
            change = CONDITIONS[kind][0]
            for start in range(0, len(data.labels), BATCH):
                images = data.images[start : start + BATCH]
                crops = [fer.rgb(change(image, value)) for image in images]
                labels = data.labels[start : start + BATCH]
                for number, classifier in enumerate(classifiers):
                    found = classifier.probabilities(crops)
                    options.check_finite(found, classifier.name)
                    right[number, column] += int((found.argmax(axis=1) == labels).sum())
                progress.update(len(crops))
    for row, counts in zip(rows, right, strict=True):
        shares = dict(zip(conditions, counts / len(data.labels), strict=True))
        for kind, (_, values) in CONDITIONS.items():
            curve = [{"value": v, "accuracy": float(shares[kind, v])} for v in values]
            row[kind] = curve
            row[f"{kind}_usual"] = float(shares[kind, _USUAL[kind]])
            row[f"{kind}_lowest"] = min(point["accuracy"] for point in curve)
        row["robustness"] = part
    return rows


def draw(rows: Sequence[report.Row], path: Path) -> None:
    """Draw accuracy against each kind of change."""
    figure, panels = plots.panels(len(CONDITIONS))
    for axes, kind in zip(panels, CONDITIONS, strict=True):
        for row in rows:
            xs = [point["value"] for point in row[kind]]
            ys = [100 * point["accuracy"] for point in row[kind]]
            axes.plot(xs, ys, marker="o", markersize=3, label=row["classifier"])
        axes.axvline(_USUAL[kind], color="0.7", linewidth=0.8, linestyle=":")
        axes.set_xlabel({"scale": "crop scale", "blur": "blur (pixels of 48)"}.get(kind, kind))
        axes.sharey(panels[0])
        axes.grid(alpha=0.3)
    panels[0].set_ylabel(f"accuracy on {rows[0]['robustness']} (%)")
    panels[0].legend(fontsize=8)
    plots.save(figure, path)


def parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    result = options.make_parser(COMMAND, __doc__)
    result.add_argument("--data", type=Path, required=True, help="FER2013 in any form")
    result.add_argument("--split", choices=SPLITS, default=fer.DEFAULT_SPLIT)
    options.add_models(result, "classifier", required=True)
    options.add_picture_option(result)
    options.add_common_options(result)
    return result


def evaluate(arguments: argparse.Namespace, made_by: str) -> int:
    """Do what the command line ``made_by`` asks; returns the exit status."""
    report.check_out(arguments.out)
    report.check_out(arguments.picture)
    classifiers = options.load_classifiers(arguments.classifier, arguments.device)
    part = fer.open_part(arguments.data, arguments.split)
    about = part.about() | report.provenance(made_by, arguments.device)
    rows = [row | about for row in measure(part.data, classifiers, part.name)]
    SECTION.publish(arguments, rows, draw)
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    return options.run_command(COMMAND, parser(), evaluate, argv)


if __name__ == "__main__":
    sys.exit(main())
