"""A transformer as a function of what was read so far, place by place and number by number.

Nothing is masked: the future is not there.  What a place finds is worked out from itself and the places before it, the
only ones that are handed in; a text's logits are those of all its beginnings, each of which goes through the network
by itself.  Weights are a dictionary by name, as `state_dict` gives them; `at` is what the names begin with.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from scipy import integrate

from reference import layers

Weights = Mapping[str, np.ndarray]


def times(x, w) -> np.ndarray:
    """x (…, n) times w (n, m), by exactly rounded sums."""
    x, w = np.asarray(x, np.float64), np.asarray(w, np.float64)
    y = np.empty((*x.shape[:-1], w.shape[1]))
    for place in np.ndindex(x.shape[:-1]):
        y[place] = [math.fsum(x[place] * w[:, j]) for j in range(w.shape[1])]
    return y


def gelu(x: float) -> float:
    """x times the chance that a standard normal number is below x: ½ and the integral of the density."""
    density = lambda t: math.exp(-t * t / 2) / math.sqrt(2 * math.pi)  # noqa: E731
    return x * (0.5 + integrate.quad(density, 0.0, x, epsabs=1e-14, epsrel=1e-13)[0])


def causal_attention(x: np.ndarray, weights: Weights, heads: int, at: str = "") -> np.ndarray:
    """(T, width): for each place, attention of its query alone over the keys and values up to it, head by head."""
    q, k, v = (times(x, weights[f"{at}{name}.w"]) for name in ("query", "key", "value"))
    d = x.shape[1] // heads
    found = np.empty(x.shape)
    for i in range(len(x)):
        for head in range(heads):
            part = slice(head * d, (head + 1) * d)
            found[i, part] = layers.attention(q[i : i + 1, part], k[: i + 1, part], v[: i + 1, part])[0]
    return times(found, weights[f"{at}out.w"]) + weights[f"{at}out.b"]


def block(x: np.ndarray, weights: Weights, heads: int, at: str = "") -> np.ndarray:
    """(T, width): attention's answer added, then the perceptron's; each is asked about standardised vectors."""
    standard = lambda name, y: layers.layer_norm(y, weights[f"{at}{name}.scale"], weights[f"{at}{name}.shift"])  # noqa: E731
    h = x + causal_attention(standard("norm1", x), weights, heads, f"{at}attention.")
    inner = times(standard("norm2", h), weights[f"{at}mlp.layers.0.w"]) + weights[f"{at}mlp.layers.0.b"]
    bent = np.vectorize(gelu)(inner)
    return h + times(bent, weights[f"{at}mlp.layers.1.w"]) + weights[f"{at}mlp.layers.1.b"]


def next_logits(prefix: Sequence[int], weights: Weights, layers_: int, heads: int) -> np.ndarray:
    """Logits (symbols,) of what follows a prefix, which is all that the network is given."""
    x = np.array([weights["symbols.table"][k] + weights["places"][i] for i, k in enumerate(prefix)])
    for n in range(layers_):
        x = block(x, weights, heads, f"blocks.{n}.")
    last = layers.layer_norm(x[-1:], weights["norm.scale"], weights["norm.shift"])
    return times(last, weights["head.w"])[0]


def beginning(i: int, context: int) -> int:
    """Where the window begins from which symbol i of a text is guessed: the first of 0, half, 2·half, … near enough."""
    half = math.ceil(context / 2)
    return next(s for s in range(0, i + half, half) if i - s <= context)
