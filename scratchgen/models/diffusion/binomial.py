"""Diffusion of binary data.  Sohl-Dickstein, Weiss, Maheswaranathan & Ganguli (2015), App. B.

In each step a bit is replaced by a fair coin with probability β_t, until nothing but coins is left.

    q(x_t = 1 | x_{t−1}) = x_{t−1}·(1−β_t) + ½·β_t                                      (1)  binomial.forward_step
    q(x_t = 1 | x_0)     = ᾱ_t·x_0 + ½·(1−ᾱ_t)                                          (2)  binomial.forward
    q(x_{t−1} | x_t, x_0) ∝ q(x_t | x_{t−1})·q(x_{t−1} | x_0),    t ≥ 2                 (3)  binomial.posterior
    log p(x_0) ≥ −E[ L_T + Σ_{t=2}^T L_{t−1} + L_0 ]                                    (4)  binomial.elbo
        L_T = KL( q(x_T | x_0) ‖ coins ),  L_{t−1} = KL( q(x_{t−1} | x_t, x_0) ‖ p_θ(x_{t−1} | x_t) ),
        L_0 = −log p_θ(x_0 | x_1),  E over bits x_1 … x_T drawn from q given x_0
    x_{t−1} ~ p_θ(x_{t−1} | x_t),  x_T: fair coins                                      (5)  binomial.sample

The network sees x_t and t, and gives the logits of p_θ(x_{t−1} | x_t), a coin for every bit.  `Schedule` is the
Gaussian diffusion's: ᾱ_t is now the probability that a bit has never been replaced.

Distributions are given as logits, log q(1)/q(0), as in `distributions.bernoulli`.  The coins being fair, those of (1)
and (2) are ±log((1 + k)/(1 − k)), k = α_t or ᾱ_t the probability of being kept: + where the bit was 1, − where it was
0.  (1) as a function of x_{t−1} is symmetric in its two bits, so in logits the product of (3) is a sum.

Everywhere: x (B, …) of 0s and 1s in a float dtype, t plain integers (B,) in 1 … T (or one integer for all).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from scratchgen import ops
from scratchgen.distributions import bernoulli
from scratchgen.models.diffusion.bound import Bound, bound
from scratchgen.models.diffusion.process import times
from scratchgen.models.diffusion.schedule import Schedule

LogitsTheta = Callable[[Any, Any], Any]
"""The logits of p_θ(x_{t−1} | x_t): x_t (B, …), t plain integers (B,); returns x_t's shape."""


def _coin(x: Any, kept: Any) -> Any:
    """Logits of kept·x + ½·(1 − kept)."""
    return (2 * x - 1) * ops.log((1 + kept) / (1 - kept)).astype(x.dtype)


def q_step(schedule: Schedule, x_before: Any, t: Any) -> Any:
    """Logits of q(x_t | x_{t−1}), eq. (1)."""
    return _coin(x_before, schedule.at(t, x_before).alpha)


def q_marginal(schedule: Schedule, x0: Any, t: Any) -> Any:
    """Logits of q(x_t | x_0), eq. (2)."""
    return _coin(x0, schedule.at(t, x0).alpha_bar)


def posterior(schedule: Schedule, x0: Any, xt: Any, t: Any) -> Any:
    """Logits of q(x_{t−1} | x_t, x_0), eq. (3), for t ≥ 2.  Raises ValueError if a t is 1, where it is x_0 itself."""
    if t < 2 if isinstance(t, int) else (t < 2).any():
        least = t if isinstance(t, int) else int(t.min())
        raise ValueError(f"binomial.posterior: t = {least} should be at least 2; x_0 is known, and has no logits")
    c = schedule.at(t, xt)
    return _coin(x0, c.alpha_bar_before) + _coin(xt, c.alpha)


def prior_term(schedule: Schedule, x0: Any) -> Any:
    """L_T of eq. (4), (B,), in nats, summed over bits."""
    return bernoulli.kl(q_marginal(schedule, x0, schedule.T), 0.0)


def transition_term(schedule: Schedule, x0: Any, xt: Any, logits: Any, t: Any) -> Any:
    """L_{t−1} of eq. (4), t ≥ 2, (B,), in nats, summed over bits.  logits: the network's, at x_t and t."""
    return bernoulli.kl(posterior(schedule, x0, xt, t), logits)


def reconstruction_term(x0: Any, logits: Any) -> Any:
    """L_0 of eq. (4), (B,), in nats, summed over bits.  logits: the network's, at x_1 and 1."""
    return -bernoulli.log_prob(x0, logits)


def elbo(logits_theta: LogitsTheta, schedule: Schedule, x0: Any, u: Any) -> Bound:
    """All terms of eq. (4), each with one x_t drawn from q(x_t | x_0): unbiased, T network calls.

    u: (T, B, …), uniform on [0, 1): the noise, u[t−1] that of x_t.  Raises ValueError if its shape is another.
    """
    if u.shape != (schedule.T, *x0.shape):
        raise ValueError(f"binomial.elbo: u {u.shape} should be {(schedule.T, *x0.shape)}, the noise of x_1 … x_T")
    transitions = []
    for t in range(1, schedule.T + 1):
        xt = bernoulli.sample(None, q_marginal(schedule, x0, t), u[t - 1])
        logits = logits_theta(xt, times(t, x0))
        if t == 1:
            reconstruction = reconstruction_term(x0, logits)
        else:
            transitions.append(transition_term(schedule, x0, xt, logits, t))
    return bound(prior_term(schedule, x0), transitions, reconstruction)


def sample(logits_theta: LogitsTheta, schedule: Schedule, xT: Any, uniform: Callable[[Any], Any]) -> Iterator[Any]:
    """x_{T−1}, …, x_0, one at a time, eq. (5).  xT: fair coins (B, …).  uniform: makes u ~ U[0, 1) of a shape."""
    x = xT
    for t in range(schedule.T, 0, -1):
        x = bernoulli.sample(None, logits_theta(x, times(t, x)), uniform(x.shape))
        yield x
