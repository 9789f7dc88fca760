"""Log-densities, entropies and divergences: scipy.stats, quadrature and enumeration.

A log-density is taken from scipy.stats, which this project did not write. An entropy or a divergence is the
integral (or sum) that defines it, evaluated as such. A discretised density is the continuous one integrated
over its bin, never a difference of two distribution functions: that difference is the formula under test, and
its cancellation is what a good implementation has to avoid.
"""

import itertools
import math
from collections.abc import Callable

import numpy as np
from scipy import stats

from reference.gaussian import condition
from reference.quadrature import gaussian_expectation, integrate, spread_edges


def normal_log_prob(x, mu, sigma) -> np.ndarray:
    """log N(x; mu, sigma²), elementwise; sigma is the standard deviation."""
    return stats.norm.logpdf(x, loc=mu, scale=sigma)


def multivariate_normal_log_prob(x, mu, cov) -> np.ndarray:
    """log N(x; mu, cov) for x (…, d), mu (d,), cov (d, d)."""
    return stats.multivariate_normal.logpdf(x, mean=mu, cov=cov)


def logistic_log_prob(x, mu, scale) -> np.ndarray:
    """Log-density of the logistic distribution, elementwise."""
    return stats.logistic.logpdf(x, loc=mu, scale=scale)


def bernoulli_log_prob(x, p) -> np.ndarray:
    """log p(x) for x in {0, 1}, elementwise; p is the probability of 1."""
    return stats.bernoulli.logpmf(x, p)


def categorical_log_prob(k: int, p) -> float:
    """log p_k as the one-draw multinomial of the indicator vector of k; p (K,) sums to one."""
    return float(stats.multinomial.logpmf(np.eye(len(p), dtype=int)[k], n=1, p=p))


# Discretised densities on `levels` equally spaced values of [−1, 1], as for images.

def bin_edges(x: float, levels: int) -> tuple[float, float]:
    """The bin of the value x: half a spacing to either side, and open to ±∞ at the two outer values.

    Spacing 2/(levels − 1), so 256 levels give DDPM's ±1/255 (Ho et al. 2020, eq. 13).
    Raises ValueError when x is not one of the values.
    """
    k = round((x + 1) / 2 * (levels - 1))
    if not 0 <= k < levels or abs(-1 + 2 * k / (levels - 1) - x) > 1e-6:
        raise ValueError(f"{x} is not one of the {levels} values of [-1, 1]")
    low = -math.inf if k == 0 else -1 + (2 * k - 1) / (levels - 1)
    high = math.inf if k == levels - 1 else -1 + (2 * k + 1) / (levels - 1)
    return low, high


def log_mass(log_density: Callable[[float], float], mode: float, scale: float, low: float,
             high: float) -> float:
    """log ∫ exp(log_density) over (low, high), for a density falling away from its one mode.

    The bin's highest point is at `top`, the mode clipped to the bin. Measured from there the integrand is at
    most 1, so a bin a thousand scales out in the tail neither underflows nor loses digits. Beyond 64 scales
    from the top, a log-concave density whose tail is e^{−|u|} or thinner holds under e⁻⁶³ of the mass.
    """
    top = min(max(mode, low), high)
    peak = log_density(top)
    pieces = []
    for side, length in ((-1.0, (top - low) / scale), (1.0, (high - top) / scale)):
        edges = [e for e in (0.0, 1.0, 8.0, 64.0) if e < length]
        edges.append(min(length, 64.0))
        pieces.append(integrate(lambda u, side=side: math.exp(log_density(top + side * u * scale) - peak),
                                edges, absolute=0.0))
    return float(peak + math.log(scale) + math.log(math.fsum(pieces)))


def discretised_gaussian_log_prob(x, mu, sigma, levels: int) -> np.ndarray:
    """log ∫_bin(x) N(u; mu, sigma²) du, elementwise over broadcast x, mu, sigma."""
    def one(x, mu, sigma):
        return log_mass(stats.norm(mu, sigma).logpdf, mu, sigma, *bin_edges(x, levels))
    return np.vectorize(one, otypes=[float])(x, mu, sigma)


def discretised_logistic_log_prob(x, mu, scale, levels: int) -> np.ndarray:
    """log ∫_bin(x) Logistic(u; mu, scale) du, elementwise over broadcast x, mu, scale."""
    def one(x, mu, scale):
        return log_mass(stats.logistic(mu, scale).logpdf, mu, scale, *bin_edges(x, levels))
    return np.vectorize(one, otypes=[float])(x, mu, scale)


# Entropies and divergences of densities, by integration. All in nats.

def entropy_quad(log_p: Callable, edges) -> float:
    """−∫ p log p over the edges; log_p is a log-density of one real variable."""
    def integrand(x):
        value = log_p(x)
        return -math.exp(value) * value
    return integrate(integrand, edges)


def kl_quad(log_q: Callable, log_p: Callable, edges) -> float:
    """KL(q‖p) = ∫ q (log q − log p) over the edges."""
    def integrand(x):
        value = log_q(x)
        return math.exp(value) * (value - log_p(x))
    return integrate(integrand, edges)


def expectation_quad(f: Callable[[float], float], mu: float, sigma: float) -> float:
    """E f(x), x ~ N(mu, sigma²), by adaptive quadrature: for f that is no polynomial."""
    density = stats.norm(mu, sigma).pdf
    return integrate(lambda x: density(x) * f(x), spread_edges(mu, sigma, reach=10.0, panels=10))


def kl_gaussian_quad(mu_q: float, sigma_q: float, mu_p: float, sigma_p: float) -> float:
    """KL(N(mu_q, sigma_q²) ‖ N(mu_p, sigma_p²)) in one dimension, by adaptive quadrature."""
    q, p = stats.norm(mu_q, sigma_q), stats.norm(mu_p, sigma_p)
    return kl_quad(q.logpdf, p.logpdf, spread_edges(mu_q, sigma_q))


def kl_gaussian_hermite(mu_q, cov_q, mu_p, cov_p, order: int = 4) -> float:
    """KL(N(mu_q, cov_q) ‖ N(mu_p, cov_p)) in d dimensions: the mean of log q − log p over q's nodes.

    The log-ratio is a quadratic, for which Gauss–Hermite is exact from order 2 on; 4 leaves room to see it.
    """
    q = stats.multivariate_normal(mu_q, cov_q)
    p = stats.multivariate_normal(mu_p, cov_p)
    return gaussian_expectation(lambda x: q.logpdf(x) - p.logpdf(x), mu_q, cov_q, order)


def entropy_gaussian_hermite(mu, cov, order: int = 4) -> float:
    """Entropy of N(mu, cov) as the mean of −log p over its own nodes."""
    return -gaussian_expectation(stats.multivariate_normal(mu, cov).logpdf, mu, cov, order)


def entropy_logistic_quad(mu: float, scale: float) -> float:
    """Entropy of the logistic distribution by adaptive quadrature over ±60 scales."""
    return entropy_quad(stats.logistic(mu, scale).logpdf, spread_edges(mu, scale, reach=60.0, panels=30))


def kl_logistic_quad(mu_q: float, scale_q: float, mu_p: float, scale_p: float) -> float:
    """KL between two logistic distributions, by adaptive quadrature over ±60 scales of q."""
    q, p = stats.logistic(mu_q, scale_q), stats.logistic(mu_p, scale_p)
    return kl_quad(q.logpdf, p.logpdf, spread_edges(mu_q, scale_q, reach=60.0, panels=30))


# The same for discrete variables, by enumeration of all states.

def entropy_enumerate(p) -> float:
    """−Σ p log p; a state of probability zero adds nothing."""
    return -math.fsum(v * math.log(v) for v in map(float, p) if v > 0)


def kl_enumerate(q, p) -> float:
    """Σ q (log q − log p): infinite when q has mass where p has none."""
    terms = []
    for u, v in zip(map(float, q), map(float, p), strict=True):
        if u > 0:
            terms.append(u * (math.log(u) - math.log(v)) if v > 0 else math.inf)
    return math.fsum(terms)


def bernoulli_table(p) -> np.ndarray:
    """Probabilities (2^d,) of all binary vectors under independent Bernoulli(p), in the order 0…0 to 1…1.

    Turns a factorised formula (a sum over coordinates) into one over joint states, for `kl_enumerate`.
    """
    states = itertools.product((0, 1), repeat=len(p))
    return np.array([math.prod(v if bit else 1 - v for v, bit in zip(map(float, p), state, strict=True))
                     for state in states])


# Samples whose noise is given: what carries the noise's law to the one wanted, without either's formula.

def normal_of_noise(eps, mu, sigma) -> np.ndarray:
    """The point of N(mu, sigma²) at the quantile that eps has under N(0, 1), elementwise."""
    return stats.norm.ppf(stats.norm.cdf(eps), loc=mu, scale=sigma)


def multivariate_normal_of_noise(eps, mu, cov) -> np.ndarray:
    """eps (d,) carried to N(mu, cov), one coordinate after another, each given those before it.

    Rosenblatt's transform (1952): no factor of the covariance is formed, and no other map has a triangular
    Jacobian with a positive diagonal.
    """
    z: list[float] = []
    for i in range(len(mu)):
        mean, var = condition(mu[:i + 1], cov[:i + 1, :i + 1], range(i), z) if i else (mu[:1], cov[:1, :1])
        z.append(float(normal_of_noise(eps[i], mean[0], math.sqrt(var[0, 0]))))
    return np.array(z)


def logistic_of_noise(u, mu, scale) -> np.ndarray:
    """The quantile of the logistic distribution at u, elementwise."""
    return stats.logistic.ppf(u, loc=mu, scale=scale)


def bernoulli_of_noise(u, p) -> np.ndarray:
    """The quantile of the coin at 1 − u, elementwise: the smallest outcome whose cumulative mass reaches it."""
    return stats.bernoulli.ppf(1 - u, p)


def categorical_of_noise(exponential, p) -> np.ndarray:
    """Which of K clocks rings first, the k-th after exponential_k/p_k; both (…, K).

    A clock of rate p_k rings in [t, t + dt) as the first of all with probability p_k·e^(−t)·dt.
    """
    return np.argmin(exponential / p, axis=-1)
