"""Products of tall matrices on NumPy arrays, in pieces that suit the processor.

Below a million multiplications OpenBLAS multiplies without packing its operands first, half as fast again.
NumPy's matmul does a whole stack of such products in one call.  So a tall matrix is cut into blocks of rows:

    ┌────┐              ┌────┐                                      a and out as stacks (S, rows, k), (S, rows, n)
    │ a₀ │              │ a₀b│
    │ a₁ │ ·  ┌───┐  =  │ a₁b│        aᵀ·c = a₀ᵀc₀ + a₁ᵀc₁ + a₂ᵀc₂
    │ a₂ │    │ b │     │ a₂b│
    └────┘    └───┘     └────┘
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from math import prod
from typing import Any, TypeVar

import numpy as np

Array = np.ndarray
Plan = TypeVar("Plan")
SMALL = 1_000_000
"""Multiplications up to which OpenBLAS does not pack."""
PLANS = 200
"""Prepared views that a thread keeps."""


def aligned(shape: tuple[int, ...], dtype: Any) -> Array:
    """An empty array that begins at a multiple of 64 bytes: NumPy writes to such memory twice as fast."""
    size = prod(shape) * np.dtype(dtype).itemsize
    memory = np.empty(size + 64, np.uint8)
    start = -memory.ctypes.data % 64
    return memory[start : start + size].view(dtype).reshape(shape)


class Workspace(threading.local):
    """Memory that the calls of one thread share, and views of it that they have prepared."""

    def __init__(self) -> None:
        self.memory: dict[str, Array] = {}
        self.plans: dict[tuple, Any] = {}

    def array(self, name: str, shape: tuple[int, ...], dtype: np.dtype) -> Array:
        """An array whose values last until the next one of that name."""
        size = prod(shape) * dtype.itemsize
        if name not in self.memory or self.memory[name].size < size:
            self.memory[name] = aligned((size,), np.uint8)
            self.plans.clear()
        return self.memory[name][:size].view(dtype).reshape(shape)

    def plan(self, make: Callable[..., Plan], *key: Any) -> Plan:
        """make(*key), kept for as long as the memory that it has views of."""
        plan = self.plans.get((make, *key))
        if plan is None:
            plan = make(*key)
            if len(self.plans) >= PLANS:
                self.plans.clear()
            self.plans[make, *key] = plan
        return plan


work = Workspace()


def in_line(kernel: Array, name: str = "kernel") -> Array:
    """A copy that begins at a multiple of 64 bytes, so that BLAS reads its rows in whole lines of the cache."""
    copy = work.array(name, kernel.shape, kernel.dtype)
    np.copyto(copy, kernel)
    return copy


def at_a_time(count: int, size: int, cache: int) -> int:
    """How many of so many things, of `size` bytes each, to take at a time: about the same every time."""
    return -(-count // -(-count // max(1, min(count, cache // size))))


def view(memory: Array, shape: tuple[int, ...], strides: tuple[int, ...]) -> Array:
    """The numbers of `memory` as an array of that shape, with strides in numbers instead of bytes."""
    return np.ndarray(shape, memory.dtype, memory, 0, tuple(s * memory.itemsize for s in strides))


def rows_at_a_time(k: int, n: int) -> int:
    """How many rows of a matrix (…, k) to multiply with (k, n) at a time; 0: better all at once."""
    rows = SMALL // (k * n) // 4 * 4
    return rows if rows >= 16 else 0


def blocks(rows: int, k: int, n: int) -> tuple[int, int]:
    """(S, m): S blocks of m rows that hold so many rows, and a few more."""
    most = rows_at_a_time(k, n) or rows
    count = -(-rows // most)
    return count, -(-rows // (4 * count)) * 4


def _whole_blocks(rows: int, k: int, n: int) -> tuple[int, int]:
    """(S, m): S blocks of m rows that leave over a few rows at most."""
    count, block = blocks(rows, k, n)
    block = rows // count if count * block > rows else block
    return count, block


def multiply(a: Array, b: Array, out: Array) -> None:
    """out = a·b.  a: (rows, k).  b: (k, n)."""
    (rows, k), n = a.shape, b.shape[1]
    count, block = _whole_blocks(rows, k, n)
    many = count * block
    np.matmul(a[:many].reshape(count, block, k), b, out=out[:many].reshape(count, block, n))
    if many < rows:
        np.matmul(a[many:], b, out=out[many:])


def part_of(k: int, n: int) -> int:
    """A divisor of k: so many columns of `a` at a time make aᵀ·c, of n columns, from long blocks of rows."""
    return next((p for p in range(k, 7, -1) if k % p == 0 and p * n <= 4096), k)


def add_products(left: Array, right: Array, out: Array) -> None:
    """out += Σ_s left[s]·right[s].  left: (S, …, k, m).  right: (S, …, m, n).  out: (…, k, n)."""
    each = work.array("each", (*left.shape[:-1], right.shape[-1]), left.dtype)
    np.matmul(left, right, out=each)
    for one in each:
        np.add(out, one, out=out)


def add_adjoint_products(a: Array, c: Array, out: Array) -> None:
    """out[t] += a[t]ᵀ·c.  a: (T, rows, k).  c: (rows, n).  out: (T, k, n)."""
    (taps, rows, k), n = a.shape, c.shape[1]
    part = part_of(k, n)
    count, block = _whole_blocks(rows, part, n)
    many = count * block
    left = a[:, :many].reshape(taps, count, block, k // part, part).transpose(1, 0, 3, 4, 2)
    add_products(left, c[:many].reshape(count, 1, 1, block, n), out.reshape(taps, k // part, part, n))
    if many < rows:
        out += np.matmul(a[:, many:].swapaxes(1, 2), c[many:])
