"""Products and mixtures of densities: the chain rule, what is counted, and Student's t as a mixture of normals."""

import itertools
import math

import numpy as np
import pytest
from evidence import agree, apart, lifted, lowered, up
from hypothesis import given
from hypothesis import strategies as st
from sandbox_tools import FEW, SOME, floats, seeds
from scipy import stats

import scratchgen as sg
from reference import densities as oracle
from reference.divergence import plane
from reference.quadrature import integrate_panels, panel_nodes
from scratchgen.distributions import gaussian
from scratchgen.models.energy import densities as module

D = lifted(module)


# --- (5): products ------------------------------------------------------------------------------------------------


def rows(x):
    return x.reshape(-1, 1)


def first(x):
    """p(x) = N(0.3, 0.6²)."""
    return lifted(gaussian).log_prob(rows(x), 0.3, 2 * math.log(0.6))


def second(y, x):
    """p(y | x) = N(sin 2x, (0.4 + 0.2·x²)²): its parameters come from x."""
    return lifted(gaussian).log_prob(rows(y), rows(np.sin(2 * x)), rows(2 * np.log(0.4 + 0.2 * x**2)))


@pytest.mark.equation("energy.product")
@pytest.mark.parametrize("later", [second, lambda y, _: first(y)], ids=["conditional", "independent"])
def test_products_of_normalised_parts_are_normalised(later):
    """∫∫ of the product is 1.  Negative control: the parameters of each from the other one's variable."""
    nodes = plane((-4, -30), (4.6, 30), (86, 240))
    x, y = nodes.points.T
    log_p = D.product([lowered(first), lowered(later)], [x, y])
    agree(nodes.weights @ np.exp(log_p), 1, atol=1e-11)  # 7 deviations of x
    agree(log_p, first(x) + later(y, x), rtol=1e-14)
    apart(nodes.weights @ np.exp(second(x, y) + second(y, x)), 1, by=0.1)


@pytest.mark.equation("energy.product")
@SOME
@given(seeds, st.integers(1, 4), st.integers(2, 3))
def test_products_of_tables_are_the_chain_rule(seed, n, K):
    """A table over n variables of K values, taken apart into conditionals, and put together again."""
    table = np.random.default_rng(seed).exponential(size=(K,) * n)
    table /= table.sum()
    log_marginals = [np.log(table.sum(axis=tuple(range(i, n)))) for i in range(n + 1)]

    def part(i):
        return lambda x, *before: log_marginals[i + 1][(*before, x)] - log_marginals[i][tuple(before)]

    xs = np.array(list(itertools.product(range(K), repeat=n))).T
    log_p = D.product([lowered(part(i)) for i in range(n)], list(xs))
    agree(log_p, np.log(table).ravel(), rtol=1e-12, atol=1e-12)
    agree(oracle.total(lambda s: math.exp(log_p[np.ravel_multi_index(s, (K,) * n)]), (K,) * n), 1, rtol=1e-13)


# --- (6): mixtures ------------------------------------------------------------------------------------------------


@pytest.mark.equation("energy.mixture")
@SOME
@given(seeds, st.integers(1, 4), st.integers(1, 5))
def test_a_mixture_is_counted(seed, K, n):
    """A ticket decides the urn, the urn the ball: by counting all equally likely pairs of a ticket and a ball."""
    noise = np.random.default_rng(seed)
    tickets, balls = noise.integers(0, 4, K), noise.integers(0, 5, (K, n))
    tickets[0] += 1  # one ticket at least, and one ball in each urn; any other weight or probability may be 0
    balls[:, -1] += 1
    with np.errstate(divide="ignore"):
        log_alpha, log_parts = np.log(tickets / tickets.sum()), np.log(balls / balls.sum(axis=1, keepdims=True))
        want = np.log([float(p) for p in oracle.urns(tickets, balls)])
    agree(D.mixture(log_alpha, log_parts.T), want, rtol=1e-14, atol=1e-14)


@pytest.mark.equation("energy.mixture")
@SOME
@given(st.integers(1, 12), floats(0.05, 0.95), floats(0.05, 0.95))
def test_a_mixture_of_binomials_is_a_binomial(n, p, q):
    """k of n coins are left, then x of those k; the parts with fewer coins than x exclude it."""
    k = np.arange(n + 1)
    found = D.mixture(stats.binom(n, p).logpmf(k), stats.binom(k, q).logpmf(k[:, None]))
    # scipy's logarithms are differences of log-gammas of up to 20, below probabilities of e⁻⁷²
    agree(found, oracle.left_twice(n, p, q), rtol=1e-13, atol=1e-13)
    apart(found, stats.binom(n, p).logpmf(k), by=1e-3)


@pytest.mark.equation("energy.mixture")
@SOME
@given(floats(2, 12))
def test_a_mixture_of_normals_is_students_t(nu):
    """Precisions of a gamma law, e^u at nodes in u: below −40 it holds less than e⁻⁴⁰, above 6 less than e⁻³⁰⁰."""
    x = np.linspace(-10, 10, 21)
    u, w = panel_nodes(np.linspace(-40, 6, 24))
    log_alpha = np.log(w) + u + stats.gamma(nu / 2, scale=2 / nu).logpdf(np.exp(u))
    found = D.mixture(log_alpha, stats.norm.logpdf(x[:, None], scale=np.exp(-u / 2)))
    # 24 nodes to a panel two units wide; scipy's log-gammas
    agree(found, oracle.unknown_precision(x, nu), rtol=1e-12, atol=1e-12)
    apart(found, stats.norm.logpdf(x), by=1e-2)


@pytest.mark.equation("energy.mixture")
@FEW
@given(seeds, st.integers(1, 3))
def test_mixtures_of_normalised_parts_are_normalised(seed, K):
    noise = np.random.default_rng(seed)
    alpha, mu, sigma = noise.dirichlet(np.ones(K)), noise.uniform(-2, 2, K), noise.uniform(0.4, 1.5, K)

    def log_p(x):
        return D.mixture(np.log(alpha), stats.norm.logpdf(np.reshape(x, (-1, 1)), mu, sigma))

    agree(integrate_panels(lambda x: np.exp(log_p(x)), np.linspace(-16, 16, 41)), 1, atol=1e-12)


@pytest.mark.equation("energy.mixture")
def test_a_mixture_is_an_or():
    """A part that excludes x only takes its share; a part of no weight takes nothing; all together exclude x."""
    log_alpha = np.array([np.log(0.25), np.log(0.75), -np.inf])
    log_parts = np.array([[-np.inf, 0.5, 2.0], [0.5, -np.inf, 2.0], [-np.inf, -np.inf, 2.0], [-2000.0, -2001.0, 0.0]])
    want = [0.5 + np.log(0.75), 0.5 + np.log(0.25), -np.inf, -2000 + np.log(0.25 + 0.75 / np.e)]
    agree(D.mixture(log_alpha, log_parts), want, rtol=1e-14)
    variable = sg.tensor(up(log_parts))
    (slope,) = sg.gradients(module.mixture(up(log_alpha), variable)[:2].sum(), [variable])
    agree(slope, [[0, 1, 0], [1, 0, 0], [0, 0, 0], [0, 0, 0]])
