"""Detections on annotated images by falling score: F1, miss rate, and the rule for a threshold."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from faces.boxes import Verdict, match
from faces.coco import AnnotatedImage, Detections


@dataclass(frozen=True)
class RankedDetections:
    """All detections on a data set by falling score, without the ignored ones.

    Matching is greedy by score, so those from any threshold on are judged as if there were no
    others.
    """

    scores: NDArray[np.float64]  # shape (N,)
    verdict: NDArray[np.int64]  # a ``Verdict`` each, shape (N,): matched, duplicate or false
    # whether a false positive is known to be one, shape (N,): all faces of its image are annotated
    counts: NDArray[np.bool_]
    faces: int  # to be found
    images: int
    images_for_false: int  # images whose faces are all annotated

    @property
    def is_threshold(self) -> NDArray[np.bool_]:
        """Which detections are the last of their score, shape (N,): of equals all are shown."""
        return np.append(self.scores[1:] != self.scores[:-1], True)[: len(self.scores)]

    @property
    def matched(self) -> NDArray[np.int64]:
        """How many faces the first 1 … N detections find, shape (N,)."""
        return np.asarray((self.verdict == Verdict.MATCHED).cumsum(), np.int64)

    def f1(self) -> NDArray[np.float64]:
        """Return F1 for the threshold at each score, shape (N,); 0 where there is no face."""
        shown = np.arange(1, len(self.scores) + 1)
        return np.asarray(2 * self.matched / np.maximum(shown + self.faces, 1))

    def duplicates_per_image(self) -> NDArray[np.float64]:
        """Return duplicates per image for the threshold at each score, shape (N,)."""
        return np.asarray((self.verdict == Verdict.DUPLICATE).cumsum() / max(self.images, 1))

    def false_positives_per_image(self) -> NDArray[np.float64]:
        """Return FPPI, duplicates included, for the threshold at each score, shape (N,)."""
        wrong = (self.verdict != Verdict.MATCHED) & self.counts
        return np.asarray(wrong.cumsum() / max(self.images_for_false, 1))

    def miss_rate(self, fppi: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the lowest share of faces missed at no more than these FPPI, shape (K,) each.

        FPPI are false positives, duplicates included, per image. The share is 1 where the first
        detection already exceeds them; nan where there is no face.
        """
        if not self.faces:
            return np.full(len(fppi), np.nan)
        rates = self.false_positives_per_image()[self.is_threshold]
        allowed = np.searchsorted(rates, fppi, side="right")
        matched = np.concatenate([[0], self.matched[self.is_threshold]])
        return np.asarray(1 - matched[allowed] / self.faces)

    def select_threshold(
        self, tolerance: float = 0.0, max_duplicates: float = math.inf
    ) -> int | None:
        """Select a score threshold by F1: of those as good as the best, the lowest.

        F1 up to ``tolerance`` below the best counts as equal to it; duplicates per image stay below
        ``max_duplicates``. Returns the index of the last detection that the threshold shows; None
        where no face is matched or no threshold is allowed.
        """
        allowed = self.is_threshold & (self.duplicates_per_image() < max_duplicates)
        if not self.faces or not allowed.any() or not self.matched.any():
            return None
        f1 = np.where(allowed, self.f1(), -1.0)
        return int(np.flatnonzero(f1 >= f1.max() - tolerance)[-1])


def rank(images: Sequence[AnnotatedImage], detections: Sequence[Detections]) -> RankedDetections:
    """Match the detections in each image with its faces (``faces.boxes.match``) and sort them."""
    scores, verdicts, counts = [np.zeros(0)], [np.zeros(0, np.int64)], [np.zeros(0, bool)]
    for image, found in zip(images, detections, strict=True):
        verdict = match(found.boxes, found.scores, image.boxes, image.ignored).verdict
        known = verdict != Verdict.IGNORED
        scores.append(found.scores[known])
        verdicts.append(verdict[known])
        counts.append(np.full(int(known.sum()), not image.unlabelled_faces))
    score = np.concatenate(scores)
    order = np.argsort(-score, kind="stable")
    return RankedDetections(
        score[order],
        np.concatenate(verdicts)[order],
        np.concatenate(counts)[order],
        sum(int((~image.ignored).sum()) for image in images),
        len(images),
        sum(not image.unlabelled_faces for image in images),
    )
