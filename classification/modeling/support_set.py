"""A network that decides by likeness to faces whose emotion is known."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from classification.modeling.face_recognition_resnet import FaceRecognitionResNet
from classification.modeling.face_resnet import FaceResNet, build_network
from faces.emotions import EMOTIONS

FLOOR = 1e-6
"""The smallest probability that a support head gives; its logarithm stays finite."""

NEAREST = 1e-4
"""Squared distances below this one count as it; half precision moves them by about as much."""


class SupportHead(nn.Module):
    """A last layer that compares features with those of known faces, its support set.

    A known face counts by its distance to the power of ``-power`` (inverse distance weighting:
    Shepard, "A two-dimensional interpolation function for irregularly-spaced data", 1968), features
    having length 1; what they show is averaged. As in matching networks (Vinyals et al., "Matching
    Networks for One Shot Learning", 2016) the whole training set answers, there weighed by the
    softmax of the cosine. Distances need float32: of near faces, other formats leave little.

    Args:
        in_features: D, the width of the features.
        faces: M, how many are known.
        power: the greater, the fewer known faces count.

    Attributes:
        support: features of the known faces, of length 1, shape (M, D).
        targets: what they show, shape (M, 7); rows sum to 1.
    """

    support: Tensor
    targets: Tensor

    def __init__(self, in_features: int, faces: int, power: float) -> None:
        super().__init__()
        self.in_features, self.power = in_features, power
        self.register_buffer("support", torch.zeros(faces, in_features))
        self.register_buffer("targets", torch.full((faces, len(EMOTIONS)), 1 / len(EMOTIONS)))

    def forward(self, features: Tensor) -> Tensor:
        """Map features (N, D) to logarithms of probabilities (N, 7)."""
        with torch.autocast(features.device.type, enabled=False):
            cosine = F.normalize(features.float()) @ self.support.T
            squared = (2 - 2 * cosine).clamp_min(NEAREST)
            weights = (-self.power / 2 * squared.log()).softmax(1)
            logits: Tensor = (weights @ self.targets).clamp_min(FLOOR).log()
        return logits


FeatureNetwork = FaceResNet | FaceRecognitionResNet
"""The networks that can have a support set: their ``features`` go to ``head``, one layer."""


def matching_network(
    faces: int, power: float, network: str = "face_recognition_resnet", **model: Any
) -> FeatureNetwork:
    """Build a network whose last layer is a support set.

    Args:
        faces: how many the support set holds.
        power: of the distances.
        network: which network, a key of ``MODELS``.
        model: arguments of its constructor.

    Raises:
        ValueError: it cannot be built, or not have a support set.
    """
    built = build_network(network, model)
    if not isinstance(built, FeatureNetwork):
        raise ValueError(f"a {network} cannot have a support set")
    setattr(built, "head", SupportHead(built.head.in_features, faces, power))  # noqa: B010
    return built
