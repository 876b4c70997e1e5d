"""McNemar's test against scipy."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from eval.metrics import significance
from eval.metrics.significance import mcnemar


def answers(both: int, first: int, second: int, neither: int) -> tuple[np.ndarray, np.ndarray]:
    counts = [both, first, second, neither]
    return np.repeat([1, 1, 0, 0], counts) > 0, np.repeat([1, 0, 1, 0], counts) > 0


@given(st.integers(0, 40), st.integers(0, 60), st.integers(0, 60))
def test_small_counts_are_exact(both: int, first: int, second: int) -> None:
    found = mcnemar(*answers(both, first, second, 3))
    assert (found.only_first, found.only_second) == (first, second)
    n = first + second
    expected = scipy.stats.binomtest(first, n).pvalue if n else 1.0
    assert found.p == pytest.approx(expected)


@pytest.mark.parametrize(("first", "second"), [(700, 800), (1000, 1001), (5000, 5400)])
def test_large_counts_are_close_to_exact(first: int, second: int) -> None:
    expected = scipy.stats.binomtest(first, first + second).pvalue
    assert mcnemar(*answers(0, first, second, 0)).p == pytest.approx(expected, abs=2e-3)


def test_both_ways_agree_where_they_meet(monkeypatch: pytest.MonkeyPatch) -> None:
    exact = mcnemar(*answers(0, 470, 530, 0)).p
    monkeypatch.setattr(significance, "EXACT_UP_TO", 10)
    assert mcnemar(*answers(0, 470, 530, 0)).p == pytest.approx(exact, abs=1e-3)


def test_lists_of_different_length_are_refused() -> None:
    with pytest.raises(ValueError, match="one length"):
        mcnemar([True], [True, False])
