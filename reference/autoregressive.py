"""Sequences by enumeration, and what a pixel can know of the others by walking from one to the next.

The chain rule is taken apart: a table of all sequences is filled branch by branch by a function that is only ever told
a prefix, so that it cannot use what comes later. What a stack of convolutions can see is a question of graphs, not of
weights: pixels are numbered as they are read, each layer leads from a pixel to those that it looks at, and a walk of as
many steps as there are layers finds the rest.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction

import numpy as np
from scipy import integrate, stats


def table(conditional: Callable[[tuple[int, ...]], np.ndarray], n: int, symbols: int) -> dict[tuple[int, ...], float]:
    """p of every sequence of n symbols, in the order of counting; conditional: a prefix ↦ p(next), (symbols,)."""
    found: dict[tuple[int, ...], float] = {(): 1.0}
    for _ in range(n):
        grown = {}
        for prefix, p in found.items():
            for symbol, q in enumerate(conditional(prefix)):
                grown[*prefix, symbol] = p * float(q)
        found = grown
    assert len(found) == symbols**n
    return found


def sharpened(p: Sequence[float], temperature: float) -> np.ndarray:
    """p^(1/τ), normalised: the p' that makes E_p' log p + τ·H(p') largest, which is how it is found: by fixed steps.

    Mirror ascent on that objective; each step halves what is left.
    """
    log_p = np.log(np.asarray(p, dtype=np.float64))
    q = np.full(len(log_p), 1 / len(log_p))
    for _ in range(200):
        gradient = log_p - temperature * (np.log(q) + 1)
        q = q * np.exp(0.5 / temperature * (gradient - gradient @ q))
        q /= math.fsum(q)
    return q


def of_the_likeliest(p: Sequence[float], n: int) -> np.ndarray:
    """p given that one of the n likeliest was drawn: by striking out the least likely, one after the other."""
    rest = {k: Fraction(float(q)) for k, q in enumerate(p)}
    while len(rest) > n:
        del rest[min(rest, key=lambda k: rest[k])]
    total = sum(rest.values())
    return np.array([float(rest[k] / total) if k in rest else 0.0 for k in range(len(p))])


def gated(a: float, b: float) -> float:
    """tanh(a)·σ(b), the one as the integral of its slope, the other as the chance of a logistic variable below b."""
    slope = lambda t: 1 / math.cosh(t) ** 2  # noqa: E731
    return integrate.quad(slope, 0.0, a, epsabs=1e-14, epsrel=1e-13)[0] * float(stats.logistic.cdf(b))


Offsets = set[tuple[int, int]]


def allowed(sight: str, kernel: int, first: bool) -> Offsets:
    """The offsets (rows, columns) a kernel may look at, from the places of its pixels in the order of reading.

    "raster": what is read before the middle. "vertical": what is read before the middle's row begins, or, unless first,
    before it ends. "horizontal": what is read before the middle, of its own row. Unless first the middle itself too.
    """
    r = kernel // 2
    number = {(u, v): i for i, (u, v) in enumerate((u, v) for u in range(-r, r + 1) for v in range(-r, r + 1))}
    middle, begins, ends = number[0, 0], number[0, -r], number[0, r]
    before = {"raster": range(middle + (not first)), "horizontal": range(begins, middle + (not first)),
              "vertical": range(begins if first else ends + 1)}[sight]  # fmt: skip
    return {offset for offset, i in number.items() if i in before}


Node = tuple[str, int, int]


def sees(edges: Sequence[Callable[[Node], Iterable[Node]]], start: Node) -> set[Node]:
    """Where a walk from `start` can end that takes one edge of each layer, the last layer first."""
    here = {start}
    for layer in reversed(edges):
        here = {next_ for node in here for next_ in layer(node)}
    return here


def plain_stack(shape: tuple[int, int], kernel: int, layers: int) -> np.ndarray:
    """Booleans (H·W, H·W): whether a logit of pixel i depends on pixel j, for masked layers one after the other."""

    def layer(first: bool) -> Callable[[Node], Iterable[Node]]:
        offsets = allowed("raster", kernel, first)
        return lambda node: _inside(node[0], node, offsets, shape)

    return _dependence([layer(i == 0) for i in range(layers)], "x", shape)


def two_stacks(shape: tuple[int, int], kernel: int, layers: int) -> np.ndarray:
    """The same for a vertical and a horizontal stack; a layer's vertical features go into its horizontal ones."""

    def layer(first: bool) -> Callable[[Node], Iterable[Node]]:
        down, along = allowed("vertical", kernel, first), allowed("horizontal", kernel, first)

        def step(node: Node) -> Iterable[Node]:
            found = set(_inside("v", node, down, shape))
            return found if node[0] == "v" else found | set(_inside("h", node, along, shape))

        return step

    return _dependence([layer(i == 0) for i in range(layers)], "h", shape)


def _inside(name: str, node: Node, offsets: Offsets, shape: tuple[int, int]) -> Iterable[Node]:
    places = ((node[1] + u, node[2] + v) for u, v in offsets)
    return [(name, i, j) for i, j in places if 0 <= i < shape[0] and 0 <= j < shape[1]]


def _dependence(layers: Sequence[Callable[[Node], Iterable[Node]]], name: str, shape: tuple[int, int]) -> np.ndarray:
    H, W = shape
    found = np.zeros((H * W, H * W), bool)
    for i in range(H):
        for j in range(W):
            for _, u, v in sees(layers, (name, i, j)):
                found[i * W + j, u * W + v] = True
    return found
