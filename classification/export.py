"""Make a run's network a shipped one: ``python -m classification.export RUN NAME``.

Writes ``weights/NAME.safetensors`` (half precision) and the card ``weights/NAME.json``, which has
the file's sha256. ``weights/models.toml`` says which names are offered.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from collections.abc import Sequence
from pathlib import Path

from classification.inference.classifier import WeightsError, load_network, save_network
from classification.training.card import write_json
from faces.provenance import CardError, read_card

WEIGHTS = Path(__file__).resolve().parent.parent / "weights"


def export_run(run: Path, name: str, weights: Path = WEIGHTS) -> Path:
    """Copy a run's best network and card to the folder of shipped weights.

    Args:
        run: what ``classification.train`` left.
        name: of the model.
        weights: the folder to write to.

    Returns:
        The weights file.

    Raises:
        WeightsError: the run has no finished network or no card.
        CardError: its card cannot be read.
    """
    network, state = load_network(run / "model.safetensors")
    card_path = run / "card.json"
    if not card_path.is_file():
        raise WeightsError(f"{run}: has no card.json yet; let the training finish (--resume)")
    card = read_card(card_path)
    weights.mkdir(parents=True, exist_ok=True)
    target = weights / f"{name}.safetensors"
    halved = {k: v.half() if v.is_floating_point() else v for k, v in state.items()}
    save_network(target, halved, network)
    digest = hashlib.sha256(target.read_bytes()).hexdigest()
    write_json(weights / f"{name}.json", {"name": name, "sha256": digest, **card})
    return target


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m classification.export", description=__doc__)
    parser.add_argument("run", type=Path, help="a run folder of classification.train")
    parser.add_argument("name", help="of the shipped model")
    parser.add_argument("--weights", type=Path, default=WEIGHTS, help="the folder to write to")
    args = parser.parse_args(argv)
    try:
        print(f"wrote {export_run(args.run, args.name, args.weights)} and its card")
    except (WeightsError, CardError) as error:
        print(f"classification.export: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
