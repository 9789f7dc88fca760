"""Convolution one pixel of the result at a time, of every shape, and which images it is for."""

import numpy as np
import pytest
from convolution_tools import SAME, SEEDS, adjoint_w, cases, close, correlate, draw, stamped
from hypothesis import given, settings

from scratchgen import pieces, pixelwise
from scratchgen.backend import get

NUMPY = get("numpy")


def compare(case, seed=0, dtype="float64", tolerance=1e-12):
    """What `pixelwise` makes of the case, and one image more, with what is right."""
    (n, *image), kernel, stride, frame, _ = case
    shape = n + 1, *image
    x, w = draw(seed, *shape).astype(dtype), draw(seed, *kernel).astype(dtype)
    y = correlate(x, w, stride, frame)
    h = draw(seed + 1, *y.shape).astype(dtype)
    found = np.full(y.shape, np.nan, dtype), np.full(shape, np.nan, dtype), np.zeros(kernel, dtype)
    pixelwise.correlate(x, w, stride, frame, found[0])
    pixelwise.adjoint_x(h, w, stride, frame, found[1])
    pixelwise.adjoint_w(x, h, stride, frame, found[2])
    right = y, stamped(h, w, shape, stride, frame), adjoint_w(x, h, kernel, stride, frame)
    for a, b in zip(found, right, strict=True):
        close(a, b, tolerance)


@pytest.mark.parametrize("dtype, tolerance", [("float64", 1e-12), ("float32", 3e-6)])
@pytest.mark.parametrize("cache", [1, 10_000, 10**9])
@given(case=cases(channels=(1, 2, 3, 8), size=6), seed=SEEDS)
@settings(max_examples=max(5, settings.default.max_examples // 3))
def test_pixelwise(dtype, tolerance, cache, case, seed):
    """All frames and strides, one image at a time, a few, and all."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pixelwise, "CACHE", cache)
        compare(case, seed, dtype, tolerance)


@pytest.mark.parametrize(
    "part, wrong",
    [
        ("_bands", lambda right, *key: right(*key)[:1] * 2),
        ("in_line", lambda right, kernel, *name: right(kernel[::-1], *name)),
        ("add_products", lambda right, left, c, out: right(left[:1], c[:1], out)),
    ],
    ids=["a row left out", "the kernel upside down", "a product too few"],
)
def test_a_fault_is_noticed(part, wrong, monkeypatch):
    right = getattr(pixelwise, part)
    monkeypatch.setattr(pixelwise, part, lambda *a: wrong(right, *a))
    pieces.work.plans.clear()
    try:
        with pytest.raises(AssertionError):
            compare(((3, 4, 4, 3), (3, 3, 3, 9), 1, SAME, 1))
    finally:
        pieces.work.plans.clear()


@pytest.mark.parametrize("place", [np.s_[:, 1:5, 2:6, :9], np.s_[::2, :4, :4, ::2]], ids=["a part", "every second"])
def test_the_result_goes_anywhere(place):
    x, w, out = draw(0, 3, 4, 4, 8), draw(1, 3, 3, 8, 9), np.zeros((6, 8, 8, 18))
    here = out[:3][place] if place[0] == np.s_[:] else out[place]
    pixelwise.correlate(x, w, 1, SAME, here)
    close(here, correlate(x, w, 1, SAME))
    assert np.count_nonzero(out) == here.size


def test_pixelwise_is_for_small_images(monkeypatch):
    called = []
    for name in ("correlate", "adjoint_x", "adjoint_w"):
        monkeypatch.setattr(pixelwise, name, lambda *a, name=name: called.append(name))
    for side, stride, expected in (
        (4, 1, ["correlate", "adjoint_x", "adjoint_w"]),
        (8, 1, ["correlate", "adjoint_x"]),
        (8, 2, ["correlate", "adjoint_x", "adjoint_w"]),
        (28, 1, []),
    ):
        x, w = draw(0, 2, side, side, 32), draw(1, 3, 3, 32, 32)
        h = NUMPY.correlate(x, w, stride, SAME)
        NUMPY.correlate_adjoint_x(h, w, x.shape, stride, SAME)
        NUMPY.correlate_adjoint_w(x, h, w.shape, stride, SAME)
        assert called == expected
        called.clear()
    assert not pixelwise.suits((2, 28, 28, 1), 3, 28)  # few numbers, but a product for each of many pixels
