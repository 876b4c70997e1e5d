from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from classification.inference.ensemble import Ensemble


class Constant:
    def __init__(self, name: str, row: Sequence[float]) -> None:
        self.name, self.row = name, row

    def probabilities(self, crops: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        return np.tile(np.array(self.row, np.float32), (len(crops), 1))


class Calibrated(Constant):
    def __init__(self, name: str, row: Sequence[float], before: Constant) -> None:
        super().__init__(name, row)
        self.before = before

    def uncalibrated(self) -> Constant:
        return self.before


def test_an_ensemble_averages_its_members() -> None:
    ensemble = Ensemble(
        [Constant("a", [1, 0, 0, 0, 0, 0, 0]), Constant("b", [0.2, 0, 0, 0.8, 0, 0, 0])]
    )
    crop = np.zeros((48, 48, 3), np.uint8)
    scores = ensemble.probabilities([crop, crop])
    assert ensemble.name == "a+b" and scores.dtype == np.float32
    np.testing.assert_allclose(scores, [[0.6, 0, 0, 0.4, 0, 0, 0]] * 2, atol=1e-7)
    assert ensemble.probabilities([]).shape == (0, 7)


def test_an_ensemble_uncalibrated_is_that_of_its_members_as_trained() -> None:
    crop = np.zeros((48, 48, 3), np.uint8)
    first, second = Constant("a", [1, 0, 0, 0, 0, 0, 0]), Constant("b", [0, 1, 0, 0, 0, 0, 0])
    assert Ensemble([first, second]).uncalibrated() is None
    plain = Ensemble([first, Calibrated("b", [0, 0, 1, 0, 0, 0, 0], second)]).uncalibrated()
    assert plain is not None and plain.name == "a+b"
    np.testing.assert_allclose(plain.probabilities([crop]), [[0.5, 0.5, 0, 0, 0, 0, 0]])
