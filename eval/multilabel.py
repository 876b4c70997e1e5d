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

from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from classification.training.scaling import fit_scaling
from eval.data import fer2013_parts as fer
from eval.data import options
from eval.metrics import multilabel as metrics
from eval.metrics.bootstrap import Bootstrap
from eval.metrics.multilabel import Flags
from eval.records import plots, report
from eval.records.sections import Section, columns
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
    """A classifier's probabilities, people's votes as shares, and what they saw; each (N, 7)."""

    probabilities: NDArray[np.float64]
    votes: NDArray[np.float64]
    present: Flags


def measure(selection: VotedFaces, reported: VotedFaces) -> list[report.Row]:
    """Select thresholds on one part and measure the three rules on another.

    Returns:
        One row per rule; the module's docstring defines the metrics.
    """
    one = metrics.best_threshold(selection.probabilities, selection.present, GRID)
    each = metrics.best_thresholds(selection.probabilities, selection.present, GRID)
    p = reported.probabilities
    top = metrics.only_the_top(p)
    boot = Bootstrap.of(len(p))
    common: report.Row = {
        "n": len(p),
        "present_per_face": float(reported.present.sum(axis=1).mean()),
        "mean_ap": float(np.nanmean(_average_precisions(reported))),
    }

    def row(rule: str, named: Flags, **about: Any) -> report.Row:
        return {"rule": rule} | about | summarise(named, top, reported, boot) | common

    curve = {"curve": threshold_curve(reported)}
    return [
        row("argmax", top),
        row("one threshold", metrics.at_or_above(p, one), threshold=one) | curve,
        row(
            "threshold per emotion",
            metrics.at_or_above(p, each),
            thresholds=dict(zip(EMOTIONS, each.tolist(), strict=True)),
        ),
    ]


def summarise(named: Flags, top: Flags, faces: VotedFaces, boot: Bootstrap) -> report.Row:
    """Measure what a rule named, and its gain over naming the top emotion alone."""
    present = faces.present
    result: report.Row = {}
    for name, metric in (("micro_f1", metrics.micro_f1), ("macro_f1", metrics.macro_f1)):
        ours, argmax = metric(named, present), metric(top, present)
        result |= boot.values({name: ours})
        gain = f"{name}_gain_over_argmax"
        result[gain], result[f"{gain}_ci"] = boot.difference(ours, argmax)
    scores = metrics.precision_recall_f1(named, present)
    return result | {
        **_micro(named, present),
        "top_two_coverage": metrics.top_two_coverage(named, faces.votes),
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
    present, once = faces.present, np.ones((1, len(faces.present)))
    points = []
    for limit in GRID[::2]:
        named = metrics.at_or_above(faces.probabilities, limit)
        points.append(
            {
                "threshold": float(limit),
                **_micro(named, present),
                "micro_f1": float(metrics.micro_f1(named, present)(once)[0]),
                "macro_f1": float(metrics.macro_f1(named, present)(once)[0]),
                "top_two_coverage": metrics.top_two_coverage(named, faces.votes),
            }
        )
    return points


def _micro(named: Flags, present: Flags) -> dict[str, float]:
    right = int((named & present).sum())
    return {
        "micro_precision": right / max(int(named.sum()), 1),
        "micro_recall": right / max(int(present.sum()), 1),
    }


def _average_precisions(faces: VotedFaces) -> list[float]:
    columns = zip(faces.probabilities.T, faces.present.T, strict=True)
    return [metrics.average_precision(p, present) for p, present in columns]


def measure_all(
    classifiers: Sequence[EmotionClassifier], parts: Sequence[fer.Part], presence: float
) -> list[report.Row]:
    """Measure every classifier, scaling and rule; select on the first part, report the second.

    An emotion is present from the share ``presence`` of the votes on.
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
                VotedFaces(p[known], votes, metrics.at_or_above(votes, presence))
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
        curve = row["curve"]
        lines = [(names[key], *plots.points(curve, "threshold", key, 1)) for key in names]
        plots.draw_lines(axis, lines, "threshold", "", f"{row['classifier']}, {row['scaling']}")
        axis.axvline(row["threshold"], color="0.5", linestyle="--", linewidth=1)
        axis.set(ylim=(0, 1), xlim=(0, 0.9))
    plots.save(figure, path)


def _add_options(parser: ArgumentParser) -> None:
    fer.add_options(parser, votes_required=True)
    text = "share of the votes from which an emotion is present"
    options.add_share_option(parser, "--presence", PRESENCE, text)


def _evaluate(arguments: Namespace) -> None:
    classifiers = options.load_classifiers(arguments.classifier, arguments.device)
    parts = fer.open_selection_and_reported(arguments)
    rows = measure_all(classifiers, parts, arguments.presence)
    SECTION.publish(arguments, [row | parts[1].about() for row in rows], draw)
    print(f"The default threshold, faces.types.DEFAULT_THRESHOLD, is {DEFAULT_THRESHOLD}.")


main = options.Command(COMMAND, __doc__, _add_options, _evaluate)

if __name__ == "__main__":
    raise SystemExit(main())
