"""What operations promise at their kinks, at infinity, and on nothing at all (see the docstrings of ops)."""

import warnings

import numpy as np
import pytest

import scratchgen as sg
from scratchgen import functional as F
from scratchgen import ops

INF = np.inf


def slopes(f, *xs, argnums=None):
    """The gradient of Σ f, per argument, as NumPy arrays."""
    args = [np.asarray(x, np.float64) for x in xs]
    numbers = tuple(range(len(args))) if argnums is None else argnums
    return sg.grad(lambda *a: f(*a).sum(), numbers)(*args)


def slope(f, x):
    return slopes(f, x)[0]


# --- kinks --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("f", [ops.maximum, ops.minimum, ops.fmax, ops.fmin])
def test_a_tie_of_two_shares_the_gradient(f):
    a, b = slopes(f, [1.0, 2.0], [1.0, 5.0])
    assert a[0] == b[0] == 0.5
    assert a[1] + b[1] == 1.0
    assert {a[1], b[1]} == {0.0, 1.0}


def test_maximum_of_one_array_with_itself_has_the_gradient_of_the_array():
    assert slope(lambda x: ops.maximum(x, x), [3.0]) == [1.0]


@pytest.mark.parametrize(("f", "value"), [(ops.max, 2.0), (ops.min, -1.0)])
def test_ties_of_a_reduction_share_the_gradient(f, value):
    x = np.array([[2.0, -1.0, 2.0, -1.0], [0.0, value, 1.0, 1.0]])
    g = slope(lambda x: f(x, axis=1), x)
    np.testing.assert_array_equal(g, (x == value) * np.array([[0.5], [1.0]]))
    np.testing.assert_array_equal(slope(f, x), (x == value) / 3)


def test_sort_is_stable_and_every_entry_gets_its_own_gradient():
    x, weight = [2.0, 1.0, 2.0, 1.0], np.array([1.0, 10.0, 100.0, 1000.0])
    np.testing.assert_array_equal(ops.argsort(np.array(x)), [1, 3, 0, 2])
    np.testing.assert_array_equal(slope(lambda x: ops.sort(x) * weight, x), [100, 1, 1000, 10])


def test_max_pooling_shares_the_gradient_of_a_tie():
    x = np.array([[1.0, 3.0], [3.0, 0.0]]).reshape(1, 2, 2, 1)
    np.testing.assert_array_equal(slope(ops.max_pool2d, x).ravel(), [0.0, 0.5, 0.5, 0.0])


def test_absolute_and_relu_are_flat_at_0():
    assert slope(ops.absolute, [0.0, -0.0]).tolist() == [0.0, 0.0]
    assert slope(F.relu, [0.0, -0.0]).tolist() == [0.0, 0.0]
    assert slope(F.leaky_relu, [0.0]).tolist() == [0.0]


def test_clip_passes_the_gradient_at_its_bounds():
    x = [-1.0, 0.0, 0.5, 1.0, 2.0]
    assert slope(lambda x: ops.clip(x, 0.0, 1.0), x).tolist() == [0.0, 1.0, 1.0, 1.0, 0.0]
    _, low, high = slopes(ops.clip, x, [0.0] * 5, [1.0] * 5)
    assert low.tolist() == [1.0, 0.0, 0.0, 0.0, 0.0]
    assert high.tolist() == [0.0, 0.0, 0.0, 0.0, 1.0]


def test_copysign_at_zeros():
    assert slope(lambda x: ops.copysign(x, -1.0), [2.0, -2.0, 0.0]).tolist() == [-1.0, 1.0, 0.0]
    assert slope(lambda x: ops.copysign(x, np.array([0.0, -0.0])), [2.0, 2.0]).tolist() == [1.0, -1.0]


def test_fmax_and_fmin_prefer_numbers_to_nan():
    for f in (ops.fmax, ops.fmin):
        a, b = slopes(f, [np.nan, 1.0], [2.0, np.nan])
        assert (a.tolist(), b.tolist()) == ([0.0, 1.0], [1.0, 0.0])
        assert f(np.array([np.nan]), np.array([2.0])).tolist() == [2.0]
    assert np.isnan(ops.maximum(np.array([np.nan]), np.array([2.0]))).all()


# --- powers and roots at 0 ----------------------------------------------------------------------------------


def test_the_square_root_is_infinitely_steep_at_0():
    with np.errstate(divide="ignore"):
        assert slope(ops.sqrt, [0.0]).tolist() == [INF]
        assert slope(ops.cbrt, [0.0]).tolist() == [INF]


def test_the_norm_is_flat_at_0_to_second_order():
    assert ops.linalg.norm(np.zeros(3)) == 0
    assert slope(ops.linalg.norm, [0.0, 0.0]).tolist() == [0.0, 0.0]
    h = sg.hessian(ops.linalg.norm)(np.zeros(2))
    assert np.isfinite(h).all()
    assert slopes(ops.hypot, 0.0, 0.0) == (0.0, 0.0)


def test_zero_to_a_power():
    """0**0 = 1, and where the base is 0 the exponent has no gradient."""
    y = np.array([0.0, 0.5, 1.0, 2.0, 3.0])
    assert ops.power(np.zeros(5), y).tolist() == [1.0, 0.0, 0.0, 0.0, 0.0]
    with np.errstate(divide="ignore"):
        base, exponent = slopes(ops.power, np.zeros(5), y)
    assert base.tolist() == [0.0, INF, 1.0, 0.0, 0.0]
    assert exponent.tolist() == [0.0] * 5


def test_a_power_of_zero():
    """x**0 is 1 and flat in x, and its mixed second derivative is 1/x."""
    x = np.array([-2.0, 0.0, 3.0])
    assert slope(lambda x: x**0, x).tolist() == [0.0, 0.0, 0.0]
    assert slope(lambda x: x**0.0, x).tolist() == [0.0, 0.0, 0.0]
    assert slope(lambda x: x ** np.zeros(3), x).tolist() == [0.0, 0.0, 0.0]
    mixed = sg.grad(lambda b: sg.grad(lambda a: ops.power(a, b))(np.float64(3.0)))(np.float64(0.0))
    np.testing.assert_allclose(mixed, 1 / 3, rtol=1e-15)


def test_whole_powers_of_negative_numbers_and_of_0_to_every_order():
    for n in (2, 3, 4):
        f, x = (lambda x, n=n: x**n), -1.5
        for k in range(n + 2):
            wanted = np.prod(np.arange(n, n - k, -1.0)) * x ** max(n - k, 0)
            np.testing.assert_allclose(f(np.float64(x)), wanted, rtol=1e-14)
            f = sg.grad(f)
    third = sg.grad(sg.grad(sg.grad(lambda x: x**3)))
    assert third(np.float64(0.0)) == 6.0


# --- infinities ---------------------------------------------------------------------------------------------


def test_logsumexp_of_nothing_but_minus_infinity():
    x = np.full((2, 3), -INF)
    x[1, 0] = 2.0
    assert ops.logsumexp(x, axis=1).tolist() == [-INF, 2.0]
    np.testing.assert_array_equal(slope(lambda x: ops.logsumexp(x, axis=1), x), [[0, 0, 0], [1, 0, 0]])
    second = sg.grad(lambda x: (sg.grad(lambda x: ops.logsumexp(x, axis=1).sum())(x) ** 2).sum())(x)
    np.testing.assert_array_equal(second, np.zeros((2, 3)))


def test_logsumexp_of_infinity_is_infinity():
    assert ops.logsumexp(np.array([1.0, INF])) == INF


@pytest.mark.parametrize("axis", [0, -1])
def test_softmax_gives_no_weight_and_no_gradient_to_minus_infinity(axis):
    x = np.array([[0.0, -INF, 1.0], [-INF, 2.0, -INF], [0.5, 1.0, -INF]])
    finite = np.isfinite(x)
    y = F.softmax(x, axis=axis)
    assert np.all(y[~finite] == 0)
    np.testing.assert_allclose(y.sum(axis), 1.0, rtol=1e-15)
    weight = np.arange(9.0).reshape(3, 3)
    g = slope(lambda x: F.softmax(x, axis=axis) * weight, x)
    assert np.isfinite(g).all()
    assert np.all(g[~finite] == 0)
    low = np.where(finite, x, -800.0)
    np.testing.assert_allclose(g, slope(lambda x: F.softmax(x, axis=axis) * weight, low), atol=1e-15)
    second = sg.grad(lambda x: (sg.grad(lambda x: (F.softmax(x, axis=axis) * weight).sum())(x) ** 2).sum())(x)
    assert np.isfinite(second).all()


def test_softmax_of_nothing_but_minus_infinity_is_nan_and_says_so():
    with pytest.warns(RuntimeWarning, match="invalid"):
        assert np.isnan(F.softmax(np.full(3, -INF))).all()


def test_log_softmax_of_minus_infinity():
    x = np.array([0.0, -INF, 1.0])
    assert F.log_softmax(x)[1] == -INF
    g = slope(lambda x: F.log_softmax(x)[np.array([0, 2])], x)
    assert np.isfinite(g).all()
    assert g[1] == 0


def test_masked_attention_sends_no_gradient_to_what_is_not_seen():
    rng = np.random.default_rng(0)
    q, k, v = rng.standard_normal((3, 4, 2))
    mask = np.tril(np.ones((4, 4), bool))
    weight = rng.standard_normal((4, 2))
    weight[2:] = 0  # only the first two queries count, and they see the first two keys
    _, gk, gv = slopes(lambda q, k, v: F.attention(q, k, v, mask) * weight, q, k, v)
    assert np.isfinite(gk).all()
    assert np.all(gk[2:] == 0)
    assert np.all(gv[2:] == 0)
    assert np.all(gv[:2] != 0)


# --- the double-where trap ----------------------------------------------------------------------------------


def test_where_passes_zero_to_the_branch_not_taken():
    a, b = slopes(lambda a, b: ops.where(np.array([True, False]), a, b), [1.0, 2.0], [3.0, 4.0])
    assert (a.tolist(), b.tolist()) == ([1.0, 0.0], [0.0, 1.0])


def test_a_branch_not_taken_with_an_infinite_slope_needs_its_argument_guarded():
    x = np.array([0.0, 4.0])
    with np.errstate(divide="ignore", invalid="ignore"):
        trap = slope(lambda x: ops.where(x > 0, ops.sqrt(x), 0.0), x)
    assert np.isnan(trap[0])
    guarded = slope(lambda x: ops.where(x > 0, ops.sqrt(ops.where(x > 0, x, 1.0)), 0.0), x)
    assert guarded.tolist() == [0.0, 0.25]


def test_two_numbers_make_a_float32_choice():
    y = ops.where(np.array([True, False]), 1.0, 0.0)
    assert y.dtype == np.float32
    assert y.tolist() == [1.0, 0.0]


# --- nothing at all -----------------------------------------------------------------------------------------


def test_reductions_of_nothing():
    """Sums are 0, products 1; the largest of nothing is an error, the mean of nothing nan with a warning."""
    nothing = np.zeros((0, 2))
    for empty in (nothing, sg.tensor(nothing)):
        assert np.all(sg.stop_gradient(ops.sum(empty, axis=0)) == 0)
        assert np.all(sg.stop_gradient(ops.prod(empty, axis=0)) == 1)
        for f in (ops.max, ops.min, ops.logsumexp):
            with pytest.raises(ValueError, match="zero-size"):
                f(empty, axis=0)
            assert f(empty, axis=1).shape == (0,)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            assert np.all(np.isnan(sg.stop_gradient(ops.mean(empty, axis=0))))
    for f in (ops.sum, ops.prod, ops.cumsum):
        assert slope(f, nothing).shape == (0, 2)


def test_products_with_zeros_have_the_right_gradients():
    """x̄ is the product of the others, also where ȳ·y/x would be 0/0."""
    assert slope(ops.prod, [2.0, 0.0, 5.0]).tolist() == [0.0, 10.0, 0.0]
    assert slope(ops.prod, [0.0, 0.0, 5.0]).tolist() == [0.0, 0.0, 0.0]
    h = sg.hessian(ops.prod)(np.array([0.0, 0.0, 5.0]))
    assert h.tolist() == [[0, 5, 0], [5, 0, 0], [0, 0, 0]]


# --- repeated places ----------------------------------------------------------------------------------------


def test_a_place_read_twice_receives_both_gradients():
    weight = np.array([1.0, 10.0, 100.0])
    for index in ([1, 1, 0], np.array([1, 1, 0]), np.array([-2, 1, 0]), (np.array([1, 1, 0]),)):
        assert slope(lambda x, i=index: x[i] * weight, [5.0, 6.0, 7.0]).tolist() == [100.0, 11.0, 0.0]
    table = np.arange(6.0).reshape(3, 2)
    g = slope(lambda t: F.embedding(t, np.array([[0, 0], [2, 0]])), table)
    np.testing.assert_array_equal(g, [[3, 3], [0, 0], [1, 1]])


def test_scatter_add_and_getitem_are_adjoint_with_repeats():
    rng = np.random.default_rng(1)
    index = (rng.integers(0, 3, (5, 4)), rng.integers(-2, 2, 4))
    x, y = rng.standard_normal((3, 4)), rng.standard_normal((5, 4))
    left = np.sum(ops.getitem(x, index) * y)
    np.testing.assert_allclose(left, np.sum(x * ops.scatter_add(y, index, (3, 4))), rtol=1e-13)


def test_a_convolution_and_its_transpose_are_adjoint():
    rng = np.random.default_rng(2)
    for stride, padding, size in ((1, 0, 5), (2, 1, 6), (3, 0, 7), (2, ((1, 0), (0, 1)), 5)):
        x, w = rng.standard_normal((2, size, size, 2)), rng.standard_normal((3, 2, 2, 3))
        y = ops.conv2d(x, w, stride, padding)
        h = rng.standard_normal(y.shape)
        g = sg.vjp(lambda x, w=w, s=stride, p=padding: ops.conv2d(x, w, s, p), x)[1](h)
        np.testing.assert_allclose(np.sum(y * h), np.sum(g * x), rtol=1e-12)
        back = ops.conv2d_transpose(h, w, stride, padding)
        rows, columns = min(back.shape[1], size), min(back.shape[2], size)
        np.testing.assert_allclose(back[:, :rows, :columns], g[:, :rows, :columns], atol=1e-12)
