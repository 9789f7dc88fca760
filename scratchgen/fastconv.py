"""Convolution and its two adjoints on NumPy arrays, a few images at a time.

The sums are those of `convolution`; what is here is the order in which they are done.  What is made on the
way (framed images, windows, products) stays in the processor's cache, in memory that every call uses again.

    3×3, stride 1, same size    `winograd`
    1×1                         one product
    small images                `pixelwise`
    few outputs, stride 1       products of all pixels with all of the kernel, shifted and then added
    anything else               windows gathered into a matrix, and one product

For the third, and for the adjoint in w at stride 1, nothing is gathered.  The pixels of framed images lie one
after the other, in rows of, say, 5; each row's zeros end the row before it too.  What the kernel's (u, v) sees
is then the whole row of pixels, shifted by 5u + v:

    0 0 0 0 0        p           0 0 0 0 0 0 a b c d 0 e f g h 0 0 0 0 0 0 …
    0 a b c d        (0, 1)      0 0 0 0 0 a b c d 0 e f g h 0 0 0 0 0 0 …
    0 e f g h        (1, 0)      0 a b c d 0 e f g h 0 0 0 0 0 0 …
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod

import numpy as np

from scratchgen import pixelwise, winograd
from scratchgen.convolution import Frame, outer_frame, output_size, turned
from scratchgen.pieces import (
    Array,
    add_adjoint_products,
    add_products,
    aligned,
    at_a_time,
    blocks,
    in_line,
    multiply,
    part_of,
    view,
    work,
)

CACHE = 700_000
"""Bytes that the work on a few images should stay within: most of a core's own cache."""
NO_FRAME: Frame = ((0, 0), (0, 0))


def suits(a: Array, b: Array, groups: int) -> bool:
    """Whether these operands are what this file is for; `convolution` does all others."""
    return groups == 1 and a.dtype == b.dtype and a.dtype.char in "fd" and a.size > 0 and b.size > 0


def correlate(x: Array, w: Array, stride: int, frame: Frame, out: Array | None = None) -> Array:
    """As `convolution.correlate`."""
    kh, kw, c, o = w.shape
    if out is None:
        out = aligned((x.shape[0], *output_size(x.shape, kh, kw, stride, frame), o), x.dtype)
    if kh == kw == stride == 1 and frame == NO_FRAME:
        multiply(x.reshape(-1, c), in_line(w.reshape(c, o)), out.reshape(-1, o))
    elif pixelwise.suits(x.shape, kw, out.shape[2]):
        pixelwise.correlate(x, w, stride, frame, out)
    elif winograd.suits(x.shape, w.shape, stride, frame):
        winograd.correlate(x, w, out)
    elif stride == 1 and o < 8 <= c:
        _few_outputs(x, w, frame, out)
    else:
        _gathered(x, w, stride, frame, out)
    return out


def adjoint_x(h: Array, w: Array, shape: tuple[int, ...], stride: int, frame: Frame, out: Array | None = None) -> Array:
    """As `convolution.adjoint_x`."""
    out = aligned(shape, h.dtype) if out is None else out
    (top, _), (left, _) = frame
    outer = outer_frame(h.shape, w.shape, shape, frame)
    if max(w.shape[:2]) > 1 and pixelwise.suits(h.shape, -(-w.shape[1] // stride), -(-shape[2] // stride)):
        pixelwise.adjoint_x(h, w, stride, frame, out)
    elif stride == 1 and min(*outer[0], *outer[1]) >= 0:
        correlate(h, turned(np, w), 1, outer, out)
    else:
        _in_blocks(h, w, stride, (top, left), out)
    return out


def adjoint_w(x: Array, h: Array, shape: tuple[int, ...], stride: int, frame: Frame, out: Array | None = None) -> Array:
    """As `convolution.adjoint_w`."""
    kh, kw, c, o = shape
    out = aligned(shape, x.dtype) if out is None else out
    if winograd.suits(x.shape, shape, stride, frame) and c * o >= 2048:
        winograd.adjoint_w(x, h, out)
        return out
    out[:] = 0
    if kh == kw == stride == 1 and frame == NO_FRAME:
        add_adjoint_products(x.reshape(1, -1, c), h.reshape(-1, o), out.reshape(1, c, o))
    elif pixelwise.suits_adjoint_w(x.shape, shape, h.shape, stride):
        pixelwise.adjoint_w(x, h, stride, frame, out)
    elif stride == 1 and c >= 8:
        _shifted_adjoint(x, h, frame, out)
    else:
        _gathered_adjoint(x, h, stride, frame, out)
    return out


# --- windows gathered into a matrix -------------------------------------------------------------------------


PIXELS_FIRST, TAPS_FIRST, NUMBERS_FIRST = (0, 1, 2, 3, 4, 5), (3, 4, 0, 1, 2, 5), (3, 4, 5, 0, 1, 2)
"""Orders of windows (B, H', W', kh, kw, C) in memory; the last is copied along the rows of an image."""


def _windows(
    x: Array, kh: int, kw: int, stride: int, frame: Frame, result: tuple[int, ...], order: tuple[int, ...]
) -> Iterator[tuple[slice, Array]]:
    """A few images at a time, and their windows, copied in that order.  result: (H', W', O)."""
    b, h, w, c = x.shape
    rows, columns, o = result
    (top, bottom), (left, right) = frame
    whole = (h + top + bottom, w + left + right, c)
    n = at_a_time(b, x.itemsize * (rows * columns * (kh * kw * c + o) + prod(whole)), CACHE)
    framed = work.array("framed", (n, *whole), x.dtype)
    framed[:] = 0
    inside = framed[:, top : top + h, left : left + w]
    s0, s1, s2, _ = (s // x.itemsize for s in framed.strides)
    windows = view(framed, (n, rows, columns, kh, kw, c), (s0, s1 * stride, s2 * stride, s1, s2, 1))
    memory = work.array("windows", tuple(windows.shape[axis] for axis in order), x.dtype)
    gathered = memory.transpose(np.argsort(order))
    for start in range(0, b, n):
        here = min(n, b - start)
        np.copyto(inside[:here], x[start : start + here])
        np.copyto(gathered[:here], windows[:here])
        yield slice(start, start + here), gathered[:here]


def _gathered(x: Array, w: Array, stride: int, frame: Frame, out: Array) -> None:
    kh, kw, c, o = w.shape
    kernel = in_line(w.reshape(-1, o))
    order = PIXELS_FIRST if kw * c >= 16 else NUMBERS_FIRST
    for images, windows in _windows(x, kh, kw, stride, frame, out.shape[1:], order):
        multiply(windows.reshape(-1, kh * kw * c), kernel, out[images].reshape(-1, o))


def _gathered_adjoint(x: Array, h: Array, stride: int, frame: Frame, out: Array) -> None:
    """out += the adjoint in w."""
    kh, kw, c, o = out.shape
    taps, order = (kh * kw, TAPS_FIRST) if c >= 8 else (1, NUMBERS_FIRST)
    for images, windows in _windows(x, kh, kw, stride, frame, h.shape[1:], order):
        each = windows.transpose(TAPS_FIRST).reshape(taps, -1, c) if taps > 1 else windows.reshape(1, -1, kh * kw * c)
        add_adjoint_products(each, h[images].reshape(-1, o), out.reshape(taps, -1, o))


def _in_blocks(h: Array, w: Array, s: int, before: tuple[int, int], out: Array) -> None:
    """The adjoint in x at stride s.  Along each axis, with i + before = s·q + u and 0 ≤ u < s,

        x̄[i] = Σ_t h[q − t] w[u + s·t]

    so pixels of one q see the same window of h: a block of s of them is made at once, u by u of the rows.
    """
    kh, kw, c, o = w.shape
    _, height, width, _ = out.shape
    least = before[0] // s, before[1] // s  # of q
    size = (height - 1 + before[0]) // s + 1 - least[0], (width - 1 + before[1]) // s + 1 - least[1]
    th, tw = -(-kh // s), -(-kw // s)  # how many t
    edges = [(t - 1 - q, q + n - m) for t, q, n, m in zip((th, tw), least, size, h.shape[1:3], strict=True)]
    image = _cut(_cut(h, 1, edges[0]), 2, edges[1])
    if kh < s:
        out[:] = 0  # where no row of the kernel reaches
    taps = np.zeros((th * s, tw * s, c, o), w.dtype)
    taps[:kh, :kw] = w
    taps = taps.reshape(th, s, tw, s, c, o)[::-1, :, ::-1].transpose(1, 0, 2, 5, 3, 4)
    kernel = in_line(taps).reshape(s, th * tw * o, s * c)
    (top, bottom), (left, right) = edges
    frame = (max(top, 0), max(bottom, 0)), (max(left, 0), max(right, 0))
    for images, windows in _windows(image, th, tw, 1, frame, (*size, s * s * c), PIXELS_FIRST):
        rows = windows.reshape(-1, th * tw * o)
        blocks_row = work.array("product", (len(windows), *size, s, c), out.dtype)
        for u in range(min(s, kh)):
            ended = (th - len(range(u, kh, s))) * tw * o  # numbers of a window for which the kernel has no row
            multiply(rows[:, ended:], kernel[u, ended:], blocks_row.reshape(-1, s * c))
            first = (u - before[0]) % s
            here = out[images, first::s]
            made = blocks_row[:, (first + before[0]) // s - least[0] :][:, : here.shape[1]]
            for column in range(s):
                q, v = divmod(column + before[1], s)
                pixels = here[:, :, column::s]
                np.copyto(pixels, made[:, :, q - least[1] :, v][:, :, : pixels.shape[2]])


def _cut(x: Array, axis: int, edges: tuple[int, int]) -> Array:
    """x without what a negative frame cuts off."""
    before, after = max(0, -edges[0]), x.shape[axis] + min(0, edges[1])
    return x[(slice(None),) * axis + (slice(before, max(before, after)),)]


# --- pixels one after the other -----------------------------------------------------------------------------


def _layout(x: Array, frame: Frame, result: tuple[int, ...]) -> tuple[int, int, int]:
    """How many images at a time, and rows and pixels per row of each when they lie one after the other."""
    (top, bottom), (left, right) = frame
    _, h, w, c = x.shape
    rows, pitch = max(h + max(top, bottom), result[1]), max(w + max(left, right), result[2])
    return at_a_time(len(x), x.itemsize * rows * pitch * (c + result[3]), CACHE // 2), rows, pitch


def _flat(name: str, shape: tuple[int, ...], length: int, x: Array, top: int = 0, left: int = 0) -> tuple[Array, Array]:
    """Zeros for so many pixels, and the place among them where images like x belong."""
    memory = work.array(name, (length * shape[3],), x.dtype)
    memory[:] = 0
    images = memory[: prod(shape)].reshape(shape)
    return memory, images[:, top : top + x.shape[1], left : left + x.shape[2]]


def _shifted_adjoint(x: Array, h: Array, frame: Frame, out: Array) -> None:
    """out[u, v] += Σ_n p[n + distance(u, v)]ᵀ q[n], where q is h laid out as p is, and zeros between its rows."""
    kh, kw, c, o = out.shape
    n, rows, pitch = _layout(x, frame, h.shape)
    part = part_of(c, o)
    stack, block = blocks(n * rows * pitch, part, o)
    length = stack * block
    p, images = _flat("flat", (n, rows, pitch, c), length + kh * pitch, x, frame[0][0], frame[1][0])
    q, results = _flat("flat results", (n, rows, pitch, o), length, h)
    shifted = view(p, (stack, kh, kw, c // part, part, block), (block * c, pitch * c, c, part, 1, c))
    for start in range(0, len(x), n):
        here = min(n, len(x) - start)
        np.copyto(images[:here], x[start : start + n])
        np.copyto(results[:here], h[start : start + n])
        results[here:] = 0
        add_products(shifted, q.reshape(stack, 1, 1, 1, block, o), out.reshape(kh, kw, c // part, part, o))


def _few_outputs(x: Array, w: Array, frame: Frame, out: Array) -> None:
    """out[n] = Σ_{u,v} (p·w[u, v])[n + distance(u, v)]: as many products as windows have, but nothing gathered."""
    kh, kw, c, o = w.shape
    n, rows, pitch = _layout(x, frame, out.shape)
    size = n * rows * pitch
    stack, block = blocks(size + kh * pitch, c, kh * kw * o)
    p, images = _flat("flat", (n, rows, pitch, c), stack * block, x, frame[0][0], frame[1][0])
    kernel = w.swapaxes(2, 3).reshape(-1, c)
    products = work.array("flat products", (kh, kw, o, stack * block), x.dtype)
    total = products[0, 0, :, :size]
    results = total.reshape(o, n, rows, pitch)[:, :, : out.shape[1], : out.shape[2]].transpose(1, 2, 3, 0)
    for start in range(0, len(x), n):
        here = min(n, len(x) - start)
        np.copyto(images[:here], x[start : start + n])
        blockwise = products.reshape(-1, stack, block).swapaxes(0, 1)
        np.matmul(kernel, p.reshape(stack, block, c).swapaxes(1, 2), out=blockwise)
        for u, v in np.ndindex(kh, kw):
            if u or v:
                np.add(total, products[u, v, :, u * pitch + v :][:, :size], out=total)
        np.copyto(out[start : start + n], results[:here])
