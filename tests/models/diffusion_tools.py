"""Random schedules, injected noise, exact ε, and schedules that have been tampered with."""

import copy
import itertools
import math

import numpy as np
from evidence import agree, lowered
from hypothesis import settings
from hypothesis import strategies as st

from reference import denoisers
from reference import samplers as R
from scratchgen.backend import active, backend_of
from scratchgen.models.diffusion import Schedule

SOME = settings(max_examples=max(10, settings.default.max_examples // 2), deadline=None)
FEW = settings(max_examples=max(5, settings.default.max_examples // 8), deadline=None)

seeds = st.integers(0, 2**32 - 1)
etas = st.one_of(st.just(0.0), st.just(1.0), st.floats(0.01, 0.99), st.just("sigma_hat"))


@st.composite
def betas(draw, least=1, most=8):
    """β_1 … β_T, log-uniform in [10⁻³, 0.7]: 1 − ᾱ then keeps all but 3 of float64's 16 digits."""
    T = draw(st.integers(least, most))
    return np.exp(np.random.default_rng(draw(seeds)).uniform(np.log(1e-3), np.log(0.7), T))


def schedule_of(beta):
    return Schedule(active().asarray(np.asarray(beta, np.float64)))


def normal(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape)


def close(found, expected, rtol=1e-10, atol=1e-10):
    """float64 within 1e-10: 10³ times what is left of it after 1 − ᾱ, see `betas`.  NaN never passes."""
    agree(found, expected, rtol, atol)


def handed_out(zs):
    """A source of noise that hands out the given arrays in turn, on the active backend, and counts."""
    queue = iter(zs)

    def noise(shape):
        noise.calls += 1
        z = active().asarray(next(queue))
        assert z.shape == shape
        return z

    noise.calls = 0
    return noise


def some_eps(T):
    """A smooth stand-in for a network, as the library calls it and as the oracle does."""

    def on_backend(x, t):
        xp = backend_of(x)
        return xp.sin(x * 1.3 + t.astype(x.dtype).reshape((-1,) + (1,) * (x.ndim - 1)) / T)

    return on_backend, lambda x, t: np.sin(np.asarray(x) * 1.3 + t / T)


def gaussian_eps(beta, mean, cov):
    """The exact ε of data N(mean, cov), for the library: it is affine in x_t.  x: (B, d)."""
    found = {}

    @lowered
    def eps_theta(x, t):
        t = int(np.unique(t).item())
        if t not in found:
            ab = R.alpha_bar(beta, t)
            found[t] = denoisers.linear_noise(mean, cov, math.sqrt(ab), math.sqrt(1 - ab))
        E, e = found[t]
        return x @ E.T + e

    return eps_theta


def tampered(schedule, **wrong):
    """A copy of a schedule with some of its rows replaced: the library's own code, with a wrong formula."""
    twin = copy.copy(schedule)
    for name, row in wrong.items():
        setattr(twin, name, active().asarray(row) if isinstance(row, np.ndarray) else row)
    return twin


def alpha_for_alpha_bar(schedule):
    """The slip that DDIM's notation invites."""
    return tampered(schedule, alpha_bar=schedule.alpha)


def one_late(schedule):
    """t − 1 for t, in ᾱ alone."""
    return tampered(schedule, alpha_bar=schedule.alpha_bar_before)


def pairs_of_times(T):
    return [(t, s) for t, s in itertools.product(range(1, T + 1), range(T)) if s < t]
