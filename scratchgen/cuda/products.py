"""The products of the CuPy backend, in one precision: by our own calls of cuBLAS, so that they can be captured.

Under "bf16" the operands are bfloat16 numbers, each kept as its 16 bits in an array of uint16 (`bits`), and moved
about as such; under "tf32" they are float32, and cuBLAS is told to read them as TF32.

Convolutions are made of products (`convolution`), unless SCRATCHGEN_CONVOLUTION=cudnn asks for cuDNN (`cudnn`).
"""

from __future__ import annotations

import os
from typing import Any

import cupy

from scratchgen.backend import Backend, BackendError
from scratchgen.cuda import contraction, convolution, gemm, windows
from scratchgen.precision import FLOAT32, Lowered, rounded
from scratchgen.tracing import filled

Array = Any


def convolutions() -> Any:
    """The module whose `correlate`, `adjoint_x` and `adjoint_w` are asked for.  Raises BackendError."""
    asked = os.environ.get("SCRATCHGEN_CONVOLUTION") or "products"
    if asked == "products":
        return convolution
    if asked != "cudnn":
        raise BackendError(f"SCRATCHGEN_CONVOLUTION={asked}: convolutions are done by products, or by cudnn")
    try:
        from scratchgen.cuda import cudnn
    except (ImportError, RuntimeError) as error:  # no package, or no library for it to call
        raise BackendError(
            "SCRATCHGEN_CONVOLUTION=cudnn, and cuDNN is not found: pip install 'scratchgen[cudnn12x]' or "
            "'scratchgen[cudnn13x]' for your CUDA version, or leave convolutions to products"
        ) from error
    return cudnn


class Products:
    """Matrix products, Einstein's sums and convolutions."""

    precision = FLOAT32
    convolution: Any = convolution

    def product(self, a: Array, b: Array, out: Array, add: bool = False) -> Array:
        """out = a·b, or out += a·b; see `gemm.matmul`."""
        return gemm.matmul(a, b, out, self.precision, add)

    def matmul(self, a: Array, b: Array, out: Array = None) -> Array:
        """np.matmul.  What is not made of float32 or float64 alone is CuPy's business."""
        if a.dtype != b.dtype or (a.dtype.name, self.precision) not in gemm.KINDS or 0 in (a.ndim, b.ndim):
            return cupy.matmul(a, b) if out is None else cupy.matmul(a, b, out=out)
        if a.ndim > 1 and b.ndim > 1:
            return gemm.matmul(a, b, out, self.precision)
        rows, columns = a.reshape(1, -1) if a.ndim == 1 else a, b.reshape(-1, 1) if b.ndim == 1 else b
        y = gemm.matmul(rows, columns, None, self.precision)
        y = y[..., 0] if b.ndim == 1 else y
        y = y[..., 0] if a.ndim == 1 == b.ndim else y[..., 0, :] if a.ndim == 1 else y
        return filled(out, y)

    def einsum(self, subscripts: str, *operands: Array, **options: Any) -> Array:
        """np.einsum; of two operands, by one product of matrices."""
        if len(operands) == 2 and contraction.suits(subscripts, *operands):
            return contraction.einsum(self, subscripts, *operands)
        return cupy.einsum(subscripts, *operands, **options)

    def windows(self, x: Array, kh: int, kw: int, stride: int, frame: Any) -> Array:
        """As `Backend.windows`."""
        found = windows.windows(x, kh, kw, stride, frame)
        return Backend.windows(self, x, kh, kw, stride, frame) if found is None else found  # type: ignore[arg-type]

    def correlate(self, x: Array, w: Array, stride: int, frame: Any, groups: int = 1, out: Array = None) -> Array:
        return self.convolution.correlate(self, x, w, stride, frame, groups, out)

    def correlate_adjoint_x(
        self, h: Array, w: Array, shape: Any, stride: int, frame: Any, groups: int = 1, out: Array = None
    ) -> Array:
        return self.convolution.adjoint_x(self, h, w, shape, stride, frame, groups, out)

    def correlate_adjoint_w(
        self, x: Array, h: Array, shape: Any, stride: int, frame: Any, groups: int = 1, out: Array = None
    ) -> Array:
        return self.convolution.adjoint_w(self, x, h, shape, stride, frame, groups, out)


class In(Products):
    """A backend, its products in another precision."""

    def __init__(self, xp: Any, precision: str) -> None:
        self.xp, self.precision, self.convolution = xp, precision, xp.convolution

    def __getattr__(self, name: str) -> Any:
        return getattr(self.xp, name)


class DeviceLowered(Lowered):
    """`Lowered` to what cuBLAS reads; Einstein's sums, of which some need no product, are of rounded float32."""

    def __init__(self, xp: Any, precision: str) -> None:
        super().__init__(xp, bits if precision == "bf16" else lambda x: x, In(xp, precision))
        self.precision = precision

    def einsum(self, subscripts: str, a: Array, b: Array, **options: Any) -> Array:
        if a.dtype == b.dtype == FLOAT32:
            a, b = (rounded(self.xp, x, precision=self.precision) for x in (a, b))
        return self.xp.einsum(subscripts, a, b, **options)


BITS = """
unsigned int u = __float_as_uint(x);
y = (u & 0x7fffffff) > 0x7f800000 ? (u >> 16) | 0x40 : (u + 0x7fff + ((u >> 16) & 1)) >> 16;
"""
"""`precision.rounded` to bf16, without the 16 bits that are 0; what is no number stays none."""


def bits(x: Array) -> Array:
    """float32 numbers as bfloat16, laid out in memory as they are."""
    return _kernel()(x, cupy.empty_like(x, dtype="uint16"))


def _kernel() -> Any:
    global _bits
    if _bits is None:
        _bits = cupy.ElementwiseKernel("float32 x", "uint16 y", BITS, "scratchgen_bits")
    return _bits


_bits: Any = None
