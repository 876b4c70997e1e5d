"""Record how the training of a detector went: ``python -m eval.detector_training --help``.

From a finished run folder of ``detection.train``: what trained, how fast, how the loss fell.

Definitions
    iterations, pictures_per_iteration, freeze_at: of the run folder's configuration.
    trained: the parts of the network that changed, trained_millions: their parameters.
    loss_first, loss_last: mean total loss of the first and of the last tenth of the iterations.
    seconds_per_iteration: median, wall clock; peak_memory_gb: peak memory of the main process.
    validation: iterations done → COCO's AP and AP50 on validation, 0 to 1.
    loss_by_iteration: the parts of the loss and their sum, iteration by iteration.
"""

from __future__ import annotations

import json
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from eval.data import options
from eval.records import report
from eval.records.plots import draw_lines, panels, save
from eval.records.sections import Section, columns
from faces.command import UserError
from faces.files import read_text

COMMAND = "eval.detector_training"

SECTION = Section(
    kind="detector_training",
    title="Trainings of detectors",
    columns=columns(
        "text: record trained_detector",
        "count: iterations pictures_per_iteration freeze_at",
        "text: trained",
        "number: trained_millions loss_first loss_last",
        "percent: best_validation_ap50",
        "number: seconds_per_iteration peak_memory_gb training_hours",
    ),
)


def read_log(path: Path) -> list[dict[str, Any]]:
    """Read ``training_log.jsonl``: one object per iteration, the last where one was repeated."""
    by_iteration: dict[int, dict[str, Any]] = {}
    for line in read_text(path).splitlines():
        entry = json.loads(line)
        by_iteration[entry["iteration"]] = entry
    return [by_iteration[iteration] for iteration in sorted(by_iteration)]


def summarise(folder: Path) -> report.Row:
    """Return the row of one finished run folder; the module's docstring defines the keys."""
    from detection.modeling import checkpoints
    from detection.modeling.config import load_config
    from detection.training.trainer import LOG_FILE

    try:
        card = checkpoints.read_card(folder / checkpoints.CARD_FILE)
        parts, peak = card["parameters_by_part"], card["peak_memory_gb"]
        cfg = load_config(folder / checkpoints.CONFIG_FILE)
        log = read_log(folder / LOG_FILE)
        steps = [one for one in log if "total_loss" in one]
        losses = np.array([one["total_loss"] for one in steps])
        keys = [key for key in steps[0] if key.startswith("loss_")]
    except (OSError, ValueError, KeyError, IndexError) as error:
        raise UserError(
            f"{folder}: no finished run of detection.train that notes every iteration ({error}); "
            "train again, or name another --run"
        ) from error
    tenth = max(len(losses) // 10, 1)
    validation = {
        one["iteration"] + 1: {
            "ap": one["validation/AP"] / 100,
            "ap50": one["validation/AP50"] / 100,
        }
        for one in log
        if "validation/AP50" in one
    }
    return {
        "trained_detector": card["name"],
        "iterations": cfg.SOLVER.MAX_ITER,
        "pictures_per_iteration": cfg.SOLVER.IMS_PER_BATCH,
        "freeze_at": cfg.MODEL.BACKBONE.FREEZE_AT,
        "trained": ", ".join(name for name, part in parts.items() if part["trained"]),
        "trained_millions": sum(part["trained"] for part in parts.values()) / 1e6,
        "parameters_by_part": parts,
        "loss_first": losses[:tenth].mean(),
        "loss_last": losses[-tenth:].mean(),
        "best_validation_ap50": max((one["ap50"] for one in validation.values()), default=None),
        "seconds_per_iteration": float(np.median([s["time"] for s in steps if "time" in s])),
        "peak_memory_gb": peak,
        "training_hours": card["hours"],
        "validation": validation,
        "loss_by_iteration": {
            "iteration": [one["iteration"] for one in steps],
            **{key: [round(one[key], 4) for one in steps] for key in ("total_loss", *keys)},
        },
        **{f"training_{key}": card[key] for key in ("command", "commit", "device", "finished")},
        **{key: card[key] for key in ("started_from", "trained_on", "processes")},
    }


def draw(rows: Sequence[report.Row], path: Path) -> None:
    """Draw the total loss of the one row, and its running median, over the iterations."""
    [row] = rows
    figure, (axes,) = panels(1, side=5.0)
    numbers = row["loss_by_iteration"]
    x, y = np.array(numbers["iteration"]) + 1, np.array(numbers["total_loss"])
    span = max(len(y) // 20, 1)
    smooth = [float(np.median(y[max(i - span, 0) : i + span + 1])) for i in range(len(y))]
    axes.plot(x, y, color="0.8", linewidth=0.8)
    window = f"median of {2 * span + 1} iterations"
    draw_lines(axes, [(window, x.tolist(), smooth)], "iteration", "total loss")
    axes.set(title=f"{row['trained_detector']}: {row['trained']} trained", ylim=(0, None))
    axes.title.set_fontsize(9)
    save(figure, path)


def _add_options(parser: ArgumentParser) -> None:
    parser.add_argument("--run", type=Path, required=True, metavar="FOLDER", help="a run folder")
    options.add_out_option(parser)
    options.add_picture_option(parser)


def _evaluate(arguments: Namespace) -> None:
    SECTION.publish(arguments, [summarise(arguments.run)], draw)


main = options.Command(COMMAND, __doc__, _add_options, _evaluate)

if __name__ == "__main__":
    raise SystemExit(main())
