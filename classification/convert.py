"""Turn a published emotion network into a run folder: ``python -m classification.convert --help``.

FILE is ``model/fr_expression.onnx`` of the npm package ``faceplugin-face-recognition-js`` 0.0.1
(MIT; `npm pack` fetches it): a DenseNet-121 trained on FER2013. The run answers as that network
does, and is used like every run: evaluated, exported, as a member of an ensemble, as a teacher, or
as a start, for which its norms get the statistics of images of Training.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from classification.data.fer2013 import Fer2013, load_fer2013
from classification.inference.classifier import NetworkClassifier, TrainedNetwork, save_network
from classification.modeling.face_resnet import build_network, parameter_count
from classification.modeling.folded_norms import standardise
from classification.modeling.normalization import Normalization
from classification.training.card import check_new_run, facts_of_data, model_card, write_json
from faces.command import run
from faces.files import file_sha256
from faces.provenance import command_line, git_commit
from networks.pretrained.faceplugin import SIZE, folded_layers, read_faceplugin

COMMAND = "classification.convert"
PACKAGE = "npm faceplugin-face-recognition-js 0.0.1"
SAMPLE = 128
"""Images of Training whose statistics the norms get."""


def convert(path: Path, training: Fer2013) -> tuple[TrainedNetwork, dict[str, Tensor]]:
    """Return faceplugin's network as one of ours, on grey images, and its weights.

    Beyond an image's border it sees the mean grey where the original sees black.

    Args:
        path: its ONNX file.
        training: FER2013's Training, at least ``SAMPLE`` images.

    Raises:
        UserError: the file is damaged or another network's.
    """
    normalization = Normalization.of(training.images)
    arguments = {"name": "densenet121", "size": SIZE}
    model = build_network("torchvision", arguments).eval()
    state = read_faceplugin(path)
    (conv, norm), *_ = folded_layers()
    kernel = state[f"{conv}.weight"].sum(1, keepdim=True)
    state[f"{conv}.weight"] = kernel * normalization.std
    state[f"{norm}.bias"] += kernel.sum((1, 2, 3)) * normalization.mean
    counters = {k: v for k, v in model.network.state_dict().items() if k.endswith("_tracked")}
    model.network.load_state_dict(state | counters)
    chosen = np.random.default_rng(0).permutation(len(training.images))[:SAMPLE]
    faces = normalization(training.images[chosen])
    part = model.network.get_submodule
    layers = [(part(conv), part(norm)) for conv, norm in folded_layers()]
    standardise(layers, lambda: model(faces))
    return TrainedNetwork("torchvision", arguments, normalization), model.state_dict()


def write_run(path: Path, data: Fer2013, out: Path, made: dict[str, str | None]) -> float:
    """Write the network and its card into a run folder; returns the accuracy on PublicTest.

    Raises:
        UserError: as ``convert``, or a split is missing.
    """
    public = data.split("PublicTest")
    network, state = convert(path, data.split("Training"))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    classifier = NetworkClassifier(network, state, device, out.name)
    predicted = classifier.probabilities_of_grey(
        public.images, progress=sys.stderr.isatty()
    ).argmax(1)
    recipe = {"architecture": network.architecture, "model": network.model}
    training = {
        "recipe": recipe,
        "parameters": parameter_count(classifier.model),
        "versions": {},
        "precision": "unknown",
        "device": "unknown",
        "hours": 0.0,
        "source": {"package": PACKAGE, "licence": "MIT", "sha256": file_sha256(path)},
        **made,
    }
    chosen_on = "unknown: by its authors, perhaps on PublicTest or PrivateTest"
    card = model_card(facts_of_data(data, recipe), training, chosen_on, public, predicted)
    out.mkdir(parents=True, exist_ok=True)
    save_network(out / "model.safetensors", state, network)
    write_json(out / "card.json", card)
    return float(card["public_test"]["accuracy"])


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog=f"python -m {COMMAND}",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("file", type=Path, metavar="FILE", help="fr_expression.onnx")
    parser.add_argument("--data", type=Path, required=True, help="FER2013: csv, folder or zip")
    parser.add_argument("--out", type=Path, required=True, help="run folder to write")
    args = parser.parse_args(argv)
    made = {"command": command_line(COMMAND, argv), "commit": git_commit()}

    def action() -> int:
        check_new_run(args.out)
        data = load_fer2013(args.data, progress=sys.stderr.isatty())
        accuracy = write_run(args.file, data, args.out, made)
        print(f"PublicTest accuracy {accuracy:.4f}; the run is in {args.out}")
        return 0

    return run(COMMAND, action)


if __name__ == "__main__":
    sys.exit(main())
