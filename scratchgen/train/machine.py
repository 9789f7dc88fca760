"""Two settings of the process that make small networks several times faster; the numbers stay the same.

A network for 8×8 images is thousands of small operations a second.  For matrix products of this size BLAS's
own threads spend longer waking each other than computing, and freshly mapped memory costs more than what is
written to it.  So: one BLAS thread, with whole chunks of images side by side on the cores instead
(`cores.side_by_side`), and a heap that keeps its memory.
"""

from __future__ import annotations

import ctypes
import os

from threadpoolctl import threadpool_limits

BLAS_VARIABLES = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS", "BLIS_NUM_THREADS")
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # glibc's malloc.h
LARGEST_ON_HEAP = 32 << 20  # the largest that glibc accepts
KEPT = 512 << 20


def prepare() -> None:
    """One BLAS thread, unless the environment says how many, and a heap that keeps what it has."""
    if not any(name in os.environ for name in BLAS_VARIABLES):
        threadpool_limits(1, user_api="blas")
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):  # not glibc
        return
    mallopt(M_MMAP_THRESHOLD, LARGEST_ON_HEAP)
    mallopt(M_TRIM_THRESHOLD, KEPT)
