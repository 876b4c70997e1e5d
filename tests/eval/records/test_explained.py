"""What a classifier looks at, drawn for each face of a photo."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from classification.inference.classifier import NetworkClassifier, TrainedNetwork
from classification.modeling.face_resnet import FaceResNet
from classification.modeling.normalization import Normalization
from eval.records.explained import LAYERS, MAPS, explained_figure
from faces.pipeline import Image
from faces.types import Box, Detection, EmotionProbabilities, Face

PHOTO = np.random.default_rng(0).integers(0, 256, (80, 120, 3), dtype=np.uint8)


BOXES = (Box(0, 0, 50, 50), Box(60, 20, 118, 78))
HAPPY = EmotionProbabilities((0.01, 0.01, 0.01, 0.9, 0.01, 0.01, 0.05))
FACES = [Face(Detection(box, 0.9), HAPPY) for box in BOXES]


class Bright:
    """Is happy as far as the crop's lower half is bright."""

    name = "bright"

    def probabilities(self, crops: Sequence[Image]) -> NDArray[np.float32]:
        rows = np.full((len(crops), 7), 0.01, np.float32)
        for row, crop in zip(rows, crops, strict=True):
            row[3] = 0.9 + 0.04 * crop[len(crop) // 2 :].mean() / 255
            row[6] = 1 - row[3] - 0.05
        return rows


def test_a_network_shows_its_layers_too() -> None:
    torch.manual_seed(0)
    network = TrainedNetwork(
        "face_resnet", {"widths": [8, 16, 16], "depths": [1, 1, 1]}, Normalization(0.5, 0.25)
    )
    state = FaceResNet(**network.model).state_dict()
    classifier = NetworkClassifier(network, state, torch.device("cpu"), "n", torch.float32)
    panels = explained_figure(PHOTO, FACES, classifier).axes
    assert len(panels) == 2 * (2 + MAPS * LAYERS)
    assert np.array_equal(np.asarray(panels[0].images[0].get_array()), PHOTO[:50, :50])
    maps = [np.asarray(axes.images[0].get_array()) for axes in panels[2:8]]
    assert [one.shape[0] for one in maps] == sorted((one.shape[0] for one in maps), reverse=True)


def test_other_classifiers_show_what_speaks_for_the_emotion() -> None:
    panels = explained_figure(PHOTO, FACES, Bright()).axes
    assert len(panels) == 4
    assert panels[1].get_title() == "speaks for happy (red)"
