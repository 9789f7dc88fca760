"""Arrays joined by one launch for every 64 of them, where CuPy takes one for each, or a table copied from the host.

A gradient on the flat buffer is joined of as many parts as a network has parameters.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import cupy
import numpy as np

from scratchgen.cuda.kernels import function

AT_ONCE = 64
PARTS = np.dtype([("from", np.uint64, AT_ONCE), ("start", np.int64, AT_ONCE + 1)])
"""As joined.cu has it."""
THREADS, BLOCKS = 256, 4096


def _kernel(itemsize: int) -> Any:
    return function("joined.cu", f"join_{itemsize}")


def suits(arrays: Sequence[Any], axis: int) -> bool:
    """Whether the numbers of the result are theirs, one array after the other: along the first axis, without gaps."""
    first = arrays[0]
    return first.ndim > 0 and axis % first.ndim == 0 and first.itemsize in (1, 2, 4, 8) and all(
        x.dtype == first.dtype and x.shape[1:] == first.shape[1:] and x.ndim and x.flags.c_contiguous for x in arrays)


def joined(arrays: Sequence[Any]) -> Any:
    """Arrays that suit, along their first axis."""
    first, starts = arrays[0], [0, *accumulate(x.size for x in arrays)]
    whole = cupy.empty((sum(len(x) for x in arrays), *first.shape[1:]), first.dtype)
    for k in range(0, len(arrays), AT_ONCE):
        some, ends = arrays[k : k + AT_ONCE], starts[k : k + AT_ONCE + 1]
        if n := ends[-1] - ends[0]:
            parts = np.zeros((), PARTS)
            parts["from"][: len(some)] = [x.data.ptr for x in some]
            parts["start"] = ends + ends[-1:] * (AT_ONCE + 1 - len(ends))
            _kernel(first.itemsize)((min(-(-n // THREADS), BLOCKS),), (THREADS,), (parts, whole))
    return whole
