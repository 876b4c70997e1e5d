from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from classification.ensemble import Ensemble


class Constant:
    def __init__(self, name: str, row: Sequence[float]) -> None:
        self.name, self.row = name, row

    def scores(self, crops: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        return np.tile(np.array(self.row, np.float32), (len(crops), 1))


def test_an_ensemble_averages_its_members() -> None:
    ensemble = Ensemble(
        [Constant("a", [1, 0, 0, 0, 0, 0, 0]), Constant("b", [0.2, 0, 0, 0.8, 0, 0, 0])]
    )
    crop = np.zeros((48, 48, 3), np.uint8)
    scores = ensemble.scores([crop, crop])
    assert ensemble.name == "a+b" and scores.dtype == np.float32
    np.testing.assert_allclose(scores, [[0.6, 0, 0, 0.4, 0, 0, 0]] * 2, atol=1e-7)
    assert ensemble.scores([]).shape == (0, 7)
