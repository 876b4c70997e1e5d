"""Draw the figures of the comparison from the records: ``python -m eval.figures``.

docs/figures/ gets the class distribution, the confusion matrices (counts, and shares of each true
emotion), how often the right emotion is among the first guesses, the coarser classes, and the
learning curves. With --photo it also gets what the classifier looks at in that photo's faces.

With --data (FER2013, or the folder that holds fer2013.zip), --faces gets pictures that show its
faces: samples of each emotion, and a grid of answers with the wrong ones framed; these are for
looking at, never for publication.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from classification.fer2013 import OFFICIAL_COUNTS, SIZE, Fer2013
from eval import command, curves
from eval.classification import open_fer2013
from eval.command import EvaluationError, existing, run
from eval.comparison import System, find_systems
from eval.explained import explained_figure
from eval.tables import ROOT, read_runs
from faces.emotions import EMOTIONS
from faces.images import ImageError, read_image
from twostage.models import DEFAULT

COMMAND = "eval.figures"

FACES_PER_CLASS = 10
GRID_SIDE = 8
CONFUSIONS = 4
"""Systems whose confusion matrices are drawn: the worst, the best, and between."""


def class_distribution() -> Figure:
    """Draw each emotion's share of FER2013's official parts; counts stand on Training's bars."""
    figure = Figure(figsize=(7, 3.4), layout="constrained")
    axes = figure.subplots()
    places, width = np.arange(len(EMOTIONS)), 0.8 / len(OFFICIAL_COUNTS)
    for index, (split, counts) in enumerate(OFFICIAL_COUNTS.items()):
        shares = 100 * np.array(counts) / sum(counts)
        bars = axes.bar(places + (index - 1) * width, shares, width, label=split)
        if split == "Training":
            axes.bar_label(bars, labels=[str(count) for count in counts], fontsize=7, padding=1)
    axes.set_xticks(places, EMOTIONS)
    axes.set(ylabel="share of the part (%)", title="FER2013 (numbers: pictures of Training)")
    axes.legend(fontsize=8)
    return figure


def confusion_figure(systems: Sequence[System], *, shares: bool) -> Figure:
    """Draw one confusion matrix per system: counts, or percent of each true emotion."""
    figure, panels = curves.panels(len(systems), columns=2, side=4.4)
    for axes, system in zip(panels, systems, strict=True):
        assert system.run is not None
        matrix = np.array(system.run["confusion"], float)
        if shares:
            matrix = 100 * matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
        _draw_matrix(axes, matrix)
        axes.set_title(f"{system.title} ({'%' if shares else 'faces'})", fontsize=10)
    return figure


def _draw_matrix(axes: Axes, matrix: NDArray[np.float64]) -> None:
    axes.imshow(matrix, cmap="Blues", vmin=0)
    middle = matrix.max() / 2
    for (row, column), value in np.ndenumerate(matrix):
        colour = "white" if value > middle else "black"
        axes.text(column, row, f"{value:.0f}", ha="center", va="center", color=colour, fontsize=8)
    axes.set_xticks(range(len(EMOTIONS)), EMOTIONS, rotation=45, ha="right", fontsize=8)
    axes.set_yticks(range(len(EMOTIONS)), EMOTIONS, fontsize=8)
    axes.set(xlabel="predicted", ylabel="true")


def guesses_figure(systems: Sequence[System]) -> Figure:
    """Draw top-1, top-2 and top-3 accuracy, and that over coarser classes, one bar per system."""
    figure = Figure(figsize=(9, 1.4 + 0.32 * len(systems)), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    places = np.arange(len(systems))[::-1]
    runs = [system.run or {} for system in systems]
    guesses = {f"top {k}": [one["top"][k - 1] for one in runs] for k in (3, 2, 1)}
    coarse = {
        "valence": [one["groups"]["valence"]["accuracy"] for one in runs],
        "six classes": [one["groups"]["six"]["accuracy"] for one in runs],
        "seven emotions": [one["accuracy"] for one in runs],
    }
    for axes, shares in ((left, guesses), (right, coarse)):
        for (name, values), colour in zip(shares.items(), _SHADES, strict=True):
            axes.barh(places, [100 * value for value in values], 0.75, label=name, color=colour)
        axes.set(xlabel="accuracy (%)", xlim=(0, 100))
        axes.grid(axis="x", alpha=0.3)
        axes.legend(
            fontsize=8, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3, reverse=True
        )
    left.set_yticks(places, [system.title for system in systems], fontsize=8)
    return figure


_SHADES = ("#c6dbef", "#6baed6", "#08519c")


def learning_figure(systems: Sequence[System]) -> Figure | None:
    """Draw PublicTest accuracy and training loss against the epoch; None if no record has them."""
    trained = {
        system.classifier: system
        for system in reversed(systems)
        if (system.run or {}).get("history")
    }
    known = list(trained.values())[::-1]  # several views are of one training
    if not known:
        return None
    figure = Figure(figsize=(10, 4), layout="constrained")
    accuracy, loss = figure.subplots(1, 2)
    lines: dict[str, list[tuple[str, list[float], list[float]]]] = {
        "accuracy": [],
        "training_loss": [],
    }
    for system in known:
        history = (system.run or {})["history"]
        epochs = [entry["epoch"] for entry in history]
        for key, scale in (("accuracy", 100), ("training_loss", 1)):
            lines[key].append((system.title, epochs, [scale * entry[key] for entry in history]))
    curves.draw_lines(accuracy, lines["accuracy"], "epoch", "PublicTest accuracy (%)")
    curves.draw_lines(loss, lines["training_loss"], "epoch", "training loss")
    loss.get_legend().remove()
    accuracy.legend(fontsize=6)
    return figure


def samples_figure(data: Fer2013) -> Figure:
    """Draw the first pictures of each emotion."""
    wall = np.full((len(EMOTIONS), FACES_PER_CLASS, SIZE, SIZE), 255, np.uint8)
    for row in range(len(EMOTIONS)):
        faces = data.images[data.labels == row][:FACES_PER_CLASS]
        wall[row, : len(faces)] = faces
    figure, axes = _wall(wall, 0)
    axes.set_yticks([(row + 0.5) * SIZE for row in range(len(EMOTIONS))], EMOTIONS)
    return figure


def answers_figure(data: Fer2013, scores: NDArray[np.float32]) -> Figure:
    """Draw pictures with the predicted emotion; wrong ones have a red frame and the true one too.

    Args:
        data: N pictures.
        scores: shape (N, 7).
    """
    gap = 18
    wall = np.full((GRID_SIDE, GRID_SIDE, SIZE, SIZE), 255, np.uint8)
    chosen = np.random.default_rng(0).permutation(len(data.labels))[: GRID_SIDE**2]
    wall.reshape(-1, SIZE, SIZE)[: len(chosen)] = data.images[chosen]
    figure, axes = _wall(wall, gap)
    for place, index in enumerate(chosen):
        predicted, truth = EMOTIONS[scores[index].argmax()], EMOTIONS[data.labels[index]]
        text = f"{predicted} {100 * scores[index].max():.0f} %"
        colour = "tab:green" if predicted == truth else "tab:red"
        y, x = (step * (SIZE + gap) for step in divmod(place, GRID_SIDE))
        axes.add_patch(Rectangle((x, y), SIZE, SIZE, fill=False, color=colour, linewidth=2))
        if predicted != truth:
            text += f"\nis {truth}"
        axes.text(x, y + SIZE + 2, text, fontsize=7, va="top", color=colour)
    return figure


def _wall(pictures: NDArray[np.uint8], gap: int) -> tuple[Figure, Axes]:
    """Draw pictures (rows, columns, S, S) side by side, ``gap`` white pixels between them."""
    padded = np.pad(pictures, ((0, 0), (0, 0), (0, gap), (0, gap)), constant_values=255)
    rows, columns, side, _ = padded.shape
    figure = Figure(figsize=(columns * side / 55 + 1, rows * side / 55), layout="constrained")
    axes = figure.subplots()
    joined = padded.transpose(0, 2, 1, 3).reshape(rows * side, columns * side)
    axes.imshow(joined, cmap="gray", vmin=0, vmax=255)
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    return figure, axes


def draw_records(systems: Sequence[System], folder: Path) -> list[Path]:
    """Draw what the records show; returns the files.

    Args:
        systems: those with a record are drawn.
        folder: to write to.
    """
    measured = [s for s in systems if s.run is not None and s.split == "PrivateTest"]
    figures: dict[str, Figure | None] = {"classes": class_distribution()}
    if measured:
        ranked = sorted(measured, key=lambda system: (system.run or {})["accuracy"])
        spread = np.linspace(0, len(ranked) - 1, min(CONFUSIONS, len(ranked)))
        shown = [ranked[round(place)] for place in spread]
        figures |= {
            "confusion_counts": confusion_figure(shown, shares=False),
            "confusion_shares": confusion_figure(shown, shares=True),
            "guesses": guesses_figure(measured),
            "learning": learning_figure(measured),
        }
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, figure in figures.items():
        if figure is not None:
            curves.save(figure, folder / f"{name}.png")
            written.append(folder / f"{name}.png")
    return written


def draw_faces(data: Path, classifier_name: str, folder: Path) -> list[Path]:
    """Draw pictures that show FER2013's faces; returns the files.

    Raises:
        EvaluationError: the data or the classifier cannot be used.
    """
    (classifier,) = command.load_classifiers([classifier_name], None)
    archive = data / "fer2013.zip"
    part, _, _ = open_fer2013(archive if archive.is_file() else data, "PublicTest")
    crops = [np.repeat(image[:, :, None], 3, axis=2) for image in part.images]
    folder.mkdir(parents=True, exist_ok=True)
    figures = {
        "samples": samples_figure(part),
        "answers": answers_figure(part, classifier.scores(crops)),
    }
    for name, figure in figures.items():
        curves.save(figure, folder / f"{name}.png")
    return [folder / f"{name}.png" for name in figures]


def draw_photo(photo: Path, classifier_name: str, folder: Path) -> Path:
    """Draw what a classifier looks at in a photo's faces; returns the file.

    Raises:
        EvaluationError: the photo or the classifier cannot be used, or there is no face.
    """
    (detector,) = command.load_detectors([DEFAULT], None)
    (classifier,) = command.load_classifiers([classifier_name], None)
    try:
        picture = read_image(existing(photo, "--photo").read_bytes(), name=str(photo))
    except ImageError as error:
        raise EvaluationError(str(error)) from error
    try:
        figure = explained_figure(picture, detector, classifier)
    except ValueError as error:
        raise EvaluationError(f"{photo}: {error}") from error
    curves.save(figure, folder / "explained.png")
    return folder / "explained.png"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog=f"python -m {COMMAND}",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--results", type=Path, default=ROOT / "results", help="folder of records")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "figures", help="to write to")
    parser.add_argument("--data", type=Path, help="FER2013: also draw pictures that show its faces")
    parser.add_argument("--photo", type=Path, help="also draw what the classifier looks at in it")
    parser.add_argument("--classifier", default="default", help="whose answers these are")
    parser.add_argument("--faces", type=Path, default=Path("output/figures"), help="to write to")
    args = parser.parse_args(argv)

    def action() -> int:
        if args.data is not None:
            existing(args.data, "--data")
        if args.faces.resolve().is_relative_to(ROOT / "docs"):
            raise EvaluationError(f"{args.faces}: pictures of faces do not go into docs/")
        written = draw_records(find_systems(read_runs(args.results)), args.out)
        if args.photo is not None:
            written.append(draw_photo(args.photo, args.classifier, args.out))
        if args.data is not None:
            written += draw_faces(args.data, args.classifier, args.faces)
        for path in written:
            print(f"wrote {path}")
        return 0

    return run(COMMAND, action)


if __name__ == "__main__":
    sys.exit(main())
