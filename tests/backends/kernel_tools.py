"""What the tests of kernels share: compiling CUDA sources for a device that is not there, and counting bytes."""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import special

from scratchgen.fused import Fused


def nvrtc_library():
    """NVIDIA's run-time compiler, which needs no device; skips where it is not installed."""
    found = [f for p in sys.path for f in sorted(Path(p).glob("nvidia/*/lib/libnvrtc.so.1[0-9]"))]
    if not found:
        pytest.skip("no nvidia-cuda-nvrtc here: whether the sources are CUDA cannot be told")
    return ctypes.CDLL(str(found[0]))


BY_CUPY = b"-ftz=true", b"--device-as-default-execution-space"
"""Options that CuPy 14 adds to those that it is given."""


def compiled_by_nvrtc(code: str, *options: str) -> str:
    """The compiler's errors: none, if a source is right."""
    library, program, size = nvrtc_library(), ctypes.c_void_p(), ctypes.c_size_t()
    library.nvrtcCreateProgram(ctypes.byref(program), code.encode(), b"kernel.cu", 0, None, None)
    given = [b"--gpu-architecture=sm_90", *BY_CUPY, *(o.encode() for o in options)]
    failed = library.nvrtcCompileProgram(program, len(given), (ctypes.c_char_p * len(given))(*given))
    library.nvrtcGetProgramLogSize(program, ctypes.byref(size))
    log = ctypes.create_string_buffer(size.value)
    library.nvrtcGetProgramLog(program, log)
    library.nvrtcDestroyProgram(ctypes.byref(program))
    return log.value.decode() if failed else ""


class Counted(np.lib.mixins.NDArrayOperatorsMixin):
    """An array that counts calls, and the arrays of its size that they read and write."""

    def __init__(self, array, book):
        self.array, self.book = array, book

    shape = property(lambda self: self.array.shape)
    dtype = property(lambda self: self.array.dtype)

    def _note(self, result, *read):
        moved = sum(np.size(x) == self.book["size"] for x in (*read, result))
        self.book["moves"] += moved
        self.book["calls"] += moved > 0
        return Counted(result, self.book)

    def __array_ufunc__(self, ufunc, method, *inputs, out=None, **options):
        raw = [x.array if isinstance(x, Counted) else x for x in inputs]
        if out is not None:
            options["out"] = out[0].array
        return self._note(getattr(ufunc, method)(*raw, **options), *raw)

    def reduced(self, function, **options):
        return self._note(function(self.array, **options), self.array)

    def max(self, **options):
        return self.reduced(np.max, **options)


class Counting(Fused):
    """The plain compositions, on counted arrays."""

    def __getattr__(self, name):
        return getattr(np, name, None) or getattr(special, name)

    def sum(self, x, **options):
        return x.reduced(np.sum, **options)

    def mean(self, x, **options):
        return x.reduced(np.mean, **options)


def moves(name: str, arrays: int, *settings) -> tuple[int, int]:
    """Arrays read and written, and calls made, by a plain composition on arrays (8, 16)."""
    book = {"moves": 0, "calls": 0, "size": 128}
    rng = np.random.default_rng(0)
    given = [Counted(rng.random((8, 16)) + 0.1, book) for _ in range(arrays)]
    if name == "standardise_adjoint":
        given.append(Counted(np.ones((8, 1)), book))
    getattr(Counting(), name)(*given, *settings)
    return book["moves"], book["calls"]
