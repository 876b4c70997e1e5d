"""First guesses and coarser classes against scikit-learn."""

from __future__ import annotations

import math

import numpy as np
import pytest
import sklearn.metrics
from hypothesis import given
from hypothesis import strategies as st

from eval.metrics.grouping import group_figures, top_k
from faces.emotions import EMOTIONS, GROUPINGS

RANDOM = np.random.default_rng(0)
SCORES = RANDOM.dirichlet(np.ones(7), 200).astype(np.float32)
TRUTH = RANDOM.integers(0, 7, 200)


@pytest.mark.parametrize("k", range(1, 7))
def test_top_k_is_scikit_learns(k: int) -> None:
    expected = sklearn.metrics.top_k_accuracy_score(TRUTH, SCORES, k=k, labels=range(7))
    assert top_k(SCORES, TRUTH, k) == pytest.approx(expected)


@given(st.lists(st.integers(0, 2), min_size=7, max_size=7), st.integers(0, 6))
def test_top_1_is_argmax_and_top_7_everything_also_with_equals(row: list[int], truth: int) -> None:
    scores = np.array([row], np.float32)
    assert top_k(scores, np.array([truth]), 1) == float(scores.argmax() == truth)
    shares = [top_k(scores, np.array([truth]), k) for k in range(1, 8)]
    assert shares == sorted(shares) and shares[-1] == 1


def test_no_faces() -> None:
    assert math.isnan(top_k(SCORES[:0], TRUTH[:0], 1))
    assert math.isnan(group_figures(SCORES[:0], TRUTH[:0], "six")["accuracy"])


def test_groupings_cover_the_emotions() -> None:
    assert all(tuple(grouping) == EMOTIONS for grouping in GROUPINGS.values())
    assert len(set(GROUPINGS["six"].values())) == 6
    assert set(GROUPINGS["valence"].values()) == {"positive", "neutral", "negative"}


@pytest.mark.parametrize("name", GROUPINGS)
def test_groups_are_measured_as_scikit_learn_does(name: str) -> None:
    found = group_figures(SCORES, TRUTH, name)
    groups = [GROUPINGS[name][emotion] for emotion in EMOTIONS]
    sums = {g: SCORES[:, [h == g for h in groups]].sum(1) for g in found["classes"]}
    truth = [groups[label] for label in TRUTH]
    answers = [max(sums, key=lambda g: sums[g][i]) for i in range(len(TRUTH))]
    assert found["accuracy"] == sklearn.metrics.accuracy_score(truth, answers)
    assert found["macro_f1"] == pytest.approx(
        sklearn.metrics.f1_score(truth, answers, average="macro")
    )
    expected = sklearn.metrics.confusion_matrix(truth, answers, labels=found["classes"])
    assert np.array_equal(found["confusion"], expected)


def test_a_group_may_win_with_the_sum_of_its_emotions() -> None:
    scores = np.array([[0.3, 0.3, 0, 0.4, 0, 0, 0]], np.float32)
    assert group_figures(scores, np.array([1]), "six")["accuracy"] == 1
