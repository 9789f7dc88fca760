"""Convolution of many small images, one pixel of the result at a time: the rows of each product are the images.

For each column of the result, what a row of the kernel sees is gathered from every row of the image, kw·C numbers.
There the rows of an image lie one after the other, so that the whole window of a pixel is a piece as it lies:

    a b c        0 a b   a b c   b c 0        what the first column's pixels see:   0ab0de,  0ab0de0gh,  0de0gh
    d e f        0 d e   d e f   e f 0
    g h i        0 g h   g h i   h i 0

So a kh-th of the windows' numbers is copied.  What n images have at one pixel is a matrix (n, kh·kw·C), a view.  Rows
of the kernel that lie above or below the image have no part in it.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from itertools import groupby

import numpy as np

from scratchgen.convolution import Frame
from scratchgen.pieces import Array, add_products, at_a_time, in_line, rows_at_a_time, view, work

CACHE = 1_500_000
"""Bytes that the work on a few images should stay within: what a core has for itself, and a little more."""
LARGE = 15_000
"""Numbers for one image from which the images that fit the cache are too few for a product."""
WIDE = 16
"""Columns up to which there are few enough products."""


def suits(x: tuple[int, ...], kw: int, columns: int) -> bool:
    """Whether images of shape x are small, for a result with so many columns: each pixel is a product by itself."""
    return columns <= WIDE and _numbers(x, kw, columns) < LARGE


def suits_adjoint_w(x: tuple[int, ...], w: tuple[int, ...], h: tuple[int, ...], s: int) -> bool:
    """Whether the adjoint in w is worth it too: a product for each row of h, each to be added to the kernel.

    At stride 1, what gathers nothing at all (`fastconv`) costs less from some pixels on, but not with few channels.
    """
    (_, rows, columns, o), c = h, w[2]
    return suits(x, w[1], columns) and o >= 8 and c > 1 and (s > 1 or c < 8 or rows * columns <= 16)


def _numbers(x: tuple[int, ...], kw: int, columns: int) -> int:
    """Of one image of shape x, framed, and of what the columns see of it."""
    _, height, width, c = x
    return height * c * (width + columns * kw)


def correlate(x: Array, w: Array, s: int, frame: Frame, out: Array) -> None:
    """out = the convolution of x with w at stride s."""
    (top, _), (left, _) = frame
    kernel = in_line(w)
    for images, columns in _columns(x, w.shape, s, left, out.shape[2]):
        columns.multiply(kernel, s, top, out[images])


def adjoint_x(h: Array, w: Array, s: int, frame: Frame, out: Array) -> None:
    """out = the adjoint in x at stride s.  Along each axis, with i + before = s·q + u and 0 ≤ u < s,

        x̄[i] = Σ_t h[q − t] w[u + s·t]

    so the pixels of one u are a convolution of stride 1 with every s-th row of the kernel, turned.
    """
    (top, _), (left, _) = frame
    for v in range(s):
        j = (v - left) % s
        there = out[:, :, j::s]
        if there.size == 0:
            continue
        kernels = [in_line(w[u::s, v::s][::-1, ::-1].swapaxes(2, 3), f"kernel {u}") for u in range(s)]  # turned
        before = kernels[0].shape[1] - 1 - (j + left) // s
        for images, columns in _columns(h, kernels[0].shape, 1, before, there.shape[2]):
            for u, kernel in enumerate(kernels):
                i = (u - top) % s
                columns.multiply(kernel, 1, len(kernel) - 1 - (i + top) // s, there[images, i::s])


def adjoint_w(x: Array, h: Array, s: int, frame: Frame, out: Array) -> None:
    """out += the adjoint in w at stride s: of what is seen in a row of the images, times the row of h that sees it."""
    kh, kw, c, o = out.shape
    (top, _), (left, _) = frame
    _, rows, count, _ = h.shape
    total = out.reshape(kh, kw * c, o)
    for images, columns in _columns(x, out.shape, s, left, count, by_rows=True):
        results = work.array("results", (rows, images.stop - images.start, count, o), h.dtype)
        np.copyto(results, h[images].swapaxes(0, 1))
        results = results.reshape(rows, -1, o)
        seen = columns.all.reshape(x.shape[1], -1, kw * c).swapaxes(1, 2)
        for u in range(kh):
            first, stop = max(0, -((u - top) // s)), min(rows, (x.shape[1] - 1 + top - u) // s + 1)
            if first < stop:
                add_products(seen[first * s + u - top :: s][: stop - first], results[first:stop], total[u])


def _columns(
    x: Array, w: tuple[int, ...], s: int, left: int, count: int, by_rows: bool = False
) -> Iterator[tuple[slice, _Columns]]:
    """A few images at a time, and what the columns of their results see: as many as BLAS multiplies without packing."""
    b, height, width, c = x.shape
    kh, kw, _, o = w
    size = x.itemsize * _numbers(x.shape, kw, count)
    most = (rows_at_a_time(kw * c, o) // count if by_rows else rows_at_a_time(kh * kw * c, o)) if kh * kw else b
    n = at_a_time(b, size, min(CACHE, max(16, most or b) * size))
    for start in range(0, b, n):
        images = slice(start, min(start + n, b))
        columns = work.plan(_Columns, images.stop - start, height, width, c, kw, s, left, count, by_rows, x.dtype)
        columns.read(x[images])
        yield images, columns


class _Columns:
    """Memory for what `count` columns see of n images: (count, n, height, kw·c); by rows (height, n, count, kw·c)."""

    def __init__(
        self, n: int, height: int, width: int, c: int, kw: int, s: int, left: int, count: int, by_rows: bool,
        dtype: np.dtype,
    ) -> None:  # fmt: skip
        whole = (count - 1) * s + kw
        first, stop = min(max(0, left), whole), max(0, min(whole, width + left))
        framed = work.array("framed", (n, height, whole, c), dtype)
        self.inside, self.within = framed[:, :, first:stop], slice(first - left, stop - left)
        self.zeros = [part for part in (framed[:, :, :first], framed[:, :, stop:]) if part.size]
        axes = [(height, whole * c), (n, height * whole * c), (count, s * c), (kw * c, 1)]
        shape, strides = zip(*(axes[i] for i in ((0, 1, 2, 3) if by_rows else (2, 1, 0, 3))), strict=True)
        self.windows = view(framed, shape, strides)
        self.all = work.array("columns", shape, dtype)
        self.prepared: dict[tuple[int, ...], list[tuple[slice, slice, Array]]] = {}

    def read(self, x: Array) -> None:
        """Gather it all from images x."""
        np.copyto(self.inside, x[:, :, self.within])
        for part in self.zeros:
            part[...] = 0
        np.copyto(self.all, self.windows)

    def multiply(self, kernel: Array, s: int, before: int, out: Array) -> None:
        """out = the windows of each pixel, times the kernel.  out: (n, H', count, O).  before: rows of zeros above."""
        key = out.shape[1], len(kernel), s, before
        if key not in self.prepared:
            self.prepared[key] = list(self._pixels(*key))
        result = out.transpose(2, 1, 0, 3)
        for rows, taps, windows in self.prepared[key]:
            np.matmul(windows, kernel[taps].reshape(-1, kernel.shape[3]), out=result[:, rows])

    def _pixels(self, rows: int, kh: int, s: int, before: int) -> Iterator[tuple[slice, slice, Array]]:
        """Neighbouring rows of pixels that the same rows of the kernel reach, those, and the windows."""
        count, n, height, k = self.all.shape
        numbers = self.all.reshape(-1)
        for here, taps in _bands(rows, height, kh, s, before):
            first = (here.start * s - before + taps.start) * k if taps.stop > taps.start else 0
            shape = (count, here.stop - here.start, n, (taps.stop - taps.start) * k)
            yield here, taps, view(numbers[first:], shape, (n * height * k, s * k, height * k, 1))


@cache
def _bands(rows: int, height: int, kh: int, s: int, before: int) -> list[tuple[slice, slice]]:
    """Neighbouring rows of a result that the same rows of a kernel reach, and those: perhaps none."""
    found: list[tuple[slice, slice]] = []
    reach = [(max(0, before - s * i), min(kh, height + before - s * i)) for i in range(rows)]
    for (first, stop), same in groupby(reach):
        start = found[-1][0].stop if found else 0
        found.append((slice(start, start + len(list(same))), slice(first, max(first, stop))))
    return found
