"""One number in, one number out: NumPy's elementwise functions with their derivatives.

Each rule is ∂L/∂x = ∂L/∂y · ∂y/∂x, with g for ∂L/∂y.  At a kink:

    |x| at 0                 0
    maximum, minimum         a tie shares the gradient equally
    clip at a bound          the gradient passes (the bound belongs to the interval)
    √x at 0                  +inf, as the limit says
    xʸ at x = 0              ∂x is 0 for y = 0;  ∂y is 0
    where                    passes 0 to the branch not taken: a branch whose own derivative is inf or nan there
                             still gives 0·inf = nan; guard its *argument*: where(x>0, sqrt(where(x>0, x, 1)), 0)

Functions that are constant between jumps (sign, floor, comparisons) return plain arrays: their gradient is 0.
"""

from __future__ import annotations

from typing import Any

from scratchgen.autograd.tensor import primitive, value_of
from scratchgen.backend import backend_of, pi

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


@primitive(lambda g, _y, a, b: g * sign(a) * sign(b), None)
def copysign(xp, a, b, /):
    """y = |a| with b's sign."""
    return xp.copysign(a, b)


# --- powers, exponentials, logarithms -----------------------------------------------------------------------


def _less_one(y: Any) -> Any:
    """y − 1, and 1 where y is 0: there y·x^(y−1) is 0 for every x."""
    if isinstance(y, (int, float)):
        return y - 1 if y != 0 else 1
    return where(y == 0, 1.0, y - 1)


@primitive(
    lambda g, _y, a, b: g * b * power(a, _less_one(b)),
    lambda g, y, a, _b: g * y * log(where(a == 0, 1.0, a)),
)
def power(xp, a, b, /):
    """y = aᵇ.  ā = ȳ·b·aᵇ⁻¹,  b̄ = ȳ·y·ln a."""
    return xp.power(a, b)


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


@primitive(lambda g, _y, a, b: g * expit(a - b), lambda g, _y, a, b: g * expit(b - a))
def logaddexp(xp, a, b, /):
    """y = ln(eᵃ + eᵇ).  ā = ȳ·σ(a − b)."""
    return xp.logaddexp(a, b)


@primitive(lambda g, _y, a, b: g * expit((a - b) * LN2), lambda g, _y, a, b: g * expit((b - a) * LN2))
def logaddexp2(xp, a, b, /):
    """y = log₂(2ᵃ + 2ᵇ)."""
    return xp.logaddexp2(a, b)


@primitive(lambda g, y, a, _b: g * (a / y), lambda g, y, _a, b: g * (b / y))
def hypot(xp, a, b, /):
    """y = √(a² + b²)."""
    return xp.hypot(a, b)


LN2, LN10 = 0.6931471805599453, 2.302585092994046

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
    lambda g, _y, a, b: g * b / (square(a) + square(b)),
    lambda g, _y, a, b: -(g * a / (square(a) + square(b))),
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


@primitive(lambda g, y, _x: g * (1 - square(y)))
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

# --- special functions --------------------------------------------------------------------------------------

TWO_OVER_SQRT_PI = 2 / pi**0.5


@primitive(lambda g, _y, x: g * TWO_OVER_SQRT_PI * exp(-square(x)))
def erf(xp, x, /):
    """y = 2/√π ∫₀ˣ e^(−t²) dt."""
    return xp.erf(x)


@primitive(lambda g, _y, x: -(g * TWO_OVER_SQRT_PI * exp(-square(x))))
def erfc(xp, x, /):
    """y = 1 − erf x, exact for large x."""
    return xp.erfc(x)


@primitive(lambda g, y, _x: g * (y * (1 - y)))
def expit(xp, x, /):
    """y = σ(x) = 1/(1 + e⁻ˣ).  x̄ = ȳ·y(1 − y)."""
    return xp.expit(x)


@primitive(lambda g, _y, x: g / (x * (1 - x)))
def logit(xp, x, /):
    """y = ln x − ln(1 − x), the inverse of expit."""
    return xp.logit(x)


@primitive(lambda g, _y, x: g * digamma(x))
def gammaln(xp, x, /):
    """y = ln |Γ(x)|.  x̄ = ȳ·ψ(x)."""
    return xp.gammaln(x)


def digamma(x):
    """ψ(x) = d/dx ln Γ(x)."""
    return polygamma(x, n=0)


@primitive(lambda g, _y, x, n: g * polygamma(x, n=n + 1))
def polygamma(xp, x, /, n):
    """y = ψ⁽ⁿ⁾(x), the n-th derivative of the digamma function."""
    if n == 0:
        return xp.digamma(x)
    return xp.polygamma(n, x).astype(x.dtype)  # SciPy answers in float64


# --- choices ------------------------------------------------------------------------------------------------


@primitive(
    None,
    lambda g, _y, condition, _a, _b: where(condition, g, 0.0),
    lambda g, _y, condition, _a, _b: where(condition, 0.0, g),
)
def where(xp, condition, a, b, /):
    """y = a where the condition holds, b elsewhere."""
    return xp.where(condition, a, b)


def _share(g: Any, mine: Any, other: Any, wins: Any) -> Any:
    """g to the winner, half of it in a tie."""
    return where(wins, g, where(mine == other, 0.5 * g, 0.0))


@primitive(lambda g, _y, a, b: _share(g, a, b, a > b), lambda g, _y, a, b: _share(g, b, a, b > a))
def maximum(xp, a, b, /):
    """y = max(a, b); nan if either is."""
    return xp.maximum(a, b)


@primitive(lambda g, _y, a, b: _share(g, a, b, a < b), lambda g, _y, a, b: _share(g, b, a, b < a))
def minimum(xp, a, b, /):
    """y = min(a, b); nan if either is."""
    return xp.minimum(a, b)


@primitive(lambda g, _y, a, b: _share(g, a, b, a > b), lambda g, _y, a, b: _share(g, b, a, b > a))
def fmax(xp, a, b, /):
    """y = max(a, b); the other where one is nan."""
    return xp.fmax(a, b)


@primitive(lambda g, _y, a, b: _share(g, a, b, a < b), lambda g, _y, a, b: _share(g, b, a, b < a))
def fmin(xp, a, b, /):
    """y = min(a, b); the other where one is nan."""
    return xp.fmin(a, b)


def clip(x, a_min=None, a_max=None):
    """y = x held to [a_min, a_max]; a bound of None is no bound.  x̄ = ȳ inside, bounds included."""
    if a_min is None and a_max is None:
        raise ValueError("clip: give a lower or an upper bound")
    return _clip(x, value_of(a_min), value_of(a_max))


def _inside(x: Any, a_min: Any, a_max: Any) -> Any:
    if a_min is None:
        return x <= a_max
    return x >= a_min if a_max is None else (x >= a_min) & (x <= a_max)


@primitive(lambda g, _y, x, a_min, a_max: where(_inside(x, a_min, a_max), g, 0.0))
def _clip(xp, x, /, a_min, a_max):
    if a_min is not None:
        x = xp.maximum(x, a_min)
    return x if a_max is None else xp.minimum(x, a_max)


@primitive(lambda g, _y, _x, dtype: astype(g, _x.dtype))
def astype(xp, x, /, dtype):
    """y = x in another precision; the gradient comes back in x's."""
    return x.astype(dtype)


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
