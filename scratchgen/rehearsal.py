"""A CUDA graph rehearsed on the host, by the strict backend's arrays.

A graph goes through the same kernels every time, with the numbers and the addresses that it was captured with.  What is
not so in a step, it gets wrong without a word.  A rehearsal goes through the step itself, each time, and finds out:

    a read, a transfer, noise of the host, a shape made of numbers     `guard.capturing` refuses
    other calls than those of the capture, another number in one,      `guard.compare` names the call, both numbers, and
    an array that lies elsewhere than the one that was captured        the line

Arguments are copied to where the captured step read its own, and results to where it left its own.  A step that is
refused leaves the device's arrays as they were, since a capture runs no kernel.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from scratchgen import guard

WARM_UPS = 2  # steps before the capture


class Overheard(guard.Captured):
    """The calls of a step that is not captured: nothing is refused."""

    def crossing(self, crossing: Any, nbytes: int, advice: str) -> None:
        pass

    def refused(self, what: str, place: str, advice: str) -> None:
        pass


class Rehearsal:
    """A step, arrays ↦ arrays, of the same shapes and dtypes in every call; as `cuda.graph.Graph`."""

    def __init__(self, step: Any, agree: Any = guard.alone) -> None:
        self.step, self.agree, self.calls = step, agree, 0
        self.inputs: list[Any] = []
        self.outputs: list[Any] = []
        self.captured: guard.Captured | None = None
        self.outside: dict[int, np.ndarray] = {}  # memory that steps reached for, kept, so that addresses stay apart

    def __call__(self, arrays: list[Any]) -> list[Any]:
        self.calls += 1
        if self.calls <= WARM_UPS:
            with guard.listen(Overheard()) as heard:
                results = self.step(arrays)
            self.outside |= heard.outside
            return results
        if self.captured is None:
            self.inputs = [x.copy() for x in arrays]
        for place, array in zip(self.inputs, arrays, strict=True):
            place[...] = array
        results = self._again()
        if not self.outputs:
            self.outputs = [x.copy() for x in results]
        for place, array in zip(self.outputs, results, strict=True):
            place[...] = array
        return self.outputs

    def _again(self) -> list[Any]:
        """The step on the inputs, refused where a graph would fail, or go on with what it was captured with."""
        before = [(array, array.copy()) for array in self.outside.values() if array.flags.writeable]
        refusal: guard.CaptureError | None = None
        try:
            with guard.capturing() as calls:
                results = self.step(self.inputs)
            guard.compare(self.captured or calls, calls)
        except guard.CaptureError as error:
            refusal = error
        try:
            self.agree(refusal)
        except guard.CaptureError:
            for array, was in before:
                array[...] = was
            raise
        self.outside |= calls.outside
        calls.made.clear()
        self.captured = self.captured or calls
        return results
