"""Work on several cores at once: in threads, since NumPy leaves the interpreter while it computes, and in memory that
several processes can share."""

from __future__ import annotations

import mmap
import os
import threading
import weakref
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, wait
from contextvars import copy_context
from functools import cache
from typing import Any, TypeVar

import numpy as np

from scratchgen.backend import active

T = TypeVar("T")
_here = threading.local()


def cores() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def side_by_side(f: Callable[[Any], T], items: Iterable[Any]) -> list[T]:
    """[f(item) for item in items], on the host's cores at once; f must not depend on the order.

    One after the other where it is itself called from such a task, and on a GPU: they are busy already.
    Raises what the first of the items raises, once none of them is at work any more.
    """
    items = list(items)
    if len(items) == 1 or hasattr(_here, "busy") or active().on_device or cores() == 1:
        return [f(item) for item in items]
    contexts = [copy_context() for _ in items]  # each task sees the caller's active backend
    tasks = [_pool().submit(context.run, f, item) for context, item in zip(contexts, items, strict=True)]
    wait(tasks)
    return [task.result() for task in tasks]


@cache
def _pool() -> ThreadPoolExecutor:
    """Threads that live as long as the process: a new thread would begin with memory of its own."""
    return ThreadPoolExecutor(min(cores(), 8), initializer=lambda: setattr(_here, "busy", True))


_shared: list[tuple[int, int]] = []  # where memory lies that a forked process shares


def shared(nbytes: int) -> np.ndarray:
    """Memory, zeros at first, that processes forked later share; it begins with a page."""
    mapping = mmap.mmap(-1, max(nbytes, 1))
    memory = np.frombuffer(mapping, np.uint8)
    start = memory.__array_interface__["data"][0]
    place = start, start + nbytes
    _shared.append(place)
    weakref.finalize(mapping, _shared.remove, place)
    return memory


def is_shared(array: np.ndarray) -> bool:
    """Whether an array lies in such memory."""
    start = array.__array_interface__["data"][0]
    return any(a <= start and start + array.nbytes <= b for a, b in _shared)
