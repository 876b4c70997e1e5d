"""Weights on disk: checkpoints, safetensors, and the folder that a training run leaves.

A run folder holds ``config.yaml`` (resolved), ``model.safetensors``, ``metrics.json`` and
``card.json``; it can be moved, and everything that takes a detector takes it. Nothing that is read
here can run code, whoever made the file.
"""

from __future__ import annotations

import os
import pickle
import urllib.error
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path, PureWindowsPath
from typing import Any, ClassVar, cast

import numpy as np
import torch
from detectron2.checkpoint import DetectionCheckpointer
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from detection.modeling.backbone import CENTERFACE, IMAGENET, published_state
from faces import provenance
from faces.command import UserError
from faces.files import regular_file, replacing, write_text

MODEL_FILE = "model.safetensors"
CONFIG_FILE = "config.yaml"
METRICS_FILE = "metrics.json"
CARD_FILE = "card.json"
BEST_FILE = "best.safetensors"
LAST_FILE = "last_checkpoint"

_BROKEN = (
    *(pickle.UnpicklingError, SafetensorError, EOFError, RuntimeError, ValueError, TypeError),
    *(KeyError, IndexError, AttributeError, ImportError, MemoryError, RecursionError),
)
"""What readers of pickles and safetensors raise on files that are damaged, or none."""


class FaceCheckpointer(DetectionCheckpointer):
    """Detectron2's checkpointer, plus safetensors and published bodies, and files written whole."""

    def load(self, path: str, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Load from a file, a URL (``https://``, ``detectron2://``) or a published body.

        The light detector's are ``imagenet://mobilenet_v2`` and ``centerface://mobilenet_v2``. A
        ``UserError`` says that the file is missing, cannot be fetched, or is no checkpoint.
        """
        if path in (IMAGENET, CENTERFACE):
            self.logger.info(f"Starting from the published body {path}")
            norm = [self.model.get_buffer(name).flatten() for name in ("pixel_mean", "pixel_std")]
            state = published_state(path, *(value.cpu() for value in norm))
            self._log_incompatible_keys(self._load_model({"model": state}))
            return {}
        if path and "://" not in path and not os.path.isfile(path):
            raise UserError(f"{path}: no such file of weights (MODEL.WEIGHTS)")
        try:
            return super().load(path, *args, **kwargs)
        except (urllib.error.URLError, OSError, AssertionError) as error:
            raise UserError(
                f"{path}: these weights cannot be fetched or read ({error}). Without a network, "
                "get them elsewhere and name the file (MODEL.WEIGHTS FILE), or start from "
                'random ones (MODEL.WEIGHTS "")'
            ) from error
        except UserError:
            raise
        except _BROKEN as error:
            raise UserError(
                f"{path}: not a checkpoint that can be read: {_cause(error)}"
            ) from error

    def _load_file(self, filename: str) -> dict[str, Any]:
        """Read a file of any kind that Detectron2 knows, without running code from it."""
        loaded = read_state(Path(filename))
        if filename.endswith(".pkl") and not {"model", "__author__"} <= loaded.keys():
            # Caffe2's or Detectron1's model zoo: Detectron2 renames the weights by heuristics
            blobs = loaded.get("blobs", loaded)
            blobs = {name: v for name, v in blobs.items() if not name.endswith("_momentum")}
            loaded = {"model": blobs, "__author__": "Caffe2", "matching_heuristics": True}
        elif "model" not in loaded:
            loaded = {"model": loaded}
        check_finite(Path(filename), loaded["model"])
        return loaded

    def _log_incompatible_keys(self, incompatible: Any) -> None:
        """Say which weights were not loaded; a ``ValueError`` if none was."""
        if {name for name, _ in self.model.named_parameters()} <= set(incompatible.missing_keys):
            raise ValueError("none of its weights is of this network")
        super()._log_incompatible_keys(incompatible)

    def has_checkpoint(self) -> bool:
        """Return whether there is a checkpoint to go on from."""
        return (Path(self.save_dir) / LAST_FILE).is_file()

    def get_checkpoint_file(self) -> str:
        """Return the path of the last checkpoint, which must lie in the folder itself."""
        note = Path(self.save_dir) / LAST_FILE
        with regular_file(note).open(encoding="utf-8", errors="replace") as file:
            name = file.read(300).strip()
        plain = name and name == PureWindowsPath(name).name and name.isprintable()
        if not plain or not name.endswith(".pth") or (note.parent / name).is_symlink():
            raise UserError(
                f"{note}: names {name!r}, which is no checkpoint of this folder; write the name of "
                "its latest .pth file into it"
            )
        return str(note.parent / name)

    def save(self, name: str, **kwargs: Any) -> None:
        """Write ``name``.pth whole or not at all, then note it as the last checkpoint."""
        if not self.save_dir or not self.save_to_disk:
            return
        data = {"model": self.model.state_dict()}
        data |= {key: item.state_dict() for key, item in self.checkpointables.items()}
        target = Path(self.save_dir) / f"{name}.pth"
        with replacing(target) as part:
            torch.save(data | kwargs, part)
        self.tag_last_checkpoint(target.name)

    def tag_last_checkpoint(self, last_filename_basename: str) -> None:
        """Note which checkpoint ``--resume`` continues from."""
        write_text(Path(self.save_dir) / LAST_FILE, last_filename_basename)


def read_state(path: Path) -> dict[str, Any]:
    """Read a file of weights, by its ending: .safetensors, .pkl (the model zoo's), else PyTorch's.

    Raises:
        UserError: it holds anything but tensors, arrays and plain containers, or no dict.
        Exception: one of ``_BROKEN``, if it is damaged; an ``OSError``, if it cannot be read.
    """
    loaded: Any
    regular_file(path)
    if path.suffix == ".safetensors":
        loaded = {"model": load_file(path)}
    elif path.suffix == ".pkl":
        with path.open("rb") as file:
            loaded = _ArrayUnpickler(file, encoding="latin1").load()
    else:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
        if isinstance(loaded, dict) and path.suffix == ".pyth" and "model_state" in loaded:
            loaded = {"model": loaded["model_state"], "__author__": "pycls"}
            loaded["matching_heuristics"] = True
    if not isinstance(loaded, dict) or not isinstance(loaded.get("model", loaded), dict):
        raise UserError(f"{path}: holds no weights by name")
    return loaded


def _latin1(text: str, encoding: str) -> bytes:
    """Stand in for ``_codecs.encode``, by which Python 3 puts bytes into pickles of Python 2."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"bytes encoded as {encoding!r}")
    return text.encode("latin1")


class _ArrayUnpickler(pickle.Unpickler):
    """Reads arrays, numbers, text and plain containers; refuses whatever else a pickle names."""

    _KNOWN: ClassVar[dict[tuple[str, str], Callable[..., Any]]] = {
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): np.dtype,
        ("collections", "OrderedDict"): OrderedDict,
        ("_codecs", "encode"): _latin1,
    }
    for _core in ("numpy.core.multiarray", "numpy._core.multiarray"):
        _KNOWN[_core, "_reconstruct"] = cast(Any, np.zeros(0).__reduce__()[0])
        _KNOWN[_core, "scalar"] = cast(Any, np.float32(0).__reduce__()[0])

    def find_class(self, module_name: str, global_name: str) -> Any:
        if (module_name, global_name) not in self._KNOWN:
            raise pickle.UnpicklingError(
                f"it names {module_name}.{global_name}; only arrays and plain containers are read"
            )
        return self._KNOWN[module_name, global_name]


def check_finite(path: Path, state: Mapping[str, Any]) -> None:
    """Raise a ``UserError`` unless every weight is a tensor or array of finite numbers."""
    for name, value in state.items():
        if not isinstance(value, Tensor) and not (
            isinstance(value, np.ndarray) and value.dtype.kind in "biuf"
        ):
            raise UserError(f"{path}: {str(name)[:100]!r} is no array of numbers")
        if not torch.as_tensor(value).isfinite().all():
            raise UserError(f"{path}: {name} holds numbers that are not finite; get the file again")


def save_weights(path: Path, model: nn.Module, half: bool = False) -> None:
    """Write a model's state as safetensors, whole or not at all.

    With ``half``, kernels and matrices are stored in fp16 (half the size); vectors stay as they
    are.
    """
    state = {name: _stored(value, half) for name, value in model.state_dict().items()}
    write_state(path, state)


def write_state(path: Path, state: dict[str, Tensor]) -> None:
    """Write tensors as safetensors, whole or not at all."""
    with replacing(path) as part:
        save_file(state, part)


def _stored(value: Tensor, half: bool) -> Tensor:
    value = value.detach().cpu()
    if half and value.is_floating_point() and value.dim() > 1:
        value = value.half()
    return value.contiguous().clone()


def load_weights(path: Path, model: nn.Module) -> None:
    """Load safetensors (or the ``model`` of a Detectron2 .pth) into a model that must fit exactly.

    Raises:
        UserError: the file is missing or damaged, does not fit the model, or holds weights that are
            not finite.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file of weights")
    try:
        loaded = read_state(path)
    except UserError:
        raise
    except (*_BROKEN, OSError) as error:
        raise UserError(f"{path}: damaged, or no file of weights: {_cause(error)}") from error
    state = loaded.get("model", loaded)
    check_finite(path, state)
    try:
        model.load_state_dict({name: torch.as_tensor(value) for name, value in state.items()})
    except (RuntimeError, TypeError) as error:
        lines = str(error).splitlines()
        raise UserError(
            f"{path}: does not fit its configuration: {' '.join(lines[1:3]).strip()}"
        ) from error


def _cause(error: BaseException) -> str:
    """Return in short what PyTorch and others say in paragraphs."""
    text = str(error).strip() or type(error).__name__
    if text.startswith("Weights only load failed"):  # and advice to load it without care
        return "it is damaged, or holds more than tensors and plain containers"
    return text.splitlines()[0][:200]


def finished_card(folder: Path) -> dict[str, Any]:
    """Return the card of a detector's run folder, or raise a ``UserError`` if it has none."""
    card = read_card(folder / CARD_FILE)
    if card.get("kind") != "detector":
        raise UserError(f"{folder}: no finished run of detection.train")
    return card


def read_card(path: Path) -> dict[str, Any]:
    """Read a card; {} where there is none."""
    return provenance.read_card(path) if path.is_file() else {}
