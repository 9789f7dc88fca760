"""Philox 4×64-10 in Python's own integers (Salmon, Moraes, Dror & Shaw 2011, section 4.1), one round at a time."""

from __future__ import annotations

from collections.abc import Sequence

MULTIPLIERS = 0xD2E7470EE14C6C93, 0xCA5A826395121157
WEYL = 0x9E3779B97F4A7C15, 0xBB67AE8584CAA73B
"""The golden ratio − 1 and √3 − 1, in units of 2⁻⁶⁴."""
WORD = 2**64


def block(counter: Sequence[int], key: Sequence[int], rounds: int = 10) -> list[int]:
    """The block of four words that belongs to a counter of four words and a key of two."""
    left, right = [counter[1], counter[3]], [counter[0], counter[2]]
    for r in range(rounds):
        products = [m * x for m, x in zip(MULTIPLIERS, right, strict=True)]
        keys = [(k + r * w) % WORD for k, w in zip(key, WEYL, strict=True)]
        high = [p // WORD for p in reversed(products)]
        right = [h ^ x ^ k for h, x, k in zip(high, left, keys, strict=True)]
        left = [p % WORD for p in reversed(products)]
    return [right[0], left[0], right[1], left[1]]


def words(key: Sequence[int], first: int, n: int) -> list[int]:
    """n words of the stream of a key, from the block `first` on: block b = 0, 1, … has the counter b + 1."""
    blocks = (block(((b + 1) % WORD, (b + 1) // WORD, 0, 0), key) for b in range(first, first + -(-n // 4)))
    return [w for four in blocks for w in four][:n]
