"""Choosing a backend, telling whose an array is, and CuPy absent or without a device."""

import copy
import pickle
import subprocess
import sys
import threading

import host_cupy
import numpy as np
import pytest

import scratchgen as sg
from scratchgen import ops
from scratchgen.backend import BackendError, active, backend_of, get

module = sys.modules["scratchgen.backend"]  # `scratchgen.backend` is the context manager


@pytest.fixture
def fresh(monkeypatch):
    """A process that has not chosen yet, and does not know CuPy."""
    monkeypatch.setattr(module, "_default", None)
    monkeypatch.delitem(module._loaded, "cupy", raising=False)
    monkeypatch.delenv("SCRATCHGEN_BACKEND", raising=False)
    return monkeypatch


def test_numpy_is_the_default(fresh):
    assert active().name == "numpy"


@pytest.mark.parametrize("name", ["numpy", "strict"])
def test_the_environment_chooses(fresh, name):
    fresh.setenv("SCRATCHGEN_BACKEND", name)
    assert active().name == name
    assert type(sg.tensor([1.0]).value) is type(get(name).zeros((1,)))


def test_the_environment_chooses_in_a_new_process():
    code = "import scratchgen as sg; print(sg.tensor([1.0]) * 2, type(sg.tensor(1.0).value).__name__)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"SCRATCHGEN_BACKEND": "strict", "PATH": ""},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "tensor([2.], float32) StrictArray\n"


def test_an_empty_variable_is_no_choice(fresh):
    fresh.setenv("SCRATCHGEN_BACKEND", "")
    assert active().name == "numpy"


def test_use_chooses_for_the_process(fresh):
    assert sg.use("strict").name == "strict"
    assert active().name == "strict"
    seen = []
    thread = threading.Thread(target=lambda: seen.append(active().name))
    thread.start()
    thread.join()
    assert seen == ["strict"]
    sg.use("numpy")
    assert active().name == "numpy"


def test_a_block_chooses_for_its_own_thread(fresh):
    seen = []
    with sg.backend("strict") as xp:
        assert active() is xp
        with sg.backend("numpy"):
            assert active().name == "numpy"
        assert active() is xp
        thread = threading.Thread(target=lambda: seen.append(active().name))
        thread.start()
        thread.join()
    assert seen == ["numpy"]
    assert active().name == "numpy"
    with pytest.raises(ZeroDivisionError), sg.backend("strict"):
        raise ZeroDivisionError
    assert active().name == "numpy"


@pytest.mark.parametrize("choose", [sg.use, get, lambda name: sg.backend(name).__enter__()])
def test_an_unknown_backend_is_named_with_the_known_ones(choose):
    with pytest.raises(BackendError, match=r"unknown backend 'torch': choose one of numpy, cupy, strict, auto"):
        choose("torch")


def test_an_unknown_backend_in_the_environment(fresh):
    fresh.setenv("SCRATCHGEN_BACKEND", "gpu")
    with pytest.raises(BackendError, match="unknown backend 'gpu'"):
        active()


def test_whose_an_array_is():
    strict = get("strict")
    assert backend_of(np.ones(2)) is get("numpy")
    assert backend_of(np.float32(1.0), 2.0, 3) is get("numpy")
    assert backend_of(1.0, strict.ones((2,))) is strict
    assert backend_of(1.0, True) is active()
    with pytest.raises(TypeError, match=r"add: arrays of the numpy and strict backends cannot be mixed"):
        backend_of(np.ones(2), strict.ones((2,)), operation="add")
    with pytest.raises(TypeError, match="operand of type list"):
        backend_of([1.0])


def test_backends_are_copied_and_pickled_as_themselves():
    for name in ("numpy", "strict"):
        xp = get(name)
        assert copy.deepcopy(xp) is xp
        assert pickle.loads(pickle.dumps(xp)) is xp
        assert repr(xp) == f"<backend {name}>"
        with pytest.raises(AttributeError, match="has no function 'frobnicate'"):
            xp.frobnicate  # noqa: B018


def test_in_and_out(backend):
    for host in (1.5, [1.0, 2.0], np.arange(6).reshape(2, 3), np.array(True)):
        there = backend.asarray(host)
        assert backend_of(there) is backend
        back = backend.to_numpy(there)
        assert type(back) is np.ndarray
        np.testing.assert_array_equal(back, host)
    assert backend.asarray([1, 2], np.float32).dtype == np.float32
    assert backend.asarray(backend.asarray([1.0])).dtype == np.float64


def test_scatter_add_sums_repeated_places(backend):
    values = backend.asarray(np.arange(1.0, 5.0))
    places = backend.asarray(np.array([0, 2, 0, 2]))
    np.testing.assert_array_equal(backend.to_numpy(backend.scatter_add((3,), places, values)), [4, 0, 6])
    np.testing.assert_array_equal(backend.to_numpy(backend.scatter_add((5,), slice(1, None), values)), [0, 1, 2, 3, 4])
    np.testing.assert_array_equal(backend.to_numpy(backend.scatter_add((2, 4), 1, values)), [[0] * 4, [1, 2, 3, 4]])


def test_what_the_tape_keeps_is_not_the_callers(backend):
    x = backend.asarray(np.ones(3))
    kept = backend.saved(x)
    x[0] = 5.0
    assert backend.to_numpy(kept).tolist() == [1, 1, 1]


# --- CuPy absent, broken, or without a device ---------------------------------------------------------------


class Broken:
    """A finder under which `import cupy` fails as a broken installation does."""

    def find_spec(self, name, path=None, target=None):
        if name == "cupy":
            raise ImportError("libcublas.so.13: cannot open shared object file")


def one_line(error):
    text = str(error)
    assert "\n" not in text
    assert text.endswith("or choose the numpy backend")
    return text


def test_cupy_that_is_not_installed(fresh):
    fresh.setitem(sys.modules, "cupy", None)
    with pytest.raises(BackendError, match="CuPy is not installed") as caught:
        sg.use("cupy")
    text = one_line(caught.value)
    assert "pip install 'scratchgen[cuda12x]' or 'scratchgen[cuda13x]'" in text
    assert get("auto").name == "numpy"


def test_cupy_that_cannot_be_imported(fresh):
    fresh.delitem(sys.modules, "cupy", raising=False)
    fresh.setattr(sys, "meta_path", [Broken(), *sys.meta_path])
    with pytest.raises(BackendError, match="CuPy cannot be imported") as caught:
        sg.use("cupy")
    one_line(caught.value)
    assert get("auto").name == "numpy"


def test_cupy_without_a_device(fresh):
    fresh.setitem(sys.modules, "cupy", host_cupy.bare(device=False))
    with pytest.raises(BackendError, match=r"CuPy 14\.2\.0 is installed but finds no CUDA device") as caught:
        sg.use("cupy")
    assert "nvidia-smi" in one_line(caught.value)
    assert get("auto").name == "numpy"


def test_auto_in_the_environment_without_a_gpu(fresh):
    fresh.setitem(sys.modules, "cupy", None)
    fresh.setenv("SCRATCHGEN_BACKEND", "auto")
    assert active().name == "numpy"


def test_a_failed_choice_changes_nothing(fresh):
    fresh.setitem(sys.modules, "cupy", None)
    sg.use("strict")
    with pytest.raises(BackendError):
        sg.use("cupy")
    assert active().name == "strict"


# --- the CuPy adapter, on a CuPy made of NumPy --------------------------------------------------------------


def test_cupy_is_what_auto_finds(cupy):
    assert get("auto") is cupy
    assert cupy.name == "cupy"
    assert pickle.loads(pickle.dumps(cupy)) is cupy
    with sg.backend("auto"):
        t = sg.tensor([1.0, 2.0])
    assert backend_of(t.value) is cupy
    assert repr(t) == "tensor([1., 2.], float32)"
    assert t.numpy().tolist() == [1.0, 2.0]


def test_the_engine_runs_on_cupy(cupy):
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((2, 5, 4, 2)), rng.standard_normal((3, 2, 2, 3))

    def loss(x, w):
        y = sg.functional.silu(ops.conv2d(x, w, 2, 1))
        y = sg.functional.attention(*[ops.reshape(y, (2, -1, 3))] * 3)
        return ops.sum(ops.logsumexp(y, axis=-1) + ops.gammaln(ops.exp(y[..., 0]))) + ops.sort(y, axis=0)[0, 0, 0]

    there = [cupy.asarray(x), cupy.asarray(w)]
    for ours, theirs in zip(sg.grad(loss, (0, 1))(x, w), sg.grad(loss, (0, 1))(*there), strict=True):
        assert backend_of(theirs) is cupy
        np.testing.assert_allclose(cupy.to_numpy(theirs), ours, rtol=1e-10)
    v = rng.standard_normal(w.shape)
    ours = sg.hvp(lambda w: loss(x, w), w, v)
    theirs = sg.hvp(lambda w: loss(there[0], w), there[1], cupy.asarray(v))
    np.testing.assert_allclose(cupy.to_numpy(theirs), ours, rtol=1e-9)
    with pytest.raises(TypeError, match=r"numpy and cupy|cupy and numpy"):
        ops.add(there[0], x)
    with pytest.raises(TypeError, match=r"numpy and cupy|cupy and numpy"):
        sg.tensor(1.0) * there[0]


def test_random_numbers_of_the_host_on_cupy(cupy):
    with sg.backend("cupy"):
        rng = sg.random.Generator(3)
        same = rng.standard_normal((4,))
        for draw in (rng.random((3,)), rng.integers(0, 5, (3,)), rng.permutation(3), rng.exponential((2,))):
            assert backend_of(draw) is cupy
    assert backend_of(same) is cupy
    np.testing.assert_array_equal(cupy.to_numpy(same), sg.random.Generator(3).standard_normal((4,)))
    assert cupy.own_noise == "counter"
    assert get("numpy").own_noise == get("strict").own_noise == "host"


def test_dlpack_of_a_device_goes_through_cupy(cupy):
    class OnDevice:
        def __dlpack_device__(self):
            return (2, 0) if sys._getframe(1).f_code.co_name == "from_dlpack" else (1, 0)

        def __dlpack__(self, **kwargs):
            return np.arange(3.0).__dlpack__(**kwargs)

    with sg.backend("cupy"):
        assert backend_of(sg.from_dlpack(np.arange(3.0)).value) is cupy
    t = sg.from_dlpack(OnDevice())
    assert backend_of(t.value) is get("numpy")
    assert t.numpy().tolist() == [0.0, 1.0, 2.0]
