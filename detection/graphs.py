"""The light detector's networks as OpenVINO models, built layer by layer.

OpenVINO's own conversion of PyTorch modules traces them, which takes longer than finding the faces
of ten photos. The modules are few and known, so they are written down here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.models.mobilenetv2 import InvertedResidual

from compiled.graph import import_openvino
from detection.backbone import MobileNetV2, ScaledConv2d

Node = Any
"""A tensor of the graph that is being built."""


def trunk(model: Any) -> Any:
    """Return everything that looks at the whole picture: normalisation, body, FPN and RPN head.

    Args:
        model: Detectron2's GeneralizedRCNN of the light detector.

    Returns:
        An ``openvino.Model``. Input: (H, W, 3) uint8, H and W divisible by 32. Outputs, over the L
        levels of the pyramid: L maps (h · w, C), for each level row by row, L objectness logits
        (h · w · A,) and L anchor deltas (h · w · A, 4), all float32.
    """
    ov = import_openvino()
    ops = ov.opset13
    picture = ops.parameter([-1, -1, 3], np.uint8, name="picture")
    pixels = ops.unsqueeze(ops.convert(picture, np.float32), _ints(0))
    pixels = ops.transpose(pixels, _ints(0, 3, 1, 2))
    mean, std = (_array(part).reshape(1, 3, 1, 1) for part in (model.pixel_mean, model.pixel_std))
    maps = _pyramid(model.backbone, (pixels - ops.constant(mean)) / ops.constant(std))
    head = model.proposal_generator.rpn_head
    hidden = [layer(head.conv, level) for level in maps]
    logits = [layer(head.objectness_logits, level) for level in hidden]
    deltas = [layer(head.anchor_deltas, level) for level in hidden]
    channels = head.conv.in_channels
    outputs = [_rows(level, (-1, channels)) for level in maps]
    outputs += [_rows(level, (-1,)) for level in logits]
    outputs += [_rows(level, (-1, 4)) for level in deltas]
    return ov.Model(outputs, [picture], "trunk")


def box_head(model: Any) -> Any:
    """Return what judges one box: the fully connected layers and the predictor.

    Returns:
        An ``openvino.Model``. Input: (N, cells · cells · C) float32, the channels of a cell beside
        each other. Output: (N, 6) float32: the logits of face and background, the box deltas.
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
        x = ops.relu(_linear(x, weight, fc.bias))
    parts = (predictor.cls_score, predictor.bbox_pred)
    weight = torch.cat([part.weight for part in parts])
    bias = torch.cat([part.bias for part in parts])
    return ov.Model([_linear(x, weight, bias)], [pooled], "box_head")


def layer(module: nn.Module, x: Node) -> Node:
    """Add a module of PyTorch to the graph; x is (1, C, H, W).

    Raises:
        TypeError: a kind of module that the light detector does not have.
    """
    ops = import_openvino().opset13
    if isinstance(module, nn.Identity):
        return x
    if isinstance(module, nn.ReLU6):
        return ops.clamp(x, 0.0, 6.0)
    if isinstance(module, InvertedResidual):
        y = layer(module.conv, x)
        return x + y if module.use_res_connect else y
    if isinstance(module, nn.Sequential):
        for child in module:
            x = layer(child, x)
        return x
    if isinstance(module, ScaledConv2d):
        weight = module.weight * module.scale.view(-1, 1, 1, 1)
        return _convolution(x, weight, module.bias, module)
    if isinstance(module, nn.Conv2d) and getattr(module, "norm", None) is None:
        y = _convolution(x, module.weight, module.bias, module)
        activation = getattr(module, "activation", None)  # of Detectron2's Conv2d
        if activation is None:
            return y
        if isinstance(activation, nn.ReLU):
            return ops.relu(y)
    raise TypeError(f"{type(module).__name__} is no part of the light detector")


def _pyramid(fpn: Any, x: Node) -> list[Node]:
    """Add Detectron2's FPN over MobileNetV2; returns p2–p6, (1, C, H / stride, W / stride)."""
    ops = import_openvino().opset13
    body = fpn.bottom_up
    assert isinstance(body, MobileNetV2)
    stages = []
    for layers in body.stages().values():
        x = layer(layers, x)
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


def _convolution(x: Node, weight: Tensor, bias: Tensor | None, like: Any) -> Node:
    ops = import_openvino().opset13
    kernel, groups = _array(weight), like.groups
    geometry = (list(like.stride), list(like.padding), list(like.padding), [1, 1])
    if groups == 1:
        y = ops.convolution(x, ops.constant(kernel), *geometry)
    else:
        kernel = kernel.reshape(groups, len(kernel) // groups, *kernel.shape[1:])
        y = ops.group_convolution(x, ops.constant(kernel), *geometry)
    return y if bias is None else y + ops.constant(_array(bias).reshape(1, -1, 1, 1))


def _linear(x: Node, weight: Tensor, bias: Tensor) -> Node:
    ops = import_openvino().opset13
    product = ops.matmul(x, ops.constant(_array(weight)), False, True)
    return product + ops.constant(_array(bias).reshape(1, -1))


def _rows(x: Node, shape: Sequence[int]) -> Node:
    """Put the channels last, and flatten."""
    ops = import_openvino().opset13
    return ops.reshape(ops.transpose(x, _ints(0, 2, 3, 1)), _ints(*shape), False)


def _ints(*values: int) -> Any:
    return np.array(values, np.int64)


def _array(tensor: Tensor) -> Any:
    return np.ascontiguousarray(tensor.detach().float().numpy())
