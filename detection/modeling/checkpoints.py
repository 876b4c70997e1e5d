"""Weights on disk: checkpoints, safetensors, and the folder that a training run leaves.

A run folder holds ``config.yaml`` (resolved), ``model.safetensors``, ``metrics.json`` and
``card.json``; it can be moved, and everything that takes a detector takes it.
"""

from __future__ import annotations

import json
import os
import pickle
import urllib.error
from pathlib import Path
from typing import Any

import torch
from detectron2.checkpoint import DetectionCheckpointer
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from detection.errors import RunError
from detection.modeling.backbone import CENTERFACE, IMAGENET, published_state

MODEL_FILE = "model.safetensors"
CONFIG_FILE = "config.yaml"
METRICS_FILE = "metrics.json"
CARD_FILE = "card.json"
BEST_FILE = "best.safetensors"


class FaceCheckpointer(DetectionCheckpointer):
    """Detectron2's checkpointer, plus safetensors, published bodies and files written whole."""

    def load(self, path: str, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Load from a file, a URL (``https://``, ``detectron2://``) or a published body.

        The light detector's are ``imagenet://mobilenet_v2`` and ``centerface://mobilenet_v2``.

        Raises:
            RunError: the file is missing, cannot be fetched, or is no checkpoint.
        """
        if path in (IMAGENET, CENTERFACE):
            self.logger.info(f"Starting from the published body {path}")
            norm = [self.model.get_buffer(name).flatten() for name in ("pixel_mean", "pixel_std")]
            state = published_state(path, *(value.cpu() for value in norm))
            self._log_incompatible_keys(self._load_model({"model": state}))
            return {}
        if path and "://" not in path and not os.path.isfile(path):
            raise RunError(f"{path}: no such file of weights (MODEL.WEIGHTS)")
        try:
            loaded: dict[str, Any] = super().load(path, *args, **kwargs)
        except (urllib.error.URLError, OSError, AssertionError) as error:
            raise RunError(
                f"{path}: these weights cannot be fetched or read ({error}). Without a network, "
                "get them elsewhere and name the file (MODEL.WEIGHTS FILE), or start from "
                'random ones (MODEL.WEIGHTS "")'
            ) from error
        except (pickle.UnpicklingError, EOFError, RuntimeError, SafetensorError) as error:
            raise RunError(f"{path}: not a checkpoint that can be read: {error}") from error
        return loaded

    def _load_file(self, filename: str) -> dict[str, Any]:
        if filename.endswith(".safetensors"):
            return {"model": load_file(filename)}
        loaded: dict[str, Any] = super()._load_file(filename)
        return loaded

    def save(self, name: str, **kwargs: Any) -> None:
        """Write ``name``.pth; an interruption leaves the old file."""
        if not self.save_dir or not self.save_to_disk:
            return
        data = {"model": self.model.state_dict()}
        data |= {key: item.state_dict() for key, item in self.checkpointables.items()}
        target = Path(self.save_dir) / f"{name}.pth"
        temporary = target.with_suffix(".tmp")
        torch.save(data | kwargs, temporary)
        os.replace(temporary, target)
        self.tag_last_checkpoint(target.name)

    def tag_last_checkpoint(self, last_filename_basename: str) -> None:
        """Note which checkpoint ``--resume`` continues from."""
        target = Path(self.save_dir) / "last_checkpoint"
        temporary = target.with_suffix(".tmp")
        temporary.write_text(last_filename_basename, encoding="utf-8")
        os.replace(temporary, target)


def save_weights(path: Path, model: nn.Module, half: bool = False) -> None:
    """Write a model's state as safetensors, whole or not at all.

    Args:
        path: the file.
        model: its ``state_dict`` is written, from wherever it lies.
        half: store kernels and matrices in fp16 (half the size); vectors stay as they are.
    """
    state = {name: _stored(value, half) for name, value in model.state_dict().items()}
    write_state(path, state)


def write_state(path: Path, state: dict[str, Tensor]) -> None:
    """Write tensors as safetensors, whole or not at all."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    save_file(state, temporary)
    os.replace(temporary, path)


def _stored(value: Tensor, half: bool) -> Tensor:
    value = value.detach().cpu()
    if half and value.is_floating_point() and value.dim() > 1:
        value = value.half()
    return value.contiguous().clone()


def load_weights(path: Path, model: nn.Module) -> None:
    """Load safetensors (or the ``model`` of a Detectron2 .pth) into a model that must fit exactly.

    Raises:
        RunError: the file is missing or damaged, or does not fit the model.
    """
    if not path.is_file():
        raise RunError(f"{path}: no such file of weights")
    try:
        if path.suffix == ".safetensors":
            state = load_file(path)
        else:
            loaded = torch.load(path, map_location="cpu", weights_only=True)
            state = loaded.get("model", loaded)
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError, OSError) as error:
        raise RunError(f"{path}: damaged, or no file of weights: {error}") from error
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        lines = str(error).splitlines()
        raise RunError(
            f"{path}: does not fit its configuration: {' '.join(lines[1:3]).strip()}"
        ) from error


def write_text(path: Path, text: str) -> None:
    """Write a text file, whole or not at all."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)


def read_card(path: Path) -> dict[str, Any]:
    """Read a card; {} where there is none.

    Raises:
        RunError: it is no JSON object.
    """
    if not path.is_file():
        return {}
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RunError(f"{path}: cannot be read: {error}") from error
    if not isinstance(card, dict):
        raise RunError(f"{path}: expected a JSON object")
    return card
