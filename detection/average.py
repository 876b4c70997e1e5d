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
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from detectron2.modeling import build_model
from torch import Tensor

from detection.errors import RunError
from detection.modeling import checkpoints
from detection.modeling.config import load_config
from faces.command import UserError
from faces.files import file_sha256
from faces.provenance import command_line, git_commit
from networks.averaging import check_shares, run_share, weighted_mean

COMMAND = "detection.average"

KEPT = ("name", "started_from", "command", "commit", "finished", "hours")
"""What the new card says of each averaged run."""


def average(members: Sequence[tuple[Path, float]]) -> dict[str, Tensor]:
    """Return the mean of the runs' weights, float32; what is no floating point is the first's.

    Args:
        members: run folder and share of each; the shares sum to 1.

    Raises:
        RunError: a run is not finished, or its network is another one.
        UserError: the shares do not sum to 1.
        ConfigError: the first run's configuration cannot be used.
    """
    check_shares([share for _, share in members])
    cfg = load_config(members[0][0] / checkpoints.CONFIG_FILE)
    cfg.MODEL.DEVICE = "cpu"
    model = build_model(cfg)

    def states() -> Iterator[tuple[dict[str, Tensor], float]]:
        for run, share in members:
            checkpoints.load_weights(run / checkpoints.MODEL_FILE, model)
            yield model.state_dict(), share

    return weighted_mean(states())


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
    except (UserError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"the run is in {args.out}; choose what it shows: eval.operating_point --write")
    return 0


if __name__ == "__main__":
    sys.exit(main())
