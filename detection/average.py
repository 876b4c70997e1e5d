"""Average the weights of detectors: ``python -m detection.average RUN=SHARE … --out RUN``.

Of two runs of which one went on from the other, the mean keeps what the first knew and has what the
second learnt (Wortsman et al., "Robust fine-tuning of zero-shot models", CVPR 2022). The shares sum
to 1: select them on validation data. The new run has the first one's configuration; its operating
point is selected again, by ``python -m eval.operating_point --write``.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from detection.modeling import checkpoints
from detection.modeling.config import build_network, load_config
from faces.command import Command, UserError
from faces.files import file_sha256, write_json, write_text
from faces.provenance import git_commit
from networks.averaging import add_members, check_shares, weighted_mean

KEPT = ("name", "started_from", "command", "commit", "finished", "hours")
"""What the new card says of each averaged run."""


def average(members: Sequence[tuple[Path, float]]) -> dict[str, Tensor]:
    """Return the mean of the runs' weights, float32; what is no floating point is the first's.

    Members are run folders and their shares, which sum to 1.

    Raises:
        UserError: a run is not finished, its network is another one, its configuration cannot be
            used, or the shares do not sum to 1.
    """
    check_shares([share for _, share in members])
    cfg = load_config(members[0][0] / checkpoints.CONFIG_FILE, resolved=True)
    cfg.MODEL.DEVICE = "cpu"
    model = build_network(cfg)

    def states() -> Iterator[tuple[dict[str, Tensor], float]]:
        for folder, share in members:
            checkpoints.load_weights(folder / checkpoints.MODEL_FILE, model)
            yield model.state_dict(), share

    return weighted_mean(states())


def describe(members: Sequence[tuple[Path, float]]) -> dict[str, Any]:
    """Return the new card: the first run's, with the data and the hours of all."""
    cards = [checkpoints.finished_card(folder) for folder, _ in members]
    averaged = [
        {"share": share, "sha256": file_sha256(folder / checkpoints.MODEL_FILE)}
        | {key: card.get(key) for key in KEPT}
        for (folder, share), card in zip(members, cards, strict=True)
    ]
    dropped = ("metrics", "score_threshold", "operating_point", "peak_memory_gb")
    first = {key: value for key, value in cards[0].items() if key not in dropped}
    together = {
        key: list({str(one): one for card in cards for one in card[key]}.values())
        for key in ("trained_on", "chosen_on")
    }
    hours = math.fsum(card["hours"] for card in cards)
    return first | together | {"hours": round(hours, 3), "averaged": averaged}


def _write_run(args: argparse.Namespace) -> None:
    members = [(Path(name), share) for name, share in args.members]
    out: Path = args.out
    if out.exists():
        raise UserError(f"{out}: exists already; name another --out")
    card, state = describe(members), average(members)
    config = (members[0][0] / checkpoints.CONFIG_FILE).read_text("utf-8")
    out.mkdir(parents=True)
    checkpoints.write_state(out / checkpoints.MODEL_FILE, state)
    write_text(out / checkpoints.CONFIG_FILE, config)
    made = {"name": out.name, "command": args.made_by, "commit": git_commit()}
    write_json(out / checkpoints.CARD_FILE, card | made)
    print(f"the run is in {out}; select its operating point: eval.operating_point --write")


def _add_options(parser: argparse.ArgumentParser) -> None:
    add_members(parser)
    parser.add_argument("--out", type=Path, required=True, help="run folder to write")


main = Command("detection.average", __doc__, _add_options, _write_run)


if __name__ == "__main__":
    sys.exit(main())
