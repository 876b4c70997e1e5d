r"""Measure a Detectron2 model with COCO's metrics: Detectron2's command line.

A run folder on a COCO json, and on the test split of a Dataturks export::

    python -m detection.evaluate --run runs/light --num-gpus 0 --coco faces.json images
    python -m detection.evaluate --run runs/light --num-gpus 0 \
        --dataturks data/face_detection.json data/images

or any configuration and weights: ``--config-file x101_fpn --coco … MODEL.WEIGHTS FILE``. To compare
detectors of every kind, Detectron2's or not, use ``python -m eval.detection``.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from detectron2.modeling import build_model
from detectron2.utils import comm

from detection import checkpoints
from detection.commandline import PAIR, configure, detectron2_parser
from detection.datasets import SPLITS, short_name, write_json
from detection.errors import ConfigError, DetectionError, RunError
from detection.launch import run_launched
from detection.trainer import evaluate_model


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``python -m detection.evaluate``; return the exit status."""
    args = build_parser().parse_args(argv)
    try:
        return run_launched(args, evaluate)
    except DetectionError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130


def build_parser() -> argparse.ArgumentParser:
    """Return Detectron2's parser with this command's options."""
    parser = detectron2_parser("python -m detection.evaluate", __doc__)
    parser.add_argument("--run", metavar="FOLDER", help="a run folder of detection.train")
    parser.add_argument("--coco", help="a COCO json of faces and its pictures", **PAIR)
    parser.add_argument("--dataturks", help="a Dataturks json and its pictures", **PAIR)
    parser.add_argument(
        "--split", default="test", choices=[*SPLITS, "all"], help="of --dataturks (default: test)"
    )
    parser.add_argument(
        "--min-size", type=float, metavar="PX", help="ignore faces whose shorter side is below PX"
    )
    parser.add_argument("--out", metavar="FILE.json", help="write the figures, as fractions 0-1")
    return parser


def evaluate(args: argparse.Namespace) -> int:
    """Measure on every data set that the options name; return the exit status."""
    if args.out and not args.out.endswith(".json"):
        raise ConfigError(f"--out {args.out}: must end in .json")
    names = [f"coco:{file}:{images}" for file, images in args.coco]
    suffix = "" if args.split == "all" else f":{args.split}"
    names += [f"dataturks:{file}:{images}{suffix}" for file, images in args.dataturks]
    if args.run:
        if args.config_file:
            raise ConfigError("--run and --config-file exclude each other")
        args.config_file = str(Path(args.run) / checkpoints.CONFIG_FILE)
    cfg = configure(args, {"TRAIN": (), "TEST": tuple(names), "REPORT": ()})
    if not len(cfg.DATASETS.TEST):
        raise ConfigError("name what to measure on: --coco JSON IMAGES or --dataturks JSON IMAGES")
    if args.min_size is not None:
        cfg.TEST.MIN_FACE = args.min_size
    model = load_model(cfg, args.run)
    rows = []
    for name in cfg.DATASETS.TEST:
        pictures, metrics = evaluate_model(cfg, model, name)
        rows.append(row(name, pictures, metrics))
    if comm.is_main_process():
        report(rows, args.out)
    return 0


def load_model(cfg: Any, run: str | None) -> Any:
    """Build the model and load the weights of the run folder, or of ``MODEL.WEIGHTS``."""
    if run and not Path(run).is_dir():
        raise RunError(f"{run}: no such run folder")
    weights = cfg.MODEL.WEIGHTS
    cfg.MODEL.WEIGHTS = ""
    model = build_model(cfg)
    if run and not weights:
        checkpoints.load_weights(Path(run) / checkpoints.MODEL_FILE, model)
    elif weights.endswith(".safetensors"):
        checkpoints.load_weights(Path(weights), model)
    else:
        checkpoints.FaceCheckpointer(model).load(weights)
    return model.eval()


def row(name: str, pictures: int, metrics: dict[str, float]) -> dict[str, Any]:
    """Return one data set's figures as fractions, None where there is nothing to measure."""
    values = {
        key.lower(): None if math.isnan(value) else round(value / 100, 5)
        for key, value in metrics.items()
    }
    return {"data": short_name(name), "images": pictures, **values}


def report(rows: list[dict[str, Any]], out: str | None) -> None:
    """Print the table and write it."""
    keys = [key for key in rows[0] if key != "data"] if rows else []
    print("\n" + "  ".join(f"{key:>7s}" for key in keys) + "  data")
    for figures in rows:
        print("  ".join(_cell(figures[key]) for key in keys) + f"  {figures['data']}")
    if out:
        write_json(Path(out), rows[0] if len(rows) == 1 else {"runs": rows}, indent=2)


def _cell(value: Any) -> str:
    if value is None:
        return f"{'–':>7s}"
    return f"{value:7d}" if isinstance(value, int) else f"{100 * value:7.1f}"


if __name__ == "__main__":
    sys.exit(main())
