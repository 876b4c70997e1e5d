"""Against scikit-learn, statsmodels' published values and cases computed by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as reference

from eval.metrics import classification as class_metrics

LABELS = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=1, max_size=60)


@given(LABELS)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.UndefinedMetricWarning")
@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true")
@pytest.mark.filterwarnings("ignore:A single label was found")
def test_class_metrics_agree_with_scikit_learn(pairs: list[tuple[int, int]]) -> None:
    truth, predicted = zip(*pairs, strict=True)
    confusion = class_metrics.confusion_matrix(truth, predicted, 7)
    present = sorted(set(truth))

    expected = reference.confusion_matrix(truth, predicted, labels=range(7))
    assert (confusion == expected).all()
    assert class_metrics.summarise(confusion)["accuracy"] == pytest.approx(
        reference.accuracy_score(truth, predicted)
    )
    assert class_metrics.summarise(confusion)["macro_f1"] == pytest.approx(
        reference.f1_score(truth, predicted, labels=present, average="macro", zero_division=0)
    )
    assert class_metrics.summarise(confusion)["balanced_accuracy"] == pytest.approx(
        reference.recall_score(truth, predicted, labels=present, average="macro", zero_division=0)
    )
    p, r, f, n = reference.precision_recall_fscore_support(
        truth, predicted, labels=range(7), zero_division=0
    )
    for index, scores in enumerate(class_metrics.class_scores(confusion)):
        assert scores.support == n[index]
        if index in present:
            got = (scores.precision, scores.recall, scores.f1)
            assert got == pytest.approx((p[index], r[index], f[index]))
        else:
            assert all(math.isnan(v) for v in (scores.precision, scores.recall, scores.f1))


def test_confusion_has_truth_in_rows() -> None:
    confusion = class_metrics.confusion_matrix([0, 0, 2], [1, 0, 1], 3)
    assert confusion.tolist() == [[1, 1, 0], [0, 0, 0], [0, 1, 0]]


def test_no_pictures_give_nan() -> None:
    confusion = class_metrics.confusion_matrix([], [], 7)
    assert confusion.shape == (7, 7)
    summary = class_metrics.summarise(confusion)
    assert summary.pop("n") == 0
    assert all(math.isnan(value) for value in np.hstack(list(summary.values())))


@pytest.mark.parametrize(("truth", "predicted"), [([0], [7]), ([-1], [0]), ([0, 1], [0])])
def test_confusion_refuses_wrong_labels(truth: list[int], predicted: list[int]) -> None:
    with pytest.raises(ValueError, match=r"indices|length"):
        class_metrics.confusion_matrix(truth, predicted, 7)


@pytest.mark.parametrize(
    ("right", "total", "low", "high"),
    [
        (
            81,
            263,
            0.2553,
            0.3662,
        ),  # Newcombe 1998, Statistics in Medicine 17:857, table I, method 3
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0000, 0.1611),
        (1, 29, 0.0061, 0.1718),
        (29, 29, 1 - 0.1170, 1.0),
    ],
)
def test_wilson_interval_as_published(right: int, total: int, low: float, high: float) -> None:
    assert class_metrics.wilson_interval(right, total) == pytest.approx((low, high), abs=5e-5)


@given(st.integers(1, 10**6).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_interval_contains_the_share_and_solves_its_equation(case: tuple[int, int]) -> None:
    right, total = case
    low, high = class_metrics.wilson_interval(right, total)
    assert 0 <= low <= right / total <= high <= 1
    for bound in (low, high):
        left = (right / total - bound) ** 2
        assert left == pytest.approx(class_metrics.Z_95**2 * bound * (1 - bound) / total, abs=1e-9)


def test_wilson_interval_of_nothing() -> None:
    assert all(math.isnan(v) for v in class_metrics.wilson_interval(0, 0))
    with pytest.raises(ValueError, match="right"):
        class_metrics.wilson_interval(3, 2)
