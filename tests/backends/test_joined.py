"""Arrays joined by a kernel, on the CuPy made of NumPy."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import scratchgen as sg
from scratchgen.optim import Flat

lengths = st.lists(st.integers(0, 5), min_size=1, max_size=150)


@given(lengths, st.sampled_from([(), (3,), (2, 1)]), st.sampled_from(["f4", "f8", "i8", "u2", "?"]))
def test_arrays_of_any_length(cupy, lengths, shape, dtype):
    rng = np.random.default_rng(len(lengths))
    arrays = [rng.integers(0, 99, (n, *shape)).astype(dtype) for n in lengths]
    right = np.concatenate(arrays)
    found = cupy.joined([*map(cupy.asarray, arrays)], axis=-right.ndim)
    assert (found.shape, found.dtype) == (right.shape, right.dtype)
    np.testing.assert_array_equal(cupy.to_numpy(found), right)


def test_more_numbers_than_threads(cupy):
    arrays = [np.arange(2.0**20), np.arange(100.0)]
    np.testing.assert_array_equal(cupy.to_numpy(cupy.joined([*map(cupy.asarray, arrays)])), np.concatenate(arrays))


@pytest.fixture
def launches(cupy, monkeypatch):
    """One entry for each launch."""
    from scratchgen.cuda import joined

    kernel_of, seen = joined._kernel, []
    monkeypatch.setattr(joined, "_kernel", lambda size: lambda *args: seen.append(size) or kernel_of(size)(*args))
    return seen


@pytest.mark.parametrize("count, expected", [(1, 1), (64, 1), (65, 2), (200, 4)])
def test_launches(cupy, launches, count, expected):
    cupy.joined([cupy.full(2, i, "f4") for i in range(count)])
    assert launches == [4] * expected


def test_what_the_kernel_leaves_to_others(cupy, launches):
    x = np.arange(12.0).reshape(3, 4)
    there = cupy.asarray(x)
    for look, axis in ((lambda x: [x, x], 1), (lambda x: [x.T, x.T], 0), (lambda x: [x, x.astype("f4")], 0),
                       (lambda x: [x[:, ::2], x[:, :2]], 0)):  # fmt: skip
        np.testing.assert_array_equal(cupy.to_numpy(cupy.joined(look(there), axis)), np.concatenate(look(x), axis))
    for wrong in ([there, there[:, :3]], [there, there[0]]):
        with pytest.raises(ValueError, match="dimension"):
            cupy.joined(wrong)
    assert launches == []


def test_a_gradient_is_gathered_by_one_launch(cupy, launches):
    with sg.backend("cupy"):
        flat = Flat({f"w{i}": sg.tensor(np.zeros((i, 3), "f4")) for i in range(1, 30)})
        found = flat.gather([cupy.full(p.shape, i, "f4") for i, p in enumerate(flat.parameters)])
    np.testing.assert_array_equal(cupy.to_numpy(found), np.repeat(np.arange(29.0), 3 * np.arange(1, 30)))
    assert launches == [4]
