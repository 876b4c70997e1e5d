"""Why a classifier decides as it does; for applications, which import no stage themselves."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from classification.inference import explain
from classification.inference.classifier import NetworkClassifier
from classification.inference.explain import saliency_map
from faces.pipeline import EmotionClassifier, Image

__all__ = ["feature_maps", "layers", "saliency_map"]


def layers(classifier: EmotionClassifier) -> dict[str, tuple[int, int, int]]:
    """Return name → (channels, height, width) of a network's layers; {} if it is no network."""
    return explain.layers(classifier) if isinstance(classifier, NetworkClassifier) else {}


def feature_maps(classifier: EmotionClassifier, crop: Image, layer: str) -> NDArray[np.float32]:
    """Return what a layer, one of ``layers``, makes of a face: (channels, height, width) floats."""
    if not isinstance(classifier, NetworkClassifier):
        raise TypeError(f"{classifier.name}: is no network and has no layers")
    return explain.feature_maps(classifier, crop, layer)
