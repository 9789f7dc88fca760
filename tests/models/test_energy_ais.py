"""Annealed importance sampling over a few states, every walk counted."""

import math

import numpy as np
import pytest
from evidence import agree, apart, at_most, lifted, lowered
from hypothesis import given
from hypothesis import strategies as st

from reference import boltzmann as oracle
from reference import mcmc
from scratchgen.models.energy import ais

library = lifted(ais)
seeds = st.integers(0, 2**32 - 1)
BETAS = (0.0, 0.3, 0.6, 1.0)


def problem(count, seed):
    """log g of `count` states for each β, (4, count), and chains that leave them as they are."""
    noise = np.random.default_rng(seed)
    first, last = noise.uniform(-2, 2, (2, count))
    logs = np.array([(1 - beta) * first + beta * last for beta in BETAS])
    proposal = np.full((count, count), 1 / count)
    kernels = [mcmc.transition_matrix(proposal, mcmc.acceptance(oracle.table(g), proposal)) for g in logs[1:]]
    return logs, kernels


def all_walks(logs, kernels):
    """The library's log w of every walk, and the walks' probabilities; the walkers' x are places of states, (W, 1)."""
    walks, chances = oracle.annealed_walks(oracle.table(logs[0]), kernels)
    place = {beta: k for k, beta in enumerate(BETAS)}

    def log_g(x, beta):
        return logs[place[beta]][x[:, 0].astype(int)]

    def step(x, beta):
        agree(x[:, 0], walks[:, place[beta] - 1])  # one step for each density but the first, in their order
        return walks[:, place[beta], None].astype(float)

    log_w, last = library.anneal(lowered(log_g), lowered(step), walks[:, :1].astype(float), BETAS)
    agree(last[:, 0], walks[:, -1])
    return walks, chances, log_w


@pytest.mark.equation("ais.weight", "ais.log_z")
@given(st.integers(2, 4), seeds)
def test_the_mean_weight_is_the_quotient_of_the_constants(count, seed):
    """Over all walks, by their probabilities: no chance left."""
    logs, kernels = problem(count, seed)
    _, chances, log_w = all_walks(logs, kernels)
    Z0, Z = (math.exp(oracle.log_total(g)) for g in (logs[0], logs[-1]))
    agree(math.fsum(chances), 1.0, rtol=1e-12)
    agree(math.fsum(chances * np.exp(log_w)), Z / Z0, rtol=1e-11)
    # and Jensen: the mean logarithm is too small
    at_most(math.fsum(chances * log_w), math.log(Z / Z0) + 1e-12)


@pytest.mark.equation("ais.weight")
@given(st.integers(2, 4), seeds)
def test_with_their_weights_the_ends_are_samples(count, seed):
    """E w·1[x = i] / E w is the last density's p(i), for every state i."""
    logs, kernels = problem(count, seed)
    walks, chances, log_w = all_walks(logs, kernels)
    mass = np.bincount(walks[:, -1], weights=chances * np.exp(log_w), minlength=count)
    agree(mass / mass.sum(), oracle.table(logs[-1]), rtol=1e-10)


@pytest.mark.equation("ais.weight")
def test_a_weight_by_hand():
    """One walker at 2, whose density doubles at each change: the step comes after the gain, and moves it to 3."""
    log_g = lambda x, beta: x[:, 0] * beta  # noqa: E731
    log_w, x = library.anneal(lowered(log_g), lowered(lambda x, _: x + 1), np.array([[2.0]]), (0.0, 0.5, 1.0))
    agree(log_w, [0.5 * 2 + 0.5 * 3])
    agree(x, [[4.0]])


@pytest.mark.equation("ais.log_z")
@given(st.lists(st.integers(1, 9), min_size=1, max_size=6), st.floats(-5, 5))
def test_the_estimate_is_the_mean_of_the_weights(w, log_Z0):
    """As many states as walkers, each with its weight over their number: Z/Z_0 is their sum."""
    logs = np.log(np.array(w) / len(w))
    agree(library.log_Z(np.log(np.array(w, float)), log_Z0), log_Z0 + oracle.log_total(logs), atol=1e-12)
    apart(library.log_Z(np.log(np.array([1.0, 9.0])), 0.0), np.log([1.0, 9.0]).mean(), by=0.1)  # no mean of logarithms


def test_misfits_are_refused():
    x = np.zeros((3, 2))
    with pytest.raises(ValueError, match="1 densities lead nowhere"):
        library.anneal(lowered(lambda x, _: x[:, 0]), lowered(lambda x, _: x), x, (1.0,))
    with pytest.raises(ValueError, match=r"log g gives \(3, 2\) for x \(3, 2\)"):
        library.anneal(lowered(lambda x, _: x), lowered(lambda x, _: x), x, (0.0, 1.0))
