"""The last layer of the box head, whose answers are moved by box voting."""

from __future__ import annotations

from typing import Any

from detectron2.config import configurable
from detectron2.modeling.roi_heads.fast_rcnn import FastRCNNOutputLayers
from detectron2.structures import Boxes
from torch import Tensor

from detection.modeling.suppression import vote


class FaceOutputLayers(FastRCNNOutputLayers):
    """Detectron2's layers for one class, faces; what NMS keeps is moved by ``suppression.vote``."""

    @configurable
    def __init__(self, *args: Any, voting: float, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.voting = voting

    @classmethod
    def from_config(cls, cfg: Any, input_shape: Any) -> dict[str, Any]:
        """Return the arguments that a configuration gives, as Detectron2's mechanism wants it."""
        return super().from_config(cfg, input_shape) | {"voting": cfg.MODEL.VOTING}

    def inference(
        self, predictions: tuple[Tensor, Tensor], proposals: list[Any]
    ) -> tuple[list[Any], list[Tensor]]:
        """As in ``FastRCNNOutputLayers``: per image instances, and which proposals they are."""
        instances, kept = super().inference(predictions, proposals)
        if self.voting > 1:
            return instances, kept
        every = self.predict_boxes(predictions, proposals)
        scores = self.predict_probs(predictions, proposals)
        for found, boxes, score in zip(instances, every, scores, strict=True):
            likely = (score[:, 0] > self.test_score_thresh) & boxes.isfinite().all(1)
            candidates = Boxes(boxes[likely])
            candidates.clip(found.image_size)
            moved = vote(found.pred_boxes.tensor, candidates.tensor, score[likely, 0], self.voting)
            found.pred_boxes = Boxes(moved)
        return instances, kept
