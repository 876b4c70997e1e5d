"""Draw what a classifier looks at in the faces of a photo, and what its layers make of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from classification.inference.classifier import NetworkClassifier
from classification.inference.explain import feature_maps, layers, saliency_map
from faces.crops import crop_face
from faces.pipeline import EmotionClassifier, Image
from faces.types import EmotionProbabilities, Face

LAYERS = 3
"""Layers whose maps are drawn: the first, the last that has an extent, and one between."""

MAPS = 2
"""Channels per layer: those that vary most over the face."""


def explained_figure(photo: Image, faces: Sequence[Face], classifier: EmotionClassifier) -> Figure:
    """Draw one row per face of a photo: the crop, the saliency map of its emotion, feature maps.

    Feature maps are drawn for single networks only.
    """
    chosen: Sequence[str] = ()
    if isinstance(classifier, NetworkClassifier):
        names = list(layers(classifier))
        places = np.linspace(0, len(names) - 1, min(LAYERS, len(names))).round()
        chosen = [names[int(place)] for place in places]
    columns = 2 + MAPS * len(chosen)
    figure = Figure(figsize=(1.7 * columns, 1.95 * len(faces)), layout="constrained")
    panels = figure.subplots(len(faces), columns, squeeze=False)
    for row, face in zip(panels, faces, strict=True):
        crop = crop_face(photo, face.detection.box)
        _draw_saliency(row[0], row[1], classifier, crop, face.emotions)
        shown = iter(row[2:])
        for layer in chosen:
            assert isinstance(classifier, NetworkClassifier)
            for channel in _liveliest(feature_maps(classifier, crop, layer)):
                axes = next(shown)
                axes.imshow(channel, cmap="viridis")
                axes.set_title(layer, fontsize=8)
    for axes in panels.ravel():
        axes.set(xticks=[], yticks=[])
    return figure


def _draw_saliency(
    left: Axes,
    right: Axes,
    classifier: EmotionClassifier,
    crop: Image,
    emotions: EmotionProbabilities,
) -> None:
    top = emotions.top
    left.imshow(crop)
    left.set_title(f"{top} {100 * max(emotions.probabilities):.0f} %", fontsize=8)
    saliency = saliency_map(classifier, crop, top)
    limit = float(np.abs(saliency).max()) or 1.0
    extent = (0, len(crop), len(crop), 0)
    right.imshow(crop.mean(axis=2), cmap="gray", extent=extent)
    right.imshow(saliency, cmap="coolwarm", vmin=-limit, vmax=limit, alpha=0.55, extent=extent)
    right.set_title(f"speaks for {top} (red)", fontsize=8)


def _liveliest(maps: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the channels (MAPS, H, W) of maps (C, H, W) that vary most."""
    spread = maps.reshape(len(maps), -1).std(axis=1)
    found: NDArray[np.float32] = maps[np.argsort(-spread, kind="stable")[:MAPS]]
    return found
