"""Draw the figures of the comparison from the records: ``python -m eval.figures``.

docs/figures/ gets the class distribution, confusion matrices (counts, and shares of each true
emotion), how often the right emotion is among the first guesses, the coarser classes, and the
learning curves. With --photo it also gets that photo with the emotions of its faces, and what the
classifier looks at in them.

With --data (FER2013, or the folder that holds fer2013.zip), --faces gets figures that show its
faces: samples of each emotion, and a grid of answers with the wrong ones framed; these are for
looking at, never for publication.
"""

from __future__ import annotations

import textwrap
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray
from PIL import Image

from classification.data.fer2013 import OFFICIAL_COUNTS, SIZE, Fer2013
from eval.data import options
from eval.data.fer2013_parts import open_part, rgb
from eval.records import plots
from eval.records.comparison import System, find_systems
from eval.records.explained import explained_figure
from eval.tables import ROOT, read_rows
from faces.command import UserError, existing
from faces.draw import draw_faces as draw_answers
from faces.emotions import EMOTIONS
from faces.images import read_image
from faces.pipeline import Pipeline
from twostage.model_zoo import DEFAULT

COMMAND = "eval.figures"

FACES_PER_CLASS = 10
GRID_SIDE = 8
CONFUSIONS = ("knn_pixels", "simple_cnn", "resnet18_scratch", "accurate")
"""Systems whose confusion matrices are drawn: a neighbour, a small network, a large one, ours."""

IGNORED = ("output", "runs")
"""Folders of the clone that git ignores."""

CURVES_ACROSS = 4
"""Learning curves beside each other."""

_MARKS = (("o", "#08519c"), ("|", "#d95f02"), ("d", "#6baed6"))


def class_distribution() -> Figure:
    """Draw each emotion's share of FER2013's official parts, with the counts of Training."""
    figure = Figure(figsize=(7, 3.4), layout="constrained")
    axes = figure.subplots()
    places, width = np.arange(len(EMOTIONS)), 0.8 / len(OFFICIAL_COUNTS)
    for index, (split, counts) in enumerate(OFFICIAL_COUNTS.items()):
        shares = 100 * np.array(counts) / sum(counts)
        axes.bar(places + (index - 1) * width, shares, width, label=split)
    counted = zip(EMOTIONS, OFFICIAL_COUNTS["Training"], strict=True)
    axes.set_xticks(places, [f"{emotion}\n{count:,}" for emotion, count in counted])
    axes.set(ylabel="share of the part (%)", title="FER2013 (numbers: pictures of Training)")
    axes.legend(fontsize=8)
    return figure


def confusion_figure(systems: Sequence[System], *, shares: bool) -> Figure:
    """Draw one confusion matrix per system: counts, or percent of each true emotion."""
    figure, panels = plots.panels(len(systems), columns=2, side=4.4)
    for axes, system in zip(panels, systems, strict=True):
        matrix = np.array(system.row["confusion"], float)
        if shares:
            matrix = 100 * matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
        _draw_matrix(axes, matrix)
        axes.set_title(system.title, fontsize=10)
    figure.suptitle("Percent of each true emotion" if shares else "Faces", fontsize=11)
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
    """Draw top-1, top-2 and top-3 accuracy, and that over coarser classes, one row per system."""
    figure = Figure(figsize=(11, 1.4 + 0.24 * len(systems)), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    places = np.arange(len(systems))[::-1]
    rows = [system.row for system in systems]
    guesses = {f"top {k}": [row["top"][k - 1] for row in rows] for k in (1, 2, 3)}
    coarse = {
        "seven emotions": [row["accuracy"] for row in rows],
        "six classes": [row["groups"]["six"]["accuracy"] for row in rows],
        "positive, neutral, negative": [row["groups"]["valence"]["accuracy"] for row in rows],
    }
    for axes, shares in ((left, guesses), (right, coarse)):
        points = 100 * np.array(list(shares.values()))
        axes.hlines(places, points.min(0), points.max(0), color="0.75", linewidth=1)
        for name, xs, (marker, colour) in zip(shares, points, _MARKS, strict=True):
            axes.plot(xs, places, marker, label=name, color=colour, markersize=6)
        axes.set(xlabel="accuracy (%)", xlim=(0, 100), ylim=(-0.7, len(systems) - 0.3))
        axes.grid(alpha=0.25)
        place = {"loc": "lower center", "bbox_to_anchor": (0.5, 1.0), "ncols": 3}
        axes.legend(fontsize=7.5, columnspacing=0.8, handletextpad=0.1, **place)
    left.set_yticks(places, [system.title for system in systems], fontsize=8)
    return figure


def learning_figure(systems: Sequence[System]) -> Figure | None:
    """Draw PublicTest accuracy and training loss against the epoch; None if no record has them.

    One panel per training: its accuracy before the others' in grey, its loss on a scale of its own.
    """
    trained = {
        system.classifier: system for system in reversed(systems) if system.row.get("history")
    }
    known = list(trained.values())[::-1]  # several views are of one training
    if not known:
        return None
    curves_of = {system.title: _curves(system.row["history"]) for system in known}
    highest = max(accuracy.max() for _, accuracy, _ in curves_of.values())
    figure, panels = plots.panels(len(known), columns=CURVES_ACROSS, side=2.7)
    for place, (axes, system) in enumerate(zip(panels, known, strict=True)):
        for epochs, accuracy, _ in curves_of.values():
            axes.plot(epochs, accuracy, color="0.85", linewidth=0.8)
        epochs, accuracy, loss = curves_of[system.title]
        axes.plot(epochs, accuracy, color="tab:blue")
        axes.set_title(textwrap.fill(system.title, 32), fontsize=8)
        axes.set(ylim=(0, highest + 5))
        beside = axes.twinx()
        beside.plot(epochs, loss, color="tab:orange", linestyle="--", linewidth=1.2)
        beside.set_ylim(0, 1.1 * loss.max())
        for one, colour in ((axes, "tab:blue"), (beside, "tab:orange")):
            one.tick_params(labelsize=7)
            one.tick_params(axis="y", colors=colour)
        if place % CURVES_ACROSS == 0:
            axes.set_ylabel("PublicTest accuracy (%)", fontsize=8, color="tab:blue")
        if place % CURVES_ACROSS == CURVES_ACROSS - 1 or place == len(known) - 1:
            beside.set_ylabel("training loss", fontsize=8, color="tab:orange")
        axes.set_xlabel("epoch", fontsize=8)
    return figure


def _curves(history: Sequence[dict[str, float]]) -> tuple[NDArray[np.float64], ...]:
    """Return epochs, accuracies in percent, and losses."""
    rows = np.array([[e["epoch"], 100 * e["accuracy"], e["training_loss"]] for e in history])
    return tuple(rows.T)


def samples_figure(data: Fer2013) -> Figure:
    """Draw the first images of each emotion."""
    wall = np.full((len(EMOTIONS), FACES_PER_CLASS, SIZE, SIZE), 255, np.uint8)
    for row in range(len(EMOTIONS)):
        faces = data.images[data.labels == row][:FACES_PER_CLASS]
        wall[row, : len(faces)] = faces
    figure, axes = _wall(wall, 0)
    axes.set_yticks([(row + 0.5) * SIZE for row in range(len(EMOTIONS))], EMOTIONS)
    return figure


def answers_figure(data: Fer2013, scores: NDArray[np.float32]) -> Figure:
    """Draw faces with the predicted emotion; wrong ones have a red frame and the true one too.

    Args:
        data: N images.
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


def _wall(images: NDArray[np.uint8], gap: int) -> tuple[Figure, Axes]:
    """Draw images (rows, columns, S, S) side by side, ``gap`` white pixels between them."""
    padded = np.pad(images, ((0, 0), (0, 0), (0, gap), (0, gap)), constant_values=255)
    rows, columns, side, _ = padded.shape
    figure = Figure(figsize=(columns * side / 55 + 1, rows * side / 55), layout="constrained")
    axes = figure.subplots()
    joined = padded.transpose(0, 2, 1, 3).reshape(rows * side, columns * side)
    axes.imshow(joined, cmap="gray", vmin=0, vmax=255)
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    return figure, axes


def draw_records(systems: Sequence[System], folder: Path) -> list[Path]:
    """Draw what the records of the systems show; returns the files."""
    measured = [s for s in systems if s.row and s.split == "PrivateTest"]
    shown = [s for s in measured if s.classifier in CONFUSIONS and s.views == "single"]
    figures: dict[str, Figure | None] = {"classes": class_distribution()}
    if shown:
        figures["confusion_counts"] = confusion_figure(shown, shares=False)
        figures["confusion_shares"] = confusion_figure(shown, shares=True)
    if measured:
        figures |= {"guesses": guesses_figure(measured), "learning": learning_figure(measured)}
    return _write(figures, folder)


def _write(figures: Mapping[str, Figure | None], folder: Path) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    drawn = {folder / f"{name}.png": figure for name, figure in figures.items() if figure}
    for path, figure in drawn.items():
        plots.save(figure, path)
    return list(drawn)


def check_private(folder: Path) -> None:
    """Raise a UserError if git could commit what is written there: pictures of the data's faces."""
    place = folder.resolve()
    ignored = any(place.is_relative_to(ROOT / name) for name in IGNORED)
    if place.is_relative_to(ROOT) and not ignored:
        raise UserError(
            f"{folder}: figures of the data's faces go to output/, runs/ or out of the clone"
        )


def draw_faces(data: Path, classifier_name: str, folder: Path) -> list[Path]:
    """Draw figures that show FER2013's faces; returns the files."""
    (classifier,) = options.load_classifiers([classifier_name], None)
    archive = data / "fer2013.zip"
    part = open_part(archive if archive.is_file() else data, "PublicTest").data
    answers = classifier.probabilities(list(map(rgb, part.images)))
    figures = {"samples": samples_figure(part), "answers": answers_figure(part, answers)}
    return _write(figures, folder)


def draw_photo(photo: Path, classifier_name: str, folder: Path) -> list[Path]:
    """Draw a photo's answers, and what a classifier looks at in its faces; return the files."""
    (detector,) = options.load_detectors([DEFAULT], None)
    (classifier,) = options.load_classifiers([classifier_name], None)
    image = read_image(photo)
    result = Pipeline(detector, classifier).analyze(image, str(photo))
    if not result.faces:
        raise UserError(f"{photo}: no face is found in it; take another --photo")
    answered, explained = folder / "sample.jpg", folder / "explained.png"
    Image.fromarray(draw_answers(image, result)).save(answered, quality=90)
    plots.save(explained_figure(image, result.faces, classifier), explained)
    return [answered, explained]


def _add_options(parser: ArgumentParser) -> None:
    figures = ROOT / "docs" / "figures"
    parser.add_argument("--results", type=Path, default=ROOT / "results", help="folder of records")
    parser.add_argument("--out", dest="folder", type=Path, default=figures, help="to write to")
    parser.add_argument("--data", type=Path, help="FER2013: also draw figures that show its faces")
    parser.add_argument("--photo", type=Path, help="also draw the answers to it")
    parser.add_argument("--classifier", default="default", help="whose answers these are")
    parser.add_argument("--faces", type=Path, default=Path("output/figures"), help="to write to")


def _draw(arguments: Namespace) -> None:
    if arguments.data is not None:
        existing(arguments.data, "--data")
    check_private(arguments.faces)
    systems = find_systems(read_rows(arguments.results))
    folder, name = arguments.folder, arguments.classifier
    written = draw_records(systems, folder)
    if arguments.photo is not None:
        written += draw_photo(arguments.photo, name, folder)
    if arguments.data is not None:
        written += draw_faces(arguments.data, name, arguments.faces)
    for path in written:
        print(f"wrote {path}")


main = options.Command(COMMAND, __doc__, _add_options, _draw)

if __name__ == "__main__":
    raise SystemExit(main())
