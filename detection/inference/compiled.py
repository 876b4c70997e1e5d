"""The light detector without PyTorch's convolutions: two OpenVINO graphs, and what lies between.

It finds what ``GeneralizedRCNN.inference`` of Detectron2 finds with the same model, but for
rounding, in a third of the time.
"""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import torch
from detectron2.layers import batched_nms, nms
from detectron2.modeling import GeneralizedRCNN
from detectron2.modeling.poolers import assign_boxes_to_levels
from detectron2.structures import Boxes
from numpy.typing import NDArray
from torch import Tensor, nn

from detection.inference import openvino_graphs
from detection.modeling.roi_align import roi_align
from detection.modeling.suppression import vote
from networks.openvino import CompiledGraph
from networks.precision import use_bf16

MIN_OBJECTNESS = -3.0
"""Boxes to which the RPN gives a lower logit are not looked at. On validation data that moves AP by
less than 0.1 points; most images then have far fewer proposals than the configuration allows."""

STRIDE = 32
"""The sides of the network's input are multiples of this."""


def compilable(model: nn.Module, cfg: Any) -> bool:
    """Return whether a model is the light detector, on the CPU, with the parts built here."""
    parts = cfg.MODEL
    return bool(
        isinstance(model, GeneralizedRCNN)
        and model.device.type == "cpu"
        and parts.BACKBONE.NAME == "build_mobilenet_v2_fpn_backbone"
        and parts.FPN.IN_FEATURES == ["c2", "c3", "c4", "c5"]
        and (parts.FPN.NORM, parts.FPN.FUSE_TYPE) == ("", "sum")
        and parts.RPN.HEAD_NAME == "MixedPrecisionRPNHead"
        and parts.RPN.CONV_DIMS == [-1]
        and parts.RPN.IN_FEATURES == ["p2", "p3", "p4", "p5", "p6"]
        and parts.ROI_HEADS.NAME == "FaceROIHeads"
        and parts.ROI_HEADS.IN_FEATURES == ["p2", "p3", "p4", "p5"]
        and parts.ROI_HEADS.NUM_CLASSES == 1
        and parts.ROI_BOX_HEAD.NAME == "FastRCNNConvFCHead"
        and (parts.ROI_BOX_HEAD.NUM_CONV, parts.ROI_BOX_HEAD.NORM) == (0, "")
        and parts.ROI_BOX_HEAD.NUM_FC > 0
        and parts.ROI_BOX_HEAD.POOLER_TYPE == "ROIAlignV2"
        and parts.ROI_BOX_HEAD.POOLER_SAMPLING_RATIO > 0
    )


class CompiledRCNN:
    """Finds faces as a Detectron2 model does; safe to call in threads.

    The model is the light detector, whose weights are copied, and ``compilable``.
    """

    def __init__(self, model: Any, cfg: Any) -> None:
        bf16 = use_bf16(cfg.MODEL.BF16, torch.device("cpu"))
        threads = torch.get_num_threads()
        self._trunk = CompiledGraph(openvino_graphs.trunk(model), bf16=bf16, threads=threads)
        self._box_head = CompiledGraph(openvino_graphs.box_head(model), bf16=bf16, threads=threads)
        self._proposals = model.proposal_generator
        self._pooler = model.roi_heads.box_pooler
        self._predictor = model.roi_heads.box_predictor
        self._padding = np.array(cfg.MODEL.PIXEL_MEAN).round().astype(np.uint8)
        self._lock = threading.Lock()

    @torch.inference_mode()
    def __call__(self, image: NDArray[np.uint8]) -> tuple[Tensor, Tensor]:
        """Find the faces of one image, (H, W, 3) uint8, of the network's size and colour order.

        Returns boxes, (N, 4) as (x1, y1, x2, y2), inside the image, and scores, (N,), best first.
        """
        height, width = image.shape[:2]
        canvas = np.empty(
            (-(-height // STRIDE) * STRIDE, -(-width // STRIDE) * STRIDE, 3), np.uint8
        )
        canvas[:] = self._padding
        canvas[:height, :width] = image
        with self._lock:  # the graphs' outputs lie in memory that is used again
            outputs = [torch.from_numpy(each) for each in self._trunk(canvas)]
            levels = len(outputs) // 3
            maps, logits, deltas = (outputs[i * levels : (i + 1) * levels] for i in range(3))
            sizes = [
                (-(-canvas.shape[0] // stride), -(-canvas.shape[1] // stride))
                for stride in self._proposals.anchor_generator.strides
            ]
            proposals = self._propose(logits, deltas, sizes, (height, width))
            return self._judge(maps, sizes, proposals, (height, width))

    def _propose(
        self,
        logits: list[Tensor],
        deltas: list[Tensor],
        sizes: list[tuple[int, int]],
        image: tuple[int, int],
    ) -> Tensor:
        """Return the RPN's best boxes, (N, 4): Detectron2's rule, decoding only what can win."""
        rpn = self._proposals
        boxes, scores, numbers = [], [], []
        generator = rpn.anchor_generator
        for level, cells in enumerate(generator.cell_anchors):
            width = sizes[level][1]
            index = (logits[level] > MIN_OBJECTNESS).nonzero().flatten()
            best = logits[level][index]
            if len(index) > rpn.pre_nms_topk[False]:
                best, order = best.topk(rpn.pre_nms_topk[False])
                index = index[order]
            place = index // len(cells)
            corner = torch.stack((place % width, place // width), 1) * generator.strides[level]
            anchors = cells[index % len(cells)] + corner.repeat(1, 2)
            boxes.append(rpn.box2box_transform.apply_deltas(deltas[level][index], anchors))
            scores.append(best)
            numbers.append(torch.full_like(index, level))
        every, score, number = torch.cat(boxes), torch.cat(scores), torch.cat(numbers)
        clipped = Boxes(every)
        clipped.clip(image)
        keep = clipped.nonempty(rpn.min_box_size)
        every, score, number = clipped.tensor[keep], score[keep], number[keep]
        kept = batched_nms(every, score, number, rpn.nms_thresh)[: rpn.post_nms_topk[False]]
        return every[kept]

    def _judge(
        self,
        maps: list[Tensor],
        sizes: list[tuple[int, int]],
        proposals: Tensor,
        image: tuple[int, int],
    ) -> tuple[Tensor, Tensor]:
        """Return what the box head makes of the proposals: boxes (N, 4), scores (N,)."""
        pooler, predictor = self._pooler, self._predictor
        if not len(proposals):
            return proposals, proposals.new_zeros(0)
        # the features of each proposal, from the level of the pyramid that fits its size
        levels = assign_boxes_to_levels(
            [Boxes(proposals)],
            pooler.min_level,
            pooler.max_level,
            pooler.canonical_box_size,
            pooler.canonical_level,
        )
        count = len(pooler.level_poolers)
        pooled = roi_align(
            torch.cat(maps[:count]),
            sizes[:count],
            self._proposals.anchor_generator.strides[:count],
            proposals,
            levels,
            pooler.output_size[0],
            pooler.level_poolers[0].sampling_ratio,
        )
        # what the box head makes of them
        (judged,) = self._box_head(pooled.flatten(1).numpy())
        answer = torch.from_numpy(judged)
        scores = answer[:, :2].softmax(1)[:, 0]
        likely = scores > predictor.test_score_thresh
        found = predictor.box2box_transform.apply_deltas(answer[likely, 2:], proposals[likely])
        boxes = Boxes(found)
        boxes.clip(image)
        # one box per face
        kept = nms(boxes.tensor, scores[likely], predictor.test_nms_thresh)
        kept = kept[: predictor.test_topk_per_image]
        moved = vote(boxes.tensor[kept], boxes.tensor, scores[likely], predictor.voting)
        return moved, scores[likely][kept]
