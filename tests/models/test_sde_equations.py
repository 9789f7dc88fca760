"""VP, VE and sub-VP against limits of chains and moment equations; the way back against Fokker and Planck.

Nothing is sampled: Gaussian data makes every equation linear, mixtures are followed by their densities.
"""

import math
from dataclasses import FrozenInstanceError

import numpy as np
import pytest
from evidence import agree, apart, host, lifted, up
from hypothesis import given
from hypothesis import strategies as st
from sandbox_tools import COV, FEW, MEAN, NORMAL, SOME, floats, library, methods, mixture, on_backend, points, seeds

import scratchgen as sg
from reference import denoisers as E
from reference import sde as oracle
from reference.derivatives import richardson
from reference.gaussian import affine_map
from scratchgen import ops
from scratchgen.models.score import sde, solvers

R = lifted(sde)
times = floats(0.1, 0.9)  # the oracles' differences reach 0.01 to either side

vps = st.builds(sde.VP, floats(0.05, 1), floats(1, 8))
subvps = st.builds(sde.SubVP, floats(0.05, 1), floats(1, 8))
ves = st.builds(sde.VE, floats(0.05, 0.5), floats(0.6, 5))
equations = st.one_of(vps, subvps, ves)
KINDS = [sde.VP(0.1, 6.0), sde.SubVP(0.1, 6.0), sde.VE(0.1, 3.0)]


def rates(equation, t):
    """(c, g²) of dx = c·x dt + g dw, probed."""
    one = methods(equation)
    return float(one.drift(np.ones((1, 1)), t).item()), float(one.diffusion(t)) ** 2


def moments(equation, t):
    """(a, σ²) from the library's marginal."""
    a, sigma = methods(equation).marginal(t)
    return float(a), float(sigma) ** 2


# --- the equations of the noise ---------------------------------------------------------------------------------


@pytest.mark.equation("sde.vp")
@SOME
@given(vps, times)
def test_vp_is_the_limit_of_ddpms_chain(equation, t):
    """β = h·β(t) with h → 0: step by step, then 64 to 4096 steps composed and extrapolated, to about 1e-10."""
    step = oracle.vp_step(lambda t: equation.beta_min + t * (equation.beta_max - equation.beta_min))
    agree(rates(equation, t), oracle.rates(step, t), 1e-9, 1e-9)
    agree(moments(equation, t), oracle.marginal(step, t), 1e-8, 1e-9)


@pytest.mark.equation("sde.ve")
@SOME
@given(ves, times)
def test_ve_is_the_limit_of_the_score_networks_chain(equation, t):
    step = oracle.ve_step(lambda t: equation.sigma_min ** (1 - t) * equation.sigma_max**t)
    agree(rates(equation, t), oracle.rates(step, t), 1e-8, 1e-9)
    agree(moments(equation, t), oracle.marginal(step, t), 1e-9, 1e-9)
    agree(rates(equation, t)[0], 0.0)


@pytest.mark.equation("sde.subvp")
@SOME
@given(subvps, times)
def test_subvp_has_vps_mean_and_its_variance_squared(equation, t):
    """From VP's chain: σ = σ_VP², and g² is what the variance's equation leaves, (σ²)˙ − 2cσ², by differences."""
    step = oracle.vp_step(lambda t: equation.beta_min + t * (equation.beta_max - equation.beta_min))
    a, var = oracle.marginal(step, t)
    agree(moments(equation, t), (a, var**2), 1e-8, 1e-9)
    c, g2 = rates(equation, t)
    agree(c, oracle.rates(step, t)[0], 1e-9)

    def slope(h):
        ahead, behind = (oracle.marginal(step, t + k, 32, 7)[1] ** 2 for k in (h, -h))
        return (ahead - behind) / (2 * h)

    agree(g2, float(richardson(slope, 0.05, 3)) - 2 * c * var**2, 1e-5, 1e-5)
    assert var**2 < var


@pytest.mark.equation("sde.vp", "sde.ve", "sde.subvp")
@SOME
@given(equations, floats(0.05, 1.0))
def test_marginals_solve_the_moments_equations(equation, t):
    """ȧ = c·a and (σ²)˙ = 2cσ² + g² from (1, 0), by SciPy, with the library's own drift and diffusion."""
    A, g2 = (lambda s: [[rates(equation, s)[0]]]), (lambda s: rates(equation, s)[1])
    mean, var = oracle.linear_moments(A, lambda s: np.zeros(1), g2, [1.0], [[0.0]], 0.0, t)
    a, sigma2 = moments(equation, t)
    agree([mean[0], var[0, 0]], [a, sigma2], 1e-8, 1e-9)


@pytest.mark.equation("sde.vp", "sde.ve", "sde.subvp")
@FEW
@given(equations, times, seeds, st.integers(1, 2))
def test_the_noise_solves_fokker_and_planck(equation, t, seed, d):
    """∂_t p = −div(f·p) + ½g²Δp for the mixture's exact p_t, all derivatives numeric; no other g would do."""
    data = mixture(seed, 2, d)
    log_p, x = densities(equation, data), points(seed, 1, d, 2)[0]
    drift = lambda x, t: methods(equation).drift(x[None], t)[0]  # noqa: E731
    g2 = rates(equation, t)[1]
    agree(oracle.fokker_planck(log_p, drift, g2, x, t), 0.0, 0, 1e-5 * (1 + g2))
    apart(oracle.fokker_planck(log_p, drift, 1.2 * g2, x, t), 0.0, 1e-5 * (1 + g2))


def densities(equation, data):
    """log p_t(x) at one point, from scipy's."""
    def log_p(x, t):
        a, var = moments(equation, t)
        return float(E.log_prob(E.noisy(data, a, math.sqrt(var)), x))
    return log_p


def scores(equation, data):
    """∇log p_t at one point, by conditioning: −E[ε | x_t]/σ."""
    def score(x, t):
        a, var = moments(equation, t)
        return -E.noise(x, data, a, math.sqrt(var)) / math.sqrt(var)
    return score


@pytest.mark.equation("sde.vp", "sde.ve", "sde.subvp")
@pytest.mark.parametrize("equation", KINDS, ids=lambda e: type(e).__name__)
def test_times_per_example_and_small_times(equation):
    one, t = methods(equation), np.array([0.0, 0.3, 1.0])
    x = points(1, 3, 2)
    for found, each in (
        (one.drift(x, t), [one.drift(x[i : i + 1], float(s))[0] for i, s in enumerate(t)]),
        (one.diffusion(t), [one.diffusion(float(s)) for s in t]),
        (one.marginal(t).mean, [one.marginal(float(s)).mean for s in t]),
        (one.marginal(t).std, [one.marginal(float(s)).std for s in t]),
    ):
        agree(found, each, 1e-14)
        assert found.dtype == np.float64
    agree(one.marginal(0.0), [1.0, 0.0])
    # σ² = g²(0)·t to first order, where 1 − e^(−B) would have lost all its digits; sub-VP's begins at t
    tiny = 1e-13
    first = equation.beta_min * tiny if isinstance(equation, sde.SubVP) else equation_rate(one) * tiny
    found = float(one.marginal(tiny).std)
    agree(found if isinstance(equation, sde.SubVP) else found**2, first, 1e-10)
    assert one.drift(x.astype("float32"), t).dtype == np.float32
    assert one.drift(x.astype("float32"), 0.5).dtype == np.float32


def equation_rate(one):
    return float(one.diffusion(0.0)) ** 2


# --- the way back -----------------------------------------------------------------------------------------------


@pytest.mark.equation("sde.reverse")
@FEW
@given(equations, times, seeds, st.integers(1, 2))
def test_the_reverse_equation_has_the_same_densities(equation, t, seed, d):
    """In −t the drift is −(f − g²s) and the noise adds: ∂_t p = −div(f̄·p) − ½g²Δp.  ½g² for g² fails."""
    data = mixture(seed, 2, d)
    log_p, score, x, g2 = densities(equation, data), scores(equation, data), points(seed, 1, d, 2)[0], \
        rates(equation, t)[1]  # fmt: skip
    back = lambda x, t: R.reverse(equation, x[None], score(x, t)[None], t)[0]  # noqa: E731
    half = lambda x, t: R.probability_flow(equation, x[None], score(x, t)[None], t)[0]  # noqa: E731
    tolerance = 1e-5 * (1 + g2)
    agree(oracle.fokker_planck(log_p, back, -g2, x, t), 0.0, 0, tolerance)
    apart(oracle.fokker_planck(log_p, half, -g2, x, t), 0.0, tolerance)


@pytest.mark.equation("sde.probability_flow")
@FEW
@given(equations, times, seeds, st.integers(1, 2))
def test_the_flow_has_the_same_densities(equation, t, seed, d):
    """The continuity equation ∂_t p = −div(v·p); g² for ½g² fails."""
    data = mixture(seed, 2, d)
    log_p, score, x = densities(equation, data), scores(equation, data), points(seed, 1, d, 2)[0]
    v = lambda x, t: R.probability_flow(equation, x[None], score(x, t)[None], t)[0]  # noqa: E731
    double = lambda x, t: R.reverse(equation, x[None], score(x, t)[None], t)[0]  # noqa: E731
    tolerance = 1e-5 * (1 + rates(equation, t)[1])
    agree(oracle.fokker_planck(log_p, v, 0.0, x, t), 0.0, 0, tolerance)
    apart(oracle.fokker_planck(log_p, double, 0.0, x, t), 0.0, tolerance)


def affine(f, equation, t):
    """(A, b) of a drift with the exact score of Gaussian data."""
    score = library(E.noisy(NORMAL, *(math.sqrt(v) if i else v for i, v in enumerate(moments(equation, t))))).score
    return affine_map(lambda x: f(equation, x[None], score(x[None]), t)[0], 2)


@pytest.mark.equation("sde.reverse", "sde.probability_flow")
@pytest.mark.parametrize("equation", KINDS, ids=lambda e: type(e).__name__)
def test_both_ways_back_arrive_at_the_data(equation):
    """From the exact moments at t = 1 back to t = 0.1, the mean and covariance of a·x_0 + σ·ε: by SciPy, from the
    drifts' matrices.  Without noise along the flow, with it along the reverse equation."""
    start, end = (E.noisy(NORMAL, a, math.sqrt(v)) for a, v in (moments(equation, 1.0), moments(equation, 0.1)))
    for f, noise in ((R.reverse, 1.0), (R.probability_flow, 0.0)):
        matrices = {}

        def at(t, f=f, matrices=matrices):
            if t not in matrices:
                matrices[t] = affine(f, equation, t)
            return matrices[t]

        g2 = lambda t, noise=noise: noise * rates(equation, t)[1]  # noqa: E731
        mean, cov = oracle.linear_moments(lambda t: at(t)[0], lambda t: at(t)[1], g2, start.means[0], start.covs[0],
                                          1.0, 0.1)  # fmt: skip
        agree(mean, end.means[0], 1e-6, 1e-6)
        agree(cov, end.covs[0], 1e-6, 1e-6)


@pytest.mark.equation("sde.probability_flow")
@pytest.mark.parametrize("equation", KINDS, ids=lambda e: type(e).__name__)
def test_flow_of_gaussian_data_in_closed_form(equation):
    """Where RK4 takes points from t = 0 to 1: S^½·C^−½ by matrix exponentials.  100 steps leave 1e-7."""
    x0, m = points(3, 5, 2, 1.5), on_backend(NORMAL)
    score = m.score_theta(equation)
    v = lambda x, t: sde.probability_flow(equation, x, score(x, t), t)  # noqa: E731
    (*_, x1) = solvers.integrate(solvers.rk4, v, up(x0), 0.0, 1.0, 100)
    a, var = moments(equation, 1.0)
    agree(host(x1), oracle.gaussian_flow(x0, MEAN, COV, a, math.sqrt(var)), 1e-6, 1e-6)


@pytest.mark.equation("sde.probability_flow", "sde.reverse")
@SOME
@given(equations, seeds)
def test_drifts_at_a_time_per_example(equation, seed):
    x, s, t = points(seed, 3, 2), points(seed + 1, 3, 2), np.random.default_rng(seed).uniform(0, 1, 3)
    for f, share in ((R.reverse, 1.0), (R.probability_flow, 0.5)):
        expected = [c * p - share * g2 * q for p, q, (c, g2) in
                    zip(x, s, [rates(equation, float(u)) for u in t], strict=True)]  # fmt: skip
        agree(f(equation, x, s, t), expected, 1e-12, 1e-12)
        found = f(equation, x.astype("float32"), s.astype("float32"), t)
        assert found.dtype == np.float32
        agree(found, expected, 1e-5, 1e-5)


def test_gradients():
    x, s, t = points(1, 2, 2), points(2, 2, 2), np.array([0.3, 0.8])
    for equation in KINDS:
        sg.check_grads(lambda x, s, t, e=equation: sde.reverse(e, x, s, t), (x, s, t), order=2)
        sg.check_grads(lambda x, s, t, e=equation: sde.probability_flow(e, x, s, t), (x, s, t), order=2)
        sg.check_grads(lambda t, e=equation: ops.stack(list(e.marginal(t))), (t,), order=2)


def test_the_defaults():
    """The paper's for VP and sub-VP (App. C), and of VE for small pictures."""
    assert sde.VP() == sde.VP(0.1, 20.0)
    assert sde.SubVP() == sde.SubVP(0.1, 20.0)
    assert sde.VE() == sde.VE(0.01, 50.0)
    for equation, name in ((sde.VP(), "beta_max"), (sde.SubVP(), "beta_max"), (sde.VE(), "sigma_max")):
        with pytest.raises(FrozenInstanceError):
            setattr(equation, name, 1.0)


def test_what_cannot_be_is_refused():
    for wrong in ((0.0, 1.0), (2.0, 1.0), (-1.0, 1.0)):
        with pytest.raises(ValueError, match="VP: beta_min"):
            sde.VP(*wrong)
        with pytest.raises(ValueError, match="VE: sigma_min"):
            sde.VE(*wrong)
    with pytest.raises(ValueError, match="SubVP: beta_min"):
        sde.SubVP(2.0, 1.0)
    with pytest.raises(ValueError, match="VE: sigma_min"):
        sde.VE(1.0, 1.0)
    assert sde.VP(1.0, 1.0).beta(0.3) == 1.0
    x = up(np.zeros((2, 2)))
    with pytest.raises(ValueError, match="one per example"):
        sde.VP().drift(x, x)
