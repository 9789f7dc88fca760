"""The exact mixture against scipy's densities, numeric derivatives, conditioning of joint Gaussians, and quadrature."""

import math
from dataclasses import FrozenInstanceError

import numpy as np
import pytest
from evidence import agree, apart, at_most, host, lifted, up
from hypothesis import given
from hypothesis import strategies as st
from sandbox_tools import BIMODAL, FEW, SOME, covariances, floats, library, mixture, mixtures, on_backend, points, seeds
from scipy import stats

import scratchgen as sg
from reference import denoisers as E
from reference import samplers as R
from reference.quadrature import integrate
from scratchgen import ops
from scratchgen.backend import active
from scratchgen.models import exact
from scratchgen.models.diffusion import Schedule
from scratchgen.models.score.sde import VP
from scratchgen.random import Generator

LEVELS = st.tuples(floats(0.05, 1.5), floats(0.05, 2.0))

# Condition numbers are below 20, a point is at most ten deviations from a mean: logs of a few hundred, each some
# dozen roundings.  Scores are as large as 25 (5/0.2).
RTOL, ATOL = 1e-11, 1e-11


@pytest.mark.equation("exact.log_prob")
@given(mixtures, seeds)
def test_log_prob_is_scipys(data, seed):
    x = points(seed, 3, data.means.shape[1], 4)
    agree(library(data).log_prob(x), E.log_prob(data, x), RTOL, ATOL)


@pytest.mark.equation("exact.log_prob")
@pytest.mark.parametrize(("K", "d"), [(300, 1), (1, 300)])
def test_many_components_and_many_coordinates(K, d):
    data = E.Mixture(np.full(K, 1 / K), points(9, K, d), np.tile(0.5 * np.eye(d), (K, 1, 1)))
    x = points(10, 3, d)
    agree(library(data).log_prob(x), E.log_prob(data, x), RTOL, ATOL)


@pytest.mark.equation("exact.log_prob")
@FEW
@given(seeds, st.integers(1, 3))
def test_a_mixture_has_mass_one(seed, K):
    data = mixture(seed, K, 1)
    found = library(data)
    mass = integrate(lambda x: math.exp(found.log_prob(np.array([[x]])).item()), np.linspace(-14, 14, 8))
    agree(mass, 1.0, 0, 1e-10)


@pytest.mark.equation("exact.log_prob")
def test_far_from_all_components():
    """1000 deviations out: exp(−500 000) is 0 in any precision, its logarithm is not; the score is still linear."""
    found, x = library(BIMODAL), np.array([[250.0]])
    agree(found.log_prob(x), E.log_prob(BIMODAL, x), 1e-12)
    agree(found.score(x), [[-(250 - 1.0) / 0.15]], 1e-10)  # the wider component's alone


@pytest.mark.equation("exact.noisy")
@SOME
@given(mixtures, seeds, LEVELS)
def test_noisy_scales_and_widens(data, seed, level):
    x = points(seed, 3, data.means.shape[1])
    agree(library(on_host(library(data).noisy(*level))).log_prob(x), E.log_prob(E.noisy(data, *level), x), RTOL, ATOL)


def on_host(m):
    """A mixture of the library as the oracles hold it."""
    return E.Mixture(host(m.weights), host(m.means), host(m.covs))


@pytest.mark.equation("exact.noisy")
def test_noisy_without_noise_and_without_data():
    """σ = 0: the data, scaled.  a = 0: N(0, σ²), whatever the data.  Of numbers and of rows."""
    data, x = mixture(9, 2, 2), points(10, 3, 2)
    clean, noise = E.log_prob(E.noisy(data, 0.7, 0.0), x), stats.norm.logpdf(x, scale=0.7).sum(axis=1)
    for level, expected in (((0.7, 0.0), clean), ((0.0, 0.7), noise)):
        for each in (level, up([np.full(3, c) for c in level])):
            agree(lifted(on_backend(data).noisy(*each).log_prob)(x), expected, RTOL, ATOL)


@pytest.mark.equation("exact.noisy")
@FEW
@given(seeds, floats(0.2, 1.2), floats(0.2, 1.5), floats(-3, 3))
def test_noisy_is_a_convolution(seed, a, sigma, xt):
    """p_t(x_t) = ∫ p(x_0)·N(x_t; a·x_0, σ²) dx_0."""
    data = mixture(seed, 2, 1)

    def integrand(x0):
        return math.exp(E.log_prob(data, np.array([x0]))) * stats.norm.pdf(xt, a * x0, sigma)

    expected = integrate(integrand, np.linspace(-12, 12, 13))
    agree(np.exp(library(on_host(library(data).noisy(a, sigma))).log_prob(np.array([[xt]]))), [expected], 1e-9, 1e-12)


@pytest.mark.equation("exact.noisy")
@FEW
@given(seeds, st.integers(1, 3), st.integers(1, 2), floats(0.6, 1.2), floats(0.1, 0.6))
def test_noisy_is_an_average_over_the_noise(seed, K, d, a, sigma):
    """p_t(x) = E_ε p((x − σε)/a)/a^d, in the plane too: only the clean density is asked.

    p is at least 0.44 wide and σ/a at most 1, which 100 nodes per axis resolve to rounding.
    """
    data, x = mixture(seed, K, d), points(seed, 3, d)
    expected = [E.noisy_density(p, lambda x: E.log_prob(data, x), a, sigma) for p in x]
    agree(np.exp(library(on_host(library(data).noisy(a, sigma))).log_prob(x)), expected, 1e-9, 1e-12)


@pytest.mark.equation("exact.noisy")
def test_noise_upon_noise():
    """b·(a·x_0 + σ·ε) + τ·ε' is x_0 at the level ab, √(b²σ² + τ²), also with a level per example."""
    data, x = mixture(11, 3, 2), points(12, 3, 2)
    a, sigma, b, tau = np.random.default_rng(13).uniform(0.3, 1, (4, 3))
    expected = [E.log_prob(E.noisy(data, b[i] * a[i], math.hypot(b[i] * sigma[i], tau[i])), x[i]) for i in range(3)]
    rows = on_backend(data).noisy(*up([a, sigma])).noisy(*up([b, tau]))
    agree(lifted(rows.log_prob)(x), expected, RTOL, ATOL)
    numbers = on_backend(data).noisy(float(a[0]), float(sigma[0])).noisy(float(b[0]), float(tau[0]))
    agree(lifted(numbers.log_prob)(x)[0], expected[0], RTOL, ATOL)


@pytest.mark.equation("exact.score")
@SOME
@given(mixtures, seeds)
def test_score_is_the_derivative_of_log_prob(data, seed):
    """Numerically of scipy's density, where extrapolated differences keep nine digits; and by our own gradient."""
    x = points(seed, 2, data.means.shape[1])
    found = library(data).score(x)
    agree(found, [E.score(point, data, 1.0, 0.0) for point in x], 1e-7, 1e-7)
    m = on_backend(data)
    agree(lifted(sg.grad(lambda x: ops.sum(m.log_prob(x))))(x), found, 1e-10, 1e-10)


@pytest.mark.equation("exact.denoiser", "exact.eps")
@SOME
@given(mixtures, seeds, LEVELS)
def test_denoiser_and_eps_by_conditioning(data, seed, level):
    x, found = points(seed, 2, data.means.shape[1]), library(data)
    agree(found.denoiser(x, *level), [E.denoiser(point, data, *level) for point in x], 1e-9, 1e-9)
    agree(found.eps(x, *level), [E.noise(point, data, *level) for point in x], 1e-9, 1e-9)


@pytest.mark.equation("exact.denoiser", "exact.eps")
@FEW
@given(seeds, floats(0.2, 1.2), floats(0.3, 1.5), floats(-3, 3))
def test_denoiser_and_eps_by_integration(seed, a, sigma, xt):
    data = mixture(seed, 2, 1)
    log_prior = lambda x: E.log_prob(data, x[:, None])  # noqa: E731
    found = library(data)
    for route, f in ((found.denoiser, lambda x0: x0), (found.eps, lambda x0: (xt - a * x0) / sigma)):
        expected = E.expectation_given(f, xt, log_prior, a, sigma, -12, 12, 60)
        agree(route(np.array([[xt]]), a, sigma), [[expected]], 1e-9, 1e-9)


@pytest.mark.equation("exact.denoiser", "exact.eps", "exact.score")
@SOME
@given(mixtures, seeds, LEVELS)
def test_noise_score_and_denoiser_say_the_same(data, seed, level):
    """x_t = a·E[x_0|x_t] + σ·E[ε|x_t], and ∇log p_t = (a·E[x_0|x_t] − x_t)/σ² = −E[ε|x_t]/σ."""
    (a, sigma), x, found = level, points(seed, 3, data.means.shape[1]), library(data)
    denoised, eps = found.denoiser(x, a, sigma), found.eps(x, a, sigma)
    # x_t itself is the sum of what was divided by σ ≥ 0.05, and by σ² in the score
    agree(a * denoised + sigma * eps, x, 0, 1e-11)
    score = library(on_host(found.noisy(a, sigma))).score(x)
    agree(score, (a * denoised - x) / sigma**2, 1e-9, 1e-9)
    agree(score, -eps / sigma, 1e-11, 1e-11)


@pytest.mark.equation("exact.eps", "exact.denoiser", "exact.noisy", "exact.log_prob", "exact.score")
@SOME
@given(mixtures, seeds)
def test_a_level_per_example(data, seed):
    """Noise levels (B,): what a loss asks for.  Each example as though it were alone."""
    noise, found = np.random.default_rng(seed), library(data)
    x, a, sigma = points(seed, 3, data.means.shape[1]), noise.uniform(0.1, 1, 3), noise.uniform(0.1, 1, 3)
    levels = list(zip(x[:, None], a, sigma, strict=True))
    agree(found.eps(x, a, sigma), [E.noise(p[0], data, s, t) for p, s, t in levels], 1e-9, 1e-9)
    agree(found.denoiser(x, a, sigma), [E.denoiser(p[0], data, s, t) for p, s, t in levels], 1e-9, 1e-9)
    m = on_backend(data).noisy(*up([a, sigma]))
    alone = [library(E.noisy(data, s, t)) for _, s, t in levels]
    agree(lifted(m.log_prob)(x), [n.log_prob(p)[0] for (p, _, _), n in zip(levels, alone, strict=True)], RTOL, ATOL)
    agree(lifted(m.score)(x), [n.score(p)[0] for (p, _, _), n in zip(levels, alone, strict=True)], RTOL, ATOL)
    agree(found.eps(x, 0.7, sigma), found.eps(x, np.full(3, 0.7), sigma))  # a number beside a row stands for a row
    agree(found.denoiser(x, a, 0.7), found.denoiser(x, a, np.full(3, 0.7)))


@pytest.mark.equation("exact.eps")
@SOME
@given(mixtures, seeds, st.integers(2, 9))
def test_as_a_network(data, seed, T):
    """ε_θ(x_t, t) at a time per example and at one for all; a = √ᾱ_t multiplied up by hand."""
    noise = np.random.default_rng(seed)
    beta, t = noise.uniform(0.01, 0.5, T), noise.integers(1, T + 1, 3)
    x = points(seed, 3, data.means.shape[1])
    eps_theta = lifted(on_backend(data).eps_theta(Schedule(active().asarray(beta))))
    for times in (t, int(t[0])):
        bars = [R.alpha_bar(beta, int(k)) for k in np.broadcast_to(times, 3)]
        expected = [E.noise(p, data, math.sqrt(b), math.sqrt(1 - b)) for p, b in zip(x, bars, strict=True)]
        agree(eps_theta(x, times), expected, 1e-9, 1e-9)


@pytest.mark.equation("exact.score")
def test_as_a_network_in_continuous_time():
    data, sde, x = mixture(3, 2, 2), VP(), points(4, 3, 2)
    score = lifted(on_backend(data).score_theta(sde))
    t = np.array([0.1, 0.5, 0.9])
    each = [score(x[i : i + 1], float(t[i]))[0] for i in range(3)]
    agree(score(x, t), each, RTOL, ATOL)
    for i in range(3):
        a, sigma = (host(c).item() for c in sde.marginal(float(t[i])))
        agree(each[i], E.score(x[i], data, a, sigma), 1e-7, 1e-7)


@pytest.mark.equation("exact.score", "exact.denoiser", "exact.eps", "exact.noisy")
def test_wrong_forms_would_be_seen():
    """Negative controls: a component for its mean, responsibilities of the clean mixture, σ² for σ, a forgotten."""
    data, x, a, sigma = mixture(5, 2, 2), points(6, 3, 2, 1.5), 0.8, 0.6
    found = library(data)
    score = found.score(x)
    first = E.Mixture(np.ones(1), data.means[:1], data.covs[:1])
    apart(library(first).score(x), score, 1e-2)
    apart(found.denoiser(x, 1.0, sigma), [E.denoiser(p, data, a, sigma) for p in x], 1e-2)
    eps = [E.noise(p, data, a, sigma) for p in x]
    apart(found.eps(x, a, sigma**2), eps, 1e-2)
    apart(sigma * found.eps(x, a, sigma), eps, 1e-2)
    density = np.array([E.noisy_density(p, lambda x: E.log_prob(data, x), a, sigma) for p in x])
    agree(np.exp(library(on_host(found.noisy(a, sigma))).log_prob(x)) / density, np.ones(3), 0, 1e-9)
    for level in ((1.0, sigma), (a, sigma**2), (a**2, sigma)):
        apart(np.exp(library(on_host(found.noisy(*level))).log_prob(x)) / density, 1.0, 1e-2)


# --- gradients, precision, samples ------------------------------------------------------------------------------


@pytest.mark.equation("exact.log_prob", "exact.noisy", "exact.score", "exact.denoiser", "exact.eps")
def test_gradients():
    """To second order in the points, the level and all parameters; the covariances through a root."""
    x, noise = points(1, 2, 2, 1.5), np.random.default_rng(2)
    weights, means, root = np.array([0.4, 0.6]), noise.uniform(-1, 1, (2, 2)), noise.uniform(-0.5, 0.5, (2, 2, 2))

    def mixed(w, m, r):
        return exact.Mixture(w, m, ops.matmul(r, ops.swapaxes(r, -1, -2)) + 0.5 * np.eye(2))

    level = np.array([0.8, 0.6]), np.array([0.5, 0.9])
    for f in (
        lambda x, w, m, r, a, s: mixed(w, m, r).noisy(a, s).log_prob(x),
        lambda x, w, m, r, a, s: mixed(w, m, r).denoiser(x, a, s),
        lambda x, w, m, r, a, s: mixed(w, m, r).eps(x, a, s),
    ):
        sg.check_grads(f, (x, weights, means, root, *level), order=2, rtol=1e-5)


@pytest.mark.equation("exact.log_prob", "exact.score", "exact.denoiser", "exact.eps")
def test_float32_in_float32_out():
    """float32 rounds at 6e-8; a few dozen roundings of numbers as large as 50."""
    data, x = mixture(7, 3, 2), points(8, 4, 2)
    low, high, x32 = library(data, "float32"), library(data), x.astype("float32")
    level32, level = np.float64(0.8), 0.6
    for name, args in (("log_prob", ()), ("score", ()), ("denoiser", (level32, level)), ("eps", (level32, level))):
        found = getattr(low, name)(x32, *args)
        assert found.dtype == np.float32
        agree(found, getattr(high, name)(x, *args), 2e-5, 2e-5)


@pytest.mark.equation("exact.log_prob")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_samples_fit_their_density(dtype):
    """n = 20 000 against the CDF by Kolmogorov and Smirnov at α = 1e-7: 0.021 off would be seen."""
    x = host(on_backend(BIMODAL, dtype).sample(Generator(1), 20_000))
    assert x.shape == (20_000, 1)
    assert x.dtype == dtype

    def below(weights):
        return lambda u: sum(w * stats.norm.cdf(u, m[0], math.sqrt(c[0, 0])) for w, m, c in
                             zip(weights, BIMODAL.means, BIMODAL.covs, strict=True))  # fmt: skip

    assert stats.kstest(x[:, 0], below(BIMODAL.weights)).pvalue > 1e-7
    assert stats.kstest(x[:, 0], below(BIMODAL.weights[::-1])).pvalue < 1e-7
    assert stats.kstest(x[:, 0], below([0.27, 0.73])).pvalue < 1e-7


def test_samples_have_the_covariance():
    """One tilted Gaussian, whitened by its own factor: 20 000 pairs of N(0, 1), uncorrelated within 5.3/√n."""
    noise = np.random.default_rng(3)
    mean, cov = noise.uniform(-2, 2, 2), covariances(noise, 2)
    x = host(exact.gaussian(*up([mean, cov])).sample(Generator(2), 20_000, )).astype(np.float64)
    z = np.linalg.solve(np.linalg.cholesky(cov), (x - mean).T)
    assert np.abs(z.mean(axis=1)).max() < 5.3 / math.sqrt(20_000)
    assert np.abs(z @ z.T / 20_000 - np.eye(2)).max() < 5.3 * math.sqrt(2 / 20_000)
    wrong = np.linalg.solve(np.linalg.cholesky(np.diag(np.diag(cov))), (x - mean).T)
    assert np.abs(wrong @ wrong.T / 20_000 - np.eye(2)).max() > 5.3 * math.sqrt(2 / 20_000)


def test_data_in_single_points():
    """C = 0: samples are the points, the noisy density is one of kernels, the denoiser a weighted mean of points."""
    data = E.Mixture(np.array([0.5, 0.5]), np.array([[-1.0, 0.0], [1.0, 2.0]]), np.zeros((2, 2, 2)))
    m = on_backend(data)
    drawn = host(m.sample(Generator(4), 50))
    assert {tuple(row) for row in drawn.tolist()} == {(-1.0, 0.0), (1.0, 2.0)}
    three = E.Mixture(np.array([0.5, 0.3, 0.2]), np.array([[0.0], [1.0], [2.0]]), np.zeros((3, 1, 1)))
    counts = np.bincount(host(on_backend(three).sample(Generator(5), 20_000)).astype(int).ravel())
    # chi-square of 2 degrees of freedom: beyond 27.7 with probability 1e-6
    at_most(((counts - 20_000 * three.weights) ** 2 / (20_000 * three.weights)).sum(), 27.7)
    x = np.array([[0.0, 1.0]])  # half way between
    agree(lifted(m.denoiser)(x, 1.0, 0.5), [[0.0, 1.0]], 0, 1e-14)


def test_data_on_lines():
    """C_k = v_k·v_kᵀ: all but one of its eigenvalues are 0 but for rounding, to either side."""
    v = np.random.default_rng(5).normal(size=(20, 4))
    covs = v[:, :, None] * v[:, None, :]
    assert np.linalg.eigvalsh(covs).min() < 0
    x = host(on_backend(E.Mixture(np.full(20, 1 / 20), np.zeros((20, 4)), covs)).sample(Generator(5), 50))
    along = v / np.linalg.norm(v, axis=1, keepdims=True)
    off = x[:, None, :] - (x @ along.T)[:, :, None] * along
    at_most(np.linalg.norm(off, axis=-1).min(axis=1), 1e-6)  # the root of rounding, of variances up to 10


def test_a_mixture_is_itself_and_stays_so():
    m = on_backend(BIMODAL)
    assert len({m, m, exact.Mixture(m.weights, m.means, m.covs)}) == 2
    with pytest.raises(FrozenInstanceError):
        m.weights = m.weights


def test_misfits_are_refused():
    w, m, c = (active().asarray(part) for part in mixture(1, 2, 3))
    wrong = [((), (2, 3), (2, 3, 3)), ((1, 2), (2, 3), (2, 3, 3)), ((2, 3), (2, 3), (2, 3, 3)),
             ((1,), (2, 3), (2, 3, 3)), ((3,), (2, 3), (2, 3, 3)), ((2,), (2,), (2, 2)), ((2,), (2, 2), (2, 3, 3)),
             ((2,), (1, 1, 2, 3), (1, 1, 2, 3, 3)), ((2,), (2, 3), (3, 3)), ((2,), (2, 3), (1, 3, 3)),
             ((2,), (2, 3), (2, 2, 3)), ((2,), (2, 3), (2, 3, 2)), ((2,), (2, 3), (2, 4, 4))]  # fmt: skip
    for shapes in wrong:
        with pytest.raises(ValueError, match=r"should be \(K,\), \(K, d\) and \(K, d, d\)"):
            exact.Mixture(*up([np.ones(shape) for shape in shapes]))
    with pytest.raises(TypeError, match="covs is float32 but means is float64"):
        exact.Mixture(w, m, c.astype("float32"))
    data, xp = exact.Mixture(w, m, c), active()
    for shape in ((4, 2), (4, 4), (3,), (1, 4, 3), (4, 3, 1)):
        with pytest.raises(ValueError, match=r"x .* does not fit means \(2, 3\)"):
            data.score(xp.zeros(shape))
    with pytest.raises(TypeError, match="means is float64 but x is float32"):
        data.score(xp.zeros((4, 3), "float32"))
    each = data.noisy(xp.ones(5), xp.ones(5))
    with pytest.raises(ValueError, match=r"x \(4, 3\) does not fit means \(5, 2, 3\)"):
        each.score(xp.zeros((4, 3)))
    with pytest.raises(ValueError, match="5 mixtures, one per example"):
        each.sample(Generator(0), 2)
    with pytest.raises(ValueError, match="one per example"):
        data.noisy(xp.ones((2, 2)), 1.0)
    with pytest.raises(ValueError, match=r"one per example \(5,\), not \(4,\)"):
        each.noisy(1.0, xp.ones(4))
    for ask in (data.denoiser, data.eps):
        with pytest.raises(ValueError, match=r"\(4,"):
            ask(xp.zeros((4, 3)), xp.ones(1), xp.ones(1))
