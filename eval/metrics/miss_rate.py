"""Which share of the faces is missed, at which price in false ones, as the threshold falls."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from faces.boxes import Verdict, match
from faces.coco import AnnotatedImage, Detections

PRICES = np.logspace(-2, 1, 61)
"""False faces per picture at which a miss curve is written down: 0.01 … 10."""

AVERAGED = np.logspace(-2, 0, 9)
"""Those over which Dollár et al. (2012) average the miss rate, for pedestrians: 0.01 … 1."""


@dataclass(frozen=True)
class Judged:
    """All detections of a data set by falling score; those that are ignored left out.

    Attributes:
        scores: shape (N,).
        verdict: a ``Verdict`` each, shape (N,): matched, duplicate or false. Matching is greedy by
            score, so those from any threshold on are judged as if there were no others.
        counts: whether a wrong one is known to be wrong, shape (N,): its picture shows no face that
            is not annotated.
        faces: how many there are to be found.
        pictures: how many there are.
        pictures_for_false: how many show no face that is not annotated.
    """

    scores: NDArray[np.float64]
    verdict: NDArray[np.int64]
    counts: NDArray[np.bool_]
    faces: int
    pictures: int
    pictures_for_false: int

    @property
    def whole(self) -> NDArray[np.bool_]:
        """Which detections are the last of their score, shape (N,): thresholds lie behind them.

        Of equal scores all are shown or none.
        """
        return np.append(self.scores[1:] != self.scores[:-1], True)[: len(self.scores)]

    @property
    def hits(self) -> NDArray[np.int64]:
        """How many faces are found by the first 1 … N detections."""
        return np.asarray((self.verdict == Verdict.MATCHED).cumsum(), np.int64)

    def f1(self) -> NDArray[np.float64]:
        """Return F1 for the threshold at each score, shape (N,); 0 where there is no face."""
        shown = np.arange(1, len(self.scores) + 1)
        return np.asarray(2 * self.hits / np.maximum(shown + self.faces, 1))

    def duplicates_per_image(self) -> NDArray[np.float64]:
        """Return duplicates per picture for the threshold at each score, shape (N,)."""
        return np.asarray((self.verdict == Verdict.DUPLICATE).cumsum() / max(self.pictures, 1))

    def wrong_per_image(self) -> NDArray[np.float64]:
        """Return false faces and duplicates per picture for the threshold at each score, (N,)."""
        wrong = (self.verdict != Verdict.MATCHED) & self.counts
        return np.asarray(wrong.cumsum() / max(self.pictures_for_false, 1))

    def miss_rate(self, prices: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the share of faces missed where wrong ones per picture may be ``prices``.

        Args:
            prices: false faces (duplicates among them) per picture, shape (K,).

        Returns:
            Shape (K,); 1 where even the first detection costs more; nan where there is no face.
        """
        if not self.faces:
            return np.full(len(prices), np.nan)
        affordable = np.searchsorted(self.wrong_per_image()[self.whole], prices, side="right")
        found = np.concatenate([[0], self.hits[self.whole]])
        return np.asarray(1 - found[affordable] / self.faces)


def judge(scenes: Sequence[AnnotatedImage], detections: Sequence[Detections]) -> Judged:
    """Match all detections with the faces of their pictures, by ``classification.match``."""
    scores, verdicts, counts = [np.zeros(0)], [np.zeros(0, np.int64)], [np.zeros(0, bool)]
    for scene, found in zip(scenes, detections, strict=True):
        verdict = match(found.boxes, found.scores, scene.boxes, scene.ignored).verdict
        known = verdict != Verdict.IGNORED
        scores.append(found.scores[known])
        verdicts.append(verdict[known])
        counts.append(np.full(int(known.sum()), not scene.unlabelled_faces))
    score = np.concatenate(scores)
    order = np.argsort(-score, kind="stable")
    return Judged(
        score[order],
        np.concatenate(verdicts)[order],
        np.concatenate(counts)[order],
        sum(int((~scene.ignored).sum()) for scene in scenes),
        len(scenes),
        sum(not scene.unlabelled_faces for scene in scenes),
    )


def log_average(miss_rates: NDArray[np.float64]) -> float:
    """Return the geometric mean of miss rates at ``AVERAGED`` (no less than 1e-10 each)."""
    return float(np.exp(np.log(np.maximum(miss_rates, 1e-10)).mean()))
