"""The moving average of a network's weights, which is what is evaluated and kept."""

from __future__ import annotations

import torch
from torch import nn


class MovingAverage:
    """An exponential moving average of parameters and buffers; its first steps average less.

    ``decay`` is the share of the old average that a step keeps, in 0..1; ``state`` has the averages
    by name, as ``model.state_dict()`` has them, on the device where the model trains.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.state = {k: v.detach().clone() for k, v in model.state_dict().items()}

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Move towards ``model`` after the step of that number, from 0; counters are copied."""
        decay = min(self.decay, (1 + step) / (10 + step))
        averaged, current = [], []
        for name, value in model.state_dict().items():
            if value.dtype.is_floating_point:
                averaged.append(self.state[name])
                current.append(value)
            else:
                self.state[name].copy_(value)
        torch._foreach_lerp_(averaged, current, 1 - decay)  # as torch.optim.swa_utils: few kernels
