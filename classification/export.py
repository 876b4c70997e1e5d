"""Make a run's network a shipped one: ``python -m classification.export RUN NAME``.

Writes ``weights/NAME.safetensors`` (half precision) and the card ``weights/NAME.json``, which has
the file's sha256. ``weights/models.toml`` says which names are offered.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from classification.inference.classifier import load_network, save_network
from classification.training.card import WEIGHTS, write_json
from faces.command import Command, UserError
from faces.files import file_sha256
from faces.provenance import read_card


def export_run(folder: Path, name: str, weights: Path = WEIGHTS) -> Path:
    """Copy a run's best network and card to the folder of shipped weights; return the weights file.

    Raises:
        UserError: the run has no finished network or no card.
    """
    network, state = load_network(folder / "model.safetensors")
    card_path = folder / "card.json"
    if not card_path.is_file():
        raise UserError(f"{folder}: has no card.json yet; let the training finish (--resume)")
    card = read_card(card_path)
    weights.mkdir(parents=True, exist_ok=True)
    target = weights / f"{name}.safetensors"
    halved = {k: v.half() if v.is_floating_point() else v for k, v in state.items()}
    save_network(target, halved, network)
    sha256 = file_sha256(target)
    write_json(weights / f"{name}.json", {"name": name, "sha256": sha256, **card})
    return target


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", type=Path, help="a run folder of classification.train")
    parser.add_argument("name", help="of the shipped model")
    parser.add_argument("--weights", type=Path, default=WEIGHTS, help="the folder to write to")


def _export(args: argparse.Namespace) -> None:
    print(f"wrote {export_run(args.run, args.name, args.weights)} and its card")


main = Command("classification.export", __doc__, _add_options, _export)


if __name__ == "__main__":
    sys.exit(main())
