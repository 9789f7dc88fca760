"""What an array is, and where it lives.

A `Backend` is a namespace with a door in it.  As a namespace it has NumPy's functions, computed by
its own library (`xp.exp`, `xp.sum`, `xp.linalg.solve`, and `erf`, `gammaln`, … of the special functions).
As a door it is the only way in and out: `xp.asarray` brings host data in, `xp.to_numpy` takes it out.

    numpy    arrays in host memory (the default)
    cupy     arrays on an NVIDIA GPU; needs the extra cuda12x or cuda13x, and a device
    strict   NumPy behind the manners of a GPU library: code that would break there breaks here
    auto     cupy where it works, numpy elsewhere

The choice is made once per process (`use`, or the variable SCRATCHGEN_BACKEND), or for a block of one
thread (`with backend("cupy"):`).  An operation never asks which backend is active: it follows its arrays.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np
from scipy import special

from scratchgen import convolution, fastconv, fastmath, philox, transfers
from scratchgen.fused import Fused
from scratchgen.guard import CaptureError, alone
from scratchgen.precision import FLOAT32, emulated
from scratchgen.quicker import Quicker
from scratchgen.tracing import filled

float32 = np.dtype(np.float32)
float64 = np.dtype(np.float64)
int64 = np.dtype(np.int64)
pi, e, inf, nan = np.pi, np.e, np.inf, np.nan

Array = Any
"""An array of any backend; a static type would have to name libraries that may be absent."""
Step = Callable[[list[Array]], list[Array]]
"""A step of some computation: arrays in, arrays out."""
Agree = Callable[[CaptureError | None], None]
"""What is asked after a capture (`guard.alone`)."""


class BackendError(RuntimeError):
    """A backend that cannot be used here; the message is one line that says what to do about it."""


class Backend(Fused):
    """One array library: `xp.name` is its name, every other attribute one of its functions."""

    name = ""
    on_device = False
    """Whether arrays live beyond the host: reading a number then waits for all that was asked before."""
    own_noise = "host"
    """Where training draws its noise unless it is told: the mode of its `random.Generator`."""

    def __init__(self, *modules: Any) -> None:
        self._modules = modules
        self._lowered: dict[str, Any] = {}

    def __getattr__(self, function: str) -> Any:
        for module in self.__dict__.get("_modules", ()):
            found = getattr(module, function, None)
            if found is not None:
                setattr(self, function, found)  # the next look-up is a plain attribute
                return found
        raise AttributeError(f"the {self.name} backend has no function {function!r}")

    def __repr__(self) -> str:
        return f"<backend {self.name}>"

    def __reduce__(self) -> Any:
        return get, (self.name,)  # a copy of a backend is that backend

    def asarray(self, host: Any, dtype: Any = None) -> Array:
        """Host data (numbers, lists, NumPy arrays) as an array of this backend."""
        raise NotImplementedError

    def to_numpy(self, array: Array) -> np.ndarray:
        """The array's values in host memory."""
        raise NotImplementedError

    constant = transfers.constant
    joined = transfers.joined

    def graph(self, step: Step, agree: Agree = alone) -> Step:
        """What replays a step here, to be called in its place, with arrays of the same shapes and dtypes each time.
        Its results may be written to by the next call.  By default the step itself.

        agree: called with what a capture was refused for, or None; the graph is used unless it raises CaptureError."""
        return step

    def saved(self, array: Array) -> Array:
        """What a node may keep of an array that is not its own: a copy, since its owner may write to it."""
        return array.copy()

    def read_only(self, array: Array) -> Array:
        """A view through which nobody can write, where the library knows such a thing."""
        return array

    def window_view(self, x: Array, shape: tuple[int, ...], stride: int) -> Array:
        """The windows (B, H', W', kh, kw, C) of images (B, H, W, C), overlapping in x's own memory."""
        b, h, w, c = x.strides
        strides = (b, h * stride, w * stride, h, w, c)
        return self.lib.stride_tricks.as_strided(x, shape, strides)

    def windows(self, x: Array, kh: int, kw: int, stride: int, frame: Any) -> Array:
        """The windows of framed images, copied, (B, H', W', kh, kw, C)."""
        return convolution.windows(self, convolution.framed(self, x, frame), kh, kw, stride)

    def correlate(self, x: Array, w: Array, stride: int, frame: Any, groups: int = 1, out: Array = None) -> Array:
        """`convolution.correlate`, its result written to `out` if there is one; its two adjoints follow."""
        return filled(out, convolution.correlate(self, x, w, stride, frame, groups))

    def correlate_adjoint_x(
        self, h: Array, w: Array, shape: Any, stride: int, frame: Any, groups: int = 1, out: Array = None
    ) -> Array:
        return filled(out, convolution.adjoint_x(self, h, w, shape, stride, frame, groups))

    def correlate_adjoint_w(
        self, x: Array, h: Array, shape: Any, stride: int, frame: Any, groups: int = 1, out: Array = None
    ) -> Array:
        return filled(out, convolution.adjoint_w(self, x, h, shape, stride, frame, groups))

    def products(self, precision: str) -> Any:
        """`matmul`, `einsum`, `correlate` and its adjoints in a precision (`scratchgen.precision`)."""
        if precision == FLOAT32:
            return self
        if precision not in self._lowered:
            self._lowered[precision] = self.lowered(precision)
        return self._lowered[precision]

    def lowered(self, precision: str) -> Any:
        return emulated(self, precision)

    def noise_stream(self, drawn: int, key: tuple[int, int]) -> Array:
        """The state of a stream of counter-based noise, (4,) uint64: see `philox`."""
        return philox.stream(drawn, key)

    def noise(
        self, law: str, stream: Array, shape: tuple[int, ...], dtype: Any, bounds: tuple[int, ...] = (),
        out: Array = None,
    ) -> Array:  # fmt: skip
        """Numbers of a law of `philox`, and the stream moved on; written to `out` if there is one."""
        return filled(out, philox.draw(law, stream, shape, dtype, *bounds))

    def scatter_add(self, shape: tuple[int, ...], index: Any, values: Array, out: Array | None = None) -> Array:
        """Zeros of `shape` with `values` added at `index`: repeated places receive the sum."""
        if out is None:
            out = self.zeros(shape, values.dtype)
        else:
            out.fill(0)
        if is_basic(index):
            out[index] = values
        else:
            self.add.at(out, index, values)
        return out


class NumpyBackend(Quicker, Backend):
    """Arrays in host memory."""

    name = "numpy"

    def asarray(self, host: Any, dtype: Any = None) -> np.ndarray:
        return np.asarray(host, dtype=dtype)

    def to_numpy(self, array: np.ndarray) -> np.ndarray:
        return np.asarray(array)

    def scatter_add(self, shape: tuple[int, ...], index: Any, values: Any, out: Any = None) -> Any:
        if not fastmath.adds_rows(shape, index, values):
            return super().scatter_add(shape, index, values, out)
        if out is None:
            out = np.zeros(shape, values.dtype)
        else:
            out.fill(0)
        fastmath.add_rows(out, index, values)
        return out

    def saved(self, array: np.ndarray) -> np.ndarray:
        memory: Any = array
        while isinstance(memory, np.ndarray) and not memory.flags.writeable:
            memory = memory.base  # a read-only view may still change with the array that it looks at
        return array if memory is None or isinstance(memory, np.generic) else array.copy()

    def read_only(self, array: np.ndarray) -> np.ndarray:
        view = array.view() if not isinstance(array, np.generic) else np.asarray(array).view()
        view.flags.writeable = False
        return view

    def correlate(self, x: Array, w: Array, stride: int, frame: Any, groups: int = 1, out: Array = None) -> Array:
        if fastconv.suits(x, w, groups):
            return fastconv.correlate(x, w, stride, frame, out)
        return super().correlate(x, w, stride, frame, groups, out)

    def correlate_adjoint_x(
        self, h: Array, w: Array, shape: Any, stride: int, frame: Any, groups: int = 1, out: Array = None
    ) -> Array:
        if fastconv.suits(h, w, groups):
            return fastconv.adjoint_x(h, w, shape, stride, frame, out)
        return super().correlate_adjoint_x(h, w, shape, stride, frame, groups, out)

    def correlate_adjoint_w(
        self, x: Array, h: Array, shape: Any, stride: int, frame: Any, groups: int = 1, out: Array = None
    ) -> Array:
        if fastconv.suits(x, h, groups):
            return fastconv.adjoint_w(x, h, shape, stride, frame, out)
        return super().correlate_adjoint_w(x, h, shape, stride, frame, groups, out)


def is_basic(index: Any) -> bool:
    """Whether an index is made of integers, slices, None and … only: it then names no place twice."""
    parts = index if isinstance(index, tuple) else (index,)
    return all(p is None or p is Ellipsis or isinstance(p, (int, slice, np.integer)) for p in parts)


# --- which backend an array belongs to -----------------------------------------------------------------

_NUMPY_SCALARS = (np.float32, np.float64, np.int64, np.int32, np.bool_, np.float16, np.uint8, np.int8,
                  np.int16, np.uint16, np.uint32, np.uint64, np.complex64, np.complex128)  # fmt: skip
_loaded: dict[str, Backend] = {}
_by_type: dict[type, Backend | None] = {bool: None, int: None, float: None, complex: None}


def register(backend: Backend, *array_types: type) -> Backend:
    """Make a backend known, with the types of its arrays."""
    _loaded[backend.name] = backend
    for array_type in array_types:
        _by_type[array_type] = backend
    return backend


def backend_of(*arrays: Any, operation: str = "operation") -> Backend:
    """The one backend that all arrays belong to; Python numbers belong to any.

    Raises TypeError when two backends are mixed, or when an operand is no array at all.
    """
    found: Backend | None = None
    for array in arrays:
        try:
            owner = _by_type[type(array)]
        except KeyError:
            owner = _unusual(array, operation)
        if owner is not found and owner is not None:
            if found is not None:
                raise TypeError(
                    f"{operation}: arrays of the {found.name} and {owner.name} backends cannot be mixed; "
                    "move one with sg.tensor(...) on the backend you want"
                )
            found = owner
    return found if found is not None else active()


def owns(backend: Backend, x: Any) -> bool:
    """Whether x is an array of a backend; a number is none."""
    return _by_type.get(type(x)) is backend and not isinstance(x, np.generic)


def _unusual(array: Any, operation: str) -> Backend:
    """Other kinds of NumPy arrays: those that compute as plain ones do."""
    if isinstance(array, (np.memmap, np.generic)):
        return register(numpy, type(array))
    raise TypeError(
        f"{operation}: operand of type {type(array).__name__}; operations take tensors, arrays and numbers, "
        "and sg.tensor(...) makes a tensor of anything array-like"
    )


numpy = register(NumpyBackend(np, special), np.ndarray, *_NUMPY_SCALARS)


def _load_cupy() -> Backend:
    advice = "or choose the numpy backend"
    try:
        import cupy

        found = cupy.cuda.is_available()
    except (ImportError, AttributeError) as error:  # without attributes: a folder that a removed CuPy has left
        why = "is not installed" if isinstance(error, ModuleNotFoundError) else "cannot be imported"
        raise BackendError(
            f"CuPy {why}: pip install 'scratchgen[cuda12x]' or 'scratchgen[cuda13x]' for your CUDA version, {advice}"
        ) from error
    if not found:
        raise BackendError(
            f"CuPy {cupy.__version__} is installed but finds no CUDA device: check that nvidia-smi lists "
            f"a GPU and that its driver fits CuPy's CUDA version, {advice}"
        )
    from scratchgen.cuda.backend import CupyBackend

    return register(CupyBackend(), cupy.ndarray)


def _load_strict() -> Backend:
    from scratchgen import strict

    return register(strict.StrictBackend(), strict.StrictArray)


def _load_auto() -> Backend:
    try:
        return get("cupy")
    except BackendError:
        return numpy


_loaders = {"cupy": _load_cupy, "strict": _load_strict, "auto": _load_auto}
BACKENDS = ("numpy", "cupy", "strict", "auto")


def get(name: str) -> Backend:
    """The backend of that name.  Raises BackendError if it is unknown or cannot be used here."""
    if name not in _loaded:
        if name not in _loaders:
            raise BackendError(f"unknown backend {name!r}: choose one of {', '.join(BACKENDS)}")
        return _loaders[name]()
    return _loaded[name]


# --- the active backend: where new arrays are made --------------------------------------------------------

_default: Backend | None = None
_active: ContextVar[Backend | None] = ContextVar("scratchgen_backend", default=None)


def active() -> Backend:
    """The backend on which new arrays are made."""
    global _default
    here = _active.get()
    if here is not None:
        return here
    if _default is None:
        _default = get(os.environ.get("SCRATCHGEN_BACKEND") or "numpy")
    return _default


def use(name: str) -> Backend:
    """Choose the backend of the whole process."""
    global _default
    _default = get(name)
    return _default


@contextmanager
def backend(name: str) -> Iterator[Backend]:
    """Choose the backend for a block of code, in this thread only."""
    token = _active.set(get(name))
    try:
        yield active()
    finally:
        _active.reset(token)
