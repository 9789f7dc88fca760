"""Windows of images for `convolution`, by one launch that reads the image where it lies and frames it on the way.

By array calls that is a frame of zeros filled and written to, and a copy of an overlapping view: there CuPy finds the
place of each number by dividing it by the length of every axis.
"""

from __future__ import annotations

from typing import Any

import cupy
import numpy as np

from scratchgen.convolution import Frame, output_size
from scratchgen.cuda.kernels import function

WORDS = (16, 8, 4, 2)
"""Bytes that are moved at once."""
LANES, THREADS = 32, 256
MOST = 1 << 31
"""Windows that the kernel can count."""


def _kernel(word: int) -> Any:
    return function("windows.cu", f"windows_{word}")


def word_of(x: Any) -> int | None:
    """The largest word that pixels and the array's own place are multiples of, if the kernel knows one."""
    pixel = x.shape[3] * x.dtype.itemsize
    return next((word for word in WORDS if pixel % word == 0 == x.data.ptr % word), None)


def windows(x: Any, kh: int, kw: int, stride: int, frame: Frame) -> Any:
    """As `Backend.windows`; None for images that the kernel does not know: of odd bytes, with gaps, or too many."""
    rows, columns = output_size(x.shape, kh, kw, stride, frame)
    (b, height, width, c), n = x.shape, x.shape[0] * rows * columns
    word = word_of(x)
    if word is None or n >= MOST or not x.flags.c_contiguous:
        return None
    made = cupy.empty((b, rows, columns, kh, kw, c), x.dtype)
    if made.size:
        pixel = c * x.dtype.itemsize // word
        lanes = min(LANES, 1 << (kh * kw * pixel - 1).bit_length())
        together = THREADS // lanes
        sizes = map(np.uint32, (n, rows, columns, kh, kw * pixel))
        lengths = map(np.int64, (height, width * pixel))
        left, across = np.int64(frame[1][0] * pixel), np.int64(stride * pixel)
        args = (x, made, *sizes, *lengths, np.int32(stride), np.int32(frame[0][0]), left, across)
        _kernel(word)((-(-n // together),), (lanes, together), args)
    return made
