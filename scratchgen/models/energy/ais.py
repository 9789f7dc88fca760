"""Annealed importance sampling: the constant of a density, by walking there from one whose constant is known.
Neal (2001).

Densities g_0, g_1, …, g_K, none of them normalised, lead in small steps from g_0, which can be sampled and whose volume
Z_0 is known, to g_K = g, whose volume is asked for.  A walker starts from g_0 and is moved, after each change of
density, by a chain that leaves the new one as it is:

    x_1 ~ g_0/Z_0,      x_(k+1) ~ T_k(· | x_k),      g_k·T_k = g_k
    log w = Σ_k log g_k(x_k) − log g_(k−1)(x_k)                                         (1)  ais.weight
    E w = Z/Z_0,        log Z ≈ log Z_0 + log (1/N)·Σ_i w_i                             (2)  ais.log_z

(1) is an importance weight on whole walks, so (2)'s mean is right however fast the annealing and however poor the
chains; only its variance is not.  Of its logarithm no more than E log Z ≤ log Z can be said (Jensen): few, bad walks
give a Z too small, and a likelihood too good to be true.

Everywhere: x (N, …), N walkers side by side; logarithms (N,), in nats.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from math import log
from typing import Any

from scratchgen import ops

LogG = Callable[[Any, float], Any]
"""(x, β) ↦ log g_β(x), (N,): the densities on the way, β = 0 the first and β = 1 the last."""

Step = Callable[[Any, float], Any]
"""(x, β) ↦ x': one step of a chain that leaves g_β as it is."""


def anneal(log_g: LogG, step: Step, x: Any, betas: Sequence[float]) -> tuple[Any, Any]:
    """log w, (N,), eq. (1), and where the walkers end: with the weights w, samples of the last density.

    x: (N, …), drawn from the first density.  betas: of g_0, …, g_K, so K steps.
    Raises ValueError for fewer than two densities, or if log g does not give (N,).
    """
    if len(betas) < 2:
        raise ValueError(f"ais: {len(betas)} densities lead nowhere; give the first and the last at least")
    log_w: Any = 0.0
    for before, beta in pairwise(betas):
        gain = log_g(x, beta) - log_g(x, before)
        if gain.shape != (x.shape[0],):
            raise ValueError(f"ais: log g gives {gain.shape} for x {x.shape}; it should be one number per walker")
        log_w = log_w + gain
        x = step(x, beta)
    return log_w, x


def log_Z(log_w: Any, log_Z0: float) -> Any:
    """The estimate of log Z, eq. (2).  log_w: (N,).  log_Z0: log Z_0.  Returns a number's array, ()."""
    return log_Z0 + ops.logsumexp(log_w, axis=0) - log(log_w.shape[0])
