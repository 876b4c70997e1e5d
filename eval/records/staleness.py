"""Which shipped files a record was measured with, so that it is known when it is out of date."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from typing import Any

from faces.files import file_sha256
from twostage.model_zoo import DEFAULT, ShippedModel, shipped_models

STAGES = ("detector", "classifier")


def shipped_weights(run: Mapping[str, Any]) -> dict[str, str]:
    """Return the shipped models that a run names → the sha256 of their present weights file.

    A detector's configuration, which holds its threshold and its test size, counts too: NAME.yaml.
    Models are named by the command's ``--detector`` and ``--classifier`` and by these keys of the
    run; members of an ensemble are ``+`` apart. Run folders and others' models have no part.
    """
    found: dict[str, str] = {}
    for stage in STAGES:
        models = shipped_models(stage)
        for name in _names(run, stage):
            model = models.get(next(iter(models)) if name == DEFAULT else name)
            if model is not None and not model.classical:
                found |= _hashes(model)
    return found


def _hashes(model: ShippedModel) -> dict[str, str]:
    """Return the sha256 of a model's weights, by its name, and of its configuration's files."""
    names = dict.fromkeys((model.weights_of or model.name, model.name))
    configs = [model.config.with_name(f"{name}.yaml") for name in names]
    files = {model.name: model.weights} | {one.name: one for one in configs if one.exists()}
    return {name: file_sha256(file) for name, file in files.items()}


def _names(run: Mapping[str, Any], stage: str) -> Iterator[str]:
    option = ""
    for word in [*shlex.split(run.get("command", "")), f"--{stage}", str(run.get(stage))]:
        if word.startswith("--"):
            option = word
        elif option == f"--{stage}":
            yield from word.split("+")


def present_hashes() -> dict[str, str]:
    """Return the sha256 of each shipped model's files, as ``shipped_weights`` names them."""
    models = [model for stage in STAGES for model in shipped_models(stage).values()]
    return {k: v for m in models if not m.classical for k, v in _hashes(m).items()}
