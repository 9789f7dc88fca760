"""Convolution, its two adjoints, and pooling.  Images are (B, H, W, C), kernels (kh, kw, in, out).

    y[b,i,j,o] = Σ_{u,v,c} x[b, i·s+u, j·s+v, c] · w[u,v,c,o]

y is linear in x and in w, so three operations are closed under differentiation: the convolution `_conv`,
its adjoint in x (`_conv_adjoint_x`, the transposed convolution) and its adjoint in w (`_conv_adjoint_w`).
Each one's gradients are the other two, to every order.  All three are one matrix product over windows:
the (kh·kw·C) numbers under the kernel, laid out as a row per output pixel.
"""

from __future__ import annotations

from typing import Any

from scratchgen.autograd.primitive import primitive
from scratchgen.ops.index import getitem
from scratchgen.ops.reduce import max as _max
from scratchgen.ops.reduce import mean as _mean
from scratchgen.ops.shape import framed, pad

Padding = int | str | tuple[tuple[int, int], tuple[int, int]]


def _windows(xp: Any, x: Any, kh: int, kw: int, stride: int) -> Any:
    """The windows of x as an array (B, H', W', kh, kw, C): one copy, in runs of kw·C numbers."""
    b, h, w, c = x.shape
    rows, columns = (h - kh) // stride + 1, (w - kw) // stride + 1
    return xp.window_view(x, (b, rows, columns, kh, kw, c), stride).copy()


def _add_windows(xp: Any, windows: Any, shape: tuple[int, ...], stride: int) -> Any:
    """The adjoint of `_windows`: every number added back to the pixel it was read from."""
    _, rows, columns, kh, kw, _ = windows.shape
    out = xp.zeros(shape, windows.dtype)
    for u in range(kh):
        for v in range(kw):
            down, across = slice(u, u + stride * rows, stride), slice(v, v + stride * columns, stride)
            out[:, down, across] += windows[:, :, :, u, v]
    return out


def _correlate(xp: Any, x: Any, w: Any, stride: int) -> Any:
    kh, kw, c, o = w.shape
    if kh == kw == stride == 1:
        return xp.matmul(x.reshape(-1, c), w.reshape(c, o)).reshape(*x.shape[:3], o)
    windows = _windows(xp, x, kh, kw, stride)
    y = xp.matmul(windows.reshape(-1, kh * kw * c), w.reshape(-1, o))
    return y.reshape(*windows.shape[:3], o)


@primitive(
    lambda g, _y, _x, w, stride: _conv_adjoint_x(g, w, _x.shape, stride),
    lambda g, _y, x, _w, stride: _conv_adjoint_w(x, g, _w.shape, stride),
)
def _conv(xp, x, w, /, stride):
    return _correlate(xp, x, w, stride)


@primitive(
    lambda g, _y, _h, w, shape, stride: _conv(g, w, stride),
    lambda g, _y, h, _w, shape, stride: _conv_adjoint_w(g, h, _w.shape, stride),
)
def _conv_adjoint_x(xp, h, w, /, shape, stride):
    kh, kw, c, o = w.shape
    if stride == 1 and h.shape[1] + kh - 1 == shape[1] and h.shape[2] + kw - 1 == shape[2]:
        # every pixel's own window of h meets the kernel turned by 180°: again one product over windows
        turned = xp.swapaxes(w[::-1, ::-1], 2, 3)
        return _correlate(xp, framed(xp, h, ((0, 0), (kh - 1, kh - 1), (kw - 1, kw - 1), (0, 0))), turned, 1)
    windows = xp.matmul(h.reshape(-1, o), w.reshape(-1, o).T)
    return _add_windows(xp, windows.reshape(*h.shape[:3], kh, kw, c), shape, stride)


@primitive(
    lambda g, _y, _x, h, shape, stride: _conv_adjoint_x(h, g, _x.shape, stride),
    lambda g, _y, x, _h, shape, stride: _conv(x, g, stride),
)
def _conv_adjoint_w(xp, x, h, /, shape, stride):
    kh, kw, c, o = shape
    windows = x if kh == kw == stride == 1 else _windows(xp, x, kh, kw, stride)
    return xp.matmul(windows.reshape(-1, kh * kw * c).T, h.reshape(-1, o)).reshape(shape)


def _frame(padding: Padding, kh: int, kw: int) -> tuple[tuple[int, int], tuple[int, int]]:
    if padding == "same":
        return ((kh - 1) // 2, kh // 2), ((kw - 1) // 2, kw // 2)
    if isinstance(padding, int):
        return (padding, padding), (padding, padding)
    if isinstance(padding, str):
        raise ValueError(f"padding: {padding!r} is not 'same', a number, or ((top, bottom), (left, right))")
    return padding


def conv2d(x, w, stride: int = 1, padding: Padding = 0):
    """Convolution (cross-correlation, as in all of deep learning) of images with a kernel.

    x: (B, H, W, C).  w: (kh, kw, C, O).  padding: zeros around the image, "same" keeps H and W at stride 1.
    Returns (B, ⌊(H + p − kh)/s⌋ + 1, ⌊(W + p − kw)/s⌋ + 1, O).
    Raises ValueError if the channels differ, or if the kernel is larger than the padded image.
    """
    kh, kw, c, _ = w.shape
    frame = _frame(padding, kh, kw)
    if x.ndim != 4 or x.shape[3] != c:
        raise ValueError(f"conv2d: images {tuple(x.shape)} do not fit a kernel {tuple(w.shape)}")
    if x.shape[1] + sum(frame[0]) < kh or x.shape[2] + sum(frame[1]) < kw:
        raise ValueError(f"conv2d: a kernel of {kh}×{kw} is larger than the padded image {tuple(x.shape)}")
    if frame != ((0, 0), (0, 0)):
        x = pad(x, ((0, 0), *frame, (0, 0)))
    return _conv(x, w, stride)


def conv2d_transpose(h, w, stride: int = 1, padding: Padding = 0, output_padding: int = 0):
    """The adjoint of `conv2d` in its images: ⟨conv2d(x, w), h⟩ = ⟨x, conv2d_transpose(h, w)⟩.

    h: (B, H, W, O).  w: (kh, kw, C, O), the kernel of the convolution that is transposed.
    Returns (B, (H−1)·s + kh − p + output_padding, …, C): `output_padding` names which of the sizes that
    the strided convolution maps to H is meant.
    """
    kh, kw, c, o = w.shape
    (top, bottom), (left, right) = _frame(padding, kh, kw)
    if h.ndim != 4 or h.shape[3] != o:
        raise ValueError(f"conv2d_transpose: images {tuple(h.shape)} do not fit a kernel {tuple(w.shape)}")
    if not 0 <= output_padding < stride:
        raise ValueError(f"conv2d_transpose: output_padding {output_padding} is not in [0, stride {stride})")
    rows = (h.shape[1] - 1) * stride + kh + output_padding
    columns = (h.shape[2] - 1) * stride + kw + output_padding
    x = _conv_adjoint_x(h, w, (h.shape[0], rows, columns, c), stride)
    if (top, bottom, left, right) == (0, 0, 0, 0):
        return x
    return getitem(x, (slice(None), slice(top, rows - bottom), slice(left, columns - right)))


# --- pooling ------------------------------------------------------------------------------------------------


@primitive(lambda g, _y, _x, kernel, stride: overlap_add(g, _x.shape, stride))
def windows(xp, x, /, kernel, stride):
    """The windows of images (B, H, W, C) as an array (B, H', W', kernel, kernel, C)."""
    return _windows(xp, x, kernel, kernel, stride)


@primitive(lambda g, _y, _x, shape, stride: windows(g, _x.shape[3], stride))
def overlap_add(xp, x, /, shape, stride):
    """The adjoint of `windows`: windows added back into images of `shape`."""
    return _add_windows(xp, x, shape, stride)


def _pooled(x: Any, kernel: int, stride: int | None) -> Any:
    if x.ndim != 4 or min(x.shape[1:3]) < kernel:
        raise ValueError(f"pooling: windows of {kernel}×{kernel} do not fit images of shape {tuple(x.shape)}")
    return windows(x, kernel, stride or kernel)


def avg_pool2d(x, kernel: int = 2, stride: int | None = None):
    """The mean of every window.  x: (B, H, W, C); the stride is the kernel by default.

    Raises ValueError if the images are smaller than a window.
    """
    return _mean(_pooled(x, kernel, stride), axis=(3, 4))


def max_pool2d(x, kernel: int = 2, stride: int | None = None):
    """The largest number of every window; ties share the gradient.  As `avg_pool2d` otherwise."""
    return _max(_pooled(x, kernel, stride), axis=(3, 4))


__all__ = [
    "avg_pool2d", "conv2d", "conv2d_transpose", "max_pool2d", "overlap_add", "windows",
]  # fmt: skip
