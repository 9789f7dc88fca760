"""Arrays on an NVIDIA GPU, by CuPy.  Imported only where CuPy is installed and finds a device."""

from __future__ import annotations

from typing import Any

import cupy
import numpy as np
from cupyx.scipy import special

from scratchgen.backend import Array, Backend
from scratchgen.cuda import philox


class CupyBackend(Backend):
    """Arrays on the current CUDA device."""

    name = "cupy"
    on_device = True
    own_noise = "counter"

    def __init__(self) -> None:
        super().__init__(cupy, special)

    def asarray(self, host: Any, dtype: Any = None) -> Array:
        return cupy.asarray(host, dtype=dtype)

    def to_numpy(self, array: Array) -> np.ndarray:
        return cupy.asnumpy(array)

    def noise_stream(self, drawn: int, key: tuple[int, int]) -> Array:
        return philox.stream(drawn, key)

    def noise(
        self, law: str, stream: Array, shape: tuple[int, ...], dtype: Any, bounds: tuple[int, ...] = (),
        out: Array = None,
    ) -> Array:  # fmt: skip
        return philox.draw(law, stream, shape, dtype, bounds, out)
