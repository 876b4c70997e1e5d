"""Rescaling and its quality against scikit-learn, scipy and cases worked by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax
from scipy.stats import entropy
from sklearn.calibration import calibration_curve
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

from classification.inference import calibration as prob
from classification.inference.calibration import Scaling
from classification.training.scaling import fit_scaling

seeds = st.integers(0, 2**32 - 1)


def logits(seed: int, faces: int = 50) -> NDArray[np.float64]:
    return np.random.default_rng(seed).normal(0, 2, (faces, 7))


@given(seeds, st.floats(0.2, 5))
@settings(deadline=None)
def test_temperature_divides_logits(seed: int, temperature: float) -> None:
    z = logits(seed)
    got = prob.rescale(softmax(z, axis=1), temperature)
    np.testing.assert_allclose(got, softmax(z / temperature, axis=1), atol=1e-6)


@given(seeds, st.floats(0.2, 3), st.floats(-1, 1))
@settings(deadline=None)
def test_the_slope_makes_the_temperature_depend_on_the_entropy(
    seed: int, temperature: float, slope: float
) -> None:
    z = logits(seed)
    p = softmax(z, axis=1)
    heat = temperature * np.exp(slope * entropy(p, base=p.shape[1], axis=1, keepdims=True))
    got = prob.rescale(p, temperature, slope=slope)
    np.testing.assert_allclose(got, softmax(z / heat, axis=1), atol=1e-6)


@given(seeds, st.floats(0.3, 3), st.floats(-1, 0.3), st.floats(-1, 1))
@settings(deadline=None)
def test_without_mixing_and_biases_the_order_is_kept(
    seed: int, t: float, smoothing: float, slope: float
) -> None:
    p = softmax(logits(seed), axis=1)
    got = prob.rescale(p, t, smoothing, slope)
    np.testing.assert_allclose(got.sum(1), 1)
    assert (np.argsort(got, 1) == np.argsort(p, 1)).all()


@given(seeds, st.floats(0.3, 5))
@settings(deadline=None)
def test_mixing_and_biases_change_logits(seed: int, temperature: float) -> None:
    z = logits(seed)
    rng = np.random.default_rng(seed)
    mixing, biases = rng.normal(0, 0.3, (7, 7)), rng.normal(0, 1, 7)
    got = prob.rescale(softmax(z, axis=1), temperature, mixing=mixing.tolist(), biases=biases)
    own = z / temperature
    own = own - own.mean(1, keepdims=True)
    np.testing.assert_allclose(got, softmax(own @ (np.eye(7) + mixing) + biases, axis=1), atol=1e-6)


def test_smoothed_labels_are_undone() -> None:
    eye = np.eye(7)
    got = prob.rescale(0.86 * eye + 0.14 / 7, smoothing=0.14)
    share = math.exp(-1) * 0.02  # 2·floor − floor would be 0.02; at the floor the tail is e⁻¹ of it
    assert got[0, 0] == pytest.approx(0.86 / (0.86 + 6 * share))
    mixed = 0.9 * np.array([[0.5, 0.3, 0.2, 0, 0, 0, 0]]) + 0.1 / 7
    taken = prob.rescale(mixed, smoothing=0.1)[0]
    assert taken[:3] / taken[0] == pytest.approx([1, 0.6, 0.4])


def test_zeros_get_something_where_smoothing_is_negative() -> None:
    got = prob.rescale([[1, 0, 0, 0, 0, 0, 0]], smoothing=-0.4)
    assert got[0] == pytest.approx(np.array([1 + 0.4 / 7, *[0.4 / 7] * 6]) / 1.4)


def test_log_likelihood_and_brier_agree_with_scikit_learn() -> None:
    p = softmax(logits(1), axis=1)
    labels = np.random.default_rng(2).integers(0, 7, 50)
    shares = prob.one_hot(labels, 7)
    expected = log_loss(labels, p, labels=range(7))
    assert prob.negative_log_likelihood(p, shares) == pytest.approx(expected)
    by_hand = np.mean([sum((p[i, k] - (labels[i] == k)) ** 2 for k in range(7)) for i in range(50)])
    assert prob.brier_score(p, shares) == pytest.approx(by_hand)
    half = np.array([[0.5, 0.5, 0, 0, 0, 0, 0]])
    assert prob.negative_log_likelihood(half, half) == pytest.approx(math.log(2))
    assert prob.brier_score(half, half) == 0


def test_bins_agree_with_scikit_learn() -> None:
    p = softmax(logits(3, 500), axis=1)
    labels = np.random.default_rng(4).integers(0, 7, 500)
    right = p.argmax(1) == labels
    expected_right, expected_said = calibration_curve(
        right, p.max(1), n_bins=10, strategy="quantile"
    )
    said, share, counts = zip(*prob.reliability(p, prob.one_hot(labels, 7), 10), strict=True)
    assert counts == (50,) * 10
    assert said == pytest.approx(expected_said) and share == pytest.approx(expected_right)
    expected = np.abs(expected_said - expected_right).mean()
    assert prob.calibration_error(p, prob.one_hot(labels, 7), 10) == pytest.approx(expected)


def test_calibration_error_by_hand() -> None:
    p = np.zeros((4, 7))
    p[:, 0], p[:, 1] = [0.9, 0.8, 0.7, 0.6], [0.1, 0.2, 0.3, 0.4]
    shares = prob.one_hot([0, 1, 0, 1], 7)
    # two bins: (0.65, 1/2) and (0.85, 1/2)
    assert prob.calibration_error(p, shares, 2) == pytest.approx((0.15 + 0.35) / 2)
    votes = np.tile([[0.75, 0.25, 0, 0, 0, 0, 0]], (4, 1))
    assert prob.calibration_error(p, votes, 1) == pytest.approx(0)


def test_chance_alone_gives_an_error() -> None:
    p = softmax(logits(5, 2000), axis=1)
    label, people, half = (prob.chance_calibration_error(p, votes) for votes in (0, 1, 0.5))
    assert 0.01 < label < 0.04
    assert people == pytest.approx(label / math.sqrt(10), rel=0.2)
    assert half == pytest.approx(label * math.sqrt(0.25 + 0.25 / 10), rel=0.2)


def test_nothing_gives_nan() -> None:
    empty = np.zeros((0, 7))
    figures = (prob.negative_log_likelihood, prob.brier_score, prob.calibration_error)
    assert all(math.isnan(figure(empty, empty)) for figure in figures)
    assert math.isnan(prob.chance_calibration_error(empty))


@given(seeds, st.booleans())
@settings(deadline=None)
def test_the_fit_is_no_worse_than_scipys_temperature(seed: int, hard: bool) -> None:
    z = logits(seed, 300)
    rng = np.random.default_rng(seed)
    truth = softmax(1.7 * z, axis=1)
    if hard:
        truth = rng.multinomial(1, truth).astype(float)
    expected = minimize_scalar(
        lambda t: -(truth * log_softmax(z / t, axis=1)).sum(), bounds=(0.05, 20), method="bounded"
    ).x
    found = fit_scaling(softmax(z, axis=1), truth)
    reached = prob.negative_log_likelihood(found(softmax(z, axis=1)), truth)
    alone = prob.negative_log_likelihood(softmax(z / expected, axis=1), truth)
    assert reached <= alone + 1e-4


def test_biases_find_other_shares_of_the_emotions() -> None:
    wanted = np.array([0.5, -1.0, 0.2, 0.3, 0.0, -0.5, 0.5])
    z = logits(8, 20000)
    truth = softmax(z + wanted, axis=1)
    found = fit_scaling(softmax(z, axis=1), truth)
    assert np.array(found.biases) - np.mean(found.biases) == pytest.approx(
        wanted - wanted.mean(), abs=0.02
    )
    got = found(softmax(z, axis=1))
    assert got.mean(0) == pytest.approx(truth.mean(0), abs=1e-3)


def test_an_emotion_that_no_picture_shows_keeps_a_finite_bias() -> None:
    z = logits(9, 40)
    truth = prob.one_hot(z[:, :6].argmax(1), 7)
    found = fit_scaling(softmax(z, axis=1), truth)
    assert -3 < found.biases[6] < min(found.biases[:6])


def test_mixing_is_a_logistic_regression() -> None:
    z = logits(10, 4000)
    z = z - z.mean(1, keepdims=True)
    wanted = np.eye(7) + np.random.default_rng(0).normal(0, 0.1, (7, 7))
    rng = np.random.default_rng(1)
    labels = [rng.choice(7, p=p) for p in softmax(z @ wanted, axis=1)]
    p = softmax(z, axis=1)
    found = fit_scaling(p, prob.one_hot(labels, 7))
    expected = LogisticRegression(C=1.0, tol=1e-8, max_iter=1000).fit(z, labels).predict_proba(z)
    assert np.abs(found(p) - expected).mean() < 0.01
    assert prob.negative_log_likelihood(found(p), prob.one_hot(labels, 7)) == pytest.approx(
        log_loss(labels, expected), abs=0.002
    )


def test_a_distorted_network_is_straightened() -> None:
    truth = softmax(logits(7, 3000), axis=1)
    answers = 0.9 * prob.rescale(truth, 1.5) + 0.1 / 7  # too timid, and label smoothing
    scaling = fit_scaling(answers, truth)
    assert scaling.smoothing == pytest.approx(0.1, abs=0.02)
    before, after = (prob.negative_log_likelihood(p, truth) for p in (answers, scaling(answers)))
    assert after < before
    assert prob.calibration_error(scaling(answers), truth) < 0.01
    assert Scaling()(answers) == pytest.approx(answers)
