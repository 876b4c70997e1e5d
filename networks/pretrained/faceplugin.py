"""faceplugin's emotion network: a DenseNet-121 trained on FER2013 (npm, MIT).

Huang et al., "Densely Connected Convolutional Networks" (CVPR 2017). The npm package
``faceplugin-face-recognition-js`` 0.0.1 carries it as ``model/fr_expression.onnx``. It takes RGB
pixels in 0..1, (N, 3, 224, 224), and answers with logits in FER2013's order. Which split chose its
checkpoint is unknown.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from faces.command import UserError

BLOCKS = (6, 12, 24, 16)
"""Layers of DenseNet-121's four blocks."""
EPSILON = 1e-5
"""That torchvision's norms add to a variance."""
SIZE = 224
"""Height and width in pixels of the images that it was trained on."""


def folded_layers() -> Iterator[tuple[str, str]]:
    """Yield the convolutions whose norm the file holds folded in, and these norms, in order.

    Names are those of ``torchvision.models.densenet121``.
    """
    yield "features.conv0", "features.norm0"
    for block, layers in enumerate(BLOCKS, 1):
        for layer in range(1, layers + 1):
            prefix = f"features.denseblock{block}.denselayer{layer}"
            yield f"{prefix}.conv1", f"{prefix}.norm2"


def read_faceplugin(path: Path) -> dict[str, Tensor]:
    """Read the weights, by the names of ``torchvision.models.densenet121(num_classes=7)``.

    Of a folded norm only the bias is there: its weight, mean and variance are those of a norm that
    adds the bias and does nothing else.

    Raises:
        UserError: the file is damaged or another network's.
    """
    import onnx  # here, as whoever loads a classifier would wait for it
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    try:
        stored = onnx.load(str(path)).graph.initializer
        tensors = {
            one.name: torch.from_numpy(onnx.numpy_helper.to_array(one).copy()) for one in stored
        }
    except (OSError, DecodeError, ValueError, TypeError) as error:
        raise UserError(
            f"{path}: cannot be read as an ONNX file; fetch the package again"
        ) from error
    folded = [tensors.pop(name) for name in sorted(filter(str.isdigit, list(tensors)), key=int)]
    layers = list(folded_layers())
    if len(folded) != 2 * len(layers):
        raise UserError(
            f"{path}: holds {len(folded) // 2} convolutions with folded norms, not {len(layers)}; "
            "it must be faceplugin's fr_expression.onnx"
        )
    for (conv, norm), kernel, bias in zip(layers, folded[::2], folded[1::2], strict=True):
        tensors |= {
            f"{conv}.weight": kernel,
            f"{norm}.weight": torch.ones_like(bias),
            f"{norm}.bias": bias,
            f"{norm}.running_mean": torch.zeros_like(bias),
            f"{norm}.running_var": torch.full_like(bias, 1 - EPSILON),
        }
    return tensors
