"""The variational bound of a diffusion, term by term, in nats.

    log p(x_0) ≥ −E[ L_T + Σ_{t=2}^T L_{t−1} + L_0 ]                                  (1)  diffusion.elbo
        L_T     = KL( q(x_T | x_0) ‖ N(0, I) )                                        (2)  diffusion.prior_term
        L_{t−1} = KL( q(x_{t−1} | x_t, x_0) ‖ p_θ(x_{t−1} | x_t) )                    (3)  diffusion.transition_term
        L_0     = −log p_θ(x_0 | x_1)                                                 (4)  diffusion.reconstruction_term

    log p(x_0) ≥ −E[ L_0 + KL( q(x_T | x_{T−1}) ‖ N(0, I) )                           (5)  diffusion.elbo_neighbours
                     + Σ_{t=1}^{T−1} ( log q(x_t | x_{t−1}) − log p_θ(x_t | x_{t+1}) ) ]

E is over noisy images drawn from q(x_{1:T} | x_0): L_{t−1} and L_0 depend on the x_t and x_1 they are given, L_T on
no draw.  (1) and (5) are the same number; (5) needs the noisy images on both sides of every t, (1) only one, and
so varies less.  The terms of (5)'s sum are over x_{t−1}, x_t and x_{t+1} together, and are no KL divergences even
on average: x_t given both neighbours is not distributed as q(x_t | x_{t−1}).
Ho, Jain & Abbeel (2020, eqs. 3 and 5).  p_θ(x_{t−1} | x_t) = N(μ_θ, σ_t²), and L_0 counts the bin of a grey
level, the Gaussian integrated over it.

    σ_t² = β_t, or β̃_t with β̃_2 for β̃_1                                               (6)  diffusion.reverse_variance
    σ_t² = exp(v·log β_t + (1−v)·log β̃_t)                                             (7)  diffusion.learnt_variance
    L_{t−1} = β_t²/(2σ_t²·α_t·(1−ᾱ_t))·‖ε − ε_θ‖² + const                             (8)  diffusion.eps_weight

(7): v from the network, for each pixel; 0 and 1 are the two choices of (6).  Nichol & Dhariwal (2021, eq. 15).
(8): the constant has no ε_θ in it.  Ho et al. (2020, eq. 12).

Each term: x (B, …) in, (B,) out, summed over pixels.  `eps` is the network's ε_θ(x_t, t).
"""

from __future__ import annotations

from typing import Any, NamedTuple

from scratchgen import ops
from scratchgen.autograd.tensor import value_of
from scratchgen.backend import backend_of
from scratchgen.distributions import gaussian
from scratchgen.models.diffusion.process import Normal, beta_tilde, mean_from_eps, posterior, q_marginal, q_step
from scratchgen.models.diffusion.schedule import Schedule, pick
from scratchgen.models.flows.dequantise import bits_per_dim


class Bound(NamedTuple):
    """elbo = −(prior + Σ transitions + reconstruction), in nats.  transitions: (B, T−1), L_1 … L_{T−1}."""

    elbo: Any
    prior: Any
    transitions: Any
    reconstruction: Any

    def bits_per_dim(self, n: int) -> Any:
        """The bits that coding one of n pixels costs."""
        return bits_per_dim(self.elbo, n)


def bound(prior: Any, transitions: list[Any], reconstruction: Any) -> Bound:
    """Eq. (1) from its terms, each (B,).  transitions: L_1 … L_{T−1}, which T = 1 has none of."""
    xp = backend_of(value_of(prior))
    inner = ops.stack(transitions, axis=1) if transitions else xp.zeros((prior.shape[0], 0), prior.dtype)
    return Bound(-(prior + ops.sum(inner, axis=1) + reconstruction), prior, inner, reconstruction)


def reverse_variance(schedule: Schedule, choice: str) -> Any:
    """σ_t² of p_θ(x_{t−1} | x_t), t = 0 … T, eq. (6): "beta" for β_t, "beta_tilde" for β̃_t.

    β_t is optimal for x_0 ~ N(0, I), β̃_t for an x_0 known exactly (Ho et al. 2020, §3.2).  β̃_1 is 0, which no
    density has, so β̃_2 stands in its place (Nichol & Dhariwal 2021); with T = 1, β_1 does.
    Raises ValueError for another choice.
    """
    if choice == "beta":
        return schedule.beta
    if choice != "beta_tilde":
        raise ValueError(f"sigma: {choice!r} is neither 'beta' nor 'beta_tilde'")
    xp = backend_of(schedule.beta)
    at_all = schedule.at(xp.arange(1, schedule.T + 1), schedule.beta)
    later = beta_tilde(at_all)[1:] if schedule.T > 1 else schedule.beta[1:]  # σ_2² … σ_T²
    return xp.concatenate([schedule.beta[:1], later[:1], later])[: schedule.T + 1]


def learnt_variance(schedule: Schedule, v: Any, t: Any) -> Any:
    """σ_t² between β̃_t and β_t on a logarithmic scale, eq. (7).  v: (B, …), in [0, 1]; returns v's shape."""
    log_beta, log_tilde = (
        ops.log(pick(reverse_variance(schedule, choice), t, v)).astype(v.dtype) for choice in ("beta", "beta_tilde")
    )
    return ops.exp(v * log_beta + (1 - v) * log_tilde)


def _log(normal: Normal) -> tuple[Any, Any]:
    """Mean and log-variance, both like x, as `gaussian` takes them."""
    return normal.mean, ops.log(normal.var) + ops.zeros_like(normal.mean)


def prior_term(schedule: Schedule, x0: Any) -> Any:
    """L_T, eq. (2): how much of x_0 is left after T steps."""
    return gaussian.kl_standard(*_log(q_marginal(schedule, x0, schedule.T)))


def transition_term(schedule: Schedule, x0: Any, xt: Any, eps: Any, t: Any, var: Any) -> Any:
    """L_{t−1}, eq. (3), for t ≥ 2.  var: σ_t² by t, from `reverse_variance`."""
    p = Normal(mean_from_eps(schedule, xt, eps, t), pick(var, t, xt).astype(xt.dtype))
    return gaussian.kl(*_log(posterior(schedule, x0, xt, t)), *_log(p))


def reconstruction_term(schedule: Schedule, x0: Any, x1: Any, eps: Any, var: Any, levels: int | None) -> Any:
    """L_0, eq. (4).  levels: how many grey levels an image in [−1, 1] has; None for continuous data."""
    mu, log_var = _log(Normal(mean_from_eps(schedule, x1, eps, 1), pick(var, 1, x1).astype(x1.dtype)))
    if levels is None:
        return -gaussian.log_prob(x0, mu, log_var)
    return -gaussian.discretised_log_prob(x0, mu, 0.5 * log_var, levels)


def neighbour_term(
    schedule: Schedule, x_before: Any, xt: Any, x_after: Any, eps: Any, t: int, var: Any
) -> Any:
    """log q(x_t | x_{t−1}) − log p_θ(x_t | x_{t+1}), a term of eq. (5); eps: ε_θ(x_{t+1}, t+1)."""
    p = Normal(mean_from_eps(schedule, x_after, eps, t + 1), pick(var, t + 1, x_after).astype(x_after.dtype))
    q = q_step(schedule, x_before, t)
    return gaussian.log_prob(xt, *_log(q)) - gaussian.log_prob(xt, *_log(p))


def last_step_term(schedule: Schedule, x_before: Any) -> Any:
    """KL( q(x_T | x_{T−1}) ‖ N(0, I) ), the prior's term of eq. (5)."""
    return gaussian.kl_standard(*_log(q_step(schedule, x_before, schedule.T)))


def simple_weight(schedule: Schedule, var: Any) -> Any:
    """β_t²/(2σ_t²·α_t·(1−ᾱ_t)), t = 0 … T: what stands before ‖ε − ε_θ‖² in L_{t−1}, eq. (8).  Place 0 reads 0."""
    xp = backend_of(schedule.beta)
    b, a, n = schedule.beta[1:], schedule.alpha[1:], 1 - schedule.alpha_bar[1:]
    return xp.concatenate([xp.zeros(1), b * b / (2 * var[1:] * a * n)])
