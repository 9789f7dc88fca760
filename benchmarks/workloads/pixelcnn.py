"""PixelCNN on 8×8 images of 17 grey levels: `scratchgen.models.autoregressive.PixelCNN` itself, six gated layers.

van den Oord et al. (2016): a vertical stack that sees whole rows above, a horizontal one that sees its own row.
"""

from __future__ import annotations

from math import log
from typing import Any

import numpy as np

from benchmarks.workload import Workload
from scratchgen.models.autoregressive import PixelCNN, PixelCNNConfig
from scratchgen.models.autoregressive.pixelcnn import mask

EXAMPLES, CONFIG = 80, PixelCNNConfig()
R = CONFIG.kernel // 2
FRAMES = {"vertical": ((R, 0), (R, R)), "horizontal": ((0, 0), (R, 0))}
"""Zeros above and below, left and right."""
BITS = CONFIG.shape[0] * CONFIG.shape[1] * log(2)


class Ours(PixelCNN):
    def __init__(self, rng: Any) -> None:
        super().__init__(CONFIG, rng=rng)

    def loss(self, k: Any) -> Any:  # type: ignore[override]
        return super().loss(k, None).loss  # type: ignore[arg-type]


def pytorch() -> Any:
    import torch
    from torch import nn
    from torch.nn import functional as F

    class MaskedConv(nn.Conv2d):
        def __init__(self, sight: str, first: bool) -> None:
            seen = torch.tensor(mask(sight, CONFIG.kernel, first), dtype=torch.float32)
            super().__init__(CONFIG.width, 2 * CONFIG.width, tuple(seen.shape))
            self.register_buffer("seen", seen)
            (above, below), (left, right) = FRAMES[sight]
            self.frame = left, right, above, below

        def forward(self, x: Any) -> Any:
            return F.conv2d(F.pad(x, self.frame), self.weight * self.seen, self.bias)

    def gate(x: Any) -> Any:
        a, b = x.chunk(2, 1)
        return torch.tanh(a) * torch.sigmoid(b)

    class Layer(nn.Module):
        def __init__(self, first: bool) -> None:
            super().__init__()
            c = CONFIG.width
            self.vertical, self.link = MaskedConv("vertical", first), nn.Linear(2 * c, 2 * c)
            self.horizontal, self.out, self.first = MaskedConv("horizontal", first), nn.Linear(c, c), first

        def forward(self, v: Any, h: Any) -> Any:
            found = self.vertical(v)
            told = self.link(found.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
            y = self.out(gate(self.horizontal(h) + told).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
            return gate(found), y if self.first else h + y

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            c = CONFIG.width
            self.embed = nn.Embedding(CONFIG.levels, c)
            self.layers = nn.ModuleList(Layer(i == 0) for i in range(CONFIG.layers))
            self.hidden, self.out = nn.Linear(c, 2 * c), nn.Linear(2 * c, CONFIG.levels)

        def loss(self, k: Any) -> Any:
            v = h = self.embed(k).permute(0, 3, 1, 2)
            for layer in self.layers:
                v, h = layer(v, h)
            logits = self.out(F.relu(self.hidden(F.relu(h.permute(0, 2, 3, 1)))))
            nats = F.cross_entropy(logits.flatten(0, 2), k.flatten(), reduction="none")
            return nats.view(len(k), -1).sum(1) / BITS

    return Net()


def arrays(xp: Any) -> Any:
    from jax import lax, nn

    layout = ("NHWC", "HWIO", "NHWC")

    def conv(p: Any, name: str, x: Any, sight: str, first: bool) -> Any:
        seen = xp.asarray(mask(sight, CONFIG.kernel, first))[:, :, None, None]
        w = xp.where(seen, p[f"{name}.w"], 0.0)
        return lax.conv_general_dilated(x, w, (1, 1), FRAMES[sight], dimension_numbers=layout) + p[f"{name}.b"]

    def linear(p: Any, name: str, x: Any) -> Any:
        return x @ p[f"{name}.w"] + p[f"{name}.b"]

    def gate(x: Any) -> Any:
        a, b = xp.split(x, 2, axis=-1)
        return xp.tanh(a) * nn.sigmoid(b)

    def loss(p: Any, k: Any) -> Any:
        v = h = p["embed.table"][k]
        for i in range(CONFIG.layers):
            name = f"net.layers.{i}"
            found = conv(p, f"{name}.vertical", v, "vertical", i == 0)
            told = linear(p, f"{name}.link", found)
            y = linear(p, f"{name}.out", gate(conv(p, f"{name}.horizontal", h, "horizontal", i == 0) + told))
            v, h = gate(found), h + y if i else y
        logits = linear(p, "net.head.out", xp.maximum(linear(p, "net.head.hidden", xp.maximum(h, 0)), 0))
        log_p = xp.take_along_axis(nn.log_softmax(logits), k[..., None], axis=-1)
        return -xp.sum(log_p, (1, 2, 3)) / BITS

    return loss


def batch(rng: np.random.Generator) -> tuple[np.ndarray, ...]:
    return (rng.integers(0, CONFIG.levels, (EXAMPLES, *CONFIG.shape)),)


WORKLOAD = Workload(
    "PixelCNN, gated, 8×8 with 17 grey levels, batch 80", EXAMPLES, Ours, batch, (), pytorch, arrays,
    images=True, shards=2,
)  # fmt: skip
