"""Likelihood gradients against the exact likelihood, its constant summed or integrated; contrastive divergence
against the chain's matrix, every path of the chain walked."""

import itertools

import numpy as np
import pytest
from evidence import agree, apart, host, lifted, lowered, up
from hypothesis import given, settings
from hypothesis import strategies as st

import scratchgen as sg
from reference import mcmc as oracle
from reference.derivatives import complex_step
from reference.quadrature import panel_nodes
from scratchgen import ops
from scratchgen.models.energy import contrastive, langevin, metropolis

SOME = settings(max_examples=max(8, settings.default.max_examples // 3), deadline=None)
seeds = st.integers(0, 2**32 - 1)


def slopes(f, at):
    """The gradient of an analytic function of a vector, by complex steps."""
    return np.array([complex_step(f, at, unit) for unit in np.eye(len(at))])


def descent(loss, theta):
    """−∇ of the mean of a loss per example, θ ↦ (B,), through the library, on the active backend."""
    return -host(sg.grad(lambda theta: ops.mean(loss(theta)))(up(np.asarray(theta))))


def pair_potential(theta, x):
    """f(x) = Σ b_i x_i + Σ_{i<j} w_ij x_i x_j, as the library's user would write it; θ on the tape or not."""
    n = x.shape[1]
    columns = [x[:, i] for i in range(n)]
    columns += [x[:, i] * x[:, j] for i, j in itertools.combinations(range(n), 2)]
    return sum(theta[k] * column for k, column in enumerate(columns))


def features(n):
    """φ with f = θ·φ, of all states, (2ⁿ, parameters)."""
    count = n + n * (n - 1) // 2
    return np.stack([oracle.pair_potential(unit, oracle.binary_states(n)) for unit in np.eye(count)], axis=1)


# --- the gradient of the likelihood -------------------------------------------------------------------------------


@pytest.mark.equation("contrastive.likelihood_gradient")
@given(st.integers(1, 3), st.integers(1, 4), seeds)
def test_the_gradient_of_the_likelihood_with_every_state_as_a_sample(n, batch, seed):
    """A Boltzmann machine; Z is a sum over 2ⁿ states, which are the samples, weighted by p."""
    noise, states = np.random.default_rng(seed), oracle.binary_states(n)
    theta = noise.uniform(-1.5, 1.5, features(n).shape[1])
    data = noise.integers(0, 2**n, batch)
    want = slopes(lambda v: oracle.log_likelihood(oracle.pair_potential, states, v, data), theta)
    p = np.exp(oracle.log_probs(oracle.pair_potential, states, theta))

    def loss(theta):
        return contrastive.surrogate(lambda x: pair_potential(theta, x), up(states[data]), up(states), up(p)).loss

    # sums of 8 numbers below 1, a handful of roundings each
    agree(descent(loss, theta), want, atol=1e-14)
    apart(descent(loss, theta), slopes(lambda v: oracle.pair_potential(v, states)[data].mean(), theta), by=1e-3)


@pytest.mark.equation("contrastive.likelihood_gradient")
@given(st.lists(st.integers(1, 5), min_size=2, max_size=5), st.integers(1, 4), seeds)
def test_samples_count_alike(counts, batch, seed):
    """p(x) = c_x/Σc, and a sample of Σc points in which x stands c_x times: exactly p, with no weights."""
    noise, count = np.random.default_rng(seed), len(counts)
    theta, data = np.log(counts) + noise.uniform(-1, 1), noise.integers(0, count, batch)
    samples = np.repeat(np.arange(count), counts)
    want = slopes(lambda v: oracle.log_likelihood(lambda theta, x: theta[x], np.arange(count), v, data), theta)

    def found(theta):
        return contrastive.surrogate(lambda x: theta[x], up(data), up(noise.permutation(samples)))

    # sums of at most 25 numbers below 1
    agree(descent(lambda v: found(v).loss, theta), want, atol=1e-14)
    terms = found(up(theta))
    agree(terms.data, theta[data])
    agree(np.sort(host(terms.samples)), np.sort(theta[samples]))
    agree(terms.loss, theta[samples].mean() - theta[data], atol=1e-14)


def wave(xp, theta, x):
    """log p up to a constant, on the line, and not linear in its parameters."""
    return theta[0] * xp.sin(theta[1] * x) - theta[2] * x**4


@pytest.mark.equation("contrastive.likelihood_gradient")
@given(seeds)
def test_the_gradient_of_the_likelihood_on_the_line(seed):
    """Z by quadrature; the samples are its nodes, weighted by p."""
    noise = np.random.default_rng(seed)
    theta, data = noise.uniform([0.5, 0.5, 0.2], [2, 2, 1]), noise.uniform(-1.5, 1.5, 4)
    x, w = panel_nodes(np.linspace(-5, 5, 21), order=12)

    def log_z(theta):
        return np.log((w * np.exp(wave(np, theta, x))).sum())

    want = slopes(lambda v: wave(np, v, data).mean() - log_z(v), theta)
    p = w * np.exp(wave(np, theta, x) - log_z(theta))

    def loss(theta):
        return contrastive.surrogate(lambda x: wave(ops, theta, x), up(data), up(x), up(p)).loss

    # E x⁴ and x⁴ of the data are below 10
    agree(descent(loss, theta), want, atol=1e-12)
    agree(slopes(lambda v: wave(np, v, data).mean(), theta) - (p @ slopes_each(theta, x)), want, atol=1e-12)


def slopes_each(theta, x):
    """∇f at each of the points x, (points, parameters), by complex steps."""
    return np.stack([complex_step(lambda v: wave(np, v, x), theta, unit) for unit in np.eye(3)], axis=1)


@pytest.mark.equation("contrastive.likelihood_gradient")
def test_where_the_samples_came_from_is_forgotten():
    """Samples and weights that themselves depend on θ are constants all the same."""
    data, z = np.array([0.3, -0.8]), np.array([0.5, -1.0, 2.0])

    def moving(theta):
        x, weights = theta * up(z), ops.exp(theta * up(z))
        return contrastive.surrogate(lambda x: -theta * x**2, up(data), x, weights / ops.sum(weights)).loss

    theta = 0.7
    weights = np.exp(theta * z) / np.exp(theta * z).sum()
    want = complex_step(lambda v: (weights * -v * (theta * z) ** 2).sum() + (v * data**2).mean(), theta, 1.0)
    agree(descent(moving, theta), -want, rtol=1e-13)


# --- k steps from the data ----------------------------------------------------------------------------------------


def all_paths(theta, n, starts, k):
    """Every chain of k flips that begins at `starts`: rows of starts, and a transition that walks all paths at once.

    θ are multiples of log 2, so that each acceptance is one of 1, ½, … 2⁻ⁿ (f changes by n·log 2 at most), and
    uniform numbers at the middles of 2ⁿ intervals are as good as all: the mean over the rows is the expectation.
    """
    levels = 2**n
    outcomes = np.array(list(itertools.product(range(n), (np.arange(levels) + 0.5) / levels)))   # (site, u)
    choices = np.array(list(itertools.product(range(len(outcomes)), repeat=k)))                  # (paths, k)
    begin = np.repeat(np.asarray(starts), len(choices))
    path = np.tile(choices, (len(starts), 1))                                                    # (rows, k)
    queue = iter(path.T)

    def f(x):
        return pair_potential(up(np.asarray(theta)), x)

    def transition(x):
        site, u = outcomes[next(queue)].T
        bit = up(np.eye(n)[site.astype(int)])
        flipped = x * (1 - bit) + (1 - x) * bit
        return metropolis.step(f, metropolis.start(f, x), flipped, up(u)).x

    return oracle.binary_states(n)[begin], transition


def flip_chain(theta, n):
    """Its matrix: the flips, and the largest acceptance in balance with p."""
    p = np.exp(oracle.log_probs(oracle.pair_potential, oracle.binary_states(n), theta))
    return oracle.transition_matrix(oracle.flips(n), oracle.acceptance(p, oracle.flips(n)))


def powers_of_two(seed, n):
    return np.log(2) * np.random.default_rng(seed).integers(-1, 2, features(n).shape[1])


def share(n, places):
    """The distribution over states of some places, each as likely."""
    return np.bincount(places, minlength=2**n) / len(places)


def expected_cd(theta, n, data, k):
    """The mean of −∇ of the library's CD-k over all that its chain can do."""
    rows, transition = all_paths(theta, n, data, k)
    chains = iter([transition] * k)

    def loss(theta):
        return contrastive.cd(lambda x: pair_potential(theta, x), up(rows), lambda x: next(chains)(x), k).loss

    found = descent(loss, theta)
    assert next(chains, None) is None  # exactly k steps
    return found


@pytest.mark.equation("contrastive.cd")
@SOME
@given(st.sampled_from([(2, 1), (2, 2), (2, 3), (3, 1), (3, 2)]), seeds)
def test_what_contrastive_divergence_descends(size, seed):
    """E_data φ − E_data[Kᵏ φ]: the k-th power of the chain's matrix, from the data."""
    n, k = size
    theta = powers_of_two(seed, n)
    data = np.random.default_rng(seed).integers(0, 2**n, 3)
    begin = share(n, data)
    moved = begin @ np.linalg.matrix_power(flip_chain(theta, n), k)
    # means of up to 2000 numbers 0 and 1
    agree(expected_cd(theta, n, data, k), oracle.mean_feature_gap(begin, moved, features(n)), atol=1e-12)


@pytest.mark.equation("contrastive.cd")
def test_the_bias_of_contrastive_divergence():
    """CD-k is not the gradient of the likelihood; it comes nearer with every step, as fast as the chain forgets."""
    n, theta, data = 2, np.log(2) * np.array([1, -1, 1]), np.array([0, 1])
    states, phi, begin = oracle.binary_states(n), features(n), share(n, data)
    truth = slopes(lambda v: oracle.log_likelihood(oracle.pair_potential, states, v, data), theta)
    K = flip_chain(theta, n)
    pi = oracle.stationary(K)
    agree(oracle.mean_feature_gap(begin, pi, phi), truth, atol=1e-14)
    bias = []
    for k in (1, 2, 3, 4):
        found = expected_cd(theta, n, data, k)
        apart(found, truth, by=0.01)
        agree(found - truth, oracle.mean_feature_gap(pi, begin @ np.linalg.matrix_power(K, k), phi), atol=1e-13)
        bias.append(np.abs(found - truth).max())
    assert (np.diff(bias) < 0).all(), bias
    # what the library does at k = 1 … 4, the matrix does for ever
    agree(oracle.mean_feature_gap(begin, begin @ np.linalg.matrix_power(K, 200), phi), truth, atol=1e-12)


@pytest.mark.equation("contrastive.cd")
@given(seeds, st.integers(1, 3))
def test_the_samples_are_constants(seed, k):
    """Langevin steps whose score is on the tape: the loss is that of samples whose dependence on θ is cut off."""
    noise = np.random.default_rng(seed)
    data, z, theta = noise.standard_normal(5), noise.standard_normal((k, 5)), noise.uniform(0.5, 1.5)

    def chain(theta, x, noises):
        for z in noises:
            x = x - 0.3 * theta * x + np.sqrt(0.6) * z
        return x

    def f(theta, x):
        return -0.5 * theta * x**2

    def loss(theta):
        queue = iter(z)

        def transition(x):
            return langevin.step(x, -theta * x, 0.3, up(next(queue)))

        return contrastive.cd(lambda x: f(theta, x), up(data), transition, k).loss

    samples = chain(theta, data, z)
    want = complex_step(lambda v: f(v, samples).mean() - f(v, data).mean(), theta, 1.0)
    agree(descent(loss, theta), -want, rtol=1e-12, atol=1e-12)
    whole = complex_step(lambda v: f(v, chain(v, data, z)).mean() - f(v, data).mean(), theta, 1.0)
    apart(want, whole, by=1e-9)


# --- chains that go on --------------------------------------------------------------------------------------------


@pytest.mark.equation("contrastive.persistent")
@SOME
@given(st.sampled_from([(2, 1), (2, 2), (3, 1)]), seeds)
def test_the_chain_goes_on_where_it_was(size, seed):
    """Two updates with two θ: the second sees samples of begin·K₁ᵏ·K₂ᵏ, wherever the data is."""
    n, k = size
    first, second = powers_of_two(seed, n), powers_of_two(seed + 1, n)
    noise = np.random.default_rng(seed)
    data, begin = noise.integers(0, 2**n, (2, 3))
    states, phi = oracle.binary_states(n), features(n)
    law = share(n, begin)
    chain, walk = all_paths(first, n, begin, k)
    for theta in (first, second):
        if theta is second:  # each of the chains so far, on every path from there
            chain, walk = all_paths(second, n, oracle.place(host(chain)), k)
        law = law @ np.linalg.matrix_power(flip_chain(theta, n), k)

        def update(theta, chain=chain, walk=walk):
            return contrastive.persistent(lambda x: pair_potential(theta, x), up(states[data]), up(chain), walk, k)

        kept = []

        def loss(theta, update=update, kept=kept):
            terms, after = update(theta)
            kept.append(after)
            return terms.loss

        found = descent(loss, theta)
        # means of up to 5000 numbers 0 and 1
        agree(found, oracle.mean_feature_gap(share(n, data), law, phi), atol=1e-12)
        chain = kept[-1]
        agree(share(n, oracle.place(host(chain))), law, atol=1e-12)


@pytest.mark.equation("contrastive.persistent")
def test_persistent_samples_are_constants():
    """The state that is handed on is plain arrays: no update keeps the tape of the one before."""
    data, begin, z, theta = np.array([0.4, -1.0]), np.array([2.0, 1.0, -2.0]), np.array([0.3, -0.4, 1.0]), 0.8

    def f(theta, x):
        return -0.5 * theta * x**2

    def loss(theta):
        def walk(x):
            return langevin.step(x, -theta * x, 0.3, up(z))

        terms, chain = contrastive.persistent(lambda x: f(theta, x), up(data), up(begin), walk, 2)
        assert not isinstance(chain, sg.Tensor)
        assert chain.shape == (3,) and terms.samples.shape == (3,) and terms.loss.shape == (2,)
        return terms.loss

    samples = begin
    for _ in range(2):
        samples = samples - 0.3 * theta * samples + np.sqrt(0.6) * z
    want = complex_step(lambda v: f(v, samples).mean() - f(v, data).mean(), theta, 1.0)
    agree(descent(loss, theta), -want, rtol=1e-13)


@pytest.mark.equation("contrastive.persistent")
def test_many_short_updates_lose_the_bias():
    """θ at rest: after 200 updates of one step the expected gradient is the likelihood's, where CD-1's still is not."""
    n, theta, data = 2, np.log(2) * np.array([1, -1, 1]), np.array([0, 1])
    states, K = oracle.binary_states(n), flip_chain(theta, n)
    truth = slopes(lambda v: oracle.log_likelihood(oracle.pair_potential, states, v, data), theta)
    # chains spread as they are after 199 updates: f is 0, −1, 1, 1 times log 2, so p is 2, 1, 4, 4 in 11
    pi = share(n, data) @ np.linalg.matrix_power(K, 199)
    begin = np.repeat(np.arange(4), np.rint(11 * pi).astype(int))
    agree(share(n, begin), pi, atol=1e-12)
    chain, walk = all_paths(theta, n, begin, 1)

    def loss(theta):
        return contrastive.persistent(lambda x: pair_potential(theta, x), up(states[data]), up(chain), walk, 1)[0].loss

    agree(descent(loss, theta), truth, atol=1e-12)
    apart(expected_cd(theta, n, data, 1), truth, by=0.02)


# --- precision, gradients, misfits --------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_precision(dtype):
    library, f = lifted(contrastive), lowered(lambda x: -(x**2).sum(axis=1))
    data, chain = np.ones((2, 3), dtype), np.zeros((5, 3), dtype)
    shrink = lowered(lambda x: x * x.dtype.type(0.5))
    for found in (
        library.surrogate(f, data, chain), library.surrogate(f, data, chain, np.full(5, 0.2, dtype)),
        library.cd(f, data, shrink, 2), library.persistent(f, data, chain, shrink, 2)[0],
    ):  # fmt: skip
        assert found.loss.dtype == found.data.dtype == found.samples.dtype == dtype
        assert found.loss.shape == (2,)


def test_gradients():
    """To second order in θ: f may curve."""
    noise = np.random.default_rng(4)
    data, samples, w = noise.standard_normal(3), noise.standard_normal(6), noise.dirichlet(np.ones(6))
    for weights in (None, w):
        sg.check_grads(
            lambda theta, weights=weights: contrastive.surrogate(
                lambda x: wave(ops, theta, x), data, samples, weights
            ).loss,
            (np.array([0.7, 1.1, 0.3]),), order=2,
        )  # fmt: skip


def test_misfits_are_refused():
    library, f = lifted(contrastive), lowered(lambda x: -(x**2).sum(axis=1))
    x = np.ones((2, 3))
    for wrong in (lambda x: x, lambda x: x.sum(), lambda x: x[:1, 0]):
        with pytest.raises(ValueError, match=r"f gives .* for x \(2, 3\)"):
            library.surrogate(lowered(wrong), x, x)
    for shape in ((2, 1), (1,), (3,), ()):
        with pytest.raises(ValueError, match=r"weights .* do not fit the samples' \(2,\)"):
            library.surrogate(f, x, x, np.ones(shape))
    for k in (0, -1):
        with pytest.raises(ValueError, match=f"a chain of {k} steps"):
            library.cd(f, x, lambda x: x, k)
