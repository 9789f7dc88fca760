"""Products cut into blocks of rows, and the memory that they share."""

from threading import Thread

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scratchgen import pieces

SIZES = st.integers(1, 40)


@pytest.fixture(params=[1, 2_000, 20_000, 10**9])
def small(request, monkeypatch):
    """Where blocks end, from 'always one product' to 'blocks of as few rows as there are'."""
    monkeypatch.setattr(pieces, "SMALL", request.param)


def draw(*shape):
    return np.random.default_rng(shape).standard_normal(shape)


def test_multiply(small):
    @given(st.integers(1, 300), SIZES, SIZES)
    def check(rows, k, n):
        a, b, out = draw(rows, k), draw(k, n), np.full((rows, n), np.nan)
        pieces.multiply(a, b, out)
        np.testing.assert_allclose(out, np.einsum("ij,jk->ik", a, b), rtol=0, atol=1e-12)

    check()


def test_add_adjoint_products(small):
    @given(st.integers(1, 3), st.integers(1, 300), SIZES, SIZES)
    def check(taps, rows, k, n):
        a, c, before = draw(taps, rows, k), draw(rows, n), draw(taps, k, n)
        out = before.copy()
        pieces.add_adjoint_products(a, c, out)
        np.testing.assert_allclose(out, before + np.einsum("tij,ik->tjk", a, c), rtol=0, atol=1e-11)

    check()


def test_a_matrix_stored_by_columns_is_no_different():
    a, b = draw(30, 200).T, draw(30, 8)
    out = np.empty((200, 8))
    pieces.multiply(a, b, out)
    np.testing.assert_allclose(out, np.einsum("ij,jk->ik", a, b), rtol=0, atol=1e-12)


@given(st.integers(1, 10**6), st.integers(1, 3000), st.integers(1, 3000))
def test_blocks_hold_all_rows_and_stay_small(rows, k, n):
    count, block = pieces.blocks(rows, k, n)
    assert count * block >= rows > (count - 1) * block
    assert block % 4 == 0
    assert count == 1 or block * k * n <= pieces.SMALL


@given(st.integers(1, 5000), st.integers(1, 3000))
def test_parts_divide(k, n):
    part = pieces.part_of(k, n)
    assert k % part == 0
    assert part == k or 8 <= part <= 4096 / n


@given(st.integers(1, 100), st.integers(1, 10**6), st.integers(1, 10**6))
def test_at_a_time(count, size, cache):
    n = pieces.at_a_time(count, size, cache)
    assert 1 <= n <= count
    assert n == 1 or n * size <= cache
    times = -(-count // n)
    assert n * times - count < times  # no round but for a thing each falls short


@given(st.integers(1, 200), st.sampled_from(["float32", "float64"]))
def test_aligned(n, dtype):
    a = pieces.aligned((n, 3), dtype)
    assert a.ctypes.data % 64 == 0
    assert a.shape == (n, 3)
    assert a.dtype == dtype
    assert a.flags.c_contiguous
    assert a.flags.writeable


def test_memory_is_used_again_and_grows():
    work = pieces.Workspace()
    first = work.array("a", (2, 3), np.dtype("float64"))
    assert np.shares_memory(first, work.array("a", (4,), np.dtype("float32")))
    assert not np.shares_memory(first, work.array("b", (2, 3), np.dtype("float64")))
    work.plans["views of it"] = first
    assert not np.shares_memory(first, work.array("a", (7,), np.dtype("float64")))
    assert not work.plans
    assert work.array("a", (7,), np.dtype("float64")).ctypes.data % 64 == 0


def test_each_thread_has_its_own():
    work, others = pieces.Workspace(), []
    mine = work.array("a", (5,), np.dtype("float64"))
    thread = Thread(target=lambda: others.append(work.array("a", (5,), np.dtype("float64"))))
    thread.start()
    thread.join()
    assert not np.shares_memory(mine, others[0])
