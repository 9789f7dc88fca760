"""Autoencoders: a picture through a narrow place, and back.  Hinton & Salakhutdinov (2006).

An encoder f_φ makes a few numbers, the code, of a picture; a decoder g_θ makes the picture of the code again.

    L = ‖x − x̂‖² + R(φ, θ),   x̂ = g_θ(c),  c = f_φ(x),   R = λ·‖(φ, θ)‖²                (1)  autoencoder.loss

Where both are affine, the best that (1) without R can reach is principal component analysis with as many directions as
the code has numbers, x̂ = μ + VVᵀ(x − μ), which leaves the variances λ_k of all the others:

    min L = Σ_{k>d} λ_k,   v_1 … v_d: the eigenvectors of the covariance with the d largest λ_k

and there is no other minimum to be caught in: the decoder's columns span PCA's directions, though they need not be
them, since c may be any invertible map of PCA's Vᵀ(x − μ) (Baldi & Hornik 1989).  Networks that bend may do better with
as many numbers.

For pictures the maps are convolutions.  Down: strided ones.  Up, either

    upsample         every pixel four times, then a convolution: no pixel is painted more often than its neighbour
    deconvolution    the adjoint Aᵀ of a strided convolution A, ⟨A·x, y⟩ = ⟨x, Aᵀ·y⟩, with a kernel of its own

(Zeiler et al. 2010; Odena, Dumoulin & Olah 2016).

Nothing in (1) says where codes lie, so an autoencoder is no distribution of x: a code that no picture has may decode
to anything.  `sample` shows what comes of it, by drawing codes from a Gaussian all the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any, Literal, NamedTuple

from scratchgen import functional as F
from scratchgen import ops
from scratchgen.distributions import gaussian_full
from scratchgen.distributions.events import alike, per_example
from scratchgen.models.system import System
from scratchgen.nn.layers import Conv2d, ConvTranspose2d, Linear
from scratchgen.nn.mlp import MLP
from scratchgen.nn.module import Module
from scratchgen.nn.unet import Upsample
from scratchgen.random import Generator


class Loss(NamedTuple):
    """Per example (B,): the loss that is minimised, and ‖x − x̂‖²."""

    loss: Any
    error: Any


def loss(x: Any, rebuilt: Any, penalty: Any = 0.0) -> Loss:
    """Eq. (1).  x, rebuilt: (B, …), of one shape.  penalty: R, one number.  Raises ValueError if the shapes differ."""
    alike("autoencoder.loss", "x", x, rebuilt=rebuilt)
    error = per_example(ops.square(x - rebuilt))
    return Loss(error + penalty, error)


@dataclass(frozen=True)
class AutoencoderConfig:
    """shape: (H, W, C) of a picture, or that of any x where the network is dense.  latent: numbers in the code.
    network: "dense", perceptrons; "upsample" or "deconvolution", convolutions, and how the decoder grows.
    widths: of the perceptron from picture to code, and back; none: both are affine.  base: channels of the first
    convolution, doubled with every halving of the picture.  decay: λ.  Raises ValueError for what makes no network.
    """

    shape: tuple[int, ...] = (8, 8, 1)
    latent: int = 8
    network: Literal["dense", "upsample", "deconvolution"] = "dense"
    widths: tuple[int, ...] = (256, 128)
    base: int = 16
    decay: float = 0.0

    def __post_init__(self) -> None:
        if self.network not in ("dense", "upsample", "deconvolution"):
            raise ValueError(f"AutoencoderConfig: network {self.network!r} is not dense, upsample or deconvolution")
        if self.network != "dense" and len(self.shape) != 3:
            raise ValueError(f"AutoencoderConfig: convolutions need pictures (H, W, C), not {self.shape}")
        if min(self.latent, self.base, *self.widths, *self.shape) < 1 or self.decay < 0:
            raise ValueError(f"AutoencoderConfig: latent, base, widths and shape must be positive, decay not negative, "
                             f"not {self}")  # fmt: skip


class ConvEncoder(Module):
    """Pictures (B, H, W, C) as (B, n): strided convolutions, while height and width are even and above 4.

    sizes: (H, W, channels) at each stage, the picture's own pixels first.
    """

    def __init__(self, shape: tuple[int, ...], base: int, n: int, *, rng: Generator) -> None:
        h, w, c = shape
        self.sizes = [(h, w, base)]
        self.convs = [Conv2d(c, base, rng=rng)]
        while h % 2 == w % 2 == 0 and max(h, w) > 4:
            before, (h, w) = self.sizes[-1][2], (h // 2, w // 2)
            self.convs.append(Conv2d(before, 2 * before, rng=rng, stride=2))
            self.sizes.append((h, w, 2 * before))
        self.last = Linear(prod(self.sizes[-1]), n, rng=rng)

    def __call__(self, x: Any) -> Any:
        for conv in self.convs:
            x = F.silu(conv(x))
        return self.last(ops.reshape(x, (x.shape[0], prod(self.sizes[-1]))))


class ConvDecoder(Module):
    """(B, n) as pictures of C channels, through the encoder's sizes the other way round.

    grow: "upsample" or "deconvolution", how a picture's height and width are doubled.
    """

    def __init__(self, n: int, sizes: list[tuple[int, int, int]], channels: int, grow: str, *, rng: Generator) -> None:
        self.small = sizes[-1]
        self.first = Linear(n, prod(self.small), rng=rng)
        self.grow: list[Any] = []
        self.convs = []
        for (_, _, c), (_, _, after) in zip(sizes[::-1], sizes[-2::-1], strict=False):
            self.grow.append(Upsample(c, rng=rng) if grow == "upsample" else ConvTranspose2d(c, c, rng=rng))
            self.convs.append(Conv2d(c, after, rng=rng))
        self.last = Conv2d(sizes[0][2], channels, rng=rng)

    def __call__(self, z: Any) -> Any:
        h = F.silu(ops.reshape(self.first(z), (z.shape[0], *self.small)))
        for grow, conv in zip(self.grow, self.convs, strict=True):
            h = F.silu(conv(F.silu(grow(h))))
        return self.last(h)


class Flat(Module):
    """A perceptron of pictures: (B, …) flattened before it, or its output shaped after it."""

    def __init__(self, *widths: int, shape: tuple[int, ...] = (-1,), rng: Generator) -> None:
        self.mlp, self.shape = MLP(*widths, rng=rng), shape

    def __call__(self, x: Any) -> Any:
        return ops.reshape(self.mlp(ops.reshape(x, (x.shape[0], -1))), (x.shape[0], *self.shape))


class Autoencoder(System):
    """The system.  Its networks are `encoder` and `decoder`."""

    def __init__(self, config: AutoencoderConfig, *, rng: Generator) -> None:
        self.config, shape, n = config, config.shape, config.latent
        self.encoder: Module
        self.decoder: Module
        if config.network == "dense":
            self.encoder = Flat(prod(shape), *config.widths, n, rng=rng)
            self.decoder = Flat(n, *config.widths[::-1], prod(shape), shape=shape, rng=rng)
        else:
            self.encoder = down = ConvEncoder(shape, config.base, n, rng=rng)
            self.decoder = ConvDecoder(n, down.sizes, shape[2], config.network, rng=rng)

    def encode(self, x: Any) -> Any:
        """c = f_φ(x), (B, latent).  x: (B, …)."""
        return self.encoder(x)  # type: ignore[operator]

    def decode(self, c: Any) -> Any:
        """x̂ = g_θ(c), (B, …).  c: (B, latent)."""
        return self.decoder(c)  # type: ignore[operator]

    def loss(self, x: Any, rng: Generator) -> Loss:
        """Eq. (1).  Nothing in it is drawn."""
        return loss(x, self.decode(self.encode(x)), self.penalty())

    def penalty(self) -> Any:
        """R = λ·‖(φ, θ)‖², one number."""
        decay = self.config.decay
        return decay * sum(ops.sum(ops.square(p)) for p in self.parameters()) if decay else 0.0

    def error(self, x: Any) -> Any:
        """‖x − x̂‖², (B,): the honest number of an autoencoder, which has no density.  x: (B, …)."""
        model = self.frozen()
        return loss(x, model.decode(model.encode(x))).error

    def sample(self, n: int, rng: Generator, mean: Any = None, cov: Any = None) -> Any:
        """n pictures of codes c ~ N(mean, cov), the standard normal by default: those of real codes, say.

        mean: (latent,).  cov: (latent, latent).
        """
        c = rng.standard_normal((n, self.config.latent), "float32" if mean is None else mean.dtype)
        if mean is not None:
            c = gaussian_full.sample(None, ops.broadcast_to(mean, c.shape), cov, c)
        return self.frozen().decode(c)
