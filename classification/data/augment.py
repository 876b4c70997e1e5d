"""How training images are varied."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Annotated

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # its first import looks for updates online

import albumentations
import cv2
import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Augmentation:
    """How far training images are varied; 0 switches a step off. Each has a range of its own."""

    shift: Annotated[float, 0, 0.5] = 0.1  # largest along each axis, as a fraction of the side
    rotate: Annotated[float, 0, 180] = 15.0  # largest rotation in degrees
    scale: Annotated[float, 0, 0.9] = 0.15  # largest change of scale, as a fraction
    flip: Annotated[float, 0, 1] = 0.5  # probability of a mirror image
    brightness: Annotated[float, 0, 1] = 0.2  # largest change, as a fraction of the range
    contrast: Annotated[float, 0, 1] = 0.2  # largest change, as a fraction
    # probability of a halved resolution (small faces in photos look so)
    blur: Annotated[float, 0, 1] = 0.0
    # probability of erasing a rectangle (Zhong et al., "Random Erasing", 2020)
    erase: Annotated[float, 0, 1] = 0.25
    # parameter of the Beta distribution of mixup (Zhang et al., 2018)
    mixup: Annotated[float, 0, 100] = 0.2
    mixup_until: Annotated[float, 0, 1] = 1.0  # share of the training after which mixup stops


class TrainPreset:
    """Vary one grey image at random, reproducibly."""

    def __init__(self, config: Augmentation) -> None:
        steps: list[albumentations.BasicTransform] = []
        if config.flip:
            steps.append(albumentations.HorizontalFlip(p=config.flip))
        if config.shift or config.rotate or config.scale:
            steps.append(
                albumentations.Affine(
                    translate_percent=(-config.shift, config.shift),
                    rotate=(-config.rotate, config.rotate),
                    scale=(1 - config.scale, 1 + config.scale),
                    border_mode=cv2.BORDER_REPLICATE,
                    p=1.0,
                )
            )
        if config.brightness or config.contrast:
            steps.append(
                albumentations.RandomBrightnessContrast(config.brightness, config.contrast, p=0.8)
            )
        if config.blur:
            steps.append(albumentations.Downscale(scale_range=(0.4, 0.7), p=config.blur))
        if config.erase:
            steps.append(
                albumentations.Erasing(
                    scale=(0.02, 0.2), ratio=(0.4, 2.5), fill="random_uniform", p=config.erase
                )
            )
        self._transform = albumentations.Compose(steps)

    def seed(self, value: int) -> None:
        """Make what follows depend on ``value`` alone."""
        self._transform.set_random_seed(value)

    def __call__(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return a varied copy of ``image``, shape (H, W), uint8."""
        varied: NDArray[np.uint8] = self._transform(image=image[..., None])["image"][..., 0]
        return varied
