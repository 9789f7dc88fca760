"""Arrays on an NVIDIA GPU, by CuPy.  Imported only where CuPy is installed and finds a device."""

from __future__ import annotations

from typing import Any

import cupy
import numpy as np
from cupyx.scipy import special

from scratchgen.backend import Array, Backend
from scratchgen.cuda.linalg import Linalg


class CupyBackend(Backend):
    """Arrays on the current CUDA device."""

    name = "cupy"
    on_device = True

    def __init__(self) -> None:
        super().__init__(cupy, special)
        self.linalg = Linalg()

    def asarray(self, host: Any, dtype: Any = None) -> Array:
        return cupy.asarray(host, dtype=dtype)

    def to_numpy(self, array: Array) -> np.ndarray:
        return cupy.asnumpy(array)
