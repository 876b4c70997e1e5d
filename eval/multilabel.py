"""Measure several emotions at once against FER+'s votes: ``python -m eval.multilabel --help``.

Ten people voted on what each image of FER2013 shows (FER+). An emotion is *present* from a share of
the votes for the seven emotions (``--presence``, 0.3 as in Barsoum et al., ICMI 2016). Images on
which half of the voters or more saw no face, contempt, or could not tell, are left out.

Each classifier is measured with three scalings of its probabilities
    softmax: its own, before any calibration.
    calibrated: as it is used, if ``classification.calibrate`` has been run on it.
    fitted to votes: calibrated in the same way, on the votes on PublicTest.
and three rules that name emotions
    argmax: the most likely one; other systems use this rule.
    one threshold: all from one probability on, that of the best macro-F1 on PublicTest.
    threshold per emotion: each from its own, that of the best F1 of the emotion on PublicTest.

Definitions
    precision, recall, f1: of presence, per emotion; micro counts all emotions together, macro is
        the mean over the emotions.
    ap: average precision of an emotion's probability; mean_ap over the emotions.
    top_two_coverage: the share named of the two emotions with the most votes in each face.
    named_per_face, nothing_named: how many emotions the rule names, and how often none.
    gain_over_argmax: macro-F1 and micro-F1 minus those of the same classifier's argmax, with 95 %
        intervals by the paired bootstrap over images.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from classification.training.scaling import fit_scaling
from eval.data import fer2013_parts as fer
from eval.data import options
from eval.metrics import multilabel as multilabel_metrics
from eval.metrics.bootstrap import Bootstrap
from eval.metrics.multilabel import Flags
from eval.records import plots, report
from eval.records.sections import Section, columns
from faces import command
from faces.emotions import EMOTIONS
from faces.pipeline import EmotionClassifier
from faces.types import DEFAULT_THRESHOLD

COMMAND = "eval.multilabel"

PRESENCE = 0.3
"""Share of the votes from which an emotion counts as present (Barsoum et al., 2016)."""

GRID = np.round(np.arange(0.02, 0.91, 0.01), 2)
"""The thresholds that are tried."""

SECTION = Section(
    kind="multilabel",
    title="Several emotions at once, against FER+'s votes",
    columns=columns(
        "text: record split classifier scaling rule",
        "number: threshold micro_f1 macro_f1 macro_f1_ci macro_f1_gain_over_argmax "
        "macro_f1_gain_over_argmax_ci mean_ap",
        "percent: top_two_coverage",
        "number: named_per_face",
    ),
)


@dataclass(frozen=True)
class VotedFaces:
    """A classifier's probabilities beside people's votes.

    Attributes:
        probabilities: shape (N, 7).
        votes: each emotion's share of the votes, shape (N, 7).
        present: shape (N, 7), bool.
    """

    probabilities: NDArray[np.float64]
    votes: NDArray[np.float64]
    present: Flags


def measure(selection: VotedFaces, reported: VotedFaces) -> list[report.Row]:
    """Select thresholds on one part and measure the three rules on another.

    Returns:
        One row per rule; the module's docstring defines the metrics.
    """
    one = multilabel_metrics.best_threshold(selection.probabilities, selection.present, GRID)
    each = multilabel_metrics.best_thresholds(selection.probabilities, selection.present, GRID)
    p = reported.probabilities
    top = multilabel_metrics.only_the_top(p)
    boot = Bootstrap.of(len(p))
    common: report.Row = {
        "n": len(p),
        "present_per_face": float(reported.present.sum(axis=1).mean()),
        "mean_ap": float(np.nanmean(_average_precisions(reported))),
    }
    return [
        {"rule": "argmax"} | summarise(top, top, reported, boot) | common,
        {"rule": "one threshold", "threshold": one}
        | summarise(multilabel_metrics.at_or_above(p, one), top, reported, boot)
        | common
        | {"curve": threshold_curve(reported)},
        {
            "rule": "threshold per emotion",
            "thresholds": dict(zip(EMOTIONS, each.tolist(), strict=True)),
        }
        | summarise(multilabel_metrics.at_or_above(p, each), top, reported, boot)
        | common,
    ]


def summarise(named: Flags, top: Flags, faces: VotedFaces, boot: Bootstrap) -> report.Row:
    """Measure what a rule named, and its gain over naming the top emotion alone."""
    present = faces.present
    result: report.Row = {}
    for name, metric in (
        ("micro_f1", multilabel_metrics.micro_f1),
        ("macro_f1", multilabel_metrics.macro_f1),
    ):
        ours, argmax = metric(named, present), metric(top, present)
        result |= boot.values({name: ours})
        gain = f"{name}_gain_over_argmax"
        result[gain], result[f"{gain}_ci"] = boot.difference(ours, argmax)
    scores = multilabel_metrics.precision_recall_f1(named, present)
    right = int((named & present).sum())
    return result | {
        "micro_precision": right / max(int(named.sum()), 1),
        "micro_recall": right / max(int(present.sum()), 1),
        "top_two_coverage": multilabel_metrics.top_two_coverage(named, faces.votes),
        "named_per_face": float(named.sum(axis=1).mean()),
        "nothing_named": float((~named.any(axis=1)).mean()),
        "per_emotion": {
            emotion: {"present": int(count), "precision": p, "recall": r, "f1": f, "ap": ap}
            for emotion, count, (p, r, f), ap in zip(
                EMOTIONS, present.sum(axis=0), scores, _average_precisions(faces), strict=True
            )
        },
    }


def threshold_curve(faces: VotedFaces) -> list[dict[str, float]]:
    """Return the figures of one threshold for all emotions, over the thresholds."""
    once = np.ones((1, len(faces.present)))
    points = []
    for limit in GRID[::2]:
        named = multilabel_metrics.at_or_above(faces.probabilities, limit)
        right = int((named & faces.present).sum())
        points.append(
            {
                "threshold": float(limit),
                "micro_precision": right / max(int(named.sum()), 1),
                "micro_recall": right / max(int(faces.present.sum()), 1),
                "micro_f1": float(multilabel_metrics.micro_f1(named, faces.present)(once)[0]),
                "macro_f1": float(multilabel_metrics.macro_f1(named, faces.present)(once)[0]),
                "top_two_coverage": multilabel_metrics.top_two_coverage(named, faces.votes),
            }
        )
    return points


def _average_precisions(faces: VotedFaces) -> list[float]:
    columns = zip(faces.probabilities.T, faces.present.T, strict=True)
    return [multilabel_metrics.average_precision(p, present) for p, present in columns]


def measure_all(
    classifiers: Sequence[EmotionClassifier], parts: Sequence[fer.Part], presence: float
) -> list[report.Row]:
    """Measure every classifier, scaling and rule.

    Args:
        classifiers: stage 2.
        parts: the one to select on, the one to report.
        presence: share of the votes from which an emotion is present.
    """
    rows: list[report.Row] = []
    voted = [part.vote_probabilities() for part in parts]
    for classifier in classifiers:
        plain = fer.uncalibrated(classifier)
        own = [fer.probabilities(plain or classifier, part.data) for part in parts]
        scaled = {"softmax": own}
        if plain is not None:
            scaled["calibrated"] = [fer.probabilities(classifier, part.data) for part in parts]
        known, votes = voted[0]
        scaling = fit_scaling(own[0][known], votes)
        scaled["fitted to votes"] = [scaling(p) for p in own]
        for name, of_parts in scaled.items():
            faces = [
                VotedFaces(p[known], votes, multilabel_metrics.at_or_above(votes, presence))
                for p, (known, votes) in zip(of_parts, voted, strict=True)
            ]
            head = {"classifier": classifier.name, "scaling": name, "presence": presence}
            rows += [head | row for row in measure(*faces)]
    return rows


def draw(rows: Sequence[report.Row], path: Path) -> None:
    """Draw F1 and coverage against the threshold, one panel per classifier and scaling."""
    curved = [row for row in rows if "curve" in row]
    figure, axes = plots.panels(len(curved))
    names = {"micro_f1": "micro-F1", "macro_f1": "macro-F1", "top_two_coverage": "top two named"}
    for axis, row in zip(axes, curved, strict=True):
        xs = [point["threshold"] for point in row["curve"]]
        lines = [(text, xs, [p[key] for p in row["curve"]]) for key, text in names.items()]
        plots.draw_lines(axis, lines, "threshold", "")
        axis.axvline(row["threshold"], color="0.5", linestyle="--", linewidth=1)
        axis.set(title=f"{row['classifier']}, {row['scaling']}", ylim=(0, 1), xlim=(0, 0.9))
        axis.title.set_fontsize(9)
    plots.save(figure, path)


def parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    result = fer.make_parser(COMMAND, __doc__, votes_required=True)
    result.add_argument(
        "--presence",
        type=command.fraction,
        default=PRESENCE,
        metavar="SHARE",
        help="share of the votes from which an emotion is present (default %(default)s)",
    )
    return result


def evaluate(arguments: argparse.Namespace, made_by: str) -> int:
    """Do what the command line ``made_by`` asks; returns the exit status."""
    report.check_out(arguments.out)
    report.check_out(arguments.picture)
    classifiers = options.load_classifiers(arguments.classifier, arguments.device)
    splits = (fer.SELECTION_SPLIT, arguments.split)
    parts = fer.open_parts(arguments.data, splits, arguments.ferplus)
    about = parts[1].about() | report.provenance(made_by, arguments.device)
    rows = [row | about for row in measure_all(classifiers, parts, arguments.presence)]
    SECTION.publish(arguments, rows, draw)
    print(f"The default threshold, faces.types.DEFAULT_THRESHOLD, is {DEFAULT_THRESHOLD}.")
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    return options.run_command(COMMAND, parser(), evaluate, argv)


if __name__ == "__main__":
    sys.exit(main())
