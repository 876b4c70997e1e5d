"""torchvision's networks as it trained them on ImageNet (BSD), fetched once and then cached."""

from __future__ import annotations

import torch
import torchvision
from torch import Tensor

from faces.command import UserError
from networks.pretrained.mobilenet import mobilenet_state


def imagenet_state(name: str) -> dict[str, Tensor]:
    """Return the ``IMAGENET1K_V1`` weights of ``torchvision.models.<name>``, by their names there.

    A ``UserError`` says that they are neither here nor can be fetched.
    """
    if name == "mobilenet_v2":  # has a package
        return mobilenet_state()
    weights = torchvision.models.get_model_weights(name)["IMAGENET1K_V1"]
    try:
        state: dict[str, Tensor] = weights.get_state_dict(progress=False, check_hash=True)
    except (OSError, RuntimeError) as error:
        raise UserError(
            f"ImageNet weights of {name}: {weights.url} cannot be fetched ({error}). Put the file "
            f"into {torch.hub.get_dir()}/checkpoints, or train without: published_start false"
        ) from error
    return state
