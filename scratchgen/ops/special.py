"""The error function, the logistic function, the gamma function, and their kin."""

from __future__ import annotations

from scratchgen.autograd.primitive import primitive
from scratchgen.backend import pi
from scratchgen.ops.elementwise import LN2, exp, square

TWO_OVER_SQRT_PI = 2 / pi**0.5
ONE_OVER_SQRT_2PI = (2 * pi) ** -0.5


@primitive(lambda g, _y, a, b: g * expit(a - b), lambda g, _y, a, b: g * expit(b - a))
def logaddexp(xp, a, b, /):
    """y = ln(eᵃ + eᵇ).  ā = ȳ·σ(a − b)."""
    return xp.logaddexp(a, b)


@primitive(lambda g, _y, a, b: g * expit((a - b) * LN2), lambda g, _y, a, b: g * expit((b - a) * LN2))
def logaddexp2(xp, a, b, /):
    """y = log₂(2ᵃ + 2ᵇ)."""
    return xp.logaddexp2(a, b)


@primitive(lambda g, _y, x: g * TWO_OVER_SQRT_PI * exp(-square(x)))
def erf(xp, x, /):
    """y = 2/√π ∫₀ˣ e^(−t²) dt."""
    return xp.erf(x)


@primitive(lambda g, _y, x: -(g * TWO_OVER_SQRT_PI * exp(-square(x))))
def erfc(xp, x, /):
    """y = 1 − erf x, exact for large x."""
    return xp.erfc(x)


@primitive(lambda g, _y, x: g * (ONE_OVER_SQRT_2PI * exp(square(x) * -0.5)))
def ndtr(xp, x, /):
    """y = Φ(x) = ½ + ½ erf(x/√2), the distribution function of the standard normal.  x̄ = ȳ·e^(−x²/2)/√2π."""
    return xp.ndtr(x)


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
    return xp.polygamma(xp.full((), n, x.dtype), x).astype(x.dtype)  # SciPy answers in float64


__all__ = [
    "digamma", "erf", "erfc", "expit", "gammaln", "logaddexp", "logaddexp2", "logit", "ndtr",
    "polygamma",
]  # fmt: skip
