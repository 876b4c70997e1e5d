"""Why a classifier decides as it does: what it looks at in a face, and what its layers see."""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from classification.inference.classifier import NetworkClassifier, to_grey
from faces.emotions import EMOTIONS
from faces.pipeline import EmotionClassifier

SALIENCY_SIDE = 96
"""Larger crops are shrunk to this side first, in pixels: twice what classifiers look at."""

_STEPS = 9
_PATCH = 0.25


def saliency_map(
    classifier: EmotionClassifier, crop: NDArray[np.uint8], emotion: str
) -> NDArray[np.float32]:
    """Return how much each part of a face speaks for an emotion, by hiding one part after another.

    A grey square of a quarter of the side is put in 9 × 9 places (occlusion sensitivity: Zeiler and
    Fergus, "Visualizing and Understanding Convolutional Networks", 2014). It asks nothing of the
    classifier but its probabilities, so KNN is explained as a network is.

    The face is (S, S, 3) uint8 RGB. Returns (T, T) float32 with T = min(S, ``SALIENCY_SIDE``), in
    [-1, 1]: by how much the emotion's probability falls when this pixel is hidden, averaged over
    the squares that cover it; below zero where hiding raises it.
    """
    side = min(len(crop), SALIENCY_SIDE)
    face = cv2.resize(crop, (side, side), interpolation=cv2.INTER_AREA)
    patch = max(1, round(_PATCH * side))
    starts = np.unique(np.linspace(0, side - patch, _STEPS).round().astype(int))
    places = [np.s_[y : y + patch, x : x + patch] for y in starts for x in starts]
    grey = face.mean(axis=(0, 1)).round().astype(np.uint8)
    views = [np.ascontiguousarray(face, np.uint8)]
    for place in places:
        hidden = views[0].copy()
        hidden[place] = grey
        views.append(hidden)
    shown, *others = classifier.probabilities(views)[:, EMOTIONS.index(emotion)]
    total, covered = np.zeros((side, side), np.float32), np.zeros((side, side), np.float32)
    for place, probability in zip(places, others, strict=True):
        total[place] += shown - probability
        covered[place] += 1
    return total / covered


def layers(classifier: NetworkClassifier) -> dict[str, tuple[int, int, int]]:
    """Return the layers whose feature maps can be shown, in the order in which they work.

    Name → (channels, height, width): the network's parts and their parts, as far as what they
    return has an extent.
    """
    size = classifier.network.size
    found: dict[int, tuple[str, Tensor]] = {}  # a part and its last part return the same tensor
    with ExitStack() as stack:
        for name, module in classifier.model.named_modules():
            if name and name.count(".") < 2:
                hook = partial(_note, found, name)
                stack.callback(module.register_forward_hook(hook).remove)
        _run(classifier, np.zeros((size, size, 3), np.uint8))
    shapes = ((name, tuple(output.shape[1:])) for name, output in found.values())
    return {name: shape for name, shape in shapes if len(shape) == 3 and shape[1] * shape[2] > 1}


def feature_maps(
    classifier: NetworkClassifier, crop: NDArray[np.uint8], layer: str
) -> NDArray[np.float32]:
    """Return what a layer, one of ``layers``, makes of a face: (channels, height, width) floats."""
    kept: list[Tensor] = []

    def keep(_module: nn.Module, _inputs: object, output: Tensor) -> None:
        kept.append(output.detach().float().cpu().clone())  # a later layer may overwrite it

    handle = classifier.model.get_submodule(layer).register_forward_hook(keep)
    try:
        _run(classifier, crop)
    finally:
        handle.remove()
    maps: NDArray[np.float32] = kept[0][0].numpy()
    return maps


def _run(classifier: NetworkClassifier, crop: NDArray[np.uint8]) -> None:
    """Run the network itself; what ``probabilities`` runs may be a copy without the hooks."""
    network = classifier.network
    x = network.normalization([to_grey(crop, network.size)])
    with torch.inference_mode():
        classifier.model(x.to(classifier.device, memory_format=torch.channels_last))


def _note(
    found: dict[int, tuple[str, Tensor]],
    name: str,
    _module: object,
    _inputs: object,
    output: Tensor,
) -> None:
    known, _ = found.get(id(output), ("", None))
    if name.count(".") >= known.count("."):
        found[id(output)] = name, output
