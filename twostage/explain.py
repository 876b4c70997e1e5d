"""Why a classifier decides as it does: what it looks at in a face, and what its layers see."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from faces.pipeline import EmotionClassifier, Image


def saliency_map(classifier: EmotionClassifier, crop: Image, emotion: str) -> NDArray[np.float32]:
    """Return what speaks for an emotion, part by part of a face.

    See ``classification.inference.explain.saliency_map``.
    """
    from classification.inference import explain

    return explain.saliency_map(classifier, crop, emotion)


def layers(classifier: EmotionClassifier) -> dict[str, tuple[int, int, int]]:
    """Return layer → its number of maps, their height and width; {} for what is no network."""
    from classification.inference import explain
    from classification.inference.classifier import NetworkClassifier

    return explain.layers(classifier) if isinstance(classifier, NetworkClassifier) else {}


def feature_maps(classifier: EmotionClassifier, crop: Image, layer: str) -> NDArray[np.float32]:
    """Return the maps of one of a network's ``layers`` for a face, (maps, height, width).

    Raises:
        ValueError: the classifier has no such layer.
    """
    from classification.inference import explain
    from classification.inference.classifier import NetworkClassifier

    if not isinstance(classifier, NetworkClassifier):
        raise ValueError(f"{classifier.name} has no layers")
    return explain.feature_maps(classifier, crop, layer)
