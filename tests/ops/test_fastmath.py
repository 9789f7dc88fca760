"""What `fastmath` promises: SciPy's functions in float64 as the judge, over all sizes of numbers."""

import numpy as np
import pytest
from scipy import special

import scratchgen as sg
from scratchgen import fastmath, ops
from scratchgen import functional as F
from scratchgen.backend import numpy

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


@pytest.mark.parametrize("x", [DENSE * 14, WIDE, TINY], ids=["dense", "wide", "tiny"])
def test_the_logistic_function_in_single_precision(x):
    """Relative to the value, down to the smallest normal number."""
    off, wanted = error(fastmath.expit, special.expit, x)
    normal = wanted > 1.2e-38
    assert np.max(off[normal] / wanted[normal]) < 3e-7
    assert off[~normal].max(initial=0) < 1e-44
    np.testing.assert_allclose(fastmath.expit(EDGES), special.expit(EDGES), rtol=1e-7, atol=0)


def test_the_larger_of_array_and_number():
    for dtype in (np.float32, np.float64):
        for b in (0, 1, -0.5, 2.5):
            x = np.append(DENSE[::1000], EDGES).astype(dtype)
            y = numpy.maximum(x, b)
            assert y.dtype == dtype
            np.testing.assert_array_equal(y, np.maximum(x, dtype(b)))
    assert numpy.maximum(np.arange(3), 1).tolist() == [1, 1, 2]
    assert numpy.maximum(1.5, np.float32(1)) == 1.5
    assert ops.maximum(2.0, DENSE[:2]).tolist() == [2, 2]


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


@pytest.mark.parametrize("function", [fastmath.erf, fastmath.ndtr, fastmath.expit])
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


# --- sums ---------------------------------------------------------------------------------------------------

SUMS = [  # shape, axis
    ((64, 28, 28, 32), (0, 1, 2)), ((50_176, 32), 0), ((2048, 512), 0), ((20_000, 3), 0), ((1_000_000, 2), 0),
    ((16, 784, 32), 1), ((16, 1999, 8), -2), ((8, 14, 14, 32), (2, 1)), ((600, 2, 16), 1), ((9, 1025, 2, 2), (0, 1)),
    ((3, 1025, 4), 1), ((4000, 10), -1), ((300, 2, 16), (-1, 1)), ((8192, 2), (1,)),
]  # fmt: skip


@pytest.mark.parametrize(("shape", "axis"), SUMS, ids=str)
@pytest.mark.parametrize("keepdims", [False, True])
def test_sums_are_no_less_exact_than_numpys(shape, axis, keepdims):
    """Float32 sums beside those of float64: the largest error is at most NumPy's, or a few roundings of the result."""
    x = np.random.default_rng(2).normal(0.3, 1, shape).astype(np.float32)
    wanted = x.astype(np.float64).sum(axis, keepdims=keepdims)
    y, theirs = fastmath.sum(x, axis, keepdims), x.sum(axis, keepdims=keepdims)
    assert y.shape == wanted.shape
    assert y.dtype == np.float32
    assert np.abs(y - wanted).max() <= max(np.abs(theirs - wanted).max(), 3e-7 * np.abs(wanted).max())
    many = x.astype(np.float64)
    np.testing.assert_allclose(fastmath.sum(many, axis, keepdims), wanted, rtol=0, atol=1e-15 * np.abs(many).sum())


def test_long_sums_round_far_less_than_one_by_one():
    x = np.random.default_rng(3).normal(0.3, 1, (200_000, 8)).astype(np.float32)
    wanted = x.astype(np.float64).sum(0)
    ours, theirs = np.abs(fastmath.sum(x, 0) - wanted).max(), np.abs(x.sum(0) - wanted).max()
    assert ours < theirs / 10


def test_sums_that_stay_numpys():
    """Axes apart, memory in another order, integers, long rows, and nothing."""
    x = np.random.default_rng(4).standard_normal((40, 50, 60)).astype(np.float32)
    for y, axis in (
        (x, (0, 2)), (x.reshape(40, 50, 12, 5), (0, 2)),
        (x, None), (x, (1, 2)), (x, ()), (x.T, 0), (x[::2], 0), (x[:, :, ::2], 0), (x[::-1], 1),
        (np.broadcast_to(x[:1], x.shape), 0), ((x * 100).astype(int), 0), (x > 0, 0), (x[:0], 0), (x[:0], 1),
        (x.astype(np.float16), 0), (x.astype(complex), 0),
    ):  # fmt: skip
        np.testing.assert_array_equal(fastmath.sum(y, axis), y.sum(axis))
        np.testing.assert_array_equal(fastmath.sum(y, axis, True), y.sum(axis, keepdims=True))


def test_nan_and_infinity_stay_in_their_columns():
    x = np.ones((2000, 16), np.float32)
    x[700, 3], x[1900, 5] = np.nan, np.inf
    y = fastmath.sum(x, 0)
    assert np.isnan(y[3])
    assert np.isinf(y[5])
    assert y[[0, 1, 2, 4, 6, 15]].tolist() == [2000] * 6


def test_the_gradient_of_a_bias_is_such_a_sum():
    x = np.random.default_rng(5).standard_normal((64, 14, 14, 32)).astype(np.float32)
    bias = np.zeros(32, np.float32)
    np.testing.assert_array_equal(sg.grad(lambda b: ops.sum(x * (x + b)))(bias), fastmath.sum(x, (0, 1, 2)))
    np.testing.assert_array_equal(ops.sum(x, axis=(0, 1, 2)), fastmath.sum(x, (0, 1, 2)))
    np.testing.assert_array_equal(ops.mean(x, axis=(1, 2)), fastmath.sum(x, (1, 2)) / 196)


# --- adding into rows ---------------------------------------------------------------------------------------

ROWS = [  # shape of the table, shape of the index
    ((96, 128), (2048,)), ((96, 128), (16, 128)), ((1, 64), (300,)), ((1000, 16), (5000,)), ((70, 3, 5, 4), (400,)),
    ((5000, 128), (200,)), ((5000, 64), (20, 30)), ((32, 16), (32, 4, 4)), ((7, 2, 3), (200,)),
]  # fmt: skip


@pytest.fixture(params=ROWS, ids=str)
def case(request):
    shape, places = request.param
    rng = np.random.default_rng(1)
    index = rng.integers(-shape[0], shape[0], places)  # repeats, and places counted from the end
    return shape, index, rng.standard_normal(places + shape[1:])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_rows_are_added_as_numpy_adds_them(case, dtype):
    """The same sums in the same order: bit by bit what np.add.at gives."""
    shape, index, values = case
    values = values.astype(dtype)
    wanted = np.zeros(shape, dtype)
    np.add.at(wanted, index, values)
    assert fastmath.adds_rows(shape, index, values)
    got = numpy.scatter_add(shape, index, values)
    assert got.dtype == dtype
    np.testing.assert_array_equal(got, wanted)
    np.testing.assert_array_equal(numpy.scatter_add(shape, index.astype(np.int32), values[::-1, ...][::-1]), wanted)
    for out in (np.full(shape, np.nan, dtype), np.full((*shape[:-1], 2 * shape[-1]), np.nan, dtype)[..., ::2]):
        assert numpy.scatter_add(shape, index, values, out) is out
        np.testing.assert_array_equal(out, wanted)


def test_rows_at_places_of_few_bits():
    index = np.tile(np.arange(250, dtype=np.uint8), 2)
    values = np.ones((500, 64))
    wanted = np.zeros((1000, 64))
    wanted[:250] = 2
    np.testing.assert_array_equal(numpy.scatter_add((1000, 64), index, values), wanted)


@pytest.mark.parametrize("place", [96, -97])
def test_a_row_that_there_is_not(place):
    index, values = np.arange(200) % 96, np.ones((200, 128))
    index[150] = place
    assert fastmath.adds_rows((96, 128), index, values)
    with pytest.raises(IndexError, match=f"index {place} is out of bounds for axis 0 with size 96"):
        numpy.scatter_add((96, 128), index, values)
    with pytest.raises(IndexError, match="out of bounds"):
        numpy.scatter_add((96, 2), index[:, None], values[:, :1, None])


def test_nothing_is_added():
    for shape, places in (((96, 128), (0,)), ((0, 128), (0,)), ((3, 0), (5,))):
        values = np.zeros(places + shape[1:])
        assert not fastmath.adds_rows(shape, np.zeros(places, int), values)
        np.testing.assert_array_equal(numpy.scatter_add(shape, np.zeros(places, int), values), np.zeros(shape))


def test_other_indices_and_values_take_the_usual_way():
    values = np.ones((300, 128))
    index = np.zeros(300, int)
    assert fastmath.adds_rows((5, 128), index, values)
    for i, v in (
        (index, values.astype(int)), (index > 0, values), (slice(None), values), ((index,), values), (3, values),
        (index, values[:1]), (index, values[:20]),
    ):  # fmt: skip
        assert not fastmath.adds_rows((5, 128), i, v)


def test_in_double_precision_scipy_answers():
    x = RNG.standard_normal(50)
    np.testing.assert_array_equal(ops.erf(x), special.erf(x))
    np.testing.assert_array_equal(ops.ndtr(x), special.ndtr(x))
    np.testing.assert_array_equal(ops.expit(x), special.expit(x))


def test_gelu_and_its_slope_in_single_precision():
    """y = xΦ(x), y′ = Φ(x) + xφ(x), within rounding of what float64 gives."""
    x = DENSE[::10]
    slope = sg.grad(lambda x: ops.sum(F.gelu(x)))
    for f in (F.gelu, slope):
        assert f(x).dtype == np.float32
        np.testing.assert_allclose(f(x), f(x.astype(np.float64)), rtol=0, atol=6e-7)
    assert F.gelu(np.array([-800.0, 800.0], np.float32)).tolist() == [0, 800]
