"""VQ-VAE: a picture as a small grid of symbols, and a model of such grids.
van den Oord, Vinyals & Kavukcuoglu (2017), arXiv:1711.00937.

An encoder makes a grid of vectors E out of a picture, each is replaced by the nearest of K codes, and a decoder draws
the picture from those.  A PixelCNN learns which codes stand beside which: with it, grids can be drawn, and decoded.

    e_i = e_{k_i},   k_i = argmin_j ‖E_i − e_j‖²                                        (1)  vq.nearest
    e_st = E + sg[e − E]                                                                (2)  vq.straight_through
    L = ‖x − D(e_st)‖² + ‖sg[E] − e‖² + β·‖sg[e] − E‖²                                  (3)  vq.loss
    e_j = m_j/n_j,   the moving averages of Σ [k_i = j]·E_i and Σ [k_i = j]             (4)  vq.moving_average
    p(k) = Π_i p(k_i | k_1 … k_{i−1}),   row by row                                     (5)  autoregressive.log_prob
    log P(x) = log Σ_k' p(k')·P(x|k')  ≥  log p(k) + log P(x|k),   k = k(x)             (6)  vq.bound
    perplexity = exp(−Σ_j p_j log p_j),   p_j the share of code j                       (7)  vq.perplexity

The codes learn by their term of (3), or, in its place, by (4).  Each picture has one grid and no doubt about it,
q(k|x) = 1: while E, e and D learn, all grids count as equally likely, so that KL(q‖p) = n·log K for n places, which
teaches nobody.  The prior (5) comes after: here it is a second player, who sees the codes and moves none of them, and
has learnt them when they come to rest.  Then (6), of one grid among all, is what a picture costs: first its grid, then
what the decoder leaves open.  P(x|k) is a Gaussian around D(e), of one deviation σ_i for each pixel, over grey levels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from scratchgen import functional as F
from scratchgen import ops
from scratchgen.autograd.tensor import Tensor, value_of
from scratchgen.backend import active
from scratchgen.distributions import gaussian
from scratchgen.models.autoregressive.pixelcnn import Loss as PriorLoss
from scratchgen.models.autoregressive.pixelcnn import PixelCNN, PixelCNNConfig
from scratchgen.models.latent import quantise
from scratchgen.models.latent.bound import elbo
from scratchgen.models.latent.quantise import Loss, Tally
from scratchgen.models.system import Player, System
from scratchgen.nn.layers import Conv2d, GroupNorm, Linear, weights
from scratchgen.nn.module import Module
from scratchgen.nn.settings import at_least_one
from scratchgen.nn.unet import Downsample, ResBlock, Upsample
from scratchgen.random import Generator


@dataclass(frozen=True)
class VQVAEConfig:
    """shape: H, W, C.  levels: grey levels of the data.  halvings: how often encoder and decoder halve and double it.
    codes: K.  dims: d, numbers in a code.  width: channels, normalised in `groups`.  beta: β of eq. (3).  decay: γ of
    eq. (4); None: codes learn by gradient.  prior: width, layers and dropout of the PixelCNN.
    Raises ValueError for numbers that make no model.
    """

    shape: tuple[int, ...] = (8, 8, 1)
    levels: int = 17
    halvings: int = 1
    codes: int = 32
    dims: int = 16
    width: int = 32
    groups: int = 8
    beta: float = 0.25
    decay: float | None = None
    prior_width: int = 32
    prior_layers: int = 4
    prior_dropout: float = 0.2

    def __post_init__(self) -> None:
        at_least_one(self, "codes", "dims", "width", "groups", "halvings")
        side = 2**self.halvings
        if len(self.shape) != 3 or min(self.shape) < 1 or self.shape[0] % side or self.shape[1] % side:
            raise ValueError(f"VQVAEConfig: the shape {self.shape} is not (H, W, C) with H and W divisible by {side}")
        if self.beta < 0 or not 0 <= (self.decay or 0) < 1:
            raise ValueError(f"VQVAEConfig: beta {self.beta} is negative, or decay {self.decay} not in [0, 1)")

    def of_prior(self) -> PixelCNNConfig:
        """The prior's own."""
        h, w = (n // 2**self.halvings for n in self.shape[:2])
        return PixelCNNConfig((h, w), self.codes, self.prior_width, self.prior_layers, dropout=self.prior_dropout)


class Encoder(Module):
    """E(x): pictures (B, H, W, C) to vectors (B, h, w, d)."""

    def __init__(self, config: VQVAEConfig, *, rng: Generator) -> None:
        width, groups = config.width, config.groups
        self.stem = Conv2d(config.shape[2], width, 3, rng=rng)
        self.downs = [Downsample(width, rng=rng) for _ in range(config.halvings)]
        self.blocks = [ResBlock(width, width, rng=rng, groups=groups) for _ in range(config.halvings)]
        self.norm, self.out = GroupNorm(groups, width), Linear(width, config.dims, rng=rng)

    def __call__(self, x: Any) -> Any:
        h = self.stem(x)
        for down, block in zip(self.downs, self.blocks, strict=True):
            h = block(down(F.silu(h)))
        return self.out(F.silu(self.norm(h)))


class Decoder(Module):
    """D(e): vectors (B, h, w, d) to pictures (B, H, W, C)."""

    def __init__(self, config: VQVAEConfig, *, rng: Generator) -> None:
        width, groups = config.width, config.groups
        self.stem = Conv2d(config.dims, width, 3, rng=rng)
        self.blocks = [ResBlock(width, width, rng=rng, groups=groups) for _ in range(config.halvings)]
        self.ups = [Upsample(width, rng=rng) for _ in range(config.halvings)]
        self.norm, self.out = GroupNorm(groups, width), Conv2d(width, config.shape[2], 3, rng=rng)

    def __call__(self, e: Any) -> Any:
        h = self.stem(e)
        for block, up in zip(self.blocks, self.ups, strict=True):
            h = up(block(h))
        return self.out(F.silu(self.norm(h)))


class VQVAE(System):
    """The system: encoder, codes and decoder are one player, the prior another."""

    def __init__(self, config: VQVAEConfig, *, rng: Generator) -> None:
        self.config = config
        self.encoder, self.decoder = Encoder(config, rng=rng), Decoder(config, rng=rng)
        self.codebook = weights(rng, (config.codes, config.dims), config.dims)
        self.prior = PixelCNN(config.of_prior(), rng=rng)
        self.counted: dict[str, Any] = {}  # n and m of eq. (4)
        if config.decay is not None:
            ones = active().full((config.codes,), 1.0, "float32")
            self.counted = {"n": Tensor(ones), "m": Tensor(self.codebook.value.copy())}

    def start(self, batch: Any, rng: Generator) -> None:
        """Codes begin as vectors of a first minibatch: elsewhere, none might ever be the nearest."""
        K, d = self.config.codes, self.config.dims
        E = ops.reshape(self.encoder.frozen()(batch), (-1, d))
        chosen = E[rng.choice(E.shape[0], K, replace=E.shape[0] < K)]
        self.codebook.assign(chosen)
        if self.counted:
            for name, value in {"n": self.counted["n"].value * 0 + 1, "m": chosen.copy()}.items():
                self.counted[name].assign(value)

    def loss(self, x: Any, rng: Generator) -> Loss:
        """Eq. (3).  Where codes do not learn by gradient, their term is a number and teaches nobody."""
        E = self.encoder(x)
        e, _ = quantise.quantise(E, value_of(self.codebook) if self.counted else self.codebook)
        return quantise.loss(x, self.decoder(quantise.straight_through(E, e)), E, e, self.config.beta)

    def average(self, x: Any, rng: Generator) -> None:
        """Eq. (4), after a step on x."""
        E = self.encoder.frozen()(x)
        found = quantise.tally(E, quantise.nearest(E, self.codebook), self.config.codes)
        old = Tally(self.counted["n"].array, self.counted["m"].array)
        new = quantise.moving_average(old, found, self.config.decay or 0.0)
        self.codebook.assign(quantise.centres(new, self.codebook.array))
        for name, value in new._asdict().items():
            self.counted[name].assign(value)

    def prior_loss(self, x: Any, rng: Generator) -> PriorLoss:
        """−log p(k), eq. (5), in bits per code.  The codes are plain integers: no gradient leads through them."""
        return self.prior.loss(self.encode(x), rng)

    def players(self) -> list[Player]:
        """Encoder, codes and decoder; and the prior."""
        remembered = ("counted.", "codebook") if self.counted else ()
        own: dict[str, dict[str, Tensor]] = {"model": {}, "prior": {}}
        for name, x in self.named_parameters():
            if not name.startswith(remembered):
                own["prior" if name.startswith("prior.") else "model"][name] = x
        return [
            Player("model", own["model"], self.loss, after=self.average if self.counted else None),
            Player("prior", own["prior"], self.prior_loss),
        ]

    def encode(self, x: Any) -> Any:
        """k(x), eq. (1): plain integers (B, h, w)."""
        return quantise.nearest(self.encoder(x), self.codebook)

    def decode(self, k: Any) -> Any:
        """D(e), (B, H, W, C), of codes (B, h, w)."""
        return self.decoder(F.embedding(self.codebook, k))

    def reconstruct(self, x: Any) -> Any:
        """What is left of pictures x, (B, H, W, C), once they were codes."""
        model = self.frozen()
        return model.decode(model.encode(x))

    def log_deviation(self, x: Any) -> Any:
        """log σ of each pixel, (1, H, W, C): of what decoding loses of pictures x, and of one more that is off by a
        level everywhere, so that no σ is 0."""
        lost = ops.sum(ops.square(x - self.reconstruct(x)), axis=0, keepdims=True)
        return 0.5 * ops.log((lost + (2 / (self.config.levels - 1)) ** 2) / (x.shape[0] + 1))

    def elbo(self, x: Any, log_sigma: Any) -> Any:
        """log p(k) + log P(x|k), eq. (6), (B,), in nats: at most log P(x).

        x: (B, H, W, C), on grey levels.  log_sigma: log σ, (1, H, W, C), as `log_deviation` finds it.
        """
        model = self.frozen()
        k = model.encode(x)
        log_lik = gaussian.discretised_log_prob(x, model.decode(k), log_sigma, self.config.levels)
        return elbo(log_lik, -model.prior.log_prob(k))

    def sample(self, n: int, rng: Generator, temperature: float = 1.0) -> Any:
        """n pictures: codes of the prior, decoded."""
        model = self.frozen()
        return model.decode(model.prior.sample(n, rng, temperature))
