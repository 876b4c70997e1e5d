"""What each ingredient of a training gives: ``python -m eval.ablation --help``.

Trains every variant of a plan (eval/ablation.toml), or those of --only, with each of its seeds,
unless that is done, and measures it on PublicTest. What a training answered is a record of its own
in --answers, so that a table may grow over days and machines: it has the variants whose trainings,
and whose opposites', are all recorded. Ctrl-C stops; the same command goes on.

Definitions
    accuracy: on PublicTest, mean over the seeds, one figure per way of viewing a face.
    difference: accuracy (single view) minus that of the variant named in ``against``, over the
        seeds that both have, with a 95 % interval from drawing the images again. What another
        seed would change is not in it: ``seed_spread`` is half the range over the seeds.
    trainings: of the variant, one per seed.
    hours: of its first training, on whatever machine that ran: not for comparing variants.
"""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from classification.data.fer2013 import Fer2013, load_fer2013
from classification.training.recipe import Recipe, load_recipe
from eval.data import options
from eval.data.fer2013_parts import batches
from eval.metrics.bootstrap import Bootstrap, ratio_metric
from eval.records import report
from eval.records.sections import Section, columns
from eval.systems import python
from faces import command
from faces.command import UserError
from faces.files import read_json, read_toml, write_json
from faces.pipeline import EmotionClassifier
from faces.views import VIEWS, probabilities_over_views

COMMAND = "eval.ablation"

PLAN = Path(__file__).with_name("ablation.toml")

SECTION = Section(
    kind="ablation",
    title="What each ingredient of a training gives",
    columns=columns(
        "text: variant about",
        "percent: accuracy flip ten difference difference_ci",
        "text: against",
        "count: trainings",
        "percent: seed_spread",
        "number: hours",
    ),
    brief=(
        "variant accuracy flip ten difference difference_ci against trainings seed_spread hours"
    ),
)

Training = tuple[str, int]
"""Name of a variant, and seed."""

TRAINING = "ablation_training"
"""Kind of a training's record."""

KEPT = ("parameters", "hours", "precision", "best_epoch")
"""What the table has from the record of a training."""

REFERENCE = "reference"

_KEYS = ("about", "recipe", "seeds", "views", "against")


@dataclass(frozen=True)
class Variant:
    """One row of the table."""

    name: str  # of the row and, with the seed, of its run folders
    about: str  # what is different, for readers
    recipe: Path  # the file that it changes
    overrides: Mapping[str, Any]  # recipe key → value
    seeds: tuple[int, ...]  # one training each
    views: tuple[str, ...]  # the ways of viewing a face that are measured
    against: str  # the variant that it is compared with

    def arguments(self, seed: int) -> list[str]:
        """Return the recipe's overrides as ``classification.train`` takes them."""
        values = {**self.overrides, "seed": seed}
        return [text for key, value in values.items() for text in (key, _toml(value))]

    def recipe_of(self, seed: int) -> Recipe:
        """Return the recipe of a training."""
        return load_recipe(self.recipe, self.arguments(seed))

    def training(self, seed: int) -> str:
        """Return the name of a training's run folder and, with ``.json``, of its record."""
        return f"{self.name}_s{seed}"


def read_plan(path: Path) -> list[Variant]:
    """Read a plan, or raise a UserError if it, a recipe or an override in it is wrong."""
    plan = read_toml(path)
    try:
        common, recipe, seeds = plan["common"], plan["recipe"], plan["seeds"]
        given = plan["variants"]
        variants = []
        for name, values in given.items():
            own = {k: v for k, v in values.items() if k not in _KEYS}
            # Another recipe has another network: what the plan sets for its own does not fit it.
            shared = {k: v for k, v in common.items() if "recipe" not in values or "." not in k}
            variants.append(
                Variant(
                    name=name,
                    about=values["about"],
                    recipe=Path(values.get("recipe", recipe)),
                    overrides={**shared, **own},
                    seeds=tuple(values.get("seeds", seeds)),
                    views=tuple(values.get("views", VIEWS[:1])),
                    against=values.get("against", REFERENCE),
                )
            )
    except (KeyError, AttributeError, TypeError) as error:
        raise UserError(f"{path}: no plan of an ablation: {error}") from error
    for variant in variants:
        if variant.against not in given:
            raise UserError(f"{path}: {variant.name} is against {variant.against}, not there")
        try:
            variant.recipe_of(0)
        except UserError as error:
            raise UserError(f"{path}: {variant.name}: {error}") from error
    return variants


def training_command(
    variant: Variant, seed: int, data: Path, votes: Path | None, runs: Path
) -> list[str]:
    """Return Python's arguments that train a variant; UserError if it lacks FER+'s votes."""
    words = ["-m", "classification.train", "--recipe", str(variant.recipe), "--data", str(data)]
    if variant.recipe_of(seed).votes:
        if votes is None:
            raise UserError(f"{variant.name} learns from FER+'s votes; add --votes CSV")
        words += ["--votes", str(votes)]
    words += ["--out", str(runs / variant.training(seed)), "--resume"]
    return words + variant.arguments(seed)


def read_answers(
    path: Path, variant: Variant, seed: int, fingerprint: str
) -> dict[str, Any] | None:
    """Return a training's record; None if there is none of the plan's present recipe and data."""
    if not path.is_file():
        return None
    try:
        (record,) = report.read_record(path, {TRAINING})
        same = variant.recipe_of(seed).is_recorded_as(record["recipe"])
        same = same and record["fingerprint"] == fingerprint
        return record if same and set(variant.views) <= set(record["right"]) else None
    except (KeyError, TypeError) as error:
        raise UserError(f"{path}: lacks {error}; remove it, and it is measured again") from error


def measure(
    variant: Variant, seed: int, folder: Path, data: Fer2013, fingerprint: str, device: str | None
) -> dict[str, Any]:
    """Return the record of a finished training: how it was made, and which images it knows.

    Args:
        variant: of the plan.
        seed: of the training.
        folder: its run.
        data: PublicTest.
        fingerprint: of the whole of FER2013, Training included.
        device: where to measure.

    Raises:
        UserError: it was of another recipe, or on other data.
    """
    training = read_json(folder / "record.json")
    same_data = training["data_fingerprint"] == fingerprint
    if not (same_data and variant.recipe_of(seed).is_recorded_as(training["recipe"])):
        raise UserError(
            f"{folder}: was trained by another {'recipe' if same_data else 'data set'} than "
            f"{variant.name} has now; remove it, or name another --runs"
        )
    (classifier,) = options.load_classifiers([str(folder)], device)
    right = {views: right_answers(classifier, data, views) for views in variant.views}
    return {
        "kind": TRAINING,
        **{key: training[key] for key in ("recipe", *KEPT)},
        "training": training["command"],
        "trained_at": training["commit"],
        "fingerprint": fingerprint,
        "right": {views: "".join("01"[int(r)] for r in rows) for views, rows in right.items()},
    }


def right_answers(classifier: EmotionClassifier, data: Fer2013, views: str) -> NDArray[np.bool_]:
    """Tell for each image whether the most likely emotion is its label, shape (N,)."""
    right = []
    for crops, labels in batches(data):
        found = probabilities_over_views(classifier, crops, views)
        options.check_finite(found, classifier.name)
        right.append(found.argmax(axis=1) == np.asarray(labels))
    return np.concatenate(right)


def rows(
    variants: Sequence[Variant],
    right: Mapping[tuple[str, int, str], NDArray[np.bool_]],
    bootstrap: Bootstrap,
) -> list[report.Row]:
    """Compute the table.

    ``right`` maps (variant, seed, views) to the images that were recognised, shape (N,).
    """

    def mean(variant: Variant, views: str, seeds: Sequence[int]) -> NDArray[np.float64]:
        answers = [right[variant.name, seed, views] for seed in seeds]
        return np.asarray(np.mean(answers, axis=0), np.float64)

    def difference(one: NDArray[np.float64], other: NDArray[np.float64], key: str) -> report.Row:
        ones = np.ones(len(one))
        value, interval = bootstrap.difference(ratio_metric(one, ones), ratio_metric(other, ones))
        return {key: value, f"{key}_ci": interval}

    table = []
    single = VIEWS[0]
    for variant in variants:
        means = {views: mean(variant, views, variant.seeds) for views in variant.views}
        accuracies = [float(right[variant.name, s, single].mean()) for s in variant.seeds]
        row: report.Row = {
            "variant": variant.name,
            "about": variant.about,
            "seeds": list(variant.seeds),
            "trainings": len(variant.seeds),
            "accuracy": float(np.mean(accuracies)),
            "accuracies": accuracies,
            "seed_spread": (max(accuracies) - min(accuracies)) / 2 if accuracies[1:] else None,
            "against": None if variant.name == variant.against else variant.against,
        }
        for views in variant.views[1:]:
            row[views] = float(means[views].mean())
            row |= difference(means[views], means[single], f"{views}_difference")
        if row["against"] is not None:
            other = next(one for one in variants if one.name == variant.against)
            seeds = [seed for seed in variant.seeds if seed in other.seeds]
            ours, theirs = (mean(one, single, seeds) for one in (variant, other))
            row |= difference(ours, theirs, "difference")
        table.append(row)
    return table


def complete(variants: Sequence[Variant], known: Mapping[Training, object]) -> Iterator[Variant]:
    """Yield the variants all of whose trainings, and whose opposites', are known."""
    done = {v.name for v in variants if all((v.name, seed) in known for seed in v.seeds)}
    yield from (v for v in variants if {v.name, v.against} <= done)


def _evaluate(arguments: Namespace) -> None:
    command.existing(arguments.data, "--data")
    variants = read_plan(arguments.plan)
    names = {variant.name for variant in variants}
    if unknown := set(arguments.only) - names:
        raise UserError(f"{arguments.plan}: has no {', '.join(sorted(unknown))}")
    whole = load_fer2013(arguments.data, progress=sys.stderr.isatty())
    data, fingerprint = whole.split("PublicTest"), whole.fingerprint

    # What is recorded, and the commands of what is not.
    known: dict[Training, report.Row] = {}
    missing: list[tuple[Variant, int, list[str]]] = []
    for variant, seed in [(v, seed) for v in variants for seed in v.seeds]:
        path = arguments.answers / f"{variant.training(seed)}.json"
        record = read_answers(path, variant, seed, fingerprint)
        if record is not None:
            known[variant.name, seed] = record
        elif variant.name in (arguments.only or names):
            words = training_command(variant, seed, arguments.data, arguments.votes, arguments.runs)
            missing.append((variant, seed, words))

    # Train and record it.
    for number, (variant, seed, words) in enumerate(missing, 1):
        progress = f"training {number} of {len(missing)}"
        command.note(COMMAND, f"{progress}: {variant.name}, seed {seed}")
        name = variant.training(seed)
        folder = arguments.runs / name
        if not (folder / "record.json").is_file():
            python(*words)
        record = measure(variant, seed, folder, data, fingerprint, arguments.device)
        record |= report.provenance(arguments.made_by, arguments.device)
        write_json(arguments.answers / f"{name}.json", record, indent=1)
        known[variant.name, seed] = record

    # The table of what is complete.
    shown = list(complete(variants, known))
    if absent := [v.name for v in variants if v not in shown]:
        command.note(COMMAND, f"not in the table, as not all is trained: {', '.join(absent)}")
    about = {"ablation": arguments.plan.name, "split": "PublicTest", "n": len(data.labels)}
    about |= {"fingerprint": fingerprint}
    table = [row | about for row in recorded_rows(shown, known, len(data.labels))]
    SECTION.publish(arguments, table)


def recorded_rows(
    variants: Sequence[Variant], known: Mapping[Training, report.Row], images: int
) -> list[report.Row]:
    """Compute the table of so many images from the records of all its trainings."""
    right = {
        (*training, views): np.array([letter == "1" for letter in answers])
        for training, record in known.items()
        for views, answers in record["right"].items()
    }
    kept = (*KEPT, "training", "trained_at")
    firsts = [known[variant.name, variant.seeds[0]] for variant in variants]
    return [
        row | {key: first[key] for key in kept}
        for row, first in zip(rows(variants, right, Bootstrap.of(images)), firsts, strict=True)
    ]


def _toml(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _add_options(parser: ArgumentParser) -> None:
    parser.add_argument("--data", type=Path, required=True, help="FER2013 in any form")
    parser.add_argument("--votes", type=Path, metavar="CSV", help="FER+'s votes")
    parser.add_argument("--plan", type=Path, default=PLAN, help="default: eval/ablation.toml")
    text = "run folders (%(default)s)"
    parser.add_argument("--runs", type=Path, default=Path("runs/ablation"), help=text)
    text = "records of the trainings (%(default)s)"
    parser.add_argument("--answers", type=Path, default=Path("results/ablation"), help=text)
    parser.add_argument("--only", nargs="+", default=[], metavar="VARIANT", help="train only these")
    options.add_common_options(parser)


main = options.Command(COMMAND, __doc__, _add_options, _evaluate)

if __name__ == "__main__":
    raise SystemExit(main())
