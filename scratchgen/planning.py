"""Memory and order for a recorded step, and the Python function that runs it.

Three things make the replay cheaper than the step itself.  No graph is built: what is left is one NumPy call per line
of a generated function.  No memory is asked for: every array has its place in one block, planned by lifetime.  And
neighbouring calls that treat each row of large arrays by itself (elementwise functions, sums within a row) run block
by block of rows, so that what one writes the next one finds in the processor's cache; arrays that live only between
them shrink to one block.

    rows 0–7:   a·b → s,  tanh s → s,  s + c → y[0:8]        s: eight rows, used again and again
    rows 8–15:  a·b → s,  tanh s → s,  s + c → y[8:16]
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from contextlib import suppress
from functools import cached_property
from math import prod
from typing import Any

import numpy as np

from scratchgen.cores import shared
from scratchgen.recorded import Call, Given, ReplayError, Slot, mapped
from scratchgen.recording import Recorder, is_reduce

ALIGNED = 64  # bytes of a cache line
LARGE = 1 << 17  # bytes of an array from which blocks pay
BLOCK = 1 << 16  # bytes of an array in one block
FOREVER = 1 << 30
PART = 500  # steps in one function

# --- which calls go together --------------------------------------------------------------------------------


class Run:
    """Neighbouring calls on arrays of n rows, to be run some rows at a time; or one call (n = 0)."""

    def __init__(self, n: int = 0, call: Call | None = None) -> None:
        self.n = n
        self.calls = [] if call is None else [call]
        self.made: set[Slot] = set()  # roots that are written
        self.spread: set[Slot] = set()  # roots that are read elsewhere than in the row that is computed

    def takes(self, call: Call) -> bool:
        """Add a call, if run in blocks it finds all that it reads and writes nothing that another row reads."""
        out: Slot = call.out  # type: ignore[assignment]
        spread = {s.root for s in call.reads if not (is_sliced(s, call) and own_rows(s, self.n))}
        if not own_rows(out, self.n) or out.root in self.spread | spread or spread & self.made:
            return False
        self.calls.append(call)
        self.made.add(out.root)
        self.spread |= spread
        return True

    @cached_property
    def rows(self) -> int:
        """Rows in a block; 0 where blocks do not pay."""
        if len(self.calls) < 2:
            return 0
        widest = max(s.nbytes for call in self.calls for s in touched(call))
        rows = max(1, BLOCK * self.n // widest)
        return rows if widest >= LARGE and rows < self.n else 0


def steps_of(calls: Sequence[Call]) -> list[Run]:
    """The calls in their order, neighbours together where blocks pay."""
    runs = [Run()]
    for call in calls:
        forms = [form for depth in (1, 2, 3) if (form := by_rows(call, depth)) is not None]
        if any(form.out.shape[0] == runs[-1].n and runs[-1].takes(form) for form in forms):  # type: ignore[union-attr]
            continue
        narrow = [f for f in forms if f.out.nbytes <= BLOCK * f.out.shape[0]] or forms[-1:]  # type: ignore[union-attr]
        run = Run(narrow[0].out.shape[0]) if narrow else Run()  # type: ignore[union-attr]
        runs.append(run if narrow and run.takes(narrow[0]) else Run(0, call))
    return [step for run in runs for step in ([run] if run.rows else [Run(0, call) for call in run.calls])]


def by_rows(call: Call, depth: int) -> Call | None:
    """The call with its first `depth` axes seen as one, if it treats each row of them by itself."""
    out, axes = call.out, reduced(call)
    if out is None or len(out.shape) < depth or call.function == "concatenate" or not (is_elementwise(call) or axes):
        return None
    lead, ndim = out.shape[:depth], len(iterated(call).shape)
    if prod(lead) < 2 or (axes and min(axes) < depth):
        return None
    forms: dict[int, Slot] = {}
    for x in [*call.reads, out]:
        inner = (len(out.shape) if x is out else ndim) - depth
        outer = max(len(x.shape) - inner, 0)
        if outer == depth and x.shape[:depth] == lead:
            if any(x.strides[i] != x.strides[i + 1] * lead[i + 1] for i in range(depth - 1)):
                return None
            forms[id(x)] = x.seen_as(shape=(prod(lead), *x.shape[depth:]), strides=x.strides[depth - 1 :])
        elif prod(x.shape[:outer]) == 1:  # the same for all rows
            forms[id(x)] = x.seen_as(shape=x.shape[outer:], strides=x.strides[outer:])
        else:
            return None
    args, options = mapped((call.args, call.options), lambda x: forms.get(id(x), x))
    if axes:
        if args[0].strides[0] < max(map(abs, args[0].strides)):  # NumPy adds along the shortest stride: one row, and
            return None  # the order of the sum is another one
        options = {**options, "axis": tuple(a - depth + 1 for a in axes)}
    return call._replace(args=args, options=options, out=forms[id(out)])


def reduced(call: Call) -> tuple[int, ...]:
    """The axes that are summed over."""
    return call.options["axis"] if call.how == "out" and is_reduce(call.function) else ()


def iterated(call: Call) -> Any:
    """The array over whose entries a call goes."""
    return call.args[0] if reduced(call) else call.out


def is_elementwise(call: Call) -> bool:
    return call.how == "copy" or (isinstance(call.function, np.ufunc) and call.function.signature is None)


def is_sliced(slot: Slot, call: Call) -> bool:
    """Whether a call that goes by rows reads one row of the slot for each; else all of it."""
    return len(slot.shape) == len(iterated(call).shape)


def own_rows(slot: Slot, n: int) -> bool:
    """Whether row i of the slot lies in the i-th of n equal parts of its root."""
    part, ends = slot.root.nbytes // n, [(k - 1) * s for k, s in zip(slot.shape[1:], slot.strides[1:], strict=True)]
    low, high = slot.offset + sum(min(e, 0) for e in ends), slot.offset + sum(max(e, 0) for e in ends)
    return slot.strides[0] == part and low >= 0 and high + slot.dtype.itemsize <= part


def touched(call: Call) -> list[Slot]:
    return call.reads if call.out is None else [*call.reads, call.out]


# --- which calls are needed ---------------------------------------------------------------------------------


def without_copies(calls: Sequence[Call], results: set[Slot]) -> list[Call]:
    """The calls without copies of what nobody writes to: such a copy is another look at the original."""
    instead: dict[Slot, Slot] = {}

    def renamed(x: Any) -> Any:
        old = instead.get(x.root) if type(x) is Slot else None
        return x if old is None else x.seen_as(root=old.root, offset=old.offset + x.offset, origin=old.origin)

    kept = []
    for call in calls:
        call = call._replace(args=mapped(call.args, renamed), options=mapped(call.options, renamed))
        source, out = call.args[0] if call.function == "copy" else None, call.out
        if (
            isinstance(source, Slot) and out is not None and out not in results and source.layout == out.layout
            and source.origin != "outside" and not source.root.written and not out.written
        ):  # fmt: skip
            instead[out] = source
        else:
            kept.append(call)
    return kept


def needed(calls: Sequence[Call], results: set[Slot]) -> list[Call]:
    """The calls that a result, an array from outside, or what has consequences depends on."""
    alive, kept = set(results), []
    for call in reversed(calls):
        if call.always or call.out is None or call.out.root in alive or call.out.origin == "outside":
            kept.append(call)
            alive.update(s.root for s in touched(call))
    return kept[::-1]


# --- memory -------------------------------------------------------------------------------------------------


class Plan:
    """A recorded step, ready to run: fill `inputs` and `given`, `run()`, and read the results by `array`."""

    def __init__(self, recorder: Recorder, results: Sequence[Slot]) -> None:
        self.results = {s.root for s in results}
        self.steps = steps_of(needed(without_copies(recorder.calls, self.results), self.results))
        self.first: dict[Slot, int] = dict.fromkeys(recorder.inputs, 0)
        self.last: dict[Slot, int] = dict.fromkeys(recorder.inputs, 0)
        for i, step in enumerate(self.steps):
            for slot in (s for call in step.calls for s in touched(call)):
                self.first.setdefault(slot.root, i)
                self.last[slot.root] = i
        self.last |= dict.fromkeys(self.results, FOREVER)
        self.home: dict[Slot, tuple[Slot, int]] = {}  # roots in the memory of others: whose, and where in it
        for i, step in enumerate(self.steps):
            self._share(i, step)
        spans = []
        self.small: set[Slot] = set()  # roots of which one block is enough
        for root, first in self.first.items():
            if root.origin != "outside" and root not in self.home:
                nbytes = root.nbytes
                if root.origin == "made" and self.last[root] == first and root in self.steps[first].made:
                    step = self.steps[first]
                    if step.rows:
                        self.small.add(root)
                        nbytes = nbytes // step.n * step.rows
                spans.append((root, nbytes, first, self.last[root]))
        self.places, self.nbytes = placed(spans)
        give_back()
        self.memory = shared(self.nbytes)
        self.arrays: dict[tuple[Any, ...], np.ndarray] = {}
        self.inputs = [self.array(slot) for slot in recorder.inputs]
        self.given: list[Any] = []  # the step's arguments, from which generators are taken
        self.process: Any = None  # that runs it, if it is another one
        self.run = compiled(self)
        self.arrays.clear()  # the function has its own; what is asked for again is made again
        give_back()

    def owner(self, root: Slot) -> tuple[Slot, int]:
        """In whose memory a root lies, and where in it."""
        return self.home.get(root, (root, 0))

    def _share(self, i: int, step: Run) -> None:
        """Let the results of elementwise calls take the place of what dies there, and parts be made where they go."""
        last = {s.root: k for k, call in enumerate(step.calls) for s in call.reads}
        seen: set[Slot] = set()
        for k, call in enumerate(step.calls):
            out, new = call.out, call.out is not None and call.out.root not in seen
            seen.update(s.root for s in touched(call))
            if out is None or not is_elementwise(call) or "where" in call.options:
                continue
            for slot in call.reads:
                root = slot.root
                once = sum(s.root is root for s in call.reads) == 1
                if self.last[root] > i or last[root] > k or root.origin == "outside" or root in step.spread or not once:
                    continue
                if call.function == "concatenate":
                    whole = root.origin == "made" and slot.offset == 0 and slot.nbytes == root.nbytes
                    if whole and not {root, out.root} & self.home.keys() and slot.layout == out.layout:
                        guests = [(g, at) for g, (owner, at) in self.home.items() if owner is root]
                        for guest, at in [(root, 0), *guests]:
                            self._move(guest, out.root, out.offset + at)
                        step.calls = []
                elif out is out.root or (out.layout, out.offset) == (slot.layout, 0):
                    fits = slot.offset == 0 and slot.layout == out.layout and root.layout == out.root.layout
                    fits = fits and out.origin == "made" and self.first[out.root] == i and out.root not in self.home
                    if new and fits:
                        self._move(out.root, *self.owner(root))
                        break

    def _move(self, root: Slot, owner: Slot, offset: int) -> None:
        self.home[root] = owner, offset
        self.first[owner] = min(self.first[owner], self.first[root])
        self.last[owner] = max(self.last[owner], self.last[root])

    def array(self, slot: Slot, start: int = 0, stop: int | None = None) -> np.ndarray:
        """The slot's array, or some of its rows."""
        if slot.array is not None:
            array = slot.array
            if (array.shape, array.strides) != (slot.shape, slot.strides):
                array = np.lib.stride_tricks.as_strided(array, slot.shape, slot.strides)
            return array[start:stop] if stop else array
        owner, offset = self.owner(slot.root)
        shape, offset = slot.shape, offset + slot.offset
        if stop:
            shape = (stop - start, *shape[1:])
            offset += 0 if owner in self.small else start * slot.strides[0]
        key = (owner, offset, shape, slot.strides, slot.dtype)
        if key not in self.arrays:
            place = self.places[owner] + offset
            self.arrays[key] = np.ndarray(shape, slot.dtype, self.memory, place, slot.strides)
        return self.arrays[key]


def give_back() -> None:
    """Return what recordings and compilers left in the heap, which keeps it (`train.machine`), to the system."""
    with suppress(AttributeError, OSError):  # where the C library is not GNU's
        ctypes.CDLL(None).malloc_trim(0)


def placed(spans: Sequence[tuple[Any, int, int, int]]) -> tuple[dict[Any, int], int]:
    """Offsets for (key, bytes, first, last), no two overlapping that live at one time, and the bytes in all.

    The largest first, each into the lowest gap that it fits.
    """
    spans = sorted(spans, key=lambda span: -span[1])
    first, last = (np.array([s[i] for s in spans]) for i in (2, 3))
    begin, end = np.zeros((2, len(spans)), int)
    for i, (_, nbytes, _, _) in enumerate(spans):
        nbytes = -(-max(nbytes, 1) // ALIGNED) * ALIGNED
        alive = np.flatnonzero((first[:i] <= last[i]) & (first[i] <= last[:i]))
        alive = alive[np.argsort(begin[alive], kind="stable")]
        free = np.concatenate([[0], np.maximum.accumulate(end[alive])])
        begin[i] = free[np.argmax(np.append(begin[alive], 1 << 60) - free >= nbytes)]
        end[i] = begin[i] + nbytes
    return {span[0]: int(b) for span, b in zip(spans, begin, strict=True)}, int(end.max(initial=0))


# --- the function that runs it ------------------------------------------------------------------------------


def compiled(plan: Plan) -> Any:
    """The function.  In parts: all at once would need memory for Python's compiler, thousands of lines' worth."""
    functions = parts(plan, PART)

    def run() -> None:
        for part in functions:
            part()

    return functions[0] if len(functions) == 1 else run


def parts(plan: Plan, steps: int) -> list[Any]:
    """Functions of so many of the plan's steps each, one after the other: one line per call, arrays and functions by
    name; blocks as loops over lists of arrays."""
    names: dict[str, Any] = {"copyto": np.copyto, "into": into, "given": plan.given}
    known: dict[int, str] = {}

    def name(thing: Any) -> str:
        if id(thing) not in known:
            known[id(thing)] = f"x{len(names)}"
            names[known[id(thing)]] = thing
        return known[id(thing)]

    lines: list[list[str]] = []
    for step in plan.steps:
        sliced: dict[Any, tuple[str, Slot]] = {}  # what a loop over blocks calls the arrays of one block

        def array(slot: Slot, call: Call, step: Run = step, sliced: Any = sliced) -> str:
            if step.rows and (slot is call.out or is_sliced(slot, call)):
                return sliced.setdefault(slot.key, (f"v{len(sliced)}", slot))[0]
            return name(plan.array(slot))

        body = [line(call, name, array) for call in step.calls]
        if step.rows:
            edges = [(i, min(i + step.rows, step.n)) for i in range(0, step.n, step.rows)]
            blocks = [tuple(plan.array(slot, *edge) for _, slot in sliced.values()) for edge in edges]
            head = f"for {''.join(f'{v}, ' for v, _ in sliced.values())} in {name(blocks)}:"
            body = [head, *(f"    {text}" for text in body)]
        lines.append(body)
    functions = []
    for i in range(0, max(len(lines), 1), steps):
        text = "\n    ".join(["def part():", *(line for body in lines[i : i + steps] for line in body), "return\n"])
        exec(compile(text, "<replay>", "exec"), names)
        functions.append(names.pop("part"))
    return functions


def line(call: Call, name: Any, array: Any) -> str:
    """The call in Python."""
    settings = (f"{key}={word(x, call, name, array)}, " for key, x in call.options.items())
    inner = "".join([*(f"{word(x, call, name, array)}, " for x in rounded(call)), *settings])
    if call.how == "copy":
        return f"copyto({word(call.out, call, name, array)}, {inner})"
    function = name(call.function)
    if call.how == "into":
        return f"into({word(call.out, call, name, array)}, {function}({inner}), {name(call.name)})"
    return f"{function}({inner}{f'out={word(call.out, call, name, array)}' if call.how == 'out' else ''})"


def word(x: Any, call: Call, name: Any, array: Any) -> str:
    """What a call is given, in Python.

    No function inside of `line`: one that calls itself is a circle, which keeps the memory until Python looks for such.
    """
    if type(x) is Slot:
        return array(x, call)
    if type(x) is Given:
        return f"given[{x.place}]"
    if type(x) in (tuple, list):
        inner = "".join(f"{word(part, call, name, array)}, " for part in x)
        return f"({inner})" if type(x) is tuple else f"[{inner}]"
    return name(x)


def rounded(call: Call) -> tuple[Any, ...]:
    """The arguments of a call; an elementwise function's numbers as arrays, rounded as it would: twice as fast."""
    args, numbers = call.args, [type(x) in (int, float) for x in call.args]
    plain = all(type(x) in (int, float, Slot) for x in args)
    if not (any(numbers) and plain and isinstance(call.function, np.ufunc)) or call.options:
        return args
    given = [type(x) if number else x.dtype for x, number in zip(args, numbers, strict=True)]
    known = zip(args, numbers, call.function.resolve_dtypes((*given, None))[:-1], strict=True)
    return tuple(np.asarray(x, kind) if number and kind.kind == "f" else x for x, number, kind in known)


def into(out: np.ndarray, result: Any, name: str) -> None:
    """Copies what a function gave; its shape may depend on numbers (`x[x > 0]`)."""
    if np.shape(result) != out.shape:
        raise ReplayError(f"replay: {name} gives an array of shape {np.shape(result)}; {out.shape} was recorded")
    np.copyto(out, result)
