"""What crosses between host and device, and what a CUDA graph cannot hold: the strict backend's arrays tell of both.

    with strict.watched() as seen:          counts copies in, copies out and reads of numbers, by file and line
    with strict.capturing() as calls:       CaptureError wherever the capture of a CUDA graph would fail
    strict.compare(calls, others)           CaptureError where two captures of one step are not the same calls with the
                                            same numbers: a graph would go on with those of the first

A capture writes down kernels with their arguments and runs none of them.  So no number can be read in it, no shape may
depend on one, and nothing comes in from the host: CuPy copies from a staging buffer that it gives to somebody else
later, and a graph would copy from there again.  A number as an operand is an argument of its kernel, and a 0-d array
of a number is filled by one: both are fine, and stay what they were.  CuPy's own calls of cuBLAS and cuSOLVER
refuse while a stream is capturing; `xp.matmul` is a product that does not go through them, and `has_kernel` says which
factorisations do not.

https://docs.cupy.dev/en/stable/reference/generated/cupy.cuda.Stream.html#cupy.cuda.Stream.begin_capture
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

IN, OUT, READ = "copy in", "copy out", "read"
HERE = Path(__file__).parent
MECHANISM = tuple(str(HERE / name) for name in ("guard.py", "strict.py", "backend.py", "quicker.py", "cuda"))
PARTS = ("ops", "autograd", "random.py", "tracing.py", "convolution.py", "transfers.py")
ENGINE = (*MECHANISM, *(str(HERE / name) for name in PARTS))


LARGEST = 32
"""Rows of the matrices that `linalg` has kernels for."""


class CaptureError(RuntimeError):
    """What a CUDA graph cannot capture, or would replay with old numbers; one line: what, where, what to do instead."""


def has_kernel(name: str, a: Any, *others: Any) -> bool:
    """Whether `linalg.name` of such arrays is a kernel (`cuda.linalg`), which a capture takes; or CuPy's own call."""
    if name not in ("cholesky", "inv", "solve") or not all(x.dtype == a.dtype and x.ndim == a.ndim for x in others):
        return False
    small = a.ndim > 1 and 0 < a.shape[-1] == a.shape[-2] <= LARGEST
    return small and a.dtype in (np.float32, np.float64) and all(x.shape[:-1] == a.shape[:-1] for x in others)


def alone(refusal: CaptureError | None) -> None:
    """What is asked after a capture, with what it was refused for, if it was; here by a process that captures on its
    own.  Raises CaptureError if the graph is not to be used."""
    if refusal is not None:
        raise refusal


class Crossing(NamedTuple):
    """One way between host and device.  kind: IN, OUT or READ.  place: file:line of the code that asked."""

    kind: str
    what: str
    place: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.what} at {self.place}"


class Watched:
    """What has crossed while somebody watched: times and bytes, by kind, operation and place."""

    def __init__(self) -> None:
        self.times: Counter[Crossing] = Counter()
        self.bytes: Counter[Crossing] = Counter()

    def crossing(self, crossing: Crossing, nbytes: int, advice: str) -> None:
        self.times[crossing] += 1
        self.bytes[crossing] += nbytes

    def refused(self, what: str, place: str, advice: str) -> None:
        """What only a capture refuses."""

    def heard(self, name: str, operands: Any, results: Any) -> None:
        """Calls stay on the device."""

    copies_in = property(lambda self: self.count(IN), doc="Copies from the host.")
    copies_out = property(lambda self: self.count(OUT), doc="Copies to the host.")
    reads = property(lambda self: self.count(READ), doc="Numbers read: each waits for all that was asked before.")

    def count(self, kind: str) -> int:
        """How many crossings of a kind there were."""
        return sum(n for crossing, n in self.times.items() if crossing.kind == kind)

    def nbytes(self, kind: str) -> int:
        """How many bytes they carried."""
        return sum(n for crossing, n in self.bytes.items() if crossing.kind == kind)

    def __str__(self) -> str:
        """A line for each place, the busiest first."""
        return "\n".join(f"{n} × {c}, {self.bytes[c]} bytes" for c, n in self.times.most_common()) or "nothing crossed"


class Heard(NamedTuple):
    """A call in a capture.  constants: what the graph holds of it, its numbers and the arrays from outside by address,
    made by no call of the capture."""

    name: str
    place: str
    constants: tuple[Any, ...]


class Captured:
    """The calls of one capture, in order.  What they made and used stays alive: addresses tell arrays apart."""

    def __init__(self) -> None:
        self.calls: list[Heard] = []
        self.made: dict[int, np.ndarray] = {}
        self.outside: dict[int, np.ndarray] = {}

    def crossing(self, crossing: Crossing, nbytes: int, advice: str) -> None:
        raise CaptureError(f"capture: {crossing}; {advice}")

    def refused(self, what: str, place: str, advice: str) -> None:
        raise CaptureError(f"capture: {what} at {place}; {advice}")

    def heard(self, name: str, operands: Any, results: Any) -> None:
        constants = tuple(self._constant(x) for x in leaves(operands))
        self.calls.append(Heard(name, caller(), tuple(c for c in constants if c is not None)))
        for result in leaves(results):
            if isinstance(result, np.ndarray) and id(memory := owner(result)) not in self.outside:
                self.made[id(memory)] = memory

    def _constant(self, x: Any) -> Any:
        """None for an array that the capture made itself."""
        if not isinstance(x, np.ndarray):
            return type(x), repr(x)
        memory = owner(x)
        if id(memory) in self.made:
            return None
        self.outside[id(memory)] = memory
        return "array", x.__array_interface__["data"][0], x.shape, x.strides, x.dtype.str


_listeners: ContextVar[tuple[Watched | Captured, ...]] = ContextVar("scratchgen_guard", default=())


@contextmanager
def watched() -> Iterator[Watched]:
    """Count what crosses in a block of code, in this thread and the tasks that it starts."""
    with listen(Watched()) as seen:
        yield seen


@contextmanager
def capturing() -> Iterator[Captured]:
    """Refuse in a block of code what the capture of a CUDA graph refuses; yields the calls, for `compare`."""
    with listen(Captured()) as calls:
        yield calls


@contextmanager
def listen(listener: Any) -> Iterator[Any]:
    """Tell a listener, as `Watched` and `Captured` are, what happens in a block of code."""
    token = _listeners.set((*_listeners.get(), listener))
    try:
        yield listener
    finally:
        _listeners.reset(token)


def compare(one: Captured, two: Captured) -> None:
    """Raises CaptureError unless both captures are the same calls with the same constants."""
    for a, b in zip(one.calls, two.calls, strict=False):
        if a.name != b.name:
            raise CaptureError(f"capture: the step is not the same twice: {a.name} at {a.place}, then {b.name} at "
                               f"{b.place}; choose with xp.where, and let nothing but arguments' shapes differ")
        for x, y in zip(a.constants, b.constants, strict=False):
            if x != y:
                raise CaptureError(f"capture: {_differs(x, y)} of {b.name} at {b.place}")
        if len(a.constants) != len(b.constants):
            raise CaptureError(f"capture: {b.name} at {b.place} is not of the same operands twice; a graph keeps those "
                               "of the first step")
    if len(one.calls) != len(two.calls):
        raise CaptureError(f"capture: the step is not the same twice: {len(one.calls)} calls, then {len(two.calls)}; "
                           "choose with xp.where, and let nothing but arguments' shapes differ")


def _differs(x: Any, y: Any) -> str:
    if x[0] == y[0] == "array":
        return "another array in the next step, where the graph keeps the first one: write to it in place; an operand"
    shown = [c[1] if c[0] != "array" else "an array" for c in (x, y)]
    return f"a number is baked in, {shown[0]}, then {shown[1]}: let it be an array on the device; an operand"


# --- what the arrays of the strict backend say -------------------------------------------------------------------


def listening() -> bool:
    """Whether anybody listens."""
    return bool(_listeners.get())


def is_capturing() -> bool:
    """Whether a capture is under way, or rehearsed."""
    return any(type(listener) is Captured for listener in _listeners.get())


def crossing(kind: str, what: str, nbytes: int, advice: str) -> None:
    """Something is about to cross."""
    listeners = _listeners.get()
    if listeners:
        event = Crossing(kind, what, caller())
        for listener in listeners:
            listener.crossing(event, nbytes, advice)


def refused(what: str, advice: str) -> None:
    """Something that stays on the device, and that a capture refuses."""
    for listener in _listeners.get():
        listener.refused(what, caller(), advice)


def heard(name: str, operands: Any, results: Any) -> None:
    """A call was made, with raw arrays and numbers in any nest."""
    for listener in _listeners.get():
        listener.heard(name, operands, results)


def leaves(x: Any) -> list[Any]:
    """What is in nested tuples, lists, dictionaries and slices."""
    if isinstance(x, dict):
        x = [part for pair in x.items() for part in pair]
    if isinstance(x, slice):
        x = [x.start, x.stop, x.step]
    return [leaf for part in x for leaf in leaves(part)] if isinstance(x, (tuple, list)) else [x]


def owner(array: np.ndarray) -> np.ndarray:
    """Whose memory it is."""
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array


def caller(frame: Any = None) -> str:
    """File and line of the code that asked, and of the operation through which it did; now, or in a frame."""
    frame = sys._getframe(1) if frame is None else frame
    numpys = np.__path__[0]
    while frame.f_back is not None and frame.f_code.co_filename.startswith((*MECHANISM, numpys)):
        frame = frame.f_back
    inner = _line(frame)
    while frame.f_back is not None and frame.f_code.co_filename.startswith((*ENGINE, numpys)):
        frame = frame.f_back
    outer = _line(frame)
    return outer if outer == inner else f"{outer} (in {inner})"


def _line(frame: Any) -> str:
    path = Path(frame.f_code.co_filename)
    return f"{path.relative_to(HERE.parent) if path.is_relative_to(HERE) else path}:{frame.f_lineno}"
