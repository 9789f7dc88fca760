"""Convolution and its two adjoints, for any array library: windows and one matrix product.

    y[b,i,j,o] = Σ_{u,v,c} x[b, i·s+u−top, j·s+v−left, c] · w[u,v,c,o]        x is 0 outside the image

The numbers under the kernel are laid out as a row per output pixel; a row times the kernel is the pixel.
With `groups` the channels of x and y fall into as many parts, and each part of y sees its own part of x.
A `frame` ((top, bottom), (left, right)) is the zeros around the image.

This is what `Backend.correlate` and its adjoints are, unless a library has something faster (`fastconv`).
"""

from __future__ import annotations

from typing import Any

Frame = tuple[tuple[int, int], tuple[int, int]]


def output_size(shape: tuple[int, ...], kh: int, kw: int, stride: int, frame: Frame) -> tuple[int, int]:
    """H' = ⌊(H + top + bottom − kh)/s⌋ + 1 and W' likewise, for images of `shape`."""
    (top, bottom), (left, right) = frame
    return (shape[1] + top + bottom - kh) // stride + 1, (shape[2] + left + right - kw) // stride + 1


def outer_frame(h: tuple[int, ...], w: tuple[int, ...], x: tuple[int, ...], frame: Frame) -> Frame:
    """The zeros around h for which its convolution with the turned kernel has the shape of x."""
    (top, _), (left, _) = frame
    return (w[0] - 1 - top, x[1] + top - h[1]), (w[1] - 1 - left, x[2] + left - h[2])


def turned(xp: Any, w: Any, groups: int = 1) -> Any:
    """The kernel rotated by 180°, with its inputs and outputs exchanged."""
    kh, kw, c, o = w.shape
    parts = w[::-1, ::-1].reshape(kh, kw, c, groups, o // groups)
    return xp.swapaxes(parts, 2, 4).reshape(kh, kw, o // groups, groups * c)


def windows(xp: Any, x: Any, kh: int, kw: int, stride: int) -> Any:
    """The windows of x as an array (B, H', W', kh, kw, C): one copy, in runs of kw·C numbers."""
    rows, columns = output_size(x.shape, kh, kw, stride, ((0, 0), (0, 0)))
    return xp.window_view(x, (x.shape[0], rows, columns, kh, kw, x.shape[3]), stride).copy()


def add_windows(xp: Any, windows: Any, shape: tuple[int, ...], stride: int) -> Any:
    """The adjoint of `windows`: every number added back to the pixel it was read from."""
    _, rows, columns, kh, kw, _ = windows.shape
    out = xp.zeros(shape, windows.dtype)
    for u in range(kh):
        for v in range(kw):
            down, across = slice(u, u + stride * rows, stride), slice(v, v + stride * columns, stride)
            out[:, down, across] += windows[:, :, :, u, v]
    return out


def correlate(xp: Any, x: Any, w: Any, stride: int, frame: Frame, groups: int) -> Any:
    """y of the equation above.  x: (B, H, W, groups·c).  w: (kh, kw, c, O).  Returns (B, H', W', O)."""
    kh, kw, _, o = w.shape
    rows = _rows(xp, xp.windows(x, kh, kw, stride, frame), groups)
    y = xp.matmul(rows, _columns(xp, w, groups))
    return xp.moveaxis(y, 0, 1).reshape(x.shape[0], *output_size(x.shape, kh, kw, stride, frame), o)


def adjoint_x(xp: Any, h: Any, w: Any, shape: tuple[int, ...], stride: int, frame: Frame, groups: int) -> Any:
    """The x̄ of `shape` with ⟨correlate(x, w), h⟩ = ⟨x, x̄⟩ for every x: each pixel of h stamps a kernel.

    At stride 1 every pixel's own window of h meets the kernel turned by 180°: again one product.
    """
    kh, kw, c, _ = w.shape
    (top, _), (left, _) = frame
    outer = outer_frame(h.shape, w.shape, shape, frame)
    if stride == 1 and min(*outer[0], *outer[1]) >= 0:
        return correlate(xp, h, turned(xp, w, groups), 1, outer, groups)
    rows = xp.matmul(_rows(xp, h[:, :, :, None, None], groups), xp.swapaxes(_columns(xp, w, groups), 1, 2))
    stamps = xp.moveaxis(rows.reshape(groups, -1, kh * kw, c), 0, 2).reshape(*h.shape[:3], kh, kw, groups * c)
    framed = (shape[0], shape[1] + sum(frame[0]), shape[2] + sum(frame[1]), shape[3])
    return add_windows(xp, stamps, framed, stride)[:, top : top + shape[1], left : left + shape[2]].copy()


def adjoint_w(xp: Any, x: Any, h: Any, shape: tuple[int, ...], stride: int, frame: Frame, groups: int) -> Any:
    """The w̄ of `shape` with ⟨correlate(x, w), h⟩ = ⟨w, w̄⟩ for every w."""
    kh, kw, _, _ = shape
    rows = _rows(xp, xp.windows(x, kh, kw, stride, frame), groups)
    w = xp.matmul(xp.swapaxes(rows, 1, 2), _rows(xp, h[:, :, :, None, None], groups))
    return xp.moveaxis(w, 0, 1).reshape(shape)


def framed(xp: Any, x: Any, frame: Frame) -> Any:
    """x inside its frame of zeros."""
    (top, bottom), (left, right) = frame
    if top == bottom == left == right == 0:
        return x
    b, h, w, c = x.shape
    out = xp.zeros((b, h + top + bottom, w + left + right, c), x.dtype)
    out[:, top : top + h, left : left + w] = x
    return out


def _rows(xp: Any, windows: Any, groups: int) -> Any:
    """Windows (B, H', W', kh, kw, C) as a matrix per group, (groups, B·H'·W', kh·kw·C/groups)."""
    b, rows, columns, kh, kw, c = windows.shape
    parts = windows.reshape(b * rows * columns, kh * kw, groups, c // groups)
    return xp.moveaxis(parts, 2, 0).reshape(groups, b * rows * columns, kh * kw * (c // groups))


def _columns(xp: Any, w: Any, groups: int) -> Any:
    """A kernel (kh, kw, c, O) as a matrix per group, (groups, kh·kw·c, O/groups)."""
    kh, kw, c, o = w.shape
    return xp.moveaxis(w.reshape(kh * kw * c, groups, o // groups), 1, 0)
