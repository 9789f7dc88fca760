"""k-means: every point belongs to the nearest of k centres, every centre is the mean of its points.
Lloyd (1982), written in 1957; k-means++: Arthur & Vassilvitskii (2007).

    J(μ) = Σ_i min_k ‖x_i − μ_k‖²                                                       (1)  kmeans.inertia
    c_i  = argmin_k ‖x_i − μ_k‖²                                                        (2)  kmeans.assign
    μ_k  = mean of the x_i with c_i = k                                                 (3)  kmeans.centres
    P(the next start is x_i) = D_i²/Σ_j D_j²,  D_i: from x_i to the nearest start yet   (4)  kmeans.seeding

(2) is the best assignment to given centres, and (3) are the best centres of a given assignment, since a mean is the
point with the least sum of squares.  So J never rises; there are finitely many assignments, so it comes to rest: where
depends on the start.  Starts drawn by (4) are far apart, and J is then in the mean at most 8(ln k + 2) times the least
there is.  Of several candidates for a start the one that lowers J most may be taken (greedy k-means++).

A centre that has lost all its points takes the one that is farthest from its own, as scikit-learn does.

Everywhere: x (n, D), centres (k, D), labels: plain integers (n,).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import log
from typing import Any, NamedTuple, Self

from scratchgen import ops
from scratchgen.autograd.tensor import tensor, value_of
from scratchgen.backend import active, backend_of
from scratchgen.functional import one_hot
from scratchgen.models.system import System
from scratchgen.random import Generator


def squared_distances(x: Any, centres: Any) -> Any:
    """‖x_i − μ_k‖² of eq. (1), (n, k), as ‖x‖² − 2x·μ + ‖μ‖² about the centres' mean, where the squares are small.

    Raises ValueError if points and centres are not of one dimension.
    """
    if x.ndim != 2 or centres.ndim != 2 or x.shape[1] != centres.shape[1]:
        raise ValueError(f"kmeans: points {x.shape} and centres {centres.shape} should be (n, D) and (k, D)")
    origin = ops.mean(centres, axis=0)
    x, centres = x - origin, centres - origin
    own = ops.sum(ops.square(x), axis=1, keepdims=True)
    return ops.maximum(own - 2 * (x @ ops.transpose(centres)) + ops.sum(ops.square(centres), axis=1), 0.0)


def inertia(x: Any, centres: Any) -> Any:
    """min_k ‖x_i − μ_k‖², (n,): each point's share of J, eq. (1)."""
    return ops.min(squared_distances(x, centres), axis=1)


def assign(x: Any, centres: Any) -> Any:
    """c_i, eq. (2); the first of several that are equally near."""
    return value_of(squared_distances(x, centres)).argmin(axis=1)


def means(x: Any, labels: Any, centres: Any) -> Any:
    """The next μ, eq. (3).  centres: the present ones, from which the farthest points are told.

    A centre whose only point is taken away stays where it is.
    """
    xp, k = backend_of(x), centres.shape[0]
    members = one_hot(labels, k, x.dtype)
    lost = [j for j, size in enumerate(xp.to_numpy(members.sum(axis=0)).tolist()) if not size]
    if lost:
        distance = xp.sum(xp.square(x - centres[labels]), axis=1)
        farthest = xp.to_numpy(xp.argsort(-distance)[: len(lost)]).tolist()
        for j, i in zip(lost, farthest, strict=False):
            members[i] = 0.0
            members[i, j] = 1.0
    size = members.sum(axis=0)[:, None]
    return xp.where(size > 0, (members.T @ x) / xp.maximum(size, 1.0), centres)


def plus_plus(x: Any, u: Any) -> Any:
    """The places in x of k starts by eq. (4), integers (k,).

    u: U[0, 1), (k, m): of m candidates for each start the one that leaves the smallest J is taken; m = 1 is plain
    k-means++.  The first start is any point alike, by u[0, 0].
    """
    xp, n = backend_of(x), x.shape[0]
    chosen = [int(float(u[0, 0]) * n)]
    nearest = squared_distances(x, x[chosen[0] : chosen[0] + 1])[:, 0]
    for row in u[1:]:
        below = xp.cumsum(nearest)
        found = xp.searchsorted(below, row * below[-1], side="right")  # a point already chosen has no width here
        candidates = xp.minimum(found, n - 1)
        after = xp.minimum(nearest[:, None], squared_distances(x, x[candidates]))  # (n, m)
        best = int(after.sum(axis=0).argmin())
        chosen.append(int(candidates[best]))
        nearest = after[:, best]
    return xp.asarray(chosen)


class Step(NamedTuple):
    """An iteration: the centres it began with, the labels by them, and J."""

    centres: Any
    labels: Any
    inertia: float


def lloyd(x: Any, centres: Any, steps: int) -> Iterator[Step]:
    """At most `steps` rounds of eqs. (2) and (3), and what they end with; fewer where no label changes any more.

    The last of what is yielded has labels that belong to its centres.
    """
    before: Any = None
    for step in range(steps + 1):
        labels = assign(x, centres)
        yield Step(centres, labels, float(ops.sum(inertia(x, centres))))
        if step == steps or (before is not None and bool((labels == before).all())):
            return
        before, centres = labels, means(x, labels, centres)


@dataclass(frozen=True)
class KMeansConfig:
    """features: D.  clusters: k.  starts: how many times k-means is run, of which the best is kept."""

    features: int = 64
    clusters: int = 10
    starts: int = 10
    dtype: str = "float64"

    def __post_init__(self) -> None:
        if min(self.features, self.clusters, self.starts) < 1:
            raise ValueError("KMeansConfig: features, clusters and starts must be at least 1")


class KMeans(System):
    """k centres.  There is no density: nothing to sample from."""

    def __init__(self, config: KMeansConfig) -> None:
        self.config = config
        self.centres = tensor(active().zeros((config.clusters, config.features), config.dtype))

    def starts(self, x: Any, rng: Generator) -> Any:
        """Centres (k, D) by greedy k-means++, with 2 + ⌊ln k⌋ candidates each."""
        k = self.config.clusters
        if x.shape[0] < k:
            raise ValueError(f"KMeans: {x.shape[0]} points are too few for {k} clusters")
        return x[plus_plus(x, rng.random((k, 2 + int(log(k))), x.dtype))]

    def descend(self, x: Any, rng: Generator, steps: int) -> Iterator[Step]:
        """Iterations from one start after the other, at most `steps` in all; the best centres are this system's."""
        least, left = float("inf"), steps
        for _ in range(self.config.starts):
            for step in lloyd(x, self.starts(x, rng), left - 1):
                left -= 1
                yield step
            if step.inertia < least:
                least = step.inertia
                self.centres.assign(step.centres)
            if not left:
                return

    def fit(self, x: Any, rng: Generator | None = None, start: Any = None, steps: int = 1000) -> Self:
        """Centres for the points x, from given ones, or the best of several runs from k-means++ (which needs rng).

        steps: how often the centres move at most; from k-means++, how many iterations all runs have together.
        """
        x = x.astype(self.config.dtype)
        if start is not None:
            (*_, last) = lloyd(x, start.astype(self.config.dtype), steps)
            self.centres.assign(last.centres)
        elif rng is not None:
            for _ in self.descend(x, rng, steps):
                pass
        else:
            raise ValueError("KMeans.fit: give a start, or an rng to draw one")
        return self

    def predict(self, x: Any) -> Any:
        """The nearest centre of each point, (n,)."""
        return assign(x.astype(self.config.dtype), value_of(self.centres))

    def transform(self, x: Any) -> Any:
        """The distances to all centres, (n, k)."""
        return ops.sqrt(squared_distances(x.astype(self.config.dtype), value_of(self.centres)))
