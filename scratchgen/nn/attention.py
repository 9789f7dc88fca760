"""Attention over positions, and over the pixels of an image.

    a_i = Σ_{j: i may look at j} softmax_j(q_i·k_j/√d)·v_j                              (1)  gpt.attention

In a text i may look at j ≤ i, which a mask says; among pixels at all.  What later positions need of earlier ones is
their k_j and v_j, and nothing else, so that a text that grows need not be read again: `Seen` keeps these.
"""

from __future__ import annotations

from typing import Any

from scratchgen import functional as F
from scratchgen import ops
from scratchgen.nn.layers import GroupNorm, Linear
from scratchgen.nn.module import Module
from scratchgen.random import Generator


class Seen:
    """Keys and values of the positions that an attention has seen: all that later ones need of them."""

    def __init__(self) -> None:
        self.k: Any = None
        self.v: Any = None

    def extend(self, k: Any, v: Any) -> tuple[Any, Any]:
        """Those of the next positions, (B, heads, T, d), put behind the others; returns all of them."""
        if self.k is not None:
            k, v = ops.concatenate([self.k, k], axis=2), ops.concatenate([self.v, v], axis=2)
        self.k, self.v = k, v
        return k, v


class MultiHeadAttention(Module):
    """Several attentions (1) side by side, each over its share of the width (Vaswani et al. 2017, §3.2.2).

    x: (B, T, width).  context: (B, S, width_context), x itself by default (self-attention).
    mask: plain booleans that broadcast to (B, heads, T, S).  Returns (B, T, width).
    seen: what stands before the context, already seen: it is attended to as well, and what is new is added to it.
    """

    def __init__(
        self, width: int, heads: int, *, rng: Generator, context: int | None = None, gain: float = 1.0
    ) -> None:
        if width % heads:
            raise ValueError(f"MultiHeadAttention: the width {width} does not divide into {heads} heads")
        self.heads = heads
        self.query = Linear(width, width, rng=rng, bias=False)
        self.key = Linear(context or width, width, rng=rng, bias=False)
        self.value = Linear(context or width, width, rng=rng, bias=False)
        self.out = Linear(width, width, rng=rng, gain=gain)

    def _split(self, x: Any) -> Any:
        b, t, width = x.shape
        return ops.transpose(ops.reshape(x, (b, t, self.heads, width // self.heads)), (0, 2, 1, 3))

    def __call__(self, x: Any, context: Any = None, mask: Any = None, seen: Seen | None = None) -> Any:
        context = x if context is None else context
        q, k, v = self._split(self.query(x)), self._split(self.key(context)), self._split(self.value(context))
        if seen is not None:
            k, v = seen.extend(k, v)
        y = ops.transpose(F.attention(q, k, v, mask), (0, 2, 1, 3))  # (B, T, heads, width/heads)
        return self.out(ops.reshape(y, x.shape))


class PixelAttention(Module):
    """x + attention among the pixels of x.  x: (B, H, W, C).  The last layer starts at 0: at first y = x."""

    def __init__(self, channels: int, *, rng: Generator, heads: int = 1, groups: int = 8) -> None:
        self.norm = GroupNorm(groups, channels)
        self.attention = MultiHeadAttention(channels, heads, rng=rng, gain=0.0)

    def __call__(self, x: Any) -> Any:
        b, h, w, c = x.shape
        y = self.attention(ops.reshape(self.norm(x), (b, h * w, c)))
        return x + ops.reshape(y, x.shape)
