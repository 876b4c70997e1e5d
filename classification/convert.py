"""Turn a published emotion network into a run folder: ``python -m classification.convert --help``.

FILE is ``model/fr_expression.onnx`` of the npm package ``faceplugin-face-recognition-js`` 0.0.1
(MIT; `npm pack` fetches it): a DenseNet-121 trained on FER2013. The run answers as that network
does, and is used like every run: evaluated, exported, as a member of an ensemble, as a teacher, or
as a start, for which its norms get the statistics of images of Training.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from classification.data.fer2013 import Fer2013, load_fer2013
from classification.inference.classifier import TrainedNetwork
from classification.modeling.face_resnet import build_network, parameter_count
from classification.modeling.folded_norms import standardise
from classification.modeling.normalization import Normalization
from classification.modeling.published_cnns import TorchvisionNet
from classification.training.card import check_new_run, write_derived_run
from classification.training.options import add_data_options
from faces.command import Command
from faces.files import file_sha256
from faces.provenance import git_commit
from networks.pretrained.faceplugin import SIZE, folded_layers, read_faceplugin

PACKAGE = "npm faceplugin-face-recognition-js 0.0.1"
SAMPLE = 128
"""Images of Training whose statistics the norms get."""


def convert(path: Path, training: Fer2013) -> tuple[TrainedNetwork, dict[str, Tensor]]:
    """Return faceplugin's network as one of ours, on grey images, and its weights.

    Beyond an image's border it sees the mean grey where the original sees black. ``training`` is
    FER2013's, of at least ``SAMPLE`` images; ``path`` an ONNX file, which a ``UserError`` calls
    damaged or another network's.
    """
    normalization = Normalization.of(training.images)
    arguments = {"name": "densenet121", "size": SIZE}
    model = TorchvisionNet("densenet121", SIZE).eval()
    state = read_faceplugin(path)
    (conv, norm), *_ = folded_layers()
    kernel = state[f"{conv}.weight"].sum(1, keepdim=True)
    state[f"{conv}.weight"] = kernel * normalization.std
    state[f"{norm}.bias"] += kernel.sum((1, 2, 3)) * normalization.mean
    counters = {k: v for k, v in model.network.state_dict().items() if k.endswith("_tracked")}
    model.network.load_state_dict(state | counters)
    chosen = np.random.default_rng(0).permutation(len(training.images))[:SAMPLE]
    faces = normalization(training.images[chosen])
    part: Callable[[str], Any] = model.network.get_submodule
    layers = [(part(conv), part(norm)) for conv, norm in folded_layers()]
    standardise(layers, lambda: model(faces))
    return TrainedNetwork("torchvision", arguments, normalization), model.state_dict()


def _write_run(args: argparse.Namespace) -> None:
    check_new_run(args.out)
    data = load_fer2013(args.data, progress=sys.stderr.isatty())
    network, state = convert(args.file, data.split("Training"))
    training = {
        "recipe": {"architecture": network.architecture, "model": network.model},
        "parameters": parameter_count(build_network(network.architecture, network.model)),
        "versions": {},
        "precision": "unknown",
        "device": "unknown",
        "hours": 0.0,
        "source": {"package": PACKAGE, "licence": "MIT", "sha256": file_sha256(args.file)},
        "command": args.made_by,
        "commit": git_commit(),
    }
    chosen_on = "unknown: by its authors, perhaps on PublicTest or PrivateTest"
    write_derived_run(args.out, network, state, data, training, 0.0, chosen_on)


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, metavar="FILE", help="fr_expression.onnx")
    add_data_options(parser, out="run folder to write")


main = Command("classification.convert", __doc__, _add_options, _write_run)


if __name__ == "__main__":
    sys.exit(main())
