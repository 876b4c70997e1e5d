"""A start from random weights: frozen norms get statistics of their own.

Detectron2's frozen batch norms change nothing until weights are loaded. In a deep body of random
weights the signal then doubles its variance at every block, and no learning rate fits.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from detectron2.layers import FrozenBatchNorm2d
from torch import Tensor, nn

IMAGES = 4
"""So many images give the statistics."""


def measure_norms(model: Any, images: Callable[[], list[dict[str, Any]]]) -> int:
    """Set mean and variance of every frozen norm of the body to those of its input.

    One forward pass does it for all of them, as each sees what the ones before make of the images
    (the idea of layer-sequential unit variance: Mishkin and Matas, 2016). The model has random
    weights; ``images`` gives its inputs, and is called if there are frozen norms. Returns their
    number.
    """
    norms = [part for part in model.backbone.modules() if isinstance(part, FrozenBatchNorm2d)]
    if not norms:
        return 0
    handles = [norm.register_forward_pre_hook(_measure) for norm in norms]
    try:
        with torch.no_grad():
            model.backbone(model.preprocess_image(images()).tensor)
    finally:
        for handle in handles:
            handle.remove()
    return len(norms)


def _measure(norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    variance, mean = torch.var_mean(inputs[0], (0, 2, 3))
    norm.get_buffer("running_mean").copy_(mean)
    norm.get_buffer("running_var").copy_(variance)
