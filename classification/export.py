"""Make a run's network a shipped one: ``python -m classification.export RUN NAME``.

Writes ``weights/NAME.safetensors`` (half precision) and the card ``weights/NAME.json``, which has
the file's sha256. ``weights/models.toml`` says which names are offered.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from classification.inference.classifier import load_network, save_network
from classification.training.card import WEIGHTS, write_json
from faces.command import UserError, make_parser, run_command
from faces.files import file_sha256
from faces.provenance import read_card

COMMAND = "classification.export"


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


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = make_parser(COMMAND, __doc__)
    parser.add_argument("run", type=Path, help="a run folder of classification.train")
    parser.add_argument("name", help="of the shipped model")
    parser.add_argument("--weights", type=Path, default=WEIGHTS, help="the folder to write to")

    def action(args: argparse.Namespace, _: str) -> int:
        print(f"wrote {export_run(args.run, args.name, args.weights)} and its card")
        return 0

    return run_command(COMMAND, parser, action, argv)


if __name__ == "__main__":
    sys.exit(main())
