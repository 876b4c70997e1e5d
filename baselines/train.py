"""Train a baseline on FER2013: fit on Training, select and calibrate on PublicTest.

Models: knn (k nearest neighbours), svm (linear), mlp (one hidden layer), mlp_defaults
(scikit-learn's MLP as it comes, not calibrated). Features: pixels; hog, lbp (histograms); pca,
hog_pca (128 principal components of pixels and of HOG); embedding (what a trained network,
--network, hands to its last layer).

--out gets model.safetensors, card.json and record.json with every choice that was tried. --ship
also puts the model and its card into weights/ under the name of --out's folder.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import sklearn

from baselines.classifier import BaselineClassifier, load_baseline, save_baseline
from baselines.features import FEATURES, fit_features
from baselines.fitting import MODELS, Rowset
from classification.data.fer2013 import Fer2013, load_fer2013, note_differences
from classification.inference.calibration import Scaling, one_hot
from classification.training.card import WEIGHTS, model_card, write_json
from classification.training.options import add_data_options
from classification.training.scaling import card_entry, fit_scaling
from faces.command import Command, UserError
from faces.emotions import EMOTIONS
from faces.files import file_sha256, replacing
from faces.provenance import git_commit, read_card

COMMAND = "baselines.train"
MODEL_FILE = "model.safetensors"


def train_baseline(
    model: str, kind: str, data: Fer2013, out: Path, *, network: Path | None = None, seed: int = 0
) -> dict[str, Any]:
    """Fit one baseline, leave ``model.safetensors`` in the run folder, and return the record.

    Args:
        model: a key of ``MODELS``.
        kind: one of ``FEATURES``.
        data: with the splits Training and PublicTest.
        network: as in ``fit_features``.
    """
    training, public = data.split("Training"), data.split("PublicTest")
    start = time.perf_counter()
    features = fit_features(kind, training.images, network, seed)
    rows = features.rows(training.images).astype(features.stored)
    seen = Rowset(features.rows(public.images), public.labels)
    fitted, tried = MODELS[model](Rowset(rows, training.labels), seen, seed)
    seconds = time.perf_counter() - start
    plain, shares = fitted.probabilities(seen.rows), one_hot(public.labels, len(EMOTIONS))
    as_published = model == "mlp_defaults"  # of which nothing is fitted to PublicTest
    scaling = Scaling() if as_published else fit_scaling(plain, shares)
    out.mkdir(parents=True, exist_ok=True)
    save_baseline(out / MODEL_FILE, BaselineClassifier(out.name, features, fitted, scaling))
    return {
        "model": model,
        "features": kind,
        "network": None if network is None else network.stem,
        "network_sha256": None if network is None else file_sha256(network),
        "seed": seed,
        "parameters": fitted.parameters,
        "training_pictures": len(training.labels),
        "data_fingerprint": data.fingerprint,
        "data_differences": data.differences_from_official(),
        "hours": seconds / 3600,
        "device": "cpu",
        "precision": "float32",
        "commit": git_commit(),
        "versions": {"scikit-learn": sklearn.__version__, "python": sys.version.split()[0]},
        "tried": tried,
        "calibration": None if as_published else card_entry(scaling, plain, shares),
    }


def write_card(folder: Path, record: dict[str, Any], public: Fer2013) -> None:
    """Measure the run's baseline, as it lies on the disk, and write ``card.json`` beside it."""
    classifier = load_baseline(folder / MODEL_FILE, folder.name)
    predicted = classifier.probabilities_of_grey(public.images).argmax(1)
    left_out = ("training_pictures", "data_fingerprint", "data_differences", "calibration")
    training = {key: value for key, value in record.items() if key not in left_out}
    card = model_card(record, training, "PublicTest accuracy", public, predicted)
    made = {key: record[key] for key in ("command", "commit")}
    calibration = record["calibration"] and record["calibration"] | made
    write_json(folder / "card.json", card | {"calibration": calibration})


def ship(folder: Path, weights: Path = WEIGHTS) -> Path:
    """Copy a run's model and card to the shipped weights, under the run folder's name."""
    target = weights / f"{folder.name}.safetensors"
    with replacing(target) as part:
        shutil.copyfile(folder / MODEL_FILE, part)
    card = read_card(folder / "card.json")
    write_json(
        target.with_suffix(".json"), {"name": folder.name, "sha256": file_sha256(target), **card}
    )
    return target


def _train_and_describe(args: argparse.Namespace) -> None:
    if args.out.exists() and not args.out.is_dir():
        raise UserError(f"{args.out}: is a file; --out takes a folder")
    data = load_fer2013(args.data)
    note_differences(COMMAND, args.data, data)
    record = train_baseline(
        args.model, args.features, data, args.out, network=args.network, seed=args.seed
    )
    record["command"] = args.made_by
    write_json(args.out / "record.json", record)
    write_card(args.out, record, data.split("PublicTest"))
    best = max(one["accuracy"] for one in record["tried"])
    print(f"best PublicTest accuracy {best:.4f}; the run is in {args.out}")
    if args.ship:
        print(f"wrote {ship(args.out)} and its card")


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", choices=MODELS, required=True)
    parser.add_argument("--features", choices=FEATURES, required=True)
    add_data_options(parser, out="the run folder to make")
    about = "a network's safetensors, for embedding"
    parser.add_argument("--network", type=Path, metavar="WEIGHTS", help=about)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--ship", action="store_true", help="also put it into weights/")


main = Command(COMMAND, __doc__, _add_options, _train_and_describe, "nothing of it is kept")


if __name__ == "__main__":
    sys.exit(main())
