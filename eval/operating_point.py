"""Choose what a detector shows on validation data: ``python -m eval.operating_point --help``.

The lowest score threshold whose F1 is within 0.01 of the best (a face counts as found at IoU 0.5;
ignored ones and detections on them do not count), among those with fewer than 0.05 duplicates per
picture: of equals, the one that finds most faces. For a detector of Detectron2 also its NMS
threshold, its box voting (``MODEL.VOTING``) and its containment (``MODEL.CONTAINMENT``), over a
grid: of the combinations whose F1 is within 0.01 of the best one's, and of these whose AP is, that
with the fewest duplicates, then the most faces, then the best AP. What a detector finds is computed
once, unmerged; merging that is what the model itself would do.

``--write`` puts the choice into a run folder's config.yaml and card.json, for every later use and
for ``detection.export``, or into the two files of a shipped detector. ``KEY VALUE`` pairs at the
end override the configuration of a Detectron2 model, such as its test size, and are written with
the choice, which holds for them alone. Choose on validation data only: never on what is to be
reported.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
import yaml
from torchvision.ops import nms
from tqdm import tqdm

from eval.data import options
from eval.data.annotated import locate, read_scenes, scored
from eval.detection import with_min_size
from eval.metrics.average_precision import match_scenes
from eval.metrics.miss_rate import judge
from eval.records import report
from faces import command
from faces.coco import AnnotatedImage, Detections, load_coco
from faces.command import UserError
from faces.pipeline import Detector
from faces.provenance import command_line

COMMAND = "eval.operating_point"

MOST_DUPLICATES = 0.05
"""Duplicate boxes per picture stay below this."""

EQUAL = 0.01
"""Smaller differences in F1 or AP are chance: on some hundred faces standard errors are larger."""

NMS = (0.3, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65)
VOTING = (0.5, 0.65, 0.8, 1.1)
CONTAINMENT = (0.5, 0.6, 0.7, 0.8, 0.9, 1.1)
"""The grid; 1.1 is no voting, no containment suppression. Boxes that NMS keeps apart must not vote
for each other: voting is at no lower IoU than NMS."""

EVERYTHING = (
    *("MODEL.ROI_HEADS.NMS_THRESH_TEST", "1.0", "TEST.DETECTIONS_PER_IMAGE", "1000"),
    *("MODEL.VOTING", "1.1", "MODEL.CONTAINMENT", "1.1"),
)
"""Overrides with which a Detectron2 model reports all its boxes."""

COLUMNS = {
    "nms": "number",
    "voting": "number",
    "containment": "number",
    "threshold": "number",
    "f1": "percent",
    "coverage": "percent",
    "wrong_per_image": "number",
    "duplicates_per_image": "number",
    "validation_ap": "percent",
    "validation_ap50": "percent",
}


@dataclass(frozen=True)
class Suppression:
    """How overlapping boxes become one.

    Attributes:
        nms: a box is dropped from this IoU with a better one on (exclusive).
        voting: see ``detection.modeling.suppression.vote``.
        containment: see ``detection.modeling.suppression.contained``.
    """

    nms: float
    voting: float
    containment: float

    def apply(self, found: Detections, most: int) -> Detections:
        """Return what is left of a picture's boxes, at most ``most`` before containment."""
        from detection.modeling.suppression import contained, vote

        every, score = torch.as_tensor(found.boxes), torch.as_tensor(found.scores)
        kept = nms(every, score, self.nms)[:most]
        boxes = vote(every[kept], every, score, self.voting).numpy()
        stays = ~contained(boxes, self.containment)
        return Detections(boxes[stays], found.scores[kept.numpy()][stays])


def operating_point(scenes: Sequence[AnnotatedImage], found: Sequence[Detections]) -> report.Run:
    """Choose the threshold for detections as they are; the module's docstring says how.

    Returns:
        ``threshold`` (rounded down to 0.001), ``f1``, ``coverage``, ``wrong_per_image`` (false and
        duplicates), ``duplicates_per_image``, ``validation_ap``, ``validation_ap50``.

    Raises:
        UserError: there is no face, or none is found.
    """
    judged = judge(scenes, found)
    duplicates = judged.duplicates_per_image()
    allowed = judged.whole & (duplicates < MOST_DUPLICATES)
    if not judged.faces or not allowed.any() or not judged.hits.any():
        raise UserError("there is no face to find, or the detector finds none: no choice")
    f1 = np.where(allowed, judged.f1(), -1.0)
    best = int(np.flatnonzero(f1 >= f1.max() - EQUAL)[-1])
    precision = match_scenes(scenes, found, areas=("all",))["all"].precision()
    return {
        "threshold": float(np.floor(1000 * judged.scores[best]) / 1000),
        "f1": float(judged.f1()[best]),
        "coverage": float(judged.hits[best] / judged.faces),
        "wrong_per_image": float(judged.wrong_per_image()[best]),
        "duplicates_per_image": float(duplicates[best]),
        "validation_ap": float(precision.mean()),
        "validation_ap50": float(precision[0].mean()),
    }


def search(
    scenes: Sequence[AnnotatedImage], found: Sequence[Detections], most: int
) -> list[report.Run]:
    """Return the operating point of every combination of the grid.

    Args:
        scenes: the annotated pictures.
        found: all boxes in each, nothing suppressed.
        most: boxes per picture that the model reports (``TEST.DETECTIONS_PER_IMAGE``).
    """
    rows = []
    grid = [Suppression(*values) for values in itertools.product(NMS, VOTING, CONTAINMENT)]
    grid = [rule for rule in grid if rule.voting >= rule.nms]
    for rule in tqdm(grid, desc="suppression", disable=None):
        left = [rule.apply(each, most) for each in found]
        rows.append(asdict(rule) | operating_point(scenes, left))
    return rows


def choose(rows: Sequence[report.Run]) -> report.Run:
    """Return the row with the fewest duplicates among those as good but for chance.

    Their F1 is within ``EQUAL`` of the best, their AP of the best one among these; of several, the
    one that finds most faces, then the one with the best AP.
    """
    for figure in ("f1", "validation_ap"):
        best = max(row[figure] for row in rows)
        rows = [row for row in rows if row[figure] >= best - EQUAL]
    order = ("coverage", "validation_ap")
    return min(rows, key=lambda row: (row["duplicates_per_image"], *(-row[key] for key in order)))


def files_to_write(name_or_run: str) -> tuple[Path, Path]:
    """Return the configuration and the card that hold a detector's choice.

    Raises:
        UserError: it is neither a run folder nor a shipped detector of Detectron2.
    """
    from detection.modeling import checkpoints
    from twostage import model_zoo

    folder = Path(name_or_run)
    if folder.is_dir():
        return folder / checkpoints.CONFIG_FILE, folder / checkpoints.CARD_FILE
    shipped = model_zoo.shipped_models("detector").get(name_or_run)
    if shipped is None or shipped.classical:
        raise UserError(
            f"--write {name_or_run}: is no run folder of detection.train, and no detector of "
            "Detectron2 in weights/models.toml"
        )
    return shipped.config, shipped.config.with_suffix(".json")


def write_choice(config: Path, card: Path, run: report.Run, overrides: Sequence[str]) -> None:
    """Put a choice into a configuration, whose other values stay as written, and into its card.

    Args:
        config: the YAML file.
        card: the JSON file beside it.
        run: what was chosen.
        overrides: key, value, key, value, … that it was chosen for, and that go along.
    """
    from detection.modeling import checkpoints
    from detection.modeling.config import load_config

    values = yaml.safe_load(config.read_text(encoding="utf-8"))
    cfg = load_config(config, overrides)
    for key in overrides[::2]:
        *parents, name = key.split(".")
        place, value = values, cfg
        for parent in parents:
            place, value = place.setdefault(parent, {}), value[parent]
        place[name] = list(value[name]) if isinstance(value[name], tuple) else value[name]
    model = values.setdefault("MODEL", {})
    model |= {
        "SCORE_THRESHOLD": run["chosen_threshold"],
        "VOTING": run["voting"],
        "CONTAINMENT": run["containment"],
    }
    model.setdefault("ROI_HEADS", {})["NMS_THRESH_TEST"] = run["nms"]
    about = checkpoints.read_card(card) | {
        "score_threshold": run["chosen_threshold"],
        "operating_point": report.strict({k: v for k, v in run.items() if k != "grid"}),
    }
    checkpoints.write_text(config, yaml.safe_dump(values))
    checkpoints.write_text(card, json.dumps(about, indent=2) + "\n")


def parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    result = argparse.ArgumentParser(
        prog=f"python -m {COMMAND}",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    result.add_argument("--detector", required=True, metavar="NAME|RUN", help="one detector")
    result.add_argument(
        "--coco", type=Path, required=True, metavar="FILE.json", help="validation ground truth"
    )
    result.add_argument(
        "--images", type=Path, required=True, metavar="DIR|ZIP", help="where its pictures lie"
    )
    result.add_argument(
        "--min-size",
        type=command.positive_pixels,
        default=0.0,
        metavar="PX",
        help="ignore faces whose shorter side is below this",
    )
    result.add_argument("--write", action="store_true", help="put the choice into its files")
    options.add_common_options(result)
    result.add_argument(
        "opts", nargs=argparse.REMAINDER, help="KEY VALUE pairs that override the configuration"
    )
    return result


def load(name_or_run: str, device: str | None, overrides: Sequence[str] = ()) -> Detector:
    """Load a detector, a Detectron2 one with ``overrides`` of its configuration.

    Raises:
        UserError: it cannot be loaded.
    """
    from twostage import model_zoo

    return model_zoo.load_detector(name_or_run, device, overrides)


def evaluate(arguments: argparse.Namespace, made_by: str) -> int:
    """Do what the command line ``made_by`` asks; returns the exit status."""
    report.check_out(arguments.out)
    targets = files_to_write(arguments.detector) if arguments.write else None
    truth = with_min_size(load_coco(arguments.coco), arguments.min_size)
    pictures = locate(truth, arguments.images)
    overrides = arguments.opts
    detector = load(arguments.detector, arguments.device, overrides)
    most = getattr(detector, "most_detections", None)
    if most is not None:
        detector = load(arguments.detector, arguments.device, (*overrides, *EVERYTHING))
    elif overrides:
        raise UserError(
            f"{' '.join(overrides)}: {detector.name} has no configuration of Detectron2 to override"
        )
    failures: list[str] = []
    scenes, found = [], []
    for scene, image in read_scenes(truth, pictures, failures.append):
        scenes.append(scene)
        found.append(scored(detector.detect([image], min_score=0.0)[0]))
    for failure in failures:
        command.note(COMMAND, failure)
    rows = [operating_point(scenes, found)] if most is None else search(scenes, found, most)
    chosen = rows[0] if most is None else choose(rows)
    run = (
        {"detector": detector.name, "images": len(scenes), "chosen_threshold": chosen["threshold"]}
        | {key: value for key, value in chosen.items() if key != "threshold"}
        | {"coco": str(truth.path), "fingerprint": truth.fingerprint}
        | {"min_size": arguments.min_size, "unreadable": len(failures), "grid": rows}
        | report.provenance(made_by)
    )
    if targets is not None:
        write_choice(*targets, run, overrides)
    if arguments.out is not None:  # after the choice, as it names the configuration by its hash
        report.write_report(arguments.out, [run])
    if len(rows) > 1:
        print(report.table(rows, COLUMNS) + "\n")
    print(f"chosen:\n{report.table([chosen], COLUMNS)}")
    return 1 if failures else 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    arguments = parser().parse_args(argv)
    made_by = command_line(COMMAND, argv)
    return command.run(COMMAND, lambda: evaluate(arguments, made_by))


if __name__ == "__main__":
    sys.exit(main())
