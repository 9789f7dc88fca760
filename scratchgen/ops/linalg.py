"""The factorisations of matrices, with their gradients.

Matrices stand in the last two axes; axes before them are a batch.  Gradients of factorisations follow
Giles (2008), "Collected matrix derivative results", and Townsend (2016), "Differentiating the SVD".
"""

from __future__ import annotations

from functools import reduce
from itertools import zip_longest
from operator import matmul
from typing import Any, NamedTuple

from scratchgen.autograd.primitive import broadcast_to, primitive
from scratchgen.autograd.tensor import Tensor, value_of
from scratchgen.backend import backend_of, inf
from scratchgen.ops.choice import where
from scratchgen.ops.elementwise import absolute, power, square
from scratchgen.ops.products import tril, triu
from scratchgen.ops.reduce import _back
from scratchgen.ops.reduce import max as _max
from scratchgen.ops.reduce import min as _min
from scratchgen.ops.reduce import sum as _sum
from scratchgen.ops.shape import expand_dims, matrix_transpose, moveaxis, reshape
from scratchgen.tracing import whole

T = matrix_transpose


def _chain(*factors: Any) -> Any:
    """The product of matrices, from left to right; of arrays by the backend's `matmul`, which a graph can hold."""
    if any(type(x) is Tensor for x in factors):
        return reduce(matmul, factors)
    return reduce(backend_of(*factors).matmul, factors)


@primitive(lambda g, y, _x: -_chain(T(y), g, T(y)))
def inv(xp, x, /):
    """y = x⁻¹.  x̄ = −yᵀ·ȳ·yᵀ."""
    return xp.linalg.inv(x)


@primitive(lambda g, y, x: expand_dims(g * y, (-1, -2)) * T(inv(x)))
def det(xp, x, /):
    """y = det x of an invertible x.  x̄ = ȳ·y·x⁻ᵀ."""
    return xp.linalg.det(x)


@primitive(lambda g, _y, x: expand_dims(g, (-1, -2)) * T(inv(x)), whole=True)
def _logabsdet(xp, x, /):
    return xp.linalg.slogdet(x)[1]


@whole
def _sign_of_det(xp, x):
    return xp.linalg.slogdet(x)[0]


class SlogdetResult(NamedTuple):
    """The determinant's sign, a plain array, and the logarithm of its absolute value."""

    sign: Any
    logabsdet: Any


def slogdet(x) -> SlogdetResult:
    """(sign, ln|det x|) of an invertible x.  The gradient of the second is ȳ·x⁻ᵀ."""
    value = value_of(x)
    return SlogdetResult(_sign_of_det(backend_of(value, operation="slogdet"), value), _logabsdet(x))


@primitive(
    lambda g, y, a, _b: -_chain(_solve(T(a), g), T(y)),
    lambda g, _y, a, _b: _solve(T(a), g),
)
def _solve(xp, a, b, /):
    return xp.linalg.solve(a, b)


def solve(a, b):
    """y with a·y = b; b a vector or matrices.  b̄ = a⁻ᵀ·ȳ,  ā = −b̄·yᵀ.  A batch of length 1, or none, is repeated."""
    if b.ndim == 1:
        return reshape(_solve(a, reshape(b, (-1, 1))), b.shape)
    if a.shape[:-2] != b.shape[:-2]:  # CuPy's solve repeats nothing by itself
        pairs = zip_longest(a.shape[-3::-1], b.shape[-3::-1], fillvalue=1)
        batch = [n if m == 1 else m for m, n in pairs][::-1]
        a, b = (broadcast_to(x, (*batch, *x.shape[-2:])) for x in (a, b))
    return _solve(a, b)


def _cholesky_rule(g, y, _x):
    inverse = inv(y)
    half = tril(_chain(T(y), g))
    half = half - _diagonal_matrix(half) * 0.5
    step = _chain(T(inverse), half, inverse)
    return (step + T(step)) * 0.5


def _diagonal_matrix(x: Any) -> Any:
    """x with 0 off its diagonal."""
    return tril(triu(x))


@primitive(_cholesky_rule)
def cholesky(xp, x, /):
    """y lower triangular with y·yᵀ = x, for symmetric positive definite x.

    x̄ = sym(y⁻ᵀ·Φ(yᵀȳ)·y⁻¹), Φ: the lower triangle with its diagonal halved.
    """
    return xp.linalg.cholesky(x)


def _gaps(w: Any) -> Any:
    """F_ij = 1/(w_j − w_i), 0 on the diagonal; equal values have no gradient of their vectors."""
    xp = backend_of(value_of(w))
    eye = xp.eye(w.shape[-1], dtype=w.dtype)
    return (1 - eye) / (expand_dims(w, -2) - expand_dims(w, -1) + eye)


def _eigh_rule(g, y, _x):
    w, v = y[..., 0, :], y[..., 1:, :]
    g_w, g_v = g[..., 0, :], g[..., 1:, :]
    eye = backend_of(value_of(w)).eye(w.shape[-1], dtype=w.dtype)
    middle = _gaps(w) * (T(v) @ g_v) + eye * expand_dims(g_w, -2)
    step = v @ middle @ T(v)
    return (step + T(step)) * 0.5


@primitive(_eigh_rule)
def _eigh(xp, x, /):
    w, v = xp.linalg.eigh(x)
    return xp.concatenate([w[..., None, :], v], axis=-2)


class EighResult(NamedTuple):
    """Eigenvalues in ascending order, and their vectors in columns."""

    eigenvalues: Any
    eigenvectors: Any


def eigh(x) -> EighResult:
    """x = V·diag(w)·Vᵀ for symmetric x with distinct eigenvalues.

    x̄ = V·(diag w̄ + F∘(VᵀV̄))·Vᵀ, F_ij = 1/(w_j − w_i).  One operation carries both results.
    """
    packed = _eigh(x)
    return EighResult(packed[..., 0, :], packed[..., 1:, :])


def _svd_parts(y: Any, m: int) -> tuple[Any, Any, Any]:
    return y[..., :m, :], y[..., m, :], y[..., m + 1 :, :]


def _svd_rule(g, y, _x):
    m = _x.shape[-2]
    u, s, v = _svd_parts(y, m)
    g_u, g_s, g_v = _svd_parts(g, m)
    eye = backend_of(value_of(s)).eye(s.shape[-1], dtype=s.dtype)
    f = _gaps(square(s))
    row, column = expand_dims(s, -2), expand_dims(s, -1)
    uu, vv = T(u) @ g_u, T(v) @ g_v
    middle = f * (uu - T(uu)) * row + eye * expand_dims(g_s, -2) + column * (f * (vv - T(vv)))
    step = u @ middle @ T(v)
    step = step + ((g_u - u @ uu) / row) @ T(v)
    return step + u @ T((g_v - v @ vv) / row)


@primitive(_svd_rule)
def _svd(xp, x, /):
    u, s, vt = xp.linalg.svd(x, full_matrices=False)
    return xp.concatenate([u, s[..., None, :], xp.swapaxes(vt, -1, -2)], axis=-2)


class SVDResult(NamedTuple):
    """x = U·diag(S)·Vh."""

    U: Any
    S: Any
    Vh: Any


def svd(x, full_matrices: bool = False) -> SVDResult:
    """The thin singular value decomposition x = U·diag(s)·Vᵀ, for distinct, non-zero singular values."""
    if full_matrices:
        raise ValueError("svd: the full factors are not unique and have no gradient; use full_matrices=False")
    u, s, v = _svd_parts(_svd(x), x.shape[-2])
    return SVDResult(u, s, T(v))


def _pinv_rule(g, y, x):
    left, right = y @ x, x @ y
    rest_right, rest_left = T(g) - right @ T(g), T(g) - T(g) @ left
    return -(T(y) @ g @ T(y)) + rest_right @ (y @ T(y)) + (T(y) @ y) @ rest_left


@primitive(_pinv_rule)
def pinv(xp, x, /):
    """y = x⁺, Moore and Penrose's inverse, where the rank is constant (Golub & Pereyra 1973)."""
    return xp.linalg.pinv(x)


@primitive(
    lambda g, y, x, axis, keepdims: (
        _back(g, x.shape, axis, keepdims) * (x / _back(where(value_of(y) == 0, 1.0, y), x.shape, axis, keepdims))
    )
)
def _norm2(xp, x, /, axis, keepdims):
    return xp.sqrt(xp.sum(x * x, axis=axis, keepdims=keepdims))


def norm(x, ord: Any = None, axis: int | tuple[int, int] | None = None, keepdims: bool = False):
    """√Σx² by default: of all entries, or along axes.  ∇ = x/‖x‖, 0 at x = 0.

    Along one axis `ord` is p ≥ 1 of (Σ|x|ᵖ)^(1/p), or ±inf for the largest and smallest |x|.  Over two axes
    it is 'fro', 1 or inf (the largest sum of |x| over a column, a row), 2 or 'nuc' (the largest singular
    value, and the sum of all).  Raises ValueError for any other.
    """
    one_axis = isinstance(axis, int) or (axis is None and x.ndim == 1)
    if ord is None or ord == (2 if one_axis else "fro"):
        return _norm2(x, axis, keepdims)
    if one_axis:
        if ord in (inf, -inf):
            return (_max if ord > 0 else _min)(absolute(x), axis=axis, keepdims=keepdims)
        if isinstance(ord, (int, float)) and ord >= 1:
            return power(_sum(power(absolute(x), ord), axis=axis, keepdims=keepdims), 1 / ord)
    elif axis is None and x.ndim != 2:
        raise ValueError(f"norm: ord {ord!r} of an array of {x.ndim} dimensions; name one or two axes")
    elif ord in (1, inf, 2, "nuc"):
        rows, columns = (0, 1) if axis is None else axis  # type: ignore[misc]
        if ord in (1, inf):
            sums = _sum(absolute(x), axis=rows if ord == 1 else columns, keepdims=True)
            return _max(sums, axis=(rows, columns), keepdims=keepdims)
        values = svd(moveaxis(x, (rows, columns), (-2, -1))).S
        y = values[..., 0] if ord == 2 else _sum(values, axis=-1)
        return expand_dims(y, (rows % x.ndim, columns % x.ndim)) if keepdims else y
    raise ValueError(f"norm: ord {ord!r} is none of 'fro', 'nuc', p ≥ 1, ±inf, or does not fit the axes")


__all__ = [
    "EighResult", "SVDResult", "SlogdetResult", "cholesky", "det", "eigh", "inv", "norm", "pinv", "slogdet",
    "solve", "svd",
]  # fmt: skip
