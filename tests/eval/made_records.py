"""Made-up records of classifiers, for the tests of what is made from records."""

from __future__ import annotations

from typing import Any

import numpy as np

from eval.classification import figures as measured_figures
from eval.metrics.grouping import group_figures, top_k
from eval.records.report import Row
from faces.emotions import GROUPINGS

N = 140
TRUTH = np.arange(N) % 7


def record(name: str, right: int, **more: Any) -> Row:
    """A record of a classifier that has ``right`` pictures right and calls the others happy."""
    predicted = np.where(np.arange(N) < right, TRUTH, 3)
    scores = 0.9 * np.eye(7, dtype=np.float32)[predicted] + np.float32(0.1 / 7)
    return {
        "classifier": name,
        "split": "PrivateTest",
        "views": "single",
        **measured_figures(scores, TRUTH),
        "top": [top_k(scores, TRUTH, k) for k in (1, 2, 3)],
        "groups": {key: group_figures(scores, TRUTH, key) for key in GROUPINGS},
        "without_twins": measured_figures(scores[70:], TRUTH[70:]),
        "ferplus_majority": measured_figures(scores[:70], TRUTH[:70]),
        "truth": "".join(map(str, TRUTH)),
        "predicted": "".join(map(str, predicted)),
        "ms_per_face": 1.5,
        "weights_sha256": {name: "ab"},
        "weights_bytes": 2_000_000,
        "parameters": 500_000,
        "training_hours": 0.25,
        "history": [
            {"epoch": e, "accuracy": 0.1 * e, "training_loss": 1 / e, "loss": 1.0} for e in (1, 2)
        ],
        "command": f"python -m eval.classification --classifier {name} --out results/{name}.json",
        **more,
    }


def rows(text: str, heading: str) -> list[list[str]]:
    part = text.split(f"{heading}\n")[1].split("\n#")[0]
    lines = [line for line in part.splitlines() if line.startswith("|")]
    return [
        [cell.strip() for cell in line.strip("|").split("|")] for line in lines if ":-" not in line
    ]
