"""Every layer of `scratchgen.nn` at a size that finite differences can afford."""

from typing import Any, NamedTuple

import numpy as np

from scratchgen import functional as F
from scratchgen import nn
from scratchgen.backend import active
from scratchgen.random import Generator

TINY_UNET = nn.UNetConfig(channels=1, base=4, multipliers=(1, 2), attention=(1,), heads=2, groups=2, time=6)


class Case(NamedTuple):
    """A layer, the shapes of its floating inputs, and how the layer is called with them."""

    build: Any
    shapes: tuple[tuple[int, ...], ...]
    call: Any = lambda layer, *xs: layer(*xs)


def _mask():
    return active().asarray(np.tril(np.ones((3, 3), bool)))


def _indices():
    return active().asarray(np.array([[2, 0, 2], [1, 2, 0]]))


def _times():
    return active().asarray(np.array([3, 7]))


CASES = {
    "Linear": Case(lambda r: nn.Linear(3, 2, rng=r), ((2, 3),)),
    "Linear, no bias": Case(lambda r: nn.Linear(3, 2, rng=r, bias=False), ((2, 2, 3),)),
    "MLP": Case(lambda r: nn.MLP(3, 4, 3, 2, rng=r), ((2, 3),)),
    "Conv2d": Case(lambda r: nn.Conv2d(2, 3, 3, rng=r), ((1, 3, 4, 2),)),
    "Conv2d, stride": Case(lambda r: nn.Conv2d(2, 2, 3, rng=r, stride=2), ((1, 4, 5, 2),)),
    "Conv2d, 1 pixel": Case(lambda r: nn.Conv2d(3, 2, 1, rng=r), ((2, 2, 2, 3),)),
    "Conv2d, same": Case(lambda r: nn.Conv2d(1, 2, 2, rng=r, padding="same"), ((1, 3, 3, 1),)),
    "ConvTranspose2d": Case(lambda r: nn.ConvTranspose2d(2, 2, 4, rng=r), ((1, 2, 3, 2),)),
    "ConvTranspose2d, stride 1": Case(
        lambda r: nn.ConvTranspose2d(2, 1, 3, rng=r, stride=1), ((1, 3, 2, 2),)
    ),
    "Downsample": Case(lambda r: nn.Downsample(2, rng=r), ((1, 4, 4, 2),)),
    "Upsample": Case(lambda r: nn.Upsample(2, rng=r), ((1, 2, 2, 2),)),
    "Embedding": Case(lambda r: nn.Embedding(4, 3, rng=r), (), lambda layer: layer(_indices())),
    "GroupNorm": Case(lambda _: nn.GroupNorm(2, 4), ((2, 2, 2, 4),)),
    "LayerNorm": Case(lambda _: nn.LayerNorm(5), ((3, 5),)),
    "RMSNorm": Case(lambda _: nn.RMSNorm(5), ((3, 5),)),
    "MultiHeadAttention": Case(
        lambda r: nn.MultiHeadAttention(4, 2, rng=r), ((1, 3, 4),), lambda layer, x: layer(x, mask=_mask())
    ),
    "MultiHeadAttention, context": Case(
        lambda r: nn.MultiHeadAttention(4, 2, rng=r, context=3), ((1, 2, 4), (1, 3, 3))
    ),
    "TransformerBlock": Case(
        lambda r: nn.TransformerBlock(4, 2, rng=r, expand=2), ((1, 3, 4),), lambda layer, x: layer(x, _mask())
    ),
    "PixelAttention": Case(lambda r: nn.PixelAttention(4, rng=r, heads=2, groups=2), ((1, 2, 2, 4),)),
    "ResBlock": Case(lambda r: nn.ResBlock(4, 4, rng=r, groups=2), ((1, 2, 2, 4),)),
    "ResBlock, time": Case(lambda r: nn.ResBlock(2, 4, rng=r, n_time=3, groups=2), ((1, 2, 2, 2), (1, 3))),
    "Sequential": Case(
        lambda r: nn.Sequential(nn.Linear(3, 4, rng=r), F.silu, nn.Linear(4, 2, rng=r)), ((2, 3),)
    ),
    "UNet": Case(lambda r: nn.UNet(TINY_UNET, rng=r), ((2, 4, 4, 1),), lambda layer, x: layer(x, _times())),
}
SMALL = [name for name in CASES if name != "UNet"]


def build(name, seed=0):
    """The layer in float64, on the active backend, no parameter left at 0 or 1, where errors could hide."""
    return randomise(CASES[name].build(Generator(seed)).astype(np.float64), seed)


def randomise(module, seed=0, scale=0.4):
    noise = np.random.default_rng(seed + 1000)
    for x in module.parameters():
        step = active().asarray((scale * noise.standard_normal(x.shape)).astype(x.dtype))
        x.assign(x.value + step)
    return module


def inputs(name, seed=0):
    noise = np.random.default_rng(seed + 2000)
    return [active().asarray(noise.standard_normal(shape)) for shape in CASES[name].shapes]


def as_function(name, module):
    """f(x₁ …, θ₁ …): the layer as a function of inputs and parameters, and those parameters' values."""
    names = [n for n, _ in module.named_parameters()]
    n_inputs = len(CASES[name].shapes)

    def f(*args):
        layer = module.frozen(dict(zip(names, args[n_inputs:], strict=True)))
        return CASES[name].call(layer, *args[:n_inputs])

    return f, [x.value.copy() for x in module.parameters()]


def host(x):
    """Values in host memory, of a tensor, an array of any backend, or a number."""
    from scratchgen.autograd import value_of
    from scratchgen.backend import backend_of

    x = value_of(x)
    return np.array(backend_of(x).to_numpy(x))
