"""Metropolis–Hastings: the chain's matrix by linear algebra, its acceptance by a linear programme, its flows by
quadrature."""

import evidence
import numpy as np
import pytest
from evidence import agree, apart, at_most, lifted, lowered
from hypothesis import given
from hypothesis import strategies as st
from scipy import special, stats

import scratchgen as sg
from reference import mcmc as oracle
from reference.quadrature import panel_nodes
from scratchgen.backend import active
from scratchgen.models.energy import metropolis
from scratchgen.random import Generator

library = lifted(metropolis)
seeds = st.integers(0, 2**32 - 1)
sizes = st.integers(2, 5)


def target(seed, n):
    """log π of n states, up to a constant that is not 0: within e^±2 of one another."""
    return np.random.default_rng(seed).uniform(-2, 2, n) - 7


def proposals(seed, n, symmetric):
    """q (n, n), every state within reach of every other; rows sum to 1, what is left over stays."""
    q = np.random.default_rng(seed + 1).uniform(0.2, 1, (n, n)) / n
    if symmetric:
        q = (q + q.T) / 2
    np.fill_diagonal(q, 0)
    return q + np.diag(1 - q.sum(axis=1))


def pairs(n):
    return (x.ravel() for x in np.indices((n, n)))


def found_acceptance(log_pi, q):
    """What the library says for every pair of states; q None: it is told that q is symmetric."""
    i, j = pairs(len(log_pi))
    if q is None:
        log_a = library.log_accept(log_pi[i], log_pi[j])
    else:
        log_a = library.log_hastings(log_pi[i], log_pi[j], np.log(q[i, j]), np.log(q[j, i]))
    at_most(log_a, 0.0)
    return np.exp(log_a).reshape(len(log_pi), -1)


def check_chain(a, log_pi, q):
    """The chain that accepts with a: detailed balance, and it settles at π."""
    K, pi = oracle.transition_matrix(q, a), special.softmax(log_pi)
    # a few roundings in each entry of the flow, all of them below 1
    agree(oracle.net_flow(pi[:, None] * K), np.zeros_like(K), atol=1e-15)
    # an eigenvector loses 1/gap ≤ 100 of its digits
    agree(oracle.stationary(K), pi, atol=1e-12)


# --- the acceptance -----------------------------------------------------------------------------------------------


@pytest.mark.equation("mcmc.accept")
@given(sizes, seeds)
def test_the_acceptance_is_the_largest_in_balance(n, seed):
    log_pi, q = target(seed, n), proposals(seed, n, symmetric=True)
    # the programme's vertices are exact; it subtracts within 1
    agree(found_acceptance(log_pi, None), oracle.acceptance(np.exp(log_pi), q), atol=1e-12)


@pytest.mark.equation("mcmc.accept")
@given(sizes, seeds)
def test_the_chain_settles_at_pi(n, seed):
    log_pi, q = target(seed, n), proposals(seed, n, symmetric=True)
    check_chain(found_acceptance(log_pi, None), log_pi, q)


@pytest.mark.equation("mcmc.hastings")
@given(sizes, seeds)
def test_the_general_acceptance_is_the_largest_in_balance(n, seed):
    log_pi, q = target(seed, n), proposals(seed, n, symmetric=False)
    agree(found_acceptance(log_pi, q), oracle.acceptance(np.exp(log_pi), q), atol=1e-12)


@pytest.mark.equation("mcmc.hastings")
@given(sizes, seeds)
def test_the_chain_settles_at_pi_whatever_is_proposed(n, seed):
    log_pi, q = target(seed, n), proposals(seed, n, symmetric=False)
    check_chain(found_acceptance(log_pi, q), log_pi, q)
    # any constant may stand before p
    agree(found_acceptance(log_pi + 300, q), found_acceptance(log_pi, q), rtol=1e-12)


@pytest.mark.equation("mcmc.accept", "mcmc.hastings")
def test_a_wrong_acceptance_would_be_seen():
    """Negative controls: a ratio upside down; a lopsided proposal without its correction, and with it doubled."""
    log_pi, q = target(3, 4), proposals(3, 4, symmetric=False)
    pi = special.softmax(log_pi)
    plain, right = found_acceptance(log_pi, None), found_acceptance(log_pi, q)
    for wrong in (plain.T, plain, np.minimum(1, right * q.T / q)):
        apart(oracle.stationary(oracle.transition_matrix(q, wrong)), pi, by=1e-2)


@pytest.mark.equation("mcmc.accept", "mcmc.hastings")
def test_tiny_densities_and_densities_of_zero():
    """−1000 and −1003 as densities would both be 0; a proposal where p is 0 is never taken."""
    low, lower, none = np.array([-1000.0]), np.array([-1003.0]), np.array([-np.inf])
    agree(library.log_accept(low, lower), [-3.0])
    agree(library.log_accept(lower, low), [0.0])
    agree(library.log_accept(low, none), [-np.inf])
    agree(library.log_hastings(low, lower, -low, -lower), [0.0])
    agree(library.log_hastings(low, none, low, low), [-np.inf])


# --- the step -----------------------------------------------------------------------------------------------------


def decisions(log_pi, q, event=()):
    """All pairs (i, j) as chains at i with the proposal j, states being points of shape `event`; and the step."""
    n = len(log_pi)
    i, j = pairs(n)
    points = np.random.default_rng(n).standard_normal((n, *event))

    def place(x):
        distance = np.abs(x.reshape(len(x), 1, -1) - points.reshape(1, n, -1)).max(axis=-1)
        return distance.argmin(axis=1)

    log_p = lowered(lambda x: log_pi[place(x)])
    log_q = None if q is None else lowered(lambda to, x: np.log(q[place(x), place(to)]))
    state = library.start(log_p, points[i])
    return i, j, points, state, lambda u: library.step(log_p, state, points[j], u, log_q)


@pytest.mark.equation("mcmc.step")
@given(sizes, seeds, st.sampled_from([(), (1,), (2,), (2, 1, 2)]), st.booleans())
def test_the_step_moves_as_often_as_it_should(n, seed, event, symmetric):
    """The u up to which each proposal is taken, by bisection; the chain that this makes settles at π."""
    log_pi, q = target(seed, n), proposals(seed, n, symmetric)
    i, _, _, state, step = decisions(log_pi, None if symmetric else q, event)
    a = oracle.threshold(lambda u: step(u).accepted, len(i)).reshape(n, n)
    agree(a, oracle.acceptance(np.exp(log_pi), q), atol=1e-12)
    check_chain(a, log_pi, q)
    agree(state.log_p, log_pi[i])
    assert state.accepted.dtype == bool and state.accepted.all()


@pytest.mark.equation("mcmc.step")
@given(sizes, seeds, st.sampled_from([(), (3,), (2, 1, 2)]))
def test_what_is_refused_stays(n, seed, event):
    log_pi, q = target(seed, n), proposals(seed, n, symmetric=False)
    i, j, points, _, step = decisions(log_pi, q, event)
    u = np.random.default_rng(seed).uniform(0, 1, len(i))
    taken = u < oracle.acceptance(np.exp(log_pi), q)[i, j]
    found = step(u)
    where = np.where(taken, j, i)
    agree(found.x, points[where])
    agree(found.log_p, log_pi[where])
    assert (found.accepted == taken).all() and found.accepted.dtype == bool


@pytest.mark.equation("mcmc.step")
def test_the_ends_of_the_unit_interval():
    """u is in [0, 1): a = 1 is always taken, a = 0 not even at u = 0."""
    log_p = lowered(lambda x: np.where(x[:, 0] > 0, 0.0, -np.inf))
    state = library.start(log_p, np.ones((2, 1)))
    new = np.array([[2.0], [-1.0]])
    found = library.step(log_p, state, new, np.zeros(2))
    agree(found.x, np.array([[2.0], [1.0]]))
    found = library.step(log_p, state, new, np.full(2, np.nextafter(1, 0)))
    agree(found.x, np.array([[2.0], [1.0]]))


@pytest.mark.equation("mcmc.step")
@pytest.mark.parametrize("shape", [0.8, 3.0])
def test_a_continuous_density_stays_as_it_is(shape):
    """A Gamma density under x' = x·e^(0.7z), a lopsided proposal: into each y comes ∫π(x)q(y|x)a(x, y)dx, and what
    leaves y is π(y)·∫q(x|y)a(y, x)dx.  Integrated over log x, 20 panels of 8 nodes."""
    t, w = panel_nodes(np.linspace(-12, 4.5, 21), order=8)
    x = np.exp(t)
    i, j = pairs(len(x))
    q = stats.lognorm(0.7, scale=x[:, None]).pdf(x)
    log_p = lowered(lambda x: (shape - 1) * np.log(x) - x)                   # unnormalised
    log_q = lowered(lambda to, x: stats.norm.logpdf(np.log(to), np.log(x), 0.7) - np.log(to))
    state = library.start(log_p, x[i])
    a = oracle.threshold(lambda u: library.step(log_p, state, x[j], u, log_q).accepted, len(i), rounds=45)
    flow = stats.gamma(shape).pdf(x)[:, None] * q * a.reshape(q.shape)
    # the densities are off by a few roundings of logarithms up to 300, a by 2⁻⁴⁵
    agree(w * x @ flow, flow @ (w * x), rtol=1e-11, atol=1e-13)
    apart(w * x @ (flow / a.reshape(q.shape)), flow / a.reshape(q.shape) @ (w * x), by=1e-2)


# --- a chain of random numbers ------------------------------------------------------------------------------------

N = 8000
CRITICAL = np.sqrt(np.log(2 / 1e-7) / (2 * N))  # Kolmogorov–Smirnov at α = 1e-7 (Massart's inequality)


@pytest.mark.equation("mcmc.step")
def test_a_random_walk_forgets_where_it_began():
    """8000 chains from −2; after 60 steps of σ = 1.5 the start weighs less than 1e-6."""
    log_p = lowered(lambda x: -((x[:, 0] - 1) ** 2) / (2 * 0.6**2) + 40)
    x = active().asarray(np.full((N, 1), -2.0))
    *_, last = metropolis.random_walk(log_p, x, 1.5, 60, Generator(5))
    found = evidence.host(last.x)[:, 0]
    at_most(stats.kstest(found, stats.norm(1, 0.6).cdf).statistic, CRITICAL)
    assert stats.kstest(found, stats.norm(1, 0.7).cdf).statistic > CRITICAL
    assert stats.kstest(found, stats.norm(0.9, 0.6).cdf).statistic > CRITICAL
    assert 0.2 < evidence.host(last.accepted).mean() < 0.8


@pytest.mark.equation("mcmc.step")
def test_a_random_walk_is_its_steps():
    """x' = x + σ·z, taken where u < p(x')/p(x), with z and u replayed from the generator's seed."""
    density = lambda x: np.exp(-(x**2).sum(axis=1))  # noqa: E731
    x, sigma, again, taken = np.random.default_rng(1).normal(size=(5, 2)), 0.9, Generator(7), []
    walk = metropolis.random_walk(lowered(lambda x: np.log(density(x))), active().asarray(x), sigma, 6, Generator(7))
    for state in walk:
        z, u = (evidence.host(drawn) for drawn in (again.standard_normal((5, 2), x.dtype), again.random((5,), x.dtype)))
        new = x + sigma * z
        taken.append(u < density(new) / density(x))
        x = np.where(taken[-1][:, None], new, x)
        agree(state.x, x, 1e-14, 1e-14)
        assert np.array_equal(evidence.host(state.accepted), taken[-1])
    assert 0 < np.mean(taken) < 1


# --- precision, gradients, misfits --------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_precision(dtype):
    x, new = np.zeros((3, 2), dtype), np.ones((3, 2), dtype)
    log_p = lowered(lambda x: -(x**2).sum(axis=1))
    state = library.start(log_p, x)
    found = library.step(log_p, state, new, np.full(3, 0.1, dtype), lowered(lambda to, x: x.sum(axis=1)))
    assert found.x.dtype == found.log_p.dtype == dtype
    assert library.log_hastings(*[np.full(3, v, dtype) for v in (1, 0, 2, 2.5)]).dtype == dtype


def test_integers_are_states_too():
    log_p = lowered(lambda x: np.log(1.0 + x))
    found = library.step(log_p, library.start(log_p, np.array([1, 2, 3])), np.array([2, 1, 0]), np.array([0.9] * 3))
    agree(found.x, np.array([2, 2, 3]))
    assert found.x.dtype == np.int64


def test_gradients():
    """Away from the kink at a = 1, by construction."""
    log_p, higher, lower = np.array([0.3, -1.0]), np.array([1.1, -0.2]), np.array([-0.9, -2.0])
    for new in (higher, lower):
        sg.check_grads(metropolis.log_accept, (log_p, new), order=2)
        sg.check_grads(metropolis.log_hastings, (log_p, new, np.array([0.1, 0.2]), np.array([0.2, 0.1])), order=2)


def test_misfits_are_refused():
    log_p = lowered(lambda x: -(x**2).sum(axis=1))
    state = library.start(log_p, np.zeros((3, 2)))
    assert state.log_p.shape == state.accepted.shape == (3,)
    for wrong in (lambda x: -(x**2), lambda x: x.sum(), lambda x: x[:1, 0]):
        with pytest.raises(ValueError, match=r"log_p gives .* for x \(3, 2\)"):
            library.start(lowered(wrong), np.zeros((3, 2)))
    with pytest.raises(ValueError, match=r"x_new \(2, 2\), u \(2,\) do not fit chains \(3, 2\)"):
        library.step(lowered(lambda x: np.zeros(2)), state, np.zeros((2, 2)), np.zeros(2))
    for x_new, u in (((3, 2), (3, 1)), ((3, 2), (2,)), ((3, 2), (4,)), ((2, 2), (3,)), ((4, 2), (3,))):
        with pytest.raises(ValueError, match=r"do not fit chains \(3, 2\)"):
            library.step(log_p, state, np.zeros(x_new), np.zeros(u))
