"""Average the weights of detectors: ``python -m detection.average RUN=SHARE … --out RUN``.

Of two runs of which one went on from the other, the mean keeps what the first knew and has what the
second learnt (Wortsman et al., "Robust fine-tuning of zero-shot models", CVPR 2022). The shares sum
to 1: choose them on validation data. The new run has the first one's configuration; what it shows
is chosen anew, by ``python -m eval.operating_point --write``.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from detectron2.modeling import build_model
from torch import Tensor

from detection.errors import DetectionError, RunError
from detection.modeling import checkpoints
from detection.modeling.config import load_config
from faces.provenance import command_line, file_sha256, git_commit, run_share

COMMAND = "detection.average"

KEPT = ("name", "started_from", "command", "commit", "finished", "hours")
"""What the new card says of each averaged run."""


def average(members: Sequence[tuple[Path, float]]) -> dict[str, Tensor]:
    """Return the mean of the runs' weights, float32; what is no floating point is the first's.

    Args:
        members: run folder and share of each; the shares sum to 1.

    Raises:
        RunError: a run is not finished, its network is another one, or the shares do not sum to 1.
        ConfigError: the first run's configuration cannot be used.
    """
    if not math.isclose(math.fsum(share for _, share in members), 1, abs_tol=1e-6):
        raise RunError("the shares do not sum to 1; change them")
    cfg = load_config(members[0][0] / checkpoints.CONFIG_FILE)
    cfg.MODEL.DEVICE = "cpu"
    model = build_model(cfg)
    mean: dict[str, Tensor] = {}
    for run, share in members:
        checkpoints.load_weights(run / checkpoints.MODEL_FILE, model)
        for name, value in model.state_dict().items():
            if not value.is_floating_point():
                mean.setdefault(name, value.clone())
            else:
                mean[name] = mean.get(name, torch.zeros_like(value)) + share * value
    return mean


def describe(members: Sequence[tuple[Path, float]]) -> dict[str, Any]:
    """Return the new card: the first run's, with the data and the hours of all.

    Raises:
        RunError: a run has no card of a detector.
    """
    cards = [checkpoints.read_card(run / checkpoints.CARD_FILE) for run, _ in members]
    for (run, _), card in zip(members, cards, strict=True):
        if card.get("kind") != "detector":
            raise RunError(f"{run}: no finished run of detection.train")
    averaged = [
        {"share": share, "sha256": file_sha256(run / checkpoints.MODEL_FILE)}
        | {key: card.get(key) for key in KEPT}
        for (run, share), card in zip(members, cards, strict=True)
    ]
    dropped = ("metrics", "score_threshold", "operating_point", "peak_memory_gb")
    first = {key: value for key, value in cards[0].items() if key not in dropped}
    together = {
        key: list({str(one): one for card in cards for one in card[key]}.values())
        for key in ("trained_on", "chosen_on")
    }
    hours = math.fsum(card["hours"] for card in cards)
    return first | together | {"hours": round(hours, 3), "averaged": averaged}


def write_run(members: Sequence[tuple[Path, float]], out: Path, made: dict[str, Any]) -> None:
    """Write the mean as a run folder.

    Args:
        members: as ``average`` takes them.
        out: the folder to make.
        made: command and commit, for the card.

    Raises:
        RunError: as ``average`` and ``describe``, or there is something already.
    """
    if out.exists():
        raise RunError(f"{out}: exists already; choose another --out")
    card, state = describe(members), average(members)
    config = (members[0][0] / checkpoints.CONFIG_FILE).read_text("utf-8")
    out.mkdir(parents=True)
    checkpoints.write_state(out / checkpoints.MODEL_FILE, state)
    checkpoints.write_text(out / checkpoints.CONFIG_FILE, config)
    text = json.dumps(card | {"name": out.name} | made, indent=2)
    checkpoints.write_text(out / checkpoints.CARD_FILE, text + "\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog=f"python -m {COMMAND}",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "members", nargs="+", type=run_share, metavar="RUN=SHARE", help="a run folder"
    )
    parser.add_argument("--out", type=Path, required=True, help="run folder to write")
    args = parser.parse_args(argv)
    made = {"command": command_line(COMMAND, argv), "commit": git_commit()}
    try:
        write_run([(Path(name), share) for name, share in args.members], args.out, made)
    except (DetectionError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"the run is in {args.out}; choose what it shows: eval.operating_point --write")
    return 0


if __name__ == "__main__":
    sys.exit(main())
