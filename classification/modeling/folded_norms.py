"""Norms of published networks, whose statistics are folded away, made fit for training."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn


@torch.no_grad()
def standardise(
    layers: Sequence[tuple[nn.Conv2d, nn.BatchNorm2d]], forward: Callable[[], object]
) -> None:
    """Give norms the statistics of images, so that training goes on from the network as it is.

    The network is in evaluation mode; what it computes there stays the same. Kernels get a common
    length, the square root of 2, as He et al. (2015) start layers before a rectifier.

    Args:
        layers: convolutions without bias and the norms that follow them, in the order in which the
            network runs them. The norms' running mean is 0 and their running variance 1 - eps.
        forward: runs the network of these layers on some training images.
    """
    seen: list[tuple[Tensor, Tensor]] = []
    hooks = [
        norm.register_forward_hook(
            lambda _, inputs, __: seen.append((inputs[0].mean((0, 2, 3)), inputs[0].var((0, 2, 3))))
        )
        for _, norm in layers
    ]
    forward()
    for hook in hooks:
        hook.remove()
    for (conv, norm), (average, variance) in zip(layers, seen, strict=True):
        length = 2**0.5 / conv.weight.flatten(1).norm(dim=1).clamp_min(1e-12)
        norm.bias.add_(norm.weight * average)
        norm.weight.mul_((variance + norm.eps / length**2).sqrt())
        conv.weight.mul_(length[:, None, None, None])
        norm.running_mean.copy_(average * length)  # type: ignore[union-attr]
        norm.running_var.copy_(variance * length**2)  # type: ignore[union-attr]
