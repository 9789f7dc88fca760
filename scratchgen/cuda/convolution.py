"""Convolution on a GPU: by products alone, in the way that moves fewer numbers through memory.

Counted for images (B, H, W, C) with their frame, a kernel (kh, kw, C, O) and P = B·H'·W' pixels of the result:

    gathered   P·kh·kw·C written and read again, F = B·H·W·C read, P·O written
    shifted    for each of kh·kw numbers of the kernel, F read and B·H·W·O added to: (2·kh·kw − 1)·B·H·W·O;
               and, where the result is smaller than the framed images, P·O read and written to cut it out

Gathered is `scratchgen.convolution`: windows copied into a matrix, and one product.  Shifted, at stride 1 and without
groups, copies nothing: the pixels of all framed images lie one after the other, so what the kernel's (u, v) sees is
all of them, W·u + v pixels further on, and each product is added to what is there (β = 1).  It takes few outputs of
many channels, or a 1×1 kernel, for that to be less.

The adjoint in x is a convolution at stride 1.  The adjoint in w is always gathered: it is one product of long rows,
which cuBLAS divides among the whole GPU; shifted, it would be kh·kw short ones.
"""

from __future__ import annotations

from typing import Any

from scratchgen import convolution
from scratchgen.convolution import Frame, outer_frame, output_size, turned
from scratchgen.tracing import filled

NAME = "products"
NO_FRAME: Frame = ((0, 0), (0, 0))


def gathered_numbers(x: tuple[int, ...], w: tuple[int, ...], y: tuple[int, ...]) -> int:
    """Numbers moved to convolve framed images of shape x with a kernel w, giving y, by windows."""
    (kh, kw, c, o), pixels = w, y[0] * y[1] * y[2]
    return pixels * (2 * kh * kw * c + o) + x[0] * x[1] * x[2] * c


def shifted_numbers(x: tuple[int, ...], w: tuple[int, ...], y: tuple[int, ...]) -> int:
    """The same by shifted products."""
    (kh, kw, c, o), pixels = w, x[0] * x[1] * x[2]
    cut = 2 * y[0] * y[1] * y[2] * o if x[1:3] != y[1:3] else 0
    return pixels * (kh * kw * c + (2 * kh * kw - 1) * o) + cut


def correlate(xp: Any, x: Any, w: Any, stride: int, frame: Frame, groups: int, out: Any = None) -> Any:
    """As `convolution.correlate`, the result in `out` if there is one.  xp: whose products are to be used."""
    kh, kw, c, o = w.shape
    (top, bottom), (left, right) = frame
    framed = (x.shape[0], x.shape[1] + top + bottom, x.shape[2] + left + right, c)
    result = (x.shape[0], *output_size(x.shape, kh, kw, stride, frame), o)
    shapes = framed, w.shape, result
    if stride == groups == 1 and len(x) and shifted_numbers(*shapes) < gathered_numbers(*shapes):
        return shifted(xp, convolution.framed(xp, x, frame), w, result, out)
    return filled(out, convolution.correlate(xp, x, w, stride, frame, groups))


def adjoint_x(
    xp: Any, h: Any, w: Any, shape: tuple[int, ...], stride: int, frame: Frame, groups: int, out: Any = None
) -> Any:
    """As `convolution.adjoint_x`."""
    outer = outer_frame(h.shape, w.shape, shape, frame)
    if stride == 1 and min(*outer[0], *outer[1]) >= 0:
        return correlate(xp, h, turned(xp, w, groups), 1, outer, groups, out)
    return filled(out, convolution.adjoint_x(xp, h, w, shape, stride, frame, groups))


def adjoint_w(
    xp: Any, x: Any, h: Any, shape: tuple[int, ...], stride: int, frame: Frame, groups: int, out: Any = None
) -> Any:
    """As `convolution.adjoint_w`."""
    return filled(out, convolution.adjoint_w(xp, x, h, shape, stride, frame, groups))


def shifted(xp: Any, x: Any, w: Any, result: tuple[int, ...], out: Any = None) -> Any:
    """x: framed images, (B, H, W, C).  w: (kh, kw, C, O).  Returns `result`, (B, H − kh + 1, W − kw + 1, O)."""
    (b, rows, pitch, c), (kh, kw, _, o) = x.shape, w.shape
    pixels = x.reshape(-1, c)
    length = len(pixels) - (kh - 1) * pitch - (kw - 1)  # up to the last pixel of the result
    if kh == kw == 1 and out is not None:
        y = out
    else:
        y = xp.empty((b, rows, pitch, o), "float64" if x.dtype == "float64" else "float32")
    added = y.reshape(-1, o)[:length]
    for u in range(kh):
        for v in range(kw):
            begin = u * pitch + v
            xp.product(pixels[begin : begin + length], w[u, v], added, add=bool(u or v))
    return y if kh == kw == 1 else filled(out, y[:, : result[1], : result[2]].copy())
