"""Arrays on an NVIDIA GPU, by CuPy.  Imported only where CuPy is installed and finds a device."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cupy
import numpy as np
from cupyx.scipy import special

from scratchgen import guard, transfers
from scratchgen.backend import Agree, Array, Backend, Step
from scratchgen.cuda import joined, philox
from scratchgen.cuda.graph import Graph
from scratchgen.cuda.kernels import Kernels
from scratchgen.cuda.linalg import Linalg
from scratchgen.cuda.products import DeviceLowered, Products, convolutions


class CupyBackend(Kernels, Products, Backend):
    """Arrays on the current CUDA device."""

    name = "cupy"
    on_device = True
    own_noise = "counter"

    def __init__(self) -> None:
        super().__init__(cupy, special)
        self.linalg = Linalg()
        self.convolution = convolutions()

    def asarray(self, host: Any, dtype: Any = None) -> Array:
        if guard.listening() and not isinstance(host, cupy.ndarray) and np.ndim(host):
            guard.crossing(guard.IN, "asarray of host data", np.asarray(host).nbytes, "bring it in before the step")
        return cupy.asarray(host, dtype=dtype)

    def to_numpy(self, array: Array) -> np.ndarray:
        if guard.listening() and isinstance(array, cupy.ndarray):
            guard.crossing(guard.OUT, "to_numpy", array.nbytes, "take results out after the step")
        return cupy.asnumpy(array)

    def lowered(self, precision: str) -> Any:
        return DeviceLowered(self, precision)

    def joined(self, arrays: Sequence[Array], axis: int = 0) -> Array:
        """As `transfers.joined`."""
        return joined.joined(arrays) if joined.suits(arrays, axis) else transfers.joined(self, arrays, axis)

    def graph(self, step: Step, agree: Agree = guard.alone) -> Step:
        return Graph(step, agree)

    def noise_stream(self, drawn: int, key: tuple[int, int]) -> Array:
        return philox.stream(drawn, key)

    def noise(
        self, law: str, stream: Array, shape: tuple[int, ...], dtype: Any, bounds: tuple[int, ...] = (),
        out: Array = None,
    ) -> Array:  # fmt: skip
        return philox.draw(law, stream, shape, dtype, bounds, out)
