"""How copies from the host are spared on a device: constants are brought in once, many arrays joined without a table.

They are methods of every backend, xp.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

FEW_ARRAYS = 8
"""Arrays up to which CuPy joins them by copies on the device; of more it copies a table of addresses from the host."""
MANY_CONSTANTS = 4096
"""Constants that a device holds at most; those that it holds are never dropped, a graph may have their addresses."""


def constant(xp: Any, numbers: Any, dtype: Any = None) -> Any:
    """Numbers that a formula holds, in nested lists or tuples, as an array that nobody writes to."""
    if not xp.on_device:
        return xp.asarray(numbers, dtype)
    held: dict[Any, Any] = vars(xp).setdefault("_constants", {})
    key = repr(numbers), str(dtype)  # by repr: True == 1, but a mask is no index
    found = held.get(key)
    if found is None:
        found = xp.asarray(numbers, dtype)
        if len(held) < MANY_CONSTANTS:
            held[key] = found
    return found


def joined(xp: Any, arrays: Sequence[Any], axis: int = 0) -> Any:
    """Arrays one after the other along an axis, however many.  Raises ValueError for shapes that do not fit."""
    if not xp.on_device or len(arrays) <= FEW_ARRAYS or len({x.dtype for x in arrays}) > 1:
        return xp.concatenate(arrays, axis=axis)
    first = arrays[0]
    axis %= first.ndim
    before, after = first.shape[:axis], first.shape[axis + 1 :]
    whole = xp.empty((*before, sum(x.shape[axis] for x in arrays), *after), first.dtype)
    start = 0
    for x in arrays:
        if (x.shape[:axis], x.shape[axis + 1 :]) != (before, after):
            raise ValueError(f"arrays of shapes {first.shape} and {x.shape} cannot be joined along axis {axis}")
        whole[(slice(None),) * axis + (slice(start, start := start + x.shape[axis]),)] = x
    return whole
