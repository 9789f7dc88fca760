"""Derivatives of functions, as functions: what JAX and autograd call transforms.

    grad(f)(x) = ∇f(x)     vjp: v ↦ Jᵀv     jvp: v ↦ Jv     hvp: v ↦ Hv

They nest to any order: `grad(grad(f))` is f″.  Arrays in give arrays out; tensors in give tensors out, which
remember where they came from.  A function may also use tensors from outside (a network's parameters): then
the derivative is a tensor too, and can be differentiated with respect to them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from scratchgen.autograd.backward import constant, depends_on_others, gradients, retire
from scratchgen.autograd.primitive import primitive
from scratchgen.autograd.tensor import FLOATS, Tensor, value_of
from scratchgen.backend import active, backend_of, float32, float64


@primitive(lambda g, _y, _x: g)
def identity(xp: Any, x: Any, /) -> Any:
    """y = x, a new node: what is differentiated with respect to y does not see x's other uses."""
    return x


def stop_gradient(x: Any) -> Any:
    """sg[x]: the value of x as a plain array, a constant to everything that follows."""
    return x.array if type(x) is Tensor else x


def _variable(x: Any) -> Tensor:
    """x as a fresh variable: a leaf for an array, linked to its history for a tensor."""
    if type(x) is Tensor:
        return identity(x)
    if type(x) in (bool, int, float):
        return Tensor(active().asarray(x, float32))
    value = backend_of(x).saved(x)
    if value.dtype not in FLOATS:
        raise TypeError(f"derivative with respect to {value.dtype}: only float32 and float64 vary")
    return Tensor(value)


def _call(f: Callable, args: tuple, argnums: Sequence[int], kwargs: dict) -> tuple[list[Tensor], Any]:
    full = list(args)
    for i in argnums:
        full[i] = _variable(args[i])
    return [full[i] for i in argnums], f(*full, **kwargs)


def _is_nested(y: Any, variables: list[Tensor]) -> bool:
    """Whether the derivative may be differentiated again: tensors came in, or y was made of some from outside."""
    if any(v.node.plan is not None for v in variables):
        return True
    return type(y) is Tensor and depends_on_others(y, {v.node for v in variables})


def value_and_grad(f: Callable, argnums: int | Sequence[int] = 0) -> Callable:
    """x ↦ (f(x), ∇f(x)) for scalar f; a tuple of gradients where `argnums` is a sequence.

    Raises ValueError if f(x) is no scalar.
    """
    numbers = (argnums,) if isinstance(argnums, int) else tuple(argnums)

    def both(*args: Any, **kwargs: Any) -> tuple[Any, Any]:
        variables, y = _call(f, args, numbers, kwargs)
        if getattr(y, "shape", ()) != ():
            raise ValueError(f"grad: the function's value has shape {y.shape}; a gradient needs a scalar")
        nested = _is_nested(y, variables)
        found = gradients(y, variables, create_graph=nested)
        retire(variables)
        return (y if nested else value_of(y)), (found[0] if isinstance(argnums, int) else tuple(found))

    return both


def grad(f: Callable, argnums: int | Sequence[int] = 0) -> Callable:
    """x ↦ ∇f(x) for scalar f.  See `value_and_grad`."""
    both = value_and_grad(f, argnums)
    return lambda *args, **kwargs: both(*args, **kwargs)[1]


def vjp(f: Callable, *args: Any) -> tuple[Any, Callable]:
    """f(x) and the map v ↦ Jᵀv, one result per argument (as a tuple where there are several)."""
    variables, y = _call(f, args, range(len(args)), {})
    nested = _is_nested(y, variables)
    retire(variables)

    def pull(v: Any) -> Any:
        again = nested or type(v) is Tensor
        found = gradients(y, variables, g=v, create_graph=again)
        return found[0] if len(found) == 1 else tuple(found)

    return (y if nested else stop_gradient(y)), pull  # read only, since `pull` may still read it


def jvp(f: Callable, args: Sequence[Any], tangents: Sequence[Any]) -> tuple[Any, Any]:
    """f(x) and Jv, for one v of x's shape per argument.

    Jᵀg is linear in g, and its own transpose is J: so Jv is the gradient of ⟨Jᵀg, v⟩ with respect to g.
    """
    variables, y = _call(f, tuple(args), range(len(args)), {})
    nested = _is_nested(y, variables) or any(type(v) is Tensor for v in tangents)
    for x, v in zip(variables, tangents, strict=True):
        if (shape := getattr(v, "shape", ())) != x.shape:
            raise ValueError(f"jvp: a tangent of shape {shape} for an argument of shape {x.shape}")
    if type(y) is not Tensor:
        return y, y * 0
    g = Tensor(backend_of(y.value).zeros(y.shape, y.dtype))
    pulled = gradients(y, variables, g=g, create_graph=True)
    pairing: Any = 0.0
    for p, v in zip(pulled, tangents, strict=True):
        pairing = pairing + (p * v).sum()
    (forward,) = gradients(pairing, [g], create_graph=nested)
    retire([*variables, g])
    return (y if nested else value_of(y)), forward


def _basis(y: Tensor) -> list[Any]:
    """The unit arrays of y's shape."""
    rows = backend_of(y.value).eye(int(y.size), dtype=y.dtype)
    return [rows[i].reshape(y.shape) for i in range(rows.shape[0])]


def jacobian(f: Callable, argnum: int = 0) -> Callable:
    """x ↦ J with J[i…, j…] = ∂f_i/∂x_j, of shape f(x).shape + x.shape: one walk back per row."""

    def rows(*args: Any, **kwargs: Any) -> Any:
        (x,), y = _call(f, args, (argnum,), kwargs)
        nested = _is_nested(y, [x])
        units = _basis(y) if type(y) is Tensor else []
        found = [gradients(y, [x], g=unit, create_graph=nested)[0] for unit in units]
        retire([x])
        shape = getattr(y, "shape", ()) + x.shape
        if found:
            return _stack_rows(*found).reshape(shape)
        zeros = backend_of(x.value).zeros(shape, x.dtype)
        return constant(zeros) if nested else zeros

    return rows


@primitive(lambda i, g, _y, _xs: g[i])
def _stack_rows(xp: Any, *rows: Any) -> Any:
    """Rows stacked along a new first axis."""
    return xp.joined([row[None] for row in rows])


def hessian(f: Callable, argnum: int = 0) -> Callable:
    """x ↦ H with H[i…, j…] = ∂²f/∂x_i∂x_j, for scalar f."""
    return jacobian(grad(f, argnum), argnum)


def hvp(f: Callable, x: Any, v: Any) -> Any:
    """Hv for scalar f, at the cost of two walks back: the gradient of ⟨∇f, v⟩."""
    return grad(lambda z: (grad(f)(z) * v).sum())(x)


class GradientError(AssertionError):
    """An analytic derivative that differs from the numeric one."""


def check_grads(f: Callable, args: Sequence[Any], order: int = 1, seed: int = 0, rtol: float = 1e-6) -> None:
    """Compare f's derivatives with central differences along random directions, to the given order.

        ⟨g, f(x+hv) − f(x−hv)⟩ / 2h  ≈  ⟨Jᵀg, v⟩        (g, v random: a gradient of ones would be blind)

    args: float64 arrays.  Raises GradientError that names the argument, the order and both numbers.
    A tolerance of 1e-6 suits h = ε^⅓·max(1, ‖x‖∞) in float64; each further order loses a digit.
    """
    noise = np.random.default_rng(seed)
    args = [value_of(a) for a in args]
    for a in args:
        if getattr(a, "dtype", None) != float64:
            raise TypeError("check_grads: needs float64 arrays")
    _check(f, list(args), order, noise, rtol, order)


def _check(f: Callable, args: list[Any], order: int, noise: Any, rtol: float, top: int) -> None:
    y, pull = vjp(f, *args)
    y = value_of(y)
    xp = backend_of(*args)
    g = xp.asarray(noise.standard_normal(y.shape))
    pulled = pull(g)
    pulled = pulled if isinstance(pulled, tuple) else (pulled,)
    tolerance = rtol * 10 ** (top - order)
    for i, x in enumerate(args):
        v = noise.standard_normal(x.shape)
        v /= max(1.0, float(np.linalg.norm(v)))
        h = np.finfo(np.float64).eps ** (1 / 3) * max(1.0, float(xp.absolute(x).max()) if x.size else 1.0)
        step = xp.asarray(h * v)
        ahead = value_of(f(*[a + step if j == i else a for j, a in enumerate(args)]))
        behind = value_of(f(*[a - step if j == i else a for j, a in enumerate(args)]))
        numeric = float((g * (ahead - behind)).sum()) / (2 * h)
        analytic = float((value_of(pulled[i]) * xp.asarray(v)).sum())
        scale = max(1.0, abs(numeric))
        if not abs(numeric - analytic) <= tolerance * scale:
            raise GradientError(
                f"argument {i}, order {top - order + 1}: numeric {numeric:.12g}, analytic {analytic:.12g}, "
                f"tolerance {tolerance * scale:.2g}"
            )
    if order > 1:

        def gradient_along_g(*inner: Any) -> Any:
            found = vjp(f, *inner)[1](g)
            weights = [xp.asarray(np.cos(np.arange(x.size) + 1.0).reshape(x.shape)) for x in args]
            found = found if isinstance(found, tuple) else (found,)
            return sum((p * w).sum() for p, w in zip(found, weights, strict=True))

        _check(gradient_along_g, args, order - 1, noise, rtol, top)


__all__ = [
    "GradientError", "check_grads", "grad", "gradients", "hessian", "hvp", "identity",
    "jacobian", "jvp", "stop_gradient", "value_and_grad", "vjp",
]  # fmt: skip
