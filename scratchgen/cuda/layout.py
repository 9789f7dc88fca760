"""How cuBLAS is asked for a product of arrays: shapes and strides in, the numbers of its call out.  No device needed.

cuBLAS knows matrices stored column by column.  The rows of ours lie one after the other, so what it sees is their
transpose, and it is asked for the transposed product, with the operands exchanged:

    out = a·b      outᵀ = bᵀ·aᵀ      cuBLAS's A is our b, its B our a

A matrix whose rows, or whose columns, are runs of neighbours in memory is read where it lies; `ld` numbers lie between
the beginning of one run and of the next, at least as many as a run has.  Of the axes before the last two, the batch,
one is walked through by cuBLAS in steps of one stride per operand, 0 where an operand is the same for all; for what
cannot be told as one axis there is a call each.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import product
from typing import NamedTuple

N, T = 0, 1
"""cublasOperation_t: a matrix as it is stored, or its transpose."""
Ints = tuple[int, ...]
Axis = tuple[int, int, int, int]
"""Its length, and the strides along it of a, b and out."""


class Copy(NamedTuple):
    """Operands that cuBLAS cannot read where they lie, among "a", "b" and "out"."""

    names: tuple[str, ...]


class Gemm(NamedTuple):
    """C ← αAB + βC as cuBLAS wants it told, by its own names, and where each call's matrices begin, in numbers.

    exchanged: whether A is our b and B our a, which is so unless the columns of `out` are its runs.
    """

    exchanged: bool
    transa: int
    transb: int
    m: int
    n: int
    k: int
    lda: int
    stride_a: int
    ldb: int
    stride_b: int
    ldc: int
    stride_c: int
    batch: int
    offsets: tuple[tuple[int, int, int], ...]


class View(NamedTuple):
    """An array's shape and its strides in numbers."""

    shape: Ints
    strides: Ints

    def turned(self) -> View:
        """The last two axes exchanged."""
        return View(*((*x[:-2], x[-1], x[-2]) for x in self))


@lru_cache(maxsize=4096)
def plan(a: View, b: View, out: View) -> Gemm | Copy:
    """The call for out = a·b.  a: (…, m, k).  b: (…, k, n).  out: (…, m, n), none of it empty.

    Axes before the last two are broadcast.  Raises ValueError if the shapes do not fit.
    """
    (m, k), n = a.shape[-2:], b.shape[-1]
    batch = broadcast(a.shape[:-2], b.shape[:-2])
    if b.shape[-2] != k or out.shape != (*batch, m, n):
        raise ValueError(f"matmul: shapes {a.shape} and {b.shape} do not fit, or have no result of {out.shape}")
    result = runs(m, n, *out.strides[-2:])
    if result and result[0] == T:
        found = plan(b.turned(), a.turned(), out.turned())
        return found._replace(exchanged=False) if isinstance(found, Gemm) else _renamed(found)
    steps = zip(batch, *(_steps(x, batch) for x in (a, b, out)), strict=True)
    rows, axes = _rows(m, k, a, out, merged(list(steps)))
    left = runs(rows[0], k, rows[1], a.strides[-1])
    right = runs(k, n, *b.strides[-2:])
    result = runs(rows[0], n, rows[3], out.strides[-1])
    least = [min((axis[x] for axis in axes), default=0) for x in (1, 2, 3)]
    if left is None or right is None or result is None or min(least) < 0:
        fits = {"a": left and least[0] >= 0, "b": right and least[1] >= 0, "out": result and least[2] >= 0}
        return Copy(tuple(name for name, fit in fits.items() if not fit))
    widest = max(axes, default=(1, 0, 0, 0))
    others = [axis for axis in axes if axis is not widest]
    places = product(*(range(axis[0]) for axis in others))
    offsets = tuple(tuple(sum(i * axis[x] for i, axis in zip(place, others, strict=True)) for x in (2, 1, 3))
                    for place in places)
    return Gemm(True, right[0], left[0], n, rows[0], k, right[1], widest[2], left[1], widest[1], result[1], widest[3],
                widest[0], offsets)  # type: ignore[arg-type]


def runs(rows: int, columns: int, down: int, across: int) -> tuple[int, int] | None:
    """(N, ld) if a matrix's rows are runs of neighbours, (T, ld) if its columns are, None if neither."""
    if across == 1 or columns == 1:
        ld = down if rows > 1 else columns
        if ld >= columns:
            return N, ld
    if down == 1 or rows == 1:
        ld = across if columns > 1 else rows
        if ld >= rows:
            return T, ld
    return None


def merged(axes: Sequence[Axis]) -> list[Axis]:
    """Neighbouring axes as one where each operand walks through both in even steps; none of length 1."""
    found: list[Axis] = []
    for axis in axes:
        if found and all(s == axis[0] * t for s, t in zip(found[-1][1:], axis[1:], strict=True)):
            found[-1] = (found[-1][0] * axis[0], *axis[1:])
        elif axis[0] != 1:
            found.append(axis)
    return found


def _rows(m: int, k: int, a: View, out: View, axes: list[Axis]) -> tuple[Axis, list[Axis]]:
    """The axis of a's rows, and of the batch what is left: where b is the same for all, matrices that lie one below
    the other are one tall matrix."""
    rows = (m, a.strides[-2], 0, out.strides[-2])
    if m == 1 and axes:
        rows = (1, axes[-1][1], 0, axes[-1][3])  # along an axis of length 1 any step is right
    if axes and axes[-1][1:] == (m * rows[1], 0, m * rows[3]):
        tall = (axes[-1][0] * m, *rows[1:])
        if runs(tall[0], k, tall[1], a.strides[-1]):
            return tall, axes[:-1]
    return rows, axes


def broadcast(one: Ints, two: Ints) -> Ints:
    """The shape of both together.  Raises ValueError if there is none."""
    ndim = max(len(one), len(two))
    pairs = list(zip((1,) * (ndim - len(one)) + one, (1,) * (ndim - len(two)) + two, strict=True))
    if any(i != j and 1 not in (i, j) for i, j in pairs):
        raise ValueError(f"matmul: batches of shape {one} and {two} do not fit")
    return tuple(i if j == 1 else j for i, j in pairs)


def _steps(x: View, batch: Ints) -> Ints:
    """The strides of x along the axes of the batch, 0 where it is broadcast."""
    own = tuple(0 if size == 1 else step for size, step in zip(x.shape[:-2], x.strides[:-2], strict=True))
    return (0,) * (len(batch) - len(own)) + own


def _renamed(copy: Copy) -> Copy:
    return Copy(tuple({"a": "b", "b": "a"}.get(name, name) for name in copy.names))
