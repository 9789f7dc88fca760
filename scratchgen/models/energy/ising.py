"""The Ising model of a picture: neighbours like to be alike.  Ising (1925); for denoising, Geman & Geman (1984), Besag
(1986), Bishop (2006), §8.3.3.

Pixels x_i ∈ {−1, +1} on a grid; i ~ j are the pairs of neighbours, left and right or above and below.  What is seen, y,
is x with each pixel flipped with probability ρ.

    E(x) = −Σ_i f_i·x_i − β·Σ_{i~j} x_i·x_j,      p(x) = e^−E/Z                         (1)  ising.energy
    f_i = h_i + η·y_i,   η = ½·log((1−ρ)/ρ):   then (1) is p(x | y)                     (2)  ising.posterior
    m_i = f_i + β·Σ_{j~i} x_j,     E(x, x_i turned) − E(x) = 2·x_i·m_i                  (3)  ising.field
    p(x_i = 1 | all others) = σ(2·m_i),   E[x_i | all others] = tanh m_i                (4)  ising.conditional
    x_i = 1 where u_i < σ(2·m_i), else −1:  all black squares, then all white           (5)  ising.gibbs
    x_i = the sign of m_i, as it was for m_i = 0:  all black squares, then all white    (6)  ising.icm
    Σ_i log p(x_i | all others) = Σ_i log σ(2·x_i·m_i)                                  (7)  ising.pseudo
    Z = Σ_x e^−E(x), pixel by pixel, over the last row's 2ᵂ states                      (8)  ising.log_z
    min_x E(x), likewise                                                                (9)  ising.ground
    E[x_i] = ∂log Z/∂f_i                                                                (10)  ising.marginals

With f = h this is the law of clean pictures, the prior; with (2) that of the clean picture given the noisy one, since
e^(η·x_i·y_i) is p(y_i | x_i) but for a constant.  Written out, its energy is −Σ h_i·x_i − β·Σ x_i·x_j − η·Σ x_i·y_i.

Coloured like a chessboard, the neighbours of a black square are white: given the white ones all black ones are
independent, and can be drawn at once.  Iterated conditional modes, (6), takes the likelier of the two where (5) draws:
by (3) no turn raises the energy, so it comes to rest, in a minimum from which no single pixel leads down; mostly it is
not the least, (9).  The best guess pixel by pixel is another still: if p is right, nothing errs less often than the
sign of E[x_i | y].  Draws estimate it by the mean of tanh m_i.

(8) passes the sum over all pixels above down the picture: what a pixel and those below must know of them is the lowest
pixel of every column.  With max in the place of the sum of exponentials it is (9).  The cost is H·W·2ᵂ, no more; wide
pictures are out of reach, and so they are fitted by (7), which needs no Z (Besag 1975).

Everywhere: x, y (B, H, W) of −1 and 1, floats; f, h: numbers, (H, W), or (B, H, W); β a number, or (); logarithms in
nats.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from math import log
from typing import Any, NamedTuple

from scratchgen import functional as F
from scratchgen import ops
from scratchgen.autograd.tensor import tensor, value_of
from scratchgen.autograd.transforms import grad
from scratchgen.backend import active, backend_of, float64
from scratchgen.distributions import bernoulli
from scratchgen.models.system import System
from scratchgen.random import Generator

WIDEST = 12  # pixels of a row whose states can be counted


def energy(f: Any, beta: Any, x: Any) -> Any:
    """E(x), eq. (1).  x: (B, H, W).  Returns (B,).  Raises ValueError unless x has three axes."""
    _fits(x)
    pairs = _pixels(x[:, 1:] * x[:, :-1]) + _pixels(x[:, :, 1:] * x[:, :, :-1])
    return -(_pixels(f * x) + beta * pairs)


def posterior(h: Any, y: Any, rho: float) -> Any:
    """f = h + η·y, eq. (2), (B, H, W).  y: (B, H, W), noisy.  Raises ValueError unless 0 < ρ < 1."""
    if not 0 < rho < 1:
        raise ValueError(f"ising.posterior: rho = {rho} should lie between 0 and 1")
    return h + 0.5 * log((1 - rho) / rho) * y


def field(f: Any, beta: Any, x: Any) -> Any:
    """m_i, eq. (3): what pulls at each pixel, (B, H, W).  x: (B, H, W).  Raises ValueError unless x has three axes."""
    _fits(x)
    framed = ops.pad(x, ((0, 0), (1, 1), (1, 1)))
    beside = framed[:, 1:-1, :-2] + framed[:, 1:-1, 2:]
    return f + beta * (framed[:, :-2, 1:-1] + framed[:, 2:, 1:-1] + beside)


def conditional(f: Any, beta: Any, x: Any) -> Any:
    """E[x_i | all others] = tanh m_i, eq. (4), of every pixel: (B, H, W)."""
    return ops.tanh(field(f, beta, x))


def gibbs(f: Any, beta: Any, x: Any, u: Any) -> Any:
    """x after a sweep of Gibbs sampling, eq. (5).  u: U[0, 1), (B, H, W).  A plain array."""
    return _sweep(f, beta, x, lambda m, x: 2 * bernoulli.sample(None, 2 * m, u) - 1)


def icm(f: Any, beta: Any, x: Any) -> Any:
    """x after a sweep of iterated conditional modes, eq. (6).  A plain array."""
    return _sweep(f, beta, x, lambda m, x: ops.where(m == 0, x, ops.sign(m)))


def pseudo_log_likelihood(f: Any, beta: Any, x: Any) -> Any:
    """Σ_i log p(x_i | all others), eq. (7).  x: (B, H, W).  Returns (B,)."""
    return _pixels(F.log_sigmoid(2 * x * field(f, beta, x)))


def log_Z(f: Any, beta: Any) -> Any:
    """log Z, eq. (8), exactly.  f: (B, H, W).  Returns (B,).  Raises ValueError for pictures wider than 12."""
    return _down(f, beta, ops.logsumexp)


def ground(f: Any, beta: Any) -> Any:
    """The least energy of all pictures, eq. (9).  f: (B, H, W).  Returns (B,).  Raises ValueError as `log_Z`."""
    return -_down(f, beta, ops.max)


def marginals(f: Any, beta: Any) -> Any:
    """E[x_i], eq. (10), exactly.  f: (B, H, W).  Returns (B, H, W).  Raises ValueError as `log_Z`."""
    return grad(lambda f: ops.sum(log_Z(f, beta)))(f)


def _down(f: Any, beta: Any, add: Callable[..., Any]) -> Any:
    """−E added up over all x, pixel by pixel: v, (B, …), by the states of the lowest pixel of every column so far."""
    B, H, W = f.shape
    if W > WIDEST:
        raise ValueError(f"ising: 2^{W} states of a row are too many to count")
    xp = backend_of(value_of(f))
    s = xp.asarray([-1.0, 1.0], f.dtype)[:, None]
    alike = ops.expand_dims(beta * s * xp.transpose(s), -1)  # (2, 2, 1): of one pixel and the next
    v = xp.zeros((B, 1), f.dtype)
    for i in range(H):
        for j in range(W):
            left, right = 2**j, 2 ** (W - 1 - j) if i else 1  # states of this row so far, and of what is still above
            if i:
                v = add(ops.reshape(v, (B, left, 2, 1, right)) + alike, axis=2)
            v = ops.reshape(v, (B, left, 2 if i else 1, right)) + ops.reshape(f[:, i, j], (B, 1, 1, 1)) * s
            if j:
                v = ops.reshape(v, (B, left // 2, 2, 2, right)) + alike
    return add(ops.reshape(v, (B, -1)), axis=1)


def _sweep(f: Any, beta: Any, x: Any, rule: Callable[[Any, Any], Any]) -> Any:
    """x by a rule (m, x) ↦ new x, first where row and column add up to an even number, then where to an odd one."""
    f, beta, x = value_of(f), value_of(beta), value_of(x)
    xp = backend_of(x)
    H, W = x.shape[1:]
    black = (xp.arange(H)[:, None] + xp.arange(W)) % 2 == 0
    for colour in (black, ~black):
        x = ops.where(colour, rule(field(f, beta, x), x), x)
    return x


def _pixels(x: Any) -> Any:
    return ops.sum(x, axis=(1, 2))


def _fits(x: Any) -> None:
    if x.ndim != 3:
        raise ValueError(f"ising: x {x.shape} should be (B, H, W)")


# --- the system ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class IsingConfig:
    """rows, columns: H and W.  local: whether each pixel has an h of its own, or all one.  Raises ValueError for a
    number below 1.
    """

    rows: int = 8
    columns: int = 8
    local: bool = True

    def __post_init__(self) -> None:
        if min(self.rows, self.columns) < 1:
            raise ValueError(f"IsingConfig: {self.rows} × {self.columns} is no grid")


class Loss(NamedTuple):
    """Per example: minus the pseudo-likelihood, eq. (7), in nats."""

    loss: Any


class Ising(System):
    """The system: h and β, fitted to clean pictures.  Its data are (B, H, W) of −1 and 1."""

    def __init__(self, config: IsingConfig) -> None:
        self.config = config
        shape = (config.rows, config.columns) if config.local else (1, 1)
        self.h = tensor(active().zeros(shape, "float32"))
        self.beta = tensor(active().zeros((), "float32"))

    def start(self, batch: Any, rng: Generator) -> None:
        """Independent pixels, as often 1 as in the first minibatch, one more counted of each."""
        ones = ops.sum((batch + 1) / 2, axis=0)
        n = batch.shape[0]
        if not self.config.local:
            ones, n = ops.sum(ones, keepdims=True), n * self.config.rows * self.config.columns
        self.h.assign((0.5 * (ops.log(ones + 1) - ops.log(n - ones + 1))).astype(self.h.dtype))

    def loss(self, x: Any, rng: Generator) -> Loss:
        return Loss(-pseudo_log_likelihood(self.h, self.beta, x))

    def clean(self, n: int) -> Any:
        """f = h for n pictures of which nothing is seen, (n, H, W)."""
        return ops.broadcast_to(self.h, (n, self.config.rows, self.config.columns))

    def chains(self, f: Any, x: Any, rng: Generator, sweeps: int) -> Iterator[Any]:
        """x after 1, 2, …, `sweeps` sweeps of Gibbs sampling."""
        for _ in range(sweeps):
            x = gibbs(f, self.beta, x, rng.random(x.shape, x.dtype))
            yield x

    def sample(self, n: int, rng: Generator, sweeps: int = 500) -> Any:
        """Where n chains are after so many sweeps that begin as independent pixels: (n, H, W)."""
        f = self.clean(n)
        x = 2 * bernoulli.sample(rng, 2 * f) - 1
        for after in self.chains(f, x, rng, sweeps):
            x = after
        return x

    def descend(self, y: Any, rho: float) -> Iterator[Any]:
        """x after 1, 2, … sweeps of ICM from y (B, H, W), until none changes anything; that one's x too."""
        f, before = posterior(self.h, y, rho), None
        while before is None or bool((before != y).any()):
            before, y = y, icm(f, self.beta, y)
            yield y

    def restore(self, y: Any, rho: float, rng: Generator, sweeps: int, burn: int) -> Any:
        """E[x | y], (B, H, W), as the mean of eq. (4) over the sweeps from y after the first `burn`."""
        f = posterior(self.h, y, rho)
        total: Any = 0.0
        for x in islice(self.chains(f, y, rng, sweeps), burn, None):
            total = total + conditional(f, self.beta, x)
        return total / (sweeps - burn)

    def log_prob(self, x: Any) -> Any:
        """log p(x), (B,), exactly, for pictures at most 12 wide; in float64."""
        h, beta = value_of(self.h).astype(float64), value_of(self.beta).astype(float64)
        f = ops.broadcast_to(h, (1, self.config.rows, self.config.columns))
        return -energy(h, beta, x.astype(float64)) - log_Z(f, beta)
