"""What one step computes, written down: a list of array calls.

While a `Recorder` listens, a step runs on `Recorded` arrays.  They compute as NumPy's do and leave a `Call` for each
result; what is only another look at the same memory (a reshape, a slice) leaves none, since a `Slot` says where an
array lies in the memory of its root.  Whatever would take a number out of the arrays (`float(x)`, `if x > 0:`) cannot
be written down, and says so.
"""

from __future__ import annotations

import operator
import sys
from collections.abc import Callable, Sequence
from copy import copy
from pathlib import Path
from threading import get_ident
from typing import Any, NamedTuple
from zlib import crc32

import numpy as np

from scratchgen import tracing
from scratchgen.autograd.tensor import Tensor
from scratchgen.backend import is_basic, numpy, register
from scratchgen.random import Generator


class ReplayError(RuntimeError):
    """A step that cannot be replayed; one line that names the operation and where it stands."""


class Slot:
    """Where an array of the step lies: in the memory of its root, which is its own.  The root's origin is "input",
    one of the step's arguments; "made", by a call; or "outside", there before the step, and `array` is it.
    """

    def __init__(self, array: np.ndarray, root: Slot | None = None, origin: str = "made", number: int = 0) -> None:
        self.root: Slot = self if root is None else root
        self.origin: str = origin if root is None else root.origin
        self.number: int = number if root is None else root.number
        self.shape, self.strides, self.dtype, self.nbytes = array.shape, array.strides, array.dtype, array.nbytes
        self.address: int = array.__array_interface__["data"][0]
        self.offset: int = self.address - self.root.address
        self.array = array if self.origin == "outside" else None
        self.written = 0  # calls that write to a root after the one that made it
        self.anew = False  # a root from outside that every step makes anew: nobody else has it

    @property
    def layout(self) -> tuple[Any, ...]:
        return self.shape, self.strides, self.dtype

    @property
    def key(self) -> tuple[Any, ...]:
        return self.number, self.offset, *self.layout

    def seen_as(self, **changes: Any) -> Slot:
        """The same array with another root, shape, …."""
        slot = copy(self)
        vars(slot).update(changes)
        return slot


class Given(NamedTuple):
    """One of the step's arguments that is no array: a generator."""

    place: int


class Call(NamedTuple):
    """One call of the step, and how it hands over its result:

    out      f(*args, **options, out=out)          copy     out[…] = args[0], where options say so
    into     out[…] = f(*args, **options)          only     f(*args, **options), which may write to `out`
    """

    how: str
    function: Any
    args: tuple[Any, ...]
    options: dict[str, Any]
    out: Slot | None = None
    always: bool = False  # it has consequences beyond its result

    @property
    def name(self) -> str:
        name = getattr(self.function, "__name__", str(self.function))
        ufunc = getattr(self.function, "__self__", None)
        return f"{ufunc.__name__}.{name}" if isinstance(ufunc, np.ufunc) else name

    @property
    def reads(self) -> list[Slot]:
        return [x for x in leaves((self.args, self.options)) if type(x) is Slot]


def leaves(x: Any) -> list[Any]:
    """What is in nested tuples, lists and dictionaries."""
    if isinstance(x, dict):
        x = list(x.values())
    return [leaf for part in x for leaf in leaves(part)] if isinstance(x, (tuple, list)) else [x]


def mapped(x: Any, f: Callable[[Any], Any]) -> Any:
    """The same nest with f of everything that is no nest."""
    if isinstance(x, dict):
        return {key: mapped(value, f) for key, value in x.items()}
    if not isinstance(x, (tuple, list)) or type(x) is Given:
        return f(x)
    parts = [mapped(part, f) for part in x]
    return type(x)(*parts) if hasattr(x, "_fields") else type(x)(parts)


class Recorded(np.lib.mixins.NDArrayOperatorsMixin):
    """An array of a step that is being written down; `value` is what it is now.

    number: whether NumPy would have given a number instead, to which nobody can write: `s += 1` makes another one.
    """

    __hash__ = None  # type: ignore[assignment]

    def __init__(self, by: Recorder, slot: Slot, value: np.ndarray) -> None:
        self.by, self.slot, self.value, self.number = by, slot, value, False
        self.flags = copy(FLAGS)

    T = property(lambda self: self.transpose())
    mT = property(lambda self: self.swapaxes(-1, -2))

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> Any:
        return self.by.ufunc(ufunc, method, inputs, options)

    def __array_function__(self, function: Any, _types: Any, args: Any, options: Any) -> Any:
        return self.by.function(function, args, options)

    def __getattr__(self, name: str) -> Any:
        """Attributes as the array's, methods as NumPy's functions, and no way to a number."""
        if name in ("shape", "strides", "dtype", "ndim", "size", "nbytes", "itemsize"):
            return getattr(self.value, name)
        if name in ("item", "tolist"):
            self._read(f"{name}()")
        function = METHODS.get(name) or getattr(np.ndarray, name, None)
        if not callable(function):
            if hasattr(np.ndarray, name) and not name.startswith("_"):
                raise self.by.error(f"the attribute {name!r} of an array cannot be recorded", self.slot)
            raise AttributeError(f"replay: an array of a recorded step has no {name!r}")
        return lambda *args, **options: self.by.function(function, (self, *args), options)

    def __len__(self) -> int:
        return len(self.value)

    def __iter__(self) -> Any:
        return (self[i] for i in range(len(self)))

    def __getitem__(self, index: Any) -> Any:
        return self.by.function(operator.getitem, (self, index), {})

    def __setitem__(self, index: Any, value: Any) -> None:
        self.by.assign(self, index, value)

    def _power(self, exponent: Any, **out: Any) -> Any:
        """NumPy's operator, not its function, takes shorter ways for these exponents."""
        ways = {2: np.square, 0.5: np.sqrt, 1: np.positive, -1: np.reciprocal}
        way = ways.get(exponent) if type(exponent) in (int, float) and self.dtype.kind == "f" else None
        return np.power(self, exponent, **out) if way is None else way(self, **out)

    def __pow__(self, exponent: Any) -> Any:
        return self._power(exponent)

    def __ipow__(self, exponent: Any) -> Any:
        return self._power(exponent, out=self)

    def reshape(self, *shape: Any) -> Any:
        here = self if np.may_share_memory(self.value, self.value.reshape(*shape)) else self.copy()
        return self.by.look(here, here.value.reshape(*shape))

    def transpose(self, *axes: Any) -> Any:
        return self.by.look(self, self.value.transpose(*axes))

    def view(self, dtype: Any = None) -> Any:
        return self.by.look(self, self.value.view(dtype or self.dtype))

    def copy(self) -> Any:
        value = self.value[()] if self.number else self.value
        return self.by.made(Call("copy", "copy", (self.slot,), {}), value.copy())

    def astype(self, dtype: Any, copy: bool = True) -> Any:
        if not copy and self.dtype == dtype:
            return self
        value = self.value[()] if self.number else self.value
        return self.by.made(Call("copy", "astype", (self.slot,), {"casting": "unsafe"}), value.astype(dtype))

    def _read(self, what: str) -> Any:
        raise self.by.error(f"{what} reads a number of a step that is to be replayed", self.slot)

    def __array__(self, *_: Any, **__: Any) -> np.ndarray:
        return self._read("numpy()")

    __bool__ = lambda self: self._read("if, while or bool()")  # noqa: E731
    __float__ = lambda self: self._read("float()")  # noqa: E731
    __int__ = lambda self: self._read("int()")  # noqa: E731
    __index__ = lambda self: self._read("an index, range() or a shape")  # noqa: E731
    __round__ = lambda self, *_: self._read("round()")  # noqa: E731

    def __format__(self, _: str) -> str:
        return self._read("a text")

    def __str__(self) -> str:
        return self._read("a text")


FLAGS = type("Flags", (), {})()  # an array of the step may be called read-only: nobody writes to it unheard
REDUCTIONS: dict[Any, np.ufunc] = {
    np.sum: np.add, np.max: np.maximum, np.min: np.minimum, np.prod: np.multiply, np.any: np.logical_or,
    np.all: np.logical_and,
}  # fmt: skip
METHODS = {f.__name__: f for f in (*REDUCTIONS, np.mean)}
SAME = (np.atleast_1d, np.atleast_2d, np.atleast_3d, np.squeeze, np.ndarray.squeeze)  # may give what they are given
register(numpy, Recorded)


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
    engine = (__file__, *(str(here / name) for name in ("tracing.py", "ops", "autograd", "backend.py")), np.__path__[0])
    while frame.f_back is not None and frame.f_code.co_filename.startswith(engine):
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"
