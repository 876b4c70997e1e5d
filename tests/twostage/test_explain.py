"""Explanations of any classifier, as applications ask for them."""

from __future__ import annotations

import numpy as np
import pytest

from twostage import explain


class Flat:
    name = "flat"

    def probabilities(self, crops: list[np.ndarray]) -> np.ndarray:
        return np.full((len(crops), 7), 1 / 7, np.float32)


def test_a_classifier_that_is_no_network_has_a_saliency_map_but_no_layers() -> None:
    crop = np.zeros((20, 20, 3), np.uint8)
    assert not explain.saliency_map(Flat(), crop, "happy").any()
    assert explain.layers(Flat()) == {}
    with pytest.raises(TypeError, match="flat: is no network"):
        explain.feature_maps(Flat(), crop, "stem")
