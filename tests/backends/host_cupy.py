"""A CuPy made of NumPy: the module's surface, its arrays those of the strict backend, its kernels run by `host_cuda`.

The fixture `cupy` (tests/conftest.py) gives the CuPy backend on it, in any test.  Streams and events are names that do
nothing: everything is done when it is asked for.
"""

from __future__ import annotations

import importlib.util
import sys
import types

import host_cublas
import host_cuda
import numpy as np

from scratchgen.backend import get

backend = sys.modules["scratchgen.backend"]  # `scratchgen.backend` is the context manager
DTYPES = "bool_ int8 uint8 int16 uint16 int32 uint32 int64 uint64 float16 float32 float64"


def bare(device: bool) -> types.ModuleType:
    """As much of CuPy as tells whether there is a device."""
    cupy = types.ModuleType("cupy")
    cupy.__version__ = "14.2.0"
    cupy.cuda = types.SimpleNamespace(is_available=lambda: device)
    return cupy


def strict_module() -> types.ModuleType:
    """Another copy of `scratchgen.strict`, whose arrays are CuPy's and not the strict backend's."""
    path = importlib.util.find_spec("scratchgen.strict").origin
    spec = importlib.util.spec_from_file_location("strict_as_cupy", path)
    strict = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(strict)
    array = strict.StrictArray
    array.__name__ = array.__qualname__ = "ndarray"
    array.strides = property(lambda self: self._a.strides)
    array.itemsize = property(lambda self: self._a.itemsize)
    array.flags = property(lambda self: self._a.flags)
    array.data = property(lambda self: types.SimpleNamespace(ptr=self._a.__array_interface__["data"][0]))
    array.get = lambda self: self._a.copy()
    return strict


def module() -> types.ModuleType:
    """A `cupy` whose device is the host."""
    strict = strict_module()
    library, array = strict.StrictBackend(), strict.StrictArray
    fake = bare(device=True)
    fake.ndarray = array
    fake.asarray = library.asarray
    fake.asnumpy = library.to_numpy
    fake.from_dlpack = lambda x: array(np.from_dlpack(x))
    fake.lib = types.SimpleNamespace(
        stride_tricks=types.SimpleNamespace(as_strided=lambda x, *a: array(np.lib.stride_tricks.as_strided(x._a, *a)))
    )
    fake.random = types.SimpleNamespace(default_rng=lambda seed: Device(np.random.default_rng(seed), array))
    fake.linalg, fake.add = library.linalg, library.add
    for name in DTYPES.split():
        setattr(fake, name, getattr(np, name))
    fake.RawModule = type("RawModule", (host_cuda.RawModule,), {"arrays": (array,)})
    fake.RawKernel = type("RawKernel", (host_cuda.RawKernel,), {"arrays": (array,)})
    fake.ElementwiseKernel = type("ElementwiseKernel", (host_cuda.ElementwiseKernel,), {"array": array})
    vars(fake.cuda).update(
        Stream=Stream, Event=Event, Device=lambda _=0: types.SimpleNamespace(synchronize=lambda: None, id=0),
        get_current_stream=Stream, Memory=lambda size: types.SimpleNamespace(ptr=1 << 20, size=size),
        MemoryPointer=lambda memory, offset: types.SimpleNamespace(mem=memory, ptr=memory.ptr + offset),
        runtime=types.SimpleNamespace(getDevice=lambda: 0, runtimeGetVersion=lambda: 13020),
    )  # fmt: skip
    fake.__getattr__ = lambda name: getattr(library, name)
    return fake


class Stream:
    """`cupy.cuda.Stream`."""

    ptr = 0

    def __init__(self, null: bool = False, non_blocking: bool = False) -> None:
        pass

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *_) -> None:
        pass

    def synchronize(self) -> None:
        pass


class Event:
    """`cupy.cuda.Event`."""

    def record(self, stream: Stream | None = None) -> None:
        pass

    def synchronize(self) -> None:
        pass


class Device:
    """CuPy's generator: NumPy's methods, device arrays."""

    def __init__(self, host, array):
        self.host, self.array = host, array

    def __getattr__(self, name):
        return lambda *args, **kwargs: self.array(np.asarray(getattr(self.host, name)(*args, **kwargs)))


def installed(monkeypatch):
    """The CuPy backend, on `module()`, in a process that had not chosen a backend; a fixture's body."""
    monkeypatch.setattr(backend, "_default", None)
    monkeypatch.delitem(backend._loaded, "cupy", raising=False)
    monkeypatch.delenv("SCRATCHGEN_BACKEND", raising=False)
    fake = module()
    special = types.ModuleType("cupyx.scipy.special")
    special.__getattr__ = fake.__getattr__
    scipy = types.ModuleType("cupyx.scipy")
    scipy.special = special
    for name, found in {
        "cupy": fake,
        "cupyx": types.ModuleType("cupyx"),
        "cupyx.scipy": scipy,
        "cupyx.scipy.special": special,
    }.items():
        monkeypatch.setitem(sys.modules, name, found)
    try:
        xp = get("cupy")
        xp.libcublas = host_cublas.Library()
        monkeypatch.setattr(sys.modules["scratchgen.cuda.gemm"], "library", lambda: xp.libcublas)
        yield xp
    finally:
        for name in [name for name in sys.modules if name.startswith("scratchgen.cuda")]:
            del sys.modules[name]
        backend._loaded.pop("cupy", None)
        backend._by_type.pop(fake.ndarray, None)
