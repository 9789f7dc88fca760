"""A noise level or a time: one number for a whole batch, or one for each example."""

from __future__ import annotations

from typing import Any

from scratchgen import ops
from scratchgen.backend import Array, active, float64


def meet(c: Any, x: Array, ndim: int | None = None) -> Any:
    """A coefficient, a number or one per example (B,), rounded to the precision of x and shaped (B, 1, …) to meet it.

    ndim: how many axes the result has, x's by default.  With more than x has, a row gives x an axis of examples.
    Raises ValueError if c is neither one number nor a row, or the row's length is not that of x's axis of examples.
    """
    if type(c) in (int, float):
        return c
    c = ops.astype(c, x.dtype)
    if c.ndim > 1:
        raise ValueError(f"a noise level or time should be a number, or one per example (B,), not {c.shape}")
    axes = ndim or x.ndim
    if c.ndim and axes == x.ndim and c.shape != x.shape[:1]:
        raise ValueError(f"a noise level or time should be one per example {x.shape[:1]}, not {c.shape}")
    return ops.reshape(c, (-1,) + (1,) * (axes - 1)) if c.ndim else c


def time(t: Any) -> Any:
    """t as an array of float64 on the active backend where it is a Python number; an array as it is."""
    return active().asarray(t, float64) if type(t) in (int, float) else t
