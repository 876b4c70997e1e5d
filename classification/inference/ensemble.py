"""Several classifiers that answer as one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from faces.pipeline import EmotionClassifier, Image


class Ensemble:
    """The mean of its members' probabilities, as an ``EmotionClassifier``."""

    def __init__(self, members: Sequence[EmotionClassifier]) -> None:
        self.members = tuple(members)
        self.name = "+".join(member.name for member in self.members)

    def uncalibrated(self) -> Ensemble | None:
        """Return the ensemble of its members as they were trained; None if they still are."""
        plain = [getattr(member, "uncalibrated", lambda: None)() for member in self.members]
        if not any(plain):
            return None
        return Ensemble([new or old for new, old in zip(plain, self.members, strict=True)])

    def probabilities(self, crops: Sequence[Image]) -> NDArray[np.float32]:
        """Return probabilities (N, 7) float32 of N square crops, each (S, S, 3) uint8 RGB."""
        mean = np.mean([member.probabilities(crops) for member in self.members], axis=0)
        return np.asarray(mean, np.float32)
