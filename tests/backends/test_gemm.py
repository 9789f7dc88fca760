"""The CuPy backend's products: cuBLAS called through C, on a library that computes on the host, and what calls it."""

import ctypes
import sys
import threading
import types

import host_cublas
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_convolution import SAME, cases, check, close, correlate, draw

import scratchgen as sg
from scratchgen import nn, ops
from scratchgen.backend import BackendError, get
from scratchgen.precision import rounded
from scratchgen.random import Generator

NUMPY = get("numpy")
SEEDS = st.integers(0, 2**32 - 1)


@pytest.fixture
def gemm(cupy):
    return sys.modules["scratchgen.cuda.gemm"]


def products(xp):
    """The products that the library was asked for: (m, n, k, batch, compute type)."""
    return [call[1:] for call in xp.libcublas.calls if call[0] == "gemm"]


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

    named(monkeypatch, cupy, missing, None, [])
    with pytest.raises(BackendError, match=r"^libcublas is not found: install .*, or choose the numpy backend$"):
        real_library()


# --- sums and convolutions ----------------------------------------------------------------------------------


@st.composite
def sums(draw):
    """Subscripts of two operands and their shapes."""
    size = {c: draw(st.integers(1, 3)) for c in "abcde"}
    left, right = (draw(st.lists(st.sampled_from("abcde"), unique=True, max_size=4)) for _ in range(2))
    out = draw(st.permutations(sorted({*left, *right})))[: draw(st.integers(0, 5))]
    return f"{''.join(left)},{''.join(right)}->{''.join(out)}", *([size[c] for c in side] for side in (left, right))


@given(sums(), SEEDS)
def test_einstein_s_sums_are_one_product(case, seed):
    from scratchgen.cuda import contraction

    subscripts, *shapes = case
    a, b = (draw(seed, *shape) for shape in shapes)
    if contraction.suits(subscripts, a, b):
        found = contraction.einsum(np, subscripts, a, b)
        right = np.einsum(subscripts, a, b)
        assert found.shape == right.shape
        np.testing.assert_allclose(found, right, rtol=1e-12, atol=1e-12)
    else:
        assert "," in (subscripts[0], subscripts.split("->")[0][-1])  # a number


def test_sums_that_are_no_product_are_left_to_cupy(cupy):
    x, y = draw(1, 3, 3), draw(2, 1, 3)
    for subscripts, operands in (("ii,ij->j", (x, x)), ("ij->ji", (x,)), ("ij,jk,kl->il", (x, x, x)), ("ij,ij", (x, x)),
                                 ("i...,ij->j...", (x, x)), ("ij,ij->j", (x, y))):  # fmt: skip
        found = cupy.einsum(subscripts, *map(cupy.asarray, operands))
        np.testing.assert_allclose(cupy.to_numpy(found), np.einsum(subscripts, *operands), rtol=1e-12)
    assert products(cupy) == []
    found = ops.einsum("bij,bkj->bik", cupy.asarray(draw(1, 2, 3, 4)), cupy.asarray(draw(2, 2, 5, 4)))
    np.testing.assert_allclose(cupy.to_numpy(found), draw(1, 2, 3, 4) @ draw(2, 2, 5, 4).swapaxes(1, 2), rtol=1e-12)
    assert products(cupy) == [(5, 3, 4, 2, 70)]


@given(case=cases(groups=(1, 1, 2)), seed=SEEDS)
def test_convolution_of_any_shape(cupy, case, seed):
    check(cupy, case, seed)


def test_few_outputs_of_many_channels_are_shifted_products(cupy):
    """Chosen by the count of numbers moved, and nothing gathered."""
    check(cupy, ((2, 6, 5, 32), (3, 3, 32, 2), 1, SAME, 1))
    assert products(cupy)[:9] == [(2, 2 * 8 * 7 - 2 * 7 - 2, 32, 1, 70)] * 9
    cupy.libcublas.calls.clear()
    check(cupy, ((2, 6, 5, 16), (1, 1, 16, 16), 1, ((0, 0), (0, 0)), 1))
    assert products(cupy)[0] == (16, 60, 16, 1, 70)
    cupy.libcublas.calls.clear()
    check(cupy, ((2, 6, 5, 4), (3, 3, 4, 16), 1, SAME, 1))
    assert products(cupy)[0] == (16, 60, 36, 1, 70)


def test_the_counts():
    """By hand: images of 4×4 with 8 channels, framed; a 3×3 kernel, 2 outputs of 2×2."""
    from scratchgen.cuda.convolution import gathered_numbers, shifted_numbers

    shapes = (3, 4, 4, 8), (3, 3, 8, 2), (3, 2, 2, 2)
    windows, images, result, framed = 3 * 2 * 2 * 72, 3 * 4 * 4 * 8, 3 * 2 * 2 * 2, 3 * 4 * 4 * 2
    assert gathered_numbers(*shapes) == images + 2 * windows + result
    assert shifted_numbers(*shapes) == 9 * images + 17 * framed + 2 * result


@pytest.mark.parametrize("kernel", [(3, 3, 16, 2), (3, 3, 4, 8), (1, 1, 4, 4)])
def test_convolution_into_an_array(cupy, kernel):
    x, w = draw(1, 2, 5, 6, kernel[2]), draw(2, *kernel)
    frame = SAME if kernel[0] == 3 else ((0, 0), (0, 0))
    out = cupy.asarray(np.full((2, 5, 6, kernel[3]), 9.0))
    assert cupy.correlate(cupy.asarray(x), cupy.asarray(w), 1, frame, 1, out) is out
    close(cupy.to_numpy(out), correlate(x, w, 1, frame))


# --- precision ----------------------------------------------------------------------------------------------

NUMBERS = np.array([
    0, 1, 0x3F808000, 0x3F818000, 0x3F808001, 0x7F7FFFFF, 0x7F800000, 0xFF800000, 0x7FC00000, 0x7F800001, 0xFFFFFFFF,
    0x7FFFFFFF, 0xFF800001, 0x8000, 0x8001, 0x80000000,
], "u4").view("f4")  # fmt: skip


def test_bfloat16_by_the_kernel(cupy):
    """The same numbers as the emulation, in the layout of what was given."""
    rng = np.random.default_rng(3)
    x = np.concatenate([NUMBERS, rng.integers(0, 2**32, 1008).astype("u4").view("f4")]).reshape(32, 32)
    bits = sys.modules["scratchgen.cuda.products"].bits
    for given_ in (x, x.T, x[::2, ::3]):
        found = bits(cupy.asarray(given_))
        np.testing.assert_array_equal(host_cublas.bfloat(cupy.to_numpy(found)), rounded(np, given_, precision="bf16"))
    assert bits(cupy.asarray(x).T).strides == (2, 64)


@pytest.mark.parametrize("precision", ["bf16", "tf32"])
def test_lowered_products_are_the_emulated_ones(cupy, precision):
    """bf16 on the stand-in computes with the numbers that NumPy rounds to; TF32 the GPU rounds, so here not at all."""
    a, b = draw(1, 2, 5, 6, 8).astype("f4"), draw(2, 3, 3, 8, 2).astype("f4")
    c = draw(3, 8, 7).astype("f4")
    mine, theirs = cupy.products(precision), NUMPY.products(precision if precision == "bf16" else "float32")
    y = theirs.correlate(a, b, 1, SAME)
    for name, operands in (
        ("matmul", (a, c)), ("matmul", (c.T, a[0].swapaxes(1, 2))), ("correlate", (a, b, 1, SAME)),
        ("correlate_adjoint_x", (y, b, a.shape, 1, SAME)), ("correlate_adjoint_w", (a, y, b.shape, 1, SAME)),
        ("correlate", (a, b, 2, SAME)),
    ):  # fmt: skip
        there = [cupy.asarray(x) if isinstance(x, np.ndarray) else x for x in operands]
        found, right = getattr(mine, name)(*there), getattr(theirs, name)(*operands)
        assert found.dtype == "float32"
        np.testing.assert_allclose(cupy.to_numpy(found), right, rtol=1e-5, atol=1e-5)
    assert {compute for *_, compute in products(cupy)} == {68 if precision == "bf16" else 77}
    exact = mine.matmul(cupy.asarray(a.astype("f8")), cupy.asarray(c.astype("f8")))
    np.testing.assert_allclose(cupy.to_numpy(exact), a.astype("f8") @ c.astype("f8"), rtol=1e-13)
    summed = mine.einsum("bijc,cd->bd", cupy.asarray(a), cupy.asarray(c))
    right = NUMPY.products(precision).einsum("bijc,cd->bd", a, c)
    np.testing.assert_allclose(cupy.to_numpy(summed), right, rtol=1e-5, atol=1e-5)


def test_a_layer_and_its_gradients_in_bf16(cupy):
    x, w = draw(1, 4, 8).astype("f4"), draw(2, 8, 3).astype("f4")
    gradient = sg.value_and_grad(lambda w, x: ops.sum(ops.square(ops.matmul(x, w))))
    with sg.precision("bf16"):
        mine, right = gradient(cupy.asarray(w), cupy.asarray(x)), gradient(w, x)
    for found, there in zip(mine, right, strict=True):
        np.testing.assert_allclose(cupy.to_numpy(found), there, rtol=1e-5)
    assert [compute for *_, compute in products(cupy)] == [68, 68]


# --- networks -----------------------------------------------------------------------------------------------


def gradients_of_networks(name, dtype, precision="float32"):
    """The loss and the gradients of a U-Net and a transformer block, whose weights are drawn anew."""
    rng = np.random.default_rng(0)
    with sg.backend(name) as xp, sg.precision(precision):
        unet = nn.UNet(nn.UNetConfig(base=8, multipliers=(1, 2), attention=(1,), groups=4, time=8), rng=Generator(0))
        networks = [m.astype(dtype) for m in (unet, nn.TransformerBlock(16, 4, rng=Generator(0)))]
        parameters = [x for network in networks for _, x in network.named_parameters()]
        for x in parameters:
            x.assign(xp.asarray((0.3 * rng.standard_normal(x.shape)).astype(dtype)))
        image, time, text = (xp.asarray(rng.standard_normal(s).astype(dtype)) for s in ((2, 8, 8, 1), (2,), (2, 6, 16)))
        loss = ops.mean(networks[0](image, time) ** 2) + ops.mean(networks[1](text) ** 2)
        return [xp.to_numpy(x) for x in (loss.value, *sg.gradients(loss, parameters))]


@pytest.mark.parametrize(("dtype", "precision", "tolerance"), [
    ("float64", "float32", 1e-12), ("float32", "float32", 2e-5), ("float32", "bf16", 2e-5),
])
def test_networks_have_numpys_gradients(cupy, gemm, monkeypatch, dtype, precision, tolerance):
    """And next to nothing is copied for their products: a kernel turned by 180°, where its view runs backwards."""
    copied, once = [], gemm.once
    monkeypatch.setattr(gemm, "once", lambda x: copied.append(x.size) or once(x))
    right, found = (gradients_of_networks(name, dtype, precision) for name in ("numpy", "cupy"))
    for mine, theirs in zip(found, right, strict=True):
        close(mine, theirs, tolerance)
    assert sum(copied) <= 100 < 200 < len(products(cupy))
