"""What one step computes, written down: a list of array calls.

While a `Recorder` listens, a step runs on `Recorded` arrays (`recorded`).  They compute as NumPy's do and leave a
`Call` for each result; what is only another look at the same memory (a reshape, a slice) leaves none.  Whatever would
take a number out of the arrays (`float(x)`, `if x > 0:`) cannot be written down, and says so.
"""

from __future__ import annotations

import operator
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from threading import get_ident
from typing import Any
from zlib import crc32

import numpy as np

from scratchgen import tracing
from scratchgen.autograd.tensor import Tensor
from scratchgen.backend import is_basic
from scratchgen.random import Generator
from scratchgen.recorded import REDUCTIONS, SAME, Call, Given, Recorded, ReplayError, Slot, leaves, mapped


class Recorder:
    """Writes down the calls of one step.  arguments: of the step; its arrays become inputs.  before: the recorder that
    has heard the step already.

    Arrays from outside may be written to by what is recorded only: their check sums tell.
    """

    def __init__(self, arguments: tuple[Any, ...], before: Recorder | None = None) -> None:
        self.calls: list[Call] = []
        self.inputs: list[Slot] = []
        self.roots = 0
        self.known: dict[int, Recorded] = {}  # memory from outside, by the array whose own it is
        self.sums: dict[Any, tuple[np.ndarray, int]] = {}  # arrays from outside and their check sums, by place
        for array, _ in before.sums.values() if before is not None else ():
            self._heard(array)
        self.lent: list[tuple[Tensor, np.ndarray]] = []  # tensors whose value is recorded for now
        self.thread = get_ident()
        self.results: Any = None
        self.given = leaves(arguments)
        self.arguments = mapped(arguments, self._input)

    def run(self, step: Callable[..., Any]) -> Any:
        """The step's results; `results` is where they lie."""
        tracing.recorder = self
        try:
            results = mapped(step(*self.arguments), lambda x: x.value if type(x) is Tensor else x)
            self.results = self._slots(results)
            self._check()
            return mapped(self._raw(results), lambda x: np.array(x) if is_array(x) else x)
        finally:
            tracing.recorder = None
            for tensor, value in self.lent:
                tensor.value = value

    # --- arrays ---------------------------------------------------------------------------------------------

    def _input(self, x: Any) -> Any:
        if type(x) is Tensor:
            raise ReplayError("replay: a tensor among the arguments; pass its array, or let the step reach for it")
        if not is_array(x):
            return x
        self.inputs.append((recorded := self._root(np.array(x, order="C"), "input")).slot)
        return recorded

    def _root(self, array: np.ndarray, origin: str) -> Recorded:
        self.roots += 1
        return Recorded(self, Slot(array, None, origin, self.roots), array)

    def look(self, x: Recorded, result: np.ndarray) -> Recorded:
        """Another look at the memory of x: no call.  Of a number, a copy."""
        slot = Slot(result, x.slot.root)
        return self.made(Call("copy", "copy", (slot,), {}), result.copy()) if x.number else Recorded(self, slot, result)

    def lift(self, args: Sequence[Any]) -> tuple[Any, ...]:
        """The arguments of an operation; arrays and parameters from outside are recorded from here on."""
        for x in args:
            if type(x) is Tensor and is_array(x.value):
                self.lent.append((x, x.value))
                x.value = self._lifted(x.value)
        return tuple(map(self._lifted, args))

    def _lifted(self, x: Any) -> Any:
        if not is_array(x):
            return x
        if id(memory := owner(x)) not in self.known:
            self.known[id(memory)] = self._root(memory, "outside")
        if place(x) not in self.sums:
            self._heard(x)
        root = self.known[id(memory)]
        return root if x is memory else self.look(root, x)

    def _slots(self, x: Any) -> Any:
        lifted = mapped(x, self._lifted)
        return mapped(lifted, lambda x: self._slot(x) if type(x) is Recorded else x)

    def _slot(self, x: Recorded) -> Slot:
        if x.by is not self or tracing.listener() is not self:
            raise self.error("an array that a recorded step left behind, in an attribute or a list,")
        return x.slot

    def _raw(self, x: Any) -> Any:
        return mapped(x, lambda x: x.value if type(x) is Recorded else x)

    # --- calls ----------------------------------------------------------------------------------------------

    def made(self, call: Call, result: Any) -> Recorded:
        """The result of a call, in memory of its own."""
        array = np.asarray(result)
        recorded = self._root(array if is_dense(array) else array.copy(order="C"), "made")
        recorded.number = isinstance(result, np.generic)
        self.calls.append(call._replace(out=recorded.slot))
        return recorded

    def _write(self, call: Call) -> None:
        """A call that writes to memory that was there before."""
        if call.out.origin == "input":  # type: ignore[union-attr]
            raise self.error(f"{call.name} writes to an argument; copy it first")
        call.out.root.written += 1  # type: ignore[union-attr]
        if call.out.origin == "outside":  # type: ignore[union-attr]
            self._heard(*(array for array, _ in self.sums.values()))
        self.calls.append(call)

    def ufunc(self, ufunc: np.ufunc, method: str, inputs: tuple[Any, ...], options: dict[str, Any]) -> Any:
        if method == "reduce":
            return self.function(ufunc.reduce, inputs, options)
        (out,) = options.pop("out", None) or (None,)
        target = inputs[0] if method == "at" else out
        if target is not None and type(target) is not Recorded:
            raise self.error(f"{ufunc.__name__} writes to an array that the step did not make")
        out = None if out is not None and out.number else out
        raw, slots = self._raw(inputs), self._slots(inputs)
        if method == "at":
            ufunc.at(*raw)
            return self._write(Call("only", ufunc.at, slots, {}, slots[0]))
        if method != "__call__" or ufunc.nout > 1:
            raise self.error(f"{ufunc.__name__}.{method} with {ufunc.nout} results cannot be recorded")
        call = Call("out", ufunc, slots, self._slots(options))
        if out is None:
            return self.made(call, ufunc(*raw, **self._raw(options)))
        ufunc(*raw, out=out.value, **self._raw(options))
        self._write(call._replace(out=out.slot))
        return out

    def _reduce(self, ufunc: np.ufunc, x: Any, axis: Any = 0, keepdims: bool = False) -> Any:
        x = self._lifted(x)
        result = ufunc.reduce(x.value, axis=axis, keepdims=keepdims)
        axes = tuple(range(x.ndim)) if axis is None else axis if isinstance(axis, tuple) else (axis,)
        options: Any = {"axis": tuple(a % x.ndim for a in axes if x.ndim), "keepdims": bool(keepdims)}
        return self.made(Call("out", ufunc.reduce, (x.slot,), options), result)

    def function(self, function: Any, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
        """A function that is no ufunc: its result is a look at an argument, or new."""
        if options.keys() <= {"axis", "keepdims"} and len(args) < 3:
            if function in REDUCTIONS:
                axis = {"axis": None} if len(args) < 2 else {}
                return self._reduce(REDUCTIONS[function], *args, **{**axis, **options})
            if is_reduce(function):
                return self._reduce(function.__self__, *args, **options)
            if function is np.mean and args[0].dtype.kind == "f" and 0 < args[0].size < 1 << 24:
                total = self.function(np.sum, args, options)
                return np.divide(total, args[0].size / total.size, out=total)
            if function is np.concatenate:
                return self._concatenate(*args, **options)
        result = function(*self._raw(args), **self._raw(options))
        if function in (np.zeros_like, np.ones_like, np.empty_like):
            return result  # a constant
        look = self._look_at((args, options), function, result)
        if look is not None:
            return look
        if not isinstance(result, (np.ndarray, np.generic)):
            raise self.error(f"{function.__name__} gives a {type(result).__name__}, not an array")
        how = "out" if function is np.cumsum else "into"
        return self.made(Call(how, function, self._slots(args), self._slots(options)), result)

    def _look_at(self, given: Any, function: Any, result: Any) -> Recorded | None:
        """A function's result, where it lies in the memory of what the function was given."""
        for x in leaves(given) if is_array(result) else ():
            value = self._raw(x)
            if is_array(value) and owner(result) is owner(value):
                if result is value and function not in SAME:
                    raise self.error(f"{function.__name__} writes to an array that it is given")
                return self.look(self._lifted(x), result)
        return None

    def _concatenate(self, arrays: Sequence[Any], axis: int | None = 0) -> Any:
        """Every part is copied to its place, or better still made there."""
        if axis is None:
            arrays, axis = [self._lifted(x).reshape(-1) for x in arrays], 0
        whole, start = self._root(np.concatenate(self._raw(tuple(arrays)), axis=axis), "made"), 0
        for x in map(self._lifted, arrays):
            place = [slice(None)] * whole.ndim
            place[axis] = slice(start, start := start + x.shape[axis])
            part = self.look(whole, whole.value[tuple(place)])
            self._write(Call("copy", "concatenate", (x.slot,), {}, part.slot))
        return whole

    def assign(self, x: Recorded, index: Any, value: Any) -> None:
        """x[index] = value."""
        if x.number:
            raise TypeError(f"a number of {x.dtype} does not support item assignment")
        if not is_basic(index):
            x.value[self._raw(index)] = self._raw(value)
            return self._write(Call("only", operator.setitem, self._slots((x, index, value)), {}, x.slot))
        index = index if isinstance(index, tuple) else (index,)
        part = self.look(x, x.value[index if Ellipsis in index else (*index, ...)])
        if type(value) is Recorded and value.slot.key == part.slot.key:
            return None  # the end of x[index] += …
        part.value[...] = self._raw(value)
        return self._write(Call("copy", "assignment", self._slots((value,)), {"casting": "unsafe"}, part.slot))

    def whole(self, forward: Any, xp: Any, arrays: Sequence[Any], settings: dict[str, Any]) -> Any:
        """An operation that is one call."""
        return self._unheard(Call("out", forward, (xp, *arrays), settings))

    def effect(self, method: Any, whose: Any, args: Sequence[Any], options: dict[str, Any]) -> Any:
        """What is to be done anew each time; to a generator that was given, or to whom it is done now."""
        if not isinstance(whose, Generator):
            self._check()
        result = self._unheard(Call("into", method, (whose, *args), options, always=True))
        if not isinstance(whose, Generator):
            self._heard(*(array for array, _ in self.sums.values()))
        return result

    def _heard(self, *outside: np.ndarray) -> None:
        """What arrays from outside hold now is what the calls so far have made of them."""
        self.sums.update({place(array): (array, check_sum(array)) for array in outside})

    def _check(self) -> None:
        for array, was in self.sums.values():
            if check_sum(array) != was:
                what = f"an array of {array.dtype} from outside"
                raise ReplayError(f"replay: NumPy itself wrote to {what}, which nobody hears; use Tensor.assign")

    def _unheard(self, call: Call) -> Any:
        """A call of which only the result is recorded."""
        here, tracing.recorder = tracing.recorder, None
        try:
            result = call.function(*self._raw(call.args), **self._raw(call.options))
        finally:
            tracing.recorder = here
        look = self._look_at((call.args, call.options), call.function, result)
        if look is not None:
            return look
        given = [Given(i) for i, x in enumerate(self.given) if x is call.args[0]]
        args = self._slots((*(given or call.args)[:1], *call.args[1:]))
        call = call._replace(args=args, options=self._slots(call.options))
        if result is None:
            return self.calls.append(call._replace(how="only"))
        if not isinstance(result, (np.ndarray, np.generic)):
            raise self.error(f"{call.name} gives a {type(result).__name__}, not an array")
        takes_out = "out" in call.function.__code__.co_varnames[: call.function.__code__.co_argcount]
        return self.made(call._replace(how="out" if takes_out else "into"), result)

    def error(self, what: str, slot: Slot | None = None) -> ReplayError:
        """The error, with the operation that made an array, and the line of the caller's code."""
        made = [c.name for c in self.calls if slot is not None and c.out is not None and c.out.root is slot.root]
        return ReplayError(f"replay: {what}{f', the result of {made[-1]},' if made else ''} at {caller()}")


def is_array(x: Any) -> bool:
    return isinstance(x, np.ndarray)


def place(array: np.ndarray) -> Any:
    """Where an array lies, and how."""
    return array.__array_interface__["data"][0], array.shape, array.strides, array.dtype


def check_sum(array: np.ndarray) -> int:
    """0 for an array that nobody can write to: it may be a file, and large."""
    return crc32(array.ravel("K").view(np.uint8).data) if array.flags.writeable else 0


def is_reduce(function: Any) -> bool:
    return getattr(function, "__name__", "") == "reduce"


def owner(array: np.ndarray) -> Any:
    """Whose memory it is."""
    while is_array(array.base):
        array = array.base  # type: ignore[assignment]
    return array


def is_dense(array: np.ndarray) -> bool:
    """Whether the array fills its memory without gaps, its axes in some order."""
    order = sorted(range(array.ndim), key=lambda i: -array.strides[i])
    return array.transpose(order).flags.c_contiguous


def caller() -> str:
    """File and line of the code that asked, outside of the engine."""
    frame: Any = sys._getframe(1)
    here = Path(__file__).parent
    names = ("recording.py", "recorded.py", "tracing.py", "ops", "autograd", "backend.py", "quicker.py")
    engine = (*(str(here / name) for name in names), np.__path__[0])
    while frame.f_back is not None and frame.f_code.co_filename.startswith(engine):
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"
