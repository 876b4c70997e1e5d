"""Risk and coverage against counting, and by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import entropy

from eval.metrics import selective


def test_certainties() -> None:
    p = np.random.default_rng(0).dirichlet(np.ones(7), 30)
    np.testing.assert_allclose(selective.negative_entropy(p), -entropy(p, axis=1))
    assert selective.negative_entropy(np.eye(7)) == pytest.approx(np.zeros(7))
    assert selective.lead(np.array([[0.1, 0.5, 0.4]])) == pytest.approx([0.1])
    assert selective.top_probability(p) == pytest.approx([max(row) for row in p])


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=1, max_size=30))
@settings(deadline=None)
def test_curve_by_counting(cases: list[tuple[int, bool]]) -> None:
    certainty, wrong = zip(*cases, strict=True)
    coverage, risk = selective.risk_coverage(certainty, wrong)
    order = sorted(range(len(cases)), key=lambda i: -certainty[i])
    for k in range(1, len(cases) + 1):
        answered = [wrong[i] for i in order[:k]]
        assert coverage[k - 1] == pytest.approx(k / len(cases))
        assert risk[k - 1] == pytest.approx(sum(answered) / k)
    assert selective.area_under_risk(certainty, wrong) == pytest.approx(np.mean(risk))


def test_area_by_hand() -> None:
    assert selective.area_under_risk([0.9, 0.8, 0.7], [False, True, False]) == pytest.approx(
        (0 + 1 / 2 + 1 / 3) / 3
    )
    assert math.isnan(selective.area_under_risk([], []))


@given(st.lists(st.floats(0, 1), min_size=1, max_size=50), st.floats(0.01, 1))
@settings(deadline=None)
def test_the_limit_is_the_highest_that_leaves_enough(values: list[float], share: float) -> None:
    limit = selective.threshold_for(values, share)

    def answered(at: float) -> float:
        return sum(value >= at for value in values) / len(values)

    assert answered(limit) >= share
    assert limit == 1 or answered(round(limit + 0.01, 2)) < share
