"""How often people agree with each model, where not, and how reliable its probabilities are."""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, datetime
from typing import Any

from tabulate import tabulate

from faces.emotions import EMOTIONS
from service.database import Database
from service.export import UNDECIDED, majority, predicted, votes
from service.tables import NOT_A_FACE

BINS = 5
"""Of the reliability: faces by the probability of the predicted emotion."""


def report(database: Database) -> dict[str, Any]:
    """Return per classifier what people said of its answers.

    Returns:
        classifier → ``faces`` (with a label that most people gave), ``agreement`` (share of these
        whose predicted emotion is that label), ``undecided``, ``not_faces``, ``confusion`` (rows:
        what people said, columns: what was predicted, order of ``classes``), ``reliability``
        (probability bins: ``from``, ``to``, ``faces``, ``mean_probability``, ``agreement``) and
        ``months`` (YYYY-MM → faces, agreement).
    """
    models: dict[str, list[tuple[str, str, float, str]]] = defaultdict(list)
    for face in database.judged_faces():
        guess = predicted(face)
        month = datetime.fromtimestamp(face.image.time, UTC).strftime("%Y-%m")
        probability = face.probabilities[EMOTIONS.index(guess)]
        models[face.image.classifier].append((majority(votes(face)), guess, probability, month))
    return {name: _model(rows) for name, rows in sorted(models.items())}


def _model(rows: list[tuple[str, str, float, str]]) -> dict[str, Any]:
    decided = [row for row in rows if row[0] in EMOTIONS]
    confusion = [[0] * len(EMOTIONS) for _ in EMOTIONS]
    for said, guess, _, _ in decided:
        confusion[EMOTIONS.index(said)][EMOTIONS.index(guess)] += 1
    bins = []
    for number in range(BINS):
        low, high = number / BINS, (number + 1) / BINS
        inside = [r for r in decided if low <= r[2] < high or (high == 1 and r[2] == 1)]
        if inside:
            mean = sum(r[2] for r in inside) / len(inside)
            shares = {"mean_probability": round(mean, 4), **_agreement(inside)}
            bins.append({"from": low, "to": high, **shares})
    months = sorted({row[3] for row in decided})
    return {
        **_agreement(decided),
        "undecided": sum(row[0] == UNDECIDED for row in rows),
        "not_faces": sum(row[0] == NOT_A_FACE for row in rows),
        "classes": list(EMOTIONS),
        "confusion": confusion,
        "reliability": bins,
        "months": {month: _agreement([r for r in decided if r[3] == month]) for month in months},
    }


def _agreement(rows: list[tuple[str, str, float, str]]) -> dict[str, Any]:
    agreed = sum(said == guess for said, guess, _, _ in rows)
    share = round(agreed / len(rows), 4) if rows else None
    return {"faces": len(rows), "agreement": share}


def to_text(models: dict[str, Any]) -> str:
    """Return the report as the terminal shows it."""
    if not models:
        return "no feedback yet"
    parts = []
    for name, model in models.items():
        share = "–" if model["agreement"] is None else f"{model['agreement']:.1%}"
        parts.append(
            f"{name}: {share} of {model['faces']} faces agreed; {model['undecided']} undecided, "
            f"{model['not_faces']} not a face"
        )
        rows = [
            (said, *counts)
            for said, counts in zip(EMOTIONS, model["confusion"], strict=True)
            if any(counts)
        ]
        if rows:
            parts.append(tabulate(rows, headers=("people said", *(f"→{e}" for e in EMOTIONS))))
            parts.append(tabulate(model["reliability"], headers="keys"))
            months = [{"month": month, **one} for month, one in model["months"].items()]
            parts.append(tabulate(months, headers="keys"))
    return "\n\n".join(parts)
