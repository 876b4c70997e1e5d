"""The shipped classifier's network as an OpenVINO model, built layer by layer."""

from __future__ import annotations

from typing import Any

import numpy as np

from classification.models import FaceResNet, ResidualBlock
from compiled.graph import import_openvino
from compiled.layers import Builders, Node, layer, linear


def face_resnet(model: FaceResNet, shape: tuple[int, int, int]) -> Any:
    """Return a network in evaluation mode as an ``openvino.Model``.

    Args:
        model: on the CPU; its weights are copied when the answer is compiled.
        shape: C, H and W of its input.

    Returns:
        Input: (N, C, H, W) float32. Output: logits, (N, K) float32.
    """
    ov = import_openvino()
    ops = ov.opset13
    faces = ops.parameter([-1, *shape], np.float32, name="faces")
    features = layer(model.stages, layer(model.stem, faces, _BUILDERS), _BUILDERS)
    pooled = ops.reduce_mean(features, np.array([2, 3], np.int64), False)
    logits = linear(pooled, model.head.weight, model.head.bias)
    return ov.Model([logits], [faces], "face_resnet")


def _residual_block(block: ResidualBlock, x: Node) -> Node:
    y = x
    for part in (block.conv1, block.norm1, block.relu, block.conv2, block.norm2):
        y = layer(part, y, _BUILDERS)
    total = import_openvino().opset13.add(y, layer(block.shortcut, x, _BUILDERS))
    return layer(block.relu, total, _BUILDERS)


_BUILDERS: Builders = {ResidualBlock: _residual_block}
