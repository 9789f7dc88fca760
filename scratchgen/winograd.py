"""The 3×3 convolution that keeps the size of an image, in two thirds of the multiplications.

With d₀…d₃ four neighbouring rows of the framed image and g₀, g₁, g₂ the rows of the kernel, two rows of the
result share four products instead of having three each (Winograd 1980; Lavin & Gray 2016):

    y₀ = d₀g₀ + d₁g₁ + d₂g₂ = m₀ + m₁ + m₂        m₀ = (d₀ − d₂) g₀      m₁ = (d₁ + d₂)(g₀ + g₁ + g₂)/2
    y₁ = d₁g₀ + d₂g₁ + d₃g₂ = m₁ − m₂ − m₃        m₃ = (d₁ − d₃) g₂      m₂ = (d₂ − d₁)(g₀ − g₁ + g₂)/2

A product here is a convolution along the row, and for it nothing is copied.  The pixels of all rows lie one
after the other, and each row begins with a pixel of zeros, which ends the row before it as well.  A window
of three pixels is then 3C neighbouring numbers, and every third window makes a matrix (…, 3C) as it lies:

    0 a b c d 0 e f g h 0          [0ab] [cd0] [efg] …    gives the outputs at a, d, f, …
      └─row─┘   └─row─┘            [abc] [d0e] [fgh] …                         b, ×, g, …
                                   [bcd] [0ef] [gh0] …                         c, e, h, …    × is thrown away
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from scratchgen.pieces import Array, add_products, at_a_time, blocks, part_of, view, work

CACHE = 1_200_000
"""Bytes that the work on a few images, or on a part of one, should stay within: about what a core's cache has."""


def suits(x: tuple[int, ...], w: tuple[int, ...], stride: int, frame: Any) -> bool:
    """Whether images and kernels of these shapes are worth it."""
    small = min(x[1:3]) < 8 or min(w[2:]) < 8
    return w[:2] == (3, 3) and stride == 1 and frame == ((1, 1), (1, 1)) and x[1] % 2 == 0 and not small


def correlate(x: Array, w: Array, out: Array) -> None:
    """out = the convolution of x with w, with a frame of one zero."""
    _, _, c, o = w.shape
    kernel = work.array("kernel", (4, 3, c, o), w.dtype)
    outer, middle = (w[0] + w[2]) / 2, w[1] / 2
    kernel[0], kernel[1], kernel[2], kernel[3] = w[0], outer + middle, outer - middle, w[2]
    kernel = kernel.reshape(4, 1, 1, 3 * c, o)
    for rows, images, first in _pieces(x, o):
        rows.read(x[images], first)
        np.matmul(rows.windows, kernel, out=rows.answers)
        rows.write(out[images, first : first + 2 * rows.pairs])


def adjoint_w(x: Array, h: Array, out: Array) -> None:
    """out = the adjoint of `correlate` in w: the same steps in reverse, each replaced by its adjoint."""
    _, _, c, o = out.shape
    total = np.zeros((4, 3, c, o), x.dtype)
    for rows, images, first in _pieces(x, o):
        rows.read(x[images], first)
        rows.write_adjoint(h[images, first : first + 2 * rows.pairs])
        add_products(rows.pixels, rows.outputs, total.reshape(4, 3, *rows.pixels.shape[3:5], o))
    m0, m1, m2, m3 = total
    middle = (m1 + m2) / 2
    out[0], out[1], out[2] = m0 + middle, (m1 - m2) / 2, middle + m3


def _pieces(x: Array, o: int) -> Iterator[tuple[_Rows, slice, int]]:
    """A few images, or a few rows of one, at a time: memory for the work, the images, and the first row."""
    b, h, w, c = x.shape
    pairs = h // 2
    size = x.itemsize * (w + 1) * 5 * (c + o)  # of the work on a pair of rows
    n = at_a_time(b, size * pairs, CACHE)
    parts = next(p for p in range(1, pairs + 1) if pairs % p == 0 and (pairs // p * size <= CACHE or p == pairs))
    old = np.setbufsize(16)  # NumPy then works on rows where they are; it would copy them to buffers of 8192
    try:
        for start in range(0, b, n):
            if start == 0 or start + n > b:
                n = min(n, b - start)
                rows = _rows(n, pairs // parts, w, c, o, x.dtype)
            for part in range(parts):
                yield rows, slice(start, start + n), part * 2 * rows.pairs
    finally:
        np.setbufsize(old)


def _rows(*key: Any) -> _Rows:
    """The prepared views, with zeros where zeros belong: others have used the memory since."""
    rows = work.plan(_Rows, *key)
    for zeros in rows.zeros:
        zeros[...] = 0
    return rows


class _Rows:
    """Memory for `pairs` pairs of rows of each of n images, and the views of it that the steps need."""

    def __init__(self, n: int, pairs: int, w: int, c: int, o: int, dtype: np.dtype) -> None:
        self.pairs, self.size = pairs, n * pairs * (w + 1)
        stack, block = blocks(-(-self.size // 3), 3 * c, o)
        part = part_of(c, o)
        stack_w, block_w = blocks(self.size, part, o)
        slots = max(3 * stack * block, stack_w * block_w)  # pixels, and more that fill the last block
        wide, side = ((slots + 2) * m + -(slots + 2) * m % 16 + 16 for m in (c, o))

        d = work.array("winograd rows", (4, wide), dtype)
        m = work.array("winograd products", (4, side), dtype)
        self.total = work.array("winograd sums", (self.size * o,), dtype)
        self.products = m[:, : self.size * o]
        pixels = d[:, : self.size * c].reshape(4, n, pairs, w + 1, c)
        outputs = self.products.reshape(4, n, pairs, w + 1, o)
        self.d, self.m = pixels[:, :, :, 1:], outputs[:, :, :, :w]
        self.sums = self.total.reshape(n, pairs, w + 1, o)[:, :, :w]
        self.zeros = pixels[:, :, :, 0], d[:, self.size * c :]
        self.unused = outputs[:, :, :, w], m[:, self.size * o :]

        self.windows = view(d, (4, 3, stack, block, 3 * c), (wide, c, 3 * block * c, 3 * c, 1))
        self.answers = view(m, (4, 3, stack, block, o), (side, o, 3 * block * o, 3 * o, 1))
        length = block_w * c
        self.pixels = view(d, (stack_w, 4, 3, c // part, part, block_w), (length, wide, c, part, 1, c))
        length = block_w * o
        self.outputs = view(m, (stack_w, 4, 1, 1, block_w, o), (length, side, 0, 0, o, 1))

    def read(self, x: Array, first: int) -> None:
        """The factors d of m₀…m₃ from the rows of x, `first` and on; above and below the image are zeros."""
        stop = first + 2 * self.pairs
        d0, d1, d2, d3 = self.d
        even, odd = x[:, first:stop:2], x[:, first + 1 : stop : 2]
        np.add(even, odd, out=d1)
        np.subtract(odd, even, out=d2)
        if first:
            np.subtract(x[:, first - 1 : stop - 2 : 2], odd, out=d0)
        else:
            np.negative(odd[:, 0], out=d0[:, 0])
            np.subtract(odd[:, :-1], odd[:, 1:], out=d0[:, 1:])
        below = x[:, first + 2 : stop + 1 : 2]
        n = below.shape[1]
        np.subtract(even[:, :n], below, out=d3[:, :n])
        np.copyto(d3[:, n:], even[:, n:])

    def write(self, y: Array) -> None:
        """y₀ and y₁ of every pair."""
        _, m1, m2, _ = self.products
        np.add(m1, m2, out=self.total)
        np.subtract(m1, m2, out=m1)
        m0, m1, _, m3 = self.m
        np.add(self.sums, m0, out=y[:, 0::2])
        np.subtract(m1, m3, out=y[:, 1::2])

    def write_adjoint(self, h: Array) -> None:
        """What `write` does with m₀…m₃, transposed."""
        m0, m1, m2, m3 = self.m
        even, odd = h[:, 0::2], h[:, 1::2]
        np.copyto(m0, even)
        np.add(even, odd, out=m1)
        np.subtract(even, odd, out=m2)
        np.negative(odd, out=m3)
        for zeros in self.unused:
            zeros[...] = 0
