"""The restricted Boltzmann machine against the table of all its states, and its system."""

import math

import numpy as np
import pytest
from evidence import agree, apart, at_most, host, up
from hypothesis import given, settings
from hypothesis import strategies as st
from rbm_tools import library, weights

import scratchgen as sg
from reference import boltzmann as oracle
from reference import mcmc
from reference.derivatives import complex_step
from scratchgen import ops
from scratchgen.models.energy import contrastive, rbm

SOME = settings(max_examples=max(8, settings.default.max_examples // 3), deadline=None)
seeds = st.integers(0, 2**32 - 1)
sides = st.tuples(st.integers(1, 4), st.integers(1, 4))


def every(n, m):
    """All pairs of states, x (2^(n+m), n) and z (2^(n+m), m), x the slower."""
    states = mcmc.binary_states(n + m)
    return states[:, :n], states[:, n:]


# --- the formulas -------------------------------------------------------------------------------------------


@pytest.mark.equation("rbm.energy")
@given(sides, seeds)
def test_the_energy_is_that_of_a_machine_whose_other_couplings_are_zero(size, seed):
    n, m = size
    w = weights(n, m, seed)
    # sums of at most 24 numbers below 2
    agree(-library.energy(w, *every(n, m)).reshape(2**n, 2**m), oracle.machine(*w), atol=1e-13)


@pytest.mark.equation("rbm.energy")
def test_the_energy_by_hand():
    """One pixel that is on, two hidden units of which one is on: −(w + b + c) of those that are."""
    w = rbm.Weights(np.array([[2.0, 5.0], [7.0, 11.0]]), np.array([0.5, 0.25]), np.array([-1.0, 3.0]))
    agree(library.energy(w, np.array([[1.0, 0.0]]), np.array([[0.0, 1.0]])), [-(5 + 0.5 + 3)])
    agree(library.energy(w, np.array([[1.0, 1.0]]), np.array([[1.0, 1.0]])), [-(25 + 0.75 + 2)])


@pytest.mark.equation("rbm.hidden", "rbm.visible")
@given(sides, seeds)
def test_one_side_given_the_other(size, seed):
    """Shares of the joint table."""
    n, m = size
    w = weights(n, m, seed)
    p = oracle.table(oracle.machine(*w))
    x, z = mcmc.binary_states(n), mcmc.binary_states(m)
    # quotients of sums of at most 16 probabilities
    agree(1 / (1 + np.exp(-library.hidden_logits(w, x))), oracle.unit_given(p.T, z).T, rtol=1e-12)
    agree(1 / (1 + np.exp(-library.visible_logits(w, z))), oracle.unit_given(p, x).T, rtol=1e-12)


@pytest.mark.equation("rbm.hidden", "rbm.visible")
@given(sides, seeds)
def test_units_of_a_side_are_independent_given_the_other(size, seed):
    """Their joint law, given one state of the other side, is the product of what the logits say."""
    n, m = size
    w = weights(n, m, seed)
    p = oracle.table(oracle.machine(*w))
    x, z = mcmc.binary_states(n), mcmc.binary_states(m)
    for logits, units, joint in ((library.hidden_logits(w, x[-1:]), z, p[-1]),
                                 (library.visible_logits(w, z[-1:]), x, p[:, -1])):
        chance = 1 / (1 + np.exp(-logits))
        agree(np.prod(np.where(units == 1, chance, 1 - chance), axis=1), joint / joint.sum(), rtol=1e-11)


@pytest.mark.equation("rbm.free_energy")
@given(sides, seeds)
def test_the_free_energy_sums_out_the_hidden_units(size, seed):
    n, m = size
    w = weights(n, m, seed)
    logs = oracle.machine(*w)
    agree(-library.free_energy(w, mcmc.binary_states(n)), [oracle.log_total(row) for row in logs], atol=1e-12)


@pytest.mark.equation("rbm.free_energy")
@given(sides, st.integers(1, 4), seeds)
def test_its_gradient_is_the_likelihoods(size, batch, seed):
    """With all states as samples, weighted by p, in W, b and c, against complex steps through the whole table."""
    n, m = size
    w, states = weights(n, m, seed), mcmc.binary_states(n)
    data = np.random.default_rng(seed).integers(0, 2**n, batch)
    p = oracle.table(oracle.machine(*w)).sum(axis=1)

    def loss(W, b, c):
        f = lambda x: -rbm.free_energy(rbm.Weights(W, b, c), x)  # noqa: E731
        return ops.mean(contrastive.surrogate(f, up(states[data]), up(states), up(p)).loss)

    found = sg.grad(loss, argnums=(0, 1, 2))(*up(list(w)))
    for k in range(3):
        along = np.random.default_rng(seed + 1).standard_normal(w[k].shape)

        def log_likelihood(v, k=k):
            logs = log_marginal(w._replace(**{w._fields[k]: v}))
            return (logs[data] - np.log(np.exp(logs).sum())).mean()

        agree(-(host(found[k]) * along).sum(), complex_step(log_likelihood, w[k], along), atol=1e-12)


def log_marginal(w):
    """log Σ_z e^−E, (2ⁿ,), of possibly complex weights, summed state by state."""
    x, z = mcmc.binary_states(w.W.shape[0]), mcmc.binary_states(w.W.shape[1])
    logs = (x @ w.W)[:, None, :] * z[None]
    return np.log(np.exp(logs.sum(axis=2) + (x @ w.b)[:, None] + z @ w.c).sum(axis=1))


@pytest.mark.equation("rbm.log_z")
@given(sides, seeds)
def test_the_constant_is_the_sum_over_all_states(size, seed):
    w = weights(*size, seed)
    agree(library.log_Z(w), oracle.log_total(oracle.machine(*w)), atol=1e-12)


@pytest.mark.equation("rbm.log_z")
@pytest.mark.parametrize("n, m", [(30, 2), (2, 30)])
def test_the_constant_counts_the_smaller_side(n, m):
    """Of 32 units, 30 fall apart: by the table of the two others, with the rest summed out one at a time."""
    w = weights(n, m, 3)
    W, few, many = (w.W, w.c, w.b) if m < n else (w.W.T, w.b, w.c)
    logs = [z @ few + sum(math.log(1 + math.exp(b + row @ z)) for b, row in zip(many, W, strict=True))
            for z in mcmc.binary_states(2)]
    agree(library.log_Z(w), oracle.log_total(logs), rtol=1e-13)
    with pytest.raises(ValueError, match=r"2\^21 states are too many"):
        library.log_Z(weights(21, 22, 0))


@pytest.mark.equation("rbm.pseudo")
@given(sides, seeds)
def test_a_pixel_given_all_others(size, seed):
    """For every image and every pixel of it; the mean over the pixels is the pseudo-likelihood."""
    n, m = size
    w = weights(n, m, seed)
    p = oracle.table(oracle.machine(*w)).sum(axis=1)
    want = oracle.pixel_given_rest(p, n)
    states = np.repeat(mcmc.binary_states(n), n, axis=0)
    found = library.pseudo_log_likelihood(w, states, np.tile(np.arange(n), 2**n)).reshape(2**n, n)
    agree(found, n * want, atol=1e-11)
    agree(found.mean(axis=1), want.sum(axis=1), atol=1e-11)


@pytest.mark.equation("rbm.bridge")
@given(sides, st.floats(0, 1), seeds)
def test_the_way_is_geometric(size, beta, seed):
    """In logarithms of x and z together, straight from the machine of independent pixels to the given one."""
    n, m = size
    w = weights(n, m, seed)
    base = np.random.default_rng(seed + 1).uniform(-1, 1, n)
    alone = oracle.machine(np.zeros((n, m)), base, np.zeros(m))
    agree(oracle.machine(*library.bridge(w, base, beta)), (1 - beta) * alone + beta * oracle.machine(*w), atol=1e-12)
    agree(library.base_log_Z(w, base), oracle.log_total(alone), atol=1e-12)


@pytest.mark.equation("rbm.bridge")
@given(sides, seeds)
def test_the_way_begins_where_the_constant_is_known_and_ends_at_the_machine(size, seed):
    n, m = size
    w, base = weights(n, m, seed), np.random.default_rng(seed).uniform(-1, 1, n)
    agree(library.log_Z(library.bridge(w, base, 0.0)), library.base_log_Z(w, base), atol=1e-12)
    for found, expected in zip(library.bridge(w, base, 1.0), w, strict=True):
        agree(found, expected)


@pytest.mark.equation("rbm.posterior")
@given(sides, st.floats(0.01, 0.99), seeds)
def test_what_a_noisy_image_was(size, rho, seed):
    """Bayes' rule over all images, for one rate of flips and for one per pixel."""
    n, m = size
    w, noise = weights(n, m, seed), np.random.default_rng(seed)
    states = mcmc.binary_states(n)
    p = oracle.table(oracle.machine(*w)).sum(axis=1)
    y = noise.integers(0, 2, (3, n)).astype(float)
    for chance in (rho, np.clip(noise.uniform(0, 1, n), 0.01, 0.99)):
        after = library.posterior(w, y, chance)
        for k in range(3):
            logs = -library.free_energy(after._replace(b=np.repeat(after.b[k : k + 1], 2**n, axis=0)), states)
            agree(oracle.table(logs), oracle.flipped(p, y[k], chance), atol=1e-12)


@pytest.mark.equation("rbm.posterior")
def test_pixels_of_which_nothing_is_known():
    """Flipped half the time, a pixel says nothing: the law is as it was; nor has a rate of 0 or 1 a finite bias."""
    w, y = weights(3, 2, 5), np.array([[1.0, 0.0, 1.0]])
    agree(library.posterior(w, y, 0.5).b, w.b[None])
    # the oracle at ½ is the prior too
    p = oracle.table(oracle.machine(*w)).sum(axis=1)
    agree(oracle.flipped(p, y[0], 0.5), p, rtol=1e-14)
    for rho in (0.0, 1.0, -0.1):
        with pytest.raises(ValueError, match="should lie between 0 and 1"):
            library.posterior(w, y, rho)


# --- the chain ----------------------------------------------------------------------------------------------


def whole_kernel(w):
    """The matrix of the library's step, exactly: the mean over grids of u as fine as the probabilities.

    The weights are multiples of log 3, so a logit of up to 3·log 3 has a p of 1/2, 3/4, 9/10 or 27/28, or 1 less that.
    """
    n, m = w.W.shape
    middles = lambda count: (np.arange(count) + 0.5) / count  # noqa: E731
    axes = [middles(140 if n == 2 else 20)] * m + [middles(140 if m == 2 else 20)] * n
    u = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, m + n)
    rows = []
    for x in mcmc.binary_states(n):
        after = library.gibbs(w, np.repeat(x[None], len(u), axis=0), u[:, :m], u[:, m:])
        rows.append(np.bincount(mcmc.place(after), minlength=2**n) / len(u))
    return np.array(rows)


def powers_of_three(n, m, seed):
    noise = np.random.default_rng(seed)
    return rbm.Weights(*(np.log(3) * noise.integers(-1, 2, shape) for shape in ((n, m), n, m)))


@pytest.mark.equation("rbm.gibbs")
@pytest.mark.parametrize("n, m", [(1, 1), (2, 1), (1, 2)])
@settings(max_examples=4, deadline=None)
@given(seeds)
def test_the_chain_leaves_the_law_as_it_is(n, m, seed):
    """Its whole matrix K: that of drawing z and then x from the joint table, with πK = π for the table's marginal."""
    w = powers_of_three(n, m, seed)
    logs = oracle.machine(*w)
    pi = oracle.table(logs).sum(axis=1)
    K = whole_kernel(w)
    # shares of a grid that the probabilities divide
    agree(K, oracle.block_chain(logs), atol=1e-12)
    agree(pi @ K, pi, atol=1e-12)
    agree(mcmc.stationary(K), pi, atol=1e-10)


@pytest.mark.equation("rbm.gibbs")
def test_the_bias_of_contrastive_divergence():
    """The library's gradient with the chain's law after k steps, less the likelihood's: it dies out with k."""
    n, m = 3, 2
    w, states = weights(n, m, 7, 3.0), mcmc.binary_states(3)
    logs = oracle.machine(*w)
    K, pi = oracle.block_chain(logs), oracle.table(logs).sum(axis=1)
    data = np.array([1, 6])
    begin = np.bincount(data, minlength=8) / 2

    def ascent(law):
        f = lambda W: lambda x: -rbm.free_energy(rbm.Weights(W, up(w.b), up(w.c)), x)  # noqa: E731
        loss = lambda W: ops.mean(contrastive.surrogate(f(W), up(states[data]), up(states), up(law)).loss)  # noqa: E731
        return -host(sg.grad(loss)(up(w.W)))

    truth = ascent(pi)
    bias = [np.abs(ascent(begin @ np.linalg.matrix_power(K, k)) - truth).max() for k in (1, 2, 4, 8, 500)]
    assert (np.diff(bias) < 0).all(), bias
    apart(bias[0], 0, by=0.01)
    at_most(bias[-1], 1e-9)
    # persistent chains, begun anywhere, come to the same after many updates of one step
    anywhere = np.eye(8)[5] @ np.linalg.matrix_power(K, 1000)
    agree(ascent(anywhere), truth, atol=1e-10)
