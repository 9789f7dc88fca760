"""The precision of products: what their operands are rounded to.

    with sg.precision("bf16"):              for a block of code, in this thread
        loss, grads = sg.value_and_grad(f)(w)

    float32    as they are (the default)                          u = 2⁻²⁴
    tf32       to 10 bits after the leading one                   u = 2⁻¹¹
    bf16       to 7 bits after the leading one                    u = 2⁻⁸

Products are matrix products, Einstein's sums and convolutions, and those of their gradients, which are taken in the
precision of the product that they belong to.  Two rounded numbers have an exact product in float32, of 16 or 22 bits,
and products are added in float32; so, operands being rounded to nearest,

    |fl(a·b) − a·b| ≤ (2u + u²)·|a|·|b| + γ_k·(1 + u)²·|a|·|b|       γ_k = k·2⁻²⁴/(1 − k·2⁻²⁴)

element by element, k the number of terms (Higham 2002, §3.1, §3.5).  All else is float32: parameters, sums,
normalisation, softmax, the optimiser; and float64 stays float64.

On an NVIDIA GPU this is faster: the operands are read in that format.  (TF32 is rounded by the GPU itself; NVIDIA does
not say which way, so its u may be 2⁻¹⁰.)  Elsewhere it shows what it does to the numbers, and takes longer.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Literal, get_args

from scratchgen import tracing

Precision = Literal["float32", "tf32", "bf16"]
PRECISIONS: tuple[str, ...] = get_args(Precision)
FLOAT32 = "float32"
DROPPED = {"tf32": 13, "bf16": 16}
"""Bits of a float32 that a format has not: the last of its 23 after the leading one."""

_asked: ContextVar[str] = ContextVar("scratchgen_precision", default=FLOAT32)
asked = _asked.get
"""The precision asked for here."""


@contextmanager
def precision(name: str) -> Iterator[None]:
    """Products in that precision, for a block of code of one thread.  Raises ValueError for an unknown one."""
    if name not in PRECISIONS:
        raise ValueError(f"precision: {name!r} is none of {', '.join(PRECISIONS)}")
    token = _asked.set(name)
    try:
        yield
    finally:
        _asked.reset(token)


@tracing.whole
def rounded(xp: Any, x: Any, out: Any = None, *, precision: str) -> Any:
    """float32 numbers to the nearest of the format, of two equally near to the even one; what is none stays none.

    As whole numbers, the bits of a float32 grow with its size: half of what is dropped is added, less one bit where
    the last bit that stays is 0, and the rest is cut off.  A carry goes into the exponent, as it should, and from
    the largest numbers to ∞.
    """
    dropped = DROPPED[precision]
    bits = x.view("uint32")
    odd = (bits >> dropped) & 1
    nearest = (bits + (odd + ((1 << (dropped - 1)) - 1))) & ((1 << 32) - (1 << dropped))
    return tracing.filled(out, xp.where(xp.isnan(x), x, nearest.view("float32")))


class Lowered:
    """The products of a backend, of operands lowered to a precision: by `lower`, done by `products`.

    float32 operands only; of others they are the backend's own.
    """

    def __init__(self, xp: Any, lower: Any, products: Any) -> None:
        self.xp, self._lower, self._products = xp, lower, products

    def _ways(self, a: Any, b: Any) -> tuple[Any, Any, Any]:
        if a.dtype == b.dtype == FLOAT32:
            return self._products, self._lower(a), self._lower(b)
        return self.xp, a, b

    def matmul(self, a: Any, b: Any) -> Any:
        xp, a, b = self._ways(a, b)
        return xp.matmul(a, b)

    def einsum(self, subscripts: str, a: Any, b: Any, **options: Any) -> Any:
        xp, a, b = self._ways(a, b)
        return xp.einsum(subscripts, a, b, **options)

    def correlate(self, x: Any, w: Any, *how: Any) -> Any:
        xp, x, w = self._ways(x, w)
        return xp.correlate(x, w, *how)

    def correlate_adjoint_x(self, h: Any, w: Any, *how: Any) -> Any:
        xp, h, w = self._ways(h, w)
        return xp.correlate_adjoint_x(h, w, *how)

    def correlate_adjoint_w(self, x: Any, h: Any, *how: Any) -> Any:
        xp, x, h = self._ways(x, h)
        return xp.correlate_adjoint_w(x, h, *how)


def emulated(xp: Any, precision: str) -> Lowered:
    """The products of any backend in that precision, by rounding their operands first."""
    return Lowered(xp, lambda x: rounded(xp, x, precision=precision), xp)
