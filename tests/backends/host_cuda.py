"""CUDA kernels on the host: their sources compiled by g++, run on NumPy's memory (see `host_cuda.h`).

`RawModule`, `RawKernel` and `ElementwiseKernel` are called as CuPy's are, and are stricter than a driver: an argument
must have the very type of its parameter, and an array is lent with walls on both sides, so that a kernel that writes
beyond it raises, and one that reads beyond it finds NaN.  Kernels run one block after another, a block's threads in
turns; time says nothing here.

A test that comes to a kernel where there is no g++ (or not the processor whose stacks it knows how to switch) skips.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import re
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

import numpy as np
import pytest

HEADER = Path(__file__).with_suffix(".h")
FLAGS = ("-std=c++17", "-O2", "-shared", "-fPIC", "-ffp-contract=off", "-fno-strict-aliasing", "-w",
         "-Wl,-Bsymbolic", "-fno-gnu-unique")  # fmt: skip
WAITING = re.compile(r"__sync|_sync\s*\(")
DYNAMIC = re.compile(r"extern\s+__shared__\s+(?:__align__\(\d+\)\s+)?([\w\s]+?)\s+(\w+)\s*\[\s*\]\s*;")
BOUNDS = r"(?:__launch_bounds__\s*\([^)]*\)\s*)?"
KERNEL = re.compile(rf"__global__\s+{BOUNDS}void\s+{BOUNDS}(\w+)")
SHARED_LIMIT = 48 * 1024
WALL = (np.arange(256, dtype=np.uint32) + 0x7FC00001).view(np.uint8)  # bytes that are NaN as float32 and as float64


class CudaError(RuntimeError):
    """What a device would refuse, or do without saying what."""


def require_compiler() -> str:
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("no g++ here: CUDA kernels cannot be compiled for the host")
    if platform.machine() not in ("x86_64", "AMD64"):
        pytest.skip("the host stand-in for CUDA switches stacks on x86-64 only")
    return compiler


def _gpp(*arguments: str, text: str) -> str:
    done = subprocess.run(
        [require_compiler(), *arguments, "-x", "c++", "-"], input=text, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise CudaError(f"g++ refuses the kernel:\n{done.stderr}")
    return done.stdout


@cache
def compiled(source: str, options: tuple[str, ...] = ()) -> ctypes.CDLL:
    """The library of a source, from the folder of those that were compiled before if it is there."""
    if not source.isascii():
        raise CudaError("the source is not ASCII, and CuPy writes it to a file in the encoding of the machine")
    given = tuple(o for o in options if o.startswith(("-D", "-I")))
    source = DYNAMIC.sub(r"\1* \2 = reinterpret_cast<\1*>(host::dynamic_shared);", source)
    waits = ("-DHOST_CUDA_WAITS",) if WAITING.search(source) else ()
    key = hashlib.sha256("\0".join([source, HEADER.read_text(), *given, *FLAGS]).encode()).hexdigest()
    folder = Path(tempfile.gettempdir()) / f"host-cuda-{os.getuid()}"
    library = folder / f"{key[:32]}.so"
    if not library.exists():
        folder.mkdir(exist_ok=True)
        plain = _gpp("-E", "-P", "-DHOST_CUDA_NAMES", *given, text=source)
        names = dict.fromkeys(KERNEL.findall(plain))
        launchers = "\n".join(f"HOST_CUDA_KERNEL({name})" for name in names)
        text = f'#include "{HEADER}"\n#line 1 "kernel"\n{source}\n{launchers}\n'
        with tempfile.NamedTemporaryFile(dir=folder, suffix=".so", delete=False) as made:
            _gpp(*FLAGS, *waits, *given, "-o", made.name, text=text)
        os.replace(made.name, library)
    return ctypes.PyDLL(str(library))  # which keeps Python's lock: a library runs one grid at a time


class RawModule:
    """`cupy.RawModule`: get_function(name) of a source with `extern "C"` kernels."""

    arrays: tuple[type, ...] = (np.ndarray,)  # what a pointer may be given

    def __init__(self, *, code: str, options: tuple[str, ...] = (), backend: str = "nvrtc", **_others) -> None:
        self.code, self.options = code, tuple(options)

    def get_function(self, name: str) -> RawKernel:
        kernel = RawKernel(self.code, name, self.options)
        kernel.arrays = self.arrays
        return kernel


class RawKernel:
    """`cupy.RawKernel`: kernel(grid, block, args, shared_mem=0)."""

    arrays: tuple[type, ...] = (np.ndarray,)
    max_dynamic_shared_size_bytes = SHARED_LIMIT

    def __init__(self, code: str, name: str, options: tuple[str, ...] = (), backend: str = "nvrtc", **_others) -> None:
        self.code, self.name, self.options = code, name, tuple(options)

    def compile(self) -> None:
        library = compiled(self.code, self.options)
        if not hasattr(library, f"launch_{self.name}"):
            raise CudaError(f"the source has no kernel {self.name!r}")

    def __call__(self, grid, block, args, *, shared_mem: int = 0) -> None:
        self.compile()
        grid, block = _dimensions(grid), _dimensions(block)
        _check_sizes(self, grid, block, shared_mem)
        library = compiled(self.code, self.options)
        describe, launch = getattr(library, f"signature_of_{self.name}"), getattr(library, f"launch_{self.name}")
        describe.restype = launch.restype = ctypes.c_char_p
        kinds = describe().decode().split()
        if len(kinds) != len(args):
            raise CudaError(f"{self.name}: {len(args)} arguments for {len(kinds)} parameters")
        lent = Lent([_host(x) for x in args if isinstance(x, self.arrays)])
        values = [self._value(i, x, kind, lent) for i, (x, kind) in enumerate(zip(args, kinds, strict=True))]
        pointers = (ctypes.c_void_p * len(values))(*[v.ctypes.data for v in values])
        triple = ctypes.c_uint * 4
        said = launch(triple(*grid, shared_mem), triple(*block, 0), pointers)
        lent.back(self.name)
        if said is not None:
            raise CudaError(f"{self.name}: {said.decode()}")

    def _value(self, i: int, x, kind: str, lent: Lent) -> np.ndarray:
        """An argument in memory, as it would be handed over."""
        if isinstance(x, self.arrays):
            given = f"*{_kind(x.dtype)}"
            value = np.array(lent.address(_host(x)), np.uint64)
            fits = kind in (given, "*V")
        else:
            value = _number(i, x)
            given = _kind(value.dtype)
            fits = given == kind or (kind.startswith("*") and given in ("i8", "u8"))
        if not fits:
            raise CudaError(f"{self.name}: argument {i} is {given}, the parameter {kind}")
        return value


def _number(i: int, x) -> np.ndarray:
    """A number as CuPy hands it over: Python's with 8 bytes, NumPy's with their own, an array of one too."""
    if isinstance(x, (bool, np.generic)) or (isinstance(x, np.ndarray) and x.size == 1):
        return np.array(x)
    if isinstance(x, int):
        return np.array(x, np.int64)
    if isinstance(x, float):
        return np.array(x, np.float64)
    raise TypeError(f"argument {i}: a {type(x).__name__} cannot be handed to a kernel")


def _kind(dtype: np.dtype) -> str:
    return dtype.kind.replace("c", "V") + str(dtype.itemsize)


def _host(x) -> np.ndarray:
    return x if isinstance(x, np.ndarray) else x._a


def _dimensions(given) -> tuple[int, int, int]:
    given = (given,) if isinstance(given, int) else tuple(given)
    return (*given, 1, 1, 1)[:3]


def _check_sizes(kernel: RawKernel, grid, block, shared: int) -> None:
    """The limits of all devices since 2012."""
    threads = block[0] * block[1] * block[2]
    if not (0 < threads <= 1024 and min(block) > 0 and block[2] <= 64):
        raise CudaError(f"{kernel.name}: a block of {block} threads")
    if not (0 < grid[0] < 2**31 and 0 < grid[1] < 2**16 and 0 < grid[2] < 2**16):
        raise CudaError(f"{kernel.name}: a grid of {grid} blocks")
    if shared > kernel.max_dynamic_shared_size_bytes:
        raise CudaError(f"{kernel.name}: {shared} bytes of shared memory, {SHARED_LIMIT} unless it asks for more")


class Lent:
    """Arrays lent to a kernel: their memory, copied to between two walls.  Arrays that overlap stay together."""

    def __init__(self, arrays: list[np.ndarray]) -> None:
        bounds = sorted(np.lib.array_utils.byte_bounds(a) for a in arrays if a.size)
        self.regions: list[tuple[int, int, np.ndarray]] = []
        while bounds:
            low, high = bounds.pop(0)
            while bounds and bounds[0][0] < high:
                high = max(high, bounds.pop(0)[1])
            size = len(WALL) + high - low + len(WALL)
            memory = np.empty(size + 64, np.uint8)
            shift = (low - memory.ctypes.data - len(WALL)) % 64
            walled = memory[shift : shift + size]  # aligned as it was
            walled[: len(WALL)] = walled[-len(WALL) :] = WALL
            walled[len(WALL) : -len(WALL)] = _memory(low, high)
            self.regions.append((low, high, walled))

    def address(self, array: np.ndarray) -> int:
        place = array.__array_interface__["data"][0]
        for low, high, walled in self.regions:
            if low <= place < high:
                return walled.ctypes.data + len(WALL) + place - low
        return 0  # an empty array: nobody may look

    def back(self, name: str) -> None:
        """What the kernel wrote, to where it belongs.  Raises CudaError if a wall was hit."""
        for low, high, walled in self.regions:
            before, inside, after = np.split(walled, [len(WALL), walled.size - len(WALL)])
            if not (np.array_equal(before, WALL) and np.array_equal(after, WALL)):
                raise CudaError(f"{name} writes beyond an array")
            there = _memory(low, high)
            if not np.array_equal(there, inside):
                there[...] = inside


def _memory(low: int, high: int) -> np.ndarray:
    return np.frombuffer((ctypes.c_uint8 * (high - low)).from_address(low), np.uint8)


class ElementwiseKernel:
    """`cupy.ElementwiseKernel`: an operation for each place of arrays that broadcast.  A capital letter as a type is
    taken from the arrays that have it; `raw` arguments are indexed by the operation, whose own place is `i`.
    """

    array: type = np.ndarray

    def __init__(
        self, in_params: str, out_params: str, operation: str, name: str = "kernel", *_others,
        preamble: str = "", loop_prep: str = "", after_loop: str = "", options: tuple[str, ...] = (), **_more,
    ) -> None:  # fmt: skip
        self.ins, self.outs = _parameters(in_params), _parameters(out_params)
        self.operation, self.name, self.options = operation, name, tuple(options)
        self.preamble, self.before, self.after = preamble, loop_prep, after_loop
        self.kernels: dict[tuple[str, ...], RawKernel] = {}

    def __call__(self, *args, size: int | None = None):
        if len(args) not in (len(self.ins), len(self.ins) + len(self.outs)):
            raise TypeError(f"{self.name}: {len(args)} arguments for {len(self.ins)} + {len(self.outs)}")
        parameters = self.ins + self.outs
        types = self._types(args)
        given = [_host(x) if isinstance(x, self.array) else x for x in args]
        cooked = [x.shape for x, p in zip(given, parameters, strict=False) if not p.raw and isinstance(x, np.ndarray)]
        shape = (size,) if size is not None and not cooked else np.broadcast_shapes(*cooked)
        given += [np.empty(shape, types[p.type]) for p in self.outs[len(given) - len(self.ins) :]]
        arrays = []
        for x, p in zip(given, parameters, strict=True):
            x = np.asarray(x, types[p.type]) if not isinstance(x, np.ndarray) else x
            if x.dtype != types[p.type]:
                raise TypeError(f"{self.name}: {p.name} is {x.dtype}, not {types[p.type]}")
            arrays.append(np.array(x if p.raw else np.broadcast_to(x, shape), order="C"))
        n = int(np.prod(shape, dtype=np.int64))
        if n:
            self._kernel(types)((-(-n // 128),), (128,), (n, *arrays))
        for x, copy in zip(given[len(self.ins) :], arrays[len(self.ins) :], strict=True):
            x[...] = copy
        found = [
            x if self.array is np.ndarray else self.array(x) for x in given[len(self.ins) :]
        ] if len(args) == len(self.ins) else list(args[len(self.ins) :])
        return found[0] if len(found) == 1 else tuple(found)

    def _types(self, args) -> dict[str, np.dtype]:
        types: dict[str, np.dtype] = {}
        given = list(zip(args, self.ins + self.outs, strict=False))
        for x, p in sorted(given, key=lambda pair: not isinstance(pair[0], self.array)):
            if len(p.type) > 1:
                types[p.type] = np.dtype(NAMED[p.type])
            elif p.type not in types:
                types[p.type] = x.dtype if hasattr(x, "dtype") else np.asarray(x).dtype
        types.update({p.type: np.dtype(NAMED[p.type]) for p in self.outs if len(p.type) > 1})
        return types

    def _kernel(self, types: dict[str, np.dtype]) -> RawKernel:
        key = tuple(f"{name} {dtype}" for name, dtype in sorted(types.items()))
        if key not in self.kernels:
            named = "\n".join(f"typedef {C_NAMES[t.name]} {n};" for n, t in types.items() if n != C_NAMES[t.name])
            pointers = "".join(f", {p.type}* {p.name}_of" for p in self.ins + self.outs)
            places = "".join(map(self._place, self.ins + self.outs))
            code = f"""
                {named}
                {self.preamble}
                struct Indexer {{ long long n; __device__ long long size() const {{ return n; }} }};
                extern "C" __global__ void {self.name}(long long n_places{pointers}) {{
                    Indexer _ind = {{n_places}};
                    {self.before};
                    long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x;
                    if (i < n_places) {{ {places} {self.operation}; }}
                    {self.after};
                }}"""
            self.kernels[key] = RawKernel(code, self.name, self.options)
        return self.kernels[key]

    def _place(self, p: _Parameter) -> str:
        """What the operation calls by the parameter's name."""
        if p.raw:
            return f"{p.type}* {p.name} = {p.name}_of; "
        kind = f"{p.type}&" if p in self.outs else f"const {p.type}"
        return f"{kind} {p.name} = {p.name}_of[i]; "


class _Parameter:
    def __init__(self, text: str) -> None:
        words = text.split()
        self.raw = "raw" in words
        self.type, self.name = words[-2:]


def _parameters(text: str) -> list[_Parameter]:
    return [_Parameter(part) for part in text.split(",") if part.strip()]


C_NAMES = {
    "bool": "bool", "int8": "signed char", "uint8": "unsigned char", "int16": "short",
    "uint16": "unsigned short", "int32": "int", "uint32": "unsigned int",
    "int64": "long long", "uint64": "unsigned long long", "float32": "float", "float64": "double",
}  # fmt: skip
NAMED = {**{name: name for name in C_NAMES}, **{c: name for name, c in C_NAMES.items() if " " not in c}}
