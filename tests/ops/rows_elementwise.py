"""Rows of the elementwise operations."""

import numpy as np
from registry import (
    Row,
    above_one,
    away,
    booleans,
    elementwise,
    inside,
    near_one,
    normal,
    on_halves,
    on_integers,
    positive,
    unit,
)  # fmt: skip
from scipy import special

from scratchgen import ops

ROWS = [
    # arithmetic
    elementwise("ops.add", np.add, normal, normal, analytic=True),
    elementwise("ops.subtract", np.subtract, normal, normal, analytic=True),
    elementwise("ops.multiply", np.multiply, normal, normal, analytic=True),
    elementwise("ops.divide", np.divide, normal, away, analytic=True),
    elementwise("ops.remainder", np.remainder, on_halves, near_one),
    elementwise("ops.fmod", np.fmod, on_halves, near_one),
    elementwise("ops.negative", np.negative, normal, analytic=True),
    elementwise("ops.positive", np.positive, normal, analytic=True),
    elementwise("ops.reciprocal", np.reciprocal, away, analytic=True),
    elementwise("ops.absolute", np.absolute, away),
    elementwise("ops.copysign", np.copysign, away, away),
    # powers, exponentials, logarithms
    elementwise("ops.power", np.power, positive, normal, analytic=True),
    elementwise("ops.square", np.square, normal, analytic=True),
    elementwise("ops.sqrt", np.sqrt, positive, analytic=True),
    elementwise("ops.cbrt", np.cbrt, away),
    elementwise("ops.exp", np.exp, normal, analytic=True, exponential=True),
    elementwise("ops.exp2", np.exp2, normal, analytic=True, exponential=True),
    elementwise("ops.expm1", np.expm1, normal, analytic=True, exponential=True),
    elementwise("ops.log", np.log, positive, analytic=True),
    elementwise("ops.log2", np.log2, positive, analytic=True),
    elementwise("ops.log10", np.log10, positive, analytic=True),
    elementwise("ops.log1p", np.log1p, positive, analytic=True),
    elementwise("ops.logaddexp", np.logaddexp, normal, normal, exponential=True, saturates=True),
    elementwise("ops.logaddexp2", np.logaddexp2, normal, normal, exponential=True, saturates=True),
    elementwise("ops.hypot", np.hypot, away, away),
    # circular and hyperbolic
    elementwise("ops.sin", np.sin, normal, analytic=True),
    elementwise("ops.cos", np.cos, normal, analytic=True),
    elementwise("ops.tan", np.tan, inside, analytic=True),
    elementwise("ops.arcsin", np.arcsin, inside, analytic=True),
    elementwise("ops.arccos", np.arccos, inside, analytic=True),
    elementwise("ops.arctan", np.arctan, normal, analytic=True),
    elementwise("ops.arctan2", np.arctan2, away, away),
    elementwise("ops.sinh", np.sinh, normal, analytic=True, exponential=True),
    elementwise("ops.cosh", np.cosh, normal, analytic=True, exponential=True),
    elementwise("ops.tanh", np.tanh, normal, analytic=True, exponential=True, saturates=True),
    elementwise("ops.arcsinh", np.arcsinh, normal, analytic=True),
    elementwise("ops.arccosh", np.arccosh, above_one, analytic=True),
    elementwise("ops.arctanh", np.arctanh, inside, analytic=True),
    elementwise("ops.deg2rad", np.deg2rad, normal),
    elementwise("ops.rad2deg", np.rad2deg, normal),
    # special
    elementwise("ops.erf", special.erf, normal, analytic=True, exponential=True, saturates=True),
    elementwise("ops.erfc", special.erfc, normal, analytic=True, exponential=True, saturates=True),
    elementwise("ops.ndtr", special.ndtr, normal, analytic=True, exponential=True, saturates=True),
    elementwise("ops.expit", special.expit, normal, exponential=True, saturates=True),
    elementwise("ops.logit", special.logit, unit),
    elementwise("ops.gammaln", special.gammaln, positive),
    elementwise("ops.digamma", special.digamma, positive),
    elementwise("ops.polygamma", lambda x, n: special.polygamma(n, x), positive, variants=({"n": 1}, {"n": 2})),
    elementwise("ops.astype", lambda x, dtype: x.astype(dtype), normal, variants=({"dtype": "float64"},)),
    # choices
    Row("ops.where", np.where, (booleans, normal, normal),
        (((), (), ()), ((3,), (3,), (3,)), ((0,), (1,), ()), ((2, 3), (3,), (2, 1)), ((3,), (2, 1), (2, 3))),
        analytic=True),
    elementwise("ops.maximum", np.maximum, on_integers, on_halves),
    elementwise("ops.minimum", np.minimum, on_integers, on_halves),
    elementwise("ops.fmax", np.fmax, on_integers, on_halves),
    elementwise("ops.fmin", np.fmin, on_integers, on_halves),
    elementwise(
        "ops.clip", lambda x, a_min=None, a_max=None: np.clip(x, a_min, a_max), on_integers,
        variants=({"a_min": -0.5, "a_max": 1.5}, {"a_min": -0.5}, {"a_max": 0.5}, {"a_min": 2.5, "a_max": -2.5}),
    ),
    elementwise("ops.clip", lambda x, low: np.clip(x, low, None), on_integers, on_halves),
    elementwise(
        "ops.clip", lambda x, high: np.clip(x, None, high), on_integers, on_halves,
        function=lambda x, high: ops.clip(x, a_max=high),
    ),
]  # fmt: skip

# Constant between jumps: a plain array comes out, of a tensor too.
ONE = (
    np.sign,
    np.floor,
    np.ceil,
    np.trunc,
    np.rint,
    np.isfinite,
    np.isnan,
    np.isinf,
    np.signbit,
    np.logical_not,
)
TWO = (
    np.floor_divide, np.equal, np.not_equal, np.less, np.less_equal, np.greater, np.greater_equal, np.logical_and,
    np.logical_or, np.logical_xor, np.heaviside,
)  # fmt: skip
ROWS += [elementwise(f"ops.{f.__name__}", f, on_halves, constant=True) for f in ONE]
ROWS += [elementwise(f"ops.{f.__name__}", f, on_integers, away, constant=True) for f in TWO]
