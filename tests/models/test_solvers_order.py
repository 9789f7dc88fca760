"""Solvers: one step against Taylor and Newton–Cotes, the measured order against SciPy, and the noise's moments."""

import itertools
import math

import numpy as np
import pytest
from evidence import agree, apart, host, lifted, lowered, up
from hypothesis import given
from hypothesis import strategies as st
from sandbox_tools import COV, MEAN, NORMAL, SOME, as_map, floats, mixture, on_backend, points, seeds, slope
from scipy import integrate

import scratchgen as sg
from reference import sde as oracle
from reference.gaussian import moments
from scratchgen import ops
from scratchgen.models.energy import langevin
from scratchgen.models.score import sde, solvers

S = lifted(solvers)
by_order = pytest.mark.parametrize(("name", "order"), [
    pytest.param("euler", 1, marks=pytest.mark.equation("solver.euler")),
    pytest.param("heun", 2, marks=pytest.mark.equation("solver.heun")),
    pytest.param("rk4", 4, marks=pytest.mark.equation("solver.rk4")),
])  # fmt: skip


@by_order
@SOME
@given(seed=seeds, h=floats(-1, 1))
def test_a_step_is_taylors_polynomial(name, order, seed, h):
    """On ẋ = A·x a step of order p is Σ_{k ≤ p} (hA)ᵏ/k!·x: the exponential's beginning, and nothing else."""
    A, x = np.random.default_rng(seed).normal(size=(2, 3, 3))
    expected, term = x, x
    for k in range(1, order + 1):
        term = h / k * term @ A.T
        expected = expected + term
    agree(getattr(S, name)(lowered(lambda x, t: x @ A.T), x, 0.0, h), expected, 1e-12, 1e-12)


@by_order
@SOME
@given(seed=seeds, t=floats(-1, 1), h=floats(-2, 2))
def test_a_step_without_x_is_a_quadrature(name, order, seed, t, h):
    """On ẋ = f(t): the left end, the trapezoid, and Simpson's rule, by SciPy's Newton–Cotes."""
    c = np.random.default_rng(seed).normal(size=5)
    f = np.polynomial.Polynomial(c)
    nodes = {1: np.array([t]), 2: np.array([t, t + h]), 4: np.array([t, t + h / 2, t + h])}[order]
    weights = np.ones(1) if order == 1 else integrate.newton_cotes(nodes.size - 1)[0] / (nodes.size - 1)
    x = np.zeros((1, 2))
    found = getattr(S, name)(lowered(lambda x, t: x + f(t) - x), x, t, h)
    agree(found, np.full((1, 2), h * weights @ f(nodes)), 1e-12, 1e-12)


# A component's x depends on t and on the other; no symmetry that would flatter a solver.
def crossed(x, t):
    return np.stack([np.sin(2 * t) * x[:, 1] - x[:, 0] ** 2, np.cos(x[:, 0] + t)], axis=1)


@by_order
def test_measured_order_on_a_crossed_system(name, order):
    """Errors at t = 1 against DOP853's: the slope over h = 1/8 … 1/64 is the order, within 0.15."""
    x0 = np.array([[0.3, -0.5], [1.0, 0.2]])
    ends = [integrate.solve_ivp(lambda t, x: crossed(x[None], t)[0], (0, 1), x, "DOP853", rtol=1e-13, atol=1e-13).y
            for x in x0]  # fmt: skip
    end = np.stack([y[:, -1] for y in ends])
    sizes = np.array([8, 16, 32, 64])
    errors = [np.abs(last(name, lowered(crossed), x0, 0.0, 1.0, n) - end).max() for n in sizes]
    agree(slope(1 / sizes, errors), order, 0, 0.15)


def last(name, f, x, t0, t1, n):
    (*_, end) = solvers.integrate(getattr(solvers, name), f, up(x), t0, t1, n)
    return host(end)


@by_order
def test_measured_order_on_the_probability_flow(name, order):
    """Gaussian data from noise, t = 1, to data, t = 0.02, where the end is known by matrix exponentials."""
    equation, x0 = sde.VP(0.1, 6.0), points(1, 4, 2, 1.5)
    score = on_backend(NORMAL).score_theta(equation)
    v = lambda x, t: sde.probability_flow(equation, x, score(x, t), t)  # noqa: E731
    ends = [oracle.gaussian_flow(x0, MEAN, COV, *(float(c) for c in lifted(equation.marginal)(t))) for t in (1.0, 0.02)]
    sizes = np.array([16, 32, 64, 128] if order < 4 else [16, 32, 64])
    errors = [np.abs(last(name, v, ends[0], 1.0, 0.02, n) - ends[1]).max() for n in sizes]
    agree(slope(1 / sizes, errors), order, 0, 0.25)
    assert errors == sorted(errors, reverse=True)


@pytest.mark.equation("solver.rk4", "solver.heun", "sde.probability_flow")
def test_the_flow_of_a_mixture_is_scipys():
    """RK4's 120 and Heun's 480 steps meet DOP853's, which follows the oracle's conditioned noise."""
    data, equation, x = mixture(21, 2, 2), sde.VP(0.1, 4.0), points(22, 2, 2, 1.5)
    m = on_backend(data)
    score = m.score_theta(equation)
    v = lambda x, t: sde.probability_flow(equation, x, score(x, t), t)  # noqa: E731
    beta = lambda t: 0.1 + 3.9 * t  # noqa: E731
    B = lambda t: integrate.quad(beta, 0, t)[0]  # noqa: E731
    marginal = lambda t: (math.exp(-B(t) / 2), 1 - math.exp(-B(t)))  # noqa: E731
    end = [oracle.mixture_flow(p, data, lambda t: (-beta(t) / 2, beta(t)), marginal, 1.0, 0.1) for p in x]
    agree(last("rk4", v, x, 1.0, 0.1, 120), end, 0, 1e-6)
    agree(last("heun", v, x, 1.0, 0.1, 480), end, 0, 2e-4)


# --- noise ------------------------------------------------------------------------------------------------------


@pytest.mark.equation("solver.euler_maruyama")
@SOME
@given(seeds, floats(0.01, 1), floats(0.1, 3), st.sampled_from([1, -1]))
def test_a_noisy_step_has_eulers_mean_and_the_variance_of_its_time(seed, h, g, sign):
    A, b = np.random.default_rng(seed).normal(size=(2, 2, 2))
    f = lowered(lambda x, t: x @ A.T + b[0] * t)
    mean, B, Q = as_map(lambda x, z: S.euler_maruyama(f, g, x, 0.7, sign * h, z), 2)
    agree(mean, np.eye(2) + sign * h * A, 1e-12, 1e-12)
    agree(B, sign * h * b[0] * 0.7, 1e-12, 1e-12)
    agree(Q, h * g**2 * np.eye(2), 1e-12, 1e-12)


@pytest.mark.equation("solver.euler_maruyama")
@SOME
@given(seeds, st.integers(1, 6), floats(0.1, 3))
def test_without_drift_steps_add_up_to_one(seed, n, g):
    """Brownian motion: n steps of h/n with noises z_i are one of h with Σ z_i/√n."""
    x, *zs = np.random.default_rng(seed).normal(size=(n + 1, 2, 2))
    still = lowered(lambda x, t: 0 * x)
    queue = iter(zs)
    (*_, end) = S.simulate(still, lambda t: g, x, 0.0, 0.5, n, lowered(lambda shape: next(queue)))
    agree(end, S.euler_maruyama(still, g, x, 0.0, 0.5, sum(zs) / math.sqrt(n)), 1e-12, 1e-12)


@pytest.mark.equation("solver.euler_maruyama")
def test_weak_order_on_ornstein_and_uhlenbeck():
    """dx = −2x dt + 1.5 dw from N(3, 0.04): mean and variance at t = 1 by exact recursion, against SciPy's; slope 1."""
    mean, cov = oracle.linear_moments(lambda t: [[-2.0]], lambda t: np.zeros(1), lambda t: 2.25, [3.0], [[0.04]], 0, 1)
    f, sizes, errors = lowered(lambda x, t: -2 * x), np.array([20, 40, 80, 160]), []
    for n in sizes:
        step = as_map(lambda x, z, n=n: S.euler_maruyama(f, 1.5, x, 0.0, 1 / n, z), 1)
        means, covs = moments([3.0], [[0.04]], [step] * n)
        errors.append([abs(means[-1] - mean).item(), abs(covs[-1] - cov).item()])
    agree(slope(1 / sizes, np.array(errors)[:, 0]), 1.0, 0, 0.1)
    agree(slope(1 / sizes, np.array(errors)[:, 1]), 1.0, 0, 0.1)
    wrong = as_map(lambda x, z: S.euler_maruyama(f, 1.5, x, 0.0, 1 / 160, z / math.sqrt(160)), 1)  # h for √h
    apart(moments([3.0], [[0.04]], [wrong] * 160)[1][-1], cov, 0.1)


# Over a wide range of σ VE's errors of first and of second order have opposite signs, and cancel at some h.
GENTLE = [sde.VP(0.1, 6.0), sde.SubVP(0.1, 6.0), sde.VE(0.5, 2.0)]


@pytest.mark.equation("solver.euler_maruyama", "sde.reverse")
@pytest.mark.parametrize("equation", GENTLE, ids=lambda e: type(e).__name__)
def test_weak_order_of_the_reverse_equation(equation):
    """Gaussian data, from the exact moments at t = 1 back to t = 0.02, no sample drawn.  The covariance's error has a
    slope of 1 within 0.15; the drift with ½g² misses the data by far, as noise without its score must."""
    m = on_backend(NORMAL)
    score = m.score_theta(equation)
    start, end = (on_host(m.noisy(*equation.marginal(t))) for t in (1.0, 0.02))

    def error(n, drift):
        f, h = lambda x, t: drift(equation, x, score(x, t), t), -0.98 / n
        steps = [as_map(lambda x, z, t=1 + k * h: S.euler_maruyama(f, equation.diffusion(t), x, t, h, z), 2)
                 for k in range(n)]  # fmt: skip
        return np.abs(moments(*start, steps)[1][-1] - end[1]).max()

    sizes = np.array([50, 100, 200])
    agree(slope(1 / sizes, [error(n, sde.reverse) for n in sizes]), 1.0, 0, 0.15)
    apart(error(100, sde.probability_flow), 0.0, 0.1)


def on_host(m):
    """Mean and covariance of a mixture of one."""
    return host(m.means)[0], host(m.covs)[0]


@pytest.mark.equation("solver.euler_maruyama", "langevin.step_half")
@SOME
@given(seeds, floats(0.01, 0.5))
def test_langevins_step_is_euler_and_maruyamas(seed, epsilon):
    """x + (ε/2)·s + √ε·z is a step of ε along dx = ½s dt + dw."""
    x, z = points(seed, 3, 2), points(seed + 1, 3, 2)
    s = np.cos(3 * x)
    found = S.euler_maruyama(lowered(lambda x, t: np.cos(3 * x) / 2), 1.0, x, 0.0, epsilon, z)
    agree(found, lifted(langevin.step_half)(x, s, epsilon, z), 1e-13, 1e-13)


# --- walking ----------------------------------------------------------------------------------------------------


@pytest.mark.equation("solver.euler", "solver.euler_maruyama")
@SOME
@given(seeds, st.integers(1, 7), floats(-1, 1), floats(-1, 1))
def test_a_walk_takes_its_steps_one_after_the_other(seed, n, t0, t1):
    x0, *zs = np.random.default_rng(seed).normal(size=(n + 1, 2, 2))
    asked, h = [], (t1 - t0) / n

    @lowered
    def f(x, t):
        asked.append(t)
        return np.sin(x + t)

    found = list(S.integrate(solvers.euler, f, x0, t0, t1, n))
    agree(asked, t0 + h * np.arange(n), 0, 1e-14)
    assert len(found) == n
    for (k, x), y in zip(enumerate([x0, *found]), found, strict=False):
        agree(y, x + h * np.sin(x + t0 + k * h), 1e-12, 1e-12)
    g = lambda t: 1 + t * t  # noqa: E731
    queue = iter(zs)
    noisy = list(S.simulate(f, g, x0, t0, t1, n, lowered(lambda shape: next(queue))))
    for k, (x, y) in enumerate(itertools.pairwise([x0, *noisy])):
        t = t0 + k * h
        agree(y, x + h * np.sin(x + t) + math.sqrt(abs(h)) * g(t) * zs[k], 1e-12, 1e-12)


@pytest.mark.equation("solver.euler", "solver.heun", "solver.rk4", "solver.euler_maruyama")
def test_gradients_and_float32():
    x, z, g = points(1, 2, 2), points(2, 2, 2), np.array([0.5, 2.0])
    f = lambda x, t: ops.sin(2 * x) * (1 + t)  # noqa: E731
    for name in ("euler", "heun", "rk4"):
        step = getattr(solvers, name)
        sg.check_grads(lambda x, step=step: step(f, x, 0.3, 0.2), (x,), order=2)
        found = getattr(S, name)(f, x.astype("float32"), 0.3, 0.2)
        assert found.dtype == np.float32
        agree(found, getattr(S, name)(f, x, 0.3, 0.2), 1e-6, 1e-6)
    sg.check_grads(lambda x, z, g: solvers.euler_maruyama(f, g, x, 0.3, 0.2, z), (x, z, g), order=2)
    small = [v.astype("float32") for v in (x, z)]
    for width in (0.5, g, np.float64(0.5)):
        found = S.euler_maruyama(f, width, small[0], 0.3, 0.2, small[1])
        assert found.dtype == np.float32
        agree(found, S.euler_maruyama(f, width, x, 0.3, 0.2, z), 1e-6, 1e-6)


def test_no_steps_are_refused():
    for n in (0, -1):
        with pytest.raises(ValueError, match=f"integrate: {n} steps"):
            next(solvers.integrate(solvers.euler, lambda x, t: x, up(np.zeros(1)), 0, 1, n))
        with pytest.raises(ValueError, match=f"simulate: {n} steps"):
            next(solvers.simulate(lambda x, t: x, lambda t: 1.0, up(np.zeros(1)), 0, 1, n, lambda shape: None))
