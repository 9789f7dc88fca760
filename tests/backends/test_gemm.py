"""The CuPy backend's products: cuBLAS called through C, on a library that computes on the host, and what calls it."""

import ctypes
import sys
import threading
import types

import host_cublas
import numpy as np
import pytest
from host_cublas import products
from test_convolution import draw

from scratchgen.backend import BackendError


@pytest.fixture
def gemm(cupy):
    return sys.modules["scratchgen.cuda.gemm"]


SHAPES = [((3,), (3,)), ((2, 3), (3,)), ((3,), (3, 4)), ((5, 2, 3), (3,)), ((3,), (5, 3, 4)), ((2, 3), (3, 4)),
          ((5, 2, 3), (3, 4)), ((2, 3), (5, 3, 4)), ((6, 1, 2, 3), (5, 3, 4)), ((0, 2, 3), (3, 4)), ((2, 0), (0, 4)),
          ((5, 2, 0), (5, 0, 4)), ((2, 3), (3, 0))]  # fmt: skip


@pytest.mark.parametrize(("a", "b"), SHAPES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_matmul(cupy, a, b, dtype):
    a, b = draw(1, *a).astype(dtype), draw(2, *b).astype(dtype)
    right, tolerance = np.matmul(a, b), 1e-6 if dtype == "float32" else 1e-13
    found = cupy.matmul(cupy.asarray(a), cupy.asarray(b))
    assert (found.dtype, found.shape) == (right.dtype, right.shape)
    np.testing.assert_allclose(cupy.to_numpy(found), right, rtol=tolerance, atol=tolerance)
    out = cupy.asarray(np.full_like(right, 7.0))
    assert cupy.matmul(cupy.asarray(a), cupy.asarray(b), out=out) is out
    np.testing.assert_allclose(cupy.to_numpy(out), right, rtol=tolerance, atol=tolerance)
    assert {compute for *_, compute in products(cupy)} <= {68 if dtype == "float32" else 70}


def test_operands_that_are_repeated(cupy, gemm, monkeypatch):
    """A batch that stands still is no reason to copy, and is copied once where there is another one."""
    copied, once = [], gemm.once
    monkeypatch.setattr(gemm, "once", lambda x: copied.append(once(x)) or copied[-1])
    for shape, size in (((1, 3), 0), ((2, 3), 0), ((3, 2), 6)):
        a, b = draw(1, *shape), draw(2, 3, 4)
        a = a.T if size else a
        rows, columns = (cupy.broadcast_to(cupy.asarray(x), (5, *x.shape)) for x in (a, b))
        if size:
            rows = rows[:, ::-1]
            a = a[::-1]
        found = cupy.to_numpy(cupy.matmul(rows, columns))
        np.testing.assert_allclose(found, np.matmul(np.stack([a] * 5), b), rtol=1e-13)
        assert [x.size for x in copied] == [size] * bool(size)


def test_stacks_that_are_copied(cupy):
    """Each matrix of a batch, also where cuBLAS could read one by one but not the whole."""
    a, b = draw(1, 4, 6, 8), draw(2, 4, 4, 5)

    def views(a, b):
        a, b = a[:, ::2, ::2], b[::-1]
        return (a, b), (a[0], b), (b.swapaxes(1, 2), a[::-1].swapaxes(1, 2))

    for mine, theirs in zip(views(cupy.asarray(a), cupy.asarray(b)), views(a, b), strict=True):
        np.testing.assert_allclose(cupy.to_numpy(cupy.matmul(*mine)), np.matmul(*theirs), rtol=1e-12)


def test_what_is_not_of_floats_is_left_to_cupy(cupy):
    x = np.arange(6).reshape(2, 3)
    for a, b in ((x, x.T), (x.astype("uint16"), x.T.astype("uint16")), (x.astype("f4"), x.T.astype("f8"))):
        found = cupy.matmul(cupy.asarray(a), cupy.asarray(b))
        right = np.matmul(a, b)
        assert found.dtype == right.dtype
        np.testing.assert_array_equal(cupy.to_numpy(found), right)
        lowered = cupy.products("bf16").matmul(cupy.asarray(a), cupy.asarray(b))
        np.testing.assert_array_equal(cupy.to_numpy(lowered), right)
    assert products(cupy) == []


def test_adding_to_a_view(cupy, gemm):
    """out += a·b, where out is a part of an array, its columns the runs, and an operand must be copied."""
    a, b, whole = draw(1, 4, 6), draw(2, 6, 3), draw(3, 8, 5)
    for part in ((slice(0, 4), slice(1, 4)), (slice(0, 8, 2), slice(0, 3)), (slice(3, None, -1), slice(0, 5, 2))):
        right = whole.copy()
        right[part] += a @ b
        memory = cupy.asarray(whole)
        found = gemm.matmul(cupy.asarray(a), cupy.asarray(b), memory[part], add=True)
        np.testing.assert_allclose(cupy.to_numpy(memory), right, rtol=1e-13)
        assert found.shape == (4, 3)
    there = cupy.asarray(whole[:5, :5].T)  # a transpose in memory
    gemm.matmul(cupy.asarray(draw(4, 10, 10))[::2, ::2], cupy.asarray(np.eye(5)), there.T, add=True)
    np.testing.assert_allclose(cupy.to_numpy(there.T), whole[:5, :5] + draw(4, 10, 10)[::2, ::2], rtol=1e-13)


def test_a_result_of_another_type_is_refused(cupy, gemm):
    a = cupy.asarray(draw(1, 2, 2))
    with pytest.raises(ValueError, match="the result is float64, out is float32"):
        gemm.matmul(a, a, cupy.zeros((2, 2), "float32"))
    with pytest.raises(ValueError, match="operands of float64 and float32"):
        gemm.matmul(a, a.astype("float32"))


def test_the_stream_is_cupys_and_each_has_a_workspace(cupy, gemm, monkeypatch):
    a = cupy.asarray(draw(1, 2, 2))
    stream = types.SimpleNamespace(ptr=11)
    monkeypatch.setattr(gemm.cupy.cuda, "get_current_stream", lambda: stream)
    for ptr in (11, 11, 12, 11):
        stream.ptr = ptr
        cupy.matmul(a, a)
    asked = [call for call in cupy.libcublas.calls if call[0] != "gemm"]
    assert asked == [call for ptr in (11, 12, 11) for call in (("stream", 1, ptr), ("workspace", 1, 32 << 20))]
    assert len(gemm.current().workspaces) == 2


def test_a_thread_has_a_handle_of_its_own(cupy):
    a = cupy.asarray(draw(1, 2, 2))
    cupy.matmul(a, a)
    thread = threading.Thread(target=lambda: cupy.matmul(a, a))
    thread.start()
    thread.join()
    cupy.matmul(a, a)
    assert cupy.libcublas.handles == 2
    assert len(products(cupy)) == 3


@pytest.mark.parametrize(("status", "name"), [(15, "NOT_SUPPORTED"), (13, "EXECUTION_FAILED"), (99, "an error")])
def test_what_cublas_reports_is_one_line(cupy, monkeypatch, status, name):
    a = cupy.asarray(draw(1, 2, 2))
    monkeypatch.setattr(cupy.libcublas, "cublasGemmEx_64", lambda *_: status)
    with pytest.raises(BackendError) as caught:
        cupy.matmul(a, a)
    assert str(caught.value) == f"cublasGemmEx_64: cuBLAS reports {name} ({status})"


def test_the_types_of_the_functions(gemm):
    """As the stand-in has them, which are written down a second time: a wrong one would put arguments elsewhere."""
    library = host_cublas.Library()
    for name, types_ in gemm.SIGNATURES.items():
        assert list(map(ctypes.sizeof, types_)) == list(map(ctypes.sizeof, getattr(library, name).argtypes)), name


def test_the_stand_in_refuses_what_cublas_does():
    """Without a workspace after the stream was set, a wrong leading dimension, types that do not go together."""
    library = host_cublas.Library()
    handle = ctypes.c_void_p()
    library.cublasCreate_v2(handle)
    x, one, zero = np.ones(4, "f4"), ctypes.c_float(1), ctypes.c_float(0)

    def status(ld=2, kind=0, compute=68):
        return library.cublasGemmEx_64(
            handle, 0, 0, 2, 2, 2, ctypes.addressof(one), x.ctypes.data, kind, ld, x.ctypes.data, kind, 2,
            ctypes.addressof(zero), x.ctypes.data, 0, 2, compute, -1,
        )  # fmt: skip

    assert status() == host_cublas.INVALID_VALUE
    library.cublasSetWorkspace_v2(handle, 1, 1)
    assert status() == 0
    assert x.tolist() == [2, 2, 2, 2]
    assert status(ld=1) == host_cublas.INVALID_VALUE
    assert status(compute=70) == status(kind=1) == host_cublas.NOT_SUPPORTED
    library.cublasSetStream_v2(handle, 5)
    assert status() == host_cublas.INVALID_VALUE


# --- where the library is -----------------------------------------------------------------------------------


def named(monkeypatch, cupy, pathfinder, linked, present):
    """Which names are tried, in a world where only `present` can be loaded; the loaded one."""
    gemm = sys.modules["scratchgen.cuda.gemm"]
    tried = []

    def load(name):
        tried.append(name)
        if name not in present:
            raise OSError(name)
        return types.SimpleNamespace(**{f: types.SimpleNamespace() for f in gemm.SIGNATURES}, name=name)

    cuda = types.ModuleType("cuda")
    if pathfinder is not None:
        cuda.pathfinder = types.SimpleNamespace(load_nvidia_dynamic_lib=pathfinder)
    monkeypatch.setitem(sys.modules, "cuda", cuda)
    monkeypatch.delitem(sys.modules, "cuda.pathfinder", raising=False)
    monkeypatch.setattr(gemm.ctypes, "CDLL", load)
    monkeypatch.setattr(gemm.ctypes.util, "find_library", lambda name: linked)
    return tried


def real_library():
    return sys.modules["scratchgen.cuda.gemm"].load()


def test_the_library_is_the_one_that_cupys_helper_finds(cupy, monkeypatch):
    found = types.SimpleNamespace(abs_path="/site/libcublas.so.13")
    tried = named(monkeypatch, cupy, lambda name: found, None, ["/site/libcublas.so.13"])
    monkeypatch.setattr(ctypes.util, "find_library", lambda name: pytest.fail("the linker is asked"))
    assert real_library().name == "/site/libcublas.so.13"
    assert tried == ["/site/libcublas.so.13"]


def test_without_the_helper_it_is_the_linkers(cupy, monkeypatch):
    tried = named(monkeypatch, cupy, None, "libcublas.so.12", ["libcublas.so.12"])
    library = real_library()
    assert tried == ["libcublas.so.13", "libcublas.so.12"]
    assert library.cublasSetStream_v2.argtypes == (ctypes.c_void_p, ctypes.c_void_p)


def test_no_library_is_one_line(cupy, monkeypatch):
    def missing(name):
        raise RuntimeError("many\nlines")

    tried = named(monkeypatch, cupy, missing, None, [""])  # which is the program itself
    with pytest.raises(BackendError, match=r"^libcublas is not found: install .*, or choose the numpy backend$"):
        real_library()
    assert tried == ["libcublas.so.13"]
