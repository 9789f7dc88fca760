"""The block that transformers repeat: look around, then think.

    h = x + attention(norm x),   y = h + MLP(norm h)                                    (1)  gpt.block
"""

from __future__ import annotations

from typing import Any

from scratchgen import functional as F
from scratchgen.nn.attention import MultiHeadAttention, Seen
from scratchgen.nn.layers import LayerNorm
from scratchgen.nn.mlp import MLP
from scratchgen.nn.module import Module
from scratchgen.random import Generator


class TransformerBlock(Module):
    """Eq. (1).  x: (B, T, width).  Returns (B, T, width).

    Norms stand before each branch (Radford et al. 2019), not behind (Vaswani et al. 2017): at first, with a small
    `gain` of both branches' last layers, y is x and nothing is in the way of the gradient.
    mask, seen: as `MultiHeadAttention` takes them.  expand: how much wider the perceptron is within.
    """

    def __init__(self, width: int, heads: int, *, rng: Generator, expand: int = 4, gain: float = 1.0) -> None:
        self.norm1 = LayerNorm(width)
        self.attention = MultiHeadAttention(width, heads, rng=rng, gain=gain)
        self.norm2 = LayerNorm(width)
        self.mlp = MLP(width, expand * width, width, rng=rng, activation=F.gelu, gain=gain)

    def __call__(self, x: Any, mask: Any = None, seen: Seen | None = None) -> Any:
        h = x + self.attention(self.norm1(x), mask=mask, seen=seen)
        return h + self.mlp(self.norm2(h))
