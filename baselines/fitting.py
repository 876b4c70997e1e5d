"""Fit each kind of baseline on rows of Training, selecting what is open on PublicTest."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.neural_network import MLPClassifier
from sklearn.svm import LinearSVC
from tqdm import tqdm

from baselines.features import Rows
from baselines.knn import METRICS, POWERS, Knn, neighbours, prepare, votes
from baselines.perceptron import Perceptron
from faces.emotions import EMOTIONS

NEIGHBOURS = (1, 3, 5, 7, 9, 11, 15, 21, 31, 51, 101, 201)
"""The numbers of neighbours that are tried."""

SVM_COSTS = (1e-6, 1e-5, 1e-4, 1e-3)
"""The penalties C that are tried."""

MLP_HIDDEN = 256
MLP_PENALTIES = (0.1, 1.0, 10.0)
"""Units of the one hidden layer, and the L2 penalties ``alpha`` that are tried."""

MLP_EPOCHS, MLP_PATIENCE = 60, 6
"""At most so many passes, and so many without a better PublicTest accuracy."""

Tried = list[dict[str, Any]]
"""Every choice tried, with the PublicTest accuracy that it gave."""


@dataclass(frozen=True)
class Rowset:
    """Faces of one split: rows (N, D) and labels (N,) int64, indices into ``EMOTIONS``."""

    rows: NDArray[Any]
    labels: NDArray[np.int64]


def fit_knn(training: Rowset, public: Rowset, seed: int) -> tuple[Knn, Tried]:
    """Select k, metric and power; of equals the first. Nothing is random."""
    ks = [k for k in NEIGHBOURS if k <= len(training.labels)]
    tried: Tried = []
    for metric in METRICS:
        references = prepare(training.rows, metric)
        found, distances = neighbours(
            prepare(public.rows, metric), references, max(ks), progress=True
        )
        for k in ks:
            for power in POWERS:
                shares = votes(training.labels[found[:, :k]], distances[:, :k], power)
                choice = {"metric": metric, "k": k, "power": power}
                tried.append(choice | {"accuracy": _accuracy(shares, public)})
    best = max(tried, key=lambda one: one["accuracy"])
    selected = {key: best[key] for key in ("k", "metric", "power")}
    return Knn(training.rows, training.labels, **selected), tried


def fit_svm(training: Rowset, public: Rowset, seed: int) -> tuple[Perceptron, Tried]:
    """Select C of a linear SVM, one against the rest, squared hinge, on standardised rows."""
    mean, std, rows = _standardised(training.rows)
    tried: Tried = []
    models = []
    for cost in tqdm(SVM_COSTS, desc="fits", disable=None):
        svm = LinearSVC(C=cost, dual=False, random_state=seed).fit(rows, training.labels)
        coefficients = np.zeros((training.rows.shape[1], len(EMOTIONS)), np.float32)
        biases = np.full(len(EMOTIONS), -1e6, np.float32)  # of classes without a training face
        coefficients[:, svm.classes_], biases[svm.classes_] = svm.coef_.T, svm.intercept_
        model = Perceptron([coefficients], [biases]).after_standardising(mean, std)
        tried.append({"C": cost, "accuracy": _accuracy(model.logits(public.rows), public)})
        models.append(model)
    return models[_best(tried)], tried


def fit_mlp(training: Rowset, public: Rowset, seed: int) -> tuple[Perceptron, Tried]:
    """Train one hidden layer on standardised rows; select the penalty and the pass to stop after.

    Adam at 1e-3, batches of 256.
    """
    mean, std, rows = _standardised(training.rows)
    seen = (public.rows - mean) / std
    tried: Tried = []
    kept = []
    with tqdm(desc="passes", unit=" passes", disable=None) as bar:
        for alpha in MLP_PENALTIES:
            mlp = MLPClassifier(
                (MLP_HIDDEN,),
                alpha=alpha,
                batch_size=min(256, len(rows)),
                learning_rate_init=1e-3,
                random_state=seed,
            )
            best, best_epoch, model = -1.0, 0, Perceptron([], [])
            for epoch in range(1, MLP_EPOCHS + 1):
                mlp.partial_fit(rows, training.labels, classes=np.arange(len(EMOTIONS)))
                bar.update()
                now = _layers(mlp)
                accuracy = _accuracy(now.logits(seen), public)
                if accuracy > best:
                    best, best_epoch, model = accuracy, epoch, now
                if epoch - best_epoch >= MLP_PATIENCE:
                    break
            tried.append({"alpha": alpha, "passes": best_epoch, "accuracy": best})
            kept.append(model.after_standardising(mean, std))
    return kept[_best(tried)], tried


def fit_mlp_defaults(training: Rowset, public: Rowset, seed: int) -> tuple[Perceptron, Tried]:
    """Train scikit-learn's MLP as it comes on rows as they are, as the published MLP seems to be.

    The publication gives neither scaling nor architecture: so 100 hidden units, Adam at 1e-3,
    batches of 200, until the loss no longer falls or 200 passes. Nothing is selected.
    """
    mlp, rows = MLPClassifier(random_state=seed), np.asarray(training.rows, np.float32)
    losses: list[float] = []
    for _ in tqdm(range(mlp.max_iter), desc="passes", unit=" passes", disable=None):
        mlp.partial_fit(rows, training.labels, classes=np.arange(len(EMOTIONS)))
        losses.append(mlp.loss_)
        old, new = losses[: -mlp.n_iter_no_change], losses[-mlp.n_iter_no_change :]
        if old and min(new) > min(old) - mlp.tol:
            break
    model = _layers(mlp)
    accuracy = _accuracy(model.logits(public.rows), public)
    return model, [{"passes": len(losses), "accuracy": accuracy}]


MODELS: dict[str, Callable[[Rowset, Rowset, int], tuple[Knn | Perceptron, Tried]]] = {
    "knn": fit_knn,
    "svm": fit_svm,
    "mlp": fit_mlp,
    "mlp_defaults": fit_mlp_defaults,
}
"""Kind of baseline → function of (Training, PublicTest, seed) that fits it."""


def _layers(mlp: MLPClassifier) -> Perceptron:
    return Perceptron(
        [np.array(w, np.float32) for w in mlp.coefs_],
        [np.array(b, np.float32) for b in mlp.intercepts_],
    )


def _standardised(stored: NDArray[Any]) -> tuple[Rows, Rows, Rows]:
    """Return mean and deviation of each column (1 for those that never change), and (x - m) / d."""
    rows = np.asarray(stored, np.float32)
    mean, std = rows.mean(0), rows.std(0)
    std = np.where(std > 1e-6, std, 1).astype(np.float32)
    return mean, std, (rows - mean) / std


def _accuracy(scores: NDArray[np.float32], truth: Rowset) -> float:
    return float((scores.argmax(1) == truth.labels).mean())


def _best(tried: Tried) -> int:
    return max(range(len(tried)), key=lambda index: tried[index]["accuracy"])
