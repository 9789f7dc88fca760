"""What samplers of a diffusion in continuous time are made of: the network's frame, clocks, weights, the corrector,
SciPy's solvers; and whole samplers with exact scores."""

import math

import numpy as np
import pytest
from evidence import agree, apart, at_most, host, lifted, lowered, up
from hypothesis import given
from hypothesis import strategies as st
from sandbox_tools import (
    COV,
    FEW,
    MEAN,
    NORMAL,
    SOME,
    as_map,
    floats,
    methods,
    mixture,
    mixtures,
    on_backend,
    points,
    seeds,
)

import scratchgen as sg
from reference import denoisers as E
from reference import distributions as D
from reference import sde as oracle
from reference.gaussian import moments
from scratchgen import ops
from scratchgen.models.score import network, samplers, sde, solvers
from scratchgen.random import Generator

N, R, S, C = lifted(network), lifted(sde), lifted(samplers), lifted(solvers)
KINDS = [sde.VP(0.1, 6.0), sde.SubVP(0.1, 6.0), sde.VE(0.1, 3.0)]
by_kind = pytest.mark.parametrize("equation", KINDS, ids=lambda e: type(e).__name__)


# --- a network as a score ---------------------------------------------------------------------------------------


@pytest.mark.equation("score.network")
@SOME
@given(seeds, floats(0.05, 1.5), floats(0.05, 5), st.booleans())
def test_without_a_network_it_is_the_score_of_a_normal(seed, a, sigma, rows):
    """F = 0: numeric derivatives of the noised N(0, I)'s log-density."""
    x = points(seed, 2, 2)
    level = [np.array([c, c]) for c in (a, sigma)] if rows else [a, sigma]
    found = N.score(lambda x, t: 0 * x, x, *level)
    agree(found, [E.score(p, E.gaussian(np.zeros(2), np.eye(2)), a, sigma) for p in x], 1e-7, 1e-7)


@pytest.mark.equation("score.network")
@FEW
@given(mixtures, seeds, floats(0.1, 1.2), floats(0.1, 3))
def test_a_perfect_network_is_the_score(data, seed, a, sigma):
    """F = (a·E[ε|x] − σ·E[x_0|x])/c by conditioning, asked as the network is asked: with x/c, and 100·log(a/σ)."""
    c = math.hypot(a, sigma)

    @lowered
    def F(y, t):
        agree(np.exp(t / 100), np.full(len(y), a / sigma), 1e-12, 0)
        x = y * c
        return np.stack([(a * E.noise(p, data, a, sigma) - sigma * E.denoiser(p, data, a, sigma)) / c for p in x])

    x = points(seed, 2, data.means.shape[1])
    expected = [E.score(p, data, a, sigma) for p in x]
    agree(N.score(F, x, a, sigma), expected, 1e-7, 1e-7)
    apart(N.score(lambda x, t: 0 * x + 1, x, a, sigma), expected, 1e-4)


@pytest.mark.equation("score.network")
def test_gradients_precision_and_what_a_new_network_says():
    x, w = points(1, 3, 2), points(2, 2, 2)
    F = lambda w: lambda y, t: ops.tanh(ops.matmul(y, w))  # noqa: E731
    sg.check_grads(lambda x, w: network.score(F(w), x, 0.8, 0.5), up((x, w)), order=2)
    model = network.network((2,), None, 8, Generator(0))
    for dtype in ("float32", "float64"):
        y = x.astype(dtype)
        found = N.score(model.astype(dtype).frozen(), y, 0.6, 0.8)
        assert found.dtype == y.dtype
        agree(found, -y, 1e-6, 1e-6)  # its last layer is 0, and a² + σ² = 1


# --- clocks, and the likelihood's weight --------------------------------------------------------------------------


@pytest.mark.equation("sde.clock")
@SOME
@given(floats(0.5, 3), floats(0.2, 0.9), floats(0.05, 1), floats(1, 8))
def test_a_clock_is_the_same_chain_with_other_steps(power, u, low, high):
    """VP's and VE's chains, whose step from u to u + h goes from u^p to (u+h)^p: rates and marginal of the limit."""
    tau = lambda u: u**power  # noqa: E731
    sigma = lambda t: 0.1 * 30**t  # noqa: E731
    pairs = [(sde.VP(low, high), oracle.vp_step(lambda t: low + t * (high - low))),
             (sde.VE(0.1, 3.0), oracle.ve_step(sigma))]  # fmt: skip
    for equation, step in pairs:
        clock, steps = methods(sde.Clock(equation, power)), oracle.on_a_clock(step, tau)
        found = [clock.drift(np.ones((1, 1)), u).item(), clock.diffusion(u) ** 2]
        agree(found, oracle.rates(steps, u), 1e-8, 1e-8)
        a, std = clock.marginal(u)
        agree([a, std**2], oracle.marginal(step, tau(u), 64, 6), 1e-8, 1e-8)


@pytest.mark.equation("sde.clock")
@by_kind
def test_a_clocks_moments_solve_its_own_equation(equation):
    """Mean and variance of N(m, v) along the clocked equation, by SciPy: the marginal's."""
    clock = sde.Clock(equation, 2.0)
    one = methods(clock)
    A = lambda u: [[one.drift(np.ones((1, 1)), u).item()]]  # noqa: E731
    mean, cov = oracle.linear_moments(A, lambda u: np.zeros(1), lambda u: float(one.diffusion(u)) ** 2,
                                      [0.7], [[0.3]], 0.0, 0.8)  # fmt: skip
    a, std = one.marginal(0.8)
    agree(mean.item(), 0.7 * a, 1e-7, 1e-8)
    agree(cov.item(), 0.3 * a**2 + std**2, 1e-7, 1e-8)
    apart(methods(equation).marginal(0.8)[1], std, 1e-2)


@pytest.mark.equation("sde.clock")
def test_a_clock_keeps_both_ends_and_takes_rows():
    for equation in KINDS:
        one, two = methods(equation), methods(sde.Clock(equation))
        for t in (0.0, 1.0):
            agree(two.marginal(t), one.marginal(t), 1e-15, 0)
        rows = np.array([0.25, 0.81])
        agree(two.marginal(np.sqrt(rows)).std, one.marginal(rows).std, 1e-12, 0)
        agree(two.drift(np.ones((2, 3)), np.sqrt(rows))[1], two.drift(np.ones((1, 3)), 0.9)[0], 1e-12, 0)
    with pytest.raises(ValueError, match="the power 0"):
        sde.Clock(KINDS[0], 0)


@by_kind
def test_the_time_of_a_level(equation):
    for clock in (equation, sde.Clock(equation)):
        t = sde.time_of(clock, 0.3)
        agree(methods(clock).marginal(t).std, 0.3, 1e-12, 0)
    with pytest.raises(ValueError, match="never of deviation 9"):
        sde.time_of(equation, 9.0)


@pytest.mark.equation("sde.likelihood_weight")
@FEW
@given(st.sampled_from(KINDS), floats(0.1, 0.9), floats(-2, 2), floats(-2, 2), floats(-2, 2))
def test_the_weight_is_the_rate_at_which_paths_diverge(equation, t, x, s, e):
    """KL of one step of the reverse equation with the score −ε/σ from one with s, by quadrature, over its time h."""
    sigma, h = float(methods(equation).marginal(t).std), 1e-3
    true = -e / sigma
    drifts = [R.reverse(equation, np.array([[x]]), np.array([[v]]), t).item() for v in (true, s)]
    width = float(methods(equation).diffusion(t)) * math.sqrt(h)
    kl = D.kl_gaussian_quad(x - h * drifts[0], width, x - h * drifts[1], width)
    agree(float(R.likelihood_weight(equation, t)) * (sigma * s + e) ** 2 / 2, kl / h, 1e-6, 1e-8)


@pytest.mark.equation("sde.likelihood_weight")
def test_the_weight_takes_rows_and_clocks():
    rows = np.array([0.3, 0.7])
    for equation in KINDS:
        each = [R.likelihood_weight(equation, float(t)) for t in rows]
        agree(R.likelihood_weight(equation, rows), each, 1e-12, 0)
        slower = R.likelihood_weight(sde.Clock(equation, 2.0), np.sqrt(rows)) / (2 * np.sqrt(rows))
        agree(slower, each, 1e-12, 0)  # per time t, not per time u: the integral stays


# --- the corrector ------------------------------------------------------------------------------------------------


@pytest.mark.equation("sde.corrector")
@SOME
@given(seeds, floats(0.05, 1), st.integers(1, 4))
def test_the_corrector_has_the_ratio_it_is_given(seed, r, n):
    """Its parts: s's direction of length ε, z's of √(2ε); their mean lengths stand to one another as r."""
    x, s, z = np.random.default_rng(seed).normal(size=(3, n, 2, 3))
    direction, noise = oracle.direction_and_noise(lambda z: S.corrector(x, s, r, z), x, z)
    epsilon = (direction / s).ravel()[0]
    agree(direction, epsilon * s, 1e-9, 1e-12)
    agree(noise, math.sqrt(2 * epsilon) * z, 1e-9, 1e-12)
    length = lambda v: np.linalg.norm(v.reshape(n, -1), axis=1).mean()  # noqa: E731
    agree(length(direction) / length(noise), r, 1e-9, 0)


@pytest.mark.equation("sde.corrector")
def test_corrector_derivatives_precision_and_shapes():
    x, s, z = np.random.default_rng(3).normal(size=(3, 2, 3))
    sg.check_grads(lambda x, s, z: samplers.corrector(x, s, 0.3, z), (x, s, z), order=2)
    small = [v.astype("float32") for v in (x, s, z)]
    found = S.corrector(small[0], small[1], 0.3, small[2])
    assert found.dtype == np.float32
    agree(found, S.corrector(x, s, 0.3, z), 1e-5, 1e-5)
    with pytest.raises(ValueError, match=r"s \(1, 3\) should have the shape of x"):
        S.corrector(x, s[:1], 0.3, z)


@pytest.mark.equation("sde.corrector")
def test_predictor_corrector_takes_its_steps_one_after_the_other():
    """Prediction at t with the score there, correction at t + h with the score there; the noises in that order."""
    equation, x, zs = KINDS[0], points(4, 5, 2), points(5, 6, 5 * 2).reshape(6, 5, 2)
    asked = []

    @lowered
    def score(x, t):
        asked.append(t)
        return np.cos(x + t)

    queue = iter(zs)
    found = list(S.predictor_corrector(equation, score, x, 3, 0.1, lowered(lambda shape: next(queue)), 0.2))
    agree(asked, [1.0, 0.7, 0.7, 0.4, 0.4, 0.1], 1e-12, 0)
    for k, y in enumerate(found):
        t, h = 1 - 0.3 * k, -0.3
        f = lowered(lambda x, t: host(R.reverse(equation, x, np.cos(x + t), t)))
        predicted = C.euler_maruyama(f, methods(equation).diffusion(t), x, t, h, zs[2 * k])
        x = S.corrector(predicted, np.cos(predicted + t + h), 0.2, zs[2 * k + 1])
        agree(y, x, 1e-9, 1e-9)
    with pytest.raises(ValueError, match="0 steps"):
        list(samplers.predictor_corrector(equation, score, up(x), 0, 0.1, None))


@pytest.mark.equation("sde.corrector", "sde.reverse")
@by_kind
def test_the_corrector_mends_what_few_steps_get_wrong(equation):
    """The variance of N(0.4, 0.25) at t_0, by moments: nothing is sampled.  On one Gaussian E‖s‖ = E‖z‖/√v."""
    data, t0 = E.gaussian([0.4], [[0.25]]), 0.05
    m = on_backend(data)
    score = m.score_theta(equation)
    start = moments_of(m, equation, 1.0)
    n, r = 12, 0.16
    h = (t0 - 1) / n
    errors = []
    for corrected in (False, True):
        mean, cov = start
        for k in range(n):
            t = 1 + k * h
            f = lambda x, t: sde.reverse(equation, x, score(x, t), t)  # noqa: E731
            step = as_map(lambda x, z, t=t, f=f: C.euler_maruyama(f, equation.diffusion(t), x, t, h, z), 1)
            mean, cov = (v[-1] for v in moments(mean, cov, [step]))
            if corrected:
                epsilon = 2 * r**2 * moments_of(m, equation, t + h)[1].item()
                walk = lambda x, z, t=t, e=epsilon: x + e * lifted(score)(x, t + h) + math.sqrt(2 * e) * z  # noqa: E731
                mean, cov = (v[-1] for v in moments(mean, cov, [as_map(walk, 1)]))
        errors.append(abs(cov - moments_of(m, equation, t0)[1]).item())
    at_most(errors[1], 0.8 * errors[0])


def moments_of(m, equation, t):
    noisy = m.noisy(*equation.marginal(t))
    return host(noisy.means)[0], host(noisy.covs)[0]


# --- samplers with an exact score ---------------------------------------------------------------------------------

TWO = E.Mixture(np.array([0.3, 0.7]), np.array([[-1.0, 0.5], [1.0, -0.5]]), np.array([np.eye(2) * 0.05] * 2))


@pytest.mark.equation("sde.corrector", "sde.reverse", "sde.probability_flow")
@by_kind
@pytest.mark.parametrize("solver", ["pc", "em", "heun"])
def test_samplers_find_the_weights_of_a_mixture(equation, solver):
    """0.3 of 2000 within 5.5 standard errors, 0.056 (α = 4·10⁻⁸), and 0.02 for the start and the steps."""
    clock, rng = sde.Clock(equation, 2.0), Generator(3)
    m = on_backend(TWO)
    score, t0 = m.score_theta(clock), sde.time_of(clock, 0.15)
    a, std = (float(c) for c in host(clock.marginal(1.0)))
    data = np.random.default_rng(0)
    x0 = data.normal(size=(2000, 2)) * math.sqrt(0.05) + TWO.means[(data.random(2000) < 0.7).astype(int)]
    x1 = up(a * x0 + std * data.normal(size=(2000, 2)))
    noise = lambda shape: rng.standard_normal(shape, "float64")  # noqa: E731
    ways = {
        "pc": lambda: samplers.predictor_corrector(clock, score, x1, 20, t0, noise),
        "em": lambda: samplers.backwards(clock, score, x1, 40, t0, noise),
        "heun": lambda: samplers.flow(clock, score, x1, 20, t0, solvers.heun),
    }
    *_, end = ways[solver]()
    a, std = (float(c) for c in host(clock.marginal(t0)))
    share = np.mean(E.responsibilities(E.noisy(TWO, a, std), host(end))[0])
    agree(share, 0.3, 0, 5.5 * math.sqrt(0.3 * 0.7 / 2000) + 0.02)
    apart(share, 0.5, 0.1)


@pytest.mark.equation("sde.probability_flow")
@pytest.mark.parametrize("method", ["RK45", "DOP853"])
@by_kind
def test_scipys_solvers_follow_the_flow(equation, method):
    """Gaussian data from t = 1 to t = 0.05 against matrix exponentials; on any backend, with calls counted."""
    m = on_backend(NORMAL)
    asked = []
    score = m.score_theta(equation)

    def counted(x, t):
        asked.append(t)
        return score(x, t)

    x0 = points(1, 4, 2, 1.5)
    ends = [oracle.gaussian_flow(x0, MEAN, COV, *(float(c) for c in lifted(equation.marginal)(t))) for t in (1.0, 0.05)]
    found = samplers.flow_adaptive(equation, counted, up(ends[0]), 0.05, method, 1e-8)
    agree(found.x, ends[1], 0, 1e-6)
    assert found.calls == len(asked)
    there = samplers.flow_adaptive(equation, score, found.x, 1.0, method, 1e-8, t1=0.05)
    agree(there.x, ends[0], 0, 1e-6)  # and back


def test_scipys_solvers_keep_precision_and_say_when_they_fail(xp):
    x = up(points(2, 3, 2).astype("float32"))
    found = solvers.adaptive(lambda x, t: -x, x, 0.0, 1.0, tolerance=1e-6)
    assert found.x.dtype == np.float32
    assert type(found.x) is type(x)
    agree(found.x, host(x) * math.exp(-1), 0, 1e-5)
    with pytest.raises(ArithmeticError, match="adaptive: "):
        solvers.adaptive(lambda x, t: x * x, 0 * x + 1, 0.0, 2.0)


@pytest.mark.equation("sde.log_likelihood")
@by_kind
def test_the_likelihood_by_scipys_steps(equation):
    data, x = mixture(11, 2, 2), points(12, 4, 2, 2)
    m = on_backend(data)
    prior = m.noisy(*equation.marginal(1.0)).log_prob
    solve = lambda f, x, a, b: solvers.adaptive(f, x, a, b, "DOP853", 1e-9).x  # noqa: E731
    found = R.log_likelihood(equation, m.score_theta(equation), x, prior, 0, solve=solve)
    agree(found, E.log_prob(data, x), 0, 1e-6)


def test_every_solver_has_a_name():
    assert set(samplers.SOLVERS) == {*samplers.STEPS, *samplers.ADAPTIVE, "em", "pc"}
