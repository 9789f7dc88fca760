"""How a network becomes a score: what it is told of the noise, and what it need not learn.

    x = a·x_0 + σ·ε,   c = √(a² + σ²),   λ = log(a/σ)
    s(x) = −(x + (a/σ)·c·F(x/c, λ)) / c²                                                (1)  score.network

With F = 0, as an untrained network is, (1) is the exact score of x for data x_0 ~ N(0, I), at every noise level; the
network F has the rest to learn, and what it should say, E[(a·ε − σ·x_0)/c | x], is of order 1 at all of them.  It sees
x/c, of variance 1 for data of variance 1.  The noise in x that (1) implies is ε_θ = −σ·s = σ/c²·x + a/c·F: the network
says little where nearly all of x is noise, and all where hardly any is.

Karras et al. (2022), arXiv:2206.00364, §5, for σ_data = 1; where c = 1, F is v of Salimans & Ho (2022).  λ, and not the
time, is what F is told, so that one network serves any schedule of noise; it stands as 100·λ at the waves of a
sinusoidal embedding, made for times of some hundreds.

a, σ: numbers, or one per example (B,).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from scratchgen import ops
from scratchgen.autograd.tensor import value_of
from scratchgen.backend import Array, backend_of
from scratchgen.models.levels import meet, time
from scratchgen.nn.layers import SinusoidalEmbedding
from scratchgen.nn.mlp import MLP
from scratchgen.nn.module import Module
from scratchgen.nn.unet import UNet, UNetConfig
from scratchgen.random import Generator

Network = Callable[[Array, Any], Array]
"""F(x, t): x (B, …), t plain numbers (B,); returns x's shape."""


def score(network: Network, x: Array, a: Any, sigma: Any) -> Array:
    """s(x), eq. (1).  x: (B, …).  Returns x's shape."""
    a, sigma = time(a), time(sigma)
    c = ops.sqrt(ops.square(a) + ops.square(sigma))
    wave = 100 * ops.log(a / sigma) + backend_of(value_of(x)).zeros((x.shape[0],), c.dtype)
    value = network(x / meet(c, x), wave)
    return -(x + meet(a / sigma * c, x) * value) / meet(c, x) ** 2


class PointNetwork(Module):
    """F(x, t) for points x (B, d): a perceptron of x and the waves of t.  The last layer starts at 0."""

    def __init__(self, d: int, width: int, *, rng: Generator) -> None:
        self.embed = SinusoidalEmbedding(32)
        self.net = MLP(d + 32, width, width, width, d, rng=rng, gain=0.0)

    def __call__(self, x: Array, t: Any) -> Array:
        return self.net(ops.concatenate([x, self.embed(t).astype(x.dtype)], axis=-1))


def network(shape: tuple[int, ...], unet: UNetConfig, width: int, rng: Generator) -> UNet | PointNetwork:
    """F for data of a shape: a U-Net for images (H, W, C), a perceptron with layers of `width` for points (d,)."""
    return UNet(unet, rng=rng) if len(shape) == 3 else PointNetwork(shape[0], width, rng=rng)
