"""PyTorch's layers as operations of OpenVINO, for graphs that are built layer by layer.

OpenVINO's own conversion of PyTorch modules traces them, which takes longer than finding the faces
of ten photos. The modules of the shipped networks are few and known.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from networks.openvino import import_openvino

Node = Any
"""A tensor of the graph that is being built."""

Builders = Mapping[type[nn.Module], Callable[[Any, Node], Node]]
"""Kind of module → what adds a module of exactly that kind to the graph."""


def layer(module: nn.Module, x: Node, others: Builders) -> Node:
    """Add a module in evaluation mode to the graph; x is (N, C, H, W).

    Kinds in ``others`` come first, then those of PyTorch's that are known here, and sequences of
    such; another kind, or another form of one, is a ``TypeError``.
    """
    kind = type(module)
    builder = others.get(kind) or _BUILDERS.get(kind)
    if builder is not None:
        return builder(module, x)
    if isinstance(module, nn.Sequential):
        for child in module:
            x = layer(child, x, others)
        return x
    raise TypeError(f"{kind.__name__} cannot be built for OpenVINO here")


def convolution(x: Node, weight: Tensor, bias: Tensor | None, like: Any) -> Node:
    """Convolve (N, C, H, W) with ``weight``; stride, padding and groups are those of ``like``."""
    ops = import_openvino().opset13
    kernel, groups = array(weight), like.groups
    geometry = (list(like.stride), list(like.padding), list(like.padding), [1, 1])
    if groups == 1:
        y = ops.convolution(x, ops.constant(kernel), *geometry)
    else:
        kernel = kernel.reshape(groups, len(kernel) // groups, *kernel.shape[1:])
        y = ops.group_convolution(x, ops.constant(kernel), *geometry)
    return y if bias is None else y + ops.constant(array(bias).reshape(1, -1, 1, 1))


def linear(x: Node, weight: Tensor, bias: Tensor) -> Node:
    """Map (N, C) to (N, K) by a fully connected layer."""
    ops = import_openvino().opset13
    product = ops.matmul(x, ops.constant(array(weight)), False, True)
    return product + ops.constant(array(bias).reshape(1, -1))


def scalar(value: float) -> Node:
    """Return a constant of one number, float32."""
    return import_openvino().opset13.constant(np.array(value, np.float32))


def array(tensor: Tensor) -> NDArray[np.float32]:
    """Return a tensor's values."""
    return np.ascontiguousarray(tensor.detach().float().numpy())


def _conv2d(module: nn.Conv2d, x: Node) -> Node:
    plain = module.padding_mode == "zeros" and module.dilation == (1, 1)
    if not plain or isinstance(module.padding, str):
        raise TypeError(f"{module} cannot be built for OpenVINO here")
    return convolution(x, module.weight, module.bias, module)


def _batch_norm(module: nn.BatchNorm2d, x: Node) -> Node:
    parts = (module.weight, module.bias, module.running_mean, module.running_var)
    if any(part is None for part in parts):
        raise TypeError(f"{module} cannot be built for OpenVINO here")
    ops = import_openvino().opset13
    constants = [ops.constant(array(part)) for part in parts if part is not None]
    return ops.batch_norm_inference(x, *constants, module.eps)


def _max_pool(module: nn.MaxPool2d, x: Node) -> Node:
    if module.ceil_mode or _pair(module.dilation) != [1, 1]:
        raise TypeError(f"{module} cannot be built for OpenVINO here")
    stride, padding, kernel = map(_pair, (module.stride, module.padding, module.kernel_size))
    pool = import_openvino().opset13.max_pool(x, stride, [1, 1], padding, padding, kernel)
    return pool.output(0)


def _average_pool(module: nn.AvgPool2d, x: Node) -> Node:
    stride, kernel = _pair(module.stride), _pair(module.kernel_size)
    # without padding and gaps, a window that juts out averages what it covers in both libraries
    if _pair(module.padding) != [0, 0] or stride != kernel or module.divisor_override:
        raise TypeError(f"{module} cannot be built for OpenVINO here")
    rounding = "ceil" if module.ceil_mode else "floor"
    ops = import_openvino().opset13
    return ops.avg_pool(x, stride, [0, 0], [0, 0], kernel, True, rounding)


def _pair(value: int | tuple[int, ...]) -> list[int]:
    return [value, value] if isinstance(value, int) else list(value)


_BUILDERS: Builders = {
    nn.Identity: lambda _, x: x,
    nn.Dropout: lambda _, x: x,
    nn.ReLU: lambda _, x: import_openvino().opset13.relu(x),
    nn.ReLU6: lambda _, x: import_openvino().opset13.clamp(x, 0.0, 6.0),
    nn.Conv2d: _conv2d,
    nn.BatchNorm2d: _batch_norm,
    nn.MaxPool2d: _max_pool,
    nn.AvgPool2d: _average_pool,
}
