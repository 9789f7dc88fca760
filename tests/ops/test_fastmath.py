"""What `fastmath` promises: SciPy's functions in float64 as the judge, over all sizes of numbers."""

import numpy as np
import pytest
from scipy import special

import scratchgen as sg
from scratchgen import fastmath, ops
from scratchgen import functional as F

RNG = np.random.default_rng(0)
DENSE = np.linspace(-7, 7, 400_001, dtype=np.float32)
WIDE = (10.0 ** RNG.uniform(-44, 38, 100_000) * RNG.choice([-1, 1], 100_000)).astype(np.float32)
TINY = (10.0 ** RNG.uniform(-30, 0.7, 200_000)).astype(np.float32)
EDGES = np.array([0.0, -0.0, 5, -5, 7.07, 1e-45, -1e-45, 3.4e38, -3.4e38, np.inf, -np.inf, np.nan], np.float32)


def error(function, reference, x):
    """|f − reference| of float32 numbers, beside the reference in float64; nothing overflows on the way."""
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        y = function(x)
    assert y.dtype == np.float32
    assert y.shape == x.shape
    wanted = reference(x.astype(np.float64))
    return np.abs(y - wanted), wanted


@pytest.mark.parametrize("x", [DENSE, WIDE, TINY], ids=["dense", "wide", "tiny"])
def test_erf_in_single_precision(x):
    off, wanted = error(fastmath.erf, special.erf, x)
    assert off.max() < 1.3e-7
    large = np.abs(wanted) > 1e-37
    assert np.max(off[large] / np.abs(wanted[large])) < 3e-7


@pytest.mark.parametrize("x", [DENSE, WIDE, TINY], ids=["dense", "wide", "tiny"])
def test_the_normal_distribution_function_in_single_precision(x):
    off, _ = error(fastmath.ndtr, special.ndtr, x)
    assert off.max() < 0.9e-7


def test_limits_and_symmetry():
    """±1, 0 and 1 are reached exactly; nan stays nan; erf is odd bit by bit."""
    np.testing.assert_array_equal(fastmath.erf(EDGES), special.erf(EDGES))
    np.testing.assert_array_equal(np.signbit(fastmath.erf(EDGES)), np.signbit(special.erf(EDGES)))
    wanted = np.array([0.5, 0.5, 1 - 2.9e-7, 2.9e-7, 1, 0.5, 0.5, 1, 0, 1, 0, np.nan])
    np.testing.assert_allclose(fastmath.ndtr(EDGES), wanted, rtol=0, atol=6e-8)
    far = np.array([7.1, 1e30, np.inf], np.float32)
    assert fastmath.ndtr(far).tolist() == [1, 1, 1]
    assert fastmath.ndtr(-far).tolist() == [0, 0, 0]
    assert fastmath.erf(far).tolist() == [1, 1, 1]
    np.testing.assert_array_equal(fastmath.erf(-DENSE), -fastmath.erf(DENSE))


@pytest.mark.parametrize("function", [fastmath.erf, fastmath.ndtr])
def test_a_result_does_not_depend_on_size_or_layout(function):
    n = 2 * fastmath.BLOCK + 10
    x = RNG.standard_normal(n).astype(np.float32)
    whole = function(x)
    for i in (0, 1, fastmath.BLOCK - 1, fastmath.BLOCK, n - 1):
        assert function(x[i : i + 1])[0] == whole[i] == function(x[i])
    np.testing.assert_array_equal(function(x[: fastmath.BLOCK]), whole[: fastmath.BLOCK])
    np.testing.assert_array_equal(function(x[::-3]), whole[::-3])
    wide = x.reshape(-1, 6)
    np.testing.assert_array_equal(function(wide.T), whole.reshape(-1, 6).T)
    np.testing.assert_array_equal(function(wide[:, 1:5]), whole.reshape(-1, 6)[:, 1:5])
    assert function(x[:0]).shape == (0,)
    assert function(x[0].reshape(())).dtype == np.float32


def test_in_double_precision_scipy_answers():
    x = RNG.standard_normal(50)
    np.testing.assert_array_equal(ops.erf(x), special.erf(x))
    np.testing.assert_array_equal(ops.ndtr(x), special.ndtr(x))


def test_gelu_and_its_slope_in_single_precision():
    """y = xΦ(x), y′ = Φ(x) + xφ(x), within rounding of what float64 gives."""
    x = DENSE[::10]
    slope = sg.grad(lambda x: ops.sum(F.gelu(x)))
    for f in (F.gelu, slope):
        assert f(x).dtype == np.float32
        np.testing.assert_allclose(f(x), f(x.astype(np.float64)), rtol=0, atol=6e-7)
    assert F.gelu(np.array([-800.0, 800.0], np.float32)).tolist() == [0, 800]
