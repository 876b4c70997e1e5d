"""Looks: alike for one face at another place and size, unlike for other colours."""

from __future__ import annotations

import numpy as np
from PIL import Image as Pillow

from faces.types import Box
from video.looks import describe, unit


def likeness(one: np.ndarray, other: np.ndarray) -> float:
    return float(unit(one) @ unit(other).T)


def test_a_face_looks_alike_at_another_size_and_place() -> None:
    rng = np.random.default_rng(0)
    colours = rng.integers(0, 255, (6, 6, 3), dtype=np.uint8)
    small = np.asarray(Pillow.fromarray(colours).resize((48, 48), Pillow.Resampling.NEAREST))
    large = np.asarray(Pillow.fromarray(colours).resize((90, 90), Pillow.Resampling.NEAREST))
    image = np.full((200, 300, 3), 30, np.uint8)
    image[10:58, 20:68], image[100:190, 150:240] = small, large
    looks = describe(image, [Box(20, 10, 68, 58), Box(150, 100, 240, 190), Box(0, 60, 60, 120)])
    assert looks.shape == (3, 400) and looks.dtype == np.uint8
    assert likeness(looks[0], looks[1]) > 0.9 > 0.5 > likeness(looks[0], looks[2])


def test_upper_and_lower_half_are_told_apart() -> None:
    image = np.zeros((40, 40, 3), np.uint8)
    image[:20] = 250
    upright, turned = (describe(one, [Box(0, 0, 40, 40)])[0] for one in (image, image[::-1]))
    assert likeness(upright, turned) < 0.1


def test_boxes_beyond_the_image_and_no_boxes_are_described() -> None:
    image = np.full((40, 40, 3), 90, np.uint8)
    assert describe(image, []).shape == (0, 400)
    assert describe(image, [Box(-30, -30, -5, -5), Box(35, 35, 90, 90)]).any(axis=1).all()
