"""The diffusion of bits against the list of all 2^(T+1) paths that a bit can take."""

import itertools
import math

import numpy as np
import pytest
from diffusion_tools import SOME, alpha_for_alpha_bar, betas, close, one_late, schedule_of, seeds
from evidence import agree, apart, at_most, host, lifted, lowered
from hypothesis import given
from scipy import special

import scratchgen as sg
from reference import binomial as paths
from scratchgen.models.diffusion import binomial as on_backend
from scratchgen.random import Generator

binomial = lifted(on_backend)
BITS = np.array([[0.0], [1.0]])
HEADS, TAILS = 0.0, np.nextafter(1, 0)  # the u that makes any coin show 1, and 0


def table(seed, T):
    """p(x_{t−1} = 1 | x_t) by t − 1 and x_t, away from 0 and 1; and the same as a network, in logits."""
    reverse = np.random.default_rng(seed).uniform(0.05, 0.95, (T, 2))

    @lowered
    def logits_theta(x, t):
        return special.logit(reverse[t - 1][np.arange(len(t))[:, None], x.astype(int)]).astype(x.dtype)

    return reverse, logits_theta


def posteriors(beta, t):
    """q(x_{t−1} = 1 | x_t, x_0) by [x_0, x_t]."""
    return np.array([[paths.posterior(beta, t, x0, xt) for xt in (0, 1)] for x0 in (0, 1)])


@pytest.mark.equation("binomial.forward_step")
@SOME
@given(betas(most=5))
def test_one_step(beta):
    schedule = schedule_of(beta)
    for t in range(1, len(beta) + 1):
        found = special.expit(binomial.q_step(schedule, BITS, t))
        close(found, [[paths.marginal(paths.forward_paths(beta[t - 1 : t], bit), 1)] for bit in (0.0, 1.0)], 1e-12)


@pytest.mark.equation("binomial.forward")
@SOME
@given(betas(most=5))
def test_the_marginal_sums_over_the_paths(beta):
    schedule = schedule_of(beta)
    chains = [paths.forward_paths(beta, bit) for bit in (0.0, 1.0)]
    for t in range(1, len(beta) + 1):
        close(special.expit(binomial.q_marginal(schedule, BITS, t)), [[paths.marginal(c, t)] for c in chains], 1e-12)


@pytest.mark.equation("binomial.forward_step", "binomial.forward")
@SOME
@given(betas(most=8))
def test_steps_compose_to_the_marginal(beta):
    """As 2×2 matrices of transition probabilities; and each of them keeps a fair coin fair."""
    schedule = schedule_of(beta)

    def matrix(logits):
        p = special.expit(logits)
        return np.hstack([1 - p, p])  # row: from, column: to

    whole = np.eye(2)
    for t in range(1, len(beta) + 1):
        step = matrix(binomial.q_step(schedule, BITS, t))
        whole = whole @ step
        close(matrix(binomial.q_marginal(schedule, BITS, t)), whole, 1e-12)
        close(np.array([0.5, 0.5]) @ step, [0.5, 0.5], 1e-14)


@pytest.mark.equation("binomial.posterior")
@SOME
@given(betas(least=2, most=5))
def test_the_posterior_counts_the_paths(beta):
    schedule = schedule_of(beta)
    for t in range(2, len(beta) + 1):
        x0, xt = (np.array(bits)[:, None] for bits in zip(*itertools.product((0.0, 1.0), repeat=2), strict=True))
        found = special.expit(binomial.posterior(schedule, x0, xt, t))
        close(found, posteriors(beta, t).reshape(4, 1), 1e-11)


@pytest.mark.equation("binomial.posterior")
@SOME
@given(betas(least=2, most=8))
def test_the_posterior_averages_to_the_marginal(beta):
    """Σ_{x_t} q(x_{t−1} | x_t, x_0)·q(x_t | x_0) = q(x_{t−1} | x_0), the library's own three."""
    schedule = schedule_of(beta)
    ones, zeros = np.ones((2, 1)), np.zeros((2, 1))
    for t in range(2, len(beta) + 1):
        at, before = (special.expit(binomial.q_marginal(schedule, BITS, k)) for k in (t, t - 1))
        of_one, of_zero = (special.expit(binomial.posterior(schedule, BITS, xt, t)) for xt in (ones, zeros))
        close(at * of_one + (1 - at) * of_zero, before, 1e-12)


def test_the_first_posterior_is_refused():
    schedule = schedule_of([0.1, 0.2])
    for t in (1, np.int64(1), np.array([2] * (len(BITS) - 1) + [1])):
        with pytest.raises(ValueError, match="t = 1 should be at least 2"):
            binomial.posterior(schedule, BITS, BITS, t)
        with pytest.raises(ValueError, match="at least 2"):
            binomial.transition_term(schedule, BITS, BITS, np.zeros(BITS.shape), t)


@pytest.mark.equation("binomial.elbo")
@SOME
@given(betas(most=5), seeds)
def test_the_bound_over_all_paths(beta, seed):
    """Each term, its two x_t forced by the noise and weighted with their probabilities; the sum is the definition."""
    schedule, T = schedule_of(beta), len(beta)
    reverse, logits_theta = table(seed, T)
    for bit in (0, 1):
        chain = paths.forward_paths(beta, float(bit))
        u = np.tile(np.array([[TAILS], [HEADS]]), (T, 1, 1))
        found = binomial.elbo(logits_theta, schedule, np.full((2, 1), float(bit)), u)
        at = np.array([paths.marginal(chain, t) for t in range(1, T + 1)])
        of = np.stack([1 - at, at])  # by x_t and t
        prior, steps, last = paths.bound_terms(beta, bit, reverse)
        assert found.transitions.shape == (2, T - 1)
        close(found.prior, [prior, prior], 1e-9, 1e-12)  # near 0 a divergence of coins loses half of its digits
        close((of[:, 1:] * found.transitions).sum(axis=0), steps, 1e-9, 1e-12)
        close(of[:, 0] @ found.reconstruction, last, 1e-11)
        close(found.elbo, -(found.prior + found.transitions.sum(axis=1) + found.reconstruction), 1e-12)
        whole = prior + (of[:, 1:] * found.transitions).sum() + of[:, 0] @ found.reconstruction
        close(whole, paths.bound_direct(beta, bit, reverse), 1e-10)
        at_most(-whole - paths.evidence(bit, reverse), 1e-12)


@pytest.mark.equation("binomial.elbo")
@SOME
@given(betas(most=5), seeds)
def test_the_bound_sums_over_bits_and_draws_each_from_its_own_marginal(beta, seed):
    """A picture of 2×3 bits, drawn and compared with the oracle bit by bit, at the x_t that the noise makes."""
    schedule, T = schedule_of(beta), len(beta)
    reverse, logits_theta = table(seed, T)
    rng = np.random.default_rng(seed)
    x0, u = rng.integers(0, 2, (2, 6)).astype(float), rng.random((T, 2, 6))
    found = binomial.elbo(logits_theta, schedule, x0, u)
    chains = [paths.forward_paths(beta, bit) for bit in (0.0, 1.0)]
    for b in range(2):
        terms = [[] for _ in range(T + 1)]
        for i, bit in enumerate(x0[b].astype(int)):
            terms[T].append(paths.kl(paths.marginal(chains[bit], T), 0.5))
            for t in range(1, T + 1):
                xt = int(u[t - 1, b, i] < paths.marginal(chains[bit], t))
                p = reverse[t - 1][xt]
                terms[t - 1].append(
                    -math.log(p if bit else 1 - p) if t == 1 else paths.kl(posteriors(beta, t)[bit, xt], p)
                )
        sums = [math.fsum(term) for term in terms]
        close([found.reconstruction[b], *found.transitions[b], found.prior[b]], sums, 1e-9, 1e-11)


@pytest.mark.equation("binomial.elbo")
def test_the_bound_is_tight_for_the_chain_reversed():
    """Fair coins as data: the chain backwards has its own kernels, and with them the bound is log p(x_0) = log ½."""
    beta = np.array([0.2, 0.3, 0.4])
    schedule = schedule_of(beta)
    theta = lambda x, t: on_backend.q_step(schedule, x, int(host(t)[0]))  # noqa: E731
    chain = paths.forward_paths(beta, 1.0)
    u = np.tile(np.array([[TAILS], [HEADS]]), (3, 1, 1))
    found = binomial.elbo(theta, schedule, np.ones((2, 1)), u)
    at = np.array([paths.marginal(chain, t) for t in (1, 2, 3)])
    of = np.stack([1 - at, at])
    whole = found.prior[0] + (of[:, 1:] * found.transitions).sum() + of[:, 0] @ found.reconstruction
    close(whole, math.log(2), 1e-12)


@pytest.mark.equation("binomial.sample")
def test_sampling_walks_back_through_the_table(xp):
    """Every bit of every step from the noise it was given, by the table at the right time."""
    reverse, logits_theta = table(3, 4)
    rng = np.random.default_rng(4)
    x, us = rng.integers(0, 2, (5, 2)).astype(float), rng.random((4, 5, 2))
    queue = iter(us)
    found = list(binomial.sample(logits_theta, schedule_of([0.1, 0.2, 0.3, 0.2]), x, lambda _: xp.asarray(next(queue))))
    assert len(found) == 4
    for step, (u, t) in enumerate(zip(us, (4, 3, 2, 1), strict=True)):
        x = np.array([[float(u[b, i] < reverse[t - 1][int(x[b, i])]) for i in range(2)] for b in range(5)])
        agree(found[step], x)


@pytest.mark.equation("binomial.sample")
def test_samples_have_the_models_probabilities():
    """60,000 chains of 3 steps end as the list of paths says, within 5 deviations (α = 6·10⁻⁷)."""
    n, reverse = 60_000, np.array([[0.1, 0.4], [0.3, 0.6], [0.6, 0.95]])
    theta = lowered(lambda x, t: special.logit(reverse[t[0] - 1][x.astype(int)]))
    rng = Generator(5)
    xT = (host(rng.random((n, 1), np.float64)) < 0.5).astype(float)
    (*_, x0) = binomial.sample(theta, schedule_of([0.2, 0.3, 0.4]), xT, lambda shape: rng.random(shape, np.float64))
    p = paths.marginal(paths.reverse_paths(reverse), 0)
    within = 5 * math.sqrt(p * (1 - p) / n)
    agree(x0.mean(), p, 0, within)
    apart(paths.marginal(paths.reverse_paths(reverse[::-1]), 0), p, 2 * within)  # negative control: time reversed


def terms(schedule, x0, xt, logits):
    f = binomial
    return [
        f.q_step(schedule, x0, 2), f.q_marginal(schedule, x0, 3), f.posterior(schedule, x0, xt, 3),
        f.prior_term(schedule, x0), f.transition_term(schedule, x0, xt, logits, 3), f.reconstruction_term(x0, logits),
    ]  # fmt: skip


def test_float32_and_every_example_its_own_time(xp):
    """Down to β = 10⁻⁴, where 1 − p has three digits left in float32, but its logits have all."""
    schedule = schedule_of(np.array([1e-4, 2e-4, 0.02, 0.3]))
    rng = np.random.default_rng(0)
    x0, xt = rng.integers(0, 2, (2, 3, 2, 2)).astype(float)
    logits = rng.normal(size=x0.shape)
    for found, expected in zip(
        terms(schedule, *(v.astype(np.float32) for v in (x0, xt, logits))), terms(schedule, x0, xt, logits), strict=True
    ):
        assert found.dtype == np.float32
        close(found, expected, 1e-6, 1e-5)
    t = np.array([3, 2, 4])
    together = binomial.posterior(schedule, x0, xt, t)
    for i, time in enumerate(t):
        one = slice(i, i + 1)
        close(together[one], binomial.posterior(schedule, x0[one], xt[one], int(time)), 1e-15, 0)


def test_gradients():
    with sg.backend("numpy"):
        schedule = schedule_of(np.array([0.1, 0.2, 0.3]))
        rng = np.random.default_rng(0)
        x0, xt = rng.integers(0, 2, (2, 3, 2)).astype(float)
        logits = rng.normal(size=x0.shape)
        sg.check_grads(lambda a: on_backend.transition_term(schedule, x0, xt, a, 3), (logits,), order=2)
        sg.check_grads(lambda a: on_backend.reconstruction_term(x0, a), (logits,), order=2)
        u = rng.random((3, *x0.shape))
        sg.check_grads(lambda a: on_backend.elbo(lambda x, t: a * (x + 0.5), schedule, x0, u).elbo, (logits,), order=2)


def test_misfits_are_refused():
    for T in (1, 3):
        with pytest.raises(ValueError, match=rf"u \({T}, 2, 1\) should be \(2, 2, 1\)"):
            binomial.elbo(None, schedule_of([0.1, 0.2]), BITS, np.zeros((T, 2, 1)))


def test_wrong_schedules_would_be_seen():
    """Negative controls: ᾱ for α, t − 1 for t."""
    beta = np.array([0.1, 0.2, 0.15, 0.3])
    schedule = schedule_of(beta)
    for slip in (alpha_for_alpha_bar, one_late):
        wrong = slip(schedule)
        apart(binomial.q_marginal(wrong, BITS, 3), binomial.q_marginal(schedule, BITS, 3), 0.1)
        apart(binomial.prior_term(wrong, BITS), binomial.prior_term(schedule, BITS), 0.01)
    apart(special.expit(binomial.q_step(schedule, BITS, 3)), special.expit(binomial.q_marginal(schedule, BITS, 3)), 0.1)
    right, other = (posteriors(beta, t) for t in (3, 2))
    apart(right, other, 0.01)
