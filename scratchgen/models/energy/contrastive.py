"""Maximum likelihood for an energy model, and contrastive divergence.  Hinton (2002); Tieleman (2008).

    p(x) = e^f(x)/Z,  f with parameters θ; the energy is E = −f

    ∇ log p(x) = ∇f(x) − E_p ∇f                                              (1)  contrastive.likelihood_gradient
    CD-k:        x⁻ = k steps of a chain from the data x,  instead of x⁻ ~ p (2)  contrastive.cd
    persistent:  x⁻ = k steps from where the chains of the last update ended (3)  contrastive.persistent

(1) because ∇log Z = ∫e^f ∇f dx / Z.  Up at the data, down where the model puts its own samples.  The code returns a
loss whose gradient is −(1): mean f(x⁻) − f(x), with x⁻ held constant.  Its value is no likelihood, and need not fall.

A chain that leaves p as it is, and forgets where it began, makes (2) exact as k → ∞.  After k steps it is biased: it
has only seen the data's neighbourhood.  And the gradient of CD-k leaves out that x⁻ itself depends on θ.

Everywhere: f maps x (N, …) to (N,), its parameters are tensors from outside; a transition maps x to x of the same
shape, and draws its own noise: a step of `metropolis` or `langevin` for the present θ, or of Gibbs sampling.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from scratchgen import ops
from scratchgen.autograd import stop_gradient

Potential = Callable[[Any], Any]
"""f = −E: x (N, …) ↦ (N,)."""

Transition = Callable[[Any], Any]
"""One step of a Markov chain that leaves p ∝ e^f as it is: x ↦ x'."""


class Contrast(NamedTuple):
    """The loss per example, (B,), and what it is made of: f at the data, (B,), and at the samples, (N,)."""

    loss: Any
    data: Any
    samples: Any


def surrogate(f: Potential, data: Any, samples: Any, weights: Any = None) -> Contrast:
    """mean f(x⁻) − f(x), whose gradient in θ is −∇ log p(x), eq. (1), when the samples x⁻ come from p.

    data: (B, …).  samples: (N, …), constants here.  weights: (N,), of sum 1, constants; None: 1/N.
    Raises ValueError if f does not give one number per example, or the weights do not fit.
    """
    at_data, at_samples = _values(f, data), _values(f, stop_gradient(samples))
    if weights is None:
        return Contrast(ops.mean(at_samples) - at_data, at_data, at_samples)
    if weights.shape != at_samples.shape:
        raise ValueError(f"contrastive: weights {weights.shape} do not fit the samples' {at_samples.shape}")
    return Contrast(ops.sum(stop_gradient(weights) * at_samples) - at_data, at_data, at_samples)


def run(transition: Transition, x: Any, k: int) -> Any:
    """x after k steps: plain arrays, with no memory of θ.  Raises ValueError for k < 1."""
    if k < 1:
        raise ValueError(f"contrastive: a chain of {k} steps; at least 1 is needed")
    x = stop_gradient(x)
    for _ in range(k):
        x = stop_gradient(transition(x))
    return x


def cd(f: Potential, data: Any, transition: Transition, k: int) -> Contrast:
    """CD-k, eq. (2): the surrogate with samples from k steps that start at the data."""
    return surrogate(f, data, run(transition, data, k))


def persistent(f: Potential, data: Any, chain: Any, transition: Transition, k: int) -> tuple[Contrast, Any]:
    """Persistent CD, eq. (3): the surrogate with the chains' new state, and that state for the next update.

    chain: (N, …), what the last call returned; to begin with, any points where p > 0.
    """
    chain = run(transition, chain, k)
    return surrogate(f, data, chain), chain


def _values(f: Potential, x: Any) -> Any:
    found = f(x)
    if found.shape != (x.shape[0],):
        raise ValueError(f"contrastive: f gives {found.shape} for x {x.shape}; it should be one number per example")
    return found
