"""The CuPy backend's sums, convolutions and networks, by products on a cuBLAS of the host; bf16 and TF32."""

import sys

import host_graph
import numpy as np
import pytest
from host_cublas import bfloat, products
from hypothesis import given
from hypothesis import strategies as st
from test_convolution import SAME, cases, check, close, correlate, draw

import scratchgen as sg
from scratchgen import nn, ops
from scratchgen.backend import get
from scratchgen.precision import rounded
from scratchgen.random import Generator

NUMPY = get("numpy")
SEEDS = st.integers(0, 2**32 - 1)


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


@given(case=cases(), dtype=st.sampled_from(["f8", "f4", "u2", "f2"]), first=st.integers(0, 1), seed=SEEDS)
def test_windows_by_the_kernel(cupy, case, dtype, first, seed):
    """Of images that begin anywhere in memory, with frames of any width."""
    shape, (kh, kw, *_), stride, frame, _ = case
    x = (draw(seed, shape[0] + 1, *shape[1:]) * 1000).astype(dtype)
    there = cupy.asarray(x)[first : first + shape[0]]
    found = sys.modules["scratchgen.cuda.windows"].windows(there, kh, kw, stride, frame)
    right = NUMPY.windows(x[first : first + shape[0]], kh, kw, stride, frame)
    assert (found.shape, found.dtype) == (right.shape, right.dtype)
    np.testing.assert_array_equal(cupy.to_numpy(found), right)
    np.testing.assert_array_equal(cupy.to_numpy(cupy.windows(there, kh, kw, stride, frame)), right)


def test_windows_in_the_widest_words(cupy):
    from scratchgen.cuda.windows import windows, word_of

    memory = cupy.asarray(np.zeros(4096, "f4"))
    memory = memory[-memory.data.ptr % 16 // 4 :]
    whole, parts = [(0, 4, "f4", 16), (0, 8, "u2", 16), (0, 2, "f8", 16)], [(0, 3, "f4", 4), (0, 6, "f4", 8)]
    for begin, channels, dtype, word in (*whole, *parts, (1, 4, "f4", 4), (2, 4, "f4", 8), (1, 3, "u2", 2)):
        x = memory.view(dtype)[begin : begin + 60 * channels].reshape((3, 4, 5, channels))
        assert word_of(x) == word
        assert windows(x, 3, 3, 1, SAME) is not None
    odd, gaps = cupy.zeros((1, 3, 3, 1), "int8"), cupy.zeros((1, 3, 6, 2))[:, :, ::2]
    for x in (odd, gaps):
        assert windows(x, 2, 2, 1, SAME) is None
        assert cupy.windows(x, 2, 2, 1, SAME).shape == (1, 4, 4, 2, 2, x.shape[3])


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
        np.testing.assert_array_equal(bfloat(cupy.to_numpy(found)), rounded(np, given_, precision="bf16"))
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


# --- graphs ---


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_products_are_part_of_a_graph(cupy, monkeypatch, precision):
    """A layer's gradients and a convolution, replayed: the later calls launch what was captured, with new numbers;
    handle, workspace and stream were seen to before, in the warm-up."""
    world = host_graph.installed(monkeypatch)
    w, k = draw(1, 4, 3).astype("f4"), draw(2, 3, 3, 2, 2).astype("f4")

    def step(w, k):
        loss = lambda w, x: ops.sum(ops.square(ops.matmul(x, w)))  # noqa: E731
        return lambda x, image: (*sg.value_and_grad(loss)(w, x), ops.conv2d(image, k, 1, "same"))

    here, replayed = step(w, k), sg.replay(step(cupy.asarray(w), cupy.asarray(k)))
    for seed in range(5):
        x, image = draw(seed, 5, 4).astype("f4"), draw(seed, 2, 4, 4, 2).astype("f4")
        with sg.precision(precision):
            right = here(x, image)
            with sg.backend("cupy"):
                found = replayed(cupy.asarray(x), cupy.asarray(image))
        for mine, theirs in zip(found, right, strict=True):
            np.testing.assert_allclose(cupy.to_numpy(mine), theirs, rtol=1e-5, atol=1e-5)
    begin, end, launch = (next(i for i, said in enumerate(world.log) if what in said)
                          for what in ("begin capture", "end capture", "launch"))
    assert sum("product" in said for said in world.log[begin:end]) == 3
    assert not any("product" in said for said in world.log[launch:])
    assert [call[0] for call in cupy.libcublas.calls].count("workspace") == 1


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
def test_networks_have_numpys_gradients(cupy, monkeypatch, dtype, precision, tolerance):
    """And next to nothing is copied for their products: a kernel turned by 180°, where its view runs backwards."""
    gemm = sys.modules["scratchgen.cuda.gemm"]
    copied, once = [], gemm.once
    monkeypatch.setattr(gemm, "once", lambda x: copied.append(x.size) or once(x))
    right, found = (gradients_of_networks(name, dtype, precision) for name in ("numpy", "cupy"))
    for mine, theirs in zip(found, right, strict=True):
        close(mine, theirs, tolerance)
    assert sum(copied) <= 100 < 200 < len(products(cupy))
