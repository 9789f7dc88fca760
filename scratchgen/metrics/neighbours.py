"""Nearest neighbours: precision and recall of samples, and whether samples are copies.

A set's manifold is the union of balls, one round each of its points, reaching to the k-th nearest other one:

    f(x, Φ) = 1  if  ‖x − φ‖ ≤ r_k(φ) for a φ ∈ Φ,  else 0                               (1)
    precision = (1/|S|) Σ_{s ∈ S} f(s, R)          recall = (1/|R|) Σ_{r ∈ R} f(r, S)    (2)

Kynkäänniemi et al. (2019), eqs. 1 and 2; R real, S samples.  Precision asks whether samples look real, recall
whether they cover what is real.  Distances are taken directly, ‖x − y‖ and not ‖x‖² − 2⟨x, y⟩ + ‖y‖², whose
rounding would put points out of their own balls; a block of them at a time, so that memory stays bounded.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.spatial.distance import cdist

from scratchgen.metrics.frechet import as_rows

ENTRIES = 1 << 22  # distances held at a time: 32 MiB


class PrecisionRecall(NamedTuple):
    """Shares, each in [0, 1]."""

    precision: float
    recall: float


@dataclass(frozen=True, eq=False)
class Nearest:
    """For each of n points its k nearest neighbours, the nearest first: both (n, k)."""

    index: np.ndarray
    distance: np.ndarray


def _blocks(x: np.ndarray, y: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """(first row i, ‖x_i − y_j‖ for the rows from i on and all j), for the whole of x block by block."""
    if x.shape[1] != y.shape[1]:
        raise ValueError(f"points of {x.shape[1]} and of {y.shape[1]} dimensions have no distance")
    size = max(1, ENTRIES // len(y))
    for start in range(0, len(x), size):
        yield start, cdist(x[start : start + size], y)


def radii(points: np.ndarray, k: int = 3) -> np.ndarray:
    """r_k, (n,): how far from each of the points (n, d) its k-th nearest neighbour is, itself not counted.

    Raises ValueError unless 1 ≤ k < n.
    """
    points = as_rows(points)
    if not 1 <= k < len(points):
        raise ValueError(f"k = {k} is not between 1 and n − 1, with n = {len(points)} examples")
    found = np.empty(len(points))
    for start, d in _blocks(points, points):
        own = np.arange(len(d))
        d[own, start + own] = np.inf
        found[start : start + len(d)] = np.partition(d, k - 1, axis=1)[:, k - 1]
    return found


def share_inside(points: np.ndarray, centres: np.ndarray, radius: np.ndarray) -> float:
    """(1/n) Σ f(x, Φ), eq. (1): the share of points (n, d) in a ball of the centres (m, d), radius (m,)."""
    points, centres = as_rows(points), as_rows(centres)
    return sum(int((d <= radius).any(axis=1).sum()) for _, d in _blocks(points, centres)) / len(points)


def precision_recall(real: np.ndarray, samples: np.ndarray, k: int = 3) -> PrecisionRecall:
    """Eq. (2), from features real (n, d) and samples (m, d).  Raises ValueError unless 1 ≤ k < n, m.

    Balls shrink as points are added: figures of different n or m do not compare.
    """
    return PrecisionRecall(
        share_inside(samples, real, radii(real, k)), share_inside(real, samples, radii(samples, k))
    )


def nearest(samples: np.ndarray, training: np.ndarray, k: int = 1) -> Nearest:
    """The k nearest training examples of each sample, in Euclidean distance over all pixels.

    samples: (n, …).  training: (N, …).  Of several at one distance, the first.  Distances of samples that
    lie far below those of held-out data speak of copies.  Raises ValueError unless 1 ≤ k ≤ N.
    """
    if samples.shape[1:] != training.shape[1:]:
        raise ValueError(f"samples {samples.shape[1:]} and training {training.shape[1:]} differ in shape")
    x, y = (as_rows(a.reshape(len(a), math.prod(a.shape[1:]))) for a in (samples, training))
    if not 1 <= k <= len(y):
        raise ValueError(f"k = {k} is not between 1 and the {len(y)} training examples")
    index = np.concatenate([np.argsort(d, axis=1, kind="stable")[:, :k] for _, d in _blocks(x, y)])
    chosen = y[index]  # (n, k, pixels)
    return Nearest(index, np.sqrt(np.sum((chosen - x[:, None]) ** 2, axis=-1)))
