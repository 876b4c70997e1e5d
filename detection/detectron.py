"""A Detectron2 model behind the ``Detector`` protocol of ``faces.pipeline``.

>>> detector = load_run("runs/light")                       # doctest: +SKIP
>>> detector.detect([image])[0]                             # doctest: +SKIP
[Detection(box=Box(x1=…), score=0.99…), …]
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from detectron2.modeling import build_model

from detection import checkpoints
from detection.config import load_config
from detection.errors import RunError
from detection.mapper import resize_for_inference, to_tensor
from faces.pipeline import Image
from faces.types import Box, Detection

GPU_BATCH = 8
"""Pictures per forward pass on a GPU; a CPU gains nothing by more than one."""


class DetectronDetector:
    """Finds faces with a Detectron2 model; satisfies ``faces.pipeline.Detector``.

    Args:
        model: a Detectron2 detection model with one class, on its device.
        cfg: its configuration (``INPUT`` says how pictures go in).
        name: how tables and messages call it.
        score_threshold: the score from which on a detection is shown to users.
    """

    def __init__(self, model: torch.nn.Module, cfg: Any, name: str, score_threshold: float) -> None:
        self.name = name
        self.score_threshold = score_threshold
        self._model = model.eval()
        self._inputs = cfg.INPUT

    @property
    def device(self) -> torch.device:
        """Where the model runs."""
        return next(self._model.parameters()).device

    def detect(
        self, images: Sequence[Image], min_score: float | None = None
    ) -> list[list[Detection]]:
        """Find the faces of each picture.

        Args:
            images: pictures of any size from 1×1 on, each (H, W, 3) uint8 RGB.
            min_score: keep detections from this score on; None means ``score_threshold``. The model
                itself drops what is below its ``MODEL.ROI_HEADS.SCORE_THRESH_TEST``.

        Returns:
            One list per picture, in order, highest score first; boxes in pixels of the picture,
            inside it.

        Raises:
            ValueError: a picture has another shape or type.
        """
        least = self.score_threshold if min_score is None else min_score
        found: list[list[Detection]] = []
        with torch.inference_mode():
            for group in _groups(images, GPU_BATCH if self.device.type == "cuda" else 1):
                outputs = self._model([self._input(image) for image in group])
                found += [_detections(output["instances"], least) for output in outputs]
        return found

    def _input(self, image: Image) -> dict[str, Any]:
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
            raise ValueError(
                f"a picture must be (H, W, 3) uint8 RGB, got {image.shape} {image.dtype}"
            )
        height, width = image.shape[:2]
        resized = resize_for_inference(
            image, self._inputs.MIN_SIZE_TEST, self._inputs.MAX_SIZE_TEST
        )
        if self._inputs.FORMAT == "BGR":
            resized = resized[:, :, ::-1]
        return {"image": to_tensor(resized), "height": height, "width": width}


def _groups(images: Sequence[Image], size: int) -> Iterable[Sequence[Image]]:
    for start in range(0, len(images), size):
        yield images[start : start + size]


def _detections(instances: Any, least: float) -> list[Detection]:
    """Turn Detectron2's instances, clipped to the picture already, into detections."""
    boxes = instances.pred_boxes.tensor.tolist()
    found = [
        Detection(Box(x1, y1, x2, y2), min(max(score, 0.0), 1.0))
        for (x1, y1, x2, y2), score in zip(boxes, instances.scores.tolist(), strict=True)
        if score >= least and x1 < x2 and y1 < y2
    ]
    return sorted(found, key=lambda detection: -detection.score)


def load_detector(
    config: str | Path,
    weights: str | Path,
    device: str | None = None,
    name: str | None = None,
    score_threshold: float | None = None,
) -> DetectronDetector:
    """Load a detector from a configuration and a file of weights.

    Args:
        config: a resolved configuration, as training writes it.
        weights: safetensors, or a Detectron2 checkpoint; must fit the configuration exactly.
        device: such as ``cpu`` or ``cuda:0``; None takes a GPU where there is one.
        name: how the detector is called; None takes the name of the weights file.
        score_threshold: None takes the configuration's ``MODEL.SCORE_THRESHOLD``.

    Raises:
        ConfigError: the configuration cannot be used.
        RunError: the weights are missing, damaged, or of another model; or there is no such device.
    """
    cfg = load_config(config)
    cfg.MODEL.DEVICE = pick_device(device)
    cfg.MODEL.WEIGHTS = ""
    model = build_model(cfg)
    checkpoints.load_weights(Path(weights), model)
    threshold = cfg.MODEL.SCORE_THRESHOLD if score_threshold is None else score_threshold
    return DetectronDetector(model, cfg, name or Path(weights).stem, threshold)


def load_run(folder: str | Path, device: str | None = None) -> DetectronDetector:
    """Load the detector of a run folder, as ``python -m detection.train`` leaves it.

    Args:
        folder: holds ``config.yaml`` and ``model.safetensors``.
        device: see ``load_detector``.

    Raises:
        RunError: the folder is missing or no finished run of a detector.
        ConfigError: its configuration cannot be used.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise RunError(f"{folder}: no such run folder")
    config, weights = folder / checkpoints.CONFIG_FILE, folder / checkpoints.MODEL_FILE
    for file in (config, weights):
        if not file.is_file():
            hint = "the training has not ended; go on with it and --resume"
            if not (folder / "last_checkpoint").exists():
                hint = "expected a folder that python -m detection.train left"
            raise RunError(f"{folder}: no finished detector run, {file.name} is missing ({hint})")
    return load_detector(config, weights, device, folder.resolve().name)


def is_run(folder: str | Path) -> bool:
    """Return whether a folder is a finished run of a detector (and not, say, of a classifier)."""
    card = checkpoints.read_card(Path(folder) / checkpoints.CARD_FILE)
    return card.get("kind") == "detector"


def pick_device(name: str | None) -> str:
    """Return a usable device name; None means a GPU where there is one, else the CPU.

    Raises:
        RunError: the name is no device, or this machine does not have it.
    """
    if name is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise RunError(f"{name!r}: no such kind of device; try cpu or cuda") from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise RunError(f"{name}: this machine has {torch.cuda.device_count()} usable GPUs; try cpu")
    return name
