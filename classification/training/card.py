"""What a training leaves beside its weights: the record, the curves, and the model card."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from classification.data.fer2013 import Fer2013
from classification.inference.classifier import NetworkClassifier, TrainedNetwork, save_network
from faces import files
from faces.command import UserError
from faces.emotions import EMOTIONS
from networks.device import usable_device

matplotlib.use("Agg")

WEIGHTS = Path(__file__).resolve().parents[2] / "weights"
"""The folder of the shipped models."""


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write a card or a record as strict JSON, whole or not at all."""
    files.write_json(path, value, indent=1)


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
    with files.replacing(path) as part:
        figure.savefig(part, dpi=120, format="png")


def write_card(run: Path, record: Mapping[str, Any], public: Fer2013, device: torch.device) -> None:
    """Measure the run's best network on PublicTest and write ``card.json`` beside it.

    The record is that of the training, and ``public`` labelled as the network was taught.
    """
    classifier = NetworkClassifier.load(run / "model.safetensors", device, run.name)
    shown = sys.stderr.isatty()
    predicted = classifier.probabilities_of_grey(public.images, progress=shown).argmax(1)
    kept = ("recipe", "parameters", "command", "commit", "versions", "hours", "precision", "start")
    training = {key: record[key] for key in (*kept, "teachers", "device", "history")}
    chosen_on = f"PublicTest accuracy, epoch {record['best_epoch']}"
    write_json(run / "card.json", model_card(record, training, chosen_on, public, predicted))


def write_derived_run(
    out: Path,
    network: TrainedNetwork,
    state: Mapping[str, Tensor],
    data: Fer2013,
    training: Mapping[str, Any],
    votes: float,
    chosen_on: str,
) -> None:
    """Write a network that was made of trained ones into a run folder, and print its accuracy.

    Args:
        out: the run folder.
        network: architecture and preprocessing.
        state: its weights.
        data: FER2013, with PublicTest.
        training: what the card says about the training.
        votes: the largest share of FER+'s votes that it, or what it was made of, was taught.
        chosen_on: by what it was selected.
    """
    public = data.split("PublicTest")
    classifier = NetworkClassifier(network, state, torch.device(usable_device(None)), out.name)
    shown = sys.stderr.isatty()
    predicted = classifier.probabilities_of_grey(public.images, progress=shown).argmax(1)
    record = {
        "training_pictures": int((data.splits == "Training").sum()),
        "data_fingerprint": data.fingerprint,
        "data_differences": data.differences_from_official(),
        "recipe": {"votes": votes},
    }
    card = model_card(record, training, chosen_on, public, predicted)
    out.mkdir(parents=True, exist_ok=True)
    save_network(out / "model.safetensors", state, network)
    write_json(out / "card.json", card)
    print(f"PublicTest accuracy {card['public_test']['accuracy']:.4f}; the run is in {out}")


def find_files(name_or_run: str, folder: Path = WEIGHTS) -> tuple[Path, Path]:
    """Return the weights file and the card of a run folder or a shipped model; both must exist."""
    run = Path(name_or_run)
    if run.is_dir():
        weights, card = run / "model.safetensors", run / "card.json"
    else:
        weights, card = folder / f"{name_or_run}.safetensors", folder / f"{name_or_run}.json"
    if not weights.is_file() or not card.is_file():
        cause = f"neither a finished run of classification.train nor a classifier in {folder.name}/"
        if run.is_dir():
            cause = f"has no {card.name} yet; let the training finish (--resume)"
        raise UserError(f"{name_or_run}: {cause}")
    return weights, card


def check_new_run(out: Path) -> None:
    """Raise a ``UserError`` if a file, or a run, is where a run folder is to be made."""
    if out.exists() and not out.is_dir():
        raise UserError(f"{out}: is a file; --out takes a folder")
    if (out / "model.safetensors").exists():
        raise UserError(f"{out}: holds a run already; name another --out")


def training_of(card: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Return what a card says about the training of a network, if that is as much as all say.

    Else the ``UserError`` names ``path``.
    """
    training = card.get("training")
    wanted = {"recipe", "parameters", "versions", "precision", "device", "hours"}
    if not isinstance(training, dict) or not wanted <= training.keys():
        raise UserError(f"{path}: its card says too little about its training; restore the card")
    return training


def taught_votes(card: Mapping[str, Any]) -> float:
    """Return the share of votes in the targets that a network was taught, from its card."""
    share = taught_recipe(card).get("votes", 0.0)
    if not isinstance(share, float | int) or not 0 <= share <= 1:
        raise UserError(f"the card's votes are {str(share)[:40]}, and must be 0 to 1")
    return float(share)


def taught_recipe(card: Mapping[str, Any]) -> dict[str, Any]:
    """Return the recipe on a card, which is empty on cards that have none."""
    training = card.get("training", {})
    recipe = training.get("recipe", {}) if isinstance(training, dict) else None
    if not isinstance(recipe, dict):
        raise UserError("the card's training is no object with a recipe; restore the card")
    return recipe


def as_taught(data: Fer2013, card: Mapping[str, Any]) -> Fer2013:
    """Return FER2013 with the classes that a network was taught, according to its card."""
    return data.disgust_as_angry() if taught_recipe(card).get("disgust_as_angry") else data


def training_data(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a card says about the data that a classifier was trained on."""
    about = {
        "data": "FER2013, Training",
        "pictures": record["training_pictures"],
        "fingerprint": record["data_fingerprint"],
        "differences_from_official": record["data_differences"],
        "licence": "FER2013 states no licence; it was released for research",
    }
    if share := record.get("recipe", {}).get("votes"):
        about["votes"] = f"FER+ (Barsoum et al., 2016; MIT licence): {share:.0%} of each target"
    if extra := record.get("extra"):
        about["extra"] = f"{extra['faces']} faces of {extra['folder']}, in the same split"
    return about


def metrics_on(public: Fer2013, predicted: NDArray[np.int64]) -> dict[str, Any]:
    """Return the metrics of predictions (N,), indices into ``EMOTIONS``, on N images."""
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
        record: of its training, or that part of one that ``training_data`` needs.
        training: what the card says about the training.
        chosen_on: by what it was selected.
        public: PublicTest, N images.
        predicted: shape (N,), its answers there, indices into ``EMOTIONS``.
    """
    return {
        "task": "seven emotions of one face crop",
        "trained_on": training_data(record),
        "training": dict(training),
        "chosen_on": chosen_on,
        "public_test": metrics_on(public, predicted),
        "classes": list(EMOTIONS),
        "licence_of_weights": "research use only, as the training data allow",
        "intended_use": "research on facial expressions, teaching, comparison of methods",
        "limits": [
            "names what a face shows, not what a person feels",
            "not for decisions about people: hiring, policing, health, education, insurance",
            "trained on web pictures of 2013, which show groups of people unevenly",
        ],
    }
