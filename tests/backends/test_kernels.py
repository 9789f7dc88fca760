"""The device's kernels, run on the host: the numbers of NumPy's path, and sources that NVIDIA's compiler takes."""

import re
from pathlib import Path

import numpy as np
import pytest
from kernel_tools import compiled_by_nvrtc, moves

import scratchgen
import scratchgen as sg
from scratchgen import optim
from scratchgen.backend import get
from scratchgen.optim import EMA, Adam, Flat

HOST = get("numpy")
SHAPES = [(3, 1), (5, 7), (2, 3, 33), (2, 1024), (9, 1025), (2, 9001), (0, 4), (4,)]
TOLERANCE = {np.float64: 1e-12, np.float32: 1e-5}
BOTH = pytest.mark.parametrize("dtype", [np.float64, np.float32])
SHAPED = pytest.mark.parametrize("shape", SHAPES)
ELEMENTWISE = {
    "silu": 1, "silu_slope": 1, "silu_adjoint": 2, "softplus": 1, "softplus_adjoint": 2, "gelu": 1, "gelu_adjoint": 3,
    "binary_cross_entropy": 2, "binary_cross_entropy_adjoint": 3,
}  # fmt: skip
SOURCES = sorted((Path(scratchgen.__file__).parent / "cuda").glob("*.cu"))


def numbers(n, shape, dtype):
    rng = np.random.default_rng(len(shape) + shape[-1])
    return [rng.standard_normal(shape).astype(dtype) for _ in range(n)]


def compared(device, name, arrays, *settings, tolerance=None):
    """A method on the device and on the host, with the same results; returns the host's."""
    ours = getattr(HOST, name)(*arrays, *settings)
    theirs = getattr(device, name)(*map(device.asarray, arrays), *settings)
    pairs = zip(ours, theirs, strict=True) if isinstance(ours, tuple) else [(ours, theirs)]
    for a, b in pairs:
        b = device.to_numpy(b)
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
        tolerance = tolerance or TOLERANCE[a.dtype.type]
        np.testing.assert_allclose(b, a, rtol=tolerance, atol=tolerance)
    return ours


@BOTH
@SHAPED
@pytest.mark.parametrize("name", ELEMENTWISE)
def test_activations(cupy, name, shape, dtype):
    compared(cupy, name, numbers(ELEMENTWISE[name], shape, dtype))


@BOTH
@SHAPED
@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_softmax_along_the_last_axis_and_the_first(cupy, name, shape, dtype):
    x, g = numbers(2, shape, dtype)
    for axis in (-1, *([0] if shape[0] else [])):
        y = compared(cupy, name, [x], axis)
        compared(cupy, f"{name}_adjoint", [g, y], axis)


@BOTH
@SHAPED
def test_standardise(cupy, shape, dtype):
    x, g = numbers(2, shape, dtype)
    x = x * 3 + 5
    y, scale = compared(cupy, "standardise", [x], (-1,), 1e-5, tolerance=1e-4 if dtype == np.float32 else None)
    compared(cupy, "standardise_adjoint", [g, y, scale], (-1,), tolerance=3e-4 if dtype == np.float32 else 1e-11)
    compared(cupy, "standardise", [x], (0,) if shape[0] else (-1,), 1e-5)


@BOTH
@pytest.mark.parametrize("shape", [(2, 1, 8), (3, 50, 12), (1, 1000, 4), (0, 5, 4), (2, 3, 1028), (1, 700, 52)])
@pytest.mark.parametrize("groups", [1, 2, 4])
def test_groups(cupy, shape, groups, dtype):
    x, g = numbers(2, shape, dtype)
    y, scale = compared(cupy, "group_standardise", [x], groups, 1e-5)
    compared(cupy, "group_standardise_adjoint", [g, y, scale], groups)


def test_arrays_with_gaps(cupy):
    x, g = numbers(2, (6, 40, 8), np.float64)
    for look in (lambda a: a[::2, ::-1], lambda a: a.transpose(2, 0, 1), lambda a: a[:, :, 1::3]):
        near, far = [look(x), look(g)], [look(cupy.asarray(x)), look(cupy.asarray(g))]
        for name, settings in {"softmax": (-1,), "log_softmax": (1,), "silu": (), "standardise": (-1, 1e-5),
                               "group_standardise": (1, 1e-5)}.items():  # fmt: skip
            y, z = getattr(HOST, name)(near[0], *settings), getattr(cupy, name)(far[0], *settings)
            y, z = (y[0], z[0]) if isinstance(y, tuple) else (y, z)
            np.testing.assert_allclose(cupy.to_numpy(z), y, rtol=1e-12, atol=1e-12)
        y = HOST.softmax_adjoint(near[1], near[0], -1)
        np.testing.assert_allclose(cupy.to_numpy(cupy.softmax_adjoint(far[1], far[0], -1)), y, rtol=1e-12, atol=1e-12)


def test_one_number_for_all(cupy):
    (l,) = numbers(1, (4, 5), np.float32)
    there = cupy.binary_cross_entropy(cupy.asarray(l), 0.25)
    np.testing.assert_allclose(cupy.to_numpy(there), HOST.binary_cross_entropy(l, 0.25), rtol=1e-5)
    row = np.linspace(0, 1, 5, dtype=np.float32)
    there = cupy.binary_cross_entropy(cupy.asarray(l), cupy.asarray(row))
    np.testing.assert_allclose(cupy.to_numpy(there), HOST.binary_cross_entropy(l, row), rtol=1e-5)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("n", [4, 1500])
@pytest.mark.parametrize("name", ["softmax", "log_softmax", "standardise", "silu", "softplus", "gelu"])
def test_what_is_no_number(cupy, name, n):
    rows = np.tile(np.arange(4.0), (6, n // 4))
    rows[0, 1] = np.nan
    rows[1, 2] = np.inf
    rows[2, 0] = -np.inf
    rows[3] = -np.inf
    rows[4, -1] = 1e300
    rows[5, -1] = -800.0
    settings = {"standardise": (-1, 1e-5)}.get(name, (-1,) if "softmax" in name else ())
    ours, theirs = getattr(HOST, name)(rows, *settings), getattr(cupy, name)(cupy.asarray(rows), *settings)
    if isinstance(ours, tuple):
        ours, theirs = ours[0], theirs[0]
    np.testing.assert_allclose(cupy.to_numpy(theirs), ours, rtol=1e-12, atol=1e-300, equal_nan=True)


def test_whole_numbers_stay_array_calls(cupy):
    x = np.arange(6).reshape(2, 3)
    for name, settings in {"softplus": (), "log_softmax": (-1,)}.items():
        there = getattr(cupy, name)(cupy.asarray(x.astype(np.float16)), *settings)
        np.testing.assert_array_equal(cupy.to_numpy(there), getattr(HOST, name)(x.astype(np.float16), *settings))


@BOTH
@pytest.mark.parametrize("name, decay", [("adam", 0.0), ("adam", 0.1), ("sgd", 0.9), ("ema", 0.0)])
@pytest.mark.parametrize("on_device", [False, True])
def test_optimisers_to_the_last_bit(cupy, name, decay, on_device, dtype):
    n = 5 * 256 + 3
    rng = np.random.default_rng(0)
    ours = [rng.standard_normal(n).astype(dtype) for _ in range(4)]
    ours[2] = abs(ours[2])
    ours = ours[: {"adam": 4, "sgd": 3, "ema": 2}[name]]
    theirs, scratch = list(map(cupy.asarray, ours)), np.empty(n, dtype)
    for count in range(1, 4):
        lr = 1e-2 / count
        given = {"adam": (count, lr), "sgd": (lr,), "ema": (lr,)}[name]
        rest = {"adam": (0.9, 0.999, 1e-8, decay), "sgd": (decay,), "ema": ()}[name]
        getattr(HOST, name)(*ours, scratch, *given, *rest)
        there = [cupy.asarray(np.array(x)) for x in given] if on_device else given
        getattr(cupy, name)(*theirs, None, *there, *rest)
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(cupy.to_numpy(b), a)


@pytest.mark.parametrize("name", ["SGD", "Adam", "EMA"])
def test_a_step_on_the_device_makes_no_array_of_the_size_of_the_buffers(cupy, monkeypatch, name):
    with sg.backend("cupy"):
        flat = Flat({"a": sg.tensor(np.ones(300, np.float32))})
        owner, g, made = getattr(optim, name)(flat), cupy.ones(300, np.float32), []
        array = type(g)
        init = array.__init__
        monkeypatch.setattr(array, "__init__", lambda self, a: (made.append(a.size), init(self, a))[1])
        owner.update() if name == "EMA" else owner.step(g)
        assert set(made) <= {1}
        optim.room(cupy, 300, np.float32)
        assert made[-1] == 300


def trained(backend, steps=4):
    """Parameters, their average and the optimiser's state after some steps on `backend`."""
    rng = np.random.default_rng(0)
    with sg.backend(backend.name):
        flat = Flat({name: sg.tensor(rng.standard_normal(n).astype(np.float32)) for name, n in (("a", 300), ("b", 7))})
        optimiser, average = Adam(flat, lr=1e-2, weight_decay=0.01), EMA(flat)
        for _ in range(steps):
            optimiser.step(backend.asarray(rng.standard_normal(307).astype(np.float32)))
            average.update()
    return [backend.to_numpy(flat.buffer), average.state(), optimiser.state()]


def test_training_to_the_last_bit(cupy):
    (ours, *states), (theirs, *there) = trained(HOST), trained(cupy)
    np.testing.assert_array_equal(theirs, ours)
    for a, b in zip(states, there, strict=True):
        assert a.keys() == b.keys()
        for name in a:
            np.testing.assert_array_equal(b[name], a[name], err_msg=name)


@pytest.mark.parametrize(
    "source, right, wrong, check",
    [
        ("rows.cu", "(g[row[i]] - dot)", "(g[row[i]] + dot)",
         lambda device: test_softmax_along_the_last_axis_and_the_first(device, "softmax", (5, 7), np.float64)),
        ("rows.cu", "- exp(y[row[i]]) * sum", "+ exp(y[row[i]]) * sum",
         lambda device: test_softmax_along_the_last_axis_and_the_first(device, "log_softmax", (5, 7), np.float64)),
        ("rows.cu", "- y[at.place] * mean_dot", "+ y[at.place] * mean_dot",
         lambda device: test_groups(device, (3, 50, 12), 2, np.float64)),
        ("optimisers.cu", "theta[i] * keep - ", "theta[i] * keep + ",
         lambda device: test_optimisers_to_the_last_bit(device, "adam", 0.1, False, np.float64)),
    ],
)  # fmt: skip
def test_a_wrong_sign_is_noticed(cupy, monkeypatch, source, right, wrong, check):
    from scratchgen.cuda import kernels

    text = next(p for p in SOURCES if p.name == source).read_text()
    assert text.count(right) == 1
    module = kernels.cupy.RawModule(code=text.replace(right, wrong))
    monkeypatch.setattr(kernels, "_module", lambda *_: module)
    with pytest.raises(AssertionError, match="Not equal|not equal"):
        check(cupy)


def test_the_table_of_moves(cupy):
    from scratchgen.cuda import kernels

    settings = {"softmax": (-1,), "log_softmax": (-1,), "softmax_adjoint": (-1,), "log_softmax_adjoint": (-1,),
                "standardise": ((-1,), 1e-5), "standardise_adjoint": ((-1,),), "sgd": (1e-3, 0.9), "ema": (0.1,),
                "adam": (7, 1e-3, 0.9, 0.999, 1e-8, 0.01)}  # fmt: skip
    arrays = {**ELEMENTWISE, "softmax": 1, "log_softmax": 1, "softmax_adjoint": 2, "log_softmax_adjoint": 2,
              "standardise": 1, "standardise_adjoint": 2, "adam": 5, "sgd": 4, "ema": 3}  # fmt: skip
    rows = re.findall(r"^ +(\w+) +(\d+) in +(\d+) +(\d+)$", kernels.__doc__, re.M)
    assert {name for name, *_ in rows} == arrays.keys() - {"silu_slope"}
    for name, moved, calls, _ in rows:
        assert moves(name, arrays[name], *settings.get(name, ())) == (int(moved), int(calls)), name


def test_a_kernel_is_looked_up_once(cupy, monkeypatch):
    """CuPy makes a new object at each look-up, and asks the driver."""
    asked, look_up = [], cupy.RawModule.get_function
    monkeypatch.setattr(cupy.RawModule, "get_function", lambda self, name: asked.append(name) or look_up(self, name))
    x = cupy.asarray(np.ones((3, 4), np.float32))
    stream = cupy.noise_stream(0, (1, 2))
    for _ in range(3):
        cupy.softmax(x, -1)
        cupy.ema(x, x, x, 0.5)
        cupy.noise("normal", stream, (4,), np.float32)
    cupy.softmax(x.astype(np.float64), -1)
    assert asked == ["begin", "softmax_float", "ema_float", "normal_float32", "softmax_double"]


def test_letters_of_comments_do_not_reach_cupy(cupy, monkeypatch, tmp_path):
    from scratchgen.cuda import kernels

    monkeypatch.setattr(kernels.resources, "files", lambda package: tmp_path)
    (tmp_path / "some.cu").write_text("int x;  // L·Lᵀ, μ first\n", encoding="utf-8")
    assert kernels._module("some.cu").code == "int x;  // LL,  first\n"


@pytest.mark.parametrize("source", SOURCES, ids=lambda p: p.name)
def test_sources_are_cuda(source):
    text = source.read_text()
    assert compiled_by_nvrtc(text, "-std=c++17", "--fmad=false") == ""
    assert "error" in compiled_by_nvrtc(text + "\n__global__ void broken() { nonsense; }")


def test_elementwise_kernels_are_cuda(cupy):
    from scratchgen.cuda import kernels

    found = [k for k in vars(kernels).values() if isinstance(k, kernels.cupy.ElementwiseKernel)]
    assert len(found) == len(ELEMENTWISE)
    for kernel in found:
        for dtype in map(np.dtype, (np.float32, np.float64)):
            assert compiled_by_nvrtc(kernel._kernel({"T": dtype}).code, "-std=c++17") == ""
