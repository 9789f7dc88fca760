"""Finite differences against known derivatives and against the complex step."""

import numpy as np
import pytest

from reference import derivatives as N


def f(x):
    return np.sum(np.exp(x) * np.sin(x)) + x[0] * x[1] ** 2


def f_gradient(x):
    g = np.exp(x) * (np.sin(x) + np.cos(x))
    g[0] += x[1] ** 2
    g[1] += 2 * x[0] * x[1]
    return g


def f_hessian(x):
    h = np.diag(2 * np.exp(x) * np.cos(x))
    h[0, 1] += 2 * x[1]
    h[1, 0] += 2 * x[1]
    h[1, 1] += 2 * x[0]
    return h


X, V, W = np.random.default_rng(0).uniform(-1, 1, (3, 3))


def test_first_order():
    np.testing.assert_allclose(N.gradient(f, X), f_gradient(X), rtol=1e-11, atol=1e-12)
    assert N.directional(f, X, V) == pytest.approx(f_gradient(X) @ V, abs=1e-11)
    assert N.complex_step(f, X, V) == pytest.approx(f_gradient(X) @ V, abs=1e-15)


def test_second_order():
    np.testing.assert_allclose(N.hessian(f, X), f_hessian(X), atol=1e-9)
    assert N.directional_second(f, X, V) == pytest.approx(V @ f_hessian(X) @ V, abs=1e-9)
    assert N.bilinear_second(f, X, V, W) == pytest.approx(V @ f_hessian(X) @ W, abs=1e-9)


def test_jacobian_has_the_output_shape_then_the_input_shape():
    A = np.random.default_rng(1).standard_normal((2, 3))
    x = np.random.default_rng(2).standard_normal((3, 4))
    J = N.jacobian(lambda x: A @ x, x)
    assert J.shape == (2, 4, 3, 4)
    np.testing.assert_allclose(J, np.einsum("ij,kl->ikjl", A, np.eye(4)), atol=1e-12)
    assert N.jacobian(np.sin, np.array(0.3)).shape == ()


def test_extrapolation_gains_two_orders_a_level():
    for levels in (1, 2, 3):
        coarse, fine = (abs(float(N.directional(np.exp, 0.0, 1.0, h, levels)) - 1) for h in (0.4, 0.2))
        assert np.log2(coarse / fine) == pytest.approx(2 * levels, abs=0.1)


def test_complex_step_cannot_see_through_abs():
    """Negative control: a function that is not analytic gives a wrong answer, not an error."""
    assert N.complex_step(lambda x: np.abs(x) ** 2, 0.5, 1.0) != pytest.approx(1.0, abs=0.1)
