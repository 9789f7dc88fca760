"""PixelCNN: an image is read like a text, and each pixel guessed from those before it.
van den Oord, Kalchbrenner & Kavukcuoglu (2016a), arXiv:1601.06759; van den Oord et al. (2016b), arXiv:1606.05328.

    p(k) = Π_i p(k_i | k_1 … k_{i−1}),   i = 1 … H·W row by row                         (1)  autoregressive.log_prob
    k_1 ~ p(k_1),   k_2 ~ p(k_2 | k_1),   …                                             (2)  autoregressive.sample
    kernels w∘m,   m_A = [u < 0 or (u = 0 and v < 0)],   m_B = m_A + [u = v = 0]        (3)  pixelcnn.mask
    y = tanh(a)⊙σ(b),   (a, b) = the two halves of a convolution                        (4)  pixelcnn.gate

k_i is one of L symbols, and p(k_i | …) the softmax of L logits: nothing is assumed of their order.  All factors of (1)
come out of one pass over the whole image, if no logit can see its own pixel or a later one: a kernel reads u rows and v
columns away, and (3) stops it from reading ahead.  The first layer, of type A, leaves out the pixel itself; the later
ones, of type B, may look at what the first has found there.

A stack of such masks misses pixels that it might have used.  Each row up reaches one column further to the right (with
kernels of 3), so of the row above only the next pixel is seen, and the rest of it never: the blind spot.  The second
paper has two stacks and no blind spot: the vertical looks at whole rows above, and needs no mask on their right; the
horizontal looks along its own row, and at what the vertical has found.  (2) needs the vertical stack once a row, and
then, pixel by pixel, the horizontal one on that row alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from scratchgen import functional as F
from scratchgen import ops
from scratchgen.backend import active
from scratchgen.distributions import categorical
from scratchgen.models.autoregressive.choice import temper
from scratchgen.models.flows.dequantise import bits_per_dim
from scratchgen.models.system import System
from scratchgen.nn.layers import Embedding, Linear, constants, weights
from scratchgen.nn.module import Module
from scratchgen.nn.settings import at_least_one
from scratchgen.random import Generator

SIGHTS = ("raster", "vertical", "horizontal")


@dataclass(frozen=True)
class PixelCNNConfig:
    """shape: H, W.  levels: L, how many symbols there are.  width: channels.  layers: of convolutions, the first of
    type A.  kernel: odd, how far one of them looks.  gated: two stacks with gates, or one stack of masked
    convolutions, blind spot and all.  dropout: share of the horizontal stack's features left out in training.
    Raises ValueError for numbers that make no network.
    """

    shape: tuple[int, ...] = (8, 8)
    levels: int = 17
    width: int = 32
    layers: int = 6
    kernel: int = 3
    gated: bool = True
    dropout: float = 0.0

    def __post_init__(self) -> None:
        at_least_one(self, "levels", "width", "layers", "kernel")
        if self.kernel % 2 == 0 or self.kernel == 1:
            raise ValueError(f"PixelCNNConfig: a kernel of {self.kernel} has no middle, or sees nothing but it")
        if len(self.shape) != 2 or min(self.shape) < 1:
            raise ValueError(f"PixelCNNConfig: the shape {self.shape} is not (H, W)")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"PixelCNNConfig: dropout {self.dropout} is not in [0, 1)")


class Loss(NamedTuple):
    """Per example, (B,): −log p(k), in bits per pixel."""

    loss: Any


def mask(sight: str, kernel: int, first: bool) -> list[list[bool]]:
    """m, eq. (3), row by row: rows −r … 0, columns −r … r, r = (kernel − 1)/2.

    sight: "raster" for m_A (first) or m_B; "vertical" sees whole rows, those above and, unless first, its own;
    "horizontal" has one row, and columns −r … 0, the last of them unless first.
    Raises ValueError for another sight.
    """
    if sight not in SIGHTS:
        raise ValueError(f"pixelcnn.mask: {sight!r} is not one of {', '.join(SIGHTS)}")
    r = kernel // 2
    rows, columns = (range(-r, 1), range(-r, r + 1)) if sight != "horizontal" else (range(1), range(-r, 1))

    def seen(u: int, v: int) -> bool:
        if sight == "vertical":
            return u < 0 or not first
        return u < 0 or v < 0 or (v == 0 and not first)

    return [[seen(u, v) for v in columns] for u in rows]


def gate(x: Any) -> Any:
    """y, eq. (4).  x: (…, 2·C), a in front of b.  Returns (…, C)."""
    a, b = ops.split(x, 2, axis=-1)
    return ops.tanh(a) * F.sigmoid(b)


class MaskedConv(Module):
    """A convolution that sees what its mask lets it, with a frame of zeros that keeps height and width."""

    def __init__(self, c_in: int, c_out: int, kernel: int, sight: str, first: bool, *, rng: Generator) -> None:
        rows = mask(sight, kernel, first)
        height, width, seen = len(rows), len(rows[0]), sum(map(sum, rows))
        self.mask = active().asarray(rows, bool)
        self.w = weights(rng, (height, width, c_in, c_out), seen * c_in)
        self.b = constants(c_out)
        r = kernel // 2
        self.padding = (height - 1, 0), (r, width - 1 - r)

    def __call__(self, x: Any) -> Any:
        w = ops.where(self.mask[:, :, None, None], self.w, 0.0)
        return ops.conv2d(x, w, 1, self.padding) + self.b


class GatedLayer(Module):
    """One layer of both stacks.  The horizontal one adds to what came before, but for the first, which may not know
    its own pixel."""

    def __init__(self, c_in: int, width: int, kernel: int, first: bool, *, rng: Generator) -> None:
        self.vertical = MaskedConv(c_in, 2 * width, kernel, "vertical", first, rng=rng)
        self.link = Linear(2 * width, 2 * width, rng=rng)
        self.horizontal = MaskedConv(c_in, 2 * width, kernel, "horizontal", first, rng=rng)
        self.out = Linear(width, width, rng=rng)
        self.first = first

    def down(self, v: Any) -> tuple[Any, Any]:
        """The vertical stack's next features, and what the horizontal one is told of them."""
        found = self.vertical(v)
        return gate(found), self.link(found)

    def along(self, h: Any, told: Any) -> Any:
        """The horizontal stack's next features.  h: (B, H, W, c_in), or one row of it, and of `told`."""
        y = self.out(gate(self.horizontal(h) + told))
        return y if self.first else h + y


class Head(Module):
    """Logits of each pixel from its features."""

    def __init__(self, width: int, levels: int, *, rng: Generator) -> None:
        self.hidden, self.out = Linear(width, 2 * width, rng=rng), Linear(2 * width, levels, rng=rng, gain=0.0)

    def __call__(self, h: Any) -> Any:
        return self.out(F.relu(self.hidden(F.relu(h))))


Drop = Callable[[Any], Any]


class Gated(Module):
    """Two stacks.  x: (B, H, W, c), the embedded symbols; returns logits (B, H, W, L)."""

    def __init__(self, config: PixelCNNConfig, *, rng: Generator) -> None:
        widths = [config.width] * config.layers
        self.layers = [GatedLayer(c, c, config.kernel, i == 0, rng=rng) for i, c in enumerate(widths)]
        self.head = Head(config.width, config.levels, rng=rng)

    def above(self, x: Any) -> list[Any]:
        """What each layer of the horizontal stack is told of the rows above."""
        told, v = [], x
        for layer in self.layers:
            v, here = layer.down(v)
            told.append(here)
        return told

    def along(self, x: Any, told: list[Any], drop: Drop = lambda h: h) -> Any:
        """Features (B, H, W, width) of the horizontal stack."""
        h = x
        for layer, here in zip(self.layers, told, strict=True):
            h = drop(layer.along(h, here))
        return h

    def features(self, x: Any, drop: Drop = lambda h: h) -> Any:
        return self.along(x, self.above(x), drop)

    def __call__(self, x: Any, drop: Drop = lambda h: h) -> Any:
        return self.head(self.features(x, drop))

    def rows(self, x: Any) -> Callable[[Any], Any]:
        """The last row's symbols (B, 1, W, c) ↦ its logits (B, 1, W, L), once x (B, r, W, c) is known above it."""
        told = [here[:, -1:] for here in self.above(x)]
        return lambda row: self.last(row, told)

    def last(self, row: Any, told: list[Any]) -> Any:
        """The same of a row and what it is told of those above."""
        return self.head(self.along(row, told))


class Plain(Module):
    """One stack: x + conv(relu x), masked.  x: (B, H, W, c), the embedded symbols; returns logits (B, H, W, L)."""

    def __init__(self, config: PixelCNNConfig, *, rng: Generator) -> None:
        widths = [config.width] * config.layers
        self.convs = [MaskedConv(c, c, config.kernel, "raster", i == 0, rng=rng) for i, c in enumerate(widths)]
        self.head = Head(config.width, config.levels, rng=rng)

    def features(self, x: Any, drop: Drop = lambda h: h) -> Any:
        h = self.convs[0](x)
        for conv in self.convs[1:]:
            h = drop(h + conv(F.relu(h)))
        return h

    def __call__(self, x: Any, drop: Drop = lambda h: h) -> Any:
        return self.head(self.features(x, drop))

    def rows(self, x: Any) -> Callable[[Any], Any]:
        """As `Gated.rows`, by going over all the rows again."""
        return lambda row: self.last(row, x[:, :-1])

    def last(self, row: Any, above: Any) -> Any:
        """The same of a row and all symbols above it."""
        return self(ops.concatenate([above, row], axis=1))[:, -1:]


class PixelCNN(System):
    """The system: symbols k, plain integers (B, H, W) in [0, L): grey levels of images, or the places of codes."""

    def __init__(self, config: PixelCNNConfig, *, rng: Generator) -> None:
        self.config = config
        self.embed = Embedding(config.levels, config.width, rng=rng)
        self.net = (Gated if config.gated else Plain)(config, rng=rng)

    def logits(self, k: Any, rng: Generator | None = None) -> Any:
        """log p(k_i = · | k_1 … k_{i−1}) up to a constant, (B, H, W, L).  rng: makes the dropout, if any.

        Raises ValueError for images of another shape.
        """
        if tuple(k.shape[1:]) != tuple(self.config.shape):
            raise ValueError(f"PixelCNN: images {tuple(k.shape)} should be {('B', *self.config.shape)}")
        share = self.config.dropout
        if rng is None or share == 0:
            return self.net(self.embed(k))
        return self.net(self.embed(k), lambda h: h * (rng.random(h.shape, h.dtype) >= share) * (1 / (1 - share)))

    def log_prob(self, k: Any) -> Any:
        """log p(k), eq. (1), (B,), in nats."""
        return categorical.log_prob(k, self.logits(k))

    def bits_per_dim(self, k: Any) -> Any:
        """−log p(k) in bits per pixel, (B,)."""
        return bits_per_dim(self.log_prob(k), k.shape[1] * k.shape[2])

    def loss(self, k: Any, rng: Generator) -> Loss:
        """−log p(k) in bits per pixel, with dropout."""
        log_p = categorical.log_prob(k, self.logits(k, rng))
        return Loss(bits_per_dim(log_p, k.shape[1] * k.shape[2]))

    def sample(self, n: int, rng: Generator, temperature: float = 1.0, given: Any = None) -> Any:
        """n images of symbols, plain integers (n, H, W), by eq. (2).  given: their first rows, (n, r, W)."""
        *_, last = self.draw(n, rng, temperature, given)
        return last

    def draw(self, n: int, rng: Generator, temperature: float = 1.0, given: Any = None) -> Iterator[Any]:
        """The same, seen at first and after each row that is drawn; what is not drawn yet is 0."""
        model, xp = self.frozen(), active()
        height, width = self.config.shape
        k = xp.zeros((n, height, width), "int64")
        known = 0 if given is None else given.shape[1]
        if known:
            k[:, :known] = given
        yield k.copy()
        for r in range(known, height):
            logits = model.net.rows(model.embed(k[:, : r + 1]))
            for c in range(width):
                found = logits(model.embed(k[:, r : r + 1]))[:, :, c]
                k[:, r : r + 1, c] = categorical.sample(rng, temper(found, temperature))
            yield k.copy()
