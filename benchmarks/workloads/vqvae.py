"""VQ-VAE on 8×8 images: encoder and decoder of `scratchgen.models.latent.VQVAE`, 16 codes an image.

van den Oord, Vinyals & Kavukcuoglu (2017): the nearest code in place of each vector, straight-through gradients, and
the codes taught by gradient.  Its PixelCNN prior is the workload `pixelcnn`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.workload import Workload
from scratchgen import nn
from scratchgen.models.latent import quantise
from scratchgen.models.latent.vqvae import Decoder, Encoder, VQVAEConfig
from scratchgen.nn.layers import weights

EXAMPLES, CONFIG = 64, VQVAEConfig()


class Ours(nn.Module):
    def __init__(self, rng: Any) -> None:
        self.encoder, self.decoder = Encoder(CONFIG, rng=rng), Decoder(CONFIG, rng=rng)
        self.codebook = weights(rng, (CONFIG.codes, CONFIG.dims), CONFIG.dims)

    def loss(self, x: Any) -> Any:
        E = self.encoder(x)
        e, _ = quantise.quantise(E, self.codebook)
        return quantise.loss(x, self.decoder(quantise.straight_through(E, e)), E, e, CONFIG.beta).loss


def pytorch() -> Any:
    import torch
    from torch import nn
    from torch.nn import functional as F

    c, groups = CONFIG.width, CONFIG.groups

    class ResBlock(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm1, self.conv1 = nn.GroupNorm(groups, c), nn.Conv2d(c, c, 3, padding=1)
            self.norm2, self.conv2 = nn.GroupNorm(groups, c), nn.Conv2d(c, c, 3, padding=1)

        def forward(self, x: Any) -> Any:
            return x + self.conv2(F.silu(self.norm2(self.conv1(F.silu(self.norm1(x))))))

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.down = nn.Conv2d(CONFIG.shape[2], c, 3, padding=1), nn.Conv2d(c, c, 3, 2, 1)
            self.block, self.norm, self.out = ResBlock(), nn.GroupNorm(groups, c), nn.Linear(c, CONFIG.dims)
            self.stem2, self.block2 = nn.Conv2d(CONFIG.dims, c, 3, padding=1), ResBlock()
            self.up, self.norm2 = nn.Conv2d(c, c, 3, padding=1), nn.GroupNorm(groups, c)
            self.out2, self.codebook = nn.Conv2d(c, CONFIG.shape[2], 3, padding=1), nn.Embedding(*SIZE)

        def loss(self, x: Any) -> Any:
            h = self.block(self.down(F.silu(self.stem(x))))
            E = self.out(F.silu(self.norm(h)).permute(0, 2, 3, 1))
            flat, codes = E.detach().flatten(0, 2), self.codebook.weight.detach()
            k = torch.argmin(codes.square().sum(1) - 2 * flat @ codes.T, 1)
            e = self.codebook(k).view_as(E)
            h = self.block2(self.stem2((E + (e - E).detach()).permute(0, 3, 1, 2)))
            y = self.out2(F.silu(self.norm2(self.up(F.interpolate(h, scale_factor=2.0)))))
            learnt = (E.detach() - e).square() + CONFIG.beta * (e.detach() - E).square()
            return (y - x).square().sum((1, 2, 3)) + learnt.sum((1, 2, 3))

    return Net()


SIZE = CONFIG.codes, CONFIG.dims


def arrays(xp: Any) -> Any:
    from jax import lax, nn

    layout = ("NHWC", "HWIO", "NHWC")

    def conv(p: Any, name: str, x: Any, stride: int = 1) -> Any:
        frame = ((1, 1), (1, 1))
        y = lax.conv_general_dilated(x, p[f"{name}.w"], (stride, stride), frame, dimension_numbers=layout)
        return y + p[f"{name}.b"]

    def norm(p: Any, name: str, x: Any) -> Any:
        B, H, W, C = x.shape
        grouped = x.reshape(B, H * W, CONFIG.groups, C // CONFIG.groups)
        mean = xp.mean(grouped, (1, 3), keepdims=True)
        var = xp.mean(xp.square(grouped - mean), (1, 3), keepdims=True)
        y = ((grouped - mean) / xp.sqrt(var + 1e-5)).reshape(B, H, W, C)
        return y * p[f"{name}.scale"] + p[f"{name}.shift"]

    def block(p: Any, name: str, x: Any) -> Any:
        h = conv(p, f"{name}.conv1", nn.silu(norm(p, f"{name}.norm1", x)))
        return x + conv(p, f"{name}.conv2", nn.silu(norm(p, f"{name}.norm2", h)))

    def loss(p: Any, x: Any) -> Any:
        h = conv(p, "encoder.downs.0.conv", nn.silu(conv(p, "encoder.stem", x)), 2)
        h = nn.silu(norm(p, "encoder.norm", block(p, "encoder.blocks.0", h)))
        E = h @ p["encoder.out.w"] + p["encoder.out.b"]
        codes = lax.stop_gradient(p["codebook"])
        k = xp.argmin(xp.sum(xp.square(codes), 1) - 2 * lax.stop_gradient(E) @ codes.T, -1)
        e = p["codebook"][k]
        h = block(p, "decoder.blocks.0", conv(p, "decoder.stem", E + lax.stop_gradient(e - E)))
        h = conv(p, "decoder.ups.0.conv", xp.repeat(xp.repeat(h, 2, 1), 2, 2))
        y = conv(p, "decoder.out", nn.silu(norm(p, "decoder.norm", h)))
        learnt = xp.square(lax.stop_gradient(E) - e) + CONFIG.beta * xp.square(lax.stop_gradient(e) - E)
        return xp.sum(xp.square(y - x), (1, 2, 3)) + xp.sum(learnt, (1, 2, 3))

    return loss


def batch(rng: np.random.Generator) -> tuple[np.ndarray, ...]:
    return (rng.uniform(-1, 1, (EXAMPLES, *CONFIG.shape)).astype(np.float32),)


WORKLOAD = Workload(
    f"VQ-VAE, 8×8 to 16 codes of {CONFIG.codes}, width {CONFIG.width}, batch 64",
    EXAMPLES, Ours, batch, (), pytorch, arrays, images=True, shards=2,
)  # fmt: skip
