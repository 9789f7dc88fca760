"""Markovian hierarchical VAE: x ← z_1 ← z_2 ← … ← z_T, each latent made from the next one alone.

    p(x, z_{1:T}) = p(z_T)·p(x|z_1)·Π_{t=2}^T p(z_{t−1}|z_t),   p(z_T) = N(0, I)        (1)  hvae.joint
    q(z_{1:T}|x)  = Π_{t=1}^T q(z_t|z_{t−1}),   z_0 = x                                 (2)  hvae.posterior
    log p(x) ≥ L = E_q[log p(x, z_{1:T}) − log q(z_{1:T}|x)]                            (3)  hvae.elbo
    L = E_q[log p(x|z_1) − KL(q(z_T|z_{T−1})‖p(z_T))                                    (4)  hvae.elbo_neighbours
            − Σ_{t=1}^{T−1} (log q(z_t|z_{t−1}) − log p(z_t|z_{t+1}))]

(4) is (3), step beside opposite step.  Only its last step is a divergence: given z_{t+1} as well, z_t is not
distributed as q(z_t|z_{t−1}).  To compare distributions, q has to be turned round, which needs its marginals.  They are
known where its kernels are affine, q(z_t|z_{t−1}) = N(a_t·z_{t−1} + b_t, s_t²):

    q(z_t|x) = N(m_t, v_t),   m_t = a_t·m_{t−1} + b_t,   v_t = a_t²·v_{t−1} + s_t²      (5)  hvae.marginal
    q(z_{t−1}|z_t, x) = N(m_{t−1} + k·(z_t − m_t), v_{t−1}·s_t²/v_t),  k = a_t·v_{t−1}/v_t   (6)  hvae.reversed
    L = E_q[log p(x|z_1) − KL(q(z_T|x)‖p(z_T))                                          (7)  hvae.elbo_kl
            − Σ_{t=2}^T KL(q(z_{t−1}|z_t, x)‖p(z_{t−1}|z_t))]

starting from m_0 = x, v_0 = 0.  (3), (4) and (7) are one number in the mean; the terms of (7) have one latent each, so
that t can be drawn at random in training.  A diffusion is this model with latents like x and nothing to learn in q,

    a_t = √α_t,   b_t = 0,   s_t² = β_t,   p(z_{t−1}|z_t) = N(μ_θ(z_t, t), σ_t²)        (8)  hvae.diffusion

and (7) and (4) are then its two bounds, term by term.

The system at the end learns both directions, each step a perceptron.  Nobody knows the marginals of such a q, so (4) is
its loss, at one chain of latents for each picture.  The more levels, the less has to be said by the prior: what is
left of a picture's law once z_1 is known is explained by z_2, and what N(0, I) is fitted to is the code of a code.  A
sample goes down the chain, with a draw at every level but the last: as in `vae`, x is the decoder's mean.

Sønderby et al. (2016); Kingma et al. (2021, §2); Luo (2022, eqs. 20–29).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from math import prod
from typing import Any, Literal, NamedTuple

from scratchgen import ops
from scratchgen.distributions import gaussian
from scratchgen.models.diffusion.bound import Bound, bound
from scratchgen.models.diffusion.process import mean_from_eps, times
from scratchgen.models.diffusion.schedule import Schedule, pick
from scratchgen.models.latent.bound import elbo_importance, elbo_sampled
from scratchgen.models.latent.vae import Gaussian, Pixels, gaussian_decoder, latent
from scratchgen.models.system import System
from scratchgen.nn.mlp import MLP
from scratchgen.random import Generator


class Affine(NamedTuple):
    """The kernel z ↦ N(a·z + b, s²): scale a, shift b, log_var = log s².

    Each an array or tensor of z's precision: with z's axes, of length 1 where shared, or without axes.
    """

    scale: Any
    shift: Any
    log_var: Any

    def __call__(self, z: Any) -> Gaussian:
        return Gaussian(self.scale * z + self.shift, self.log_var)


class Hierarchy(NamedTuple):
    """The networks of both directions, T each.

    up: up[t−1](z_{t−1}) is q(z_t|z_{t−1}), a `Gaussian`.  down: down[t−1](z_t) is p(z_{t−1}|z_t), a `Gaussian`;
    down[0](z_1) whatever `likelihood`, log p(x|z_1) = likelihood(x, down[0](z_1)), takes.
    """

    up: Sequence[Affine | Callable[[Any], Gaussian]]
    down: Sequence[Callable[[Any], Any]]
    likelihood: Callable[[Any, Any], Any] = gaussian_decoder


def posterior_sample(model: Hierarchy, x: Any, eps: Sequence[Any]) -> list[Any]:
    """z_1 … z_T ~ q(z_{1:T}|x), eq. (2).  eps: the noise of each, T arrays in the latents' shapes."""
    zs, z = [], x
    for kernel, noise in zip(model.up, eps, strict=True):
        z = latent(None, kernel(z), noise)
        zs.append(z)
    return zs


def log_joint(model: Hierarchy, x: Any, zs: Sequence[Any]) -> Any:
    """log p(x, z_{1:T}), eq. (1).  x: (B, …).  zs: z_1 … z_T, each (B, …).  Returns (B,), in nats."""
    _check(model, zs)
    total = model.likelihood(x, model.down[0](zs[0])) + gaussian.log_prob(zs[-1], 0.0, 0.0)
    for t in range(2, len(zs) + 1):
        total = total + gaussian.log_prob(zs[t - 2], *model.down[t - 1](zs[t - 1]))
    return total


def log_posterior(model: Hierarchy, x: Any, zs: Sequence[Any]) -> Any:
    """log q(z_{1:T}|x), eq. (2).  x: (B, …).  zs: z_1 … z_T, each (B, …).  Returns (B,), in nats."""
    _check(model, zs)
    total, before = 0.0, x
    for kernel, z in zip(model.up, zs, strict=True):
        total = total + gaussian.log_prob(z, *kernel(before))
        before = z
    return total


def elbo(model: Hierarchy, x: Any, zs: Sequence[Any]) -> Any:
    """L at one z_{1:T} ~ q, eq. (3): an unbiased estimate.  Shapes as in `log_joint`."""
    return elbo_sampled(log_joint(model, x, zs), log_posterior(model, x, zs))


def elbo_neighbours(model: Hierarchy, x: Any, zs: Sequence[Any]) -> Bound:
    """L at one z_{1:T} ~ q, term by term, eq. (4); transitions (B, T−1), of which any may be negative."""
    _check(model, zs)
    chain = [x, *zs]
    transitions = []
    for t in range(1, len(zs)):
        log_q = gaussian.log_prob(chain[t], *model.up[t - 1](chain[t - 1]))
        transitions.append(log_q - gaussian.log_prob(chain[t], *model.down[t](chain[t + 1])))
    prior = gaussian.kl(*model.up[-1](chain[-2]), 0.0, 0.0)
    return bound(prior, transitions, -model.likelihood(x, model.down[0](zs[0])))


def marginals(up: Sequence[Affine], x: Any) -> list[Gaussian]:
    """q(z_1|x) … q(z_T|x) for affine kernels, eq. (5).  x: (B, …)."""
    found: list[Gaussian] = []
    mean: Any = x
    var: Any = 0.0
    for a, b, log_var in up:
        mean, var = a * mean + b, a * a * var + ops.exp(log_var)
        found.append(Gaussian(mean, ops.log(var)))
    return found


def reverse(step: Affine, before: Gaussian, z: Any) -> Gaussian:
    """q(z_{t−1}|z_t, x), eq. (6), for t ≥ 2.  step: q(z_t|z_{t−1}).  before: q(z_{t−1}|x).  z: z_t, (B, …)."""
    a, b, log_var = step
    noise, var = ops.exp(log_var), ops.exp(before.log_var)
    total = a * a * var + noise
    return Gaussian(before.mu + a * var / total * (z - a * before.mu - b), ops.log(var * noise / total))


def elbo_kl(model: Hierarchy, x: Any, zs: Sequence[Any]) -> Bound:
    """L at one z_{1:T} ~ q, by divergences, eq. (7), where every kernel of `up` is `Affine`; transitions (B, T−1).

    Raises ValueError for another kernel.
    """
    _check(model, zs)
    up = [step for step in model.up if isinstance(step, Affine)]
    if len(up) < len(model.up):
        raise ValueError("elbo_kl: q can be turned round where its kernels are Affine only; see elbo_neighbours")
    known = marginals(up, x)
    transitions = [
        gaussian.kl(*reverse(up[t - 1], known[t - 2], zs[t - 1]), *model.down[t - 1](zs[t - 1]))
        for t in range(2, len(zs) + 1)
    ]
    return bound(gaussian.kl(*known[-1], 0.0, 0.0), transitions, -model.likelihood(x, model.down[0](zs[0])))


def diffusion(schedule: Schedule, eps_theta: Callable[[Any, Any], Any], var: Any, like: Any) -> Hierarchy:
    """A diffusion as a hierarchy, eq. (8): up q(x_t|x_{t−1}), down p_θ(x_{t−1}|x_t), on data without grey levels.

    eps_theta: ε_θ(x_t, t).  var: σ_t² by t, from `diffusion.bound.reverse_variance`.  like: an x, for its precision.
    """

    def up(t: int) -> Affine:
        alpha, beta = pick(schedule.alpha, t, like), pick(schedule.beta, t, like)
        a, log_var = ops.sqrt(alpha).astype(like.dtype), ops.log(beta).astype(like.dtype)
        return Affine(a, ops.zeros_like(a), log_var)

    def down(t: int, z: Any) -> Gaussian:
        mean = mean_from_eps(schedule, z, eps_theta(z, times(t, z)), t)
        return Gaussian(mean, ops.log(pick(var, t, z)).astype(z.dtype))

    steps = range(1, schedule.T + 1)
    return Hierarchy([up(t) for t in steps], [partial(down, t) for t in steps])


def _check(model: Hierarchy, zs: Sequence[Any]) -> None:
    if not len(model.up) == len(model.down) == len(zs) >= 1:
        up, down = len(model.up), len(model.down)
        raise ValueError(f"a hierarchy of {up} steps up and {down} down cannot have {len(zs)} latents")


@dataclass(frozen=True)
class HVAEConfig:
    """shape: of one picture, or of any x.  latents: numbers in z_1 … z_T.  widths: of the hidden layers of every step
    up; of a step down they stand the other way round; none: every step is affine.  decoder: see `Pixels`.  levels: grey
    levels of the data, None if it is continuous.  Raises ValueError for what makes no model.
    """

    shape: tuple[int, ...] = (8, 8, 1)
    latents: tuple[int, ...] = (16, 8)
    widths: tuple[int, ...] = (256, 256)
    decoder: Literal["gaussian", "bernoulli"] = "gaussian"
    levels: int | None = 17

    @property
    def latent(self) -> int:
        """Numbers in z_1: what is drawn from."""
        return self.latents[0]

    def __post_init__(self) -> None:
        if not self.latents or min(*self.latents, *self.widths, *self.shape) < 1:
            raise ValueError(f"HVAEConfig: there must be latents, and latents, widths and shape positive, not {self}")


class Loss(NamedTuple):
    """Per example (B,), in nats: −L, and its terms: −log p(x|z_1), the sum of the log-ratios, and the top's KL."""

    loss: Any
    reconstruction: Any
    transitions: Any
    prior: Any


NEAR = 0.1
"""How near to N(0, I) every step begins: a variance is the exponential of what a step says, and the next reads it."""


class HVAE(System):
    """The system: every step of both directions is a perceptron, that ends in a mean and a log-variance."""

    def __init__(self, config: HVAEConfig, *, rng: Generator) -> None:
        self.config, widths = config, config.widths
        sizes = list(pairwise((prod(config.shape), *config.latents)))
        self.pixels = Pixels(config.decoder, config.shape, config.levels)
        self.up = [MLP(low, *widths, 2 * high, rng=rng, gain=NEAR) for low, high in sizes]
        self.down = [MLP(high, *widths[::-1], low if t == 0 else 2 * low, rng=rng, gain=NEAR if t else 1.0)
                     for t, (low, high) in enumerate(sizes)]  # fmt: skip

    def start(self, batch: Any, rng: Generator) -> None:
        self.pixels.start(self.pixels.observe(batch, rng))

    def encode(self, z: Any, t: int = 1) -> Gaussian:
        """q(z_t|z_{t−1}), its mean and log-variance (B, d_t).  z: z_{t−1}, or, for t = 1, an observed x, (B, …)."""
        return Gaussian.halves(self.up[t - 1](ops.reshape(z, (z.shape[0], -1))))

    def decode(self, z: Any, t: int = 1) -> Any:
        """p(z_{t−1}|z_t), a `Gaussian`, or, for t = 1, p(x|z_1), as `Pixels` has it.  z: z_t, (B, d_t)."""
        h = self.down[t - 1](z)
        return Gaussian.halves(h) if t > 1 else self.pixels.decoded(h)

    def hierarchy(self) -> Hierarchy:
        """Both directions, as the equations take them."""
        steps = range(1, len(self.up) + 1)
        up = [_once(partial(self.encode, t=t)) for t in steps]
        return Hierarchy(up, [partial(self.decode, t=t) for t in steps], self.pixels.log_lik)

    def chain(self, model: Hierarchy, x: Any, rng: Generator) -> list[Any]:
        """z_1 … z_T ~ q(z_{1:T}|x), the lowest drawn first."""
        sizes = self.config.latents
        return posterior_sample(model, x, [rng.standard_normal((x.shape[0], d), x.dtype) for d in sizes])

    def bound(self, x: Any, rng: Generator) -> Bound:
        """L at one chain for each x, term by term, eq. (4).  x: observed, (B, …)."""
        model = self.hierarchy()
        return elbo_neighbours(model, x, self.chain(model, x, rng))

    def loss(self, x: Any, rng: Generator) -> Loss:
        """−L, eq. (4), at one chain for each picture."""
        found = self.bound(self.pixels.observe(x, rng), rng)
        return Loss(-found.elbo, found.reconstruction, ops.sum(found.transitions, axis=1), found.prior)

    def elbo(self, x: Any, rng: Generator) -> Any:
        """L at one chain for each x, (B,), in nats: unbiased, and below log p(x) in the mean.  x: observed, (B, …)."""
        return self.frozen().bound(x, rng).elbo

    def weighed(self, x: Any, rng: Generator, K: int, at_once: int = 16) -> tuple[Any, Any]:
        """log p(x, z_{1:T}) and log q(z_{1:T}|x) at K chains of each x, both (K, B), in nats; at_once: chains that go
        through the networks together.  x: observed, (B, …)."""
        system, parts = self.frozen(), []
        for k in range(0, K, at_once):
            n, model = min(at_once, K - k), system.hierarchy()
            xs = ops.tile(x, (n, *(1,) * (x.ndim - 1)))
            zs = system.chain(model, xs, rng)
            both = log_joint(model, xs, zs), log_posterior(model, xs, zs)
            parts.append([ops.reshape(a, (n, x.shape[0])) for a in both])
        return ops.concatenate([a for a, _ in parts]), ops.concatenate([b for _, b in parts])

    def iwae(self, x: Any, rng: Generator, K: int) -> Any:
        """The bound of K chains of each x, (B,), in nats: the nearer to log p(x) the larger K.  x: observed."""
        return elbo_importance(*self.weighed(x, rng, K))

    def reconstruct(self, x: Any, t: int = 1) -> Any:
        """What z_t keeps of x: every mean up to level t, and every mean back down.  x: observed, (B, …)."""
        model, z = self.frozen(), x
        for s in range(1, t + 1):
            z = model.encode(z, s).mu
        for s in range(t, 1, -1):
            z = model.decode(z, s).mu
        return model.pixels.mean(model.decode(z))

    def prior(self, n: int, rng: Generator) -> Any:
        """z_T ~ N(0, I) for n samples, in the network's precision."""
        return rng.standard_normal((n, self.config.latents[-1]), self.up[0].layers[0].w.dtype)

    def descend(self, z: Any, rng: Generator, t: int | None = None) -> Any:
        """z_1 ~ p(z_1|z_t), level by level.  z: z_t, (n, d_t); t: by default T."""
        model = self.frozen()
        for s in range(len(self.up) if t is None else t, 1, -1):
            z = latent(rng, model.decode(z, s))
        return z

    def draw(self, z: Any) -> Any:
        """E[x|z_1], (n, …).  z: z_1, (n, d_1)."""
        model = self.frozen()
        return model.pixels.mean(model.decode(z))

    def sample(self, n: int, rng: Generator) -> Any:
        """n pictures, down the whole chain of eq. (1): E[x|z_1] at z_1 from z_2 from … from z_T ~ p(z_T)."""
        return self.draw(self.descend(self.prior(n, rng), rng))


def _once(kernel: Callable[[Any], Gaussian]) -> Callable[[Any], Gaussian]:
    """The kernel, which is asked for its latent and then for its density, and computes once."""
    known: dict[int, tuple[Any, Gaussian]] = {}

    def ask(z: Any) -> Gaussian:
        if id(z) not in known:
            known[id(z)] = z, kernel(z)  # z is kept, so that its id stays its own
        return known[id(z)][1]

    return ask
