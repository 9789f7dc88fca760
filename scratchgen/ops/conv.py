"""Convolution, its two adjoints, and pooling.  Images are (B, H, W, C), kernels (kh, kw, in, out).

    y[b,i,j,o] = Σ_{u,v,c} x[b, i·s+u−top, j·s+v−left, c] · w[u,v,c,o]        x is 0 outside the image

y is linear in x and in w, so three operations are closed under differentiation: the convolution `_conv`,
its adjoint in x (`_conv_adjoint_x`, the transposed convolution) and its adjoint in w (`_conv_adjoint_w`):

    ⟨conv(x, w), h⟩ = ⟨x, adjoint_x(h, w)⟩ = ⟨w, adjoint_w(x, h)⟩

Each one's gradients are the other two, to every order.  The frame of zeros belongs to the operation, so
that nothing framed is kept for the gradients.  How the sums are done is the array library's business:
`scratchgen.convolution` says it in one matrix product, `scratchgen.fastconv` does it quickly.
"""

from __future__ import annotations

from typing import Any

from scratchgen.autograd.primitive import primitive
from scratchgen.convolution import Frame, add_windows
from scratchgen.convolution import windows as _windows
from scratchgen.ops.reduce import max as _max
from scratchgen.ops.reduce import mean as _mean
from scratchgen.precision import asked

Padding = int | str | Frame


@primitive(
    lambda g, _y, _x, w, *how: _conv_adjoint_x(g, w, _x.shape, *how),
    lambda g, _y, x, _w, *how: _conv_adjoint_w(x, g, _w.shape, *how),
    whole=True,
)
def _conv(xp, x, w, /, stride, frame, groups, precision, out=None):
    return xp.products(precision).correlate(x, w, stride, frame, groups, out)


@primitive(
    lambda g, _y, _h, w, shape, *how: _conv(g, w, *how),
    lambda g, _y, h, _w, shape, *how: _conv_adjoint_w(g, h, _w.shape, *how),
    whole=True,
)
def _conv_adjoint_x(xp, h, w, /, shape, stride, frame, groups, precision, out=None):
    return xp.products(precision).correlate_adjoint_x(h, w, shape, stride, frame, groups, out)


@primitive(
    lambda g, _y, _x, h, shape, *how: _conv_adjoint_x(h, g, _x.shape, *how),
    lambda g, _y, x, _h, shape, *how: _conv(x, g, *how),
    whole=True,
)
def _conv_adjoint_w(xp, x, h, /, shape, stride, frame, groups, precision, out=None):
    return xp.products(precision).correlate_adjoint_w(x, h, shape, stride, frame, groups, out)


def _frame(padding: Padding, kh: int, kw: int) -> Frame:
    if padding == "same":
        return ((kh - 1) // 2, kh // 2), ((kw - 1) // 2, kw // 2)
    if isinstance(padding, str):
        raise ValueError(f"padding: {padding!r} is not 'same', a number, or ((top, bottom), (left, right))")
    if isinstance(padding, int):
        padding = (padding, padding), (padding, padding)
    (top, bottom), (left, right) = padding
    if min(top, bottom, left, right) < 0:
        raise ValueError(f"padding: {padding} is negative")
    return (top, bottom), (left, right)


def conv2d(x, w, stride: int = 1, padding: Padding = 0, groups: int = 1):
    """Convolution (cross-correlation, as in all of deep learning) of images with a kernel.

    x: (B, H, W, C).  w: (kh, kw, C/groups, O).  padding: zeros around the image, "same" keeps H and W at
    stride 1.  groups: the channels fall into so many parts, and the o-th part of the output sees the o-th
    part of the input; C groups of one channel are a depthwise convolution.
    Returns (B, ⌊(H + p − kh)/s⌋ + 1, ⌊(W + p − kw)/s⌋ + 1, O).
    Raises ValueError if the channels differ or do not divide, or if the kernel is larger than the padded image.
    """
    kh, kw, c, o = w.shape
    frame = _frame(padding, kh, kw)
    _check_groups("conv2d", groups, o)
    if x.ndim != 4 or x.shape[3] != c * groups:
        raise ValueError(f"conv2d: images {tuple(x.shape)} do not fit a kernel {tuple(w.shape)}{_in_groups(groups)}")
    if x.shape[1] + sum(frame[0]) < kh or x.shape[2] + sum(frame[1]) < kw:
        raise ValueError(f"conv2d: a kernel of {kh}×{kw} is larger than the padded image {tuple(x.shape)}")
    return _conv(x, w, stride, frame, groups, asked())


def conv2d_transpose(h, w, stride: int = 1, padding: Padding = 0, output_padding: int = 0, groups: int = 1):
    """The adjoint of `conv2d` in its images: ⟨conv2d(x, w), h⟩ = ⟨x, conv2d_transpose(h, w)⟩.

    h: (B, H, W, O).  w: (kh, kw, C/groups, O), the kernel of the convolution that is transposed.
    Returns (B, (H−1)·s + kh − p + output_padding, …, C): `output_padding` names which of the sizes that
    the strided convolution maps to H is meant.
    Raises ValueError if the channels differ or do not divide, or if the padding leaves no pixel.
    """
    kh, kw, c, o = w.shape
    frame = _frame(padding, kh, kw)
    _check_groups("conv2d_transpose", groups, o)
    if h.ndim != 4 or h.shape[3] != o:
        raise ValueError(f"conv2d_transpose: images {tuple(h.shape)} do not fit a kernel {tuple(w.shape)}")
    if not 0 <= output_padding < stride:
        raise ValueError(f"conv2d_transpose: output_padding {output_padding} is not in [0, stride {stride})")
    rows = (h.shape[1] - 1) * stride + kh + output_padding - sum(frame[0])
    columns = (h.shape[2] - 1) * stride + kw + output_padding - sum(frame[1])
    if rows < 1 or columns < 1:
        raise ValueError(f"conv2d_transpose: the padding {padding} leaves no pixel of {tuple(h.shape)}")
    return _conv_adjoint_x(h, w, (h.shape[0], rows, columns, c * groups), stride, frame, groups, asked())


def _check_groups(operation: str, groups: int, o: int) -> None:
    if groups < 1 or o % groups:
        raise ValueError(f"{operation}: {o} output channels do not divide into {groups} groups")


def _in_groups(groups: int) -> str:
    return f" in {groups} groups" if groups > 1 else ""


# --- pooling ------------------------------------------------------------------------------------------------


@primitive(lambda g, _y, _x, kernel, stride: overlap_add(g, _x.shape, stride))
def windows(xp, x, /, kernel, stride):
    """The windows of images (B, H, W, C) as an array (B, H', W', kernel, kernel, C)."""
    return _windows(xp, x, kernel, kernel, stride)


@primitive(lambda g, _y, _x, shape, stride: windows(g, _x.shape[3], stride))
def overlap_add(xp, x, /, shape, stride):
    """The adjoint of `windows`: windows added back into images of `shape`."""
    return add_windows(xp, x, shape, stride)


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
