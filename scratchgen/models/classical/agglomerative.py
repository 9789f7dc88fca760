"""Agglomerative clustering: begin with every point a group, and merge the two nearest, until one is left.
Lance & Williams (1967); Ward (1963).

How far apart two groups are, by the distances of their members:

    single    min ‖a − b‖                  average   mean ‖a − b‖
    complete  max ‖a − b‖                  ward      √(2|A||B|/(|A|+|B|))·‖mean A − mean B‖

Ward's, squared and halved, is by how much the sum of squares about the means grows when A and B become one.  None of
them needs the members again: from the merged groups' own distances,

    d(k, i∪j) = α_i·d_ik + α_j·d_jk + β·d_ij + γ·|d_ik − d_jk|                          (1)  linkage.update
    merge the i and j of the least d_ij;  n − 1 times                                   (2)  linkage.merge
    the last k − 1 merges undone leave k groups                                         (3)  linkage.cut

              α_i              α_j              β             γ
    single    ½                ½                0             −½
    complete  ½                ½                0             +½
    average   n_i/(n_i+n_j)    n_j/(n_i+n_j)    0             0
    ward      (n_i+n_k)/N      (n_j+n_k)/N      −n_k/N        0         N = n_i+n_j+n_k, on squares of distances

With these four a merge is never lower than the one before (Milligan 1979): the tree can be drawn by height, as a
dendrogram, and cut at any.  Single linkage follows chains of neighbours; complete and Ward's look for compact groups.

Each row of the table of distances remembers its least; the order of the merges is decided on the host.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Self

from scratchgen import ops
from scratchgen.autograd.tensor import tensor, value_of
from scratchgen.backend import active, backend_of, inf
from scratchgen.models.system import System

METHODS = ("single", "complete", "average", "ward")


def update(method: str, d_ik: Any, d_jk: Any, d_ij: Any, n_i: Any, n_j: Any, n_k: Any) -> Any:
    """d(k, i∪j), eq. (1), for numbers or arrays of one shape.  n: how many points a group has.

    Raises ValueError for a method that is not one of METHODS.
    """
    if method in ("single", "complete"):
        gamma = -0.5 if method == "single" else 0.5
        return 0.5 * d_ik + 0.5 * d_jk + gamma * ops.absolute(d_ik - d_jk)
    if method == "average":
        return (n_i * d_ik + n_j * d_jk) / (n_i + n_j)
    if method != "ward":
        raise ValueError(f"linkage.update: method {method!r} is not one of {', '.join(METHODS)}")
    square = (n_i + n_k) * d_ik**2 + (n_j + n_k) * d_jk**2 - n_k * d_ij**2
    return ops.sqrt(square / (n_i + n_j + n_k))


def distances(x: Any) -> Any:
    """‖x_i − x_j‖, (n, n), the start of eq. (2): by differences, which are exact for neighbours."""
    return ops.stack([ops.sqrt(ops.sum(ops.square(x - x[i]), axis=1)) for i in range(x.shape[0])])


class Merge(NamedTuple):
    """Groups i < j became group n + t in merge t: at which distance, and how many points it has."""

    i: int
    j: int
    height: float
    size: int


def merges(d: Any, method: str) -> Iterator[Merge]:
    """All merges, eq. (2), one at a time.  Which of several least distances comes first is not said.

    d: distances (n, n), symmetric.  Groups are numbered as in SciPy: 0 … n−1 the points, n + t the t-th merge.
    Raises ValueError for a table that is not square, or an unknown method.
    """
    if d.ndim != 2 or d.shape[0] != d.shape[1]:
        raise ValueError(f"linkage.merge: distances {d.shape} should be (n, n)")
    xp, n = backend_of(d), d.shape[0]
    d = xp.where(xp.eye(n, dtype=bool), inf, d)
    size, alive, name = xp.ones((n,), d.dtype), xp.ones((n,), bool), list(range(n))
    least, nearest = d.min(axis=1), d.argmin(axis=1)  # of each row: what saves the search through the table
    for t in range(n - 1):
        i = int(least.argmin())
        j = int(nearest[i])
        height = float(least[i])
        alive[i] = alive[j] = False
        (others,) = xp.nonzero(alive)
        row = update(method, d[i, others], d[j, others], height, size[i], size[j], size[others])
        d[i, others] = row
        d[others, i] = row
        d[j] = inf
        d[:, j] = inf
        size[i] = size[i] + size[j]
        alive[i] = True
        least[j] = inf
        closer = others[row < least[others]]
        least[closer], nearest[closer] = d[closer, i], i
        stale = (nearest == i) | (nearest == j)
        stale[i] = True
        (stale,) = xp.nonzero(stale & alive)
        least[stale], nearest[stale] = d[stale].min(axis=1), d[stale].argmin(axis=1)
        first, second = sorted((name[i], name[j]))
        name[i] = n + t
        yield Merge(first, second, height, int(size[i]))


def cut(tree: Any, groups: int) -> Any:
    """Labels of the points in `groups` groups, eq. (3), integers (n,) from 0, in the order of their first points.

    tree: rows of `Merge`, (n−1, 4).  Raises ValueError unless 1 ≤ groups ≤ n.
    """
    xp, n = backend_of(tree), tree.shape[0] + 1
    if not 1 <= groups <= n:
        raise ValueError(f"linkage.cut: {n} points make no {groups} groups")
    above = list(range(2 * n - 1))  # of each group the one it became part of, itself if none
    for t, (i, j, *_) in enumerate(xp.to_numpy(tree[: n - groups]).tolist()):
        above[int(i)] = above[int(j)] = n + t
    for group in reversed(range(2 * n - 1)):
        above[group] = above[above[group]]  # the one above is done: it has the higher number
    seen: dict[int, int] = {}
    return xp.asarray([seen.setdefault(above[i], len(seen)) for i in range(n)])


@dataclass(frozen=True)
class AgglomerativeConfig:
    """examples: n, the points that are clustered.  method: of METHODS."""

    examples: int = 1437
    method: Literal["single", "complete", "average", "ward"] = "ward"
    dtype: str = "float64"

    def __post_init__(self) -> None:
        if self.examples < 2:
            raise ValueError(f"AgglomerativeConfig: {self.examples} examples make no groups")


class Agglomerative(System):
    """The tree of merges (n−1, 4), as SciPy's `linkage` has it.  It knows its own points and no others."""

    def __init__(self, config: AgglomerativeConfig) -> None:
        self.config = config
        self.tree = tensor(active().zeros((config.examples - 1, 4), config.dtype))

    def grow(self, x: Any) -> Iterator[Merge]:
        """The merges of x, one at a time; after the last the tree is this system's."""
        if x.shape[0] != self.config.examples:
            raise ValueError(f"Agglomerative: {x.shape[0]} points, not {self.config.examples} as configured")
        found = []
        for merge in merges(distances(x.astype(self.config.dtype)), self.config.method):
            found.append(merge)
            yield merge
        self.tree.assign(backend_of(x).asarray(found, self.config.dtype))

    def fit(self, x: Any) -> Self:
        """The tree of the points x."""
        for _ in self.grow(x):
            pass
        return self

    def labels(self, groups: int) -> Any:
        """The groups of the points that it was fitted to, (n,)."""
        return cut(value_of(self.tree), groups)

    def fit_predict(self, x: Any, groups: int) -> Any:
        """`fit`, and the groups."""
        return self.fit(x).labels(groups)
