"""Denoising score matching: the target's mean is the noised data's score, and the loss differs by a constant."""

import numpy as np
import pytest
from evidence import agree, apart, host, lifted, lowered, up
from hypothesis import given
from hypothesis import strategies as st
from sandbox_tools import FEW, SOME, field, floats, library, mixture, mixtures, on_backend, points, seeds
from scipy import stats

import scratchgen as sg
from reference import denoisers as E
from reference import samplers as R
from reference import score as oracle
from reference.quadrature import gaussian_nodes, panel_nodes
from scratchgen.backend import active
from scratchgen.models.diffusion import Schedule, process
from scratchgen.models.score import denoising, matching

N = lifted(denoising)
EDGES = np.linspace(-14, 14, 57)
sigmas = floats(0.05, 3)


@pytest.mark.equation("score.denoising_target")
@SOME
@given(seeds, sigmas)
def test_the_target_is_the_score_of_the_noise(seed, sigma):
    """Numeric derivative of scipy's log N(x̃; x, σ²), which is quadratic: exact but for rounding of 1e-10/σ²."""
    x, xt = points(seed, 3, 2, 2), points(seed + 1, 3, 2, 2)
    expected = oracle.score_1d(lambda y: stats.norm.logpdf(y, x, sigma), xt)
    agree(N.denoising_target(x, xt, sigma), expected, 1e-9, 1e-10 / sigma**2)
    each = np.array([sigma, 1.0, 2 * sigma])
    expected = oracle.score_1d(lambda y: stats.norm.logpdf(y, x, each[:, None]), xt)
    agree(N.denoising_target(x, xt, each), expected, 1e-9, 1e-10 / sigma**2)


@pytest.mark.equation("score.denoising_target")
@FEW
@given(seeds, st.integers(1, 3), floats(0.3, 1.5), floats(-3, 3))
def test_the_targets_mean_is_the_score(seed, K, sigma, xt):
    """E[(x − x̃)/σ² | x̃] = ∇log q(x̃) (Vincent 2011): over the posterior of x, against the mixture's own."""
    data = mixture(seed, K, 1)
    log_prior = lambda x: E.log_prob(data, x[:, None])  # noqa: E731
    score = library(E.noisy(data, 1.0, sigma)).score(np.array([[xt]]))
    f = lambda x0: N.denoising_target(x0[:, None], np.full((x0.size, 1), xt), sigma)[:, 0]  # noqa: E731
    agree(E.expectation_given(f, xt, log_prior, 1.0, sigma, -12, 12, 60), score, 1e-9, 1e-9)
    agree(oracle.mean_target(xt, log_prior, sigma, -12, 12), score, 1e-8, 1e-8)


@pytest.mark.equation("score.denoising")
@FEW
@given(seeds, st.integers(1, 2), floats(0.2, 1.5))
def test_the_loss_by_quadrature(seed, K, sigma):
    data, (s, on_host) = mixture(seed, K, 1), field(seed, 1)
    log_p = lambda x: E.log_prob(data, x[:, None])  # noqa: E731
    expected = oracle.denoising_1d(lambda x: on_host(x[:, None])[:, 0], log_p, sigma, EDGES)
    agree(mean_loss(lambda x, _: s(x), data, sigma), expected, 1e-8, 1e-8)


def mean_loss(score, data, sigma, order=40):
    """The library's loss, averaged over x on panels and ε on Hermite's nodes."""
    x, w = panel_nodes(EDGES)
    p = w * np.exp(E.log_prob(data, x[:, None]))
    eps, v = gaussian_nodes(0.0, 1.0, order)
    return sum(b * (p @ N.denoising(score, x[:, None], np.full((x.size, 1), e), sigma)) for e, b in zip(eps[:, 0], v,
               strict=True))  # fmt: skip


@pytest.mark.equation("score.denoising", "score.fisher")
@FEW
@given(seeds, floats(0.3, 1.2))
def test_the_loss_is_fishers_divergence_from_the_noised_data(seed, sigma):
    """Up to σ² and a constant that does not depend on the model, half the part of ε that cannot be known: for the
    exact score the loss is that constant, the smallest there is."""
    data, (x, w) = mixture(seed, 2, 1), panel_nodes(EDGES)
    noised = E.noisy(data, 1.0, sigma)
    q, exact = w * np.exp(E.log_prob(noised, x[:, None])), library(noised).score(x[:, None])
    m = on_backend(data)
    constant = mean_loss(lambda x, sigma: m.noisy(1.0, sigma).score(x), data, sigma)
    for k in (seed, seed + 1):
        s, on_host = field(k, 1)
        fisher = q @ lifted(matching.fisher)(exact, on_host(x[:, None]))
        agree(mean_loss(lambda x, _, s=s: s(x), data, sigma) - constant, sigma**2 * fisher, 1e-8, 1e-8)
        apart(mean_loss(lambda x, _, s=s: s(x), data, sigma) - constant, fisher / sigma**2, 1e-4 * fisher)


@pytest.mark.equation("score.denoising")
@SOME
@given(seeds, sigmas)
def test_both_forms_of_the_loss(seed, sigma):
    """σ²·½‖s − target‖² as it is printed, at one level and at one per example; which σ the network is told."""
    x, eps = points(seed, 3, 2), points(seed + 1, 3, 2)
    each = np.random.default_rng(seed).uniform(0.05, 3, 3)
    for level in (sigma, each):
        told = []

        @lowered
        def score(x, s, told=told):
            told.append(s)
            return np.sin(x)

        width = level if np.ndim(level) == 0 else level[:, None]
        noisy = x + width * eps
        target = (x - noisy) / width**2
        expected = np.sum(width**2 * (np.sin(noisy) - target) ** 2 / 2, axis=1)
        agree(N.denoising(score, x, eps, level), expected, 1e-10, 1e-10)
        np.testing.assert_array_equal(host(told[0]), level)


@pytest.mark.equation("score.denoising", "ddpm.simple")
@SOME
@given(seeds, st.integers(2, 6))
def test_the_loss_is_a_diffusions(seed, T):
    """D6: in x̃ = x_t/√ᾱ_t the noise has σ̃ = √((1−ᾱ)/ᾱ), and with s = −ε_θ/σ̃ the loss is ½‖ε − ε_θ‖²."""
    noise = np.random.default_rng(seed)
    beta, t = noise.uniform(0.05, 0.4, T), noise.integers(1, T + 1, 3)
    x0, eps = points(seed, 3, 2), points(seed + 1, 3, 2)
    bars = np.array([R.alpha_bar(beta, int(k)) for k in t])
    network = lambda x, t: np.sin(1.3 * x + t[:, None])  # noqa: E731
    schedule = Schedule(active().asarray(beta))
    xt = lifted(process.q_sample)(schedule, x0, t, eps)
    simple = np.array(R.squared_error(eps, network(xt, t)))

    @lowered
    def score(x, sigma):
        return -network(x * np.sqrt(bars)[:, None], t) / sigma[:, None]

    agree(N.denoising(score, x0, eps, np.sqrt(1 / bars - 1)), simple / 2, 1e-10, 1e-10)


@pytest.mark.equation("score.denoiser")
@SOME
@given(mixtures, seeds, floats(0.1, 2))
def test_denoiser_minus_input_is_the_score(data, seed, sigma):
    """The exact denoiser by conditioning a joint Gaussian; the score by a numeric derivative of the log-density."""
    xt = points(seed, 2, data.means.shape[1])
    denoised = np.array([E.denoiser(p, data, 1.0, sigma) for p in xt])
    expected = np.array([E.score(p, data, 1.0, sigma) for p in xt])
    # E.score keeps nine digits of scores of 25; (E[x|x̃] − x̃) loses σ⁻² of float64's
    agree(N.score_from_denoiser(denoised, xt, sigma), expected, 1e-7, 1e-7)
    each = np.linspace(sigma, sigma + 1, 2)
    expected = [E.score(p, data, 1.0, s) for p, s in zip(xt, each, strict=True)]
    denoised = library(data).denoiser(xt, np.ones(2), each)
    agree(N.score_from_denoiser(denoised, xt, each), expected, 1e-7, 1e-7)
    apart(N.score_from_denoiser(xt, denoised, each), expected, 1e-4)


@pytest.mark.equation("score.denoiser", "score.denoising_target")
@SOME
@given(seeds, sigmas)
def test_a_denoiser_that_knows_gives_the_target(seed, sigma):
    """Data in one point: the denoiser is that point, and what it takes away is the target."""
    x, xt = points(seed, 3, 2), points(seed + 1, 3, 2)
    agree(N.score_from_denoiser(x, xt, sigma), N.denoising_target(x, xt, sigma), 1e-13)


@pytest.mark.equation("score.denoising_target", "score.denoising", "score.denoiser")
def test_gradients_and_float32():
    x, eps = points(1, 3, 2, 1), points(2, 3, 2, 1)
    sigma = np.array([0.5, 1.0, 2.0])
    sg.check_grads(denoising.denoising_target, (x, eps, sigma), order=2)
    sg.check_grads(denoising.score_from_denoiser, (x, eps, sigma), order=2)
    sg.check_grads(lambda x, e, s: denoising.denoising(lambda y, s: sg.ops.sin(y), x, e, s), (x, eps, sigma), order=2)
    small = [a.astype("float32") for a in (x, eps, sigma)]
    wide = [a.astype("float64") for a in small]
    for f in (N.denoising_target, N.score_from_denoiser, lambda *a: N.denoising(lambda y, s: sg.ops.sin(y), *a)):
        found = f(*small)
        assert found.dtype == np.float32
        agree(found, f(*wide), 2e-6, 2e-6)
        assert f(*small[:2], 0.5).dtype == np.float32
        assert f(*small[:2], np.float64(0.5)).dtype == np.float32


def test_misfits_are_refused():
    x = up(np.zeros((2, 3)))
    for f in (denoising.denoising_target, denoising.score_from_denoiser):
        with pytest.raises(ValueError, match=r"should have the shape of xt?, \(2, [13]\)"):
            f(x, x[:, :1], 1.0)
    with pytest.raises(ValueError, match="one per example"):
        denoising.denoising_target(x, x, up(np.ones((2, 1))))
    one = x[:1]
    for n, few in ((3, one), (1, x)):
        row, where = up(np.ones(n)), rf"one per example \({few.shape[0]},\), not \({n},\)"
        for f in (denoising.denoising_target, denoising.score_from_denoiser):
            with pytest.raises(ValueError, match=where):
                f(few, few, row)
        with pytest.raises(ValueError, match=where):
            denoising.denoising(lambda x, s: x, few, few, row)
    with pytest.raises(ValueError, match=r"eps \(2, 1\)"):
        denoising.denoising(lambda x, s: x, x, x[:, :1], 1.0)
