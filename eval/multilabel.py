"""Measure several emotions at once against FER+'s votes: ``python -m eval.multilabel --help``.

Ten people voted on what each picture of FER2013 shows (FER+). An emotion is *present* from a share
of the votes for the seven emotions (``--presence``, 0.3 as in Barsoum et al., ICMI 2016). Pictures
on which half of the voters or more saw no face, contempt, or could not tell, are left out.

Each classifier is measured with three scalings of its probabilities
    softmax: its own, before any calibration.
    calibrated: as it is used, if ``classification.calibrate`` has been run on it.
    fitted to votes: calibrated in the same way, against the shares of the votes on PublicTest.
and three rules that name emotions
    argmax: the most likely one, which is what other systems do.
    one threshold: all from the same probability on, the one of the best macro-F1 on PublicTest.
    threshold per emotion: each from its own, of the best F1 of that emotion on PublicTest.

Definitions
    precision, recall, f1: of presence, per emotion; micro counts all emotions together, macro is
        the mean over the emotions.
    ap: average precision of an emotion's probability; mean_ap over the emotions.
    top_two_coverage: of the two emotions with the most votes in each face, the share named.
    named_per_face, nothing_named: how many emotions the rule names, and how often none.
    gain_over_argmax: macro-F1 and micro-F1 minus those of the same classifier's argmax, with 95 %
        intervals by the paired bootstrap over pictures.
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
from faces import command
from faces.emotions import EMOTIONS
from faces.pipeline import EmotionClassifier
from faces.provenance import command_line
from faces.types import DEFAULT_THRESHOLD

COMMAND = "eval.multilabel"

PRESENCE = 0.3
"""Share of the votes from which an emotion counts as present (Barsoum et al., 2016)."""

GRID = np.round(np.arange(0.02, 0.91, 0.01), 2)
"""The thresholds that are tried."""

COLUMNS = {
    "classifier": "text",
    "scaling": "text",
    "rule": "text",
    "threshold": "number",
    "micro_f1": "number",
    "macro_f1": "number",
    "macro_f1_ci": "number",
    "macro_f1_gain_over_argmax": "number",
    "macro_f1_gain_over_argmax_ci": "number",
    "mean_ap": "number",
    "top_two_coverage": "percent",
    "named_per_face": "number",
}


@dataclass(frozen=True)
class Judged:
    """Probabilities beside what people saw.

    Attributes:
        probabilities: shape (N, 7).
        shares: of the votes, shape (N, 7).
        present: shape (N, 7), bool.
    """

    probabilities: NDArray[np.float64]
    shares: NDArray[np.float64]
    present: Flags


def measure(chosen_on: Judged, reported: Judged) -> list[report.Run]:
    """Choose thresholds on one part and measure the three rules on another.

    Returns:
        One run per rule; the module's docstring defines the metrics.
    """
    one = multilabel_metrics.best_threshold(chosen_on.probabilities, chosen_on.present, GRID)
    each = multilabel_metrics.best_thresholds(chosen_on.probabilities, chosen_on.present, GRID)
    p = reported.probabilities
    top = multilabel_metrics.only_the_top(p)
    boot = Bootstrap.of(len(p))
    common: report.Run = {
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


def summarise(named: Flags, top: Flags, judged: Judged, boot: Bootstrap) -> report.Run:
    """Measure what a rule named, and its gain over naming the top emotion alone."""
    present = judged.present
    result: report.Run = {}
    for name, metric in (
        ("micro_f1", multilabel_metrics.micro_f1),
        ("macro_f1", multilabel_metrics.macro_f1),
    ):
        ours, argmax = metric(named, present), metric(top, present)
        gain, interval = boot.difference(ours, argmax)
        result |= {name: boot.value(ours), f"{name}_ci": boot.interval(ours)}
        result |= {
            f"{name}_gain_over_argmax": gain,
            f"{name}_gain_over_argmax_ci": interval,
        }
    scores = multilabel_metrics.precision_recall_f1(named, present)
    right = int((named & present).sum())
    return result | {
        "micro_precision": right / max(int(named.sum()), 1),
        "micro_recall": right / max(int(present.sum()), 1),
        "top_two_coverage": multilabel_metrics.top_two_coverage(named, judged.shares),
        "named_per_face": float(named.sum(axis=1).mean()),
        "nothing_named": float((~named.any(axis=1)).mean()),
        "per_emotion": {
            emotion: {"present": int(count), "precision": p, "recall": r, "f1": f, "ap": ap}
            for emotion, count, (p, r, f), ap in zip(
                EMOTIONS, present.sum(axis=0), scores, _average_precisions(judged), strict=True
            )
        },
    }


def threshold_curve(judged: Judged) -> list[dict[str, float]]:
    """Return the figures of one threshold for all emotions, over the thresholds."""
    faces = np.ones((1, len(judged.present)))
    points = []
    for limit in GRID[::2]:
        named = multilabel_metrics.at_or_above(judged.probabilities, limit)
        right = int((named & judged.present).sum())
        points.append(
            {
                "threshold": float(limit),
                "micro_precision": right / max(int(named.sum()), 1),
                "micro_recall": right / max(int(judged.present.sum()), 1),
                "micro_f1": float(multilabel_metrics.micro_f1(named, judged.present)(faces)[0]),
                "macro_f1": float(multilabel_metrics.macro_f1(named, judged.present)(faces)[0]),
                "top_two_coverage": multilabel_metrics.top_two_coverage(named, judged.shares),
            }
        )
    return points


def _average_precisions(judged: Judged) -> list[float]:
    columns = zip(judged.probabilities.T, judged.present.T, strict=True)
    return [multilabel_metrics.average_precision(scores, present) for scores, present in columns]


def judge_all(
    classifiers: Sequence[EmotionClassifier], chosen_on: fer.Part, reported: fer.Part, share: float
) -> list[report.Run]:
    """Measure every classifier, scaling and rule."""
    runs: list[report.Run] = []
    for classifier in classifiers:
        plain = fer.uncalibrated(classifier)
        own = [fer.probabilities(plain or classifier, part.data) for part in (chosen_on, reported)]
        scaled = {"softmax": own}
        if plain is not None:
            parts = (chosen_on, reported)
            scaled["calibrated"] = [fer.probabilities(classifier, part.data) for part in parts]
        known, shares = chosen_on.voted()
        scaling = fit_scaling(own[0][known], shares)
        scaled["fitted to votes"] = [scaling(p) for p in own]
        for name, rows in scaled.items():
            judged = []
            for part, p in zip((chosen_on, reported), rows, strict=True):
                known, shares = part.voted()
                judged.append(
                    Judged(p[known], shares, multilabel_metrics.at_or_above(shares, share))
                )
            head = {"classifier": classifier.name, "scaling": name, "presence": share}
            runs += [head | run for run in measure(*judged)]
    return runs


def draw(runs: Sequence[report.Run], path: Path) -> None:
    """Draw F1 and coverage against the threshold, one panel per classifier and scaling."""
    curved = [run for run in runs if "curve" in run]
    figure, axes = plots.panels(len(curved))
    names = {"micro_f1": "micro-F1", "macro_f1": "macro-F1", "top_two_coverage": "top two named"}
    for axis, run in zip(axes, curved, strict=True):
        xs = [point["threshold"] for point in run["curve"]]
        lines = [(text, xs, [p[key] for p in run["curve"]]) for key, text in names.items()]
        plots.draw_lines(axis, lines, "threshold", "")
        axis.axvline(run["threshold"], color="0.5", linestyle="--", linewidth=1)
        axis.set(title=f"{run['classifier']}, {run['scaling']}", ylim=(0, 1), xlim=(0, 0.9))
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
    names = (fer.CHOSEN_ON, arguments.split)
    chosen_on, reported = fer.read_parts(arguments.data, arguments.ferplus, names)
    about = fer.about(reported, arguments.data, arguments.ferplus, made_by)
    found = judge_all(classifiers, chosen_on, reported, arguments.presence)
    runs = [run | about for run in found]
    fer.publish(arguments, runs, COLUMNS, draw)
    print(f"The default threshold, faces.types.DEFAULT_THRESHOLD, is {DEFAULT_THRESHOLD}.")
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    arguments = parser().parse_args(argv)
    made_by = command_line(COMMAND, argv)
    return command.run(COMMAND, lambda: evaluate(arguments, made_by))


if __name__ == "__main__":
    sys.exit(main())
