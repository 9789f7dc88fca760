"""Kernels of the device for what `fused` says in array calls: one launch, and no more passes than the numbers need.

How many times an array's worth of numbers goes to or from the device's memory, and in how many launches: by the calls
of `fused`, and by one kernel.  (A row that a kernel reads twice comes from the cache the second time; what has one
number a row is not counted.)

                                calls of `fused`      kernel
    softmax                           8 in  5         2
    softmax_adjoint                   9 in  4         3
    log_softmax                       8 in  5         2
    log_softmax_adjoint               8 in  4         3
    standardise                       9 in  5         2
    standardise_adjoint              14 in  7         3
    silu                             10 in  4         2
    silu_adjoint                     21 in  9         3
    softplus                         13 in  6         2
    softplus_adjoint                  5 in  2         3
    gelu                              5 in  2         3
    gelu_adjoint                     21 in  8         4
    binary_cross_entropy             28 in 11         3
    binary_cross_entropy_adjoint      8 in  3         4
    adam                             35 in 14         7
    sgd                              10 in  4         5
    ema                               8 in  3         3

Kernels are compiled by NVRTC when they are first asked for.  CuPy compiles every kernel, its own and these, with
-ftz=true: float32 numbers below 1.2e-38, which NumPy still knows, are 0.
"""

from __future__ import annotations

from functools import cache
from importlib import resources
from math import prod
from typing import Any

import cupy
import numpy as np

from scratchgen.fused import ONE_OVER_SQRT_2PI, Array, Fused

WARP = 32
WARPS = 8
"""In a block whose warps have a row each."""
LONG = 1024
"""Numbers above which a row has a block of its own."""
THREADS = 256
LONGER, MORE_THREADS = 8192, 1024
"""Numbers above which that block is as large as may be: such rows are few, and few threads would wait for memory."""
BLOCKS = 4096
"""At most, of kernels whose threads go on to further places."""
C_TYPES = {np.dtype(np.float32): "float", np.dtype(np.float64): "double"}


ROUNDED = ("--fmad=false",)
"""Options of the compiler for what is rounded as NumPy rounds."""


@cache
def _module(source: str, *options: str) -> Any:
    """Without letters beyond ASCII, of comments: CuPy writes it to a file in the encoding of the machine."""
    text = resources.files("scratchgen.cuda").joinpath(source).read_text(encoding="utf-8")
    return cupy.RawModule(code=text.encode("ascii", "ignore").decode(), options=("-std=c++17", *options))


@cache
def function(source: str, name: str, options: tuple[str, ...] = ROUNDED) -> Any:
    """A kernel, looked up once: CuPy makes a new object at each look-up, and asks the driver."""
    return _module(source, *options).get_function(name)


def _kernel(source: str, name: str, dtype: Any) -> Any:
    return function(source, f"{name}_{C_TYPES[dtype]}")


def _dense(x: Array) -> Array:
    return x if x.flags.c_contiguous else cupy.ascontiguousarray(x)


def _fits(*arrays: Array) -> bool:
    """Whether the kernels know the type, which is the same for all."""
    types = {x.dtype for x in arrays if hasattr(x, "dtype")}
    return len(types) == 1 and types <= C_TYPES.keys()


def _launch_rows(name: str, dtype: Any, rows: int, length: int, args: tuple[Any, ...]) -> None:
    """A warp for each short row, a block for each long one."""
    if not (rows and length):
        return
    if length <= LONG:
        grid, block = -(-rows // WARPS), (WARP, WARPS)
    else:
        grid, block = rows, (THREADS if length <= LONGER else MORE_THREADS, 1)
    _kernel("rows.cu", name, dtype)((grid,), block, args)


def _along(name: str, axis: int, *arrays: Array) -> Array:
    """A kernel of rows along an axis of arrays of one shape."""
    shape = arrays[0].shape
    axis %= len(shape)
    n, inner = shape[axis], prod(shape[axis + 1 :])
    rows = prod(shape[:axis]) * inner
    out = cupy.empty(shape, arrays[0].dtype)
    sizes = (np.int64(rows), np.int64(n), np.int64(inner))
    _launch_rows(name, out.dtype, rows, n, (*map(_dense, arrays), out, *sizes))
    return out


def _groups(rows: int, p: int, c: int, k: int, copies: int) -> tuple[Any, ...]:
    return (np.int64(rows), *map(np.uint32, (p, c, k, copies)))


def _number(x: Any, dtype: Any) -> tuple[Any, Any]:
    """A number of the host or of the device, as a kernel takes it: a pointer or null, and the number without one."""
    kind = np.dtype(dtype).type
    if isinstance(x, (int, float, np.generic)):
        return np.uint64(0), kind(x)
    return x.astype(kind, copy=False), kind(0)


def _launch_flat(name: str, buffers: tuple[Array, ...], *numbers: Any) -> None:
    """A kernel over flat buffers of one length."""
    n = buffers[0].size
    if n:
        grid = min(-(-n // THREADS), BLOCKS)
        _kernel("optimisers.cu", name, buffers[0].dtype)((grid,), (THREADS,), (*buffers, np.int64(n), *numbers))


def _elementwise(name: str, arguments: str, results: str, operation: str) -> Any:
    return cupy.ElementwiseKernel(arguments, results, operation, f"scratchgen_{name}", preamble=PREAMBLE)


PREAMBLE = """
template <class T> __device__ T logistic(T x) { return T(1) / (T(1) + exp(-x)); }
template <class T> __device__ T log1p_exp(T minus) { return log1p(exp(-minus)); }
"""
SILU = _elementwise("silu", "T x", "T y", "const T h = x * T(0.5); y = tanh(h) * h + h")
SILU_SLOPE = _elementwise(
    "silu_slope", "T x", "T y", "const T s = tanh(x * T(0.5)) * T(0.5) + T(0.5); y = ((T(1) - s) * x + T(1)) * s"
)
SILU_ADJOINT = _elementwise(
    "silu_adjoint", "T g, T x", "T y",
    "const T s = tanh(x * T(0.5)) * T(0.5) + T(0.5); y = g * (((T(1) - s) * x + T(1)) * s)",
)  # fmt: skip
SOFTPLUS = _elementwise("softplus", "T x", "T y", "y = log1p_exp(x < 0 ? -x : x) + (x > 0 ? x : T(0))")
SOFTPLUS_ADJOINT = _elementwise("softplus_adjoint", "T g, T x", "T y", "y = g * logistic(x)")
GELU = _elementwise("gelu", "T x", "T y, T phi", "phi = normcdf(x); y = x * phi")
GELU_ADJOINT = _elementwise(
    "gelu_adjoint", "T g, T x, T phi", "T y",
    f"y = g * phi + g * x * (T({ONE_OVER_SQRT_2PI!r}) * exp(x * x * T(-0.5)))",
)  # fmt: skip
CROSS_ENTROPY = _elementwise(
    "binary_cross_entropy", "T l, T x", "T y",
    "const T above = l > 0 ? l : T(0), below = above - l;"
    "y = x * below + (T(1) - x) * above + log1p_exp(above + below)",
)  # fmt: skip
CROSS_ENTROPY_ADJOINT = _elementwise(
    "binary_cross_entropy_adjoint", "T g, T l, T x", "T y", "y = g * (logistic(l) - x)"
)


class Kernels(Fused):
    """The methods of `Fused`; those of other types than float32 and float64 stay array calls."""

    def silu(self, x: Array) -> Array:
        return SILU(x) if _fits(x) else super().silu(x)

    def silu_slope(self, x: Array) -> Array:
        return SILU_SLOPE(x) if _fits(x) else super().silu_slope(x)

    def silu_adjoint(self, g: Array, x: Array) -> Array:
        return SILU_ADJOINT(g, x) if _fits(g, x) else super().silu_adjoint(g, x)

    def softplus(self, x: Array) -> Array:
        return SOFTPLUS(x) if _fits(x) else super().softplus(x)

    def softplus_adjoint(self, g: Array, x: Array) -> Array:
        return SOFTPLUS_ADJOINT(g, x) if _fits(g, x) else super().softplus_adjoint(g, x)

    def gelu(self, x: Array) -> tuple[Array, Array]:
        return GELU(x) if _fits(x) else super().gelu(x)

    def gelu_adjoint(self, g: Array, x: Array, phi: Array) -> Array:
        return GELU_ADJOINT(g, x, phi) if _fits(g, x, phi) else super().gelu_adjoint(g, x, phi)

    def binary_cross_entropy(self, logits: Array, x: Array) -> Array:
        return CROSS_ENTROPY(logits, x) if _fits(logits, x) else super().binary_cross_entropy(logits, x)

    def binary_cross_entropy_adjoint(self, g: Array, logits: Array, x: Array) -> Array:
        if not _fits(g, logits, x):
            return super().binary_cross_entropy_adjoint(g, logits, x)
        return CROSS_ENTROPY_ADJOINT(g, logits, x)

    def softmax(self, x: Array, axis: int) -> Array:
        return _along("softmax", axis, x) if _fits(x) else super().softmax(x, axis)

    def softmax_adjoint(self, g: Array, y: Array, axis: int) -> Array:
        return _along("softmax_adjoint", axis, g, y) if _fits(g, y) else super().softmax_adjoint(g, y, axis)

    def log_softmax(self, x: Array, axis: int) -> Array:
        return _along("log_softmax", axis, x) if _fits(x) else super().log_softmax(x, axis)

    def log_softmax_adjoint(self, g: Array, y: Array, axis: int) -> Array:
        return _along("log_softmax_adjoint", axis, g, y) if _fits(g, y) else super().log_softmax_adjoint(g, y, axis)

    def standardise(self, x: Array, axis: Any, tiny: float) -> tuple[Array, Array]:
        if not _vectors(axis, x):
            return super().standardise(x, axis, tiny)
        n = x.shape[-1]
        rows = x.size // n
        y, scale = cupy.empty(x.shape, x.dtype), cupy.empty((*x.shape[:-1], 1), x.dtype)
        args = (_dense(x), y, scale, *_groups(rows, 1, n, n, 1), np.float64(tiny))
        _launch_rows("standardise", x.dtype, rows, n, args)
        return y, scale

    def standardise_adjoint(self, g: Array, y: Array, scale: Array, axis: Any) -> Array:
        if not _vectors(axis, g, y, scale):
            return super().standardise_adjoint(g, y, scale, axis)
        n, out = g.shape[-1], cupy.empty(g.shape, g.dtype)
        rows = g.size // n
        args = (_dense(g), _dense(y), _dense(scale), out, *_groups(rows, 1, n, n, 1))
        _launch_rows("standardise_adjoint", g.dtype, rows, n, args)
        return out

    def group_standardise(self, x: Array, groups: int, tiny: float) -> tuple[Array, Array]:
        if not _fits(x):
            return super().group_standardise(x, groups, tiny)
        b, p, c = x.shape
        k, y, scale = c // groups, cupy.empty(x.shape, x.dtype), cupy.empty((b, 1, c), x.dtype)
        args = (_dense(x), y, scale, *_groups(b * groups, p, c, k, k), np.float64(tiny))
        _launch_rows("standardise", x.dtype, b * groups, p * k, args)
        return y, scale

    def group_standardise_adjoint(self, g: Array, y: Array, scale: Array, groups: int) -> Array:
        if not _fits(g, y, scale):
            return super().group_standardise_adjoint(g, y, scale, groups)
        b, p, c = g.shape
        k, out = c // groups, cupy.empty(g.shape, g.dtype)
        args = (_dense(g), _dense(y), _dense(scale), out, *_groups(b * groups, p, c, k, k))
        _launch_rows("standardise_adjoint", g.dtype, b * groups, p * k, args)
        return out

    def adam(
        self, theta: Array, m: Array, v: Array, g: Array, scratch: Array, count: Any, lr: Any, beta1: float,
        beta2: float, tiny: float, weight_decay: float,
    ) -> None:  # fmt: skip
        settings = map(np.float64, (beta1, beta2, tiny, weight_decay))
        _launch_flat("adam", (theta, m, v, _dense(g)), *_number(count, np.int64), *_number(lr, np.float64), *settings)

    def sgd(self, theta: Array, velocity: Array, g: Array, scratch: Array, lr: Any, momentum: float) -> None:
        _launch_flat("sgd", (theta, velocity, _dense(g)), *_number(lr, np.float64), np.float64(momentum))

    def ema(self, average: Array, theta: Array, scratch: Array, part: Any) -> None:
        _launch_flat("ema", (average, theta), *_number(part, np.float64))


def _vectors(axis: Any, *arrays: Array) -> bool:
    """Whether an axis is the last of arrays that the kernels know, with something along it."""
    last = axis in (-1, (-1,), arrays[0].ndim - 1, (arrays[0].ndim - 1,))
    return last and _fits(*arrays) and arrays[0].ndim > 0 and arrays[0].shape[-1] > 0
