"""A diffusion is denoising score matching with annealed Langevin dynamics: one exact ε_θ, sampled both ways.

In x̃ = x_t/√ᾱ_t a diffusion adds noise of σ̃_t = √((1−ᾱ_t)/ᾱ_t) to the data, and the score there is −ε_θ/σ̃_t.  So the
network of a diffusion is a noise-conditional score network, for the levels σ̃_t; that the losses are the same is in
test_score_denoising.  Densities on the real line are carried through the steps by quadrature: nothing is sampled but
in the last test.
"""

import math

import numpy as np
import pytest
from evidence import agree, apart, at_most, host, lifted, lowered, up
from hypothesis import given
from hypothesis import strategies as st
from sandbox_tools import FEW, Line, by_ancestors, expected, mixtures, on_backend, points, seeds, statistics

from reference import denoisers as E
from reference import samplers as R
from scratchgen.backend import active
from scratchgen.models.diffusion import Schedule, linear, parameterisation
from scratchgen.models.energy import langevin
from scratchgen.random import Generator

# Two components, ten deviations apart: at the lowest level a walk does not cross from one to the other.
FAR = E.Mixture(np.array([0.3, 0.7]), np.array([[-2.0], [2.0]]), np.array([[[0.1]], [[0.2]]]))
SCHEDULE = linear(100, 0.1, 10.0)
LEVELS = np.sqrt(1 / host(SCHEDULE.alpha_bar) - 1)  # σ̃ by t
LINE = Line(-28.0, 28.0, 561)


def network():
    """ε_θ(x_t, t) of the diffusion: all that either sampler gets to see of the data."""
    return lifted(on_backend(FAR).eps_theta(SCHEDULE))


def score_network(eps_theta, t):
    """x̃ ↦ −ε_θ(√ᾱ_t·x̃, t)/σ̃_t."""
    a = 1 / math.sqrt(1 + LEVELS[t] ** 2)
    return lambda x: a * lifted(parameterisation.score_from_eps)(SCHEDULE, eps_theta(a * x, t), t)


def times(L, highest=4.0, lowest=0.3):
    """L times whose levels fall from about 4 to about 0.3 by one ratio."""
    return [int(np.abs(np.log(LEVELS[1:] / level)).argmin()) + 1 for level in np.geomspace(highest, lowest, L)]


@pytest.mark.equation("diffusion.score", "exact.eps", "exact.score", "score.denoiser")
@FEW
@given(mixtures, seeds, st.integers(1, 6))
def test_the_network_of_a_diffusion_is_a_score_network(data, seed, T):
    """−ε_θ/√(1−ᾱ_t) is the score of x_t, and −ε_θ/σ̃_t that of x̃: numeric derivatives of the noised log-density."""
    noise = np.random.default_rng(seed)
    schedule, t = Schedule(active().asarray(noise.uniform(0.05, 0.5, T))), int(noise.integers(1, T + 1))
    ab = R.alpha_bar(host(schedule.beta)[1:], t)
    a, sigma = math.sqrt(ab), math.sqrt(1 - ab)
    x = points(seed, 2, data.means.shape[1])
    eps = lifted(on_backend(data).eps_theta(schedule))(x, t)
    score = lifted(parameterisation.score_from_eps)(schedule, eps, t)
    agree(score, [E.score(p, data, a, sigma) for p in x], 1e-7, 1e-7)
    agree(-eps * a / sigma, [E.score(p / a, data, 1.0, sigma / a) for p in x], 1e-7, 1e-7)
    apart(-eps, [E.score(p, data, a, sigma) for p in x], 1e-4)


def by_langevin(levels, T, start):
    """`statistics` after T steps at each time in `levels`, and what they should be: the data's, blurred by σ̃."""
    eps_theta, sigma = network(), LEVELS[levels]
    alpha = lifted(langevin.annealed_steps)(sigma, 0.5 * sigma[-1] ** 2)
    masses, x = LINE.masses(E.gaussian(0.0, start**2)), LINE.x[:, None]
    for t, a in zip(levels, alpha, strict=True):
        mean = lifted(langevin.step_half)(x, score_network(eps_theta, t)(x), float(a), 0 * x)[:, 0]
        kernel = LINE.kernel(mean, math.sqrt(a))
        for _ in range(T):
            masses = kernel @ masses
    agree(masses.sum(), 1.0, 0, 1e-3)  # a normal of deviation 4 + what the steps add stays within ±28
    blurred = E.noisy(FAR, 1.0, sigma[-1])
    return statistics(blurred, LINE.x, masses), expected(blurred)


@pytest.mark.equation("diffusion.score", "langevin.annealed", "langevin.step_half", "ddpm.step", "exact.eps")
def test_one_model_sampled_both_ways():
    """The share of the left component, 0.3: DDPM's steps bring it to 0.005, annealed Langevin's 10 levels of 40 steps
    to 0.01, halving its error with every doubling of the steps.  400 steps at the lowest level alone leave it wrong by
    more than 0.1: the score there does not know of weights, only the levels above do."""
    ancestral = by_ancestors(FAR, SCHEDULE, network(), Line(-6.0, 6.0, 601))
    agree(ancestral, expected(FAR), 0, 0.02)
    agree(ancestral[0], 0.3, 0, 0.005)
    errors = []
    for T in (10, 20, 40):
        found, wanted = by_langevin(times(10), T, 4.0)
        errors.append(abs(found[0] - wanted[0]))
    at_most(errors[2], 0.01)
    at_most(errors[1], 0.7 * errors[0])
    at_most(errors[2], 0.7 * errors[1])
    agree(wanted[0], 0.3, 0, 1e-9)
    found, _ = by_langevin(times(10)[-1:], 400, 4.0)
    apart(found[0], 0.3, 0.1)


@pytest.mark.equation("langevin.annealed", "exact.eps")
def test_samples_by_annealed_langevin():
    """The sampler itself, n = 2000, 10 levels of 40 steps: 0.3 within 5.3 deviations (0.054) and the bias, 0.01."""
    eps_theta, chosen = network(), times(10)
    by_level = {float(LEVELS[t]): score_network(eps_theta, t) for t in chosen}
    rng = Generator(5)
    x = 4 * rng.standard_normal((2000, 1), "float64")
    sigma = up(LEVELS[chosen])
    noise = lambda shape: rng.standard_normal(shape, "float64")  # noqa: E731
    score = lambda x, s: lowered(by_level[s])(x)  # noqa: E731
    (*_, end) = langevin.annealed(score, x, sigma, float(0.5 * LEVELS[chosen[-1]] ** 2), 40, noise)
    share = np.mean(E.responsibilities(E.noisy(FAR, 1.0, LEVELS[chosen[-1]]), host(end))[0])
    agree(share, 0.3, 0, 5.3 * math.sqrt(0.3 * 0.7 / 2000) + 0.01)
