"""The Ising model against the table of all its states, 512 on a grid of 3×3, and its system."""

import math

import numpy as np
import pytest
from evidence import agree, apart, at_most
from hypothesis import given, settings
from hypothesis import strategies as st
from ising_tools import fields, library

from reference import boltzmann, lattice, mcmc

SOME = settings(max_examples=max(6, settings.default.max_examples // 3), deadline=None)
seeds = st.integers(0, 2**32 - 1)
grids = st.sampled_from([(1, 1), (1, 4), (4, 1), (2, 3), (3, 2), (3, 3)])
couplings = st.floats(-1.5, 1.5, allow_subnormal=False)


# --- the formulas -------------------------------------------------------------------------------------------


@pytest.mark.equation("ising.energy")
@given(grids, couplings, seeds)
def test_the_energy_is_that_of_a_machine_of_spins(grid, beta, seed):
    f = fields(grid, seed)
    # sums of at most 21 numbers below 1.5
    agree(-library.energy(f, beta, lattice.spins(*grid)), lattice.logs(f, beta), atol=1e-13)


@pytest.mark.equation("ising.energy")
def test_the_energy_by_hand():
    """Two rows of three: seven pairs of neighbours, five of them alike; a field of 1, 2, …, 6; and a number for all."""
    x = np.array([[[1.0, 1.0, -1.0], [1.0, 1.0, 1.0]]])
    f = np.arange(1.0, 7.0).reshape(2, 3)
    agree(library.energy(f, 10.0, x), [-(1 + 2 - 3 + 4 + 5 + 6) - 10 * (5 - 2)])
    agree(library.energy(f[None], 10.0, x), library.energy(f, 10.0, x))
    agree(library.energy(0.5, 10.0, x), [-2 - 30])
    with pytest.raises(ValueError, match=r"x \(2, 3\) should be \(B, H, W\)"):
        library.energy(f, 1.0, x[0])
    # the whole picture turned: only the field tells
    agree(library.energy(0.0, 10.0, -x), library.energy(0.0, 10.0, x))


@pytest.mark.equation("ising.posterior")
@given(grids, couplings, st.floats(0.01, 0.99), seeds)
def test_what_a_noisy_picture_was(grid, beta, rho, seed):
    """Bayes' rule over all pictures."""
    h, n = fields(grid, seed), math.prod(grid)
    y = np.random.default_rng(seed + 1).integers(0, 2, n).astype(float)
    f = library.posterior(h, 2 * y.reshape(1, *grid) - 1, rho)
    found = boltzmann.table(-library.energy(f, beta, lattice.spins(*grid)))
    agree(found, boltzmann.flipped(boltzmann.table(lattice.logs(h, beta)), y, rho), atol=1e-13)


@pytest.mark.equation("ising.posterior")
def test_pixels_of_which_nothing_is_known():
    """Flipped half the time, a pixel says nothing, as in the oracle; never or always flipped, all."""
    h, y = fields((2, 2), 1), np.ones((1, 2, 2))
    agree(library.posterior(h, y, 0.5), h[None])
    p = boltzmann.table(lattice.logs(h, 0.5))
    agree(boltzmann.flipped(p, np.ones(4), 0.5), p, rtol=1e-14)
    for rho in (0.0, 1.0, -0.1):
        with pytest.raises(ValueError, match="should lie between 0 and 1"):
            library.posterior(h, y, rho)


@pytest.mark.equation("ising.field")
@given(grids, couplings, seeds)
def test_what_a_turn_of_one_pixel_costs(grid, beta, seed):
    """For every state and every pixel of it."""
    f, n = fields(grid, seed), math.prod(grid)
    states, logs = lattice.spins(*grid), lattice.logs(f, beta)
    want = np.stack([logs - logs[lattice.neighbour(n, i)] for i in range(n)], axis=1)
    agree((2 * states * library.field(f, beta, states)).reshape(-1, n), want, atol=1e-12)


@pytest.mark.equation("ising.field")
def test_the_field_by_hand():
    """Zeros stand for nobody: what each pixel of a row of three sees; and a picture's edge has no other side."""
    x = np.array([[[1.0, -1.0, 1.0]]])
    agree(library.field(0.25, 2.0, x), [[[0.25 - 2, 0.25 + 4, 0.25 - 2]]])
    agree(library.field(0.25, 2.0, np.swapaxes(x, 1, 2)), [[[0.25 - 2], [0.25 + 4], [0.25 - 2]]])
    logs = lattice.logs(np.full((1, 3), 0.25), 2.0)
    place = mcmc.place((x.reshape(1, 3) + 1) / 2)
    agree([(logs[place] - logs[lattice.neighbour(3, 1)[place]])[0] / 2], [-4.25])


@pytest.mark.equation("ising.conditional", "ising.pseudo")
@SOME
@given(grids, couplings, seeds)
def test_a_pixel_given_all_others(grid, beta, seed):
    """For every state: shares of the table."""
    f, n = fields(grid, seed), math.prod(grid)
    states = lattice.spins(*grid)
    want = boltzmann.pixel_given_rest(boltzmann.table(lattice.logs(f, beta)), n)  # log p(x_i | rest)
    agree(library.pseudo_log_likelihood(f, beta, states), want.sum(axis=1), atol=1e-12)
    mean = states.reshape(-1, n) * (2 * np.exp(want) - 1)  # p(x_i) − p(−x_i), with x_i's sign
    agree(library.conditional(f, beta, states).reshape(-1, n), mean, atol=1e-12)


@pytest.mark.equation("ising.log_z")
@given(grids, couplings, seeds)
def test_the_constant_is_the_sum_over_all_states(grid, beta, seed):
    f = fields(grid, seed)
    agree(library.log_Z(f[None], beta), [boltzmann.log_total(lattice.logs(f, beta))], atol=1e-12)


@pytest.mark.equation("ising.ground")
@given(grids, couplings, seeds)
def test_the_least_energy_is_the_tables(grid, beta, seed):
    f = fields(grid, seed)
    agree(library.ground(f[None], beta), [-lattice.logs(f, beta).max()], atol=1e-13)


@pytest.mark.equation("ising.log_z", "ising.ground")
def test_a_picture_and_its_mirror():
    """Upright as lying, several at once; where nothing couples, pixel by pixel; and a row without a field."""
    f = fields((5, 3, 4), 3)
    for function in (library.log_Z, library.ground):
        agree(function(f, 0.6), function(np.swapaxes(f, 1, 2), 0.6), rtol=1e-13)
        agree(function(f, 0.6), [function(one[None], 0.6)[0] for one in f], rtol=1e-13)
        with pytest.raises(ValueError, match=r"2\^13 states of a row are too many"):
            function(np.zeros((1, 1, 13)), 0.1)
    agree(library.log_Z(f, 0.0), np.log(2 * np.cosh(f)).sum(axis=(1, 2)), rtol=1e-13)
    agree(library.ground(f, 0.0), -np.abs(f).sum(axis=(1, 2)), rtol=1e-13)
    chain = math.log(2) + 6 * math.log(2 * math.cosh(0.7))  # Ising (1925): seven spins in a row
    agree(library.log_Z(np.zeros((1, 1, 7)), 0.7), [chain], rtol=1e-13)
    agree(boltzmann.log_total(lattice.logs(np.zeros((1, 7)), 0.7)), chain, rtol=1e-13)
    agree(library.ground(np.zeros((1, 1, 7)), 0.7), [lattice.logs(np.zeros((1, 7)), 0.7).max() * -1], rtol=1e-13)


@pytest.mark.equation("ising.marginals")
@given(grids, couplings, seeds)
def test_the_mean_of_every_pixel(grid, beta, seed):
    f = fields((2, *grid), seed)
    want = [np.tensordot(boltzmann.table(lattice.logs(one, beta)), lattice.spins(*grid), 1) for one in f]
    agree(library.marginals(f, beta), np.array(want), atol=1e-12)


@pytest.mark.equation("ising.marginals")
def test_no_decision_errs_less_than_the_sign_of_the_mean():
    """Over all pictures and what may be seen of them, 2⁶ × 2⁶: the share of wrong pixels, exactly."""
    h, beta, rho, grid = fields((2, 3), 4), 0.6, 0.2, (2, 3)
    states = lattice.spins(*grid)
    p = boltzmann.table(lattice.logs(h, beta))

    def wrong(decide):
        """The mean over x and y of the share of pixels where decide(y) is not x."""
        joint = np.stack([p * np.prod(np.where(states == y, 1 - rho, rho), axis=(1, 2)) for y in states])  # (y, x)
        return sum(row @ (decided != states).mean(axis=(1, 2)) for row, decided in zip(joint, decide, strict=True))

    f = library.posterior(h, states, rho)
    best = wrong(np.sign(library.marginals(f, beta)))
    x = states
    for _ in range(10):
        x = library.icm(f, beta, x)
    likeliest = np.stack([states[(p * np.prod(np.where(states == y, 1 - rho, rho), axis=(1, 2))).argmax()]
                          for y in states])
    marginal = np.stack([np.sign(np.tensordot(boltzmann.flipped(p, (y.ravel() + 1) / 2, rho), states, 1))
                         for y in states])
    agree(best, wrong(marginal), rtol=1e-12)
    for other in (x, likeliest, states, np.sign(library.field(h, beta, states))):
        at_most(best, wrong(other) + 1e-12)
    apart(best, wrong(states), by=0.02)


# --- the chain, and the descent -----------------------------------------------------------------------------


def kernel(f, beta):
    """The matrix of the library's sweep over all states of a grid, exactly: each square's threshold by bisection.

    All black squares are decided before any white one, and a white one's neighbours are black: its threshold is found
    with the black ones forced, by u = 0 and u = 1, to where they are in the new state, from where all were otherwise.
    """
    grid = f.shape
    states = lattice.spins(*grid)
    count, n = len(states), f.size
    black = (np.add.outer(*map(np.arange, grid)) % 2 == 0)
    K = np.ones((count, count))
    first = mcmc.threshold(lambda u: library.gibbs(f, beta, states, u) == 1, states.shape)  # right for the black ones
    forced = lambda u: np.where(black, (states == -1).astype(float), u)  # noqa: E731
    second = mcmc.threshold(lambda u: library.gibbs(f, beta, -states, forced(u)) == 1, states.shape)
    for i in range(n):
        r, c = divmod(i, grid[1])
        new = states[None, :, r, c]
        up_ = first[:, r, c][:, None] if black[r, c] else second[:, r, c][None]
        K *= np.where(new == 1, up_, 1 - up_)
    return K


@pytest.mark.equation("ising.gibbs")
@pytest.mark.parametrize("grid", [(1, 2), (2, 2), (2, 3), (3, 3)])
def test_the_chain_leaves_the_law_as_it_is(grid):
    """Its whole matrix K: the black squares drawn anew from the table given the rest, then the white ones; πK = π."""
    n = math.prod(grid)
    f = fields(grid, n)
    pi = boltzmann.table(lattice.logs(f, 0.8))
    K = kernel(f, 0.8)
    black, white = (lattice.redrawn(pi, n, places) for places in lattice.colours(*grid))
    # products of n thresholds, each bisected to 2⁻⁵³ or so
    agree(K, black @ white, atol=1e-13)
    agree(pi @ K, pi, atol=1e-13)
    if n < 9:
        agree(mcmc.stationary(K), pi, atol=1e-9)
    apart(white @ black, K, by=0.01)


@pytest.mark.equation("ising.gibbs")
def test_all_squares_at_once_would_sample_another_law():
    """A negative control: neighbours drawn together, each from what the others were, do not leave π as it is."""
    f = fields((2, 2), 8)
    pi, states = boltzmann.table(lattice.logs(f, 0.8)), lattice.spins(2, 2)
    chance = (1 + library.conditional(f, 0.8, states)) / 2
    together = np.stack([np.prod(np.where(states == 1, p, 1 - p), axis=(1, 2)) for p in chance])
    apart(pi @ together, pi, by=0.01)
    black, white = (lattice.redrawn(pi, 4, places) for places in lattice.colours(2, 2))
    agree(pi @ black @ white, pi, atol=1e-15)


@pytest.mark.equation("ising.icm")
@given(grids, couplings, seeds)
def test_a_descent_takes_the_likeliest_black_squares_and_then_white_ones(grid, beta, seed):
    """From every state, against the table: the likeliest of those that differ at the black squares only; white ones."""
    f, n = fields(grid, seed), math.prod(grid)
    states, p = lattice.spins(*grid), boltzmann.table(lattice.logs(f, beta))
    after = np.arange(2**n)
    for places in lattice.colours(*grid):
        if places:
            after = lattice.likeliest(p, n, places)[after]
    agree(library.icm(f, beta, states), states[after])


@pytest.mark.equation("ising.icm")
@given(grids, couplings, seeds)
def test_the_energy_never_rises_and_comes_to_rest(grid, beta, seed):
    f, n = fields(grid, seed), math.prod(grid)
    logs, x = lattice.logs(f, beta), lattice.spins(*grid)
    energies = [-logs]
    for _ in range(n + 5):
        x = library.icm(f, beta, x)
        energies.append(-logs[mcmc.place((x.reshape(-1, n) + 1) / 2)])
    at_most(np.diff(energies, axis=0), 0.0)
    if energies[-1].tolist() == energies[-2].tolist():  # at rest: no single turn leads down
        rest = mcmc.place((x.reshape(-1, n) + 1) / 2)
        for i in range(n):
            at_most(-logs[rest], -logs[lattice.neighbour(n, i)[rest]])
        at_most(-logs.max(), energies[-1].min())


@pytest.mark.equation("ising.icm")
def test_all_squares_at_once_would_raise_the_energy():
    """Two pixels that would be alike, and are not: turned together they swap, for ever.  And a tie stays as it is."""
    x = np.array([[[1.0, -1.0]]])
    together = np.sign(library.field(0.0, 1.0, x))
    agree(together, -x)
    agree(library.energy(0.0, 1.0, library.icm(0.0, 1.0, x)), [-1.0])
    best = lattice.likeliest(boltzmann.table(lattice.logs(np.zeros((1, 2)), 1.0)), 2, [0])
    agree(library.icm(0.0, 1.0, x), lattice.spins(1, 2)[best[mcmc.place([[1.0, 0.0]])]])
    every = lattice.spins(2, 3)
    agree(library.icm(0.0, 0.0, every), every)
    # two pixels that would be unlike, each of them rather 1: turned together they climb from E = 0 to E = 2
    x, f = np.ones((1, 1, 2)), 0.5
    at_once = np.sign(library.field(f, -1.0, x))
    agree(library.energy(f, -1.0, np.concatenate([x, at_once, library.icm(f, -1.0, x)])), [0.0, 2.0, -1.0])
