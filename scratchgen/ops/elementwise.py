"""One number in, one number out: NumPy's elementwise functions with their derivatives.

Each rule is ∂L/∂x = ∂L/∂y · ∂y/∂x, with g for ∂L/∂y.  At a kink:

    |x| at 0                 0
    √x, ∛x at 0              +inf, as the limit says
    xʸ at x = 0              ∂x is 0 for y = 0;  ∂y is 0
    √(a² + b²) at (0, 0)     0
"""

from __future__ import annotations

from math import log as ln
from typing import Any

from scratchgen.autograd.primitive import primitive
from scratchgen.autograd.tensor import value_of
from scratchgen.backend import nan, pi
from scratchgen.ops.choice import floor_divide, sign, trunc, where

LN2, LN10 = 0.6931471805599453, 2.302585092994046

# --- arithmetic ---------------------------------------------------------------------------------------------


@primitive(lambda g, _y, _a, _b: g, lambda g, _y, _a, _b: g)
def add(xp, a, b, /):
    """y = a + b."""
    return xp.add(a, b)


@primitive(lambda g, _y, _a, _b: g, lambda g, _y, _a, _b: -g)
def subtract(xp, a, b, /):
    """y = a − b."""
    return xp.subtract(a, b)


@primitive(lambda g, _y, _a, b: g * b, lambda g, _y, a, _b: g * a)
def multiply(xp, a, b, /):
    """y = a·b."""
    return xp.multiply(a, b)


@primitive(lambda g, _y, _a, b: g / b, lambda g, y, _a, b: -(g * y / b))
def divide(xp, a, b, /):
    """y = a/b.  b̄ = −ȳ·y/b."""
    return xp.divide(a, b)


true_divide = divide


@primitive(lambda g, _y, _a, _b: g, lambda g, _y, a, b: -(g * floor_divide(a, b)))
def remainder(xp, a, b, /):
    """y = a − b·⌊a/b⌋, in [0, b).  Between the jumps ∂a is 1 and ∂b is −⌊a/b⌋."""
    return xp.remainder(a, b)


mod = remainder


@primitive(lambda g, _y, _a, _b: g, lambda g, _y, a, b: -(g * trunc(divide(value_of(a), value_of(b)))))
def fmod(xp, a, b, /):
    """y = a − b·trunc(a/b), with the sign of a."""
    return xp.fmod(a, b)


@primitive(lambda g, _y, _x: -g)
def negative(xp, x, /):
    """y = −x."""
    return xp.negative(x)


@primitive(lambda g, _y, _x: g)
def positive(xp, x, /):
    """y = x."""
    return xp.positive(x)


@primitive(lambda g, y, _x: -(g * y * y))
def reciprocal(xp, x, /):
    """y = 1/x.  x̄ = −ȳ·y²."""
    return xp.reciprocal(x)


@primitive(lambda g, _y, x: g * sign(x))
def absolute(xp, x, /):
    """y = |x|.  x̄ = ȳ·sign x."""
    return xp.absolute(x)


abs = fabs = absolute


# --- powers, exponentials, logarithms -----------------------------------------------------------------------


@primitive(
    lambda g, _y, a, b: g * (b * power(_no_zero(a, b), b - 1)),
    lambda g, y, a, _b: g * (y * _log_base(a)),
)
def power(xp, a, b, /):
    """y = aᵇ.  ā = ȳ·b·aᵇ⁻¹,  b̄ = ȳ·y·ln a."""
    return xp.power(a, b)


def _log_base(a: Any) -> Any:
    """ln a, and 0 for a = 0."""
    if isinstance(a, (int, float)):
        return ln(a) if a > 0 else 0.0 if a == 0 else nan
    return log(where(_is_zero(a), 1.0, a))


def _is_zero(x: Any) -> Any:
    return value_of(x) == 0


def _no_zero(a: Any, b: Any) -> Any:
    """a, but 1 where both a and b are 0: there b·aᵇ⁻¹ is 0 for every a."""
    if isinstance(b, (int, float)) and b != 0:
        return a
    return where(_is_zero(a) & _is_zero(b), 1.0, a)


float_power = power


@primitive(lambda g, _y, x: g * (2 * x))
def square(xp, x, /):
    """y = x²."""
    return xp.multiply(x, x)


@primitive(lambda g, y, _x: g * 0.5 / y)
def sqrt(xp, x, /):
    """y = √x.  x̄ = ȳ/(2y)."""
    return xp.sqrt(x)


@primitive(lambda g, y, _x: g / (3 * square(y)))
def cbrt(xp, x, /):
    """y = ∛x."""
    return xp.cbrt(x)


@primitive(lambda g, y, _x: g * y)
def exp(xp, x, /):
    """y = eˣ.  x̄ = ȳ·y."""
    return xp.exp(x)


@primitive(lambda g, y, _x: g * y * LN2)
def exp2(xp, x, /):
    """y = 2ˣ."""
    return xp.exp2(x)


@primitive(lambda g, y, _x: g * (y + 1))
def expm1(xp, x, /):
    """y = eˣ − 1, exact near 0."""
    return xp.expm1(x)


@primitive(lambda g, _y, x: g / x)
def log(xp, x, /):
    """y = ln x.  x̄ = ȳ/x."""
    return xp.log(x)


@primitive(lambda g, _y, x: g / (x * LN2))
def log2(xp, x, /):
    """y = log₂ x."""
    return xp.log2(x)


@primitive(lambda g, _y, x: g / (x * LN10))
def log10(xp, x, /):
    """y = log₁₀ x."""
    return xp.log10(x)


@primitive(lambda g, _y, x: g / (1 + x))
def log1p(xp, x, /):
    """y = ln(1 + x), exact near 0."""
    return xp.log1p(x)


@primitive(
    lambda g, y, a, _b: g * (a / where(_is_zero(y), 1.0, y)),
    lambda g, y, _a, b: g * (b / where(_is_zero(y), 1.0, y)),
)
def hypot(xp, a, b, /):
    """y = √(a² + b²)."""
    return xp.hypot(a, b)


# --- circular and hyperbolic functions ----------------------------------------------------------------------


@primitive(lambda g, _y, x: g * cos(x))
def sin(xp, x, /):
    """y = sin x."""
    return xp.sin(x)


@primitive(lambda g, _y, x: -(g * sin(x)))
def cos(xp, x, /):
    """y = cos x."""
    return xp.cos(x)


@primitive(lambda g, y, _x: g * (1 + square(y)))
def tan(xp, x, /):
    """y = tan x.  x̄ = ȳ·(1 + y²)."""
    return xp.tan(x)


@primitive(lambda g, _y, x: g / sqrt(1 - square(x)))
def arcsin(xp, x, /):
    """y = arcsin x."""
    return xp.arcsin(x)


@primitive(lambda g, _y, x: -(g / sqrt(1 - square(x))))
def arccos(xp, x, /):
    """y = arccos x."""
    return xp.arccos(x)


@primitive(lambda g, _y, x: g / (1 + square(x)))
def arctan(xp, x, /):
    """y = arctan x."""
    return xp.arctan(x)


@primitive(
    lambda g, _y, a, b: g * (b / (a * a + b * b)),
    lambda g, _y, a, b: -(g * (a / (a * a + b * b))),
)
def arctan2(xp, a, b, /):
    """The angle of the point (b, a)."""
    return xp.arctan2(a, b)


@primitive(lambda g, _y, x: g * cosh(x))
def sinh(xp, x, /):
    """y = sinh x."""
    return xp.sinh(x)


@primitive(lambda g, _y, x: g * sinh(x))
def cosh(xp, x, /):
    """y = cosh x."""
    return xp.cosh(x)


@primitive(lambda g, y, _x: g * (1 - y * y))
def tanh(xp, x, /):
    """y = tanh x.  x̄ = ȳ·(1 − y²)."""
    return xp.tanh(x)


@primitive(lambda g, _y, x: g / sqrt(1 + square(x)))
def arcsinh(xp, x, /):
    """y = arsinh x."""
    return xp.arcsinh(x)


@primitive(lambda g, _y, x: g / sqrt(square(x) - 1))
def arccosh(xp, x, /):
    """y = arcosh x."""
    return xp.arccosh(x)


@primitive(lambda g, _y, x: g / (1 - square(x)))
def arctanh(xp, x, /):
    """y = artanh x."""
    return xp.arctanh(x)


@primitive(lambda g, _y, _x: g * (pi / 180))
def deg2rad(xp, x, /):
    """y = x·π/180."""
    return xp.deg2rad(x)


@primitive(lambda g, _y, _x: g * (180 / pi))
def rad2deg(xp, x, /):
    """y = x·180/π."""
    return xp.rad2deg(x)


radians, degrees = deg2rad, rad2deg


@primitive(lambda g, _y, _x, dtype: astype(g, _x.dtype), casts=True)
def astype(xp, x, /, dtype):
    """y = x in another precision; the gradient comes back in x's."""
    return x.astype(dtype)


__all__ = [
    "abs",
    "absolute",
    "add",
    "arccos",
    "arccosh",
    "arcsin",
    "arcsinh",
    "arctan",
    "arctan2",
    "arctanh",
    "astype",
    "cbrt",
    "cos",
    "cosh",
    "deg2rad",
    "degrees",
    "divide",
    "exp",
    "exp2",
    "expm1",
    "float_power",
    "fmod",
    "hypot",
    "log",
    "log1p",
    "log2",
    "log10",
    "mod",
    "multiply",
    "negative",
    "positive",
    "power",
    "rad2deg",
    "radians",
    "reciprocal",
    "remainder",
    "sin",
    "sinh",
    "sqrt",
    "square",
    "subtract",
    "tan",
    "tanh",
    "true_divide",
]  # fmt: skip
