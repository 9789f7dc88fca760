"""Variational autoencoders.  Kingma & Welling (2014), arXiv:1312.6114; Rezende, Mohamed & Wierstra (2014).

An encoder gives q(z|x) = N(μ_φ(x), σ_φ²(x)), a decoder g_θ(z) the parameters of p(x|z); the prior is p(z) = N(0, I).

    z = μ + σ⊙ε,   ε ~ N(0, I)                                                          (1)  vae.latent
    log p(x|z) = −½ Σ_i ((x_i − m_i)²/s_i² + log s_i² + log 2π),   (m, s²) = g_θ(z)     (2)  vae.gaussian_decoder
    log p(x|z) = Σ_i (x_i·log p_i + (1−x_i)·log(1−p_i)),   p = 1/(1 + e^(−g_θ(z)))      (3)  vae.bernoulli_decoder
    −L   = −log p(x|z) + KL(q‖p(z)),   KL = ½ Σ (μ² + σ² − log σ² − 1)                  (4)  vae.loss
    −L_β = −log p(x|z) + β·KL(q‖p(z))                                                   (5)  vae.beta

(1) moves the randomness out of the parameters' way: ∇E_q f(z) = E_ε ∇f(μ + σ⊙ε), so that (4) at one ε has the gradient
of the bound for its mean.  The encoder's output is log σ², so the deviation in (1) is exp(½·log σ²).  (4) and (5) sum
over the dimensions of z and over those of x, never one sum and one mean: that would be (5) with another β.

(2) with a fixed s² is the squared error over 2s² and a constant.  A learnt s² weighs it against the divergence by
itself: at its best it is the mean squared error.  (5) is Higgins et al. (2017): β > 1 presses q towards the prior.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from scratchgen.distributions import bernoulli, gaussian
from scratchgen.models.latent.bound import elbo


class Gaussian(NamedTuple):
    """N(μ, σ²), as a network gives it.

    mu: (B, …).  log_var: log σ², in mu's shape, with length-1 axes where shared, or a number.
    """

    mu: Any
    log_var: Any


class Loss(NamedTuple):
    """Per example (B,), in nats: the loss that is minimised, −log p(x|z), and KL(q‖p(z))."""

    loss: Any
    reconstruction: Any
    kl: Any


def latent(rng: Any, q: Gaussian, eps: Any = None) -> Any:
    """z = μ + σ⊙ε, eq. (1).  eps: the noise, in μ's shape; None: drawn from rng.  Returns μ's shape."""
    return gaussian.sample(rng, q.mu, q.log_var, eps)


def gaussian_decoder(x: Any, decoded: Gaussian) -> Any:
    """log p(x|z), eq. (2).  x: (B, …).  decoded: the mean, and log s²: a number, shared, or one for each pixel."""
    return gaussian.log_prob(x, decoded.mu, decoded.log_var)


def bernoulli_decoder(x: Any, decoded: Any) -> Any:
    """log p(x|z), eq. (3).  x: (B, …), 0 or 1.  decoded: the logits, in x's shape."""
    return bernoulli.log_prob(x, decoded)


def negative_elbo(
    x: Any, decoded: Any, mu: Any, log_var: Any, likelihood: Callable[[Any, Any], Any], beta: float = 1.0
) -> Loss:
    """−L, eq. (4), at one z ~ q; with beta, −L_β, eq. (5).

    x: (B, …).  decoded: g_θ(z), as `likelihood` takes it, which is `gaussian_decoder` or `bernoulli_decoder`.
    mu, log_var: of q(z|x), both (B, …), of one shape.
    Raises ValueError if the shapes do not fit.
    """
    log_lik, kl = likelihood(x, decoded), gaussian.kl_standard(mu, log_var)
    return Loss(-elbo(log_lik, beta * kl), -log_lik, kl)
