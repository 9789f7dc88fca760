"""Linear Gaussian hierarchies whose every law is known."""

import math

import numpy as np
from diffusion_tools import schedule_of
from evidence import lifted, lowered
from hypothesis import strategies as st
from latent_tools import (
    kernel,
    noises,
    normal,
    repeated,
    steps_down,
    steps_up,
)

from reference import samplers as R
from scratchgen.models.diffusion import bound as diffusion_bound
from scratchgen.models.latent import hierarchical as hierarchical_module
from scratchgen.models.latent.hierarchical import Hierarchy

H, D = lifted(hierarchical_module), lifted(diffusion_bound)

sizes = st.lists(st.integers(1, 2), min_size=2, max_size=4)  # of x, z_1, …, z_T


class Chain:
    """A hierarchy of affine networks, and one x."""

    def __init__(self, down, up, seed):
        self.down, self.up, self.x = down, up, normal(seed, len(down[0][1]))
        self.model = Hierarchy([kernel(step) for step in up], [kernel(step) for step in down])
        self.sizes = [len(c) for _, c, _ in up]

    def samples(self):
        """z_{1:T} ~ q by the library at nodes of the noise, x as often, and the nodes' weights."""
        eps, weights = noises(*self.sizes)
        x = repeated(self.x, len(weights))
        return x, H.posterior_sample(self.model, x, eps), weights

    def anywhere(self, seed, n=3):
        """x and latents that need not be likely."""
        return repeated(self.x, n), [normal([seed, t], n, d) for t, d in enumerate(self.sizes)]


def chain(seed, sizes):
    return Chain(steps_down([seed, 1], sizes), steps_up([seed, 2], sizes), [seed, 3])


class Diffusion:
    """ε_θ(x, t) = e_t·x + f_t, in the library's diffusion, as a hierarchy, and as an oracle's chain of numbers."""

    def __init__(self, beta, seed, variance):
        self.beta, self.T, self.schedule = beta, len(beta), schedule_of(beta)
        self.e, self.f = 0.5 * normal(seed, 2, self.T + 1)
        self.var = diffusion_bound.reverse_variance(self.schedule, variance)
        mean = lambda x, t: R.mean_from_eps(np.array([x]), self.e[t] * np.array([x]) + self.f[t], t, beta)[0]  # noqa: E731
        self.b = np.array([mean(0.0, t) for t in range(1, self.T + 1)])
        self.a = np.array([mean(1.0, t) for t in range(1, self.T + 1)]) - self.b
        tilde = [R.beta_tilde(beta, t) for t in range(1, self.T + 1)]
        tilde[0] = tilde[min(1, self.T - 1)] or beta[0]
        self.s = np.sqrt(beta if variance == "beta" else tilde)

    def eps(self, x, t):
        t = np.asarray(t) if np.ndim(t) == 0 else np.asarray(t).reshape((-1,) + (1,) * (x.ndim - 1))
        return self.e.astype(x.dtype)[t] * x + self.f.astype(x.dtype)[t]

    def hierarchy(self, like):
        return H.diffusion(self.schedule, lowered(self.eps), self.var, like)

    def steps(self):
        """up and down for the oracle, on one pixel."""
        up = [([[math.sqrt(1 - b)]], [0.0], [b]) for b in self.beta]
        return up, [([[a]], [b], [s**2]) for a, b, s in zip(self.a, self.b, self.s, strict=True)]
