"""Regions that training neither rewards nor punishes, for Detectron2's RPN and box head.

Detectron2 drops crowd annotations in training, so that what lies there counts as background. Faces
that are too small, too blurred or cut off by the crop would then be learned as "not a face". Here
such boxes travel with the instances under the class ``IGNORE`` and the two sampling steps leave out
what lies on them.
"""

from __future__ import annotations

from typing import Any

import torch
from detectron2.modeling import PROPOSAL_GENERATOR_REGISTRY, ROI_HEADS_REGISTRY, StandardROIHeads
from detectron2.modeling.proposal_generator import RPN
from detectron2.structures import Boxes
from detectron2.structures.boxes import pairwise_intersection
from torch import Tensor

from detection.modeling.box_head import FaceOutputLayers

IGNORE = -1
"""The value in ``gt_classes`` of a region to ignore."""

OVERLAP = 0.5
"""A box lies on ignored regions when this share of its area is inside one of them."""


def split_ignored(instances: Any) -> tuple[Any, Boxes]:
    """Split instances (``gt_boxes``, ``gt_classes``) into real ones and ignored boxes."""
    ignored = instances.gt_classes == IGNORE
    return instances[~ignored], instances.gt_boxes[ignored]


def lies_on(boxes: Boxes, ignored: Boxes) -> Tensor:
    """Return, (N,) bool, which of N boxes have at least ``OVERLAP`` of their area in a region."""
    if len(ignored) == 0 or len(boxes) == 0:
        return torch.zeros(len(boxes), dtype=torch.bool, device=boxes.device)
    inside = pairwise_intersection(ignored, boxes) / boxes.area().clamp(min=1e-6)
    return inside.max(dim=0).values >= OVERLAP


@PROPOSAL_GENERATOR_REGISTRY.register()
class FaceRPN(RPN):
    """Detectron2's RPN; anchors on ignored regions are no negatives."""

    @torch.no_grad()
    def label_and_sample_anchors(
        self, anchors: list[Boxes], gt_instances: list[Any]
    ) -> tuple[list[Tensor], list[Tensor]]:
        """As in ``RPN``: per image labels in {-1, 0, 1} and matched boxes."""
        real, ignored = zip(*(split_ignored(instances) for instances in gt_instances), strict=True)
        labels, matched = super().label_and_sample_anchors(anchors, list(real))
        every = Boxes.cat(anchors)
        for label, regions in zip(labels, ignored, strict=True):
            negative = torch.nonzero(label == 0).squeeze(1)
            label[negative[lies_on(every[negative], regions)]] = -1
        return labels, matched


@ROI_HEADS_REGISTRY.register()
class FaceROIHeads(StandardROIHeads):
    """Detectron2's standard heads; proposals on ignored regions are not sampled.

    The predictor is ``FaceOutputLayers``.
    """

    @classmethod
    def _init_box_head(cls, cfg: Any, input_shape: Any) -> dict[str, Any]:
        parts: dict[str, Any] = super()._init_box_head(cfg, input_shape)
        plain = parts["box_predictor"]
        with torch.random.fork_rng(devices=[]):  # a seed gives the training that it gave before
            predictor = FaceOutputLayers(cfg, parts["box_head"].output_shape)
        predictor.load_state_dict(plain.state_dict())
        return parts | {"box_predictor": predictor}

    @torch.no_grad()
    def label_and_sample_proposals(self, proposals: list[Any], targets: list[Any]) -> list[Any]:
        """As ``ROIHeads.label_and_sample_proposals``, without the proposals on ignored regions."""
        real, kept = [], []
        for proposal, target in zip(proposals, targets, strict=True):
            instances, regions = split_ignored(target)
            real.append(instances)
            kept.append(proposal[~lies_on(proposal.proposal_boxes, regions)])
        return super().label_and_sample_proposals(kept, real)
