"""Noise, score, clean image and velocity against one another where all are exact: on mixtures of Gaussians.

The oracles get there by three routes: the score by differences of the log-density, the noise and the clean image by
conditioning two joint Gaussians.
"""

import math

import numpy as np
import pytest
from diffusion_tools import FEW, SOME, alpha_for_alpha_bar, betas, close, normal, one_late, schedule_of, seeds
from evidence import agree, apart, lifted
from hypothesis import given
from hypothesis import strategies as st

import scratchgen as sg
from reference import denoisers
from reference import diffusion as chain
from reference.derivatives import directional
from scratchgen.models import diffusion
from scratchgen.models.diffusion import parameterisation as on_backend

made, process = lifted(on_backend), lifted(diffusion.process)

MAPS = {  # each as a function of two arrays like x
    "score_from_eps": lambda s, a, b, t: on_backend.score_from_eps(s, a, t),
    "eps_from_score": lambda s, a, b, t: on_backend.eps_from_score(s, a, t),
    "x0_from_score": on_backend.x0_from_score,
    "velocity": on_backend.velocity,
    "x0_from_v": on_backend.x0_from_v,
    "eps_from_v": on_backend.eps_from_v,
}


class Mixed:
    """Three Gaussians in the plane, a point x_t of the noisy mixture, and what is exactly known there."""

    def __init__(self, beta, seed, t):
        rng = np.random.default_rng(seed)
        roots = rng.uniform(-0.5, 0.5, (3, 2, 2))
        data = denoisers.Mixture(
            rng.dirichlet(np.ones(3) * 3), rng.uniform(-1.5, 1.5, (3, 2)),
            roots @ roots.transpose(0, 2, 1) + 0.1 * np.eye(2),
        )  # fmt: skip
        means, covs = chain.forward_chain(beta, [1.0])  # what t kernels leave of x_0, and the noise they add
        self.a, self.sigma = means[t, 0], math.sqrt(covs[t, 0, 0])
        self.xt = rng.uniform(-1.5, 1.5, (2, 2))
        exact = lambda f: np.stack([f(x, data, self.a, self.sigma) for x in self.xt])  # noqa: E731
        self.eps, self.x0, self.score = exact(denoisers.noise), exact(denoisers.denoiser), exact(denoisers.score)


@pytest.mark.equation("diffusion.score")
@FEW
@given(betas(most=5), seeds, st.data())
def test_the_score_of_a_mixture(beta, seed, data):
    """The differences are good to about 1e-10 of the log-density's own curvature, at most 1/σ² = 10³."""
    t = data.draw(st.integers(1, len(beta)))
    exact, schedule = Mixed(beta, seed, t), schedule_of(beta)
    agree(made.score_from_eps(schedule, exact.eps, t), exact.score, 1e-7, 1e-6)
    agree(made.eps_from_score(schedule, exact.score, t), exact.eps, 1e-7, 1e-6)


@pytest.mark.equation("diffusion.tweedie")
@FEW
@given(betas(most=5), seeds, st.data())
def test_tweedie_on_a_mixture(beta, seed, data):
    t = data.draw(st.integers(1, len(beta)))
    exact, schedule = Mixed(beta, seed, t), schedule_of(beta)
    agree(made.x0_from_score(schedule, exact.xt, exact.score, t), exact.x0, 1e-7, 1e-6)


@pytest.mark.equation("diffusion.v", "diffusion.from_v")
@FEW
@given(betas(most=5), seeds, st.data())
def test_velocity_on_a_mixture(beta, seed, data):
    """The best guess of v is the one that the best guesses of x_0 and ε make, and it gives both back."""
    t = data.draw(st.integers(1, len(beta)))
    exact, schedule = Mixed(beta, seed, t), schedule_of(beta)
    v = made.velocity(schedule, exact.x0, exact.eps, t)
    close(v, exact.a * exact.eps - exact.sigma * exact.x0)
    close(made.x0_from_v(schedule, exact.xt, v, t), exact.x0)
    close(made.eps_from_v(schedule, exact.xt, v, t), exact.eps)


@pytest.mark.equation("diffusion.score")
@SOME
@given(betas(), seeds)
def test_the_score_of_one_known_image(beta, seed):
    """∇ log q(x_t | x_0), by conditioning: minus the precision of the composed kernels times what ε moved."""
    schedule = schedule_of(beta)
    x0, eps = normal(seed, 2, 1, 3)
    _, covs = chain.forward_chain(beta, x0[0])
    for t in range(1, len(beta) + 1):
        moved = np.linalg.cholesky(covs[t]) @ eps[0]
        close(made.score_from_eps(schedule, eps, t)[0], -np.linalg.solve(covs[t], moved))
        close(made.eps_from_score(schedule, -np.linalg.solve(covs[t], moved)[None], t), eps)


@pytest.mark.equation("diffusion.v")
@SOME
@given(betas(), seeds)
def test_velocity_is_the_derivative_by_the_angle(beta, seed):
    """x_t = cos φ·x_0 + sin φ·ε, differentiated by φ at the angle that t kernels have turned it by."""
    schedule = schedule_of(beta)
    x0, eps = normal(seed, 2, 2, 3)
    means, covs = chain.forward_chain(beta, [1.0])
    for t in range(1, len(beta) + 1):
        phi = math.atan2(math.sqrt(covs[t].item()), means[t].item())
        slope = directional(lambda phi: np.cos(phi) * x0 + np.sin(phi) * eps, phi, 1.0)
        close(made.velocity(schedule, x0, eps, t), slope, 1e-9, 1e-9)  # the differences' own error is 1e-11


@pytest.mark.equation("diffusion.from_v", "diffusion.tweedie")
@SOME
@given(betas(), seeds)
def test_all_of_them_imply_each_other(beta, seed):
    """From x_0 and ε to x_t, to s and v, and back."""
    schedule = schedule_of(beta)
    x0, eps = normal(seed, 2, 2, 3)
    for t in range(1, len(beta) + 1):
        xt, v = process.q_sample(schedule, x0, t, eps), made.velocity(schedule, x0, eps, t)
        score = made.score_from_eps(schedule, eps, t)
        close(made.x0_from_score(schedule, xt, score, t), x0)
        close(made.x0_from_score(schedule, xt, score, t), process.predict_x0(schedule, xt, eps, t))
        close(made.x0_from_v(schedule, xt, v, t), x0)
        close(made.eps_from_v(schedule, xt, v, t), eps)


@pytest.mark.equation("diffusion.from_v")
@SOME
@given(betas(), seeds)
def test_velocity_turns_without_stretching(beta, seed):
    """(x_0, ε) → (x_t, v) is a rotation: lengths are kept, and its matrix has determinant 1."""
    schedule = schedule_of(beta)
    xt, v = normal(seed, 2, 2, 3)
    for t in range(1, len(beta) + 1):
        x0, eps = made.x0_from_v(schedule, xt, v, t), made.eps_from_v(schedule, xt, v, t)
        close(x0**2 + eps**2, xt**2 + v**2)
        one, zero = np.ones((1, 1)), np.zeros((1, 1))
        matrix = [[f(schedule, *pair, t).item() for pair in ((one, zero), (zero, one))]
                  for f in (made.x0_from_v, made.eps_from_v)]  # fmt: skip
        close(np.linalg.det(matrix), 1.0)


@pytest.mark.equation("diffusion.score", "diffusion.tweedie", "diffusion.v", "diffusion.from_v")
@pytest.mark.parametrize("name", MAPS)
def test_times_precision_and_gradients(name, xp):
    """A batch with its own times is its examples one by one; float32 is kept; gradients of both orders."""
    beta, t = np.linspace(0.05, 0.6, 7), np.array([7, 1, 3])
    schedule = schedule_of(beta)
    a, b = normal(1, 2, 3, 2, 2)
    f = lifted(lambda a, b, t: MAPS[name](schedule, a, b, t))
    together = f(a, b, t)
    for i, time in enumerate(t):
        agree(together[i : i + 1], f(a[i : i + 1], b[i : i + 1], int(time)), 1e-15)
    narrow = f(a.astype(np.float32), b.astype(np.float32), t)
    assert narrow.dtype == np.float32
    agree(narrow, together, 0, 4e-6 * max(1.0, np.abs(together).max()))  # four roundings of float32
    with sg.backend("numpy"):
        schedule = schedule_of(beta)
        sg.check_grads(lambda a, b: MAPS[name](schedule, a, b, t), (a, b), order=2)


def test_wrong_schedules_would_be_seen():
    """Negative controls: ᾱ for α, and t − 1 for t, in every map."""
    schedule = schedule_of(np.array([0.1, 0.2, 0.15, 0.3]))
    a, b = normal(2, 2, 2, 3)
    for slip in (alpha_for_alpha_bar, one_late):
        for f in MAPS.values():
            f = lifted(f)
            apart(f(slip(schedule), a, b, 3), f(schedule, a, b, 3), 1e-2)
