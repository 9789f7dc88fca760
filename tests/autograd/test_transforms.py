"""Derivatives of functions, against closed forms and finite differences; how they nest; what goes in and out."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import scratchgen as sg
from reference import derivatives
from scratchgen import functional as F
from scratchgen import ops

A = np.array([[2.0, 1.0, 0.0], [1.0, 3.0, -1.0], [0.5, -1.0, 1.0]])
X = np.array([0.3, -0.7, 1.1])
V = np.array([1.0, 0.5, -2.0])


def quadratic(x):
    return ops.dot(x, ops.matmul(A, x)) * 0.5


def wavy(x):
    return ops.sum(ops.sin(x) * ops.exp(0.3 * x[::-1]))


def vector(x):
    return ops.stack([x[0] * x[1], ops.sin(x[2]), ops.exp(x[0]) + x[2] ** 3, x.sum()])


def close(actual, wanted, tolerance=1e-12):
    assert type(actual) in (np.ndarray, np.float64), type(actual)
    np.testing.assert_allclose(actual, wanted, rtol=tolerance, atol=tolerance)


# --- closed forms and finite differences --------------------------------------------------------------------


def test_a_quadratic_form_has_its_closed_derivatives():
    symmetric = (A + A.T) / 2
    value, gradient = sg.value_and_grad(quadratic)(X)
    close(value, X @ A @ X / 2)
    close(gradient, symmetric @ X)
    close(sg.grad(quadratic)(X), symmetric @ X)
    close(sg.hessian(quadratic)(X), symmetric)
    close(sg.hvp(quadratic, X, V), symmetric @ V)


def test_all_transforms_agree_with_finite_differences():
    close(sg.grad(wavy)(X), derivatives.gradient(wavy, X), 1e-9)
    close(sg.hessian(wavy)(X), derivatives.hessian(wavy, X), 1e-7)
    close(sg.jacobian(vector)(X), derivatives.jacobian(vector, X), 1e-9)
    value, tangent = sg.jvp(vector, [X], [V])
    close(value, vector(X))
    close(tangent, derivatives.directional(vector, X, V), 1e-9)
    value, pull = sg.vjp(vector, X)
    close(value, vector(X))
    g = np.array([1.0, -2.0, 0.3, 0.7])
    close(pull(g), g @ derivatives.jacobian(vector, X), 1e-9)
    close(pull(2 * g), 2 * g @ derivatives.jacobian(vector, X), 1e-9)  # again


@given(seed=st.integers(0, 2**32 - 1), n=st.integers(1, 4))
def test_vjp_jvp_hvp_and_the_matrices_agree(seed, n):
    rng = np.random.default_rng(seed)
    a, b, x, v = (
        rng.standard_normal((n, n)),
        rng.standard_normal(n),
        rng.standard_normal(n),
        rng.standard_normal(n),
    )

    def layer(x):
        return ops.tanh(ops.matmul(a, x) + b) * x[0]

    jacobian = sg.jacobian(layer)(x)
    close(sg.jvp(layer, [x], [v])[1], jacobian @ v, 1e-10)
    close(sg.vjp(layer, x)[1](v), v @ jacobian, 1e-10)

    def loss(x):
        return (layer(x) ** 2).sum()

    hessian = sg.hessian(loss)(x)
    close(hessian, hessian.T, 1e-10)
    close(sg.hvp(loss, x, v), hessian @ v, 1e-9)
    close(sg.jvp(sg.grad(loss), [x], [v])[1], hessian @ v, 1e-9)  # forward over reverse
    close(sg.grad(lambda x: sg.jvp(loss, [x], [v])[1])(x), hessian @ v, 1e-9)  # reverse over forward


def test_shapes_of_jacobian_and_hessian():
    x = np.arange(6.0).reshape(2, 3)
    assert sg.jacobian(lambda x: x.T @ x)(x).shape == (3, 3, 2, 3)
    assert sg.hessian(lambda x: (x**3).sum())(x).shape == (2, 3, 2, 3)
    assert sg.jacobian(ops.sum)(x).shape == (2, 3)
    assert sg.jacobian(lambda x: x[:0])(x).shape == (0, 3, 2, 3)
    assert sg.jacobian(lambda x, y: x * y, 1)(x, x).shape == (2, 3, 2, 3)
    assert sg.jacobian(lambda x: x[0, 0])(np.zeros((2, 3), np.float32)).dtype == np.float32


# --- arguments ----------------------------------------------------------------------------------------------


def test_several_arguments():
    def f(x, y, scale=1.0):
        return ops.sum(x * x * y) * scale

    x, y = X, V
    close(sg.grad(f, 1)(x, y), x * x)
    gx, gy = sg.grad(f, (0, 1))(x, y)
    close(gx, 2 * x * y)
    close(gy, x * x)
    (only,) = sg.grad(f, [1])(x, y, scale=3.0)
    close(only, 3 * x * x)
    value, (gy, gx) = sg.value_and_grad(f, (1, 0))(x, y)
    close(value, f(x, y))
    close(gx, 2 * x * y)
    close(gy, x * x)
    _, pull = sg.vjp(f, x, y)
    for found, wanted in zip(pull(np.float64(1.0)), (2 * x * y, x * x), strict=True):
        close(found, wanted)
    close(sg.jvp(f, [x, y], [V, X])[1], np.sum(2 * x * y * V + x * x * X))


def test_functions_that_ignore_their_input_have_zero_derivatives():
    def constant(_x):
        return np.float64(2.0)

    close(sg.grad(constant)(X), np.zeros(3))
    close(sg.grad(lambda x: 3.0)(X), np.zeros(3))
    close(sg.grad(lambda x, y: y.sum())(X, V), np.zeros(3))
    close(sg.hessian(lambda x: x.sum())(X), np.zeros((3, 3)))
    close(sg.hessian(constant)(X), np.zeros((3, 3)))
    close(sg.hvp(constant, X, V), np.zeros(3))
    close(sg.jacobian(lambda x: np.ones(2))(X), np.zeros((2, 3)))
    close(sg.jacobian(lambda x: 1.0)(X), np.zeros(3))
    assert sg.jvp(constant, [X], [V]) == (2.0, 0.0)
    close(sg.vjp(lambda x: np.ones(2), X)[1](np.ones(2)), np.zeros(3))
    close(sg.grad(lambda x: ops.sum(ops.sign(x) * 2.0))(X), np.zeros(3))
    close(sg.grad(lambda x: ops.sum(sg.stop_gradient(x) * x))(X), X)
    assert isinstance(sg.grad(constant)(sg.tensor(X)), sg.Tensor)
    assert isinstance(sg.jacobian(constant)(sg.tensor(X)), sg.Tensor)


def test_numbers_are_float32_and_arrays_keep_their_dtype():
    g = sg.grad(lambda x: x**3)(2.0)
    assert (g, g.dtype) == (12.0, np.float32)
    for dtype in (np.float32, np.float64):
        assert sg.grad(lambda x: (x**3).sum())(X.astype(dtype)).dtype == dtype
        assert sg.grad(lambda x: x**3)(dtype(2.0)).dtype == dtype
    with pytest.raises(TypeError, match="derivative with respect to int64"):
        sg.grad(lambda x: x.sum())(np.arange(3))


def test_inputs_are_left_alone_and_may_change_later():
    x = X.copy()

    def f(x):
        return (x**3).sum()

    _, pull = sg.vjp(f, x)
    x[:] = 0.0
    close(pull(np.float64(1.0)), 3 * X**2)


def test_the_value_that_comes_with_a_pullback_cannot_be_written_to():
    value, pull = sg.vjp(ops.exp, X)
    with pytest.raises(ValueError, match="read-only"):
        value[...] = 0.0
    close(pull(np.ones(3)), np.exp(X))


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (lambda: sg.grad(vector)(X), ValueError, r"shape \(4,\); a gradient needs a scalar"),
        (lambda: sg.vjp(vector, X)[1](np.ones(3)), ValueError, r"g has shape \(3,\), the value \(4,\)"),
        (lambda: sg.vjp(vector, X)[1](np.ones(4, np.float32)), TypeError, "g is float32, the value float64"),
        (lambda: sg.jvp(vector, [X], [np.ones(2)]), ValueError, r"tangent of shape \(2,\)"),
        (lambda: sg.jvp(vector, [X], [V, V]), ValueError, "shorter|longer"),
        (lambda: sg.gradients(sg.tensor(X), [sg.tensor(X)]), ValueError, "give g, or reduce it to a scalar"),
        (lambda: sg.gradients(sg.tensor(1.0), [X]), TypeError, "with respect to a ndarray"),
        (lambda: sg.grad(lambda x: x)(None), TypeError, "operand of type NoneType"),
    ],
)
def test_errors_say_what_is_wrong(call, kind, message):
    with pytest.raises(kind, match=message):
        call()


# --- nesting ------------------------------------------------------------------------------------------------


def test_derivatives_of_the_sine_to_the_sixth_order():
    f, x = ops.sin, np.float64(0.7)
    for wanted in (
        np.sin,
        np.cos,
        lambda x: -np.sin(x),
        lambda x: -np.cos(x),
        np.sin,
        np.cos,
        lambda x: -np.sin(x),
    ):
        close(f(x), wanted(x))
        f = sg.grad(f)


def test_perturbations_are_not_confused():
    """d/dx [x · d/dy (x + y)] = 1, not 2."""
    assert sg.grad(lambda x: x * sg.grad(lambda y: x + y)(1.0))(1.0) == 1.0
    assert sg.grad(lambda x: x * sg.grad(lambda y: x * y)(2.0))(3.0) == 6.0
    jvp = sg.jvp(lambda x: x * sg.jvp(lambda y: x + y, [1.0], [np.float32(1.0)])[1], [1.0], [np.float32(1.0)])
    assert jvp[1] == 1.0


def test_an_inner_variable_that_equals_an_outer_one_is_another_variable():
    def f(x):
        inner = sg.grad(lambda y: y * y * x)  # 2·y·x
        return inner(x) + inner(2.0)  # 2x² + 4x

    assert sg.grad(f)(3.0) == 16.0
    assert sg.grad(sg.grad(f))(3.0) == 4.0


def test_a_gradient_inside_a_gradient_closes_over_tensors():
    w = sg.tensor(A)

    def energy(x):
        return ops.sum(ops.tanh(w @ x))

    def penalty(x):
        return (sg.grad(energy)(x) ** 2).sum()

    score = sg.grad(energy)(X)
    assert isinstance(score, sg.Tensor)
    np.testing.assert_allclose(score.numpy(), derivatives.gradient(lambda x: np.tanh(A @ x).sum(), X), rtol=1e-9)
    (found,) = sg.gradients(penalty(X), [w])

    def by_hand(a):
        return np.sum(((1 - np.tanh(a @ X) ** 2) @ a) ** 2)

    close(found, derivatives.gradient(by_hand, A), 1e-8)


def test_arrays_in_arrays_out_and_tensors_in_tensors_out():
    for f, args in (
        (sg.grad(wavy), (X,)),
        (sg.hessian(wavy), (X,)),
        (sg.jacobian(vector), (X,)),
        (sg.grad(sg.grad(ops.sin)), (X[0],)),
        (lambda x: sg.hvp(wavy, x, V), (X,)),
        (lambda x: sg.vjp(vector, x)[1](np.ones(4)), (X,)),
        (lambda x: sg.jvp(vector, [x], [V])[1], (X,)),
        (lambda x: sg.value_and_grad(wavy)(x)[0], (X,)),
        (sg.grad(lambda b: sg.grad(lambda a: ops.power(a, b))(np.float64(3.0))), (np.float64(2.0),)),
    ):
        plain = f(*args)
        assert not isinstance(plain, sg.Tensor)
        tracked = f(*map(sg.tensor, args))
        assert isinstance(tracked, sg.Tensor)
        np.testing.assert_array_equal(tracked.numpy(), plain)


def test_a_derivative_of_a_tensor_remembers_where_it_came_from():
    t = sg.tensor(X)
    u = t * 2.0
    (found,) = sg.gradients(sg.grad(lambda x: (x**3).sum())(u).sum(), [t])  # Σ 3·(2t)²
    close(found, 24 * X)


def test_second_order_through_gradients_of_values_already_computed():
    t = sg.tensor(X)
    (g,) = sg.gradients((t**4).sum(), [t], create_graph=True)
    (h,) = sg.gradients((g * V).sum(), [t], create_graph=True)
    close(h.numpy(), 12 * X**2 * V)
    (third,) = sg.gradients(h.sum(), [t])
    close(third, 24 * X * V)
    u = sg.tensor(X)
    (zeros,) = sg.gradients((t**2).sum(), [u], create_graph=True)
    assert isinstance(zeros, sg.Tensor)
    close(sg.gradients(zeros.sum(), [t])[0], np.zeros(3))


def test_gradients_of_intermediate_values():
    t = sg.tensor(X)
    u = t * t
    v = ops.exp(u)
    y = (v * u).sum()
    gt, gu, gv = sg.gradients(y, [t, u, v])
    close(gv, X**2)
    close(gu, np.exp(X**2) * (1 + X**2))
    close(gt, np.exp(X**2) * (1 + X**2) * 2 * X)
    assert sg.gradients(sg.tensor(1.0), []) == []
    close(sg.gradients(t, [t], g=V)[0], V)
    close(sg.gradients(u.sum(), [t, t])[1], 2 * X)


# --- second order through what networks are made of ---------------------------------------------------------


def network_cases():
    rng = np.random.default_rng(3)
    image, kernel = rng.standard_normal((1, 4, 4, 2)), rng.standard_normal((2, 2, 2, 2))
    row, scale = rng.standard_normal((2, 4)), rng.standard_normal(4)
    q, k, v = rng.standard_normal((3, 3, 2))
    mask = np.tril(np.ones((3, 3), bool))
    table, places = rng.standard_normal((4, 2)), np.array([1, 1, 3])
    return {
        "conv": (lambda x: ops.tanh(ops.conv2d(x, kernel, 1, 1)), image),
        "conv, stride 2": (lambda x: ops.tanh(ops.conv2d(x, kernel, 2)), image),
        "conv, kernel": (lambda w: ops.tanh(ops.conv2d(image, w, 2, 1)), kernel),
        "conv transpose": (lambda x: ops.tanh(ops.conv2d_transpose(x, kernel, 2)), image),
        "conv transpose, kernel": (lambda w: ops.tanh(ops.conv2d_transpose(image, w, 1, 1)), kernel),
        "average pool": (lambda x: ops.avg_pool2d(x, 2) ** 2, image),
        "max pool": (lambda x: ops.max_pool2d(x, 2) ** 3, image),
        "layer norm": (lambda x: F.layer_norm(x, scale), row),
        "group norm": (lambda x: F.group_norm(x, 2), image),
        "rms norm": (lambda x: F.rms_norm(x, scale), row),
        "softmax": (lambda x: F.softmax(x), row),
        "log softmax": (lambda x: F.log_softmax(x), row),
        "attention, queries": (lambda q: F.attention(q, k, v, mask), q),
        "attention, keys": (lambda k: F.attention(q, k, v), k),
        "embedding": (lambda t: F.embedding(t, places) ** 3, table),
        "silu": (lambda x: F.silu(x), row),
        "gelu": (lambda x: F.gelu(x), row),
    }


@pytest.mark.parametrize("name", network_cases())
def test_second_order_through(name):
    layer, x = network_cases()[name]
    weight = np.random.default_rng(4).standard_normal(np.shape(layer(x)))

    def loss(x):
        return (layer(x) * weight).sum()

    v = np.random.default_rng(5).standard_normal(x.shape)
    close(sg.hvp(loss, x, v), derivatives.directional(sg.grad(loss), x, v), 1e-7)
    wanted = derivatives.directional_second(loss, x, v, h=1e-2, levels=3)
    np.testing.assert_allclose(np.sum(v * sg.hvp(loss, x, v)), wanted, rtol=1e-5, atol=1e-6)
    sg.check_grads(layer, [x], order=2)


# --- check_grads itself -------------------------------------------------------------------------------------


def test_check_grads_passes_what_is_right():
    sg.check_grads(lambda x, y: ops.sin(x) * ops.exp(y), [X, V], order=3)
    sg.check_grads(lambda x: x.sum(), [np.float64(2.0)], order=2)
    sg.check_grads(lambda x: x * 2.0, [np.zeros((0, 3))])


def test_check_grads_names_what_is_wrong():
    @sg.autograd.primitive(lambda g, _y, x, _w: g * ops.cos(x), lambda g, _y, _x, w: g * 2.0)
    def wrong_in_the_second(xp, x, w, /):
        return xp.sin(x) + w

    with pytest.raises(sg.GradientError, match="argument 1, order 1: numeric"):
        sg.check_grads(wrong_in_the_second, [X, V])

    @sg.autograd.primitive(lambda g, _y, x: g * np.cos(x.numpy() if isinstance(x, sg.Tensor) else x))
    def right_only_once(xp, x, /):
        return xp.sin(x)

    sg.check_grads(right_only_once, [X])
    with pytest.raises(sg.GradientError, match="argument 0, order 2"):
        sg.check_grads(right_only_once, [X], order=2)
    with pytest.raises(TypeError, match="needs float64"):
        sg.check_grads(ops.sin, [X.astype(np.float32)])


def test_transforms_follow_their_arrays(backend):
    x, v = backend.asarray(X), backend.asarray(V)

    def f(x):
        return ops.sum(ops.sin(x) * x[::-1] ** 2)

    def plain(result):
        return backend.to_numpy(result)

    def numpy_f(x):
        return np.sum(np.sin(x) * x[::-1] ** 2)

    np.testing.assert_allclose(plain(sg.grad(f)(x)), derivatives.gradient(numpy_f, X), rtol=1e-8)
    np.testing.assert_allclose(plain(sg.hessian(f)(x)), derivatives.hessian(numpy_f, X), atol=1e-7)
    np.testing.assert_allclose(plain(sg.jvp(f, [x], [v])[1]), derivatives.directional(numpy_f, X, V), rtol=1e-8)
    sg.check_grads(f, [x], order=2)
