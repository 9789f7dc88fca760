"""A step as a CUDA graph: its kernels are written down once, and then started all at once.

    call 1, 2     the step itself, on a stream of its own and in memory of its own; kernels are compiled, and the pool
                  finds out what memory a step needs.  These are steps like any other
    call 3        the arguments go to memory of the graph, the step's kernels are captured and none of them is run
                  (Stream.begin_capture), and then the graph is launched.  Of several processes that capture a step
                  together, sums over all of them in it, none does before all have captured theirs (`agree`)
    from then on  the arguments are copied to where the graph reads them, and it is launched: no Python in between

A graph knows memory by its address and holds none of it.  So whatever the step makes lies in a pool that nobody else
has, and the pool, cuBLAS's workspace, the inputs and the outputs live as long as the graph does.  What the step reaches
for (weights, the optimiser's buffers, a generator's counter) must stay where it is, and numbers that change must be
arrays on the device.
The capture stream waits for the caller's and the other way round; the graph is launched on the caller's.

https://docs.cupy.dev/en/stable/reference/generated/cupy.cuda.Stream.html#cupy.cuda.Stream.begin_capture
https://docs.nvidia.com/cuda/cuda-c-programming-guide/#cuda-graphs
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import cupy

from scratchgen import guard
from scratchgen.backend import Agree, Array, Step
from scratchgen.cuda import gemm
from scratchgen.rehearsal import WARM_UPS

CUPY = tuple(getattr(cupy, "__path__", ()))


class Graph:
    """A step, arrays ↦ arrays, of the same shapes and dtypes in every call; the next call writes to its results.

    Raises CaptureError, one line, for a step that no graph can hold; then nothing of that step was done.
    """

    def __init__(self, step: Step, agree: Agree = guard.alone) -> None:
        self.step, self.agree, self.calls = step, agree, 0
        self.stream = cupy.cuda.Stream(non_blocking=True)
        self.pool = cupy.cuda.MemoryPool(block)
        self.workspace: Any = None
        self.inputs: list[Array] = []
        self.outputs: list[Array] = []
        self.graph: Any = None

    def __call__(self, arrays: list[Array]) -> list[Array]:
        self.calls += 1
        if self.calls <= WARM_UPS:
            with self._aside():
                return self.step(arrays)
        if self.graph is None:
            self.graph = self._agreed(arrays)
        else:
            for place, array in zip(self.inputs, arrays, strict=True):
                cupy.copyto(place, array)
        self.graph.launch()
        return self.outputs

    @contextmanager
    def _aside(self) -> Iterator[None]:
        """On the capture stream and in the private pool, between what the caller asked for before and asks for then."""
        caller = cupy.cuda.get_current_stream()
        self.stream.wait_event(caller.record())
        try:
            with self.stream, cupy.cuda.using_allocator(self.pool.malloc):
                yield
        finally:
            caller.wait_event(self.stream.record())

    def _agreed(self, arrays: list[Array]) -> Any:
        """The step's graph, if it could be captured, and everywhere."""
        graph, refusal = None, None
        try:
            with self._aside():
                graph = self._captured(arrays)
        except guard.CaptureError as error:
            refusal = error
        except RuntimeError as error:  # CuPy's refusals and CUDA's
            refusal = guard.CaptureError(f"capture: {' '.join(str(error).split())} at {place(error)}")
            refusal.__cause__ = error
        self.agree(refusal)
        return graph

    def _captured(self, arrays: list[Array]) -> Any:
        self.inputs = [x.copy() for x in arrays]
        self.stream.begin_capture()
        try:
            with guard.capturing():
                self.outputs = [self._out_of_the_way(x) for x in self.step(self.inputs)]
                self.workspace = gemm.workspace(self.stream.ptr)
        except BaseException:
            with suppress(RuntimeError):  # a capture that has failed already says so once more
                self.stream.end_capture()
            raise
        return self.stream.end_capture()

    def _out_of_the_way(self, x: Array) -> Array:
        """A result that lies where the next arguments go is copied: it may be one of them, for another place."""
        return x.copy() if any(cupy.may_share_memory(x, y) for y in self.inputs) else x


def block(size: int) -> Any:
    """Memory for the pool, from the device.  Where there is none left CuPy's pool gives back its free blocks, and tries
    again; but a capture has written down the addresses of those."""
    try:
        return cupy.cuda.MemoryPointer(cupy.cuda.Memory(size), 0)
    except RuntimeError as error:
        if cupy.cuda.get_current_stream().is_capturing():
            raise guard.CaptureError(f"capture: the device has no memory left for a graph: {error}") from error
        raise


def place(error: BaseException) -> str:
    """File and line of the code that asked for what CuPy refused."""
    frame: Any = None
    trace = error.__traceback__
    while trace is not None:
        if not trace.tb_frame.f_code.co_filename.startswith(CUPY):
            frame = trace.tb_frame
        trace = trace.tb_next
    return guard.caller(frame)
