"""KNN, SVM and MLP against scikit-learn's own answers."""

from __future__ import annotations

import numpy as np
import pytest
import sklearn.metrics
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.svm import LinearSVC

from baselines import fitting
from baselines.fitting import Rowset, fit_knn, fit_mlp, fit_mlp_defaults, fit_svm
from baselines.knn import METRICS, POWERS, Knn

RANDOM = np.random.default_rng(1)
CENTRES = RANDOM.normal(size=(7, 20))


def sample(count: int, spread: float = 1.0) -> Rowset:
    labels = np.arange(count) % 7
    rows = CENTRES[labels] + spread * RANDOM.normal(size=(count, 20))
    return Rowset((50 * rows).astype(np.float32), labels.astype(np.int64))


TRAINING, PUBLIC = sample(350), sample(140)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("power", POWERS)
def test_knn_agrees_with_scikit_learn(metric: str, power: int) -> None:
    ours = Knn(TRAINING.rows, TRAINING.labels, 9, metric, power)
    queries = np.concatenate([PUBLIC.rows, TRAINING.rows[:5]])

    def plain(rows: np.ndarray) -> np.ndarray:
        rows = rows.astype(np.float64)
        if metric == "correlation":
            rows = rows - rows.mean(1, keepdims=True)
        return rows if metric == "euclidean" else rows / np.linalg.norm(rows, axis=1)[:, None]

    def weights(distances: np.ndarray) -> np.ndarray:
        exact = distances < 1e-6
        powers = np.maximum(distances, 1e-6) ** -float(power)
        return np.where(exact.any(1, keepdims=True) & (power > 0), exact, powers)

    theirs = KNeighborsClassifier(9, weights=weights, algorithm="brute", metric="euclidean")
    theirs.fit(plain(TRAINING.rows), TRAINING.labels)
    assert np.allclose(ours.probabilities(queries), theirs.predict_proba(plain(queries)), atol=2e-3)


def test_the_nearest_of_cosine_is_that_of_scikit_learn() -> None:
    ours = Knn(TRAINING.rows, TRAINING.labels, 1, "cosine", 0).probabilities(PUBLIC.rows)
    nearest = sklearn.metrics.pairwise.cosine_distances(PUBLIC.rows, TRAINING.rows).argmin(1)
    assert np.array_equal(ours.argmax(1), TRAINING.labels[nearest])


def test_twins_alone_vote_where_votes_go_by_distance() -> None:
    knn = Knn(TRAINING.rows, TRAINING.labels, 15, "euclidean", 1)
    assert np.array_equal(knn.probabilities(TRAINING.rows), np.eye(7)[TRAINING.labels])


def test_knn_refuses_what_does_not_fit() -> None:
    for k, metric, labels in ((0, "cosine", 350), (351, "cosine", 350), (3, "taxi", 350)):
        with pytest.raises(ValueError):
            Knn(TRAINING.rows, TRAINING.labels[:labels], k, metric, 0)


def test_knn_takes_the_choice_that_is_best_on_public_test() -> None:
    knn, tried = fit_knn(TRAINING, PUBLIC, 0)
    assert len(tried) == len(METRICS) * len(POWERS) * len(fitting.NEIGHBOURS)
    best = max(one["accuracy"] for one in tried)
    right = knn.probabilities(PUBLIC.rows).argmax(1) == PUBLIC.labels
    assert right.mean() == best > 0.7


def test_svm_decides_as_scikit_learn_does() -> None:
    svm, tried = fit_svm(TRAINING, PUBLIC, 0)
    cost = max(tried, key=lambda one: one["accuracy"])["C"]
    mean, std = TRAINING.rows.mean(0), TRAINING.rows.std(0)
    theirs = LinearSVC(C=cost, dual=False).fit((TRAINING.rows - mean) / std, TRAINING.labels)
    margins = theirs.decision_function((PUBLIC.rows - mean) / std)
    logits = svm.logits(PUBLIC.rows)
    assert np.array_equal(logits.argmax(1), margins.argmax(1))
    assert np.ptp(margins / logits) < 0.05 * abs(np.median(margins / logits))


def test_svm_gives_nothing_to_emotions_that_it_never_saw() -> None:
    keep = TRAINING.labels != 1
    svm, _ = fit_svm(Rowset(TRAINING.rows[keep], TRAINING.labels[keep]), PUBLIC, 0)
    assert svm.probabilities(PUBLIC.rows)[:, 1].max() < 1e-6


def test_mlp_is_the_best_pass_of_scikit_learns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fitting, "MLP_EPOCHS", 4)
    monkeypatch.setattr(fitting, "MLP_PENALTIES", (0.1,))
    mlp, tried = fit_mlp(TRAINING, PUBLIC, 5)
    mean, std = TRAINING.rows.mean(0), TRAINING.rows.std(0)
    theirs = MLPClassifier((256,), alpha=0.1, batch_size=256, random_state=5)
    rows, seen = (TRAINING.rows - mean) / std, (PUBLIC.rows - mean) / std
    for _ in range(tried[0]["passes"]):
        theirs.partial_fit(rows, TRAINING.labels, classes=np.arange(7))
    expected = theirs.predict_proba(seen)
    assert np.array_equal(mlp.probabilities(PUBLIC.rows).argmax(1), expected.argmax(1))
    assert tried[0]["accuracy"] == (expected.argmax(1) == PUBLIC.labels).mean()


def test_mlp_defaults_stops_where_scikit_learn_stops() -> None:
    mlp, tried = fit_mlp_defaults(TRAINING, PUBLIC, 3)
    theirs = MLPClassifier(random_state=3, max_iter=tried[0]["passes"], n_iter_no_change=10)
    theirs.fit(TRAINING.rows, TRAINING.labels)
    assert tried[0]["passes"] <= 200
    same = mlp.probabilities(PUBLIC.rows).argmax(1) == theirs.predict(PUBLIC.rows)
    assert same.mean() > 0.9
