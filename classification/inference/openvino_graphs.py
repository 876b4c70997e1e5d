"""The shipped classifiers' networks as OpenVINO models, built layer by layer."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import nn

from classification.modeling.face_recognition_resnet import PaddedShortcutBlock
from classification.modeling.face_resnet import FaceResNet, ResidualBlock
from classification.modeling.support_set import FLOOR, NEAREST, FeatureNetwork, SupportHead
from networks.openvino import import_openvino
from networks.openvino_layers import Builders, Node, array, layer, linear, scalar


def feature_network(model: FeatureNetwork, shape: tuple[int, int, int]) -> Any:
    """Return a network in evaluation mode as an ``openvino.Model``, without its support set.

    Its weights, on the CPU, are copied when the answer is compiled. Input: (N, C, H, W) float32, C,
    H and W being ``shape``. Output, float32: logits (N, 7); features (N, D) where the last layer is
    a support set.
    """
    ov = import_openvino()
    ops = ov.opset13
    faces = ops.parameter([-1, *shape], np.float32, name="faces")
    axes = np.array([2, 3], np.int64)
    if isinstance(model, FaceResNet):
        x = layer(model.stages, layer(model.stem, faces, _BUILDERS), _BUILDERS)
    else:
        sizes = np.array([model.size, model.size], np.int64)
        x = ops.interpolate(faces, sizes, "linear_onnx", "sizes", axes=axes)
        x = ops.relu(layer(model.norm, layer(model.stem, x, _BUILDERS), _BUILDERS))
        x = layer(model.blocks, layer(nn.MaxPool2d(3, 2, 1), x, _BUILDERS), _BUILDERS)
    answer = ops.reduce_mean(x, axes, False)
    if isinstance(model.head, nn.Linear):
        answer = linear(answer, model.head.weight, model.head.bias)
    return ov.Model([answer], [faces], "feature_network")


def support_head(head: SupportHead) -> Any:
    """Return a support head as an ``openvino.Model``, to be run in float32.

    Input: features, (N, D) float32. Output: logits, (N, 7) float32.
    """
    ov = import_openvino()
    ops = ov.opset13
    features = ops.parameter([-1, head.in_features], np.float32, name="features")
    unit = ops.normalize_l2(features, np.array([1], np.int64), 1e-24, "max")
    cosine = ops.matmul(unit, ops.constant(array(head.support)), False, True)
    squared = ops.maximum(cosine * scalar(-2) + scalar(2), scalar(NEAREST))
    weights = ops.softmax(ops.log(squared) * scalar(-head.power / 2), 1)
    shares = ops.matmul(weights, ops.constant(array(head.targets)), False, False)
    logits = ops.log(ops.maximum(shares, scalar(FLOOR)))
    return ov.Model([logits], [features], "support")


def _padded_shortcut_block(block: PaddedShortcutBlock, x: Node) -> Node:
    ops = import_openvino().opset13
    y = x
    for part in (block.conv1, block.norm1, block.relu, block.conv2, block.norm2):
        y = layer(part, y, _BUILDERS)
    if block.stride > 1:
        x = layer(nn.AvgPool2d(block.stride, ceil_mode=True), x, _BUILDERS)
    if block.added:
        ends = (np.array(pads, np.int64) for pads in ((0, 0, 0, 0), (0, block.added, 0, 0)))
        x = ops.pad(x, *ends, "constant", np.float32(0))
    return ops.relu(ops.add(x, y))


def _residual_block(block: ResidualBlock, x: Node) -> Node:
    y = x
    for part in (block.conv1, block.norm1, block.relu, block.conv2, block.norm2):
        y = layer(part, y, _BUILDERS)
    total = import_openvino().opset13.add(y, layer(block.shortcut, x, _BUILDERS))
    return layer(block.relu, total, _BUILDERS)


_BUILDERS: Builders = {ResidualBlock: _residual_block, PaddedShortcutBlock: _padded_shortcut_block}
