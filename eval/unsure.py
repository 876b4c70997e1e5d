"""Measure and select when a face is *unsure*: ``python -m eval.unsure --help``.

A classifier that leaves out uncertain faces is wrong less often on the others. Three measures of
certainty are compared on PublicTest by the area under the risk-coverage curve: the top probability,
the entropy, and the difference between the first and the second probability. The project's rule is
the first: a face is unsure if its top probability is below a limit. The limit is the highest that
leaves ``--coverage`` of PublicTest answered.

Definitions
    coverage: faces that are answered (not unsure) / all faces.
    risk, risk_of_unsure: wrong labels among the answered faces, and among the unsure ones had they
        been answered; risk_of_all without the rule. vote_risk, vote_risk_of_unsure: the same, an
        answer being wrong if less than 0.3 of FER+'s voters saw that emotion (with ``--ferplus``).
    aurc: mean risk over all coverages, per measure, on PublicTest; lower is better.
Intervals: 95 %, bootstrap over images.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from eval.data import fer2013_parts as fer
from eval.data import options
from eval.metrics import selective
from eval.metrics.bootstrap import Bootstrap, ratio_metric
from eval.metrics.multilabel import at_or_above, only_the_top
from eval.multilabel import PRESENCE
from eval.records import plots, report
from eval.records.sections import Section, columns
from faces.pipeline import EmotionClassifier
from faces.types import UNSURE_BELOW

COMMAND = "eval.unsure"

COVERAGE = 0.9
"""Share of PublicTest's faces that keep an answer, if the user names no other."""

POINTS = 100
"""Points of a curve in the record."""

SECTION = Section(
    kind="unsure",
    title="Unsure faces",
    columns=columns(
        "text: record split classifier",
        "number: unsure_below",
        "percent: coverage risk_of_all risk risk_ci risk_of_unsure vote_risk vote_risk_of_unsure",
        "number: aurc_top_probability aurc_entropy aurc_lead_over_the_second",
    ),
)


Answers = tuple[NDArray[np.float64], NDArray[np.bool_]]
"""Probabilities (N, 7), and which answers are wrong (N,)."""


def measure(selection: Answers, reported: Answers, coverage: float) -> report.Row:
    """Select the limit that leaves ``coverage`` of one part answered; measure it on another."""
    limit = selective.threshold_for(selective.top_probability(selection[0]), coverage)
    areas = {
        f"aurc_{name.replace(' ', '_')}": selective.area_under_risk(of(selection[0]), selection[1])
        for name, of in selective.CERTAINTIES.items()
    }
    p, wrong = reported
    answered = selective.top_probability(p) >= limit
    boot = Bootstrap.of(len(p))
    every = np.ones(len(p))
    metrics = {
        "coverage": ratio_metric(answered, every),
        "risk": ratio_metric(answered & wrong, answered),
        "risk_of_unsure": ratio_metric(~answered & wrong, ~answered),
        "risk_of_all": ratio_metric(wrong, every),
    }
    row: report.Row = {"n": len(p), "unsure_below": limit, "chosen_coverage": coverage}
    return row | boot.values(metrics) | areas | {"curves": _curves(p, wrong)}


def _curves(p: NDArray[np.float64], wrong: NDArray[np.bool_]) -> report.Row:
    keep = np.unique(np.linspace(0, len(p) - 1, POINTS).astype(int))
    drawn = {}
    for name, certainty in selective.CERTAINTIES.items():
        coverage, risk = selective.risk_coverage(certainty(p), wrong)
        drawn[name] = {"coverage": coverage[keep], "risk": risk[keep]}
    return drawn


def vote_risks(p: NDArray[np.float64], part: fer.Part, limit: float) -> report.Row:
    """Return how often the top emotion is one that too few voters saw."""
    known, votes = part.vote_probabilities()
    seen = at_or_above(votes, PRESENCE)
    wrong = ~(seen & only_the_top(p[known])).any(axis=1)
    answered = selective.top_probability(p[known]) >= limit
    boot = Bootstrap.of(len(known))
    return {
        "vote_risk": boot.value(ratio_metric(answered & wrong, answered)),
        "vote_risk_of_unsure": boot.value(ratio_metric(~answered & wrong, ~answered)),
    }


def draw(rows: Sequence[report.Row], path: Path) -> None:
    """Draw the risk-coverage curves, one panel per classifier."""
    figure, axes = plots.panels(len(rows))
    for axis, row in zip(axes, rows, strict=True):
        lines = [
            (name, 100 * xy["coverage"], 100 * xy["risk"]) for name, xy in row["curves"].items()
        ]
        title = f"{row['classifier']}, unsure below {row['unsure_below']:.2f}"
        plots.draw_lines(axis, lines, "faces answered (%)", "wrong among them (%)", title)
        axis.plot(100 * row["coverage"], 100 * row["risk"], "ko", markersize=5)
        axis.set(xlim=(0, 100), ylim=(0, None))
    plots.save(figure, path)


def _add_options(parser: ArgumentParser) -> None:
    fer.add_options(parser)
    text = "share of PublicTest's faces that keep an answer"
    options.add_share_option(parser, "--coverage", COVERAGE, text)


def _evaluate(arguments: Namespace) -> None:
    classifiers = options.load_classifiers(arguments.classifier, arguments.device)
    parts = fer.open_selection_and_reported(arguments)
    rows = []
    for classifier in classifiers:
        selection, reported = (_wrong_answers(classifier, part) for part in parts)
        row: report.Row = {"classifier": classifier.name}
        row |= measure(selection, reported, arguments.coverage)
        if arguments.ferplus is not None:
            row |= vote_risks(reported[0], parts[1], row["unsure_below"])
        rows.append(row | parts[1].about())
    SECTION.publish(arguments, rows, draw)
    print(f"In use: unsure below {UNSURE_BELOW} (faces.types.UNSURE_BELOW).")


def _wrong_answers(classifier: EmotionClassifier, part: fer.Part) -> Answers:
    p = fer.probabilities(classifier, part.data)
    return p, p.argmax(axis=1) != part.data.labels


main = options.Command(COMMAND, __doc__, _add_options, _evaluate)

if __name__ == "__main__":
    raise SystemExit(main())
