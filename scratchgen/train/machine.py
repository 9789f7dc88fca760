"""Two settings of the process that make small networks several times faster; the numbers stay the same.

A network for 8×8 images is thousands of small operations a second.  For matrix products of this size BLAS's
own threads spend longer waking each other than computing, and freshly mapped memory costs more than what is
written to it.  So: one BLAS thread, with whole chunks of images side by side on the cores instead
(`side_by_side`), and a heap that keeps its memory.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from functools import cache
from typing import Any, TypeVar

from threadpoolctl import threadpool_limits

from scratchgen.backend import active

T = TypeVar("T")
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


def cores() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def side_by_side(f: Callable[[Any], T], items: Iterable[Any]) -> list[T]:
    """[f(item) for item in items], on the host's cores at once: NumPy leaves the interpreter while it computes.

    f must not depend on the order, nor call `side_by_side` itself: its tasks would wait for their own threads.
    On a GPU one after the other: the device is parallel already.
    """
    items = list(items)
    if len(items) == 1 or active().on_device or cores() == 1:
        return [f(item) for item in items]
    contexts = [copy_context() for _ in items]  # each task sees the caller's active backend
    return list(_pool().map(lambda context, item: context.run(f, item), contexts, items))


@cache
def _pool() -> ThreadPoolExecutor:
    """Threads that live as long as the process: a new thread would begin with memory of its own."""
    return ThreadPoolExecutor(min(cores(), 8))
