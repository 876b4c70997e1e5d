"""The k nearest training faces vote (Fix & Hodges, 1951), found by brute force."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from baselines.features import Rows
from faces.emotions import EMOTIONS

METRICS = ("euclidean", "cosine", "correlation")
"""Each is a matrix product away: cosine is Euclid after scaling every row to length 1, correlation
the same after subtracting every row's own mean (and so blind to brightness and contrast)."""

POWERS = (0, 1, 4, 8, 16)
"""A neighbour's vote is 1/distance to such a power: 1 is usual, 0 makes all votes alike. Where a
distance is 0, only such neighbours vote, unless the power is 0."""

CHUNK = 256
"""Faces per matrix product: 256 × 28,709 distances take 29 MB."""


def prepare(rows: NDArray[Any], metric: str) -> Tensor:
    """Return rows (N, D) as float32 between which Euclid's distance is the metric's."""
    x = torch.from_numpy(np.ascontiguousarray(rows, np.float32))
    if metric == "correlation":
        x = x - x.mean(1, keepdim=True)
    if metric != "euclidean":
        x = x / x.norm(dim=1, keepdim=True).clamp_min(1e-12)
    return x


@torch.inference_mode()
def neighbours(
    queries: Tensor, references: Tensor, k: int, *, progress: bool = False
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Find the k nearest references of each query.

    Queries (N, D) and references (M, D), M >= k, are as ``prepare`` gives them. Returns indices (N,
    k) and Euclidean distances (N, k), nearest first. Squared distances are differences of float32
    products: what is below 1e-5 of the squared lengths counts as 0.
    """
    lengths = references.square().sum(1)
    indices, distances = [], []
    for start in tqdm(
        range(0, len(queries), CHUNK), desc="neighbours", disable=not progress or None
    ):
        chunk = queries[start : start + CHUNK]
        own = chunk.square().sum(1, keepdim=True)
        squared = torch.addmm(lengths[None], chunk, references.T, alpha=-2).add_(own)
        near = squared.topk(k, dim=1, largest=False)
        floor = 1e-5 * (own + lengths[near.indices])
        indices.append(near.indices.numpy())
        distances.append(torch.where(near.values < floor, 0, near.values).sqrt().numpy())
    if not indices:
        return np.zeros((0, k), np.int64), np.zeros((0, k), np.float32)
    return np.concatenate(indices), np.concatenate(distances)


def votes(
    labels: NDArray[np.int64], distances: NDArray[np.float32], power: int
) -> NDArray[np.float32]:
    """Return vote shares (N, 7) float32 of neighbours' labels (N, k) at distances (N, k)."""
    if power == 0:
        weights = np.ones(distances.shape)
    else:
        exact = distances == 0
        nearest = distances.min(1, keepdims=True)
        nearer = nearest / np.where(exact, 1, distances.astype(np.float64))  # in 0..1
        weights = np.where(exact.any(1, keepdims=True), exact, nearer**power)
    shares = np.stack([(weights * (labels == c)).sum(1) for c in range(len(EMOTIONS))], 1)
    result: NDArray[np.float32] = (shares / shares.sum(1, keepdims=True)).astype(np.float32)
    return result


@dataclass(frozen=True)
class Knn:
    """The rule with its choices and its training faces."""

    rows: NDArray[Any]  # of the training faces, (M, D), in any number format
    labels: NDArray[np.int64]  # shape (M,), indices into ``EMOTIONS``
    k: int  # how many neighbours vote, 1..M
    metric: str  # one of ``METRICS``
    power: int  # one of ``POWERS``

    def __post_init__(self) -> None:
        fits = self.rows.ndim == 2 and self.labels.shape == self.rows.shape[:1]
        if not fits or type(self.k) is not int or not 1 <= self.k <= len(self.rows):
            raise ValueError(f"k {self.k}, rows {self.rows.shape}, labels {self.labels.shape}")
        if len(self.labels) and not 0 <= self.labels.min() <= self.labels.max() < len(EMOTIONS):
            raise ValueError("labels that are no emotions")
        if self.metric not in METRICS or self.power not in POWERS:
            raise ValueError(f"unknown metric {self.metric} or power {self.power}")

    @property
    def parameters(self) -> int:
        """Number of values that are kept: those of every training face."""
        return int(self.rows.size)

    def probabilities(self, rows: Rows) -> NDArray[np.float32]:
        """Return vote shares (N, 7) float32 of rows (N, D)."""
        found, distances = neighbours(prepare(rows, self.metric), self._references, self.k)
        return votes(self.labels[found], distances, self.power)

    @cached_property
    def _references(self) -> Tensor:
        return prepare(self.rows, self.metric)
