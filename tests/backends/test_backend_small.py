"""Where the NumPy backend goes a shorter way than NumPy's own function, the result is the same, bit for bit."""

import numpy as np
import pytest

from scratchgen.backend import get
from scratchgen.quicker import SMALL_COPY

xp = get("numpy")
SHAPES = ((), (1,), (4,), (3, 2), (1, 3), (2, 3, 4), (17, 5, 1), (70, 70))


@pytest.mark.parametrize("name", ["sum", "mean"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16, np.int64, np.bool_, np.complex128])
@pytest.mark.parametrize("shape", SHAPES)
def test_reductions(name, dtype, shape):
    x = (np.random.default_rng(0).standard_normal(shape) * 10).astype(dtype)
    for array in (x, np.asarray(x)[..., ::-1] if shape else x, np.asarray(x).T):
        for axis in {None, *range(-np.ndim(x), np.ndim(x)), tuple(range(np.ndim(x))), ()}:
            for keepdims in (False, True):
                ours = getattr(xp, name)(array, axis=axis, keepdims=keepdims)
                theirs = getattr(np, name)(array, axis=axis, keepdims=keepdims)
                assert ours.dtype == theirs.dtype
                assert ours.shape == theirs.shape
                np.testing.assert_array_equal(ours, theirs)


def test_reductions_of_nothing():
    x = np.zeros((0, 3), np.float32)
    np.testing.assert_array_equal(xp.sum(x, axis=0), np.zeros(3, np.float32))
    assert xp.mean(x, axis=1).shape == (0,)
    with pytest.warns(RuntimeWarning):
        assert np.isnan(xp.mean(x))


@pytest.mark.parametrize("shape", [(), (4,), (2, 4), (0, 4), (3, 2, 4), (SMALL_COPY, 4)])
@pytest.mark.parametrize("x", [np.float32(2.5), np.arange(4.0), np.arange(8).reshape(2, 4)[:1], np.ones((1, 1), bool)])
def test_broadcasts(x, shape):
    try:
        theirs = np.broadcast_to(x, shape)
    except ValueError:
        with pytest.raises(ValueError, match="broadcast|dimensions"):
            xp.broadcast_to(x, shape)
        return
    ours = xp.broadcast_to(x, shape)
    assert ours.dtype == theirs.dtype
    assert ours.shape == theirs.shape
    np.testing.assert_array_equal(ours, theirs)


def test_a_broadcast_that_does_not_fit():
    for shape, wanted in (((3,), (4,)), ((1, 3), (3,)), ((3,), (-1,)), ((2, 3), (3, 2))):
        with pytest.raises(ValueError, match="broadcast|dimensions"):
            xp.broadcast_to(np.ones(shape), wanted)
