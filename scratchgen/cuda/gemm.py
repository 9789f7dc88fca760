"""Products of arrays by cuBLAS, called directly: what `layout` plans, on CuPy's arrays and its current stream.

CuPy's own products copy what does not lie in one piece, ignore a precision asked for, and are refused while a CUDA
graph is captured.  Here an operand is copied only if cuBLAS cannot read it where it lies, the precision is chosen per
call, and all that a capture forbids is done once per thread, device and stream, before: run a step once on the
stream that will capture it.  (CuPy's factorisations cannot be captured, but for the small ones of `cuda.linalg`; nor
can `@` of its arrays: xp.matmul is what comes here.)  What is said of cuBLAS is what NVIDIA's documentation says of it.

    dtype, precision            cuBLAS reads      multiplies in       adds in
    float64, any                float64           float64             float64
    float32, "float32"          float32           float32             float32
    float32, "tf32"             float32           TF32, 10 bits       float32
    uint16, "bf16"              bfloat16          exactly             float32, and that is the result's type
"""

from __future__ import annotations

import ctypes
import ctypes.util
from collections.abc import Iterator
from contextlib import suppress
from ctypes import c_double, c_float, c_int, c_int64, c_size_t, c_void_p
from functools import cache
from typing import Any, NamedTuple

import cupy

from scratchgen.backend import BackendError
from scratchgen.cuda.handles import Handles
from scratchgen.cuda.layout import Copy, Gemm, View, broadcast, plan

WORKSPACE = 32 << 20
"""Bytes of memory for cuBLAS to work in, for each stream: what NVIDIA advises for Hopper."""
R_32F, R_64F, R_16BF = 0, 1, 14  # cudaDataType
COMPUTE_32F, COMPUTE_64F, COMPUTE_32F_FAST_TF32 = 68, 70, 77  # cublasComputeType_t
DEFAULT_ALGORITHM = -1
STATUS = {1: "NOT_INITIALIZED", 3: "ALLOC_FAILED", 7: "INVALID_VALUE", 8: "ARCH_MISMATCH", 11: "MAPPING_ERROR",
          13: "EXECUTION_FAILED", 14: "INTERNAL_ERROR", 15: "NOT_SUPPORTED", 16: "LICENSE_ERROR"}  # fmt: skip


class Kind(NamedTuple):
    """The types of a product: of what is read, of the result, of the arithmetic; and 0 and 1 in that arithmetic."""

    read: int
    made: int
    result: str
    compute: int
    scalars: tuple[Any, Any]


FLOATS, DOUBLES = (c_float(0), c_float(1)), (c_double(0), c_double(1))
KINDS = {
    ("float32", "float32"): Kind(R_32F, R_32F, "float32", COMPUTE_32F, FLOATS),
    ("float32", "tf32"): Kind(R_32F, R_32F, "float32", COMPUTE_32F_FAST_TF32, FLOATS),
    ("uint16", "bf16"): Kind(R_16BF, R_32F, "float32", COMPUTE_32F, FLOATS),
    **{("float64", precision): Kind(R_64F, R_64F, "float64", COMPUTE_64F, DOUBLES)
       for precision in ("float32", "tf32", "bf16")},
}  # fmt: skip


def matmul(a: Any, b: Any, out: Any = None, precision: str = "float32", add: bool = False) -> Any:
    """out = a·b, or with `add` out += a·b; a new array without `out`.

    a: (…, m, k).  b: (…, k, n).  out: (…, m, n); batches are broadcast.  All of one dtype, as in the table above.
    Raises ValueError for shapes that do not fit, BackendError for what cuBLAS reports.
    """
    kind = KINDS[a.dtype.name, precision]
    if a.dtype != b.dtype:
        raise ValueError(f"matmul: operands of {a.dtype} and {b.dtype}")
    if out is None:
        shape = (*broadcast(a.shape[:-2], b.shape[:-2]), a.shape[-2], b.shape[-1])
        out, add = cupy.empty(shape, kind.result), False
    if out.dtype != kind.result:
        raise ValueError(f"matmul: the result is {kind.result}, out is {out.dtype}")
    if out.size == 0 or a.size == 0:
        if a.shape[-1] != b.shape[-2]:
            raise ValueError(f"matmul: shapes {a.shape} and {b.shape} do not fit")
        if not add:
            out.fill(0)
        return out
    found = plan(*map(view, (a, b, out)))
    if isinstance(found, Copy):
        a = once(a) if "a" in found.names else a
        b = once(b) if "b" in found.names else b
        if "out" not in found.names:
            return matmul(a, b, out, precision, add)
        product = matmul(a, b, None, precision)
        out[...] = out + product if add else product
        return out
    call(found, a, b, out, kind, add)
    return out


def view(x: Any) -> View:
    return View(x.shape, tuple(step // x.dtype.itemsize for step in x.strides))


def once(x: Any) -> Any:
    """A copy in one piece, without the repetitions of a broadcast batch."""
    batch = (slice(0, 1) if step == 0 else slice(None) for step in x.strides[:-2])
    return x[(*batch, ...)].copy()


def call(gemm: Gemm, a: Any, b: Any, out: Any, kind: Kind, add: bool) -> None:
    """Hand it to cuBLAS, on CuPy's current stream."""
    cublas = current()
    one, two = (b, a) if gemm.exchanged else (a, b)
    size, whole = a.dtype.itemsize, out.dtype.itemsize
    zero, unit = kind.scalars
    beta = unit if add else zero
    for i, j, to in gemm.offsets:
        left, right, made = one.data.ptr + i * size, two.data.ptr + j * size, out.data.ptr + to * whole
        if gemm.batch == 1:
            cublas("cublasGemmEx_64", gemm.transa, gemm.transb, gemm.m, gemm.n, gemm.k, ctypes.byref(unit),
                   left, kind.read, gemm.lda, right, kind.read, gemm.ldb, ctypes.byref(beta),
                   made, kind.made, gemm.ldc, kind.compute, DEFAULT_ALGORITHM)
        else:
            cublas("cublasGemmStridedBatchedEx_64", gemm.transa, gemm.transb, gemm.m, gemm.n, gemm.k,
                   ctypes.byref(unit), left, kind.read, gemm.lda, gemm.stride_a, right, kind.read, gemm.ldb,
                   gemm.stride_b, ctypes.byref(beta), made, kind.made, gemm.ldc, gemm.stride_c, gemm.batch,
                   kind.compute, DEFAULT_ALGORITHM)


# --- the library --------------------------------------------------------------------------------------------

_matrix = (c_void_p, c_int, c_int64)  # where, type, ld
_sizes = (c_void_p, c_int, c_int, c_int64, c_int64, c_int64, c_void_p)  # handle, both transposed?, m, n, k, alpha
SIGNATURES: dict[str, tuple[Any, ...]] = {
    "cublasCreate_v2": (c_void_p,),
    "cublasSetStream_v2": (c_void_p, c_void_p),
    "cublasSetWorkspace_v2": (c_void_p, c_void_p, c_size_t),
    "cublasGemmEx_64": (*_sizes, *_matrix, *_matrix, c_void_p, *_matrix, c_int, c_int),
    "cublasGemmStridedBatchedEx_64": (*_sizes, *_matrix, c_int64, *_matrix, c_int64, c_void_p, *_matrix, c_int64,
                                      c_int64, c_int, c_int),
}  # fmt: skip


@cache
def library() -> Any:
    return load()


def load() -> Any:
    """libcublas, the one that CuPy uses, its functions with their types.  Raises BackendError if there is none."""
    found = None
    for name in names():
        try:
            found = ctypes.CDLL(name)
            break
        except OSError:
            continue
    if found is None:
        raise BackendError("libcublas is not found: install CuPy with its CUDA libraries, cupy-cuda13x[ctk], "
                           "or choose the numpy backend")
    for name, types in SIGNATURES.items():
        getattr(found, name).argtypes = types
    return found


def names() -> Iterator[str]:
    """Where libcublas may be: where CuPy's own helper finds it, and what the linker knows, which takes it a second."""
    with suppress(ImportError, RuntimeError):
        from cuda import pathfinder  # CuPy 14 depends on it, CuPy 13 does not know it

        yield str(pathfinder.load_nvidia_dynamic_lib("cublas").abs_path)
    yield f"libcublas.so.{cupy.cuda.runtime.runtimeGetVersion() // 1000}"
    if linked := ctypes.util.find_library("cublas"):
        yield linked


class Cublas:
    """A handle of cuBLAS, of one thread on one device, and its workspaces."""

    def __init__(self) -> None:
        self.library = library()
        self.handle = c_void_p()
        self.stream: int | None = None
        self.workspaces: dict[int, Any] = {}
        self._check("cublasCreate_v2", self.library.cublasCreate_v2(ctypes.byref(self.handle)))

    def __call__(self, function: str, *arguments: Any) -> None:
        self._check(function, getattr(self.library, function)(self.handle, *arguments))

    def follow(self, stream: int) -> None:
        """Work on that stream from now on, in memory of its own: two streams may run at one time.

        Setting a stream makes cuBLAS forget the workspace.
        """
        if stream != self.stream:
            if stream not in self.workspaces:
                self.workspaces[stream] = cupy.cuda.Memory(WORKSPACE)
            self.stream = None
            self("cublasSetStream_v2", stream)
            self("cublasSetWorkspace_v2", self.workspaces[stream].ptr, WORKSPACE)
            self.stream = stream

    def _check(self, function: str, status: int) -> None:
        if status:
            raise BackendError(f"{function}: cuBLAS reports {STATUS.get(status, 'an error')} ({status})")


_handles = Handles(Cublas)


def workspace(stream: int) -> Any:
    """The memory in which this thread's products on a stream of the current device work; None if there were none."""
    cublas = _handles.existing()
    return None if cublas is None else cublas.workspaces.get(stream)


def current() -> Cublas:
    """This thread's cuBLAS for the current device, on the current stream."""
    return _handles.current()
