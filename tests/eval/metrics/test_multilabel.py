"""Several emotions against scikit-learn, the bootstrap against drawing picture by picture."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn import metrics as reference

from eval.metrics import multilabel as multilabel_metrics
from eval.metrics.bootstrap import Bootstrap, divide, ratio_metric

seeds = st.integers(0, 2**32 - 1)


def case(seed: int) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Rounded scores, so that some are equal, and what is present."""
    rng = np.random.default_rng(seed)
    faces = int(rng.integers(1, 40))
    return rng.random((faces, 7)).round(1), rng.random((faces, 7)) < rng.random(7)


@given(seeds)
@settings(max_examples=20, deadline=None)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.UndefinedMetricWarning")
def test_scores_agree_with_scikit_learn(seed: int) -> None:
    scores, present = case(seed)
    named = multilabel_metrics.at_or_above(scores, 0.6)
    whole = np.ones((1, len(scores)))
    f1 = {
        kind: reference.f1_score(present, named, average=kind, zero_division=0)
        for kind in ("micro", "macro")
    }
    if (named | present).any():
        assert multilabel_metrics.micro_f1(named, present)(whole)[0] == pytest.approx(f1["micro"])
    assert multilabel_metrics.macro_f1(named, present)(whole)[0] == pytest.approx(f1["macro"])
    p, r, f, _ = reference.precision_recall_fscore_support(present, named, zero_division=0)
    np.testing.assert_allclose(
        multilabel_metrics.precision_recall_f1(named, present), np.stack([p, r, f], 1)
    )
    for emotion in range(7):
        truth = present[:, emotion]
        got = multilabel_metrics.average_precision(scores[:, emotion], truth)
        if truth.any():
            expected = reference.average_precision_score(truth, scores[:, emotion])
            assert got == pytest.approx(expected)
        else:
            assert math.isnan(got)


def test_thresholds_are_inclusive_and_forgive_float32() -> None:
    shares = np.float32([[3, 2, 5, 0, 0, 0, 0]]) / np.float32(10)
    assert multilabel_metrics.at_or_above(shares, 0.3)[0].tolist() == [1, 0, 1, 0, 0, 0, 0]
    limits = [0.31, 0.2, 0.5, 0, 1, 1, 1]
    assert multilabel_metrics.at_or_above(shares, limits)[0].tolist() == [0, 1, 1, 1, 0, 0, 0]


def test_top_two_by_hand() -> None:
    votes = [[6, 4, 0, 0, 0, 0, 0], [0, 0, 10, 0, 0, 0, 0], [1, 1, 1, 0, 0, 0, 7]]
    named = np.zeros((3, 7), bool)
    named[0, 0] = named[1, 2] = named[2, 6] = named[2, 1] = True
    assert multilabel_metrics.top_two_coverage(named, votes) == pytest.approx(
        3 / 5
    )  # of 0, 1; 2; 6, 0
    top = multilabel_metrics.only_the_top(votes)
    assert top.sum(1).tolist() == [1, 1, 1] and top[2, 6]


@given(seeds)
@settings(max_examples=20, deadline=None)
def test_no_threshold_of_the_grid_is_better(seed: int) -> None:
    scores, present = case(seed)
    grid = np.arange(0.1, 1, 0.1)
    best = multilabel_metrics.best_threshold(scores, present, grid)
    each = multilabel_metrics.best_thresholds(scores, present, grid)

    def f1(limit: object, average: str | None) -> NDArray[np.float64]:
        named = scores >= np.asarray(limit) - 1e-6
        return np.asarray(reference.f1_score(present, named, average=average, zero_division=0))

    assert f1(best, "macro") == pytest.approx(max(float(f1(limit, "macro")) for limit in grid))
    expected = np.max([f1(limit, None) for limit in grid], axis=0)
    np.testing.assert_allclose(f1(each, None), expected)


def test_drawings_equal_lists_of_pictures() -> None:
    rng = np.random.default_rng(1)
    parts, wholes = rng.integers(0, 3, 12), rng.integers(1, 5, 12)
    boot = Bootstrap.of(12, resamples=200, seed=3)
    assert boot.weights.shape == (200, 12) and (boot.weights.sum(1) == 12).all()
    metric = ratio_metric(parts, wholes)
    by_list = []
    for counts in boot.weights.astype(int):
        drawn = np.repeat(np.arange(12), counts)
        by_list.append(parts[drawn].sum() / wholes[drawn].sum())
    np.testing.assert_allclose(metric(boot.weights), by_list)
    assert boot.interval(metric) == pytest.approx(tuple(np.percentile(by_list, [2.5, 97.5])))
    assert boot.value(metric) == pytest.approx(parts.sum() / wholes.sum())


def test_the_interval_of_a_mean_is_the_normal_one() -> None:
    values = np.random.default_rng(0).normal(5, 2, 400)
    low, high = Bootstrap.of(400).interval(ratio_metric(values, np.ones(400)))
    half = 1.96 * values.std() / 20
    assert (low, high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.03)


def test_differences_are_paired() -> None:
    values = np.random.default_rng(0).random(50)
    ones = np.ones(50)
    boot = Bootstrap.of(50)
    better = ratio_metric(values + 0.1, ones)
    value, (low, high) = boot.difference(better, ratio_metric(values, ones))
    assert (value, low, high) == pytest.approx((0.1, 0.1, 0.1))


def test_nothing_to_divide_by() -> None:
    assert np.isnan(divide([1, 0], [0, 0])).all()
    boot = Bootstrap.of(3)
    assert all(math.isnan(v) for v in boot.interval(ratio_metric([0, 0, 0], [0, 0, 0])))
    assert math.isnan(Bootstrap.of(0).value(ratio_metric([], [])))
