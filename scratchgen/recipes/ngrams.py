"""What a text costs that no network reads: counts of neighbouring symbols, and the codes of everyday compressors.

An n-gram model guesses a symbol from the n − 1 before it, by counts in the text that it was fitted on:

    p_0(k) = 1/K,      p_m(k | h) = (c(h k) + u(h)·p_{m−1}(k | h′)) / (c(h) + u(h))

h: the last m − 1 symbols, h′: the last m − 2; c: how often they stand there, u(h): how many kinds of symbols follow h.
What was never seen is left to the shorter model, and the more often h was followed by something new, the more so
(Witten & Bell 1991, method C; interpolated as in Chen & Goodman 1999).  A history that was never seen has c = u = 0,
and all of it is left to the shorter one.
"""

from __future__ import annotations

import bz2
import lzma
import zlib
from math import log

import numpy as np

COMPRESSORS = {
    "gzip": lambda data: zlib.compress(data, 9), "bz2": bz2.compress, "xz": lambda data: lzma.compress(data, preset=9),
}  # fmt: skip


class NGram:
    """Counts of all rows of 1 … n symbols of a text (N,), integers in [0, symbols)."""

    def __init__(self, text: np.ndarray, n: int, symbols: int) -> None:
        if n < 1 or n * log(symbols, 2) >= 63:
            raise ValueError(f"NGram: rows of {n} of {symbols} symbols cannot be numbered")
        self.n, self.symbols = n, symbols
        self.rows = [np.unique(numbered(text, m, symbols), return_counts=True) for m in range(1, n + 1)]

    def bits(self, text: np.ndarray) -> np.ndarray:
        """−log₂ p of every symbol of a text (N,) given those before it; the first have fewer."""
        p = np.full(len(text), 1 / self.symbols)
        for m, (rows, counts) in enumerate(self.rows[: len(text)], start=1):
            histories, first = np.unique(rows // self.symbols, return_index=True)
            total, kinds = np.add.reduceat(counts, first), np.diff([*first, len(rows)])
            asked = numbered(text, m, self.symbols)  # of the symbols m, m + 1, …
            c = found(rows, counts, asked)
            c_h, u_h = (found(histories, x, asked // self.symbols) for x in (total, kinds))
            shorter, known = p[m - 1 :], c_h > 0
            p[m - 1 :] = np.where(known, (c + u_h * shorter) / np.where(known, c_h + u_h, 1), shorter)
        return -np.log2(p)


def numbered(text: np.ndarray, m: int, symbols: int) -> np.ndarray:
    """Every m symbols that stand together, (N − m + 1,), as one number with the last of them as its last digit."""
    code = np.zeros(max(len(text) - m + 1, 0), np.int64)
    for i in range(m):
        code = code * symbols + text[i : i + len(code)]
    return code


def found(keys: np.ndarray, values: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """The values of sorted keys; 0 of what is no key."""
    if not len(keys):
        return np.zeros(len(asked), np.int64)
    places = np.minimum(np.searchsorted(keys, asked), len(keys) - 1)
    return np.where(keys[places] == asked, values[places], 0)


def compressed(before: bytes, text: bytes) -> dict[str, float]:
    """Bits per byte of a text for each compressor: what it adds to a file that held `before` already."""
    return {
        name: 8 * (len(code(before + text)) - len(code(before))) / len(text) for name, code in COMPRESSORS.items()
    }
