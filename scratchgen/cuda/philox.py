"""Counter-based noise on the device: launches of the kernels in philox.cu."""

from __future__ import annotations

from math import prod
from typing import Any

import cupy
import numpy as np

from scratchgen.backend import Array
from scratchgen.cuda.kernels import function
from scratchgen.tracing import filled

THREADS = 256
"""Of a thread block; each makes four numbers."""


def _kernel(name: str) -> Any:
    return function("philox.cu", name, options=())


def stream(drawn: int, key: tuple[int, int]) -> Array:
    """`Backend.noise_stream`."""
    made = cupy.empty((4,), np.uint64)
    _kernel("begin")((1,), (1,), (made, np.uint64(drawn), *map(np.uint64, key)))
    return made


def draw(law: str, stream: Array, shape: tuple[int, ...], dtype: Any, bounds: tuple[int, ...], out: Array) -> Array:
    """`Backend.noise`."""
    n, dtype = prod(shape), np.dtype(dtype)
    dense = out if out is not None and out.flags.c_contiguous else cupy.empty(shape, dtype)
    if n:
        grid = -(-n // (4 * THREADS))
        _kernel(f"{law}_{dtype.name}")((grid,), (THREADS,), (stream, dense, np.int64(n), *map(np.int64, bounds)))
    return dense if out is dense else filled(out, dense)
