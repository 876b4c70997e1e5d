"""What a training minimises."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from classification.data.fer2013 import Fer2013
from classification.inference.classifier import NetworkClassifier
from classification.modeling.normalization import Normalization
from classification.training.recipe import Recipe
from faces.emotions import EMOTIONS


def class_weights(data: Fer2013, balance: float) -> Tensor:
    """Return each class's weight in the loss, (7,) float32, their mean over the images being 1."""
    counts = np.bincount(data.labels, minlength=len(EMOTIONS)).clip(1).astype(np.float64)
    weights = counts**-balance
    return torch.from_numpy((weights * counts.sum() / (weights * counts).sum()).astype(np.float32))


class Teachers:
    """Trained networks whose mean probabilities another one learns.

    The paths are their weights files. ``normalization`` is that of the images which the student
    sees; logits are divided by ``temperature`` before the softmax.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        normalization: Normalization,
        temperature: float,
        device: torch.device,
    ) -> None:
        self.members = [NetworkClassifier.load(path, device, path.parent.name) for path in paths]
        self.normalization, self.temperature = normalization, temperature

    @torch.no_grad()
    def probabilities(self, x: Tensor) -> Tensor:
        """Return (N, 7) float32 of normalised images (N, 1, H, W)."""
        levels = self.normalization.levels(x)
        each = []
        for member in self.members:
            with torch.autocast(x.device.type, member.dtype, member.dtype != torch.float32):
                logits = member.model(member.network.normalization.of_levels(levels))
            each.append((logits.float() / self.temperature).softmax(1))
        return torch.stack(each).mean(0)


def training_loss(
    model: nn.Module,
    x: Tensor,
    targets: Tensor,
    recipe: Recipe,
    lam: float = 1.0,
    weights: Tensor | None = None,
    teachers: Teachers | None = None,
) -> Tensor:
    """Return the loss of a batch, ``lam`` of each image mixed with 1 - ``lam`` of another one.

    Args:
        x: normalised images (N, 1, H, W) float32; number i is mixed with number N - 1 - i.
        targets: (N, 7) float32, rows sum to 1; they are mixed alike.
        recipe: its smoothing and distillation.
        lam: in 0..1.
        weights: of the classes, (7,) float32.
        teachers: whose probabilities the recipe's share ``distill`` of the loss asks for.
    """
    if lam < 1.0:
        x, targets = x.lerp(x.flip(0), 1 - lam), targets.lerp(targets.flip(0), 1 - lam)
    logits = model(x).float()
    loss = F.cross_entropy(logits, targets, weights, label_smoothing=recipe.label_smoothing)
    if teachers is not None:
        heat = recipe.distill_temperature
        taught = F.cross_entropy(logits / heat, teachers.probabilities(x))
        loss = (1 - recipe.distill) * loss + recipe.distill * heat**2 * taught
    return loss
