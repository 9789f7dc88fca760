"""NumPy's functions, on tensors: the same names, the same meanings, and a gradient beside each.

An operation takes tensors, plain arrays and numbers.  With a tensor among them it returns a tensor; on plain
arrays it only computes.  Importing this package also gives `Tensor` its operators and methods.
"""

from __future__ import annotations

from typing import Any

from scratchgen.autograd.primitive import broadcast_to as _broadcast_to
from scratchgen.autograd.tensor import Tensor
from scratchgen.ops import choice, conv, elementwise, index, linalg, products, reduce, shape, special
from scratchgen.ops.choice import *  # noqa: F403
from scratchgen.ops.conv import *  # noqa: F403
from scratchgen.ops.elementwise import *  # noqa: F403
from scratchgen.ops.index import *  # noqa: F403
from scratchgen.ops.products import *  # noqa: F403
from scratchgen.ops.reduce import *  # noqa: F403
from scratchgen.ops.shape import *  # noqa: F403
from scratchgen.ops.special import *  # noqa: F403

__all__ = ["broadcast_to", "linalg"]
__all__ += choice.__all__ + conv.__all__ + elementwise.__all__ + index.__all__
__all__ += products.__all__ + reduce.__all__ + shape.__all__ + special.__all__


def broadcast_to(x, shape):
    """x repeated along new and length-1 axes."""
    return _broadcast_to(x, (shape,) if isinstance(shape, int) else tuple(shape))


# --- what Tensor can do -------------------------------------------------------------------------------------


def _method(function: Any) -> Any:
    """A plain function: Python binds those to `self` sooner than other callables."""
    return lambda self, other: function(self, other)


def _reflected(function: Any) -> Any:
    return lambda self, other: function(other, self)


def _power(base: Any, exponent: Any) -> Any:
    if type(exponent) is int and exponent == 2:
        return elementwise.square(base)
    return elementwise.power(base, exponent)


_BINARY = {
    "add": elementwise.add, "sub": elementwise.subtract, "mul": elementwise.multiply,
    "truediv": elementwise.divide, "mod": elementwise.remainder, "pow": _power,
    "matmul": products.matmul, "floordiv": choice.floor_divide,
}  # fmt: skip
for _name, _function in _BINARY.items():
    setattr(Tensor, f"__{_name}__", _method(_function))
    setattr(Tensor, f"__r{_name}__", _reflected(_function))
for _name, _function in {
    "eq": choice.equal, "ne": choice.not_equal, "lt": choice.less, "le": choice.less_equal,
    "gt": choice.greater, "ge": choice.greater_equal,
}.items():  # fmt: skip
    setattr(Tensor, f"__{_name}__", _function)
_METHODS: dict[str, Any] = {
    "__neg__": elementwise.negative, "__pos__": elementwise.positive, "__abs__": elementwise.absolute,
    "__getitem__": index.getitem, "astype": elementwise.astype, "clip": choice.clip, "ravel": shape.ravel,
    "swapaxes": shape.swapaxes, "squeeze": shape.squeeze, "sum": reduce.sum, "mean": reduce.mean,
    "var": reduce.var, "std": reduce.std,
    "max": reduce.max, "min": reduce.min, "prod": reduce.prod, "cumsum": reduce.cumsum,
    "argmax": reduce.argmax, "argmin": reduce.argmin, "dot": products.dot, "trace": products.trace,
    "diagonal": products.diagonal, "repeat": shape.repeat,
}  # fmt: skip
for _name, _function in _METHODS.items():
    setattr(Tensor, _name, _function)


def _reshape_method(self: Tensor, *shape_: Any) -> Any:
    return shape.reshape(self, shape_[0] if len(shape_) == 1 else shape_)


def _transpose_method(self: Tensor, *axes: Any) -> Any:
    if not axes or axes == (None,):
        return shape.transpose(self)
    return shape.transpose(self, axes[0] if isinstance(axes[0], (tuple, list)) else axes)


def _iterate(self: Tensor) -> Any:
    return (index.getitem(self, i) for i in range(len(self)))


Tensor.reshape = _reshape_method  # type: ignore[attr-defined]
Tensor.transpose = _transpose_method  # type: ignore[attr-defined]
Tensor.T = property(shape.transpose)  # type: ignore[attr-defined]
Tensor.mT = property(shape.matrix_transpose)  # type: ignore[attr-defined]
Tensor.__iter__ = _iterate  # type: ignore[attr-defined]
