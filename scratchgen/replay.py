"""Record a step once, run it again fast.

    step = sg.replay(step)          step(x, rng): loss, gradients, optimiser, whatever it is made of
    loss = step(x, rng)             the first two calls are written down, the later ones replayed

What is replayed is the list of array calls that the step came down to (`recording`), in memory planned once and in
blocks that fit the cache (`planning`): the same numbers, bit by bit, without the tape.  So a step must be the same
list of calls every time.  What would break that is found out:

    a number is read out of an array, to be printed or to decide        ReplayError, with the operation and the line
    a number, or the list of calls, differs between the two recordings   ReplayError, with the operation
    an argument has another shape or type, or is another number          recorded anew, and kept beside the others
    another precision of products is asked for                           likewise

What cannot be found out: Python that does something else only later (`if step == 1000:`), and what NumPy itself does
with arrays from outside (`flat.buffer + 1`): operations are heard, and NumPy's functions of the step's own arrays.
Parameters, optimisers and other arrays are used by reference, so they may change between calls; noise must come from
a `Generator`, which draws anew each time.

On a GPU a step becomes a CUDA graph (`cuda.graph`): the first two calls are steps like any other, the third writes the
kernels down, and from then on the arguments are copied to where it had its own, and all kernels are started at once.
Arrays of the host among the arguments are brought there.  The step must then do without the host:

    a number that changes is an argument, or an array on the device that the step itself changes
    noise comes from a Generator in mode "counter", the same one in every call
    arrays from outside are written to in their own memory, not replaced by others
    no read, no transfer, no shape that depends on numbers              ReplayError, with the operation and the line

The first three a graph gets wrong without a word.  On the backend "strict", which has no graph, the step runs as it is,
is held against the rules in every call from the third, and whatever breaks one is a ReplayError that names it.  A step
that is refused there leaves all arrays as they were.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import update_wrapper
from threading import RLock
from typing import Any

import numpy as np

from scratchgen import tracing
from scratchgen.autograd.tensor import Tensor
from scratchgen.backend import Agree, active, owns
from scratchgen.guard import CaptureError, alone
from scratchgen.planning import Plan, give_back
from scratchgen.precision import asked
from scratchgen.processes import move
from scratchgen.random import Generator
from scratchgen.recorded import Call, ReplayError, Slot, leaves, mapped
from scratchgen.recording import Recorder

KEPT = 16  # recordings of one step, for arguments of different shapes
RECORDING = RLock()  # one step is written down at a time


class replay:
    """A step that is recorded, then replayed.  step: arrays, numbers and generators ↦ arrays, in any nest.

    copy: results are the caller's own; without, they are the replay's, to be used before anybody's next call.
    agree: `Backend.graph`'s, for several processes that replay a step together on devices.
    Several threads may call it at once: each has memory of its own.
    Raises ReplayError for a step that cannot be replayed.
    """

    def __init__(self, step: Callable[..., Any], copy: bool = True, agree: Agree = alone) -> None:
        update_wrapper(self, step)
        self.step, self.copy, self.agree = step, copy, agree
        self.before: dict[Any, Recorder] = {}  # the first recording, by the arguments' kinds
        self.ready: dict[Any, Recorder] = {}  # the second
        self.plans: dict[Any, list[Plan]] = {}  # those that nobody is running
        self.graphs: dict[Any, Nested] = {}  # on a device

    def __call__(self, *arguments: Any) -> Any:
        if active().name != "numpy":
            return self._on_device(arguments)
        if tracing.listener() is not None:
            raise ReplayError("replay: a replayed step inside another one that is being recorded")
        given = leaves(arguments)
        streams = [id(x) for x in given if isinstance(x, Generator)]
        kinds = asked(), kind(arguments), *map(streams.index, streams)
        if kinds not in self.ready:
            with RECORDING:
                if kinds not in self.ready:
                    return self._record(kinds, arguments)
        recorder = self.ready[kinds]
        try:
            plan = self.plans[kinds].pop()
        except IndexError:
            plan = Plan(recorder, [x for x in leaves(recorder.results) if type(x) is Slot])
        arrays = [x for x in given if isinstance(x, np.ndarray)]
        if not self.copy:  # results of the last call may lie where the inputs go
            arrays = [x.copy() if np.may_share_memory(x, plan.memory) else x for x in arrays]
        try:
            for place, array in zip(plan.inputs, arrays, strict=True):
                np.copyto(place, array)
            plan.given[:] = given
            plan.run()
            found = mapped(recorder.results, lambda x: plan.array(x) if type(x) is Slot else x)
            return mapped(found, lambda x: x.copy() if isinstance(x, np.ndarray) else x) if self.copy else found
        finally:
            self.plans[kinds].append(plan)

    def move(self) -> None:
        """Let the recordings that stand ready be replayed by a process of their own, where they can be."""
        for plans in self.plans.values():
            for plan in plans:
                move(plan)

    def close(self) -> None:
        """End those processes, and forget all recordings."""
        for plan in (plan for plans in self.plans.values() for plan in plans):
            if plan.process is not None:
                plan.process.close()
        self.before, self.ready, self.plans, self.graphs = {}, {}, {}, {}

    def _on_device(self, arguments: tuple[Any, ...]) -> Any:
        xp = active()
        arguments = mapped(arguments, lambda x: xp.asarray(x) if isinstance(x, np.ndarray) else x)
        if any(type(x) is Tensor for x in leaves(arguments)):
            raise ReplayError("replay: a tensor among the arguments; pass its array, or let the step reach for it")
        kinds = xp.name, asked(), kind(arguments), *(id(x) for x in leaves(arguments) if isinstance(x, Generator))
        with RECORDING:
            if kinds not in self.graphs:
                self._make_room(kinds, self.graphs)
                self.graphs[kinds] = Nested(xp, self.step, arguments, self.agree)
            return self.graphs[kinds].run(arguments, self.copy)

    def _make_room(self, kinds: Any, kept: dict[Any, Any]) -> None:
        if len(kept) >= KEPT and kinds not in kept:
            raise ReplayError(f"replay: {KEPT} different shapes or numbers among the arguments of "
                              f"{getattr(self.step, '__name__', 'a step')}: pass a number that changes as an array")

    def _record(self, kinds: Any, arguments: tuple[Any, ...]) -> Any:
        self._make_room(kinds, self.before)
        recorder = Recorder(arguments, self.before.get(kinds))
        values = recorder.run(self.step)
        give_back()
        if kinds in self.before:
            compare(self.before[kinds], recorder)
            self.plans[kinds] = []
            self.ready[kinds] = recorder
        self.before[kinds] = recorder
        return values


class Nested:
    """A step on a backend that has graphs, which know arrays in and arrays out: its nests are made here."""

    running = False  # one at a time

    def __init__(self, xp: Any, step: Callable[..., Any], arguments: tuple[Any, ...], agree: Agree) -> None:
        self.xp, self.step = xp, step
        self.arguments = self._without(arguments)
        self.results: Any = None
        self.graph = xp.graph(self._flat, agree)

    def run(self, arguments: tuple[Any, ...], copy: bool) -> Any:
        """The step, or its graph."""
        if Nested.running:
            raise ReplayError("replay: a replayed step inside another one that is being recorded")
        Nested.running = True
        try:
            found = self.graph([x for x in leaves(arguments) if owns(self.xp, x)])
        except CaptureError as error:
            raise ReplayError(str(error).replace("capture: ", "replay: ", 1)) from error
        finally:
            Nested.running = False
        return self._filled(self.results, [x.copy() for x in found] if copy else found)

    def _flat(self, arrays: list[Any]) -> list[Any]:
        results = self.step(*self._filled(self.arguments, arrays))
        results = mapped(results, lambda x: x.value if type(x) is Tensor else x)
        nest = self._without(results)
        if self.results is not None and not all(map(same, *map(leaves, (nest, self.results)))):
            raise CaptureError("capture: the result holds another number in the next step; make it an array")
        self.results = nest
        return [x for x in leaves(results) if owns(self.xp, x)]

    def _without(self, nest: Any) -> Any:
        """The nest with `Ellipsis` in the place of arrays."""
        return mapped(nest, lambda x: ... if owns(self.xp, x) else x)

    def _filled(self, nest: Any, arrays: list[Any]) -> Any:
        """The nest with arrays in those places."""
        parts = iter(arrays)
        return mapped(nest, lambda x: next(parts) if x is ... else x)


def kind(x: Any) -> Any:
    """What a recording depends on in an argument, or in a nest of them."""
    if isinstance(x, (tuple, list, dict)):
        names, parts = (tuple(x), x.values()) if isinstance(x, dict) else ((), x)
        return type(x), names, *map(kind, parts)
    if isinstance(x, np.ndarray) or owns(active(), x):
        return x.shape, x.dtype
    return type(x) if isinstance(x, Generator) else (type(x), repr(x) if isinstance(x, (float, np.floating)) else x)


def compare(one: Recorder, two: Recorder) -> None:
    """Raises ReplayError unless both wrote down the same calls with the same constants, and the same results."""
    whole = [[*r.calls, Call("only", "the result", (r.results,), {})] for r in (one, two)]
    for a, b in zip(*whole, strict=False):
        if (a.how, a.function) != (b.how, b.function):
            raise ReplayError(f"replay: the step is not the same twice: {a.name} at first, then {b.name}")
        before, after = (leaves((call.args, call.options, call.out)) for call in (a, b))
        if len(before) != len(after) or not all(map(same, before, after)):
            raise ReplayError(f"replay: a number or an array that {b.name} uses is another one in the next step; "
                              "pass it as an argument, or make it of the step's own arrays")
        for x, y in zip(before, after, strict=True):
            if type(y) is Slot and y.array is not None and y.address != x.address:
                y.root.anew = True


def same(x: Any, y: Any) -> bool:
    """Whether a constant, or an array's place, is the same in two recordings."""
    if type(x) is not Slot or type(y) is not Slot:
        return x is y or (type(x) is type(y) and bool(x == y or (x != x and y != y)))
    if x.array is None or y.array is None or (x.address, x.key) == (y.address, y.key):
        return x.key == y.key
    constant = not (x.root.written or y.root.written)  # made anew in each step, of the same numbers
    return constant and x.dtype == y.dtype and np.array_equal(x.array, y.array, equal_nan=x.dtype.kind == "f")
