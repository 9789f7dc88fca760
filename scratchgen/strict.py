"""A NumPy backend with the manners of a GPU library.

Code that runs on NumPy can still break on CuPy: there a list is no operand, `np.asarray` of a device array
raises, host and device arrays do not mix, a reduction gives a 0-d array rather than a number, and writing
twice to one place is undefined.  `StrictArray` wraps a NumPy array and refuses all of that, so that such
code breaks on a laptop, in the tests, with a message that says why.  The functions on offer are those that
CuPy has too.  What crosses between host and device, and what a CUDA graph could not hold, is told to the
`guard`, whose `watched`, `capturing` and `compare` are also to be found here.
"""

from __future__ import annotations

import operator
from typing import Any

import numpy as np
from scipy import special as scipy_special

from scratchgen import guard
from scratchgen.backend import Agree, Backend, Step, numpy
from scratchgen.guard import CaptureError, capturing, compare, watched
from scratchgen.manners import check_added, mannered
from scratchgen.rehearsal import Rehearsal
from scratchgen.tracing import filled

__all__ = ["CaptureError", "StrictArray", "StrictBackend", "capturing", "compare", "watched"]

SCALARS = (bool, int, float, complex, np.generic)


def _names(text: str) -> list[str]:
    return text.split()


UFUNCS = _names(
    """negative positive absolute fabs sign floor ceil trunc rint exp exp2 expm1 log log2 log10 log1p sqrt
    cbrt square reciprocal sin cos tan arcsin arccos arctan sinh cosh tanh arcsinh arccosh arctanh deg2rad
    rad2deg add subtract multiply divide true_divide floor_divide remainder fmod power float_power
    maximum minimum fmax fmin heaviside logaddexp logaddexp2 arctan2 hypot copysign equal not_equal less
    less_equal greater greater_equal logical_and logical_or logical_not logical_xor isfinite isnan isinf
    signbit conjugate matmul erf erfc ndtr expit logit gammaln digamma polygamma"""
)
FUNCTIONS = _names(
    """sum prod mean var std max min amax amin argmax argmin all any cumsum cumprod dot einsum
    tensordot outer inner kron trace diag diagonal tril triu reshape ravel transpose swapaxes moveaxis
    squeeze expand_dims repeat tile roll flip fliplr flipud rot90 pad concatenate stack where clip sort
    argsort partition take take_along_axis broadcast_to zeros_like ones_like empty_like full_like
    nan_to_num searchsorted ascontiguousarray atleast_1d atleast_2d round isclose allclose array_equal
    bincount unique nonzero real imag copyto"""
)
CREATION = _names("zeros ones empty full eye identity arange linspace tri")
LINALG = _names("inv det slogdet solve cholesky eigh eigvalsh svd norm pinv qr")
SEQUENCES = ("concatenate", "stack", "where")
PRODUCTS = _names("dot einsum tensordot inner kron")
"""Products for which CuPy calls cuBLAS by its own binding, which refuses while a stream is capturing."""
COUNTED = _names("nonzero unique bincount")
"""Functions whose result has a shape that CuPy reads from the device."""
MANY, SMALL = 8, 1 << 21
"""CuPy joins more than so many arrays of one dtype, smaller than that many bytes on average, by a table of their
addresses, which it copies from the host."""


class StrictArray:
    """A NumPy array that behaves as if it lived on another device."""

    __slots__ = ("_a",)
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, array: np.ndarray) -> None:
        self._a = array

    shape = property(lambda self: self._a.shape)
    dtype = property(lambda self: self._a.dtype)
    ndim = property(lambda self: self._a.ndim)
    size = property(lambda self: self._a.size)
    nbytes = property(lambda self: self._a.nbytes)
    T = property(lambda self: self.transpose())

    def __repr__(self) -> str:
        _read("repr()", self)
        return f"strict{self._a!r}"

    def __len__(self) -> int:
        return len(self._a)

    def __array__(self, *_: Any, **__: Any) -> np.ndarray:
        raise TypeError("implicit conversion to a NumPy array: use xp.to_numpy(array)")

    def __array_function__(self, func: Any, *_: Any) -> Any:
        raise TypeError(f"np.{func.__name__} of a device array: use the backend's own {func.__name__}")

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        """Reached when NumPy comes first: a NumPy number may meet a device array, a NumPy array may not."""
        if method != "__call__" or any(isinstance(i, np.ndarray) for i in inputs):
            raise TypeError(f"np.{ufunc.__name__} mixes NumPy and device arrays")
        if not any(isinstance(i, np.generic) for i in inputs):
            raise TypeError(f"np.{ufunc.__name__} of a device array: use the backend's own {ufunc.__name__}")
        return _run(ufunc.__name__, ufunc, *[_operand(i, ufunc.__name__) for i in inputs], **kwargs)

    def __dlpack__(self, **kwargs: Any) -> Any:
        return self._a.__dlpack__(**kwargs)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self._a.__dlpack_device__()

    def __getitem__(self, index: Any) -> StrictArray:
        raw = _index(index)
        _check_masks(raw, self)
        return _run("[…]", operator.getitem, self._a, raw)

    def __setitem__(self, index: Any, value: Any) -> None:
        raw = _index(index)
        _check_masks(raw, self)
        parts = raw if isinstance(raw, tuple) else (raw,)
        places = [p for p in parts if isinstance(p, np.ndarray) and p.dtype != bool]
        if places:
            flat = np.stack([p.ravel() for p in np.broadcast_arrays(*places)], axis=1)
            if len(np.unique(flat, axis=0)) < len(flat):
                raise TypeError("writing twice to one place is undefined on a device: use xp.scatter_add")
        _run("[…] =", operator.setitem, self._a, raw, _operand(value, "assignment"))

    def __iter__(self) -> Any:
        return (self[i] for i in range(len(self)))

    def __bool__(self) -> bool:
        _read("bool()", self)
        return bool(self._a)

    def __float__(self) -> float:
        _read("float()", self)
        return float(self._a)

    def __int__(self) -> int:
        _read("int()", self)
        return int(self._a)

    def __index__(self) -> int:
        raise TypeError("a device array is no index for host code: use int(array)")

    def item(self) -> Any:
        _read("item()", self)
        return self._a.item()

    def tolist(self) -> Any:
        _read("tolist()", self)
        return self._a.tolist()

    def copy(self) -> StrictArray:
        return _run("copy", np.ndarray.copy, self._a)

    def astype(self, dtype: Any, copy: bool = True) -> StrictArray:
        return _run("astype", np.ndarray.astype, self._a, dtype, copy=copy)

    def view(self, dtype: Any = None) -> StrictArray:
        return _run("view", np.ndarray.view, self._a, dtype or self.dtype)

    def fill(self, value: Any) -> None:
        _run("fill", np.ndarray.fill, self._a, _operand(value, "fill"))


def _read(what: str, array: StrictArray) -> None:
    guard.crossing(guard.READ, what, array.nbytes, "let the number stay on the device: compute with it, choose by "
                   "xp.where, and read it after the step")


def _check_masks(raw: Any, array: StrictArray) -> None:
    """CuPy counts what a mask chooses, and reads the count."""
    if any(isinstance(p, np.ndarray) and p.dtype == bool for p in (raw if isinstance(raw, tuple) else (raw,))):
        guard.crossing(guard.READ, "a boolean mask as an index", 4, "choose by xp.where")


def _check_product(name: str) -> None:
    guard.refused(f"{name} calls cuBLAS through CuPy, which refuses", "use xp.matmul")


def _binary(name: str, reflected: bool = False) -> Any:
    function = getattr(operator, name)

    def method(self: StrictArray, other: Any) -> Any:
        if getattr(other, "__array_ufunc__", True) is None:
            return NotImplemented  # a Tensor: its own reflected operator answers
        raw = _operand(other, name)
        if name == "matmul":
            _check_product("@")
        return _run(name, function, *((raw, self._a) if reflected else (self._a, raw)))

    return method


for _name in _names("add sub mul truediv floordiv mod pow matmul and or xor rshift"):
    _plain = {"and": "and_", "or": "or_"}.get(_name, _name)
    setattr(StrictArray, f"__{_name}__", _binary(_plain))
    setattr(StrictArray, f"__r{_name}__", _binary(_plain, reflected=True))
for _name in _names("eq ne lt le gt ge"):
    setattr(StrictArray, f"__{_name}__", _binary(_name))
for _in_place_operator in (operator.iadd, operator.isub, operator.imul, operator.itruediv):

    def _in_place(self: StrictArray, other: Any, _function: Any = _in_place_operator) -> StrictArray:
        raw, here = _operand(other, _function.__name__), self._a
        self._a = _function(here, raw)
        guard.heard(_function.__name__, (here, raw), self._a)
        return self

    setattr(StrictArray, f"__{_in_place_operator.__name__}__", _in_place)
for _name, _function in {"neg": operator.neg, "abs": operator.abs, "invert": operator.invert}.items():
    setattr(StrictArray, f"__{_name}__", lambda self, _f=_function: _run(_f.__name__, _f, self._a))
METHODS = "sum mean max min prod reshape transpose ravel argmax argmin any all cumsum squeeze swapaxes"
for _name in _names(METHODS):

    def _method(self: StrictArray, *args: Any, _name: str = _name, **kwargs: Any) -> StrictArray:
        return _run(_name, getattr(np.ndarray, _name), self._a, *args, **kwargs)

    setattr(StrictArray, _name, _method)


def _run(name: str, function: Any, *args: Any, **kwargs: Any) -> Any:
    """function of raw arrays, its result as a device would give it."""
    found = _wrap(function(*args, **kwargs))
    if guard.listening():
        guard.heard(name, (args, kwargs), [x._a for x in guard.leaves(found) if isinstance(x, StrictArray)])
    return found


def _wrap(result: Any) -> Any:
    """NumPy's answer as a device would give it: an array, of no dimensions if need be."""
    if isinstance(result, (np.ndarray, np.generic)):
        return StrictArray(np.asarray(result))
    if isinstance(result, tuple):
        return tuple(_wrap(r) for r in result)
    if isinstance(result, list):
        return [_wrap(r) for r in result]
    return result


def _operand(x: Any, where: str) -> Any:
    if isinstance(x, StrictArray):
        return x._a
    if x is None or isinstance(x, SCALARS):
        return x
    raise TypeError(f"{where}: a {type(x).__name__} is no operand on a device; bring it in with xp.asarray")


def _index(index: Any) -> Any:
    if isinstance(index, tuple):
        return tuple(_index(i) for i in index)
    if isinstance(index, (list, np.ndarray)):
        raise TypeError("a host list or array is no index on a device; bring it there with xp.asarray")
    return index._a if isinstance(index, StrictArray) else index


def _unwrap(x: Any, where: str) -> Any:
    """An argument of a function that is no ufunc: shapes, axes and names pass, host arrays do not."""
    if isinstance(x, StrictArray):
        return x._a
    if isinstance(x, np.ndarray):
        raise TypeError(f"{where}: a NumPy array met a device array; bring it there with xp.asarray")
    if isinstance(x, (list, tuple)):
        return type(x)(_unwrap(i, where) for i in x)
    return x


def _ufunc(name: str, function: Any) -> Any:
    def call(*args: Any, out: Any = None, **kwargs: Any) -> Any:
        raw = [_operand(a, name) for a in args]
        if out is not None:
            _run(name, function, *raw, out=out._a, **kwargs)
            return out
        return _run(name, function, *raw, **kwargs)

    return call


def _function_of(name: str, function: Any) -> Any:
    def call(*args: Any, **kwargs: Any) -> Any:
        operands = args[0] if name in SEQUENCES and isinstance(args[0], (list, tuple)) else args[:1]
        if any(isinstance(a, (list, tuple)) for a in operands):
            raise TypeError(f"{name}: a list is no operand on a device; bring it there with xp.asarray")
        raw = [_unwrap(a, name) for a in args]
        if guard.listening():
            _check(name, raw)
        return _run(name, function, *raw, **{k: _unwrap(v, name) for k, v in kwargs.items()})

    return call


def _check(name: str, raw: list[Any]) -> None:
    """Functions that CuPy cannot do without the host, or without a library that refuses in a capture."""
    if name in PRODUCTS:
        _check_product(name)
    if name in LINALG and name != "norm" and not guard.has_kernel(name, *raw):
        guard.refused(f"linalg.{name} calls cuSOLVER through CuPy, which refuses", "leave it out of the captured step")
    if name == "cholesky" and not guard.is_capturing():
        guard.crossing(guard.READ, "linalg.cholesky asks whether there is a factor", 1, "let a graph hold it")
    if name in COUNTED or (name == "where" and len(raw) == 1):
        guard.crossing(guard.READ, f"{name}, whose shape depends on numbers", 8, "choose by xp.where")
    if name in ("concatenate", "stack") and len(raw[0]) > MANY:
        bytes_in_all = sum(a.nbytes for a in raw[0])
        if len({a.dtype for a in raw[0]}) == 1 and bytes_in_all < SMALL * len(raw[0]):
            guard.crossing(guard.IN, f"{name} of {len(raw[0])} small arrays, by a table of their addresses",
                           8 * len(raw[0]), "write them to their places in one array")


class _Linalg:
    def __init__(self) -> None:
        for name in LINALG:
            function = _cholesky if name == "cholesky" else getattr(np.linalg, name)
            setattr(self, name, _function_of(name, mannered(name, function)))


def _cholesky(x: np.ndarray) -> np.ndarray:
    """A device asks whether there is a factor of each matrix; in a capture, nan stands for one that there is not."""
    if not guard.is_capturing():
        return np.linalg.cholesky(x)
    return np.reshape([_factor(part) for part in x.reshape(-1, *x.shape[-2:])], x.shape)


def _factor(x: np.ndarray) -> np.ndarray:
    try:
        return np.linalg.cholesky(x)
    except np.linalg.LinAlgError:
        return np.full_like(x, np.nan)


class _AddAt:
    """`xp.add`, with `at` for repeated places."""

    def __init__(self) -> None:
        self._call = _ufunc("add", mannered("add", np.add))

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._call(*args, **kwargs)

    def at(self, array: StrictArray, index: Any, values: StrictArray) -> None:
        check_added(array.dtype)
        _run("add.at", np.add.at, array._a, _index(index), _operand(values, "add.at"))


class StrictBackend(Backend):
    """See the module's docstring."""

    name = "strict"
    on_device = True

    def __init__(self) -> None:
        super().__init__()
        self.linalg = _Linalg()
        self.add = _AddAt()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        found: Any = getattr(np, name, None) or getattr(scipy_special, name, None)
        found = mannered(name, found) if found is not None else None
        call: Any
        if name in UFUNCS:
            call = _ufunc(name, found)
        elif name in FUNCTIONS:
            call = _function_of(name, found)
        elif name in CREATION:
            call = lambda *args, **kwargs: _run(name, found, *args, **kwargs)  # noqa: E731
        else:
            raise AttributeError(f"the strict backend has no function {name!r}: is it one that CuPy has?")
        setattr(self, name, call)  # the next look-up is a plain attribute
        return call

    def graph(self, step: Step, agree: Agree = guard.alone) -> Step:
        return Rehearsal(step, agree)

    def window_view(self, x: StrictArray, shape: tuple[int, ...], stride: int) -> StrictArray:
        return _run("window_view", numpy.window_view, x._a, shape, stride)

    def noise_stream(self, drawn: int, key: tuple[int, int]) -> StrictArray:
        return _run("noise_stream", numpy.noise_stream, drawn, key)

    def noise(self, law: str, stream: StrictArray, shape: Any, dtype: Any, bounds: Any = (), out: Any = None) -> Any:
        return filled(out, _run("noise", numpy.noise, law, stream._a, shape, dtype, bounds))

    def asarray(self, host: Any, dtype: Any = None) -> StrictArray:
        if isinstance(host, StrictArray):
            return host if dtype is None else host.astype(dtype, copy=False)
        array = np.array(host, dtype=dtype)
        if array.ndim:
            guard.crossing(guard.IN, "asarray of host data", array.nbytes, "bring it in once, before the step; noise "
                           "comes from a Generator in mode counter")
        guard.heard("asarray", array.tolist() if array.ndim == 0 else None, array)  # a kernel fills in a number
        return StrictArray(array)

    def to_numpy(self, array: Any) -> np.ndarray:
        if not isinstance(array, StrictArray):
            return np.asarray(array)
        guard.crossing(guard.OUT, "to_numpy", array.nbytes, "take results out after the step")
        return array._a.copy()
