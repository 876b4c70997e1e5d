"""McNemar's test: whether two classifiers differ by more than chance."""

from __future__ import annotations

from dataclasses import dataclass
from math import comb, erfc, sqrt

import numpy as np
from numpy.typing import ArrayLike


@dataclass(frozen=True, slots=True)
class McNemar:
    """McNemar's test (1947) on the same faces."""

    only_first: int  # faces that the first classifier alone has right
    only_second: int  # faces that the second alone has right
    # two-sided p-value of this split if both are equally good: exact up to ``EXACT_UP_TO`` such
    # faces, else by the normal approximation with Edwards' correction
    p: float


EXACT_UP_TO = 1000


def mcnemar(first_right: ArrayLike, second_right: ArrayLike) -> McNemar:
    """Compare two classifiers by which of N faces each has right, both shape (N,) bool."""
    first, second = np.asarray(first_right, bool), np.asarray(second_right, bool)
    if first.shape != second.shape or first.ndim != 1:
        raise ValueError(f"expected two lists of one length, got {first.shape}, {second.shape}")
    b, c = int((first & ~second).sum()), int((second & ~first).sum())
    n = b + c
    if n <= EXACT_UP_TO:
        tail = sum(comb(n, k) for k in range(min(b, c) + 1))
        return McNemar(b, c, min(1.0, 2 * tail / 2**n))
    z = max(abs(b - c) - 1, 0) / sqrt(n)
    return McNemar(b, c, erfc(z / sqrt(2)))
