"""Random numbers from a counter: the n-th number of a stream is a function of its key and of n alone.

Philox 4×64-10 (Salmon, Moraes, Dror & Shaw 2011) turns a counter and a key of two words into a block of four words of
64 bits.  Block b = 0, 1, … of a stream has the counter b + 1, which is the order of `np.random.Philox(key=key)`.  A
draw begins with a new block; number i of it is made of these words w of the block i // 4 (i mod 4 = j):

    words         w_j
    uniform       ⌊w_j / 2¹¹⌋ · 2⁻⁵³ in float64,  ⌊w_j / 2⁴⁰⌋ · 2⁻²⁴ in float32: the same number, cut short; in [0, 1)
    normal        √(−2 log(1 − u)) · (cos 2πv, sin 2πv) for an even j and the next one, where u and v are the uniform
                  numbers of w_j and w_{j+1} (Box & Muller 1958); |z| < 8.6
    exponential   −log(1 − u)
    integers      low + ⌊w_j · (high − low) / 2⁶⁴⌋, of at most 2³²: equally likely but for one part in 2³²

Normal and exponential numbers are computed in float64, and rounded where float32 is asked for.  Integers and uniform
numbers are the same on every backend to the last bit, the others but for the last bits of its log, cos and sin.

A stream is four words, where the arrays live: blocks drawn so far, the key, and one for a kernel's own use.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np

MOST = 1 << 32
"""Integers that can be told apart in one draw."""

_own = threading.local()  # NumPy's generator: setting its state takes a tenth of the time of making one


def stream(drawn: int, key: tuple[int, int]) -> np.ndarray:
    """A stream that has drawn so many blocks, (4,) uint64."""
    return np.array([drawn, *key, 0], np.uint64)


def words(drawn: int, key: np.ndarray, n: int) -> np.ndarray:
    """The first n words of the blocks that follow the first `drawn`, (n,) uint64."""
    if not hasattr(_own, "philox"):
        _own.philox = np.random.Philox(0)
    counter = np.array([drawn, 0, 0, 0], np.uint64)
    _own.philox.state = {"bit_generator": "Philox", "state": {"counter": counter, "key": key},
                         "buffer": np.zeros(4, np.uint64), "buffer_pos": 4, "has_uint32": 0, "uinteger": 0}
    return _own.philox.random_raw(n)


def uniform(w: np.ndarray, dtype: np.dtype) -> np.ndarray:
    if dtype == np.float32:
        return (w >> np.uint64(40)).astype(np.float32) * np.float32(2**-24)
    return (w >> np.uint64(11)).astype(np.float64) * 2**-53


def normal(w: np.ndarray, dtype: np.dtype) -> np.ndarray:
    u = uniform(w, np.dtype(np.float64)).reshape(-1, 2)
    r, angle = np.sqrt(-2 * np.log(1 - u[:, 0])), 2 * np.pi * u[:, 1]
    return np.stack([r * np.cos(angle), r * np.sin(angle)], axis=1).ravel().astype(dtype, copy=False)


def exponential(w: np.ndarray, dtype: np.dtype) -> np.ndarray:
    return (-np.log(1 - uniform(w, np.dtype(np.float64)))).astype(dtype, copy=False)


def integers(w: np.ndarray, dtype: np.dtype, low: int, high: int) -> np.ndarray:
    count, half = np.uint64(high - low), np.uint64(32)
    top, rest = w >> half, w & np.uint64(0xFFFFFFFF)
    return ((top * count + (rest * count >> half)) >> half).astype(dtype) + low


LAWS: dict[str, Callable[..., np.ndarray]] = {
    "words": lambda w, dtype: w, "uniform": uniform, "normal": normal, "exponential": exponential, "integers": integers,
}  # fmt: skip


def draw(law: str, stream: np.ndarray, shape: tuple[int, ...], dtype: Any, *bounds: int) -> np.ndarray:
    """Numbers of a law, (*shape); the stream moves on by as many blocks as they take."""
    n = prod(shape)
    blocks = -(-n // 4)
    found = LAWS[law](words(int(stream[0]), stream[1:3], 4 * blocks), np.dtype(dtype), *bounds)
    stream[0] += np.uint64(blocks)
    return found[:n].reshape(shape)
