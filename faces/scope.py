"""How closely a detector looks at images: the choice that users have, everywhere the same."""

from __future__ import annotations

import math
from argparse import ArgumentParser
from dataclasses import dataclass

from faces.command import UserError, positive_pixels

DETAILS = ("fast", "standard", "full")
"""How closely to look for faces: one look at the whole image, scaled down; closer where a first
look has seen something small; as close everywhere."""

MIN_FACE = 12.0
"""The smallest faces that are looked for, in pixels of the image, if the user names no other size.
For smaller ones an image would have to be enlarged."""


@dataclass(frozen=True, slots=True)
class Scope:
    """How closely a detector looks at images.

    Raises:
        UserError: another ``detail``, or ``min_face`` is below 4 or not finite.
    """

    detail: str = "standard"  # one of ``DETAILS``
    min_face: float = MIN_FACE  # shorter side, pixels of the image; ``fast``: its size decides

    def __post_init__(self) -> None:
        if self.detail not in DETAILS:
            raise UserError(f"detail {self.detail!r}: must be one of {', '.join(DETAILS)}")
        if not 4 <= self.min_face < math.inf:
            raise UserError(f"smallest face {self.min_face:g}: must be 4 pixels or more")


def add_scope_options(parser: ArgumentParser) -> None:
    """Add the options that say how closely to look for faces: ``--detail`` and ``--min-face``."""
    parser.add_argument(
        "--detail",
        choices=DETAILS,
        default="standard",
        help="how closely to look for small faces in large images: fast (one look at the whole "
        "image, scaled down), standard (closer where something small was seen) or full (as close "
        "everywhere); default: standard",
    )
    parser.add_argument(
        "--min-face",
        type=positive_pixels,
        default=MIN_FACE,
        metavar="PX",
        help=f"the smallest faces to look for, in pixels of the image (default {MIN_FACE:g}); "
        "larger is faster",
    )
