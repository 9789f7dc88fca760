"""Deep energy models: any network as the logarithm of a density.  Du & Mordatch (2019); Nijkamp et al. (2019).

    p(x) = e^f(x)/Z,      f(x) = g_θ(x) − ‖x‖²/(2s²)                                    (1)  ebm.potential
    log p(x)/p(y) = f(x) − f(y)                                                         (2)  ebm.ratio
    ∇ₓ log p(x) = ∇ₓ f(x)                                                               (3)  ebm.score
    ∇ₓ log p(x | y) = ∇ₓ f(x) + (y − x)/σ²,      y = x + σ·ε                            (4)  ebm.posterior_score
    E[x | y] = y + σ²·∇_y f(y),                  where e^f/Z is the law of y            (5)  ebm.denoiser

g_θ is a network with one output.  It grows no faster than linearly, so the quadratic in (1), the logarithm of
N(0, s²I), makes Z finite for every θ.  Much needs no Z: which of two points is likelier (2), so what is unlike the data
(an anomaly has a low f); where likelier ones lie (3), which is all that Langevin's and Metropolis' samplers ask; and
what y was before noise was added: Langevin's steps with (4) in the place of (3) draw from p(x | y), and (5) gives its
mean in one step, if f was learnt from noisy examples.

θ ascends the likelihood by contrastive.persistent: up at the data, down at the chains.  Where these are is the system's
memory, the replay buffer; at each update some of them, those that have waited longest, go on for k steps, of
langevin.mala or langevin.step, for the present θ.  Two things help them to forget: restarts from N(0, s²I), and, where
there are few dimensions, jumps to points of that law, accepted by mcmc.hastings.  With `noise`, the data are x + σ·ε:
grey levels have no density, and where the noise fills the gap between two modes, a chain can walk from one to the
other.

Everywhere: x (B, …); f (B,), in nats.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import log, prod
from typing import Any, Literal, NamedTuple

from scratchgen import nn, ops
from scratchgen.autograd import grad, stop_gradient
from scratchgen.autograd.tensor import Tensor
from scratchgen.backend import active
from scratchgen.distributions import gaussian
from scratchgen.distributions.events import per_example, same_shape
from scratchgen.models.energy import contrastive, langevin, metropolis
from scratchgen.models.system import Player, System
from scratchgen.nn.settings import at_least_one
from scratchgen.random import Generator

Potential = Callable[[Any], Any]
"""f: x (B, …) ↦ (B,)."""


def potential(g: Any, x: Any, s: float) -> Any:
    """f(x), eq. (1).  g: g_θ(x), (B,).  x: (B, …).  Returns (B,)."""
    return g - per_example(ops.square(x)) / (2 * s**2)


def log_ratio(f: Potential, x: Any, y: Any) -> Any:
    """log p(x)/p(y), eq. (2).  x, y: (B, …).  Returns (B,)."""
    return f(x) - f(y)


def score(f: Potential, x: Any) -> Any:
    """∇ₓ log p(x), eq. (3), by automatic differentiation.  x: (B, …).  Returns x's shape."""
    return grad(lambda x: ops.sum(f(x)))(x)


def posterior_score(score_x: Any, x: Any, y: Any, sigma: float) -> Any:
    """∇ₓ log p(x | y), eq. (4).  score_x: ∇ₓ f(x).  x, y: (B, …), clean and noisy.  Returns x's shape."""
    same_shape("ebm.posterior_score", "x", x.shape, y=y, score_x=score_x)
    return score_x + (y - x) / sigma**2


def denoiser(y: Any, score_y: Any, sigma: float) -> Any:
    """E[x | y], eq. (5).  score_y: the score of the noisy law at y.  y: (B, …).  Returns y's shape."""
    same_shape("ebm.denoiser", "y", y.shape, score_y=score_y)
    return y + sigma**2 * score_y


# --- the system ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class EBMConfig:
    """shape: of an example, (d,) or (H, W, C); g_θ is a perceptron with three hidden layers of `width`.  s: of eq. (1).
    noise: σ that is added to the data.

    buffer: how many chains there are; chains: how many of them go on at an update, for k steps of length epsilon, each
    a "mala" or a "langevin" step.
    restart: the share of these that begin anew before.  jump: whether a step ends with a jump.
    decay: weight of f² in the loss, at data and chains, which keeps |f| small.
    Raises ValueError for numbers that make no sense.
    """

    shape: tuple[int, ...] = (2,)
    width: int = 64
    s: float = 2.0
    noise: float = 0.0
    buffer: int = 1024
    chains: int = 256
    k: int = 5
    epsilon: float = 0.01
    kernel: Literal["mala", "langevin"] = "mala"
    restart: float = 0.0
    jump: bool = True
    decay: float = 0.0

    def __post_init__(self) -> None:
        if len(self.shape) not in (1, 3) or min(self.shape) < 1:
            raise ValueError(f"EBMConfig: {self.shape} is neither (d,) nor (H, W, C)")
        at_least_one(self, "width", "chains", "k")
        if not (self.s > 0 and self.epsilon > 0 and self.noise >= 0 and 0 <= self.restart <= 1):
            raise ValueError("EBMConfig: s and epsilon must be positive, noise at least 0, restart in [0, 1]")
        if self.buffer < self.chains or self.decay < 0:
            raise ValueError("EBMConfig: the buffer must hold the chains, and decay be at least 0")
        if self.kernel not in ("mala", "langevin"):
            raise ValueError(f"EBMConfig: kernel is 'mala' or 'langevin', not {self.kernel!r}")


class Loss(NamedTuple):
    """Per example: the loss that is descended, whose value means nothing; f at the data, and its mean at the chains."""

    loss: Any
    data: Any
    chains: Any


class EBM(System):
    """The system: x (B, …) of one shape.  Its memory is where the chains are."""

    def __init__(self, config: EBMConfig, *, rng: Generator) -> None:
        self.config = config
        w = config.width
        self.net = nn.MLP(prod(config.shape), w, w, w, 1, rng=rng, gain=0.1)
        self.buffer = Tensor(active().zeros((config.buffer, *config.shape), "float32"))

    def players(self) -> list[Player]:
        learnt = {name: x for name, x in self.named_parameters() if x is not self.buffer}
        return [Player("model", learnt, self.loss)]

    def start(self, batch: Any, rng: Generator) -> None:
        """The chains begin at N(0, s²I)."""
        self.buffer.assign(self.prior(self.config.buffer, rng))

    def f(self, x: Any) -> Any:
        """f(x) = log p(x) + log Z, eq. (1).  x: (B, …).  Returns (B,)."""
        rows = ops.reshape(x, (x.shape[0], prod(self.config.shape)))
        return potential(self.net(rows)[:, 0], x, self.config.s)

    def energy(self, x: Any) -> Any:
        """E(x) = −f(x), (B,): the score of anomaly, the higher the less like the data."""
        return -self.f(x)

    def score(self, x: Any) -> Any:
        """∇ₓ log p(x), eq. (3), in x's shape."""
        return score(self.f, x)

    def loss(self, x: Any, rng: Generator) -> Loss:
        """Persistent contrastive divergence with f (contrastive.persistent)."""
        now, config = self.frozen(), self.config
        if config.noise:
            x = x + config.noise * rng.standard_normal(x.shape, x.dtype)
        held: Any = now.buffer
        chain, rest = held[: config.chains], held[config.chains :]
        if config.restart:
            anew = rng.random((config.chains,), chain.dtype) < config.restart
            anew = anew.reshape((-1,) + (1,) * len(config.shape))
            chain = ops.where(anew, self.prior(config.chains, rng), chain)
        found, chain = contrastive.persistent(self.f, x, chain, lambda v: now.step(v, rng), config.k)
        self.buffer.assign(ops.concatenate([rest, chain]))
        loss = found.loss
        if config.decay:
            loss = loss + config.decay * (ops.square(found.data) + ops.mean(ops.square(found.samples)))
        return Loss(loss, stop_gradient(found.data), stop_gradient(ops.mean(found.samples) + 0 * found.data))

    def prior(self, n: int, rng: Generator) -> Any:
        """n draws of N(0, s²I), where chains begin."""
        return self.config.s * rng.standard_normal((n, *self.config.shape), self.buffer.dtype)

    # --- chains ---------------------------------------------------------------------------------------------

    def step(self, x: Any, rng: Generator) -> Any:
        """One step of the chains, as in training.  x: (B, …)."""
        if self.config.kernel == "langevin" and not self.config.jump:
            return self.langevin(x, rng)
        state = metropolis.start(self.f, x)
        if self.config.kernel == "mala":
            state = self.mala(state, rng)
        else:
            state = metropolis.start(self.f, self.langevin(x, rng))
        return self.jump(state, rng).x if self.config.jump else state.x

    def langevin(self, x: Any, rng: Generator) -> Any:
        """x + ε∇f + √(2ε)z (langevin.step)."""
        return langevin.step(x, self.score(x), self.config.epsilon, rng.standard_normal(x.shape, x.dtype))

    def mala(self, state: metropolis.State, rng: Generator) -> metropolis.State:
        """The same, refused as often as it must be (langevin.mala)."""
        x = state.x
        z, u = rng.standard_normal(x.shape, x.dtype), rng.random((x.shape[0],), x.dtype)
        return langevin.mala(self.f, self.score, state, self.config.epsilon, z, u)

    def jump(self, state: metropolis.State, rng: Generator) -> metropolis.State:
        """A point of N(0, s²I), wherever x is, accepted or not (mcmc.hastings)."""
        u = rng.random((state.x.shape[0],), state.x.dtype)
        log_var = 2 * log(self.config.s)
        q = lambda to, _: gaussian.log_prob(to, 0.0, log_var)  # noqa: E731
        return metropolis.step(self.f, state, self.prior(state.x.shape[0], rng), u, q)

    def walk(self, x: Any, rng: Generator, steps: int, kernel: str, sigma: float = 1.0) -> Iterator[metropolis.State]:
        """The chains after 1, 2, …, `steps` steps: "langevin", "mala", "jump" (mala with jumps), or "metropolis".

        sigma: how far "metropolis" proposes, x + sigma·√(2ε)·z.  Raises ValueError for another kernel.
        """
        net = self.frozen()
        if kernel not in KERNELS:
            raise ValueError(f"EBM: kernel {kernel!r} is not one of {', '.join(KERNELS)}")
        if kernel == "metropolis":
            yield from metropolis.random_walk(net.f, x, sigma * (2 * self.config.epsilon) ** 0.5, steps, rng)
            return
        state = metropolis.start(net.f, x)
        for _ in range(steps):
            if kernel == "langevin":
                state = state._replace(x=net.langevin(state.x, rng))
            else:
                state = net.mala(state, rng)
                if kernel == "jump":
                    state = net.jump(state, rng)._replace(accepted=state.accepted)
            yield state

    def sample(self, n: int, rng: Generator, steps: int = 200, kernel: str | None = None) -> Any:
        """n chains from N(0, s²I) after so many steps, (n, …).  With `noise`, cleaned by eq. (5)."""
        x = self.prior(n, rng)
        for state in self.walk(x, rng, steps, kernel or ("jump" if self.config.jump else self.config.kernel)):
            x = state.x
        return self.clean(x) if self.config.noise else x

    def clean(self, y: Any) -> Any:
        """E[x | y], eq. (5), of points with the noise of training."""
        return denoiser(y, self.frozen().score(y), self.config.noise)

    def restore(self, y: Any, sigma: float, rng: Generator, steps: int) -> Any:
        """A draw of x given y = x + σ·ε, by Langevin steps from y with eq. (4).  y: (B, …).  Returns y's shape."""
        net, x, epsilon = self.frozen(), y, min(self.config.epsilon, sigma**2 / 2)
        for _ in range(steps):
            z = rng.standard_normal(x.shape, x.dtype)
            x = langevin.step(x, posterior_score(net.score(x), x, y, sigma), epsilon, z)
        return x


KERNELS = ("langevin", "mala", "jump", "metropolis")
