"""Small matrices by kernels of their own, compiled for the host; others by CuPy's functions, as they are or watched.

Accuracy: Cholesky is backward stable, ‖LLᵀ − A‖ ≤ (n+1)·u·‖A‖ (Higham 2002, thm. 10.3), and so is Gauss with pivots
by rows in practice, with an error of the solution of a few n·u·κ(A).
"""

import contextlib
import sys
from pathlib import Path

import numpy as np
import pytest

from scratchgen import guard, strict

SHAPES = [(1, 1), (2, 2), (5, 3, 3), (2, 3, 7, 7), (3, 31, 31), (1, 32, 32), (9, 17, 17)]
DTYPES = [np.float32, np.float64]
STATE = {"linalg": "ignore"}
SOURCE = Path(guard.__file__).parent / "cuda" / "matrices.cu"


@contextlib.contextmanager
def errstate(*, linalg):
    before, STATE["linalg"] = STATE["linalg"], linalg
    try:
        yield
    finally:
        STATE["linalg"] = before


@pytest.fixture
def cusolver(cupy, monkeypatch):
    """What CuPy itself is asked for; its `cholesky` gives a wrong result without a word, unless `errstate` forbids."""
    asked, library = [], sys.modules["cupy"].linalg

    class Linalg:
        def cholesky(self, x):
            asked.append("cholesky")
            try:
                return type(x)(np.linalg.cholesky(x._a))
            except np.linalg.LinAlgError:
                if STATE["linalg"] == "raise":
                    raise
                return type(x)(np.tril(x._a))

        def __getattr__(self, name):
            asked.append(name)
            return getattr(library, name)

    monkeypatch.setattr(sys.modules["cupy"], "linalg", Linalg())
    monkeypatch.setattr(sys.modules["cupyx"], "errstate", errstate, raising=False)
    return asked


def general(shape, dtype, seed=0):
    """Matrices with a condition of 10, whose pivots stand in no order."""
    rng = np.random.default_rng(seed)
    u, _, v = np.linalg.svd(rng.standard_normal(shape))
    return ((u * np.linspace(1, 0.1, shape[-1])) @ v).astype(dtype)


def positive(shape, dtype):
    a = general(shape, np.float64)
    return (a @ np.swapaxes(a, -1, -2)).astype(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_small_factors(cupy, cusolver, shape, dtype):
    a = positive(shape, dtype)
    found = cupy.linalg.cholesky(cupy.asarray(np.tril(a) + np.triu(np.full_like(a, 9.0), 1)))  # read below only
    L = cupy.to_numpy(found)
    assert (L.shape, L.dtype) == (shape, dtype)
    assert not np.triu(L, 1).any()
    product = np.float64(L) @ np.swapaxes(np.float64(L), -1, -2)
    assert np.abs(product - a).max() <= 2 * (shape[-1] + 1) * np.finfo(dtype).eps * np.abs(a).max()
    np.testing.assert_allclose(L, np.linalg.cholesky(np.float64(a)), rtol=0, atol=300 * np.finfo(dtype).eps)
    assert cusolver == []


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("columns", [1, 5, 33, 70])
def test_small_systems(cupy, cusolver, shape, dtype, columns):
    a = general(shape, dtype)
    b = np.random.default_rng(1).standard_normal((*shape[:-1], columns)).astype(dtype)
    found = cupy.to_numpy(cupy.linalg.solve(cupy.asarray(a), cupy.asarray(b)))
    assert (found.shape, found.dtype) == (b.shape, dtype)
    wanted = np.linalg.solve(np.float64(a), np.float64(b))
    np.testing.assert_allclose(found, wanted, rtol=0, atol=30 * shape[-1] * np.finfo(dtype).eps * np.abs(wanted).max())
    inverse, wanted = cupy.to_numpy(cupy.linalg.inv(cupy.asarray(a))), np.linalg.inv(np.float64(a))
    np.testing.assert_allclose(inverse, wanted, rtol=0, atol=300 * shape[-1] * np.finfo(dtype).eps)
    assert cusolver == []


def test_rows_change_places(cupy):
    """A zero where the first pivot would be, and a small one, which would cost all digits."""
    for corner in (0.0, 1e-20):
        a = np.array([[corner, 1.0, 2.0], [1.0, 1.0, 0.0], [3.0, 0.0, 1.0]])
        np.testing.assert_allclose(cupy.to_numpy(cupy.linalg.inv(cupy.asarray(a))), np.linalg.inv(a), rtol=1e-14)


def test_pivots_of_one_size(cupy):
    """Hadamard's matrices: every choice is between equals, and all lanes must make the same."""
    a = np.array([[1.0]])
    for _ in range(5):
        a = np.block([[a, a], [a, -a]])
        np.testing.assert_allclose(cupy.to_numpy(cupy.linalg.inv(cupy.asarray(a))), a / len(a), rtol=1e-14)


def test_columns_beyond_what_warps_have_at_once(cupy, monkeypatch):
    monkeypatch.setattr(sys.modules["scratchgen.cuda.linalg"], "CHUNKS", 2)
    a, b = general((2, 4, 4), np.float64), np.random.default_rng(1).standard_normal((2, 4, 201))
    found = cupy.to_numpy(cupy.linalg.solve(cupy.asarray(a), cupy.asarray(b)))
    np.testing.assert_allclose(found, np.linalg.solve(a, b), rtol=0, atol=1e-12)


def test_views_that_are_not_in_one_piece(cupy):
    a = positive((3, 4, 4), np.float64)
    there = cupy.asarray(a)
    for view, same in ((cupy.swapaxes(there, -1, -2), np.swapaxes(a, -1, -2)), (there[::-1], a[::-1])):
        np.testing.assert_allclose(cupy.to_numpy(cupy.linalg.cholesky(view)), np.linalg.cholesky(same), rtol=1e-12)
        np.testing.assert_allclose(cupy.to_numpy(cupy.linalg.inv(view)), np.linalg.inv(same), rtol=1e-12)
        found = cupy.to_numpy(cupy.linalg.solve(view, view))
        np.testing.assert_allclose(found, np.broadcast_to(np.eye(4), found.shape), atol=1e-13)


@pytest.mark.parametrize("bad", [[[1.0, 2.0], [2.0, 1.0]], [[0.0, 0.0], [0.0, 1.0]], [[-1.0, 0.0], [0.0, 1.0]]])
def test_a_matrix_without_a_factor_raises_or_in_a_capture_is_nan(cupy, bad):
    """As in NumPy, if one of many has none; in a capture the others have theirs."""
    good = np.array([[4.0, 2.0], [2.0, 5.0]])
    a = cupy.asarray(np.array([good, bad, good]))
    with pytest.raises(np.linalg.LinAlgError, match="not positive definite"):
        np.linalg.cholesky(np.array(bad))
    with pytest.raises(np.linalg.LinAlgError, match="not positive definite"):
        cupy.linalg.cholesky(a)
    with strict.watched() as seen, guard.capturing():
        found = cupy.linalg.cholesky(a)
    assert str(seen) == "nothing crossed"
    factor = np.linalg.cholesky(good)
    np.testing.assert_array_equal(cupy.to_numpy(found), [factor, np.full((2, 2), np.nan), factor])
    with strict.watched() as seen:
        cupy.linalg.cholesky(cupy.asarray(good))
    assert seen.reads == 1


@pytest.mark.parametrize("bad", [[[np.nan, 0.0], [0.0, 1.0]], [[1.0, 0.0], [0.0, np.nan]]])
def test_nan_has_a_factor_of_nan(cupy, bad):
    """Where training has diverged, that is found out and said when its loss is read; as on the host."""
    found = cupy.to_numpy(cupy.linalg.cholesky(cupy.asarray(np.array([bad, np.eye(2)]))))
    assert np.isnan(found[0]).all()
    np.testing.assert_array_equal(found[1], np.eye(2))


@pytest.mark.parametrize("a", [np.zeros((2, 2)), np.ones((3, 3)), np.full((2, 2), np.nan), np.diag([1.0, 0.0])])
def test_a_singular_matrix_gives_inf_or_nan(cupy, a):
    for found in (cupy.linalg.inv(cupy.asarray(a)), cupy.linalg.solve(cupy.asarray(a), cupy.asarray(np.eye(len(a))))):
        assert not np.isfinite(cupy.to_numpy(found)).all()


def test_nothing_at_all(cupy, cusolver):
    assert cupy.linalg.cholesky(cupy.zeros((0, 3, 3))).shape == (0, 3, 3)
    assert cupy.linalg.inv(cupy.zeros((0, 3, 3))).shape == (0, 3, 3)
    assert cupy.linalg.solve(cupy.zeros((2, 3, 3)) + cupy.eye(3), cupy.zeros((2, 3, 0))).shape == (2, 3, 0)
    assert cusolver == []


# --- what CuPy does ------------------------------------------------------------------------------------------


def test_a_large_matrix_that_is_not_positive_definite_raises(cupy, cusolver):
    a = np.eye(33)
    np.testing.assert_array_equal(cupy.to_numpy(cupy.linalg.cholesky(cupy.asarray(4 * a))), 2 * a)
    with pytest.raises(np.linalg.LinAlgError):
        cupy.linalg.cholesky(cupy.asarray(-a))
    assert STATE["linalg"] == "ignore"
    assert cusolver == ["cholesky", "cholesky"]


def test_what_has_no_kernel_is_cupys(cupy, cusolver):
    large, small = cupy.eye(33), cupy.eye(2)
    cupy.linalg.inv(large)
    cupy.linalg.solve(large, large)
    cupy.linalg.solve(small, cupy.ones(2))
    cupy.linalg.solve(small, cupy.ones((2, 3), np.float32))
    cupy.linalg.slogdet(small)
    with pytest.raises(ValueError, match="have other batches"):
        cupy.linalg.solve(cupy.ones((3, 2, 2)), cupy.ones((1, 2, 2)))
    assert cusolver == ["inv", "solve", "solve", "solve", "slogdet", "solve"]
    with pytest.raises(AttributeError):
        cupy.linalg.nonsense  # noqa: B018


def test_small_is_what_the_kernels_can_hold(cupy):
    from scratchgen.cuda import linalg

    text = SOURCE.read_text()
    assert f"#define SIDE {guard.LARGEST}\n" in text
    assert f"#define WARPS {linalg.WARPS}\n" in text


@pytest.mark.parametrize(("right", "wrong", "test"), [
    ("a(i, j) -= a(i, k) * a(j, k)", "a(i, j) += a(i, k) * a(j, k)", lambda *a: test_small_factors(*a)),
    ("if (most != most) most = 1 / T(0);", "most = -most;", lambda cupy, *_: test_rows_change_places(cupy)),
    ("sum -= a(row, j) * y[j * columns + c];\n            y[row * columns + c] = sum;", "y[row * columns + c] = sum;",
     lambda *a: test_small_systems(*a, 5)),
])  # fmt: skip
def test_a_slip_is_noticed(cupy, cusolver, monkeypatch, right, wrong, test):
    from scratchgen.cuda import kernels

    text = SOURCE.read_text()
    assert text.count(right) == 1
    module = kernels.cupy.RawModule(code=text.replace(right, wrong))
    monkeypatch.setattr(kernels, "_module", lambda *_: module)
    with pytest.raises(AssertionError):
        test(cupy, cusolver, (2, 7, 7), np.float64)
