"""The multi-layer perceptron: linear maps with a bend between each and the next."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

from scratchgen import functional as F
from scratchgen.nn.layers import Linear
from scratchgen.nn.module import Module
from scratchgen.random import Generator


class MLP(Module):
    """y = W_L·σ(… σ(W_1·x + b_1) …) + b_L.  x: (…, widths[0]).  Returns (…, widths[−1]), after which nothing bends.

    widths: n_0, n_1, …, n_L.  activation: σ, the same everywhere.  gain: of the last layer; 0 starts at y = 0.
    Raises ValueError for fewer than two widths.
    """

    def __init__(
        self, *widths: int, rng: Generator, activation: Callable[[Any], Any] = F.silu, gain: float = 1.0
    ) -> None:
        if len(widths) < 2:
            raise ValueError(f"MLP: widths {widths} are no layer; give those of input and output at least")
        last = len(widths) - 2
        pairs = enumerate(pairwise(widths))
        self.layers = [Linear(a, b, rng=rng, gain=gain if i == last else 1.0) for i, (a, b) in pairs]
        self.activation = activation

    def __call__(self, x: Any) -> Any:
        for layer in self.layers[:-1]:
            x = self.activation(layer(x))
        return self.layers[-1](x)
