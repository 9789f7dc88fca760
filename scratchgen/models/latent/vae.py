"""Variational autoencoders.  Kingma & Welling (2014), arXiv:1312.6114; Rezende, Mohamed & Wierstra (2014).

A picture is explained by a short code that nobody has seen: one network guesses the code of a picture, another draws
the picture of a code, and codes of pictures are kept so near to noise that noise can stand for them.  The encoder
gives q(z|x) = N(μ_φ(x), σ_φ²(x)), the decoder g_θ(z) the parameters of p(x|z); the prior is p(z) = N(0, I).

    z = μ + σ⊙ε,   ε ~ N(0, I)                                                          (1)  vae.latent
    log p(x|z) = −½ Σ_i ((x_i − m_i)²/s_i² + log s_i² + log 2π),   (m, s²) = g_θ(z)     (2)  vae.gaussian_decoder
    log p(x|z) = Σ_i (x_i·log p_i + (1−x_i)·log(1−p_i)),   p = 1/(1 + e^(−g_θ(z)))      (3)  vae.bernoulli_decoder
    −L   = −log p(x|z) + KL(q‖p(z)),   KL = ½ Σ (μ² + σ² − log σ² − 1)                  (4)  vae.loss
    −L_β = −log p(x|z) + β·KL(q‖p(z))                                                   (5)  vae.beta
    −L_K = −log (1/K) Σ_k p(x, z_k)/q(z_k|x),   z_k = μ + σ⊙ε_k                         (6)  elbo.importance

(1) moves the randomness out of the parameters' way: ∇E_q f(z) = E_ε ∇f(μ + σ⊙ε), so that (4) at one ε has the gradient
of the bound for its mean.  The encoder's output is log σ², so the deviation in (1) is exp(½·log σ²).  (4) and (5) sum
over the dimensions of z and over those of x, never one sum and one mean: that would be (5) with another β.

(2) with a fixed s² is the squared error over 2s² and a constant.  A learnt s² weighs it against the divergence by
itself: at its best it is the mean squared error.  (5) is Higgins et al. (2017): β > 1 presses q towards the prior.
(6), from K codes of each picture, is the tighter bound of Burda, Grosse & Salakhutdinov (2016); K = 1 is (4), with one
more thing left to chance.

A sample is the decoder's mean at a z of the prior.  The pixels' own noise, which p(x|z) has too, is left out: it is
the same everywhere, and no part of what was learnt.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any, Literal, NamedTuple

from scratchgen import functional as F
from scratchgen import ops
from scratchgen.distributions import bernoulli, gaussian
from scratchgen.models.flows.dequantise import spread
from scratchgen.models.latent.bound import elbo, elbo_importance
from scratchgen.models.system import System
from scratchgen.nn.layers import constants
from scratchgen.nn.mlp import MLP
from scratchgen.nn.module import Module
from scratchgen.random import Generator


class Gaussian(NamedTuple):
    """N(μ, σ²), as a network gives it.

    mu: (B, …).  log_var: log σ², in mu's shape, with length-1 axes where shared, or a number.
    """

    mu: Any
    log_var: Any

    @classmethod
    def halves(cls, h: Any) -> Gaussian:
        """From a network's output (B, 2d): the mean first, (B, d) each."""
        return cls(*ops.split(h, 2, axis=1))


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


PACE = 8.0
"""How much faster log s² learns than weights: Adam's steps are all of one size, and it has far to go."""


class Pixels(Module):
    """p(x|z) of a picture: what a decoder's last numbers mean.

    kind: "gaussian", eq. (2), with one learnt variance for each pixel and all z, of a picture whose grey levels are
    spread over their bins; or "bernoulli", eq. (3), of a black and white one, whose pixels are white with probability
    (x + 1)/2, drawn anew whenever it is looked at.
    """

    def __init__(self, kind: str, shape: tuple[int, ...], levels: int | None) -> None:
        if kind not in ("gaussian", "bernoulli"):
            raise ValueError(f"decoder {kind!r} is neither 'gaussian' nor 'bernoulli'")
        self.gaussian, self.shape, self.levels = kind == "gaussian", shape, levels
        self.log_var: Any = constants(prod(shape)) if self.gaussian else None  # over PACE

    def start(self, x: Any) -> None:
        """Begin with each pixel's variance in a first minibatch, observed: some hardly change, others always."""
        if self.log_var is not None:
            flat = ops.reshape(x, (x.shape[0], prod(self.shape)))
            self.log_var.assign(ops.log(ops.var(flat, axis=0) + 1e-6) / PACE)

    def observe(self, x: Any, rng: Generator) -> Any:
        """What is to be explained: x (B, …) in [−1, 1], spread over its levels' bins, or thrown as coins, 0 and 1."""
        if self.gaussian:
            return x if self.levels is None else spread(x, rng.random(x.shape, x.dtype), self.levels)
        return (rng.random(x.shape, x.dtype) < 0.5 * (x + 1)).astype(x.dtype)

    def decoded(self, h: Any) -> Any:
        """What `log_lik` takes, from a network's output (B, D): mean and log s², or logits."""
        h = ops.reshape(h, (h.shape[0], *self.shape))
        if self.log_var is None:
            return h
        return Gaussian(h, ops.reshape(self.log_var * PACE, (1, *self.shape)))

    def log_lik(self, x: Any, decoded: Any) -> Any:
        """log p(x|z), (B,), in nats, of an observed x."""
        return gaussian_decoder(x, decoded) if self.gaussian else bernoulli_decoder(x, decoded)

    def mean(self, decoded: Any) -> Any:
        """E[x|z], in [−1, 1] if all is well."""
        return decoded.mu if self.gaussian else 2 * F.sigmoid(decoded) - 1


@dataclass(frozen=True)
class VAEConfig:
    """shape: of one picture, or of any x.  latent: numbers in a code.  widths: of the encoder's layers from picture to
    code, and of the decoder's back; none: both are affine.  decoder: see `Pixels`.  beta: β of eq. (5).  samples: K
    of eq. (6).  levels: grey levels of the data, None if it is continuous.  Raises ValueError for what makes no model.
    """

    shape: tuple[int, ...] = (8, 8, 1)
    latent: int = 16
    widths: tuple[int, ...] = (256, 256)
    decoder: Literal["gaussian", "bernoulli"] = "gaussian"
    beta: float = 1.0
    samples: int = 1
    levels: int | None = 17

    def __post_init__(self) -> None:
        if min(self.latent, self.samples, *self.widths, *self.shape) < 1:
            raise ValueError(f"VAEConfig: latent, samples, widths and shape must be positive, not {self}")
        if self.samples > 1 and self.beta != 1:
            raise ValueError(f"VAEConfig: {self.samples} samples bound the evidence; beta {self.beta} does not fit")


class VAE(System):
    """The system: encoder and decoder are perceptrons."""

    def __init__(self, config: VAEConfig, *, rng: Generator) -> None:
        self.config, dims = config, prod(config.shape)
        self.pixels = Pixels(config.decoder, config.shape, config.levels)
        self.encoder = MLP(dims, *config.widths, 2 * config.latent, rng=rng)
        self.decoder = MLP(config.latent, *config.widths[::-1], dims, rng=rng)

    def start(self, batch: Any, rng: Generator) -> None:
        self.pixels.start(self.pixels.observe(batch, rng))

    def encode(self, x: Any) -> Gaussian:
        """q(z|x), its mean and log-variance (B, latent).  x: observed, (B, …)."""
        return Gaussian.halves(self.encoder(ops.reshape(x, (x.shape[0], prod(self.config.shape)))))

    def decode(self, z: Any) -> Any:
        """p(x|z), as `Pixels` has it.  z: (B, latent)."""
        return self.pixels.decoded(self.decoder(z))

    def loss(self, x: Any, rng: Generator) -> Loss:
        """−L_β, eq. (5), at one z for each picture; −L_K, eq. (6), with several."""
        x = self.pixels.observe(x, rng)
        K, beta = self.config.samples, self.config.beta
        q = self.encode(x)
        if K == 1:
            return negative_elbo(x, self.decode(latent(rng, q)), *q, self.pixels.log_lik, beta)
        log_lik, log_prior, log_q = self.terms(x, q, rng, K)
        kl = gaussian.kl_standard(*q)
        return Loss(-elbo_importance(log_lik + log_prior, log_q), -ops.mean(log_lik, axis=0), kl)

    def terms(self, x: Any, q: Gaussian, rng: Generator, K: int) -> tuple[Any, Any, Any]:
        """log p(x|z_k), log p(z_k) and log q(z_k|x) at K codes of each example, each (K, B).  x: observed."""
        xs, mu, log_var = (ops.tile(a, (K, *(1,) * (a.ndim - 1))) for a in (x, *q))
        z = latent(rng, Gaussian(mu, log_var))
        logs = (self.pixels.log_lik(xs, self.decode(z)), gaussian.log_prob(z, 0.0, 0.0),
                gaussian.log_prob(z, mu, log_var))  # fmt: skip
        return tuple(ops.reshape(a, (K, x.shape[0])) for a in logs)

    def elbo(self, x: Any, rng: Generator) -> Any:
        """L at one z for each x, (B,), in nats: unbiased, and below log p(x) in the mean.  x: observed, (B, …)."""
        model = self.frozen()
        q = model.encode(x)
        return -negative_elbo(x, model.decode(latent(rng, q)), *q, model.pixels.log_lik).loss

    def weighed(self, x: Any, rng: Generator, K: int, at_once: int = 16) -> tuple[Any, Any]:
        """log p(x, z_k) and log q(z_k|x) at K codes of each x, both (K, B), in nats; at_once: codes that go through
        the network together.  x: observed, (B, …)."""
        model = self.frozen()
        q = model.encode(x)
        parts = [model.terms(x, q, rng, min(at_once, K - k)) for k in range(0, K, at_once)]
        return ops.concatenate([a + b for a, b, _ in parts]), ops.concatenate([c for _, _, c in parts])

    def iwae(self, x: Any, rng: Generator, K: int) -> Any:
        """L_K at K codes of each x, eq. (6), (B,), in nats: the nearer to log p(x) the larger K.  x: observed."""
        return elbo_importance(*self.weighed(x, rng, K))

    def reconstruct(self, x: Any) -> Any:
        """E[x|z] at the mean z of q(z|x).  x: observed, (B, …)."""
        model = self.frozen()
        return model.pixels.mean(model.decode(model.encode(x).mu))

    def prior(self, n: int, rng: Generator) -> Any:
        """z ~ N(0, I) for n samples, in the network's precision."""
        return rng.standard_normal((n, self.config.latent), self.decoder.layers[0].w.dtype)

    def draw(self, z: Any) -> Any:
        """E[x|z], (n, …), of codes (n, latent)."""
        model = self.frozen()
        return model.pixels.mean(model.decode(z))

    def sample(self, n: int, rng: Generator) -> Any:
        """n pictures: E[x|z] at z ~ p(z)."""
        return self.draw(self.prior(n, rng))
