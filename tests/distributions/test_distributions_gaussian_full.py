"""The Gaussian with any covariance against scipy.stats, Gauss–Hermite, and conditioning by linear algebra."""

import numpy as np
import pytest
from closed_forms import (
    POSITIVE,
    N,
    check_everywhere,
    check_finite,
    check_fits,
    check_gradients,
    check_misfits,
    covariances,
    seeds,
    uniform,
)
from evidence import agree, apart, at_most, host, lifted
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from reference import distributions as oracle
from reference import gaussian as joint
from scratchgen import distributions
from scratchgen.random import Generator

gaussian, gaussian_full = lifted(distributions.gaussian), lifted(distributions.gaussian_full)

BATCH, SIZE, SHARED = st.integers(1, 3), st.integers(1, 3), st.booleans()


def draw(seed: int, b: int, d: int, shared: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Two points (B, D) and a covariance, (D, D) or (B, D, D)."""
    x, mu = uniform(seed, (b, d), (-3, 3), (-3, 3))
    return x, mu, covariances(seed, (d, d) if shared else (b, d, d))


def per_row(cov: np.ndarray, b: int) -> np.ndarray:
    return np.broadcast_to(cov, (b, *cov.shape[-2:]))


@pytest.mark.equation("gaussian_full.log_prob")
@given(seeds, BATCH, SIZE, SHARED)
def test_log_prob_is_scipys(seed, b, d, shared):
    x, mu, cov = draw(seed, b, d, shared)
    got = check_everywhere(gaussian_full.log_prob, x, mu, cov, tolerance=1e-4)
    want = [oracle.multivariate_normal_log_prob(*row) for row in zip(x, mu, per_row(cov, b), strict=True)]
    # rounding times the condition number, below 100
    agree(got, want, rtol=1e-12, atol=1e-12)


@pytest.mark.equation("gaussian_full.entropy")
@given(seeds, BATCH, SIZE, SHARED)
def test_entropy_is_the_mean_of_minus_log_p(seed, b, d, shared):
    _, mu, cov = draw(seed, b, d, shared)
    got = check_everywhere(gaussian_full.entropy, cov)
    assert got.shape == (() if shared else (b,))
    want = [oracle.entropy_gaussian_hermite(m, c) for m, c in zip(mu, per_row(cov, b), strict=True)]
    agree(np.broadcast_to(got, b), want, rtol=1e-11, atol=1e-11)


@pytest.mark.equation("gaussian_full.kl")
@given(seeds, BATCH, SIZE, SHARED, SHARED)
def test_kl_is_the_mean_of_the_log_ratio(seed, b, d, shared_q, shared_p):
    mu_q, mu_p, cov_q = draw(seed, b, d, shared_q)
    cov_p = draw(seed // 2 + 1, b, d, shared_p)[2]
    got = check_everywhere(gaussian_full.kl, mu_q, cov_q, mu_p, cov_p, tolerance=1e-4)
    assert got.shape == (b,)
    rows = zip(mu_q, per_row(cov_q, b), mu_p, per_row(cov_p, b), strict=True)
    agree(got, [oracle.kl_gaussian_hermite(*row) for row in rows], rtol=1e-10, atol=1e-11)
    at_most(POSITIVE, got)


@pytest.mark.equation("gaussian_full.kl")
@given(seeds, BATCH, SIZE)
def test_kl_is_zero_only_between_equals(seed, b, d):
    mu, _, cov = draw(seed, b, d, shared=False)
    # L⁻¹L is the identity up to rounding, which enters squared
    agree(gaussian_full.kl(mu, cov, mu, cov), 0, atol=1e-28)
    at_most(1e-14, gaussian_full.kl(mu, cov, mu + 1e-6, cov))
    at_most(1e-14, gaussian_full.kl(mu, cov, mu, cov * (1 + 1e-6)))


@pytest.mark.equation("gaussian_full.kl")
def test_kl_takes_q_first():
    mu, q, p = np.zeros((1, 2)), np.array([[4.0, 1.0], [1.0, 1.0]]), np.array([[0.5, 0.2], [0.2, 0.3]])
    forward, backward = gaussian_full.kl(mu, q, mu, p), gaussian_full.kl(mu, p, mu, q)
    agree(forward, oracle.kl_gaussian_hermite([0, 0], q, [0, 0], p), rtol=1e-11)
    apart(forward, backward, by=backward[0])


@pytest.mark.equation("gaussian_full.log_prob", "gaussian_full.entropy", "gaussian_full.kl")
@given(seeds, BATCH, SIZE)
def test_diagonal_covariances_give_the_diagonal_gaussian(seed, b, d):
    x, mu, log_var, other = uniform(seed, (b, d), (-3, 3), (-3, 3), (-2, 2), (-2, 2))
    cov, cov_p = (np.exp(v)[..., None] * np.eye(d) for v in (log_var, other))
    agree(gaussian_full.log_prob(x, mu, cov), gaussian.log_prob(x, mu, log_var), rtol=1e-12)
    agree(gaussian_full.entropy(cov), gaussian.entropy(log_var), rtol=1e-12, atol=1e-13)
    agree(gaussian_full.kl(mu, cov, x, cov_p), gaussian.kl(mu, log_var, x, other), rtol=1e-12, atol=1e-13)


@pytest.mark.equation("gaussian_full.condition")
@given(seeds, BATCH, st.integers(2, 4), SHARED, st.data())
def test_condition_is_what_the_joint_is_divided_by_the_marginal(seed, b, d, shared, data):
    """log p(x_u | x_o) = log p(x) − log p(x_o), by scipy: ten x_u to each x_o, as many as fix a quadratic of three."""
    x, mu, cov = draw(seed, b, d, shared)
    observed = data.draw(st.lists(st.integers(0, d - 1), min_size=1, max_size=d - 1, unique=True))
    rest = [i for i in range(d) if i not in observed]
    got = gaussian_full.condition(mu, cov, observed, x[:, observed])
    (others,) = uniform(seed // 2 + 1, (b, 10, len(rest)), (-3, 3))
    for i, c in enumerate(per_row(cov, b)):
        whole = np.tile(x[i], (10, 1))
        whole[:, rest] = others[i]
        marginal = oracle.multivariate_normal_log_prob(x[i, observed], mu[i, observed], c[np.ix_(observed, observed)])
        want = oracle.multivariate_normal_log_prob(whole, mu[i], c) - marginal
        found = oracle.multivariate_normal_log_prob(others[i], got.mu[i], got.cov if shared else got.cov[i])
        # log-densities down to −10³, times the condition number, below 100
        agree(found, want, rtol=1e-11, atol=1e-11)


@pytest.mark.equation("gaussian_full.condition")
@given(seeds, BATCH, st.integers(2, 4), SHARED, st.data())
def test_condition_is_the_schur_complement(seed, b, d, shared, data):
    x, mu, cov = draw(seed, b, d, shared)
    observed = data.draw(st.lists(st.integers(0, d - 1), min_size=1, max_size=d - 1, unique=True))
    values = x[:, observed]
    got = gaussian_full.condition(mu, cov, observed, values)
    rest = [i for i in range(d) if i not in observed]
    for i, c in enumerate(per_row(cov, b)):
        mean, conditional = joint.condition(mu[i], c, observed, values[i])
        agree(got.mu[i], mean, rtol=1e-11, atol=1e-11)
        agree(got.cov if shared else got.cov[i], conditional, rtol=1e-11, atol=1e-11)
    # p(x) = p(x_o)·p(x_u | x_o)
    marginal = gaussian_full.log_prob(values, mu[:, observed], cov[..., observed, :][..., observed])
    remaining = gaussian_full.log_prob(x[:, rest], got.mu, got.cov)
    agree(marginal + remaining, gaussian_full.log_prob(x, mu, cov), rtol=1e-11, atol=1e-11)
    check_everywhere(lambda m, c, v: gaussian_full.condition(m, c, observed, v).mu, mu, cov, values, tolerance=1e-4)
    assert gaussian_full.condition(mu.astype("f"), cov.astype("f"), observed, values.astype("f")).cov.dtype == "f"


@pytest.mark.equation(
    "gaussian_full.log_prob", "gaussian_full.entropy", "gaussian_full.kl", "gaussian_full.sample",
    "gaussian_full.condition",
)  # fmt: skip
@pytest.mark.parametrize("shared", [True, False])
def test_gradients(shared):
    x, mu, cov = draw(3, 2, 3, shared)
    cov_p = draw(4, 2, 3, not shared)[2]

    def symmetric(c):  # a step of the numeric derivative leaves the symmetric matrices; the factor reads one half
        return (c + c.swapaxes(-1, -2)) * 0.5

    check_gradients(lambda x, m, c: gaussian_full.log_prob(x, m, symmetric(c)), x, mu, cov)
    check_gradients(lambda c: gaussian_full.entropy(symmetric(c)), cov)
    check_gradients(lambda m, c: gaussian_full.sample(None, m, symmetric(c), eps=x), mu, cov)
    check_gradients(
        lambda mq, cq, mp, cp: gaussian_full.kl(mq, symmetric(cq), mp, symmetric(cp)), mu, cov, x, cov_p
    )
    for part in (0, 1):
        check_gradients(
            lambda m, c, v, part=part: gaussian_full.condition(m, symmetric(c), [2, 0], v)[part], mu, cov, x[:, :2]
        )


@pytest.mark.equation("gaussian_full.sample")
@pytest.mark.parametrize("shared", [True, False])
def test_samples_fit_and_those_of_the_transposed_factor_do_not(shared):
    d = 3
    cov = np.array([[4.0, 1.5, 0.0], [1.5, 1.0, 0.2], [0.0, 0.2, 0.5]])
    mu, rng = np.full((N, d), 0.5), Generator(21)
    z = gaussian_full.sample(rng, mu, cov if shared else np.broadcast_to(cov, (N, d, d)))
    law = stats.multivariate_normal(np.full(d, 0.5), cov)

    def distances(samples):  # squared, in units of the covariance: χ²_d
        return -2 * (law.logpdf(samples) - law.logpdf(law.mean))

    check_fits(distances(z), stats.chi2(d).cdf)
    for direction in np.eye(d)[0], np.array([1.0, -1.0, 0.5]):
        check_fits(z @ direction, stats.norm(0.5 * direction.sum(), np.sqrt(direction @ cov @ direction)).cdf)
    wrong = 0.5 + host(rng.standard_normal((N, d), "float64")) @ np.linalg.cholesky(cov)
    check_misfits(distances(wrong), stats.chi2(d).cdf)


@pytest.mark.equation("gaussian_full.sample")
@given(seeds, BATCH, SIZE, SHARED)
def test_injected_noise_decides_the_sample(seed, b, d, shared):
    eps, mu, cov = draw(seed, b, d, shared)
    z = check_everywhere(lambda m, c, e: gaussian_full.sample(None, m, c, eps=e), mu, cov, eps, tolerance=1e-4)
    rows = list(zip(eps, mu, per_row(cov, b), strict=True))
    # a quantile at 3 deviations has 1 − Φ = 1e-3 to 1e-16: 1e-13, times the condition number, below 100
    agree(z, [oracle.multivariate_normal_of_noise(*row) for row in rows], rtol=1e-11, atol=1e-11)
    # ‖ε‖² is the sample's squared distance in units of the covariance
    want = [stats.multivariate_normal(m, c).logpdf(m) - 0.5 * e @ e for e, m, c in rows]
    agree(gaussian_full.log_prob(z, mu, cov), want, rtol=1e-11)


@pytest.mark.equation("gaussian_full.log_prob", "gaussian_full.kl")
@pytest.mark.parametrize("log_scale", [-20.0, 20.0])
def test_extreme_variances(log_scale):
    x, mu, cov = draw(5, 2, 3, shared=True)
    cov = cov * np.exp(log_scale)
    value, _ = check_finite(lambda x, m: gaussian_full.log_prob(x, m, cov.astype(x.dtype)), x, mu)
    # what scipy is given is what check_finite gave: the arguments rounded to float32
    x, mu = (a.astype(np.float32).astype(np.float64) for a in (x, mu))
    agree(value, oracle.multivariate_normal_log_prob(x - mu, np.zeros(3), cov), rtol=1e-11)
    assert np.isfinite(gaussian_full.kl(x, cov, mu, np.eye(3))).all()


@pytest.mark.equation("gaussian_full.log_prob", "gaussian_full.entropy")
def test_many_coordinates():
    """300 independent normals, one after the other."""
    x, mu, sigma = uniform(3, (2, 300), (-3, 3), (-3, 3), (0.5, 2))
    cov = np.diag(sigma[0] ** 2)
    # 300 terms of order 1, each rounded a few times
    agree(gaussian_full.log_prob(x, mu, cov), oracle.normal_log_prob(x, mu, sigma[0]).sum(axis=1), rtol=1e-13)
    agree(gaussian_full.entropy(cov), stats.norm(0, sigma[0]).entropy().sum(), rtol=1e-13)


def test_misfits_are_refused():
    a, cov = np.zeros((4, 3)), np.eye(3)
    with pytest.raises(ValueError, match=r"mu \(3,\) does not fit x \(4, 3\)"):
        gaussian_full.log_prob(a, np.zeros(3), cov)
    with pytest.raises(ValueError, match=r"x \(3,\) should be \(B, D\)"):
        gaussian_full.log_prob(np.zeros(3), np.zeros(3), cov)
    with pytest.raises(ValueError, match=r"x \(4, 3, 3\) should be \(B, D\)"):
        gaussian_full.log_prob(np.zeros((4, 3, 3)), a, cov)
    for d in (2, 4):
        with pytest.raises(ValueError, match=rf"covariance of \({d}, {d}\) does not fit x \(4, 3\)"):
            gaussian_full.log_prob(a, a, np.eye(d))
    for b in (3, 5):
        with pytest.raises(ValueError, match=rf"covariance of \({b}, 3, 3\) does not fit mu \(4, 3\)"):
            gaussian_full.sample(None, a, np.stack([cov] * b), eps=a)
    for shape in ((4, 3), (3, 4), (2, 3, 4), (2, 4, 3), (2, 2, 3, 3)):
        with pytest.raises(ValueError, match="cov .* should be"):
            gaussian_full.entropy(np.zeros(shape))
    with pytest.raises(ValueError, match=r"eps \(1, 3\)"):
        gaussian_full.sample(None, a, cov, eps=a[:1])
    with pytest.raises(ValueError, match=r"mu_p \(1, 3\)"):
        gaussian_full.kl(a, cov, a[:1], cov)
    with pytest.raises(ValueError, match=r"values \(4, 1\)"):
        gaussian_full.condition(a, cov, [0, 1], a[:, :1])
    for observed in ([], [0, 0], [0, 1, 2], [3], [4], [-1]):
        with pytest.raises(ValueError, match="not 1 to 2 of the indices below 3"):
            gaussian_full.condition(a, cov, observed, a)
    with pytest.raises(TypeError, match="cov is float32 but x is float64"):
        gaussian_full.log_prob(a, a, cov.astype("f"))
    agree(gaussian_full.log_prob(a, a[:1], cov), gaussian_full.log_prob(a, a, cov))
    with pytest.raises(np.linalg.LinAlgError):
        gaussian_full.entropy(-cov)
