"""Streams, memory pools and CUDA graphs for the CuPy made of NumPy (`host_cupy`).

A capture writes down the calls of CuPy's functions, and undoes what they have done when it ends: nothing was run.  A
launch makes the same calls again, on the same memory, with the numbers of that time.  What would go wrong on a device
without a word raises `GraphError` here: a graph whose pool is gone, memory made in a capture outside of any pool, and
memory of a graph that its pool gives to somebody else.  `World.log` is what was asked for, in order.
"""

from __future__ import annotations

import operator
import sys
import weakref
from contextlib import contextmanager

import host_cuda
import numpy as np

from scratchgen.guard import leaves

IN_PLACE = ("iadd", "isub", "imul", "itruediv")


class GraphError(AssertionError):
    """What a device would get wrong without a word."""


class CUDARuntimeError(RuntimeError):
    """`cupy.cuda.runtime.CUDARuntimeError`."""


class World:
    """What CuPy keeps for a thread: the current stream and allocator; and the log."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.null = Stream(self, "null")
        self.current, self.allocator = self.null, None
        self.graphs: weakref.WeakSet[Graph] = weakref.WeakSet()
        self.streams = 0
        self.inside = False  # a call that another call makes

    def run(self, call, name, function, args, kwargs):
        """A call, written down where its stream is capturing."""
        if self.inside:
            return call()
        self.inside = True
        try:
            capture = self.current.capture
            self.log.append(f"{self.current.name}: {name}")
            held = [] if capture is None else [(a, a.copy()) for a in arrays_in((args, kwargs)) if a.flags.writeable]
            found = call()
            given = arrays_in((args, kwargs))
            made = [a for a in arrays_in(found) if not any(np.may_share_memory(a, b) for b in given)]
            self._check(capture, name, made)
            if capture is not None:
                capture.undo += [(a, was) for a, was in held if a.tobytes() != was.tobytes()]
                capture.calls.append((function, args, kwargs, arrays_in(found)))
            return found
        finally:
            self.inside = False

    def _check(self, capture, name, made) -> None:
        pool = getattr(self.allocator, "__self__", None)
        if made and capture is not None and pool is None:
            raise GraphError(f"{name}: memory made in a capture, outside of a private pool")
        if made and capture is None and any(graph.pool() is pool for graph in self.graphs if pool is not None):
            raise GraphError(f"{name}: memory of a graph is given to somebody else")
        if capture is not None and pool is not None:
            capture.pool = weakref.ref(pool)

    @contextmanager
    def using_allocator(self, allocator=None):
        before, self.allocator = self.allocator, allocator
        try:
            yield
        finally:
            self.allocator = before


class Event:
    """`cupy.cuda.Event`."""

    def __init__(self, name: str) -> None:
        self.name = name


class Stream:
    """`cupy.cuda.Stream`."""

    ptr = 0

    def __init__(self, world: World, name: str) -> None:
        self.world, self.name = world, name
        self.capture: Graph | None = None
        self.before: list[Stream] = []

    def __enter__(self) -> Stream:
        self.before.append(self.world.current)
        self.world.current = self
        return self

    def __exit__(self, *_) -> None:
        self.world.current = self.before.pop()

    def record(self, event=None) -> Event:
        self.world.log.append(f"{self.name}: record")
        return Event(self.name)

    def wait_event(self, event: Event) -> None:
        self.world.log.append(f"{self.name}: wait for {event.name}")

    def synchronize(self) -> None:
        if self.capture is not None:
            self.capture.invalid = True
            raise CUDARuntimeError("cudaErrorStreamCaptureUnsupported: not permitted when stream is capturing")

    def is_capturing(self) -> bool:
        return self.capture is not None

    def begin_capture(self, mode=None) -> None:
        if self is self.world.null:
            raise RuntimeError("cannot capture on the default (legacy) stream")
        self.world.log.append(f"{self.name}: begin capture")
        self.capture = Graph(self.world)

    def end_capture(self) -> Graph:
        self.world.log.append(f"{self.name}: end capture")
        graph, self.capture = self.capture, None
        for array, was in reversed(graph.undo):
            array[...] = was
        if graph.invalid:
            raise CUDARuntimeError("cudaErrorStreamCaptureInvalidated: operation failed due to a previous error")
        self.world.graphs.add(graph)
        return graph


class Graph:
    """`cupy.cuda.Graph`: the calls of a capture."""

    def __init__(self, world: World) -> None:
        self.world, self.calls, self.undo, self.invalid = world, [], [], False
        self.pool = lambda: None  # the pool that its memory is of, known as long as somebody has it

    def launch(self, stream=None) -> None:
        self.world.log.append(f"{(stream or self.world.current).name}: launch")
        if self.pool() is None:
            raise GraphError("launch: the pool of the graph is gone, and its memory with it")
        self.world.inside = True
        for function, args, kwargs, places in self.calls:
            for place, found in zip(places, arrays_in(function(*args, **kwargs)), strict=True):
                if not np.may_share_memory(place, found):
                    place[...] = found
        self.world.inside = False


class MemoryPool:
    """`cupy.cuda.MemoryPool`."""

    def __init__(self, allocator=None) -> None:
        self.allocator = allocator

    def malloc(self, size: int) -> None:
        raise NotImplementedError


def arrays_in(nest) -> list[np.ndarray]:
    """The host arrays behind what is in a nest; numbers as arrays."""
    raw = [getattr(x, "_a", x) for x in leaves(nest)]
    return [np.asarray(x) for x in raw if isinstance(x, (np.ndarray, np.generic))]


def installed(monkeypatch) -> World:
    """The world of the `cupy` that is installed now."""
    fake, world = sys.modules["cupy"], World()
    array = fake.ndarray
    names = array.__init__.__globals__  # of the module that the arrays are from
    plain = names["_run"]

    def run(name, function, *args, **kwargs):
        return world.run(lambda: plain(name, function, *args, **kwargs), name, function, args, kwargs)

    def in_place(name):
        def method(self, other):
            run(name, getattr(operator, name), self._a, names["_operand"](other, name))
            return self
        return method

    def kernel(cls):
        launch = cls.__call__
        monkeypatch.setattr(cls, "__call__", lambda self, *args, **kwargs: world.run(
            lambda: launch(self, *args, **kwargs), self.name, lambda *a, **k: launch(self, *a, **k), args, kwargs))

    def stream(null=False, non_blocking=False):
        assert non_blocking, "a stream that waits for the null stream cannot be captured beside it"
        world.streams += 1
        return Stream(world, f"stream {world.streams}")

    monkeypatch.setitem(names, "_run", run)
    for name in IN_PLACE:
        monkeypatch.setattr(array, f"__{name}__", in_place(name))
    for cls in (host_cuda.RawKernel, host_cuda.ElementwiseKernel):
        kernel(cls)
    products = sys.modules["scratchgen.cuda.gemm"]
    product = products.call
    monkeypatch.setattr(products, "call", lambda *args: world.run(lambda: product(*args), "product", product, args, {}))
    fake.may_share_memory = lambda a, b: np.may_share_memory(a._a, b._a)
    vars(fake.cuda).update(
        Stream=stream, MemoryPool=MemoryPool, using_allocator=world.using_allocator,
        get_current_stream=lambda: world.current,
    )  # fmt: skip
    return world
