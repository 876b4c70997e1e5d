"""The light detector's networks as OpenVINO models, built layer by layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from detectron2.layers import Conv2d
from torch import nn
from torchvision.models.mobilenetv2 import InvertedResidual

from detection.modeling.backbone import MobileNetV2, ScaledConv2d
from networks import openvino_layers
from networks.openvino import import_openvino
from networks.openvino_layers import Builders, Node, array, convolution, linear


def trunk(model: Any) -> Any:
    """Return everything that looks at the whole image: normalisation, body, FPN and RPN head.

    Of the light detector, a GeneralizedRCNN, as an ``openvino.Model``. Input: (H, W, 3) uint8, H
    and W divisible by 32. Outputs, over the L levels of the pyramid: L maps (h · w, C), for each
    level row by row, L objectness logits (h · w · A,) and L anchor deltas (h · w · A, 4), all
    float32.
    """
    ov = import_openvino()
    ops = ov.opset13
    image = ops.parameter([-1, -1, 3], np.uint8, name="image")
    pixels = ops.unsqueeze(ops.convert(image, np.float32), _ints(0))
    pixels = ops.transpose(pixels, _ints(0, 3, 1, 2))
    mean, std = (array(part).reshape(1, 3, 1, 1) for part in (model.pixel_mean, model.pixel_std))
    maps = _pyramid(model.backbone, (pixels - ops.constant(mean)) / ops.constant(std))
    head = model.proposal_generator.rpn_head
    hidden = [layer(head.conv, level) for level in maps]
    logits = [layer(head.objectness_logits, level) for level in hidden]
    deltas = [layer(head.anchor_deltas, level) for level in hidden]
    channels = model.backbone.output_shape()["p2"].channels
    outputs = [_rows(level, (-1, channels)) for level in maps]
    outputs += [_rows(level, (-1,)) for level in logits]
    outputs += [_rows(level, (-1, 4)) for level in deltas]
    return ov.Model(outputs, [image], "trunk")


def box_head(model: Any) -> Any:
    """Return what judges one box: the fully connected layers and the predictor.

    Input: (N, cells · cells · C) float32, the channels of a cell beside each other. Output: (N, 6)
    float32: the logits of face and background, the box deltas.
    """
    ov = import_openvino()
    ops = ov.opset13
    head, predictor = model.roi_heads.box_head, model.roi_heads.box_predictor
    cells = model.roi_heads.box_pooler.output_size[0] ** 2
    pooled = ops.parameter([-1, head.fcs[0].in_features], np.float32, name="pooled")
    x: Node = pooled
    for number, fc in enumerate(head.fcs):
        weight = fc.weight
        if number == 0:  # Detectron2 has the cells of a channel beside each other
            weight = weight.unflatten(1, (-1, cells)).transpose(1, 2).flatten(1)
        x = ops.relu(linear(x, weight, fc.bias))
    parts = (predictor.cls_score, predictor.bbox_pred)
    weight = torch.cat([part.weight for part in parts])
    bias = torch.cat([part.bias for part in parts])
    return ov.Model([linear(x, weight, bias)], [pooled], "box_head")


def layer(module: nn.Module, x: Node) -> Node:
    """Add a module of the detector to the graph; x is (1, C, H, W)."""
    return openvino_layers.layer(module, x, _BUILDERS)


def _inverted_residual(module: InvertedResidual, x: Node) -> Node:
    y = layer(module.conv, x)
    return x + y if module.use_res_connect else y


def _scaled(module: ScaledConv2d, x: Node) -> Node:
    weight = module.weight * module.scale.view(-1, 1, 1, 1)
    return convolution(x, weight, module.bias, module)


def _conv2d(module: Conv2d, x: Node) -> Node:
    """Add Detectron2's convolution, which has its norm and its rectifier inside."""
    y = convolution(x, module.weight, module.bias, module)
    for part in (module.norm, module.activation):
        y = y if part is None else layer(part, y)
    return y


_BUILDERS: Builders = {InvertedResidual: _inverted_residual, ScaledConv2d: _scaled, Conv2d: _conv2d}


def _pyramid(fpn: Any, x: Node) -> list[Node]:
    """Add Detectron2's FPN over MobileNetV2; returns p2–p6, (1, C, H / stride, W / stride)."""
    ops = import_openvino().opset13
    body = fpn.bottom_up
    assert isinstance(body, MobileNetV2)
    stages = []
    for stage in body.stages().values():
        x = layer(stage, x)
        stages.append(x)
    above: Node = None
    maps: list[Node] = []
    # FPN keeps its convolutions from the coarsest level on
    for stage, lateral, output in zip(
        stages[:0:-1], fpn.lateral_convs, fpn.output_convs, strict=True
    ):
        here = layer(lateral, stage)
        above = here if above is None else here + _doubled(above)
        maps.insert(0, layer(output, above))
    half = ops.max_pool(maps[-1], [2, 2], [1, 1], [0, 0], [0, 0], [1, 1]).output(0)
    return [*maps, half]


def _doubled(x: Node) -> Node:
    """Repeat every pixel two by two."""
    return import_openvino().opset13.interpolate(
        x,
        np.array([2.0, 2.0], np.float32),
        "nearest",
        "scales",
        axes=_ints(2, 3),
        coordinate_transformation_mode="asymmetric",
        nearest_mode="floor",
    )


def _rows(x: Node, shape: Sequence[int]) -> Node:
    """Put the channels last, and flatten."""
    ops = import_openvino().opset13
    return ops.reshape(ops.transpose(x, _ints(0, 2, 3, 1)), _ints(*shape), False)


def _ints(*values: int) -> Any:
    return np.array(values, np.int64)
