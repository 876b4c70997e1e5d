"""A Detectron2 model behind the ``Detector`` protocol of ``faces.pipeline``.

>>> detector = load_run("runs/light")                       # doctest: +SKIP
>>> detector.detect([image])[0]                             # doctest: +SKIP
[Detection(box=Box(x1=…), score=0.99…), …]
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from detection.data.mapper import to_tensor
from detection.inference import pyramid
from detection.inference.compiled import CompiledRCNN, compilable
from detection.modeling import checkpoints
from detection.modeling.config import build_network, load_config
from detection.modeling.suppression import contained
from faces.boxes import iou_matrix
from faces.command import UserError
from faces.pipeline import Image, Merged
from faces.scope import Scope
from faces.types import Box, Detection
from networks.device import usable_device
from networks.precision import cpu_has_bf16, use_bf16

FloatArray = NDArray[np.float32]

GPU_BATCH = 8
"""Pictures per forward pass on a GPU; a CPU gains little by more than one."""

ALL_BOXES = 1 << 30
"""More boxes than any picture has."""

NO_VOTING = 1.1
"""No two boxes overlap this much."""


class DetectronDetector:
    """Finds faces with a Detectron2 model; satisfies ``faces.pipeline.Detector``.

    On a CPU the light model is compiled (``inference.compiled``) with the weights that it has now.
    Images of any size are looked at as ``inference.pyramid`` says.

    Args:
        model: a Detectron2 detection model with one class, on its device.
        cfg: its configuration (``INPUT`` says how images go in).
        name: how tables and messages call it.
        score_threshold: the score from which on a detection is shown to users.

    Attributes:
        most_detections: how many boxes the model reports per look, at most.
        test_sizes: shorter side that a whole image is scaled to, and limit of the longer one, in
            pixels.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        cfg: Any,
        name: str,
        score_threshold: float,
        scope: Scope = Scope(),  # noqa: B008  (frozen)
    ) -> None:
        self.name = name
        self.score_threshold = score_threshold
        self.scope = scope
        self._model = model.eval()
        self._compiled = CompiledRCNN(model, cfg) if compilable(model, cfg) else None
        self._bgr: bool = cfg.INPUT.FORMAT == "BGR"
        self.test_sizes: tuple[int, int] = (cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST)
        self.most_detections: int = cfg.TEST.DETECTIONS_PER_IMAGE
        self._containment: float = cfg.MODEL.CONTAINMENT
        self._lock = threading.Lock()

    @property
    def device(self) -> torch.device:
        """Where the model runs."""
        return next(self._model.parameters()).device

    def with_scope(self, scope: Scope) -> DetectronDetector:
        """Return the same detector, its network and lock shared, with another scope."""
        other = copy.copy(self)
        other.scope = scope
        return other

    def smallest_face(self, width: int, height: int) -> float:
        """Return the shorter side of the smallest faces that it can see in an image, in pixels."""
        return pyramid.smallest_face(self._scales(width, height))

    @property
    def dtype(self) -> torch.dtype:
        """The precision of the convolutions."""
        modes = {getattr(module, "bf16", "off") for module in self._model.modules()}
        mixed = any(use_bf16(mode, self.device) for mode in modes)
        mixed = mixed and (self._compiled is None or cpu_has_bf16())  # OpenVINO cannot emulate it
        return torch.bfloat16 if mixed else torch.float32

    def detect(
        self, images: Sequence[Image], min_score: float | None = None
    ) -> list[list[Detection]]:
        """Find the faces of each image.

        Args:
            images: images of any size from 1×1 on, each (H, W, 3) uint8 RGB.
            min_score: keep detections from this score on; None means ``score_threshold``. The model
                itself drops what is below its ``MODEL.ROI_HEADS.SCORE_THRESH_TEST``.

        Returns:
            One list per image, in order, highest score first; boxes in pixels of the image, inside
            it.

        Raises:
            ValueError: an image has another shape or type.
        """
        minimum = self.score_threshold if min_score is None else min_score
        with self._lock:
            return [
                _detections(boxes, scores, _shown(boxes, scores, minimum, self._containment))
                for boxes, scores in self._find(images)
            ]

    def explain(
        self, image: Image, min_score: float | None = None
    ) -> tuple[list[Detection], list[Merged]]:
        """Find the faces of an image, and the boxes that were dropped as further ones of these.

        The latter are what NMS and containment dropped, best first, each said to be merged into the
        detection that it overlaps most. ``min_score`` holds for both lists; see ``detect``.
        """
        minimum = self.score_threshold if min_score is None else min_score
        faces = self.detect([image], minimum)[0]
        with self._lock, self._unmerged():
            ((boxes, scores),) = self._find([image], merge=False)
        likely = _shown(boxes, scores, minimum, containment=np.inf)
        if not len(likely) or not faces:
            return faces, []
        overlaps = iou_matrix(boxes[likely], [face.box.as_tuple() for face in faces])

        # Of the boxes on a face, the one with the face's own score is what became it.
        own = np.zeros(len(likely), bool)
        for index, face in enumerate(faces):
            same = np.where(scores[likely] == np.float32(face.score), overlaps[:, index], 0.0)
            own[same.argmax()] |= same.max() > 0
        own |= overlaps.max(1) == 0
        merged = _detections(boxes, scores, likely[~own])
        return faces, list(map(Merged, merged, overlaps[~own].argmax(1).tolist()))

    @contextmanager
    def _unmerged(self) -> Iterator[None]:
        """Let the model report all its boxes."""
        heads: Any = self._model.roi_heads
        layers = heads.box_predictor
        kept = layers.test_nms_thresh, layers.test_topk_per_image, layers.voting
        layers.test_nms_thresh, layers.test_topk_per_image, layers.voting = (
            1.0,
            ALL_BOXES,
            NO_VOTING,
        )
        try:
            yield
        finally:
            layers.test_nms_thresh, layers.test_topk_per_image, layers.voting = kept

    def _scales(self, width: int, height: int) -> tuple[float, ...]:
        return pyramid.scales(width, height, self.test_sizes, self.scope)

    def _find(
        self, images: Sequence[Image], merge: bool = True
    ) -> Iterator[tuple[FloatArray, FloatArray]]:
        """Yield boxes (N, 4) in pixels of the image, inside it, and scores (N,) of each image."""
        batch = GPU_BATCH if self.device.type == "cuda" else 1
        for image in images:
            if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
                raise ValueError(
                    f"an image must be (H, W, 3) uint8 RGB, got {image.shape} {image.dtype}"
                )
            used = self._scales(image.shape[1], image.shape[0])
            boxes, scores = pyramid.find(
                image, used, self._look, self.scope, self.score_threshold, batch, merge
            )
            yield np.clip(boxes, 0, [image.shape[1], image.shape[0]] * 2), scores

    def _look(self, views: Sequence[Image]) -> list[tuple[FloatArray, FloatArray]]:
        """Find faces in images of the size that the network takes, in their pixels."""
        inputs = [view[:, :, ::-1] if self._bgr else view for view in views]
        if self._compiled is not None:
            return [
                (boxes.numpy(), scores.numpy()) for boxes, scores in map(self._compiled, inputs)
            ]
        with torch.inference_mode():
            outputs = self._model([{"image": to_tensor(view)} for view in inputs])
        found = (output["instances"] for output in outputs)
        return [(f.pred_boxes.tensor.numpy(force=True), f.scores.numpy(force=True)) for f in found]


def _shown(
    boxes: FloatArray, scores: FloatArray, least: float, containment: float
) -> NDArray[np.intp]:
    """Return which boxes, clipped to the picture already, are detections; best first."""
    order = np.argsort(-scores, kind="stable")
    order = order[(scores[order] >= least) & (boxes[order, :2] < boxes[order, 2:]).all(axis=1)]
    return order[~contained(boxes[order], containment)]


def _detections(boxes: FloatArray, scores: FloatArray, which: NDArray[np.intp]) -> list[Detection]:
    return [
        Detection(Box(*box), min(max(score, 0.0), 1.0))
        for box, score in zip(boxes[which].tolist(), scores[which].tolist(), strict=True)
    ]


def load_detector(
    config: str | Path,
    weights: str | Path,
    device: str | None = None,
    name: str | None = None,
    score_threshold: float | None = None,
    overrides: Sequence[str] = (),
    resolved: bool = False,
    scope: Scope = Scope(),  # noqa: B008  (frozen)
) -> DetectronDetector:
    """Load a detector from a configuration and a file of weights.

    Args:
        config: a resolved configuration, as training writes it.
        weights: safetensors, or a Detectron2 checkpoint; must fit the configuration exactly.
        device: such as ``cpu`` or ``cuda:0``; None takes a GPU where there is one.
        name: how the detector is called; None takes the name of the weights file.
        score_threshold: None takes the configuration's ``MODEL.SCORE_THRESHOLD``.
        overrides: key, value, key, value, … of the configuration.
        resolved: see ``load_config``.

    Raises:
        UserError: the configuration cannot be used; the weights are missing, damaged, or of another
            model; or there is no such device.
    """
    cfg = load_config(config, overrides, resolved)
    cfg.MODEL.DEVICE = usable_device(device)
    cfg.MODEL.WEIGHTS = ""
    if cfg.MODEL.ROI_HEADS.NAME == "StandardROIHeads":  # the same parts, without voting
        cfg.MODEL.ROI_HEADS.NAME = "FaceROIHeads"
    model = build_network(cfg)
    checkpoints.load_weights(Path(weights), model)
    threshold = cfg.MODEL.SCORE_THRESHOLD if score_threshold is None else score_threshold
    return DetectronDetector(model, cfg, name or Path(weights).stem, threshold, scope)


def load_run(
    folder: str | Path,
    device: str | None = None,
    overrides: Sequence[str] = (),
    scope: Scope = Scope(),  # noqa: B008  (frozen)
) -> DetectronDetector:
    """Load the detector of a run folder, as ``python -m detection.train`` leaves it.

    The folder holds ``config.yaml`` and ``model.safetensors``; else a ``UserError`` says so. For
    the arguments, see ``load_detector``.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"{folder}: no such run folder")
    config, weights = folder / checkpoints.CONFIG_FILE, folder / checkpoints.MODEL_FILE
    for file in (config, weights):
        if not file.is_file():
            hint = "the training has not ended; go on with it and --resume"
            if not (folder / checkpoints.LAST_FILE).exists():
                hint = "expected a folder that python -m detection.train left"
            raise UserError(f"{folder}: no finished detector run, {file.name} is missing ({hint})")
    name = folder.resolve().name
    return load_detector(
        config, weights, device, name, overrides=overrides, resolved=True, scope=scope
    )
