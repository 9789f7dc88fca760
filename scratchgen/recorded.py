"""The arrays of a step that is being written down, and the words it is written in.

A `Recorded` array computes as NumPy's does, and tells its `Recorder` (`recording`) of each result.  A `Slot` says where
an array lies, in the memory of its root: what is only another look at the same memory (a reshape, a slice) is another
slot of the same root.  A `Call` is one thing that was done.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from copy import copy
from typing import Any, NamedTuple

import numpy as np

from scratchgen.backend import numpy, register


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

    by: the Recorder.
    number: whether NumPy would have given a number instead, to which nobody can write: `s += 1` makes another one.
    """

    __hash__ = None  # type: ignore[assignment]

    def __init__(self, by: Any, slot: Slot, value: np.ndarray) -> None:
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
