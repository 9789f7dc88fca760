"""One or the other: where, the larger and the smaller, clipping; and functions constant between their jumps.

What happens at a kink:

    where                    passes 0 to the branch not taken: a branch whose derivative is inf there still
                             gives 0·inf = nan; guard its *argument*: where(x>0, sqrt(where(x>0, x, 1)), 0)
    maximum, minimum         a tie shares the gradient equally
    fmax, fmin               the same; a number beats nan
    clip at a bound          the gradient passes to x (the bound belongs to the interval), 0 to the bound

Functions that are constant between jumps (sign, floor, comparisons) return plain arrays: their gradient is 0.
"""

from __future__ import annotations

from typing import Any

from scratchgen.autograd.primitive import primitive
from scratchgen.autograd.tensor import value_of
from scratchgen.backend import backend_of, float32

# --- constant between jumps: plain arrays -------------------------------------------------------------------


def _constant(name: str, doc: str) -> Any:
    def function(*xs):
        values = [value_of(x) for x in xs]
        return getattr(backend_of(*values, operation=name), name)(*values)

    function.__name__ = function.__qualname__ = name
    function.__doc__ = doc + "  A plain array: constant between its jumps."
    return function


sign = _constant("sign", "−1, 0 or 1.")
floor = _constant("floor", "⌊x⌋.")
ceil = _constant("ceil", "⌈x⌉.")
trunc = _constant("trunc", "x without its fraction.")
rint = _constant("rint", "The nearest integer, halves to even.")
floor_divide = _constant("floor_divide", "⌊a/b⌋.")
isfinite = _constant("isfinite", "Whether x is neither infinite nor nan.")
isnan = _constant("isnan", "Whether x is nan.")
isinf = _constant("isinf", "Whether x is infinite.")
signbit = _constant("signbit", "Whether x is negative.")
equal = _constant("equal", "a = b.")
not_equal = _constant("not_equal", "a ≠ b.")
less = _constant("less", "a < b.")
less_equal = _constant("less_equal", "a ≤ b.")
greater = _constant("greater", "a > b.")
greater_equal = _constant("greater_equal", "a ≥ b.")
logical_and = _constant("logical_and", "a and b.")
logical_or = _constant("logical_or", "a or b.")
logical_not = _constant("logical_not", "not a.")
logical_xor = _constant("logical_xor", "exactly one of a and b.")
heaviside = _constant("heaviside", "0 for x < 0, 1 for x > 0, the second argument at 0.")

# --- choices ------------------------------------------------------------------------------------------------


@primitive(
    None,
    lambda g, _y, condition, _a, _b: where(condition, g, 0.0),
    lambda g, _y, condition, _a, _b: where(condition, 0.0, g),
)
def where(xp, condition, a, b, /):
    """y = a where the condition holds, b elsewhere; two numbers give float32."""
    if not (hasattr(a, "dtype") or hasattr(b, "dtype")):
        a = xp.asarray(a, float32)
    return xp.where(condition, a, b)


def _share(g: Any, mine: Any, other: Any, wins: Any) -> Any:
    """g to the winner, half of it in a tie."""
    return where(wins, g, where(equal(mine, other), 0.5 * g, 0.0))


@primitive(lambda g, _y, a, b: _share(g, a, b, a > b), lambda g, _y, a, b: _share(g, b, a, b > a))
def maximum(xp, a, b, /):
    """y = max(a, b); nan if either is."""
    return xp.maximum(a, b)


@primitive(lambda g, _y, a, b: _share(g, a, b, a < b), lambda g, _y, a, b: _share(g, b, a, b < a))
def minimum(xp, a, b, /):
    """y = min(a, b); nan if either is."""
    return xp.minimum(a, b)


@primitive(
    lambda g, _y, a, b: _share(g, a, b, (a > b) | (b != b)),
    lambda g, _y, a, b: _share(g, b, a, (b > a) | (a != a)),
)
def fmax(xp, a, b, /):
    """y = max(a, b); the other where one is nan."""
    return xp.fmax(a, b)


@primitive(
    lambda g, _y, a, b: _share(g, a, b, (a < b) | (b != b)),
    lambda g, _y, a, b: _share(g, b, a, (b < a) | (a != a)),
)
def fmin(xp, a, b, /):
    """y = min(a, b); the other where one is nan."""
    return xp.fmin(a, b)


def clip(x, a_min=None, a_max=None):
    """y = x held to [a_min, a_max]; a bound of None is no bound."""
    if a_min is None and a_max is None:
        raise ValueError("clip: give a lower or an upper bound")
    if a_min is not None:
        x = _at_least(x, a_min)
    return x if a_max is None else _at_most(x, a_max)


@primitive(
    lambda g, _y, x, bound: where(value_of(x) >= value_of(bound), g, 0.0),
    lambda g, _y, x, bound: where(value_of(x) >= value_of(bound), 0.0, g),
)
def _at_least(xp, x, bound, /):
    return xp.maximum(x, bound)


@primitive(
    lambda g, _y, x, bound: where(value_of(x) <= value_of(bound), g, 0.0),
    lambda g, _y, x, bound: where(value_of(x) <= value_of(bound), 0.0, g),
)
def _at_most(xp, x, bound, /):
    return xp.minimum(x, bound)


@primitive(lambda g, y, a, _b: g * (y / where(equal(a, 0), 1.0, a)), None)
def copysign(xp, a, b, /):
    """y = |a| with b's sign.  ā = ȳ·y/a, 0 at a = 0; constant in b between its jumps."""
    return xp.copysign(a, b)


__all__ = [
    "ceil", "clip", "copysign", "equal", "floor", "floor_divide", "fmax", "fmin", "greater",
    "greater_equal", "heaviside", "isfinite", "isinf", "isnan", "less", "less_equal", "logical_and",
    "logical_not", "logical_or", "logical_xor", "maximum", "minimum", "not_equal", "rint", "sign",
    "signbit", "trunc", "where",
]  # fmt: skip
