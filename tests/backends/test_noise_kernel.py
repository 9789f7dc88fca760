"""The noise kernels, compiled for the host and called as the CuPy backend calls them: the numbers of `philox`."""

import numpy as np
import pytest
from host_cuda import CudaError

import scratchgen as sg
from scratchgen import philox
from scratchgen.backend import backend_of
from scratchgen.random import Generator

LAWS = [("words", np.uint64), ("uniform", np.float32), ("uniform", np.float64), ("normal", np.float32),
        ("normal", np.float64), ("exponential", np.float32), ("exponential", np.float64)]  # fmt: skip
KEY = (2**64 - 3, 2**63 + 12345)


def agree(law, ours, theirs):
    """To the last bit; but for the last bits of logarithms, cosines and sines."""
    assert ours.dtype == theirs.dtype
    if law in ("normal", "exponential"):
        np.testing.assert_allclose(theirs, ours, rtol=0, atol=1e-6 if ours.dtype == np.float32 else 1e-14)
        if ours.dtype == np.float32:
            assert np.mean(ours != theirs) < 0.01
    else:
        assert theirs.tobytes() == ours.tobytes()


@pytest.mark.parametrize(("law", "dtype"), LAWS)
@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 1023, 1024, 1025, 5000])
def test_kernels_draw_what_the_host_draws(cupy, law, dtype, n):
    """Within a thread's four numbers, at the end of a thread block, and over several; two draws, one after another."""
    host, there = philox.stream(2**63, KEY), cupy.noise_stream(2**63, KEY)
    for _ in range(2):
        agree(law, philox.draw(law, host, (n,), dtype), cupy.to_numpy(cupy.noise(law, there, (n,), dtype)))
        assert cupy.to_numpy(there).tolist() == host.tolist()


@pytest.mark.parametrize(("low", "high"), [(0, 1), (-7, 3), (-(2**31), 2**31), (5, 5 + 2**32)])
def test_integers(cupy, low, high):
    host, there = philox.stream(0, KEY), cupy.noise_stream(0, KEY)
    ours = philox.draw("integers", host, (33, 3), np.int64, low, high)
    theirs = cupy.noise("integers", there, (33, 3), np.int64, (low, high))
    assert cupy.to_numpy(theirs).tobytes() == ours.tobytes()


def test_a_draw_of_nothing_moves_nothing(cupy):
    there = cupy.noise_stream(5, KEY)
    assert cupy.noise("normal", there, (0, 4), np.float32).shape == (0, 4)
    assert cupy.to_numpy(there)[0] == 5


def test_draws_into_an_array_of_ones_own(cupy):
    wanted = cupy.to_numpy(cupy.noise("normal", cupy.noise_stream(0, KEY), (6,), np.float32))
    place = cupy.zeros((6,), np.float32)
    assert cupy.noise("normal", cupy.noise_stream(0, KEY), (6,), np.float32, out=place) is place
    np.testing.assert_array_equal(cupy.to_numpy(place), wanted)
    wide = cupy.zeros((6, 2), np.float32)
    cupy.noise("normal", cupy.noise_stream(0, KEY), (6,), np.float32, out=wide[:, 0])
    np.testing.assert_array_equal(cupy.to_numpy(wide), np.stack([wanted, 0 * wanted], axis=1))


def test_a_generator_on_cupy(cupy):
    def draws(rng):
        return [rng.standard_normal((3, 2)), rng.random((5,), sg.float64), rng.integers(-2, 9, (7,)),
                rng.exponential((4,)), rng.permutation(9), rng.choice(8, (3,), replace=False),
                rng.choice(3, (5,)), rng.choice(3, (5,), p=[0.2, 0.5, 0.3]), rng.random()]  # fmt: skip

    ours = draws(Generator(3, "counter"))
    with sg.backend("cupy"):
        rng = Generator(3, "counter")
        theirs = draws(rng)
        assert all(backend_of(a) is cupy for a in (*theirs, rng.stream()))
        mark, state = rng.mark(), rng.state()
        again = [g.random((4,)) for g in (rng, Generator.from_state(state))]
        rng.back(mark)
        again.append(rng.random((4,)))
        child = rng.spawn(1)[0].random((3,))
    for a, b in zip(ours, theirs, strict=True):
        assert a.shape == b.shape
        agree("normal" if a.dtype == np.float32 else "words", np.asarray(a), cupy.to_numpy(b))
    assert state == Generator.from_state(state).state()
    for a in again:
        np.testing.assert_array_equal(cupy.to_numpy(a), cupy.to_numpy(again[0]))
    np.testing.assert_array_equal(cupy.to_numpy(child), Generator(3, "counter").spawn(1)[0].random((3,)))


def test_the_stand_in_sees_a_draw_beyond_its_array(cupy):
    """The control: a kernel told of more numbers than there is room for."""
    from scratchgen.cuda import philox as kernels

    kernel = kernels._kernel("uniform_float32")
    with pytest.raises(CudaError, match="writes beyond an array"):
        kernel((1,), (32,), (cupy.noise_stream(0, KEY), cupy.zeros((6,), np.float32), np.int64(7)))
