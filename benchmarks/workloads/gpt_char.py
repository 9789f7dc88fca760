"""A small GPT over characters: 4 blocks of width 128 with 4 heads, contexts of 128 out of 96 symbols.

Radford et al. (2018), norms before each branch: x + attention(norm x), x + MLP(norm x), with GELU in the MLP.
"""

from __future__ import annotations

from math import sqrt
from typing import Any

import numpy as np

from benchmarks.workload import Workload
from scratchgen import functional as F
from scratchgen import nn, ops

EXAMPLES, LENGTH, SYMBOLS = 16, 128, 96
LAYERS, WIDTH, HEADS = 4, 128, 4


class Block(nn.Module):
    def __init__(self, rng: Any) -> None:
        self.norm1 = nn.LayerNorm(WIDTH)
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH, rng=rng)
        self.out = nn.Linear(WIDTH, WIDTH, rng=rng)
        self.norm2 = nn.LayerNorm(WIDTH)
        self.up = nn.Linear(WIDTH, 4 * WIDTH, rng=rng)
        self.down = nn.Linear(4 * WIDTH, WIDTH, rng=rng)

    def __call__(self, x: Any, mask: Any) -> Any:
        b, t, _ = x.shape
        q, k, v = (
            ops.transpose(ops.reshape(part, (b, t, HEADS, WIDTH // HEADS)), (0, 2, 1, 3))
            for part in ops.split(self.qkv(self.norm1(x)), 3, axis=-1)
        )  # (B, heads, T, width/heads) each
        y = ops.transpose(F.attention(q, k, v, mask), (0, 2, 1, 3))
        x = x + self.out(ops.reshape(y, (b, t, WIDTH)))
        return x + self.down(F.gelu(self.up(self.norm2(x))))


class Ours(nn.Module):
    def __init__(self, rng: Any) -> None:
        self.symbols = nn.Embedding(SYMBOLS, WIDTH, rng=rng)
        self.places = nn.Embedding(LENGTH, WIDTH, rng=rng)
        self.blocks = [Block(rng) for _ in range(LAYERS)]
        self.norm = nn.LayerNorm(WIDTH)
        self.head = nn.Linear(WIDTH, SYMBOLS, rng=rng, bias=False)
        self.mask = F.causal_mask(LENGTH)

    def loss(self, text: Any) -> Any:
        x = self.symbols(text[:, :-1]) + self.places.table
        for block in self.blocks:
            x = block(x, self.mask)
        return ops.mean(F.cross_entropy(self.head(self.norm(x)), text[:, 1:]), axis=1)


def pytorch() -> Any:
    from torch import nn
    from torch.nn import functional as F

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm1 = nn.LayerNorm(WIDTH)
            self.qkv = nn.Linear(WIDTH, 3 * WIDTH)
            self.out = nn.Linear(WIDTH, WIDTH)
            self.norm2 = nn.LayerNorm(WIDTH)
            self.up = nn.Linear(WIDTH, 4 * WIDTH)
            self.down = nn.Linear(4 * WIDTH, WIDTH)

        def forward(self, x: Any) -> Any:
            b, t, _ = x.shape
            q, k, v = self.qkv(self.norm1(x)).view(b, t, 3, HEADS, WIDTH // HEADS).permute(2, 0, 3, 1, 4)
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2)
            x = x + self.out(y.reshape(b, t, WIDTH))
            return x + self.down(F.gelu(self.up(self.norm2(x))))

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.symbols = nn.Embedding(SYMBOLS, WIDTH)
            self.places = nn.Embedding(LENGTH, WIDTH)
            self.blocks = nn.Sequential(*(Block() for _ in range(LAYERS)))
            self.norm = nn.LayerNorm(WIDTH)
            self.head = nn.Linear(WIDTH, SYMBOLS, bias=False)

        def loss(self, text: Any) -> Any:
            x = self.blocks(self.symbols(text[:, :-1]) + self.places.weight)
            logits = self.head(self.norm(x))
            nats = F.cross_entropy(logits.flatten(0, 1), text[:, 1:].flatten(), reduction="none")
            return nats.view(text.shape[0], -1).mean(1)

    return Net()


def arrays(xp: Any) -> Any:
    import jax

    def layer_norm(p: Any, name: str, x: Any) -> Any:
        mean, var = xp.mean(x, -1, keepdims=True), xp.var(x, -1, keepdims=True)
        return (x - mean) * jax.lax.rsqrt(var + 1e-5) * p[f"{name}.scale"] + p[f"{name}.shift"]

    def linear(p: Any, name: str, x: Any) -> Any:
        return x @ p[f"{name}.w"] + p[f"{name}.b"]

    def block(p: Any, name: str, x: Any, mask: Any) -> Any:
        b, t, _ = x.shape
        qkv = linear(p, f"{name}.qkv", layer_norm(p, f"{name}.norm1", x)).reshape(b, t, 3, HEADS, -1)
        q, k, v = xp.transpose(qkv, (2, 0, 3, 1, 4))
        scores = xp.where(mask, q @ xp.swapaxes(k, -1, -2) / sqrt(WIDTH // HEADS), -xp.inf)
        y = xp.transpose(jax.nn.softmax(scores) @ v, (0, 2, 1, 3)).reshape(b, t, WIDTH)
        x = x + linear(p, f"{name}.out", y)
        h = jax.nn.gelu(linear(p, f"{name}.up", layer_norm(p, f"{name}.norm2", x)), approximate=False)
        return x + linear(p, f"{name}.down", h)

    def loss(p: Any, text: Any) -> Any:
        x = p["symbols.table"][text[:, :-1]] + p["places.table"]
        mask = xp.tri(LENGTH, dtype=bool)
        for i in range(LAYERS):
            x = block(p, f"blocks.{i}", x, mask)
        log_p = jax.nn.log_softmax(layer_norm(p, "norm", x) @ p["head.w"])
        return -xp.mean(xp.take_along_axis(log_p, text[:, 1:, None], -1)[..., 0], 1)

    return loss


def batch(rng: np.random.Generator) -> tuple[np.ndarray, ...]:
    return (rng.integers(0, SYMBOLS, (EXAMPLES, LENGTH + 1)),)


WORKLOAD = Workload(
    "GPT, 4 layers of width 128, T = 128, batch 16", EXAMPLES, Ours, batch, (), pytorch, arrays, shards=2,
)  # fmt: skip
