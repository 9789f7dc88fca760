"""How cuBLAS is asked for products: the plan, carried out on the host by what cuBLAS documents, against np.matmul."""

from itertools import product

import host_cublas
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scratchgen.cuda.layout import Copy, Gemm, View, merged, plan, runs

SEEDS = st.integers(0, 2**32 - 1)


class Stored:
    """An array and the memory that it is a view of, with room around it."""

    def __init__(self, shape, order, gaps, flipped=(), rng=None):
        """order: its axes from the widest stride to the narrowest.  gaps: how many numbers of memory for one along
        each axis.  flipped: axes with a negative stride."""
        room = tuple(shape[axis] * gaps[axis] for axis in order)
        self.memory = rng.standard_normal(int(np.prod(room)) + 7)
        whole = self.memory[3 : 3 + int(np.prod(room))].reshape(room).transpose(np.argsort(order))
        steps = tuple(slice(None, None, -gap if axis in flipped else gap) for axis, gap in enumerate(gaps))
        self.array = whole[steps]

    @property
    def begin(self):
        return (self.array.ctypes.data - self.memory.ctypes.data) // 8

    def plain(self):
        self.memory = np.ascontiguousarray(self.array).reshape(-1)
        self.array = self.memory.reshape(self.array.shape)

    def seen(self):
        return View(self.array.shape, tuple(s // 8 for s in self.array.strides))


def carried_out(gemm, a, b, out, add=False):
    """The calls of a plan; the worst status."""
    one, two = (b, a) if gemm.exchanged else (a, b)
    status = 0
    for i, j, to in gemm.offsets:
        status |= host_cublas.gemm(
            gemm.transa, gemm.transb, gemm.m, gemm.n, gemm.k, 1.0, one.memory[one.begin + i :], gemm.lda, gemm.stride_a,
            two.memory[two.begin + j :], gemm.ldb, gemm.stride_b, float(add), out.memory[out.begin + to :], gemm.ldc,
            gemm.stride_c, gemm.batch,
        )  # fmt: skip
    return status


def expected(a, b, out, add):
    """What the memory of `out` should hold."""
    after = Stored.__new__(Stored)
    after.memory = out.memory.copy()
    there = np.ndarray(out.array.shape, "f8", after.memory, out.begin * 8, out.array.strides)
    there[...] = np.matmul(a.array, b.array) + (there if add else 0)
    return after.memory


def check(a, b, out, add=False):
    """Plan and carry out; the names that had to be copied."""
    found = plan(a.seen(), b.seen(), out.seen())
    names = ()
    if isinstance(found, Copy):
        names = found.names
        for name, x in (("a", a), ("b", b), ("out", out)):
            if name in names:
                x.plain()
        found = plan(a.seen(), b.seen(), out.seen())
    assert isinstance(found, Gemm)
    right = expected(a, b, out, add)
    assert carried_out(found, a, b, out, add) == 0
    np.testing.assert_allclose(out.memory, right, rtol=1e-12, atol=1e-12)  # and nothing else is written to
    return names


@st.composite
def laid_out(draw, shape, rng, flips=True):
    """An array of that shape somewhere in memory: axes in any order, gaps, axes that run backwards or stand still."""
    order = draw(st.permutations(range(len(shape))))
    gaps = [draw(st.sampled_from([1, 1, 2, 3])) for _ in shape]
    flipped = [axis for axis in range(len(shape)) if flips and draw(st.integers(0, 7)) == 0]
    stored = Stored(shape, order, gaps, flipped, rng)
    if flips:
        first = tuple(slice(0, 1) if draw(st.integers(0, 7)) == 0 else slice(None) for _ in shape)
        stored.array = np.broadcast_to(stored.array[first], shape)
    return stored


@st.composite
def products(draw):
    """Operands of a product with a broadcast batch, and an array for the result."""
    rng = np.random.default_rng(draw(SEEDS))
    m, k, n = (draw(st.integers(1, 4)) for _ in range(3))
    batch = draw(st.lists(st.integers(1, 3), max_size=3))
    one, two = ([1 if draw(st.booleans()) else i for i in batch][draw(st.integers(0, len(batch))) :] for _ in range(2))
    a, b = draw(laid_out((*one, m, k), rng)), draw(laid_out((*two, k, n), rng))
    shape = (*np.broadcast_shapes(tuple(one), tuple(two)), m, n)
    return a, b, draw(laid_out(shape, rng, flips=False)), draw(st.booleans())


@given(products())
def test_any_product(case):
    check(*case)


def test_every_small_layout():
    """All orders of the axes of stacks of matrices, all results; with and without gaps."""
    rng = np.random.default_rng(0)
    orders, plain = ((0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)), (1, 1, 1)
    for left, right, made, gaps in product(orders, orders, orders, (plain, (2, 1, 1), (1, 2, 1), (1, 1, 2))):
        for m, k, n in ((2, 3, 4), (1, 3, 2), (2, 1, 3), (3, 2, 1), (1, 1, 2), (1, 1, 1)):
            a, b = Stored((2, m, k), left, gaps, rng=rng), Stored((2, k, n), right, plain, rng=rng)
            copied = check(a, b, Stored((2, m, n), made, plain, rng=rng))
            assert copied == () or gaps != plain or 0 in (left[-1], right[-1], made[-1])


@pytest.mark.parametrize("shapes", [
    ((2, 3), (3, 4)), ((5, 2, 3), (3, 4)), ((2, 3), (5, 3, 4)), ((5, 2, 3), (5, 3, 4)), ((6, 5, 2, 3), (5, 3, 4)),
    ((6, 1, 2, 3), (1, 5, 3, 4)), ((6, 5, 1, 3), (3, 4)), ((6, 1, 1, 3), (5, 3, 4)), ((1, 1), (1, 1)),
])  # fmt: skip
def test_arrays_in_one_piece_and_their_transposes_are_read_where_they_lie(shapes):
    rng = np.random.default_rng(1)
    for left, right in product((False, True), repeat=2):
        one, two = ((*range(len(s) - 2), len(s) - 1, len(s) - 2) if t else tuple(range(len(s)))
                    for s, t in zip(shapes, (left, right), strict=True))
        a, b = (Stored(s, order, [1] * len(s), rng=rng) for s, order in zip(shapes, (one, two), strict=True))
        made = np.matmul(a.array, b.array).shape
        for add in (False, True):
            assert check(a, b, Stored(made, range(len(made)), [1] * len(made), rng=rng), add) == ()


def calls(a, b, out):
    found = plan(*(View(x.shape, tuple(s // 8 for s in x.strides)) for x in (a, b, out)))
    assert isinstance(found, Gemm)
    return len(found.offsets), found.batch, (found.m, found.n, found.k)


def test_as_few_calls_as_can_be():
    a, b = np.ones((4, 6, 2, 3)), np.ones((3, 5))
    assert calls(a, b, np.ones((4, 6, 2, 5))) == (1, 1, (5, 48, 3))  # one tall matrix
    assert calls(a, np.ones((4, 6, 3, 5)), np.ones((4, 6, 2, 5))) == (1, 24, (5, 2, 3))
    assert calls(np.ones((4, 6, 1, 3)), b, np.ones((4, 6, 1, 5))) == (1, 1, (5, 24, 3))
    heads = np.ones((4, 7, 6, 2)).swapaxes(1, 2)  # (B, heads, T, width) of (B, T, heads, width)
    assert calls(heads, heads.swapaxes(2, 3), np.ones((4, 6, 7, 7))) == (4, 6, (7, 7, 2))
    assert calls(a[:, :1], np.ones((6, 3, 5)), np.ones((4, 6, 2, 5))) == (4, 6, (5, 2, 3))


def test_windows_that_overlap_are_read_where_they_lie():
    memory = np.arange(60.0)
    a = np.lib.stride_tricks.as_strided(memory, (3, 4, 8), (4 * 8, 8, 4 * 8))  # one tall matrix would need ld ≥ 12
    assert calls(a, np.ones((8, 5)), np.ones((3, 4, 5))) == (1, 3, (5, 4, 8))


def test_what_cannot_be_read_where_it_lies():
    x, y = np.ones((4, 4, 4)), np.ones((4, 4, 4))
    for name, a, b, out in (
        ("a", x[:, ::2, ::2], y[:, :2], np.ones((4, 2, 4))),
        ("a", np.broadcast_to(np.ones((4, 1, 4)), (4, 4, 4)), y, np.ones((4, 4, 4))),
        ("a", x[:, ::-1], y, np.ones((4, 4, 4))),
        ("b", x[::-1].copy(), y[::-1], np.ones((4, 4, 4))),
        ("b", x, y[:, :, ::-2], np.ones((4, 4, 2))),
        ("out", x, y[:, :, :2], np.ones((4, 8, 4))[:, ::2, ::2]),
        ("out", x, y, np.ones((4, 4, 4))[::-1]),
    ):
        found = plan(*(View(z.shape, tuple(s // 8 for s in z.strides)) for z in (a, b, out)))
        assert found == Copy((name,))


def test_a_wrong_number_is_caught():
    """The interpreter tells: every number of a plan matters."""
    rng = np.random.default_rng(2)
    a, b = Stored((3, 4, 2), (0, 1, 2), (1, 1, 2), rng=rng), Stored((3, 2, 5), (0, 2, 1), (1, 1, 1), rng=rng)
    a.plain()
    out = Stored((3, 4, 5), (0, 1, 2), (1, 1, 1), rng=rng)
    right = plan(a.seen(), b.seen(), out.seen())
    after = expected(a, b, out, False)

    def is_right(gemm):
        mine = Stored.__new__(Stored)
        mine.memory, mine.array = out.memory.copy(), out.array
        mine.array = np.ndarray(out.array.shape, "f8", mine.memory, out.begin * 8, out.array.strides)
        try:
            return carried_out(gemm, a, b, mine) == 0 and np.allclose(mine.memory, after)
        except (TypeError, ValueError):
            return False  # beyond the end of the memory

    assert is_right(right)
    for field in ("transa", "transb", "m", "n", "k", "lda", "stride_a", "ldb", "stride_b", "ldc", "stride_c", "batch"):
        for change in (-1, 1):
            wrong = right._replace(**{field: (getattr(right, field) + change) % (2 if "trans" in field else 99)})
            assert not is_right(wrong), field
    assert not is_right(right._replace(exchanged=False))


def test_how_a_matrix_may_lie():
    assert runs(3, 4, 4, 1) == (0, 4)
    assert runs(3, 4, 9, 1) == (0, 9)
    assert runs(3, 4, 1, 3) == (1, 3)
    assert runs(1, 4, 77, 2) == (1, 2)
    assert runs(4, 1, 2, 77) == (0, 2)
    for none in ((3, 4, 3, 1), (3, 4, 1, 2), (3, 4, 8, 2), (3, 4, 0, 1), (3, 4, -4, 1), (3, 4, 4, -1)):
        assert runs(*none) is None
    assert merged([(2, 12, 0, 6), (3, 4, 0, 2), (1, 9, 9, 9)]) == [(6, 4, 0, 2)]
    assert merged([(2, 12, 1, 6), (3, 4, 0, 2)]) == [(2, 12, 1, 6), (3, 4, 0, 2)]


@pytest.mark.parametrize(("a", "b", "out"), [
    ((2, 3), (4, 5), (2, 5)), ((2, 3), (3, 5), (5, 2)), ((2, 2, 3), (3, 3, 5), (2, 2, 5)), ((2, 3), (2, 3, 5), (2, 5)),
])  # fmt: skip
def test_shapes_that_do_not_fit(a, b, out):
    with pytest.raises(ValueError, match="matmul: "):
        plan(*(View(shape, tuple(range(len(shape), 0, -1))) for shape in (a, b, out)))
