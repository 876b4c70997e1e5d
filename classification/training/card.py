"""What a training leaves beside its weights: the record, the curves, and the model card."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import torch
from numpy.typing import NDArray

from classification.data.fer2013 import Fer2013
from classification.inference.classifier import NetworkClassifier
from faces.emotions import EMOTIONS

matplotlib.use("Agg")


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write strict JSON; an old file stays until the new one is whole."""
    text = json.dumps(value, indent=1, allow_nan=False, ensure_ascii=False)
    Path(f"{path}.tmp").write_text(text + "\n", encoding="utf-8")
    os.replace(f"{path}.tmp", path)


def plot_curves(history: Sequence[Mapping[str, float]], path: Path) -> None:
    """Draw loss and accuracy against the epoch into a PNG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    losses, accuracies = figure.subplots(1, 2)
    epochs = [entry["epoch"] for entry in history]
    losses.plot(epochs, [entry["training_loss"] for entry in history], label="Training (augmented)")
    losses.plot(epochs, [entry["loss"] for entry in history], label="PublicTest")
    losses.set(xlabel="epoch", ylabel="cross-entropy")
    losses.legend()
    accuracies.plot(epochs, [100 * entry["accuracy"] for entry in history], color="C1")
    accuracies.set(xlabel="epoch", ylabel="PublicTest accuracy (%)")
    for axes in (losses, accuracies):
        axes.grid(alpha=0.3)
    figure.savefig(path, dpi=120)


def write_card(run: Path, record: Mapping[str, Any], public: Fer2013, device: torch.device) -> None:
    """Measure the run's kept network on PublicTest and write ``card.json`` beside it.

    Args:
        run: the run folder.
        record: of its training.
        public: PublicTest, labelled as the network was taught.
        device: where to run.
    """
    classifier = NetworkClassifier.load(run / "model.safetensors", device, run.name)
    shown = sys.stderr.isatty()
    predicted = classifier.probabilities_of_grey(public.images, progress=shown).argmax(1)
    kept = ("recipe", "parameters", "command", "commit", "versions", "hours", "precision", "start")
    training = {key: record[key] for key in (*kept, "teachers", "device", "history")}
    chosen_on = f"PublicTest accuracy, epoch {record['best_epoch']}"
    write_json(run / "card.json", model_card(record, training, chosen_on, public, predicted))


def facts_of_data(data: Fer2013, recipe: Mapping[str, Any]) -> dict[str, Any]:
    """Return what ``model_card`` takes of a training's record, of what was made without one."""
    return {
        "training_pictures": int((data.splits == "Training").sum()),
        "data_fingerprint": data.fingerprint,
        "data_differences": data.differences_from_official(),
        "recipe": recipe,
    }


def training_data(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a card says of the data that a classifier was trained on."""
    about = {
        "data": "FER2013, Training",
        "pictures": record["training_pictures"],
        "fingerprint": record["data_fingerprint"],
        "differences_from_official": record["data_differences"],
        "licence": "FER2013 states no licence; it was released for research",
    }
    if share := record.get("recipe", {}).get("votes"):
        about["votes"] = f"FER+ (Barsoum et al., 2016; MIT licence): {share:.0%} of each target"
    return about


def figures_on(public: Fer2013, predicted: NDArray[np.int64]) -> dict[str, Any]:
    """Return how right answers (N,), indices into ``EMOTIONS``, are on N pictures."""
    confusion = np.zeros((len(EMOTIONS), len(EMOTIONS)), int)
    np.add.at(confusion, (public.labels, predicted), 1)
    accuracy = float((predicted == public.labels).mean())
    return {"n": len(public.labels), "accuracy": accuracy, "confusion": confusion.tolist()}


def model_card(
    record: Mapping[str, Any],
    training: Mapping[str, Any],
    chosen_on: str,
    public: Fer2013,
    predicted: NDArray[np.int64],
) -> dict[str, Any]:
    """Return the card of a classifier.

    Args:
        record: its training's; ``training_pictures``, ``data_fingerprint`` and
            ``data_differences`` are taken from it, and the share of votes in its ``recipe``.
        training: what the card says of the training.
        chosen_on: by what it was chosen.
        public: PublicTest.
        predicted: shape (N,), its answers there, indices into ``EMOTIONS``.
    """
    return {
        "task": "seven emotions of one face crop",
        "trained_on": training_data(record),
        "training": dict(training),
        "chosen_on": chosen_on,
        "public_test": figures_on(public, predicted),
        "classes": list(EMOTIONS),
        "licence_of_weights": "research use only, as the training data allow",
        "intended_use": "research on facial expressions, teaching, comparison of methods",
        "limits": [
            "names what a face shows, not what a person feels",
            "not for decisions about people: hiring, policing, health, education, insurance",
            "trained on web pictures of 2013, which show groups of people unevenly",
        ],
    }
