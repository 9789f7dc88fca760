"""Convolution and its two adjoints against SciPy's correlation, in every way that the NumPy backend does them."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from convolution_tools import NONE, SAME, SEEDS, adjoint_w, cases, close, correlate, draw, stamped
from hypothesis import given, settings
from hypothesis import strategies as st

import scratchgen as sg
from scratchgen import fastconv, ops, pieces, pixelwise, winograd
from scratchgen.backend import get

NUMPY, STRICT = get("numpy"), get("strict")
LARGE = pixelwise.LARGE


@pytest.fixture(params=[LARGE, 0], ids=["small images", "large images"])
def size(request, monkeypatch):
    """Images as small as they are, and as if they were large: those are done in other ways."""
    monkeypatch.setattr(pixelwise, "LARGE", request.param)


def check(xp, case, seed=0, tolerance=1e-12, dtype="float64"):
    """All three kernels of a backend on random numbers."""
    shape, kernel, *how = case
    x, w = draw(seed, *shape).astype(dtype), draw(seed, *kernel).astype(dtype)
    expected = correlate(x, w, *how)
    h = draw(seed + 1, *expected.shape).astype(dtype)
    raw_x, raw_w, raw_h = map(xp.asarray, (x, w, h))
    for found, right in (
        (xp.correlate(raw_x, raw_w, *how), expected),
        (xp.correlate_adjoint_x(raw_h, raw_w, shape, *how), stamped(h, w, shape, *how)),
        (xp.correlate_adjoint_w(raw_x, raw_h, kernel, *how), adjoint_w(x, h, kernel, *how)),
    ):
        assert found.dtype == dtype
        close(xp.to_numpy(found), right, tolerance)


@given(cases(), SEEDS, st.sampled_from([LARGE, 0]))
def test_any_shape(case, seed, large):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pixelwise, "LARGE", large)
        check(NUMPY, case, seed)


@given(cases(), SEEDS)
def test_any_shape_on_another_library(case, seed):
    check(STRICT, case, seed)


@given(cases(channels=(1, 2, 7, 8, 9, 17)), SEEDS, st.sampled_from([LARGE, 0]))
def test_few_and_many_channels(case, seed, large):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pixelwise, "LARGE", large)
        check(NUMPY, case, seed)


@pytest.mark.parametrize("xp", [NUMPY, STRICT], ids=["numpy", "strict"])
@settings(max_examples=max(10, settings.default.max_examples // 2))
@given(case=cases(channels=(1, 2), groups=(2, 3)), seed=SEEDS)
def test_groups(xp, case, seed):
    check(xp, case, seed)


@pytest.mark.parametrize("xp", [NUMPY, STRICT], ids=["numpy", "strict"])
@pytest.mark.parametrize("multiplier", [1, 2])
def test_depthwise(xp, multiplier):
    """As many groups as channels: every channel has kernels of its own."""
    x, w = draw(0, 2, 5, 4, 3), draw(1, 3, 2, 1, 3 * multiplier)
    y = xp.to_numpy(xp.correlate(xp.asarray(x), xp.asarray(w), 1, SAME, 3))
    for c in range(3):
        own = slice(c * multiplier, (c + 1) * multiplier)
        close(y[..., own], correlate(x[..., c : c + 1], w[..., own], 1, SAME))
    check(xp, (x.shape, w.shape, 2, SAME, 3))


@pytest.mark.usefixtures("size")
def test_float32():
    for case in (((3, 9, 8, 4), (3, 2, 4, 5), 2, SAME, 1), ((2, 10, 8, 9), (3, 3, 9, 8), 1, SAME, 1)):
        check(NUMPY, case, tolerance=3e-6, dtype="float32")


@pytest.mark.parametrize("images", [0, 0.6, 2, 100])
@given(st.integers(1, 5), st.integers(4, 9), st.integers(8, 13), st.integers(8, 11), st.integers(8, 11), SEEDS)
@settings(max_examples=max(5, settings.default.max_examples // 4))
def test_winograd(images, b, pairs, w, c, o, seed):
    """Images whole, two at a time with one left over, and cut into bands of rows."""
    h = 2 * pairs
    assert winograd.suits((b, h, w, c), (3, 3, c, o), 1, SAME)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(winograd, "CACHE", images * pairs * 8 * (w + 1) * 5 * (c + o))
        x, k, g = draw(seed, b, h, w, c), draw(seed, 3, 3, c, o), draw(seed, b, h, w, o)
        y, back = np.empty(g.shape), np.empty(k.shape)
        winograd.correlate(x, k, y)
        close(y, correlate(x, k, 1, SAME))
        winograd.adjoint_w(x, g, back)
        close(back, adjoint_w(x, g, k.shape, 1, SAME))


@pytest.mark.usefixtures("size")
@pytest.mark.parametrize("cache", [1, 20_000, 10**9])
def test_a_few_images_at_a_time(cache, monkeypatch):
    monkeypatch.setattr(fastconv, "CACHE", cache)
    monkeypatch.setattr(pixelwise, "CACHE", cache)
    for stride in (1, 2, 3):
        for kernel in ((3, 3, 8, 2), (2, 4, 8, 9), (3, 2, 8, 8)):
            check(NUMPY, ((7, 6, 5, 8), kernel, stride, ((1, 0), (2, 1)), 1))
    check(NUMPY, ((7, 6, 5, 2), (3, 3, 2, 9), 1, SAME, 1))


@pytest.mark.usefixtures("size")
def test_products_cut_into_blocks_of_rows():
    """Enough pixels, and wide enough, for stacks of blocks with rows left over."""
    for shape, kernel, *how in (
        ((3, 13, 17, 33), (1, 1, 33, 40), 1, NONE),
        ((5, 11, 13, 33), (2, 3, 33, 36), 1, ((1, 0), (1, 1))),
        ((5, 23, 21, 96), (2, 2, 96, 64), 2, SAME),
        ((2, 16, 20, 64), (3, 3, 64, 40), 1, SAME),
    ):
        x, w = draw(0, *shape), draw(1, *kernel)
        y = NUMPY.correlate(x, w, *how)
        h = draw(2, *y.shape)
        xs, ws, hs = map(STRICT.asarray, (x, w, h))
        for found, expected in (
            (y, STRICT.correlate(xs, ws, *how)),
            (NUMPY.correlate_adjoint_x(h, w, shape, *how), STRICT.correlate_adjoint_x(hs, ws, shape, *how)),
            (NUMPY.correlate_adjoint_w(x, h, kernel, *how), STRICT.correlate_adjoint_w(xs, hs, kernel, *how)),
        ):
            close(found, STRICT.to_numpy(expected))


WAYS = {
    "1×1": ((2, 4, 5, 3), (1, 1, 3, 4), 1, NONE),
    "1×1, strided": ((2, 4, 5, 3), (1, 1, 3, 4), 2, NONE),
    "1×1, framed": ((2, 4, 5, 3), (1, 1, 3, 4), 1, SAME),
    "winograd": ((3, 8, 9, 8), (3, 3, 8, 9), 1, SAME),
    "winograd, many channels": ((2, 10, 8, 48), (3, 3, 48, 45), 1, SAME),
    "an odd height": ((3, 9, 8, 8), (3, 3, 8, 9), 1, SAME),
    "few outputs": ((3, 5, 4, 9), (3, 2, 9, 2), 1, SAME),
    "few inputs": ((3, 5, 4, 1), (3, 3, 1, 9), 1, SAME),
    "strided": ((3, 6, 7, 8), (4, 4, 8, 9), 2, SAME),
    "kernel smaller than stride": ((2, 6, 7, 2), (2, 1, 2, 3), 3, SAME),
    "frame wider than the kernel": ((2, 4, 3, 2), (2, 2, 2, 3), 1, ((3, 2), (2, 3))),
    "frame wider than the kernel, many channels": ((3, 4, 3, 9), (2, 1, 9, 9), 1, ((3, 2), (2, 3))),
    "frame wider than the kernel, few outputs": ((3, 4, 3, 9), (1, 2, 9, 2), 1, ((3, 2), (2, 3))),
    "nothing but frame": ((2, 1, 1, 2), (1, 1, 2, 3), 4, ((3, 0), (3, 0))),
    "groups": ((2, 4, 5, 4), (3, 3, 2, 4), 1, SAME, 2),
}


@pytest.mark.usefixtures("size")
@pytest.mark.parametrize("way", WAYS)
def test_each_way(way):
    shape, kernel, stride, frame, *groups = WAYS[way]
    check(NUMPY, (shape, kernel, stride, frame, *(groups or [1])))


@pytest.mark.usefixtures("size")
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("xp", [NUMPY, STRICT], ids=["numpy", "strict"])
def test_out_is_filled_and_never_read(way, xp):
    shape, kernel, stride, frame, *groups = WAYS[way]
    x, w = xp.asarray(draw(0, *shape)), xp.asarray(draw(1, *kernel))
    y = xp.correlate(x, w, stride, frame, *groups)
    for function, args in (
        (xp.correlate, (x, w, stride, frame, *groups)),
        (xp.correlate_adjoint_x, (y, w, shape, stride, frame, *groups)),
        (xp.correlate_adjoint_w, (x, y, kernel, stride, frame, *groups)),
    ):
        expected = function(*args)
        out = xp.full(expected.shape, np.nan, "float64")
        assert function(*args, out=out) is out
        np.testing.assert_array_equal(xp.to_numpy(out), xp.to_numpy(expected))


@pytest.mark.usefixtures("size")
@pytest.mark.parametrize("way", WAYS)
def test_strange_strides(way):
    """Turned, transposed and cut arrays mean the same as copies of them."""
    shape, kernel, stride, frame, *groups = WAYS[way]
    x, w = draw(0, *shape[::-1]).T[:, ::-1], draw(1, *(2 * n for n in kernel))[::-2, ::-2, ::2, ::2]
    y = NUMPY.correlate(x, w, stride, frame, *groups)
    h = draw(2, *y.shape[::-1]).T[:, :, ::-1]
    np.testing.assert_array_equal(y, NUMPY.correlate(x.copy(), w.copy(), stride, frame, *groups))
    for function, a, b, size in (
        (NUMPY.correlate_adjoint_x, h, w, shape), (NUMPY.correlate_adjoint_w, x, h, kernel),
    ):  # fmt: skip
        found = function(a, b, size, stride, frame, *groups)
        np.testing.assert_array_equal(found, function(a.copy(), b.copy(), size, stride, frame, *groups))


@pytest.mark.usefixtures("size")
def test_nothing_that_is_left_in_the_shared_memory_matters():
    """All of it is filled with NaN before every call (the bytes 255 are one in both precisions)."""

    def results(spoil):
        for shape, kernel, stride, frame, *groups in WAYS.values():
            x, w = draw(0, *shape), draw(1, *kernel)
            y = draw(2, *correlate(x, w, stride, frame, *groups).shape)
            for function, *args in (
                (NUMPY.correlate, x, w),
                (NUMPY.correlate_adjoint_x, y, w, shape),
                (NUMPY.correlate_adjoint_w, x, y, kernel),
            ):
                for memory in pieces.work.memory.values():
                    memory[:] = 255 if spoil else 0
                yield function(*args, stride, frame, *groups)

    for found, expected in zip(list(results(True)), list(results(False)), strict=True):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.usefixtures("size")
def test_a_pixel_that_is_not_finite_spoils_its_windows_only():
    x, w = draw(0, 2, 8, 8, 8), draw(1, 3, 3, 8, 8)
    y = NUMPY.correlate(x, w, 1, SAME)
    x[1, 3, 4, 2] = np.inf
    with np.errstate(invalid="ignore"):
        spoilt = NUMPY.correlate(x, w, 1, SAME)
    window = np.zeros(y.shape, bool)
    window[1, 2:5, 3:6] = True
    assert not np.isfinite(spoilt[window]).any()
    close(spoilt[~window], y[~window])


@pytest.mark.usefixtures("size")
def test_threads_do_not_share_their_memory():
    def job(seed):
        shape, kernel, stride, frame, *groups = list(WAYS.values())[seed % len(WAYS)]
        x, w = draw(seed, *shape), draw(seed, *kernel)
        y = NUMPY.correlate(x, w, stride, frame, *groups)
        return y, NUMPY.correlate_adjoint_w(x, y, kernel, stride, frame, *groups)

    alone = [job(seed) for seed in range(200)]
    with ThreadPoolExecutor(4) as threads:
        for found, expected in zip(threads.map(job, range(200)), alone, strict=True):
            for a, b in zip(found, expected, strict=True):
                np.testing.assert_array_equal(a, b)


def test_the_size_of_numpys_buffers_is_as_it_was():
    before = np.setbufsize(4096)
    try:
        x, w = draw(0, 2, 8, 8, 8), draw(1, 3, 3, 8, 8)
        NUMPY.correlate(x, w, 1, SAME)
        assert np.getbufsize() == 4096
        with pytest.raises(ValueError, match="broadcast"):
            winograd.correlate(x, w, np.empty((2, 8, 7, 8)))
        assert np.getbufsize() == 4096
    finally:
        np.setbufsize(before)


@pytest.mark.parametrize("dtype", ["int64", "complex128"])
def test_other_kinds_of_numbers(dtype):
    x, w = (10 * draw(0, 1, 8, 8, 8)).astype(dtype), (10 * draw(1, 3, 3, 8, 8)).astype(dtype)
    x, w = (x + 1j * x[::-1, ::-1], w * (1 + 1j)) if dtype == "complex128" else (x, w)
    y = NUMPY.correlate(x, w, 1, SAME)
    assert y.dtype == dtype
    real, imaginary = [correlate(x.real, part, 1, SAME) for part in (w.real, w.imag)]
    if dtype == "complex128":
        real = real - correlate(x.imag, w.imag, 1, SAME)
        imaginary = imaginary + correlate(x.imag, w.real, 1, SAME)
    close(y.real, real)
    close(y.imag, imaginary)


# --- as operations ------------------------------------------------------------------------------------------


@given(cases(channels=(1, 2, 3), groups=(1, 2), size=5), SEEDS)
def test_adjoints(case, seed):
    """⟨conv(x, w), h⟩ = ⟨x, x̄⟩ = ⟨w, w̄⟩, and x̄ is the transposed convolution of h."""
    shape, kernel, stride, frame, groups = case
    x, w = draw(seed, *shape), draw(seed, *kernel)
    y, vjp = sg.vjp(lambda x, w: ops.conv2d(x, w, stride, frame, groups), x, w)
    h = draw(seed + 1, *y.shape)
    back, kernel_back = vjp(h)
    inner = np.sum(y * h)
    scale = 1e-12 * max(1.0, np.sum(np.abs(y * h)))
    assert abs(np.sum(x * back) - inner) <= scale
    assert abs(np.sum(w * kernel_back) - inner) <= scale
    left_over = (shape[1] + sum(frame[0]) - kernel[0]) % stride, (shape[2] + sum(frame[1]) - kernel[1]) % stride
    if left_over[0] == left_over[1]:
        close(ops.conv2d_transpose(h, w, stride, frame, left_over[0], groups), back)


@given(cases(channels=(1, 2), groups=(1, 2), size=4), SEEDS)
@settings(max_examples=max(5, settings.default.max_examples // 3))
def test_second_order(case, seed):
    """d²/ds dt of f(x + s·a, w + t·b) = ⟨conv(x, w)³, 1⟩ against differences of its gradient."""
    shape, kernel, stride, frame, groups = case
    x, w, a, b = draw(seed, *shape), draw(seed, *kernel), draw(seed + 1, *shape), draw(seed + 2, *kernel)

    def slope(w):
        f = lambda x: ops.sum(ops.conv2d(x, w, stride, frame, groups) ** 3)  # noqa: E731
        return ops.sum(sg.grad(f)(x) * a)

    step = 1e-5
    numeric = (slope(w + step * b) - slope(w - step * b)) / (2 * step)
    found = np.sum(sg.grad(slope)(w) * b)
    np.testing.assert_allclose(found, numeric, rtol=1e-6, atol=1e-6 * max(1.0, abs(float(slope(w)))))


def test_nothing_framed_is_kept():
    """The frame belongs to the operation: the tape holds the images and the kernel as they came."""
    x, w = sg.tensor(draw(0, 1, 4, 4, 2)), sg.tensor(draw(1, 3, 3, 2, 2))
    y = ops.conv2d(x, w, padding=1)
    assert [parent is own.node for parent, own in zip(y.node.parents, (x, w), strict=True)] == [True, True]


@pytest.mark.parametrize("types", [("float32", "float64"), ("float64", "float32")])
def test_mixed_precision_is_refused(types):
    x, w = (draw(0, *shape).astype(t) for shape, t in zip(((1, 8, 8, 8), (3, 3, 8, 8)), types, strict=True))
    with pytest.raises(TypeError, match="would give float64"):
        ops.conv2d(x, w, padding=1)
    with pytest.raises(TypeError, match="would give float64"):
        ops.conv2d_transpose(x, w, padding=1)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda x, w: ops.conv2d(x, w, groups=2), "do not fit a kernel .* in 2 groups"),
        (lambda x, w: ops.conv2d(x, w, groups=4), "6 output channels do not divide into 4 groups"),
        (lambda x, w: ops.conv2d(x, w, groups=0), "6 output channels do not divide into 0 groups"),
        (lambda x, w: ops.conv2d_transpose(ops.conv2d(x, w), w, groups=5), "6 output channels do not divide into 5"),
        (lambda x, w: ops.conv2d_transpose(x[:, :1, :1], w[:, :, :, :4], padding=2), "padding 2 leaves no pixel"),
        (lambda x, w: ops.conv2d(x, w, padding=((0, 0), (-1, 0))), "padding: .* is negative"),
    ],
)
def test_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call(np.zeros((1, 4, 4, 4)), np.zeros((3, 3, 4, 6)))
