"""What each ingredient of a training gives: ``python -m eval.ablation --help``.

Trains every variant of a plan (eval/ablation.toml) that is not trained yet, one run folder per
variant and seed, and measures all of them on PublicTest. Ctrl-C stops; the same command goes on.

Definitions
    accuracy: on PublicTest, mean over the seeds, one figure per way of viewing a face.
    difference: accuracy (single view) minus that of the variant named in ``against``, over the
        seeds that both have, with a 95 % interval from drawing the pictures anew. What another
        seed would change is not in it: ``seed_spread`` is half the range over the seeds.
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from classification.fer2013 import Fer2013
from classification.recipe import RecipeError, load_recipe
from eval import command, report
from eval.bootstrap import Bootstrap, ratio_metric
from eval.classification import fer2013_batches, open_fer2013
from eval.command import EvaluationError
from faces.pipeline import EmotionClassifier
from faces.provenance import command_line
from faces.views import VIEWS, scores_over_views

COMMAND = "eval.ablation"

PLAN = Path(__file__).with_name("ablation.toml")

COLUMNS = {
    "variant": "text",
    "accuracy": "percent",
    "flip": "percent",
    "ten": "percent",
    "difference": "percent",
    "difference_ci": "text",
    "against": "text",
    "seeds": "text",
    "seed_spread": "percent",
    "hours": "number",
}

REFERENCE = "reference"

_KEYS = ("about", "recipe", "seeds", "views", "against")


@dataclass(frozen=True)
class Variant:
    """One row of the table.

    Attributes:
        name: of the row and, with the seed, of its run folders.
        about: what is different, for readers.
        recipe: the file that it changes.
        overrides: recipe key → value.
        seeds: one training each.
        views: the ways of viewing a face that are measured.
        against: the variant that it is compared with.
    """

    name: str
    about: str
    recipe: Path
    overrides: Mapping[str, Any]
    seeds: tuple[int, ...]
    views: tuple[str, ...]
    against: str

    def arguments(self, seed: int) -> list[str]:
        """Return the recipe's overrides as ``classification.train`` takes them."""
        values = {**self.overrides, "seed": seed}
        return [text for key, value in values.items() for text in (key, _toml(value))]


def read_plan(path: Path) -> list[Variant]:
    """Read a plan.

    Raises:
        EvaluationError: it is no plan, or a recipe or an override in it is wrong.
    """
    try:
        plan = tomllib.loads(path.read_text(encoding="utf-8"))
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
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, KeyError, AttributeError) as error:
        raise EvaluationError(f"{path}: no plan of an ablation: {error}") from error
    for variant in variants:
        if variant.against not in given:
            raise EvaluationError(f"{path}: {variant.name} is against {variant.against}, not there")
        try:
            load_recipe(variant.recipe, variant.arguments(0))
        except RecipeError as error:
            raise EvaluationError(f"{path}: {variant.name}: {error}") from error
    return variants


def run_folder(runs: Path, variant: Variant, seed: int) -> Path:
    """Return where a training is, or will be."""
    return runs / f"{variant.name}_s{seed}"


def training_command(
    variant: Variant, seed: int, data: Path, votes: Path | None, runs: Path
) -> list[str]:
    """Return the arguments of Python that train a variant.

    Raises:
        EvaluationError: it needs FER+'s votes, which were not given.
    """
    words = ["-m", "classification.train", "--recipe", str(variant.recipe), "--data", str(data)]
    if load_recipe(variant.recipe, variant.arguments(seed)).votes:
        if votes is None:
            raise EvaluationError(f"{variant.name} learns from FER+'s votes; add --votes CSV")
        words += ["--votes", str(votes)]
    words += ["--out", str(run_folder(runs, variant, seed)), "--resume"]
    return words + variant.arguments(seed)


def train_missing(variants: Sequence[Variant], data: Path, votes: Path | None, runs: Path) -> None:
    """Train what has no record yet, each in a process of its own.

    Raises:
        EvaluationError: a training failed; the others' runs are kept.
        KeyboardInterrupt: a training was stopped.
    """
    wanted = [(variant, seed) for variant in variants for seed in variant.seeds]
    missing = [w for w in wanted if not (run_folder(runs, *w) / "record.json").is_file()]
    commands = [training_command(variant, seed, data, votes, runs) for variant, seed in missing]
    for number, ((variant, seed), words) in enumerate(zip(missing, commands, strict=True), 1):
        print(f"training {number} of {len(missing)}: {variant.name}, seed {seed}", file=sys.stderr)
        status = subprocess.run([sys.executable, *words], check=False).returncode
        if status == 130:
            raise KeyboardInterrupt
        if status:
            raise EvaluationError(
                f"{variant.name}, seed {seed}: the training failed; see above. Its command: "
                f"python {shlex.join(words)}"
            )


def right_answers(classifier: EmotionClassifier, data: Fer2013, views: str) -> NDArray[np.bool_]:
    """Tell for each picture whether the most likely emotion is its label, shape (N,)."""
    right = []
    for crops, labels in fer2013_batches(data):
        scores = scores_over_views(classifier, crops, views)
        right.append(command.top_emotions(classifier, scores) == np.asarray(labels))
    return np.concatenate(right)


def rows(
    variants: Sequence[Variant],
    right: Mapping[tuple[str, int, str], NDArray[np.bool_]],
    bootstrap: Bootstrap,
) -> list[report.Run]:
    """Compute the table.

    Args:
        variants: its rows.
        right: (variant, seed, views) → shape (N,): which pictures were recognised.
        bootstrap: drawings of the N pictures.
    """
    table = []
    for variant in variants:
        mean = {
            views: np.mean([right[variant.name, seed, views] for seed in variant.seeds], axis=0)
            for views in variant.views
        }
        single = [float(right[variant.name, s, VIEWS[0]].mean()) for s in variant.seeds]
        row: report.Run = {
            "variant": variant.name,
            "about": variant.about,
            "seeds": list(variant.seeds),
            "accuracy": float(np.mean(single)),
            "accuracies": single,
            "seed_spread": (max(single) - min(single)) / 2 if len(single) > 1 else None,
            "against": None if variant.name == variant.against else variant.against,
            **{views: float(mean[views].mean()) for views in variant.views if views != VIEWS[0]},
        }
        for views in variant.views[1:]:
            ones = np.ones(len(mean[views]))
            low_high = bootstrap.difference(
                ratio_metric(mean[views], ones), ratio_metric(mean[VIEWS[0]], ones)
            )
            row[f"{views}_difference"], row[f"{views}_difference_ci"] = low_high
        if row["against"] is not None:
            other = next(one for one in variants if one.name == variant.against)
            seeds = [seed for seed in variant.seeds if seed in other.seeds]
            pair = [
                np.mean([right[one.name, seed, VIEWS[0]] for seed in seeds], axis=0)
                for one in (variant, other)
            ]
            ones = np.ones(len(pair[0]))
            row["difference"], row["difference_ci"] = bootstrap.difference(
                ratio_metric(pair[0], ones), ratio_metric(pair[1], ones)
            )
        table.append(row)
    return table


def evaluate(arguments: argparse.Namespace, made_by: str) -> int:
    """Do what the command line ``made_by`` asks; returns the exit status."""
    report.check_out(arguments.out)
    command.existing(arguments.data, "--data")
    variants = read_plan(arguments.plan)
    if arguments.only:
        unknown = set(arguments.only) - {variant.name for variant in variants}
        if unknown:
            raise EvaluationError(f"{arguments.plan}: has no {', '.join(sorted(unknown))}")
        variants = [
            v
            for v in variants
            if v.name in arguments.only
            or any(o.against == v.name for o in variants if o.name in arguments.only)
        ]
    train_missing(variants, arguments.data, arguments.votes, arguments.runs)
    data, split, _ = open_fer2013(arguments.data, "PublicTest")
    right: dict[tuple[str, int, str], NDArray[np.bool_]] = {}
    records: dict[str, Any] = {}
    for variant in variants:
        for seed in variant.seeds:
            folder = run_folder(arguments.runs, variant, seed)
            (classifier,) = command.load_classifiers([str(folder)], arguments.device)
            for views in variant.views:
                right[variant.name, seed, views] = right_answers(classifier, data, views)
            records.setdefault(
                variant.name, json.loads((folder / "record.json").read_text("utf-8"))
            )
    table = rows(variants, right, Bootstrap.of(len(data.labels)))
    about = {"ablation": str(arguments.plan), "split": split, "n": len(data.labels)}
    about |= {"fingerprint": data.fingerprint} | report.provenance(made_by)
    for row in table:
        record = records[row["variant"]]
        row |= {key: record[key] for key in ("parameters", "hours", "precision", "best_epoch")}
        row |= {"training": record["command"], "trained_at": record["commit"]} | about
    if arguments.out is not None:
        report.write_report(arguments.out, table)
    print(report.table([_shown(row) for row in table], COLUMNS))
    return 0


def _shown(row: report.Run) -> report.Run:
    shown = row | {"seeds": " ".join(map(str, row["seeds"]))}
    if "difference_ci" in row:
        low, high = row["difference_ci"]
        shown["difference_ci"] = f"{100 * low:+.1f} … {100 * high:+.1f} %"
    return shown


def _toml(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog=f"python -m {COMMAND}",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--data", type=Path, required=True, help="FER2013 in any form")
    parser.add_argument("--votes", type=Path, metavar="CSV", help="FER+'s votes")
    parser.add_argument("--plan", type=Path, default=PLAN, help="default: eval/ablation.toml")
    parser.add_argument("--runs", type=Path, required=True, help="folder of the run folders")
    parser.add_argument(
        "--only", nargs="+", default=[], metavar="VARIANT", help="these, and those compared with"
    )
    command.add_common_options(parser)
    arguments = parser.parse_args(argv)
    made_by = command_line(COMMAND, argv)
    return command.run(COMMAND, lambda: evaluate(arguments, made_by))


if __name__ == "__main__":
    sys.exit(main())
