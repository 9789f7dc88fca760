"""GPT: a transformer that reads a text and guesses, at every place, what comes next.
Radford, Narasimhan, Salimans & Sutskever (2018); norms before the branches as in Radford et al. (2019).

    log p(k_2 … k_n | k_1) = Σ_i log p(k_i | k_1 … k_{i−1}),   i = 2 … n                (1)  autoregressive.log_prob
    x_i = E[k_i] + P[i],   then blocks,   p(· | k_1 … k_i) = softmax(W·norm x_i)        (2)  gpt.logits
    h = x + attention(norm x),   y = h + MLP(norm h)                                    (3)  gpt.block
    a_i = Σ_{j ≤ i} softmax_j(q_i·k_j/√d)·v_j                                           (4)  gpt.attention
    logits(k_{m+1} … k_n | what was kept of k_1 … k_m) = the last of logits(k_1 … k_n)  (5)  gpt.cache
    k_{i+1} ~ p(· | k_1 … k_i), one after the other                                     (6)  autoregressive.sample
    b_i = −log₂ p(k_i | k_{s+1} … k_{i−1}),   s: the first multiple of C/2 ≥ i − 1 − C  (7)  gpt.bits

Attention is the one thing in the network by which places hear of each other, and in (4) a place hears of itself and of
those before it: one pass over a text of n symbols gives n − 1 predictions to learn from, none of which has seen its
answer.

To go on by one symbol, (4) needs the new q, and the k and v of all places: those of the old ones are what they were,
since nothing in them depends on what came later.  A `Cache` keeps them.  With it the symbol after n costs one place's
way through the layers, O(1), and n products q·k_j, O(n); without it, all n places' ways, and n² products.

P has a row for each place up to the context C, and no more; it starts as waves (Vaswani et al. 2017, §3.5), of which a
step to the left is a rotation, and is learnt from there.  A longer text is read in windows: what it costs, (7), in
windows that overlap by half, so that every symbol is guessed from C/2 others at least, once there are as many.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from scratchgen import functional as F
from scratchgen import ops
from scratchgen.autograd.tensor import Tensor, value_of
from scratchgen.backend import active
from scratchgen.distributions import categorical
from scratchgen.models.autoregressive.choice import temper, top_k
from scratchgen.models.flows.dequantise import bits_per_dim
from scratchgen.models.system import System
from scratchgen.nn.attention import Seen
from scratchgen.nn.layers import Embedding, LayerNorm, Linear, SinusoidalEmbedding
from scratchgen.nn.settings import at_least_one
from scratchgen.nn.transformer import TransformerBlock
from scratchgen.random import Generator

ROWS = 64  # windows of a long text that go through the network together


@dataclass(frozen=True)
class GPTConfig:
    """symbols: in the alphabet.  context: places that the network can look at.  width, layers, heads: of the blocks.
    Raises ValueError for numbers that make no network.
    """

    symbols: int = 96
    context: int = 64
    width: int = 96
    layers: int = 3
    heads: int = 4

    def __post_init__(self) -> None:
        at_least_one(self, "symbols", "context", "width", "layers", "heads")
        if self.width % self.heads:
            raise ValueError(f"GPTConfig: the width {self.width} does not divide into {self.heads} heads")
        if self.width % 2:
            raise ValueError(f"GPTConfig: the width {self.width} is odd, and waves come in pairs")


class Loss(NamedTuple):
    """Per example, (B,): −log p of all symbols but the first, in bits per symbol."""

    loss: Any


class Cache:
    """What a network remembers of the text that it has read: keys and values of every layer."""

    def __init__(self, layers: int) -> None:
        self.layers = [Seen() for _ in range(layers)]
        self.length = 0


class GPT(System):
    """The system.  Texts are plain integers (B, T) in [0, symbols), T ≤ context, or T ≤ context + 1 for log_prob."""

    def __init__(self, config: GPTConfig, *, rng: Generator) -> None:
        self.config = config
        width, depth = config.width, config.layers
        self.symbols = Embedding(config.symbols, width, rng=rng)
        self.places = Tensor(SinusoidalEmbedding(width)(active().arange(config.context, dtype="float32")))
        self.blocks = [TransformerBlock(width, config.heads, rng=rng, gain=(2 * depth) ** -0.5) for _ in range(depth)]
        self.norm = LayerNorm(width)
        self.head = Linear(width, config.symbols, rng=rng, bias=False, gain=0.0)

    def logits(self, text: Any, cache: Cache | None = None) -> Any:
        """log p(k_{i+1} = · | … k_i) up to a constant for every i, eq. (2): (B, T, symbols).

        cache: what was read before; `text` goes on from there, and is added to it, eq. (5).
        Raises ValueError if that is more than the context.
        """
        start = 0 if cache is None else cache.length
        end = start + text.shape[1]
        if end > self.config.context:
            raise ValueError(f"GPT: {end} symbols are more than a context of {self.config.context}")
        x = self.symbols(text) + ops.getitem(self.places, slice(start, end))
        mask = F.causal_mask(text.shape[1], x, start)
        seen: Any = [None] * len(self.blocks) if cache is None else cache.layers
        for block, before in zip(self.blocks, seen, strict=True):
            x = block(x, mask, before)
        if cache is not None:
            cache.length = end
        return self.head(self.norm(x))

    def log_prob(self, text: Any) -> Any:
        """log p(k_2 … k_n | k_1), eq. (1), (B,), in nats.  text: (B, n)."""
        return categorical.log_prob(value_of(text)[:, 1:], self.logits(text[:, :-1]))

    def loss(self, text: Any, rng: Generator | None = None) -> Loss:
        """Bits per symbol.  rng: not used."""
        return Loss(bits_per_dim(self.log_prob(text), text.shape[1] - 1))

    def bits(self, text: Any) -> Any:
        """b_2 … b_n, eq. (7), of a text (n,) of any length: (n − 1,)."""
        model, xp, context, n = self.frozen(), active(), self.config.context, text.shape[0]
        half = (context + 1) // 2
        windows = 1 + max(0, -((context + 1 - n) // half))
        starts = half * xp.arange(windows)
        filled = xp.concatenate([text, xp.zeros((context + half,), text.dtype)])  # it is not seen, and not counted
        rows = filled[starts[:, None] + xp.arange(context + 1)]
        costs = [
            F.cross_entropy(model.logits(part[:, :-1]), part[:, 1:])
            for part in (rows[i : i + ROWS] for i in range(0, windows, ROWS))
        ]
        found = ops.concatenate(costs, axis=0)  # (windows, C)
        new = ops.reshape(found[1:, context - half :], (-1,))
        return bits_per_dim(-ops.concatenate([found[0], new], axis=0)[: n - 1], 1)

    def sample(self, n: int, rng: Generator, length: int = 256, prompt: Any = None, **choice: Any) -> Any:
        """n texts, plain integers (n, length), by eq. (6); see `go_on`.  prompt: (m,), by default one symbol 0."""
        prompt = active().zeros((1,), "int64") if prompt is None else prompt
        start = ops.broadcast_to(prompt, (n, prompt.shape[0]))
        return ops.stack([k for k, _ in zip(self.go_on(start, rng, **choice), range(length), strict=False)], axis=1)

    def go_on(self, text: Any, rng: Generator, temperature: float = 1.0, likeliest: int | None = None) -> Iterator[Any]:
        """The symbols that follow the texts (n, m), m ≥ 1, one by one, each (n,), without an end.

        likeliest: how many symbols are drawn from each time; None: all.  When the context is full its older half is
        forgotten, and the newer half read again.
        """
        model, context = self.frozen(), self.config.context
        cache, new = Cache(len(self.blocks)), text[:, -context:]
        window = new
        while True:
            logits = model.logits(new, cache)[:, -1:]
            if likeliest is not None:
                logits = top_k(logits, likeliest)
            new = categorical.sample(rng, temper(logits, temperature))  # (n, 1)
            yield new[:, 0]
            window = ops.concatenate([window, new], axis=1)
            if cache.length == context:
                cache, window = Cache(len(self.blocks)), window[:, -max(context // 2, 1) :]
                new = window
