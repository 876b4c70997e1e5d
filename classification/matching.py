"""A network that decides by likeness to faces whose emotion is known."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from classification.transfer import FaceRecognitionResNet
from faces.emotions import EMOTIONS

FLOOR = 1e-6
"""The least probability that a support head gives; its logarithm stays finite."""


class SupportHead(nn.Module):
    """A last layer that compares features with those of known faces, its support set.

    The softmax of ``sharpness`` × cosine similarity says how much each known face counts, as in
    matching networks (Vinyals et al., "Matching Networks for One Shot Learning", 2016), there with
    a sharpness of 1. It is a nearest-neighbour classifier with soft borders.

    Args:
        in_features: D, the width of the features.
        faces: M, how many are known.
        sharpness: the greater, the fewer known faces count.

    Attributes:
        support: features of the known faces, of length 1, shape (M, D).
        targets: what they show, shape (M, 7); rows sum to 1.
    """

    support: Tensor
    targets: Tensor

    def __init__(self, in_features: int, faces: int, sharpness: float) -> None:
        super().__init__()
        self.in_features, self.sharpness = in_features, sharpness
        self.register_buffer("support", torch.zeros(faces, in_features))
        self.register_buffer("targets", torch.full((faces, len(EMOTIONS)), 1 / len(EMOTIONS)))

    def forward(self, features: Tensor) -> Tensor:
        """Map features (N, D) to logarithms of probabilities (N, 7)."""
        similarity = F.normalize(features.float()) @ self.support.T
        weights = (self.sharpness * similarity.float()).softmax(1)
        logits: Tensor = (weights @ self.targets).float().clamp_min(FLOOR).log()
        return logits


class MatchingNetwork(FaceRecognitionResNet):
    """A face recognition network whose last layer is a support set.

    Args:
        faces: how many the support set holds.
        sharpness: of the comparison.
        size: height and width in pixels to which faces are enlarged.
        dropout: of the network that it was made of; without effect, as only that is trained.
    """

    def __init__(self, faces: int, sharpness: float, size: int = 96, dropout: float = 0.0) -> None:
        super().__init__(size, dropout)
        head = SupportHead(self.head.in_features, faces, sharpness)
        self.head = head  # type: ignore[assignment]
