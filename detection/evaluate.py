r"""Measure a Detectron2 model with COCO's metrics: Detectron2's command line.

A run folder on a COCO json, and on the test split of a Dataturks export::

    python -m detection.evaluate --run runs/light --num-gpus 0 --coco faces.json images
    python -m detection.evaluate --run runs/light --num-gpus 0 \
        --dataturks data/face_detection.json data/images

or any configuration and weights: ``--config-file x101_fpn --coco … MODEL.WEIGHTS FILE``. To compare
detectors of every kind, Detectron2's or not, with intervals, use ``python -m eval.detection``; to
choose threshold and suppression on validation data, ``python -m eval.operating_point``.
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
from tabulate import tabulate

from detection.datasets import SPLITS, short_name, write_json
from detection.errors import ConfigError, DetectionError, RunError
from detection.modeling import checkpoints
from detection.training.evaluator import average_precision, error_rates
from detection.training.launch import run_launched
from detection.training.options import PAIR, configure, detectron2_parser
from detection.training.trainer import predict


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
        truth, results = predict(cfg, model, name)
        if comm.is_main_process():
            threshold = cfg.MODEL.SCORE_THRESHOLD
            metrics = average_precision(truth, results)
            shown = error_rates(truth, results, threshold) | {"threshold": threshold}
            rows.append(row(name, len(truth), metrics, shown))
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


def row(
    name: str, pictures: int, metrics: dict[str, float], shown: dict[str, float]
) -> dict[str, Any]:
    """Return one data set's figures, None where there is nothing to measure.

    Args:
        name: of the data set.
        pictures: how many it has.
        metrics: COCO's, 0-100; they become fractions.
        shown: those at the threshold, as they are.
    """
    values = {key.lower(): value / 100 for key, value in metrics.items()} | shown
    rounded = {key: None if math.isnan(v) else round(v, 5) for key, v in values.items()}
    return {"data": short_name(name), "images": pictures, **rounded}


def report(rows: list[dict[str, Any]], out: str | None) -> None:
    """Print the table and write it."""
    names = {key: key.removesuffix("_per_image") for key in rows[0] if key != "data"}
    heads = ["data", *(f"{name}\nper image" if name != k else k for k, name in names.items())]
    cells = [[figures["data"], *(_cell(key, figures[key]) for key in names)] for figures in rows]
    align = ["left", *["right"] * len(names)]
    print("\n" + tabulate(cells, heads, colalign=align, disable_numparse=True))
    if out:
        write_json(Path(out), rows[0] if len(rows) == 1 else {"runs": rows}, indent=2)


def _cell(key: str, value: Any) -> str:
    if value is None or isinstance(value, int):
        return "–" if value is None else str(value)
    return f"{value:.3f}" if key.endswith(("_per_image", "threshold")) else f"{100 * value:.1f}"


if __name__ == "__main__":
    sys.exit(main())
