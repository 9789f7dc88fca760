"""Langevin steps against the Ornstein–Uhlenbeck process and Lyapunov's equation; MALA's flows on a grid."""

import evidence
import numpy as np
import pytest
from evidence import agree, apart, at_most, lifted, lowered
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

import scratchgen as sg
from reference import gaussian, mcmc
from reference import langevin as oracle
from scratchgen.backend import active
from scratchgen.models.energy import langevin, metropolis
from scratchgen.random import Generator

library, chains = lifted(langevin), lifted(metropolis)
SOME = settings(max_examples=max(10, settings.default.max_examples // 2), deadline=None)
seeds = st.integers(0, 2**32 - 1)
dimensions = st.integers(1, 3)


def numbers(low, high):
    return st.floats(low, high, allow_subnormal=False)


def normal(seed, d):
    """A Gaussian (mean, cov) with eigenvalues in [0.3, 2]: condition numbers below 10."""
    noise = np.random.default_rng(seed)
    turn = np.linalg.qr(noise.standard_normal((d, d)))[0]
    return noise.uniform(-2, 2, d), turn * noise.uniform(0.3, 2, d) @ turn.T


def score_of(mean, cov):
    """s(x) of N(mean, cov) for x (B, d)."""
    return lambda x: np.linalg.solve(cov, (mean - x).T).T


def matrices(step, score, d, epsilon):
    """A, b, G of the library's step as a map x ← A x + b + G z, found by probing it."""
    def along_x(x):
        return step(x[None], score(x[None]), epsilon, np.zeros((1, d)))[0]

    def along_z(z):
        return step(np.zeros((1, d)), np.zeros((1, d)), epsilon, z[None])[0]

    A, b = gaussian.affine_map(along_x, d)
    G, _ = gaussian.affine_map(along_z, d)
    return A, b, G


STEPS = {"step": 1.0, "step_half": 0.5}
"""How much time of dx = ∇log p dt + √2 dw each convention's ε stands for."""


# --- unadjusted steps ---------------------------------------------------------------------------------------------


def check_tangent(name, seed, d, epsilon):
    mean, cov = normal(seed, d)
    A, b, G = matrices(getattr(library, name), score_of(mean, cov), d, epsilon)
    for x in np.random.default_rng(seed).uniform(-3, 3, (3, d)):
        at, spread = oracle.tangent_step(mean, cov, x, STEPS[name] * epsilon)
        # both solve with a covariance of condition number 10, a few roundings each
        agree(A @ x + b, at, rtol=1e-12, atol=1e-12)
        agree(G @ G.T, spread, rtol=1e-12, atol=1e-12)
        apart(A @ x + b, 2 * x - at, by=1e-6)  # downhill


@pytest.mark.equation("langevin.step")
@given(seeds, dimensions, numbers(0.01, 0.5))
def test_a_step_is_the_tangent_of_the_process(seed, d, epsilon):
    check_tangent("step", seed, d, epsilon)


@pytest.mark.equation("langevin.step_half")
@given(seeds, dimensions, numbers(0.01, 0.5))
def test_a_half_step_is_the_tangent_of_the_process_in_half_the_time(seed, d, epsilon):
    check_tangent("step_half", seed, d, epsilon)


@pytest.mark.equation("langevin.step", "langevin.step_half")
@given(seeds, numbers(0.01, 2))
def test_the_conventions_are_one_with_epsilon_halved(seed, epsilon):
    x, s, z = np.random.default_rng(seed).standard_normal((3, 4, 2, 3))
    agree(library.step_half(x, s, epsilon, z), library.step(x, s, epsilon / 2, z), rtol=1e-15, atol=1e-15)
    apart(library.step_half(x, s, epsilon, z), library.step(x, s, epsilon, z), by=1e-3)


def settled(step, mean, cov, epsilon):
    """The covariance in which the library's own step comes to rest, by Lyapunov's equation."""
    A, _, G = matrices(step, score_of(mean, cov), len(mean), epsilon)
    return oracle.stationary_covariance(A, G @ G.T)


@pytest.mark.equation("langevin.stationary", "langevin.step", "langevin.step_half")
@given(seeds, dimensions, numbers(0.01, 0.3))
def test_where_the_walk_comes_to_rest(seed, d, epsilon):
    """Along each axis of the covariance the biased variance, in both conventions; ε < 2σ² for every axis."""
    mean, cov = normal(seed, d)
    var, axes = np.linalg.eigh(cov)
    for name, share in STEPS.items():
        want = axes * library.stationary(var, share * epsilon) @ axes.T
        # |1 − ε/σ²| ≤ 0.995, so Lyapunov's equation loses two digits, the eigenvectors one
        agree(settled(getattr(library, name), mean, cov, epsilon), want, rtol=1e-11, atol=1e-11)
        apart(want, cov, by=1e-4)


@pytest.mark.equation("langevin.stationary")
@given(numbers(0.05, 4), numbers(0.01, 0.99))
def test_the_bias_by_lyapunovs_equation(var, share):
    """From steps that are short to steps at which the walk nearly flies apart; no step of the library in it."""
    epsilon = 2 * var * share
    A, _ = gaussian.affine_map(lambda x: oracle.tangent_step([0.0], [[var]], x, epsilon)[0], 1)
    _, noise = oracle.tangent_step([0.0], [[var]], [0.0], epsilon)
    want = oracle.stationary_covariance(A, noise)[0, 0]
    # 1 − A² is as small as 0.04: two digits
    agree(library.stationary(np.array([var]), epsilon), [want], rtol=1e-12)
    agree(library.stationary(var, epsilon), want, rtol=1e-12)
    assert library.stationary(var, epsilon) > var


@pytest.mark.equation("langevin.stationary")
def test_a_short_step_adds_half_of_itself():
    """v − σ² → ε/2, whatever σ² is, and the walk is exact in the limit."""
    var = np.array([0.5, 1.0, 7.0])
    for epsilon in (1e-4, 1e-5):
        # the next term of the series is ε²/4σ²
        agree((library.stationary(var, epsilon) - var) / epsilon, [0.5] * 3, atol=epsilon)


@pytest.mark.equation("langevin.step", "langevin.step_half")
def test_mixed_conventions_sample_another_variance():
    """The drift of one convention with the noise of the other: half of σ², or twice as much, however short the step."""
    mean, cov = normal(8, 2)
    score, epsilon, still = score_of(mean, cov), 1e-3, np.zeros((1, 2))

    def wrong(x, s, epsilon, z):
        return library.step(x, s, epsilon, still) + library.step_half(still, still, epsilon, z)

    def wrong_too(x, s, epsilon, z):
        return library.step_half(x, s, epsilon, still) + library.step(still, still, epsilon, z)

    for step, factor in ((library.step, 1), (library.step_half, 1), (wrong, 0.5), (wrong_too, 2)):
        A, _, G = matrices(step, score, 2, epsilon)
        agree(oracle.stationary_covariance(A, G @ G.T), factor * cov, atol=3 * epsilon)
    apart(settled(wrong, mean, cov, epsilon), cov, by=0.1)
    apart(settled(wrong_too, mean, cov, epsilon), cov, by=0.1)


@pytest.mark.equation("langevin.step", "langevin.stationary")
def test_measured():
    """20 000 walks of 40 steps, ε = ½ on N(0, 1): v = 4/3, and the start weighs 2⁻⁸⁰."""
    n, epsilon, rng = 20_000, 0.5, Generator(17)
    x = active().zeros((n, 1), "float64")
    for _ in range(40):
        x = langevin.step(x, -x, epsilon, rng.standard_normal(x.shape, "float64"))
    mean_square = float((evidence.host(x) ** 2).mean())
    v = float(library.stationary(np.ones(1), epsilon)[0])
    # n·mean/v is χ²_n: its upper tail weighs 0.5e-7 there, the lower one less
    far = stats.chi2(n).ppf(1 - 0.5e-7) / n - 1
    at_most(abs(mean_square / v - 1), far)
    for wrong in (1.0, langevin.stationary(1.0, epsilon / 2)):  # σ² itself; the other convention
        assert abs(mean_square / wrong - 1) > far


# --- MALA ---------------------------------------------------------------------------------------------------------

MIXTURES = {
    "one": ([1.0], [0.3], [0.8]),
    "two": ([0.3, 0.7], [-1.0, 1.2], [0.3, 0.5]),
}


def mala_flow(mixture, epsilon, grid):
    """π(x)q(x'|x) on grid × grid, and the library's acceptance there."""
    log_p = oracle.mixture_log_density(*mixture)
    i, j = (k.ravel() for k in np.indices((len(grid), len(grid))))
    x, new = grid[i], grid[j]
    z = (new - x - epsilon * oracle.slope(log_p, x)) / np.sqrt(2 * epsilon)  # the noise that leads to x'
    on_column = lowered(lambda x: log_p(x[:, 0]) + 3)
    score = lowered(lambda x: oracle.slope(log_p, x))
    state = chains.start(on_column, x[:, None])

    def accepts(u):
        return library.mala(on_column, score, state, epsilon, z[:, None], u).accepted

    a = mcmc.threshold(accepts, len(i)).reshape(len(grid), -1)
    flow = np.exp(log_p(x)) * oracle.proposal_density(log_p, new, x, epsilon)
    return flow.reshape(a.shape), a


@pytest.mark.equation("langevin.mala")
@pytest.mark.parametrize("epsilon", [0.05, 0.6, 2.5])
@pytest.mark.parametrize("mixture", MIXTURES)
def test_mala_is_in_balance(mixture, epsilon):
    """On all pairs of a grid as much flows from x to x' as back, and no acceptance could be larger."""
    flow, a = mala_flow(MIXTURES[mixture], epsilon, np.linspace(-2.5, 2.8, 12))
    # log-densities down to −200 keep 13 digits; a below 1e-3 of its scale 1 still has 15 from the bisection
    agree(mcmc.net_flow(flow * a) / flow.max(), np.zeros_like(flow), atol=1e-13)
    agree(np.maximum(a, a.T), np.ones_like(a), atol=1e-12)
    apart(mcmc.net_flow(flow), np.zeros_like(flow), by=1e-4 * flow.max())   # the walk without refusals


@pytest.mark.equation("langevin.mala")
@SOME
@given(seeds, dimensions, numbers(0.05, 1))
def test_mala_in_several_dimensions(seed, d, epsilon):
    """Five points, all pairs: the acceptance is the largest in balance, by the linear programme of a finite chain."""
    mean, cov = normal(seed, d)
    score, p = score_of(mean, cov), stats.multivariate_normal(mean, cov)
    points = mean + 0.8 * np.random.default_rng(seed).standard_normal((5, d))
    q = np.array([stats.multivariate_normal(*oracle.tangent_step(mean, cov, x, epsilon)).pdf(points) for x in points])
    i, j = (k.ravel() for k in np.indices((5, 5)))
    log_p = lowered(lambda x: p.logpdf(x).reshape(len(x)))
    state = chains.start(log_p, points[i])
    z = (points[j] - points[i] - epsilon * score(points[i])) / np.sqrt(2 * epsilon)
    a = mcmc.threshold(
        lambda u: library.mala(log_p, lowered(score), state, epsilon, z, u).accepted, len(i)
    ).reshape(5, 5)
    np.fill_diagonal(a, 1)  # x' = x but for rounding
    # densities of exponents up to 100 keep 13 digits; the programme subtracts within 1
    agree(a, mcmc.acceptance(p.pdf(points), q), atol=1e-10)


@pytest.mark.equation("langevin.mala")
@given(seeds, st.sampled_from([(1,), (2,), (2, 1)]), numbers(0.05, 1))
def test_mala_proposes_a_langevin_step(seed, event, epsilon):
    noise = np.random.default_rng(seed)
    x, z = noise.standard_normal((2, 6, *event))
    u = noise.uniform(0, 1, 6)
    log_p, score = lowered(lambda x: -(x**4).reshape(6, -1).sum(axis=1) / 4), lowered(lambda x: -(x**3))
    state = chains.start(log_p, x)
    found = library.mala(log_p, score, state, epsilon, z, u)
    new = library.step(x, -(x**3), epsilon, z)
    taken = found.accepted.reshape((6,) + (1,) * len(event))
    agree(found.x, np.where(taken, new, x))
    agree(found.log_p, -(found.x**4).reshape(6, -1).sum(axis=1) / 4, rtol=1e-14)


@pytest.mark.equation("langevin.mala")
@given(seeds, dimensions, numbers(0.05, 1))
def test_the_density_of_a_proposal(seed, d, epsilon):
    mean, cov = normal(seed, d)
    x, new = np.random.default_rng(seed).uniform(-2, 2, (2, 3, d))
    found = library.log_proposal(new, x, score_of(mean, cov)(x), epsilon)
    want = [stats.multivariate_normal(*oracle.tangent_step(mean, cov, a, epsilon)).logpdf(b)
            for a, b in zip(x, new, strict=True)]
    # the squared distance over 4ε, up to 1000, from a mean with 13 digits
    agree(found, want, rtol=1e-11, atol=1e-11)


# --- noise levels -------------------------------------------------------------------------------------------------


@pytest.mark.equation("langevin.annealed")
@given(st.lists(numbers(0.05, 5), min_size=1, max_size=4), numbers(1e-4, 0.1))
def test_every_level_has_the_same_signal_to_noise(levels, epsilon):
    sigma = np.sort(np.array(levels))[::-1]
    found = library.annealed_steps(sigma, epsilon)
    # the root finder's relative tolerance
    agree(found, oracle.balanced_steps(sigma, epsilon), rtol=1e-12)
    agree(found[-1], epsilon)


@pytest.mark.equation("langevin.annealed")
@given(seeds, numbers(0.01, 0.3))
def test_the_annealed_walk_as_one_affine_map(seed, epsilon):
    """On a Gaussian, level by level: its law by plain recursion of mean and covariance, from steps of the process."""
    mean, var = [v[0] for v in normal(seed, 1)]
    sigma, T = np.array([1.5, 0.8, 0.5]), 2
    alpha = oracle.balanced_steps(sigma, epsilon)

    def walk(noises):
        """x after all steps, from x_0 and one z per step, all in one row."""
        queue = iter(noises[1:])
        score = lowered(lambda x, level: (mean - x) / (var + level**2))
        noise = lowered(lambda shape: np.full(shape, next(queue)))
        *_, last = library.annealed(score, noises[:1, None], sigma, epsilon, T, noise)
        assert next(queue, None) is None
        return last[0]

    A, b = gaussian.affine_map(walk, 1 + T * len(sigma))
    steps = []
    for level, a in zip(sigma, alpha, strict=True):
        at = [mean], var + np.array([[level**2]])
        F, c = gaussian.affine_map(lambda x, at=at, a=a: oracle.tangent_step(*at, x, a / 2)[0], 1)
        steps += T * [(F, c, oracle.tangent_step(*at, [0.0], a / 2)[1])]
    means, covs = gaussian.moments([0.0], [[1.0]], steps)
    agree(b, means[-1], rtol=1e-12, atol=1e-12)
    agree(A @ A.T, covs[-1], rtol=1e-12, atol=1e-12)


# --- precision, gradients, misfits --------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_precision(dtype):
    x, s, z = np.random.default_rng(0).standard_normal((3, 4, 2)).astype(dtype)
    log_p, score = lowered(lambda x: -(x**2).sum(axis=1) / 2), lowered(lambda x: -x)
    for step in (library.step, library.step_half):
        assert step(x, s, 0.1, z).dtype == dtype
        agree(step(x, s, 0.1, z), step(*[v.astype(float) for v in (x, s)], 0.1, z.astype(float)), atol=1e-6)
    found = library.mala(log_p, score, chains.start(log_p, x), 0.1, z, np.full(4, 0.5, dtype))
    assert found.x.dtype == found.log_p.dtype == dtype
    assert library.stationary(np.ones(2, dtype), 0.1).dtype == dtype
    assert library.annealed_steps(np.array([2, 1], dtype), 0.1).dtype == dtype
    *_, last = library.annealed(lowered(lambda x, _: -x), x, np.array([2.0, 1.0]), 0.1, 1, lowered(lambda _: z))
    assert last.dtype == dtype


def test_gradients():
    x, s, z = np.random.default_rng(1).standard_normal((3, 2, 3))
    for step in (langevin.step, langevin.step_half):
        sg.check_grads(lambda x, s, z, step=step: step(x, s, 0.3, z), (x, s, z), order=2)
    sg.check_grads(lambda new, x, s: langevin.log_proposal(new, x, s, 0.3), (z, x, s), order=2)
    sg.check_grads(lambda var: langevin.stationary(var, 0.3), (np.array([0.5, 2.0]),), order=2)
    sg.check_grads(lambda sigma: langevin.annealed_steps(sigma, 0.3), (np.array([2.0, 0.7]),), order=2)


def test_misfits_are_refused():
    x = np.zeros((3, 2))
    with pytest.raises(ValueError, match=r"langevin.step: score \(3, 1\) should have the shape of x, \(3, 2\)"):
        library.step(x, x[:, :1], 0.1, x)
    with pytest.raises(ValueError, match=r"langevin.step_half: z \(3,\) should have the shape of x, \(3, 2\)"):
        library.step_half(x, x, 0.1, x[:, 0])
    log_p = lowered(lambda x: -(x**2).sum(axis=1))
    with pytest.raises(ValueError, match=r"u \(3, 1\)"):
        library.mala(log_p, lowered(lambda x: -x), chains.start(log_p, x), 0.1, x, x[:, :1])
    for step in (library.step, library.step_half):
        np.testing.assert_array_equal(step(x, x + 1, 0.0, x + 2), x)  # 0 is a step of no length
    for epsilon in (0.0, -1.0, 1.0, 1.5, np.nan):
        with pytest.raises(ValueError, match="is not between 0 and 2σ² = 1.0"):
            library.stationary(np.array([2.0, 0.5]), epsilon)
    for shape in ((2, 1), (), (0,)):
        with pytest.raises(ValueError, match="sigma .* should be one row"):
            library.annealed_steps(np.ones(shape), 0.1)
    for epsilon in (-0.1, np.nan):
        for step in (library.step, library.step_half):
            with pytest.raises(ValueError, match=rf"langevin.step(_half)?: epsilon = {epsilon} should be 0 or more"):
                step(x, x, epsilon, x)
        with pytest.raises(ValueError, match=f"langevin.step: epsilon = {epsilon}"):
            library.mala(log_p, lowered(lambda x: -x), chains.start(log_p, x), epsilon, x, x[:, 0])
    for epsilon in (0.0, -0.1, np.nan):
        with pytest.raises(ValueError, match=f"langevin.log_proposal: epsilon = {epsilon} should be positive"):
            library.log_proposal(x, x, x, epsilon)
    with pytest.raises(ValueError, match=r"langevin.step_half: epsilon = -0.4"):
        next(library.annealed(lowered(lambda x, s: x), x, np.array([2.0, 1.0]), -0.1, 1, lowered(np.zeros)))
