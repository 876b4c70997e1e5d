"""Turn a run folder into shipped weights: ``python -m detection.export RUN weights/NAME``.

Writes NAME.safetensors (kernels in fp16), NAME.yaml (the resolved configuration, without data sets
and paths) and NAME.json (the card).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from detection.modeling import checkpoints
from detection.modeling.config import build_network, load_config
from faces.command import Command
from faces.files import file_sha256, read_json, write_json, write_text

LICENCES = {
    "wider": "WIDER FACE (a part of its validation split): research only, CC BY-NC-ND",
    "facemask": "Face Mask Detection, 853 pictures: published on Kaggle (andrewmvd) as CC0",
    "dataturks": "Dataturks Face Detection in Images: no licence stated",
    "centerface": "start, CenterFace's body: MIT, trained on WIDER FACE's training set",
}
"""A part of a data set's name, or of a run's that the weights come from → what is known of its
licence."""

INTENDED_USE = (
    "Research and teaching: finding faces in photos on ordinary computers, as this project's first "
    "stage."
)

LIMITS = (
    "Not for decisions about people, identification or surveillance. Misses most faces below about "
    "16 pixels and many that are turned away, upside down or mostly covered; now and then takes a "
    "drawing, a statue or a pattern for a face. Trained on news and web photos, which do not show "
    "everybody equally often: for whom it works how well was not measured. Research only, because "
    "of the data's licences."
)


def export(
    folder: Path, target: Path, figures: Iterable[Path] = (), notes: Sequence[str] = ()
) -> list[Path]:
    """Write the three files that ship a detector, and return them: weights, configuration, card.

    Args:
        folder: a finished run folder.
        target: their path without ending; its last part is the detector's name.
        figures: JSON files for the card, each under its file name.
        notes: sentences for the card.
    """
    card = checkpoints.finished_card(folder)
    cfg = load_config(folder / checkpoints.CONFIG_FILE, resolved=True)
    cfg.MODEL.WEIGHTS, cfg.MODEL.DEVICE, cfg.OUTPUT_DIR = "", "cpu", "runs"
    cfg.DATASETS.TRAIN = cfg.DATASETS.TEST = cfg.DATASETS.REPORT = ()
    model = build_network(cfg)
    checkpoints.load_weights(folder / checkpoints.MODEL_FILE, model)

    target.parent.mkdir(parents=True, exist_ok=True)
    weights, config, text = (
        target.with_name(target.name + ending) for ending in (".safetensors", ".yaml", ".json")
    )
    checkpoints.save_weights(weights, model, half=True)
    write_text(config, cfg.dump())
    shipped = shipped_card(card, target.name, weights, [_read(path) for path in figures], notes)
    write_json(text, shipped)
    return [weights, config, text]


def shipped_card(
    card: dict[str, Any],
    name: str,
    weights: Path,
    figures: Sequence[tuple[str, Any]],
    notes: Sequence[str],
) -> dict[str, Any]:
    """Return the card of shipped weights: the run's, with hash, licences, use and limits."""
    names = [*(data["set"] for data in card["trained_on"]), card.get("started_from")]
    names += card.get("averaged", [])
    sets = " ".join(map(str, names)).lower()
    return {
        **card,
        "name": name,
        "sha256": file_sha256(weights),
        "stored_as": "kernels and matrices fp16, vectors fp32",
        "data_licences": [text for part, text in LICENCES.items() if part in sets],
        "figures": dict(figures),
        "notes": list(notes),
        "intended_use": INTENDED_USE,
        "limits": LIMITS,
    }


def _read(path: Path) -> tuple[str, Any]:
    return path.stem, read_json(path)


def _add_options(parser: argparse.ArgumentParser) -> None:
    about = "path without ending, such as weights/mobilenet_fpn"
    parser.add_argument("run", type=Path, help="a run folder of detection.train")
    parser.add_argument("target", type=Path, help=about)
    parser.add_argument(
        "--figures",
        type=Path,
        action="append",
        default=[],
        metavar="FILE.json",
        help="figures written by an evaluation command, to go on the card (repeatable)",
    )
    parser.add_argument(
        "--note",
        action="append",
        default=[],
        metavar="TEXT",
        help="what else the card should say, how the model was selected, for instance (repeatable)",
    )


def _export(args: argparse.Namespace) -> None:
    for path in export(args.run, args.target, args.figures, args.note):
        print(f"{path}: {path.stat().st_size / 1e6:.2f} MB")


main = Command("detection.export", __doc__, _add_options, _export)


if __name__ == "__main__":
    sys.exit(main())
