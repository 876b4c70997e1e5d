"""Select what a detector shows, on validation data: ``python -m eval.operating_point --help``.

The lowest score threshold whose F1 is within 0.01 of the best (a face counts as found at IoU 0.5;
ignored ones and detections on them do not count), among those with fewer than 0.05 duplicates per
image: of equals, the one that finds most faces. For a detector of Detectron2 also its NMS
threshold, its box voting (``MODEL.VOTING``) and its containment (``MODEL.CONTAINMENT``), over a
grid: of the combinations whose F1 is within 0.01 of the best one's, and of these whose AP is, that
with the fewest duplicates, then the most faces, then the best AP. All boxes are computed once,
unsuppressed; suppressing them afterwards gives the model's own answer.

``--write`` puts the choice into a run folder's config.yaml and card.json, for every later use and
for ``detection.export``, or into the two files of a shipped detector. ``KEY VALUE`` pairs at the
end override the configuration of a Detectron2 model, such as its test size, and are written with
the choice, which holds for them alone. Select on validation data only: never on what is to be
reported.
"""

from __future__ import annotations

import itertools
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
import yaml
from torchvision.ops import nms
from tqdm import tqdm

from eval.data import options
from eval.data.detections import as_arrays, with_min_size
from eval.data.images import AnnotatedImages
from eval.metrics.average_precision import match_images
from eval.records import report
from eval.records.sections import Section, columns
from faces.coco import AnnotatedImage, Detections, load_coco
from faces.command import UserError
from faces.files import read_text, write_json, write_text
from faces.pipeline import Detector
from faces.ranking import rank
from faces.scope import Scope

COMMAND = "eval.operating_point"

MAX_DUPLICATES = 0.05
"""Duplicates per image stay below this."""

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

COLUMNS = columns(
    "number: nms voting containment threshold",
    "percent: f1 coverage",
    "number: wrong_per_image duplicates_per_image",
    "percent: validation_ap validation_ap50",
)

SECTION = Section(
    kind="operating_point",
    title="What detectors show, chosen on validation",
    columns=columns(
        "text: record detector",
        "count: images",
        "number: nms voting containment chosen_threshold",
        "percent: f1 coverage",
        "number: wrong_per_image duplicates_per_image",
        "percent: validation_ap50",
    ),
)


@dataclass(frozen=True)
class Suppression:
    """How overlapping boxes become one: by NMS from this IoU with a better box on (exclusive).

    ``voting`` and ``containment`` are as in ``detection.modeling.suppression``.
    """

    nms: float
    voting: float
    containment: float

    def apply(self, found: Detections, maximum: int) -> Detections:
        """Return what is left of an image's boxes, at most ``maximum`` before containment."""
        from detection.modeling.suppression import contained, vote

        every, score = torch.as_tensor(found.boxes), torch.as_tensor(found.scores)
        kept = nms(every, score, self.nms)[:maximum]
        boxes = vote(every[kept], every, score, self.voting).numpy()
        stays = ~contained(boxes, self.containment)
        return Detections(boxes[stays], found.scores[kept.numpy()][stays])


def operating_point(images: Sequence[AnnotatedImage], found: Sequence[Detections]) -> report.Row:
    """Select the threshold for detections as they are; the module's docstring says how.

    Returns:
        ``threshold`` (rounded down to 0.001), ``f1``, ``coverage``, ``wrong_per_image`` (false
        positives, duplicates included), ``duplicates_per_image``, ``validation_ap``,
        ``validation_ap50``.

    Raises:
        UserError: there is no face, or none is found.
    """
    ranked = rank(images, found)
    best = ranked.select_threshold(EQUAL, MAX_DUPLICATES)
    if best is None:
        raise UserError("there is no face to find, or the detector finds none: no choice")
    precision = match_images(images, found, areas=("all",))["all"].precision()
    return {
        "threshold": float(np.floor(1000 * ranked.scores[best]) / 1000),
        "f1": float(ranked.f1()[best]),
        "coverage": float(ranked.matched[best] / ranked.faces),
        "wrong_per_image": float(ranked.false_positives_per_image()[best]),
        "duplicates_per_image": float(ranked.duplicates_per_image()[best]),
        "validation_ap": float(precision.mean()),
        "validation_ap50": float(precision[0].mean()),
    }


def search(
    images: Sequence[AnnotatedImage], found: Sequence[Detections], maximum: int
) -> list[report.Row]:
    """Return the operating point of every combination of the grid.

    Of the boxes, nothing is suppressed; the model reports at most ``maximum`` of an image
    (``TEST.DETECTIONS_PER_IMAGE``).
    """
    rows = []
    grid = [Suppression(*values) for values in itertools.product(NMS, VOTING, CONTAINMENT)]
    grid = [rule for rule in grid if rule.voting >= rule.nms]
    for rule in tqdm(grid, desc="suppression", disable=None):
        left = [rule.apply(each, maximum) for each in found]
        rows.append(asdict(rule) | operating_point(images, left))
    return rows


def select(rows: Sequence[report.Row]) -> report.Row:
    """Return the row with the fewest duplicates among those that are equal but for chance.

    Their F1 is within ``EQUAL`` of the best, their AP of the best one among these; of several, the
    one that finds most faces, then the one with the best AP.
    """
    for figure in ("f1", "validation_ap"):
        best = max(row[figure] for row in rows)
        rows = [row for row in rows if row[figure] >= best - EQUAL]
    order = ("coverage", "validation_ap")
    return min(rows, key=lambda row: (row["duplicates_per_image"], *(-row[key] for key in order)))


def files_to_write(name_or_run: str) -> tuple[Path, Path]:
    """Return a detector's configuration and card, to write its choice to; UserError without one."""
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


def write_choice(config: Path, card: Path, row: report.Row, overrides: Sequence[str]) -> None:
    """Put a choice into a configuration, whose other values stay as written, and into its card.

    The ``overrides`` (key, value, key, value, …) that it was selected for are written too.
    """
    from detection.modeling import checkpoints
    from detection.modeling.config import load_config

    values = yaml.safe_load(read_text(config))
    cfg = load_config(config, overrides)
    for key in overrides[::2]:
        *parents, name = key.split(".")
        place, value = values, cfg
        for parent in parents:
            place, value = place.setdefault(parent, {}), value[parent]
        place[name] = list(value[name]) if isinstance(value[name], tuple) else value[name]
    model = values.setdefault("MODEL", {})
    model |= {
        "SCORE_THRESHOLD": row["chosen_threshold"],
        "VOTING": row["voting"],
        "CONTAINMENT": row["containment"],
    }
    model.setdefault("ROI_HEADS", {})["NMS_THRESH_TEST"] = row["nms"]
    about = checkpoints.read_card(card) | {
        "score_threshold": row["chosen_threshold"],
        "operating_point": report.strict({k: v for k, v in row.items() if k != "grid"}),
    }
    write_text(config, yaml.safe_dump(values))
    write_json(card, about)


def _add_options(parser: ArgumentParser) -> None:
    parser.add_argument("--detector", required=True, metavar="NAME|RUN", help="one detector")
    options.add_photo_options(parser)
    options.add_min_size_option(parser)
    parser.add_argument("--write", action="store_true", help="put the choice into its files")
    options.add_common_options(parser)
    options.add_overrides(parser)


def find_all(
    arguments: Namespace, images: AnnotatedImages
) -> tuple[Detector, list[AnnotatedImage], list[Detections]]:
    """Run the detector over the images; a Detectron2 one reports all its boxes."""
    overrides = arguments.opts
    once = Scope("fast")  # closer looks merge boxes by a rule of their own
    [detector] = options.load_detectors([arguments.detector], arguments.device, overrides, once)
    if hasattr(detector, "most_detections"):
        everything = (*overrides, *EVERYTHING)
        [model] = options.load_detectors([arguments.detector], arguments.device, everything, once)
    elif overrides:
        raise UserError(
            f"{' '.join(overrides)}: {detector.name} has no configuration of Detectron2 to override"
        )
    else:
        model = detector
    seen, found = [], []
    for image, pixels in images:
        seen.append(image)
        found.append(as_arrays(model.detect([pixels], min_score=0.0)[0]))
    return detector, seen, found


def _evaluate(arguments: Namespace) -> int:
    targets = files_to_write(arguments.detector) if arguments.write else None
    truth = with_min_size(load_coco(arguments.coco), arguments.min_size)
    images = AnnotatedImages(options.check_truth(truth, COMMAND), arguments.images)
    detector, seen, found = find_all(arguments, images)
    status = images.close(COMMAND)

    # Select from the grid, or the threshold alone.
    maximum = getattr(detector, "most_detections", None)
    rows = [operating_point(seen, found)] if maximum is None else search(seen, found, maximum)
    selected = select(rows)
    row = (
        {"detector": detector.name, "images": len(seen), "chosen_threshold": selected["threshold"]}
        | {key: value for key, value in selected.items() if key != "threshold"}
        | {"coco": str(truth.path), "fingerprint": truth.fingerprint}
        | {"min_size": arguments.min_size, "unreadable": len(images.failed), "grid": rows}
        | report.provenance(arguments.made_by, arguments.device)
    )

    # The model's files come first: the record names the configuration by its hash.
    if targets is not None:
        write_choice(*targets, row, arguments.opts)
    if arguments.out is not None:
        report.write_report(arguments.out, SECTION.kind, [row])
    if len(rows) > 1:
        print(report.table(rows, COLUMNS) + "\n")
    print(f"chosen:\n{report.table([selected], COLUMNS)}")
    return status


main = options.Command(COMMAND, __doc__, _add_options, _evaluate)

if __name__ == "__main__":
    raise SystemExit(main())
