"""Products of matrices and arrays, Einstein's summation, diagonals and triangles.

Matrices stand in the last two axes; axes before them are a batch.
"""

from __future__ import annotations

from math import prod
from typing import Any

from scratchgen.autograd.primitive import primitive
from scratchgen.autograd.tensor import value_of
from scratchgen.backend import backend_of
from scratchgen.ops.choice import where
from scratchgen.ops.elementwise import multiply
from scratchgen.ops.index import axis_of, getitem, scatter_add
from scratchgen.ops.reduce import sum as _sum
from scratchgen.ops.shape import expand_dims, matrix_transpose, moveaxis, ravel, reshape, transpose
from scratchgen.precision import FLOAT32, asked

T = matrix_transpose


def _rows(x: Any) -> Any:
    return x if x.ndim == 2 else reshape(x, (prod(x.shape[:-1]), x.shape[-1]))


def _product(a: Any, b: Any, precision: str) -> Any:
    return _matmul(a, b) if precision == FLOAT32 else _matmul(a, b, precision=precision)


@primitive(
    lambda g, _y, _a, b, precision=FLOAT32: _product(g, T(b), precision),
    lambda g, _y, a, _b, precision=FLOAT32: (
        _product(T(_rows(a)), _rows(g), precision) if _b.ndim == 2 else _product(T(a), g, precision)
    ),
)
def _matmul(xp, a, b, /, precision=FLOAT32):
    if a.shape[-1] == b.shape[-2] == 1 and precision == FLOAT32:
        return xp.multiply(a, b)  # one product for each number: libraries for matrices take far longer
    xp = xp.products(precision)
    if b.ndim == 2 and a.ndim > 2:  # one product of tall matrices instead of many small ones
        return xp.matmul(a.reshape(prod(a.shape[:-1]), a.shape[-1]), b).reshape(*a.shape[:-1], b.shape[-1])
    return xp.matmul(a, b)


def matmul(a, b):
    """y = a·b over the last axis of a and the last but one of b.  ā = ȳ·bᵀ,  b̄ = aᵀ·ȳ."""
    rank_a, rank_b = a.ndim, b.ndim
    if rank_a > 1 and rank_b > 1:
        return _product(a, b, asked())
    if not rank_a or not rank_b:
        raise ValueError("matmul: needs at least one axis on each side; multiply numbers with *")
    y = _product(reshape(a, (1, -1)) if rank_a == 1 else a, reshape(b, (-1, 1)) if rank_b == 1 else b, asked())
    if rank_b == 1:
        y = reshape(y, y.shape[:-1])
    if rank_a == 1:
        y = reshape(y, y.shape[:-1] if rank_b == 1 else y.shape[:-2] + y.shape[-1:])
    return y


def tensordot(a, b, axes: int | tuple[Any, Any] = 2):
    """Σ over pairs of axes: the last `axes` of a with the first of b, or the pairs given."""
    if isinstance(axes, int):
        left, right = list(range(a.ndim - axes, a.ndim)), list(range(axes))
    else:
        left, right = ([ax] if isinstance(ax, int) else list(ax) for ax in axes)
        left, right = [axis_of(i, a.ndim) for i in left], [axis_of(i, b.ndim) for i in right]
    free_a = [ax for ax in range(a.ndim) if ax not in left]
    free_b = [ax for ax in range(b.ndim) if ax not in right]
    outer_a, outer_b = tuple(a.shape[i] for i in free_a), tuple(b.shape[i] for i in free_b)
    n = prod(a.shape[i] for i in left)
    rows = reshape(transpose(a, free_a + left), (prod(outer_a), n))
    columns = reshape(transpose(b, right + free_b), (n, prod(outer_b)))
    return reshape(_product(rows, columns, asked()), outer_a + outer_b)


def dot(a, b):
    """NumPy's dot: a product of numbers, or a sum over a's last axis and b's last but one."""
    if not getattr(a, "ndim", 0) or not getattr(b, "ndim", 0):
        return multiply(a, b)
    return tensordot(a, b, (a.ndim - 1, max(b.ndim - 2, 0)))


def inner(a, b):
    """Σ over the last axis of both."""
    if not a.ndim or not b.ndim:
        return multiply(a, b)
    return tensordot(a, b, (a.ndim - 1, b.ndim - 1))


def outer(a, b):
    """y_ij = a_i·b_j."""
    return multiply(reshape(a, (-1, 1)), reshape(b, (1, -1)))


def vdot(a, b):
    """Σ a·b over all entries."""
    return _sum(multiply(ravel(a), ravel(b)))


def kron(a, b):
    """Kronecker's product: every entry of a times all of b."""
    ndim = max(a.ndim, b.ndim)
    a = reshape(a, (1,) * (ndim - a.ndim) + tuple(a.shape))
    b = reshape(b, (1,) * (ndim - b.ndim) + tuple(b.shape))
    wide = expand_dims(a, tuple(range(1, 2 * ndim, 2))) * expand_dims(b, tuple(range(0, 2 * ndim, 2)))
    return reshape(wide, tuple(m * n for m, n in zip(a.shape, b.shape, strict=True)))


# --- Einstein's summation -----------------------------------------------------------------------------------


def _parse(subscripts: str, operands: tuple[Any, ...]) -> tuple[list[str], str]:
    """Inputs and output as plain letters: … spelled out, a missing output supplied."""
    left, arrow, out = subscripts.replace(" ", "").partition("->")
    inputs = left.split(",")
    if len(inputs) != len(operands):
        raise ValueError(f"einsum: {subscripts!r} names {len(inputs)} operands, {len(operands)} given")
    spare = [c for c in "ABCDEFGHIJKLMNOPQRSTUVWXYZ" if c not in subscripts]
    batch = ""
    for k, (labels, x) in enumerate(zip(inputs, operands, strict=True)):
        if "..." in labels:
            n = x.ndim - len(labels) + 3
            letters = "".join(spare[:n][::-1])
            batch = letters if len(letters) > len(batch) else batch
            inputs[k] = labels.replace("...", letters)
        if len(inputs[k]) != x.ndim:
            raise ValueError(f"einsum: {labels!r} does not fit an operand of shape {tuple(x.shape)}")
    letters = "".join(inputs)
    if not arrow:
        out = batch + "".join(sorted(c for c in set(letters) if letters.count(c) == 1 and c not in batch))
    out = out.replace("...", batch)
    if not set(out) <= set(letters) or len(set(out)) != len(out):
        raise ValueError(f"einsum: the output of {subscripts!r} repeats a letter or names one of no operand")
    return inputs, out


def _einsum_rule(i, g, b, x, subscripts, precision):
    """x̄ = Σ over what x lacks; what only x has was summed, so ȳ repeats along it."""
    left, out = subscripts.split("->")
    labels, other = left.split(",")[:: 1 - 2 * i]
    kept = "".join(c for c in labels if c in out or c in other)
    step = _einsum2(g, b, f"{out},{other}->{kept}", precision)
    if kept == labels:
        return step
    shape = tuple(n if c in kept else 1 for c, n in zip(labels, x.shape, strict=True))
    ones = backend_of(value_of(step)).ones(x.shape, step.dtype)
    return reshape(step, shape) * ones


@primitive(
    lambda g, _y, _a, b, subscripts, precision: _einsum_rule(0, g, b, _a, subscripts, precision),
    lambda g, _y, a, _b, subscripts, precision: _einsum_rule(1, g, a, _b, subscripts, precision),
)
def _einsum2(xp, a, b, /, subscripts, precision):
    return xp.products(precision).einsum(subscripts, a, b, optimize=True)


def _without_repeats(x: Any, labels: str) -> tuple[Any, str]:
    """The diagonal over every letter that stands twice."""
    for c in dict.fromkeys(labels):
        while labels.count(c) > 1:
            i = labels.index(c)
            j = labels.index(c, i + 1)
            x = diagonal(x, axis1=i, axis2=j)
            labels = labels[:i] + labels[i + 1 : j] + labels[j + 1 :] + c
    return x, labels


def einsum(subscripts: str, *operands):
    """Einstein's summation: letters name axes, those absent from the output are summed.

    With … for a batch.  Several operands are contracted from left to right.
    """
    inputs, out = _parse(subscripts, operands)
    terms = [_without_repeats(x, labels) for x, labels in zip(operands, inputs, strict=True)]
    x, labels = terms[0]
    for k, (y, other) in enumerate(terms[1:], start=2):
        needed = set(out).union(*(late for _, late in terms[k:]))
        kept = "".join(c for c in dict.fromkeys(labels + other) if c in needed)
        kept = out if k == len(terms) else kept
        x, labels = _einsum2(x, y, f"{labels},{other}->{kept}", asked()), kept
    summed = tuple(i for i, c in enumerate(labels) if c not in out)
    if summed:
        x, labels = _sum(x, axis=summed), "".join(c for c in labels if c in out)
    return x if labels == out else transpose(x, [labels.index(c) for c in out])


# --- diagonals and triangles --------------------------------------------------------------------------------


def diagonal(x, offset: int = 0, axis1: int = 0, axis2: int = 1):
    """The entries x_{i, i+offset} of two axes, along a new last axis."""
    x = moveaxis(x, (axis1, axis2), (-2, -1))
    rows, columns = x.shape[-2:]
    xp = backend_of(value_of(x))
    n = max(0, min(rows + min(offset, 0), columns - max(offset, 0)))
    i = xp.arange(n)
    return getitem(x, (..., i + max(-offset, 0), i + max(offset, 0)))


def diag(x, k: int = 0):
    """The k-th diagonal of a matrix, or a matrix with x on its k-th diagonal."""
    if x.ndim == 2:
        return diagonal(x, k)
    n = x.shape[0] + abs(k)
    i = backend_of(value_of(x)).arange(x.shape[0])
    return scatter_add(x, (i + max(-k, 0), i + max(k, 0)), (n, n))


def trace(x, offset: int = 0, axis1: int = 0, axis2: int = 1):
    """Σ of a diagonal."""
    return _sum(diagonal(x, offset, axis1, axis2), axis=-1)


def _triangle(x: Any, k: int, lower: bool) -> Any:
    xp = backend_of(value_of(x), operation="tril")
    below = xp.tri(x.shape[-2], x.shape[-1], k if lower else k - 1, dtype=bool)
    return where(below, x, 0.0) if lower else where(below, 0.0, x)


def tril(x, k: int = 0):
    """x with 0 above its k-th diagonal."""
    return _triangle(x, k, lower=True)


def triu(x, k: int = 0):
    """x with 0 below its k-th diagonal."""
    return _triangle(x, k, lower=False)


__all__ = [
    "diag", "diagonal", "dot", "einsum", "inner", "kron", "matmul", "outer", "tensordot", "trace",
    "tril", "triu", "vdot",
]  # fmt: skip
