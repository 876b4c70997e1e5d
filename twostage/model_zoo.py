"""A name or a run folder → a detector or a classifier, ready to use.

``weights/models.toml`` lists the shipped models. Heavy imports happen inside, so that ``--help``
and wrong arguments answer at once.
"""

from __future__ import annotations

import importlib.util
import os
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from faces.command import UserError
from faces.files import file_sha256
from faces.pipeline import Detector, EmotionClassifier
from faces.provenance import read_card
from faces.scope import Scope
from networks.device import usable_device
from networks.torchvision_import import import_torchvision

WEIGHTS = Path(__file__).resolve().parent.parent / "weights"
"""The folder of the shipped weights, in the clone."""

DEFAULT = "default"
"""The name that stands for the best shipped model of a stage."""


@dataclass(frozen=True)
class ShippedModel:
    """A model of ``weights/``, listed in its ``models.toml``.

    Attributes:
        name: how command lines call it; its files are NAME.safetensors, NAME.json (the card) and,
            for a detector, NAME.yaml (Detectron2's config).
        about: one line for people who choose.
        weights_of: a shipped model whose weights this one uses with another config; "" is its own.
            Its card then says what differs from that model's.
        classical: a detector of another package; it has no files here.
        needs: the module of an optional package without which it cannot be loaded; "" is none.
    """

    name: str
    about: str
    weights_of: str = ""
    classical: bool = False
    needs: str = ""

    @property
    def weights(self) -> Path:
        """The safetensors file."""
        return WEIGHTS / f"{self.weights_of or self.name}.safetensors"

    @property
    def config(self) -> Path:
        """A detector's Detectron2 config."""
        return WEIGHTS / f"{self.name}.yaml"

    @property
    def missing(self) -> str:
        """Why it cannot be loaded here, and the way out; "" if it can."""
        if not self.needs or importlib.util.find_spec(self.needs):
            return ""
        return f"its package {self.needs} is not installed; run `make {self.name}`"

    def card(self) -> dict[str, Any]:
        """Read the model card: data, training, figures, licence, limits, sha256 of the weights.

        Raises:
            UserError: it cannot be read.
        """
        names = dict.fromkeys((self.weights_of or self.name, self.name))
        cards = [read_card(WEIGHTS / f"{name}.json") for name in names]
        return {key: value for card in cards for key, value in card.items()}


@cache
def shipped_models(stage: str) -> dict[str, ShippedModel]:
    """Return the shipped models of a stage (``detector``, ``classifier``), the default first."""
    table: dict[str, Any] = tomllib.loads((WEIGHTS / "models.toml").read_text(encoding="utf-8"))
    return {name: ShippedModel(name, **entry) for name, entry in table[stage].items()}


def load_detector(
    name_or_run: str | os.PathLike[str],
    device: str | None = None,
    overrides: Sequence[str] = (),
    scope: Scope = Scope(),  # noqa: B008  (frozen)
) -> Detector:
    """Load stage 1.

    Args:
        name_or_run: a listed detector (``default`` is the first), or a folder that
            ``detection.train`` left.
        device: ``cpu``, ``cuda``, ``cuda:1``; None takes a GPU if there is one.
        overrides: key, value, key, value, … of a Detectron2 model's configuration.
        scope: how closely a Detectron2 model looks; others' detectors have ways of their own.

    Raises:
        UserError: there is no such model, its files are damaged, or the device is missing.
    """
    model = _find("detector", os.fspath(name_or_run))
    import_torchvision()
    target = usable_device(device)
    if isinstance(model, ShippedModel) and model.classical:
        from detection.inference.classical import CLASSICAL

        return CLASSICAL[model.name](target)
    from detection import check_detectron2

    check_detectron2()
    from detection.inference import detectron

    if isinstance(model, Path):
        return detectron.load_run(model, target, overrides, scope)
    return detectron.load_detector(
        model.config, model.weights, target, model.name, overrides=overrides, scope=scope
    )


def load_classifier(
    name_or_run: str | os.PathLike[str], device: str | None = None
) -> EmotionClassifier:
    """Load stage 2.

    Args:
        name_or_run: a shipped classifier (``default`` is the first), or a folder that
            ``classification.train`` or ``baselines.train`` left; several joined by ``+`` are an
            ensemble.
        device: ``cpu``, ``cuda``, ``cuda:1``; None takes a GPU if there is one.

    Raises:
        UserError: there is no such model, its files are damaged, or the device is missing.
    """
    name_or_run = os.fspath(name_or_run)
    if "+" in name_or_run and not Path(name_or_run).is_dir():
        from classification.inference.ensemble import Ensemble

        return Ensemble([load_classifier(name, device) for name in name_or_run.split("+")])
    model = _find("classifier", name_or_run)
    import_torchvision()
    import torch

    from baselines.classifier import is_baseline, load_baseline
    from classification.inference.classifier import NetworkClassifier

    target = torch.device(usable_device(device))
    path = model / "model.safetensors" if isinstance(model, Path) else model.weights
    if not path.is_file():
        raise UserError(
            f"{path.parent}: no run of classification.train or baselines.train, {path.name} is "
            "missing (was the first epoch finished?); give the folder that its --out named, or a "
            "shipped classifier"
        )
    if is_baseline(path):
        return load_baseline(path, model.name)
    return NetworkClassifier.load(path, target, model.name)


def classifier_facts(name_or_run: str) -> dict[str, Any]:
    """Return what a record says of a classifier beside its metrics.

    Args:
        name_or_run: as in ``load_classifier``.

    Returns:
        ``weights_sha256``: model → sha256 of its weights file, and of the network whose embedding
        it takes as input; ``weights_bytes``; and, None where a card does not say: ``parameters``,
        ``training_hours``, ``training_command``, ``history`` (one object per epoch). For an
        ensemble the sums, without command and history.

    Raises:
        UserError: there is no such classifier.
    """
    if "+" in name_or_run and not Path(name_or_run).is_dir():
        members = [classifier_facts(name) for name in name_or_run.split("+")]
        sums: dict[str, Any] = {"training_command": None, "history": None}
        for key in ("weights_bytes", "parameters", "training_hours"):
            values = [member[key] for member in members]
            sums[key] = None if None in values else sum(values)
        hashes = {k: v for member in members for k, v in member["weights_sha256"].items()}
        return {"weights_sha256": hashes, **sums}
    model = _find("classifier", name_or_run)
    if isinstance(model, ShippedModel):
        weights, card = model.weights, model.card()
    else:
        weights, path = model / "model.safetensors", model / "card.json"
        card = read_card(path) if path.is_file() else {}
    training = card.get("training", {})
    hashes = {model.name: file_sha256(weights)}
    if training.get("network_sha256"):
        hashes[training["network"]] = training["network_sha256"]
    return {
        "weights_sha256": hashes,
        "weights_bytes": weights.stat().st_size,
        "parameters": training.get("parameters"),
        "training_hours": training.get("hours"),
        "training_command": training.get("command"),
        "history": training.get("history"),
    }


def fingerprint(stage: str, name_or_run: str) -> dict[str, str]:
    """Return what tells a model from others: the names of its files → their sha256.

    Args:
        stage: ``detector`` or ``classifier``.
        name_or_run: as in ``load_detector`` and ``load_classifier``.

    Returns:
        NAME.EXTENSION → sha256; a detector of another package has no files, and "" in its place.

    Raises:
        UserError: there is no such model.
    """
    if stage == "classifier" and "+" in name_or_run and not Path(name_or_run).is_dir():
        members = [fingerprint(stage, name) for name in name_or_run.split("+")]
        return {file: sha256 for member in members for file, sha256 in member.items()}
    model = _find(stage, name_or_run)
    if isinstance(model, Path):
        files = [path for path in model.iterdir() if path.suffix in (".safetensors", ".yaml")]
        return {f"{model.name}/{path.name}": file_sha256(path) for path in sorted(files)}
    if model.classical:
        return {model.name: ""}
    found = {model.name: file_sha256(model.weights)}
    if model.config.is_file():
        found[model.config.name] = file_sha256(model.config)
    return found


def _find(stage: str, name_or_run: str) -> ShippedModel | Path:
    models = shipped_models(stage)
    if name_or_run == DEFAULT:
        name_or_run = next(iter(models))
    if name_or_run in models:
        model = models[name_or_run]
        if not model.classical:
            _verify(model)
        return model
    folder = Path(name_or_run)
    if folder.is_dir():
        return folder.resolve()
    if stage == "classifier":
        if command := _training_command(folder.name):
            raise UserError(
                f"classifier {name_or_run!r}: is not shipped; make it: {command}; then give "
                f"runs/{folder.name}"
            )
    raise UserError(
        f"{stage} {name_or_run!r}: neither a shipped one ({', '.join((DEFAULT, *models))}) nor the "
        "folder of a training run"
    )


def _training_command(name: str) -> str | None:
    from baselines.classifier import command_for

    recipe = f"classification/recipes/{name}.toml"
    if (WEIGHTS.parent / recipe).is_file():
        return (
            f"python -m classification.train --recipe {recipe} --data fer2013.zip --out runs/{name}"
        )
    return command_for(name)


def _verify(model: ShippedModel) -> None:
    restore = "restore it: git checkout -- weights"
    if not model.weights.is_file():
        raise UserError(f"{model.weights}: the shipped weights are missing; {restore}")
    found = file_sha256(model.weights)
    expected = model.card()["sha256"]
    if found != expected:
        raise UserError(
            f"{model.weights}: is damaged or changed (sha256 {found[:12]}…, its card says "
            f"{expected[:12]}…); {restore}"
        )
