from __future__ import annotations

from typing import Any

import torch
from detectron2.modeling import build_model
from detectron2.structures import Boxes, Instances
from detectron2.utils.events import EventStorage

from detection.modeling.config import load_config
from detection.modeling.ignore_regions import IGNORE, lies_on, split_ignored


def instances(*rows: tuple[float, float, float, float, int]) -> Any:
    out = Instances((200, 200))
    values = torch.tensor(rows, dtype=torch.float32).reshape(-1, 5)
    out.gt_boxes = Boxes(values[:, :4])
    out.gt_classes = values[:, 4].long()
    return out


def test_half_inside_counts() -> None:
    region = Boxes(torch.tensor([[0.0, 0.0, 100.0, 100.0]]))
    boxes = Boxes(
        torch.tensor([[50.0, 0, 150, 10], [51, 0, 151, 10], [0, 0, 5, 5], [150, 150, 160, 160]])
    )
    assert lies_on(boxes, region).tolist() == [True, False, True, False]
    assert lies_on(boxes, Boxes(torch.zeros(0, 4))).tolist() == [False] * 4
    assert lies_on(Boxes(torch.zeros(0, 4)), region).shape == (0,)


def test_splitting() -> None:
    real, ignored = split_ignored(instances((1, 1, 9, 9, 0), (2, 2, 8, 8, IGNORE)))
    assert real.gt_boxes.tensor.tolist() == [[1, 1, 9, 9]]
    assert ignored.tensor.tolist() == [[2, 2, 8, 8]]


def test_anchors_on_ignored_regions_are_no_negatives() -> None:
    rpn = build_model(load_config("mobilenet_fpn")).proposal_generator
    grid = torch.arange(0, 200, 10.0)
    x, y = torch.meshgrid(grid, grid, indexing="ij")
    anchors = Boxes(torch.stack([x, y, x + 16, y + 16], dim=-1).reshape(-1, 4))
    target = instances((20, 20, 36, 36, 0), (100, 0, 200, 200, IGNORE))
    torch.manual_seed(0)
    (labels,), (matched,) = rpn.label_and_sample_anchors([anchors], [target])
    inside = lies_on(anchors, Boxes(torch.tensor([[100.0, 0, 200, 200]])))
    assert inside.any() and not (labels[inside] == 0).any()
    assert (labels[~inside] == 0).any()
    positive = labels == 1
    assert positive.any()
    assert (matched[positive] == torch.tensor([20.0, 20, 36, 36])).all()


def test_proposals_on_ignored_regions_are_not_sampled() -> None:
    heads = build_model(load_config("mobilenet_fpn")).roi_heads
    proposal = Instances((200, 200))
    proposal.proposal_boxes = Boxes(
        torch.tensor([[20.0, 20, 36, 36], [120, 20, 136, 36], [60, 60, 90, 90]])
    )
    proposal.objectness_logits = torch.zeros(3)
    target = instances((20, 20, 36, 36, 0), (100, 0, 200, 200, IGNORE))
    with EventStorage(0):
        (sampled,) = heads.label_and_sample_proposals([proposal], [target])
    boxes = sampled.proposal_boxes.tensor
    assert not (boxes[:, 0] >= 100).any()
    assert sorted(set(sampled.gt_classes.tolist())) == [0, 1]  # face, background
