"""What a recipe says of the steps: the optimizer, each step's learning rate and mixup, the end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from classification.training.recipe import Recipe


def make_optimizer(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """Return the recipe's optimizer; weight decay is on matrices and kernels only."""
    decayed = [p for p in model.parameters() if p.ndim > 1]
    plain = [p for p in model.parameters() if p.ndim <= 1]
    groups: list[dict[str, Any]] = [{"params": decayed}, {"params": plain, "weight_decay": 0.0}]
    if recipe.optimizer == "adam":
        return torch.optim.Adam(groups, lr=0.0, weight_decay=recipe.weight_decay)
    if recipe.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=0.0, weight_decay=recipe.weight_decay)
    nesterov = recipe.momentum > 0
    return torch.optim.SGD(
        groups, 0.0, recipe.momentum, weight_decay=recipe.weight_decay, nesterov=nesterov
    )


def learning_rate(recipe: Recipe, step: int, steps_per_epoch: int) -> float:
    """Return a step's rate: linear warm-up, then a cosine to zero (Loshchilov & Hutter, 2017).

    With the schedule ``constant`` the rate stays what it is after the warm-up.
    """
    warmup = recipe.warmup * steps_per_epoch
    if step < warmup:
        return recipe.learning_rate * (step + 1) / warmup
    if recipe.schedule == "constant":
        return recipe.learning_rate
    done = (step - warmup) / max(1.0, recipe.epochs * steps_per_epoch - warmup)
    return recipe.learning_rate * 0.5 * (1 + float(np.cos(np.pi * done)))


def mixup_share(recipe: Recipe, step: int, steps_per_epoch: int) -> float:
    """Return the share in 0..1 that an image keeps of itself in a step; 1 without mixup."""
    alpha = recipe.augment.mixup
    last = recipe.augment.mixup_until * (recipe.epochs * steps_per_epoch)
    if not alpha or step >= last:
        return 1.0
    return float(np.random.default_rng((recipe.seed, step, 1)).beta(alpha, alpha))


def out_of_patience(recipe: Recipe, history: Sequence[Mapping[str, float]]) -> bool:
    """Tell whether the recipe's patience is over, given the entry of each epoch so far."""
    if not recipe.patience or not history:
        return False
    best = max(history, key=lambda entry: entry["accuracy"])
    return len(history) - best["epoch"] >= recipe.patience


def can_be_prolonged(recipe: Recipe) -> bool:
    """Tell whether more epochs leave what the earlier ones did as it was."""
    mixing_ends = recipe.augment.mixup > 0 and recipe.augment.mixup_until < 1
    return recipe.schedule == "constant" and not mixing_ends
