"""Convolutions by cuDNN, on one that computes on the host, and by products where it has no plan."""

import sys
import threading
import types
from itertools import pairwise

import host_cudnn
import host_cupy
import host_graph
import numpy as np
import pytest
from convolution_tools import NONE, SAME, SEEDS, adjoint_w, cases, close, correlate, draw, stamped
from host_cublas import products
from hypothesis import given
from hypothesis import strategies as st
from test_convolution import check
from test_products import gradients_of_networks

import scratchgen as sg
from scratchgen import cli, info, ops
from scratchgen.backend import BackendError, get

NUMPY = get("numpy")


@pytest.fixture
def cupy(monkeypatch):
    """The CuPy backend on the host, with its cuDNN."""
    monkeypatch.setenv("SCRATCHGEN_CONVOLUTION", "cudnn")
    library = host_cudnn.installed(monkeypatch)
    for xp in host_cupy.installed(monkeypatch):
        xp.libcudnn = library
        yield xp


def plans(xp):
    """Operation and plan of all that has been carried out."""
    return [executed[:2] for executed in xp.libcudnn.executed]


OPERATIONS = ("conv_fprop", "conv_dgrad", "conv_wgrad")
SMALL = (2, 6, 5, 8), (3, 3, 8, 8), 1, SAME, 1


# --- what is computed ---------------------------------------------------------------------------------------


@given(case=cases(groups=(1, 1, 2, 3)), seed=SEEDS)
def test_any_shape(cupy, case, seed):
    """Strides, groups, uneven frames; nothing at all goes to products."""
    before = len(plans(cupy))
    check(cupy, case, seed)
    assert plans(cupy)[before:] == [(name, "plain") for name in OPERATIONS if case[0][0]]


@given(case=cases(channels=(1, 3, 8), groups=(1, 2)), seed=SEEDS)
def test_float32_without_tensor_cores(cupy, case, seed):
    check(cupy, case, seed, 3e-6, "float32")
    assert {plan for _, plan in plans(cupy)} <= {"plain"}


def results(xp, x, w, h, *how):
    """The three functions of a backend, or of its products in some precision, on arrays of the host."""
    raw_x, raw_w, raw_h = (xp.asarray(array) for array in (x, w, h))
    found = (xp.correlate(raw_x, raw_w, *how), xp.correlate_adjoint_x(raw_h, raw_w, x.shape, *how),
             xp.correlate_adjoint_w(raw_x, raw_h, w.shape, *how))  # fmt: skip
    return [get("cupy").to_numpy(y) if not isinstance(y, np.ndarray) else y for y in found]


class Lowered:
    """A backend's products in a precision, with its `asarray`."""

    def __init__(self, xp, precision):
        self.asarray, self.products = xp.asarray, xp.products(precision)

    def __getattr__(self, name):
        return getattr(self.products, name)


def operands(dtype, shape=SMALL[0], kernel=SMALL[1], result=(2, 6, 5, 8)):
    return [draw(i, *s).astype(dtype) for i, s in enumerate((shape, kernel, result))]


def test_tf32_is_by_tensor_cores(cupy):
    """Which the stand-in's cut to 10 bits."""
    x, w, h = operands("float32")
    right = correlate(x, w, 1, SAME), stamped(h, w, x.shape, 1, SAME), adjoint_w(x, h, w.shape, 1, SAME)
    for mine, theirs in zip(results(Lowered(cupy, "tf32"), x, w, h, 1, SAME), right, strict=True):
        assert mine.dtype == "float32"
        error = np.max(np.abs(mine - theirs)) / np.max(np.abs(theirs))
        assert 2**-16 < error < 2**-8
    assert plans(cupy) == [(name, "tensor cores") for name in OPERATIONS]


def test_bf16_is_the_emulated_one(cupy):
    """And its results are float32, not bfloat16; where cuDNN has none such, by products."""
    for channels in (8, 3):
        arrays = operands("float32", (2, 6, 5, channels), (3, 3, channels, 8))
        found, right = (results(Lowered(xp, "bf16"), *arrays, 1, SAME) for xp in (cupy, NUMPY))
        for mine, theirs in zip(found, right, strict=True):
            assert mine.dtype == "float32"
            np.testing.assert_allclose(mine, theirs, rtol=1e-5, atol=1e-5)
        assert plans(cupy) == [(name, "tensor cores") for name in OPERATIONS]
        assert len(products(cupy)) == (0 if channels == 8 else 3)


@pytest.mark.parametrize(("dtype", "precision", "tolerance"), [
    ("float64", "float32", 1e-12), ("float32", "float32", 2e-5), ("float32", "bf16", 2e-5),
])
def test_networks_have_numpys_gradients(cupy, dtype, precision, tolerance):
    right, found = (gradients_of_networks(name, dtype, precision) for name in ("numpy", "cupy"))
    for mine, theirs in zip(found, right, strict=True):
        close(mine, theirs, tolerance)
    assert {name for name, _ in plans(cupy)} == set(OPERATIONS)


# --- what cuDNN is given ------------------------------------------------------------------------------------


def test_a_plan_is_made_once_for_every_shape(cupy):
    built = cupy.libcudnn.built
    for seed in range(3):
        check(cupy, SMALL, seed)
    assert [name for name, _ in built] == list(OPERATIONS)
    for case in (((3, 6, 5, 8), *SMALL[1:]), (*SMALL[:2], 2, SAME, 1), (*SMALL[:3], ((1, 1), (2, 0)), 1)):
        before = len(built)
        check(cupy, case)
        check(cupy, case)
        assert len(built) == before + 3
    arrays = operands("float32")
    for precision in ("float32", "tf32", "bf16", "float32"):
        results(Lowered(cupy, precision), *arrays, 1, SAME)
    assert len(built) == 4 * 3 + 3 * 3


@pytest.mark.parametrize("begin", [0, 1, 2, 3])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_operands_wherever_they_lie(cupy, begin, dtype):
    """In the midst of a buffer, transposed, or with gaps; cuDNN takes addresses that are multiples of 16."""
    sizes = [np.prod(s) for s in (SMALL[0], SMALL[1], (2, 6, 5, 8))]
    buffer = draw(1, begin + 2 * sum(sizes)).astype(dtype)
    there, how = cupy.asarray(buffer), (1, SAME, 1)

    def parts(flat):
        ends = [begin, *(begin + np.cumsum(sizes))]
        x, w, h = (flat[a:b] for a, b in pairwise(ends))
        gaps = flat[begin : begin + 2 * sizes[0]].reshape(2, 6, 5, 16)[..., ::2]
        return [(x.reshape(SMALL[0]), w.reshape(SMALL[1]), h.reshape(2, 6, 5, 8)),
                (gaps, w.reshape(8, 8, 3, 3).T, h.reshape(5, 6, 2, 8).swapaxes(0, 2))]  # fmt: skip

    tolerance = 3e-6 if dtype == "float32" else 1e-12
    for (x, w, h), (a, b, c) in zip(parts(buffer), parts(there), strict=True):
        close(cupy.to_numpy(cupy.correlate(a, b, *how)), correlate(x, w, *how), tolerance)
        close(cupy.to_numpy(cupy.correlate_adjoint_x(c, b, x.shape, *how)), stamped(h, w, x.shape, *how), tolerance)
        close(cupy.to_numpy(cupy.correlate_adjoint_w(a, c, w.shape, *how)), adjoint_w(x, h, w.shape, *how), tolerance)
    assert len(plans(cupy)) == 6
    np.testing.assert_array_equal(cupy.to_numpy(there), buffer)


def test_memory_to_work_in(cupy, monkeypatch):
    """As much as the plan says, of CuPy's allocator, and none of it the operands'."""
    module, given_ = sys.modules["scratchgen.cuda.cudnn"], []
    call = module.call
    monkeypatch.setattr(module, "call", lambda *args: given_.append(args[1:]) or call(*args))
    check(cupy, SMALL)
    for *arrays, workspace in given_:
        assert (workspace.shape, workspace.dtype) == ((host_cudnn.WORKSPACE,), "uint8")
        assert not any(np.may_share_memory(workspace._a, array._a) for array in arrays)
    assert len(given_) == 3


def test_results_lie_as_ours_do(cupy):
    x, w, h = map(cupy.asarray, operands("float64"))
    for found in (cupy.correlate(x, w, 1, SAME), cupy.correlate_adjoint_x(h, w, x.shape, 1, SAME),
                  cupy.correlate_adjoint_w(x, h, w.shape, 1, SAME)):  # fmt: skip
        assert found.flags.c_contiguous


def test_into_an_array(cupy):
    x, w, h = operands("float64")
    a, b, c = map(cupy.asarray, (x, w, h))
    for function, arguments, right in (
        (cupy.correlate, (a, b), correlate(x, w, 1, SAME)),
        (cupy.correlate_adjoint_x, (c, b, x.shape), stamped(h, w, x.shape, 1, SAME)),
        (cupy.correlate_adjoint_w, (a, c, w.shape), adjoint_w(x, h, w.shape, 1, SAME)),
    ):
        out = cupy.asarray(np.full_like(right, 9.0))
        assert function(*arguments, 1, SAME, 1, out) is out
        close(cupy.to_numpy(out), right)


def test_what_has_no_plan_goes_to_products(cupy):
    """Mixed dtypes, whole numbers, and nothing at all."""
    x, w = draw(1, *SMALL[0]), draw(2, *SMALL[1])
    for a, b in ((x.astype("f4"), w), (x.astype("f4"), w.astype("f4").astype("f8")), (x[:0], w)):
        found = cupy.correlate(cupy.asarray(a), cupy.asarray(b), 1, SAME)
        close(cupy.to_numpy(found), correlate(a, b, 1, SAME), 1e-6)
    whole = np.arange(2 * 6 * 5 * 8).reshape(SMALL[0]), np.arange(9 * 64).reshape(SMALL[1])
    found = cupy.correlate(*map(cupy.asarray, whole), 1, NONE)
    np.testing.assert_array_equal(cupy.to_numpy(found), correlate(*whole, 1, NONE).astype(int))
    assert plans(cupy) == [] == cupy.libcudnn.built


@given(case=cases(groups=(1, 2)), seed=SEEDS)
def test_by_products_where_there_is_no_plan(cupy, case, seed):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys.modules["scratchgen.cuda.cudnn"].Cudnn, "plan", lambda self, asked: None)
        check(cupy, case, seed)


# --- streams, threads, graphs -------------------------------------------------------------------------------


def test_the_stream_is_cupys(cupy, monkeypatch):
    x, w = cupy.asarray(draw(1, *SMALL[0])), cupy.asarray(draw(2, *SMALL[1]))
    stream = types.SimpleNamespace(ptr=11)
    monkeypatch.setattr(sys.modules["cupy"].cuda, "get_current_stream", lambda: stream)
    for stream.ptr in (11, 11, 12, 11):
        cupy.correlate(x, w, 1, SAME)
    assert [executed[2:] for executed in cupy.libcudnn.executed] == [(100, ptr) for ptr in (11, 11, 12, 11)]


def test_a_thread_has_a_handle_and_plans_of_its_own(cupy):
    x, w = cupy.asarray(draw(1, *SMALL[0])), cupy.asarray(draw(2, *SMALL[1]))
    run = lambda: cupy.correlate(x, w, 1, SAME)  # noqa: E731
    run()
    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    run()
    assert [executed[2] for executed in cupy.libcudnn.executed] == [100, 101, 100]
    assert len(cupy.libcudnn.built) == 2


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_convolutions_are_part_of_a_graph(cupy, monkeypatch, precision):
    """A layer and its gradients, replayed: plans are made by the warm-up, memory is the graph's own, and later calls
    launch what was captured, with new numbers."""
    world, module = host_graph.installed(monkeypatch), sys.modules["scratchgen.cuda.cudnn"]
    call = module.call
    monkeypatch.setattr(module, "call", lambda *args: world.run(lambda: call(*args), "convolution", call, args, {}))
    kernel = draw(2, 3, 3, 8, 8).astype("f4")

    def step(k):
        loss = lambda k, x: ops.sum(ops.square(ops.conv2d(x, k, 1, "same")))  # noqa: E731
        return lambda x: sg.value_and_grad(loss, argnums=(0, 1))(k, x)

    here, replayed = step(kernel), sg.replay(step(cupy.asarray(kernel)))
    for seed in range(5):
        x = draw(seed, 2, 4, 4, 8).astype("f4")
        with sg.precision(precision):
            (loss, right) = here(x)
            with sg.backend("cupy"):
                (mine, found) = replayed(cupy.asarray(x))
        for a, b in zip((mine, *found), (loss, *right), strict=True):
            np.testing.assert_allclose(cupy.to_numpy(a), b, rtol=1e-4, atol=1e-4)
        assert len(cupy.libcudnn.built) == 3
    begin, end, launch = (next(i for i, said in enumerate(world.log) if what in said)
                          for what in ("begin capture", "end capture", "launch"))
    assert sum("convolution" in said for said in world.log[begin:end]) == 3
    assert not any("convolution" in said for said in world.log[launch:])


# --- asked for, and not there -------------------------------------------------------------------------------


@pytest.fixture
def loaded(monkeypatch):
    """Loads the CuPy backend with what SCRATCHGEN_CONVOLUTION says, in a world with or without a package."""

    def load(asked, package=None):
        monkeypatch.setenv("SCRATCHGEN_CONVOLUTION", asked)
        monkeypatch.setitem(sys.modules, "cudnn", package)
        made = host_cupy.installed(monkeypatch)
        try:
            return next(made)
        finally:
            list(made)

    return load


def without_library():
    """The package alone: each call of the library raises."""
    package = types.ModuleType("cudnn")

    def raises():
        raise RuntimeError("Unable to find symbol cudnnGetVersion")

    package.backend_version_string = raises
    return package


MISSING = (
    r"^SCRATCHGEN_CONVOLUTION=cudnn, and cuDNN is not found: pip install 'scratchgen\[cudnn12x\]' or "
    r"'scratchgen\[cudnn13x\]' for your CUDA version, or leave convolutions to products$"
)


@pytest.mark.parametrize("package", [None, without_library()], ids=["no package", "no library"])
def test_asked_for_and_missing(loaded, package):
    with pytest.raises(BackendError, match=MISSING):
        loaded("cudnn", package)


def test_an_unknown_way(loaded):
    with pytest.raises(BackendError, match=r"^SCRATCHGEN_CONVOLUTION=cuDnn: convolutions are done by products, or by"):
        loaded("cuDnn")


@pytest.mark.parametrize("asked", ["", "products"])
def test_products_unless_asked_for(loaded, asked):
    assert loaded(asked).convolution.NAME == "products"


def test_its_name(cupy):
    assert cupy.convolution.NAME == "cuDNN 9.28.0"


def test_the_command_line_says_so(cupy, monkeypatch, capsys, tmp_path):
    """One line, exit code 2; `info` says it where it tells of the device."""
    del sys.modules["scratchgen.backend"]._loaded["cupy"], sys.modules["scratchgen.cuda.cudnn"]
    del sys.modules["scratchgen.cuda"].cudnn
    monkeypatch.setitem(sys.modules, "cudnn", None)
    assert cli.run(["train", "ddpm", "--backend", "cupy", "--out", str(tmp_path / "run")]) == 2
    told = capsys.readouterr()
    assert "and cuDNN is not found" in told.err and told.err.count("\n") == 1 and not told.out
    assert info.cuda() == {"usable": False, "why": told.err.partition(": ")[2].strip()}


# --- what it reports ----------------------------------------------------------------------------------------


def test_what_cudnn_reports_is_one_line(cupy, monkeypatch):
    x, w = cupy.asarray(draw(1, *SMALL[0])), cupy.asarray(draw(2, *SMALL[1]))

    def execute(*_):
        raise RuntimeError("detail::execute failed with message: x\n and code: CUDNN_STATUS_EXECUTION_FAILED")

    monkeypatch.setattr(host_cudnn.Graph, "execute", execute)
    with pytest.raises(BackendError) as caught:
        cupy.correlate(x, w, 1, SAME)
    said = "cuDNN: detail::execute failed with message: x and code: CUDNN_STATUS_EXECUTION_FAILED"
    assert str(caught.value) == said


@pytest.mark.parametrize("fault", ["address", "shape", "order"])
def test_the_stand_in_refuses_what_cudnn_does(cupy, monkeypatch, fault):
    module = sys.modules["scratchgen.cuda.cudnn"]
    if fault == "address":
        monkeypatch.setattr(module, "packed", lambda x: x)
    if fault == "shape":
        monkeypatch.setattr(module, "output_size", lambda *_: (7, 5))
    if fault == "order":
        monkeypatch.setattr(host_cudnn.Graph, "validate", lambda self: None)
    x, w = cupy.asarray(draw(1, 2 * 6 * 5 * 8 + 1))[1:].reshape(SMALL[0]), cupy.asarray(draw(2, *SMALL[1]))
    said = {"address": "MISALIGNED", "shape": "do not fit", "order": "build_operation_graph before validate"}
    with pytest.raises((BackendError, AssertionError), match=said[fault]):
        cupy.correlate(x, w, 1, SAME)


@given(st.integers(1, 3), st.integers(1, 2), SEEDS)
def test_the_stand_in_knows_dilation(stride, dilation, seed):
    """Which is not asked for: a kernel with gaps is a larger one."""
    x, w = draw(seed, 2, 3, 9, 8), draw(seed, 4, 3, 2, 3)
    spread = np.zeros((4, 3, dilation + 1, 2 * dilation + 1))
    spread[:, :, ::dilation, ::dilation] = w
    right = correlate(x.transpose(0, 2, 3, 1), spread.transpose(2, 3, 1, 0), stride, NONE).transpose(0, 3, 1, 2)
    y = np.zeros(right.shape)
    none = [0, 0]
    for met, of_w, of_y in host_cudnn.pieces(x, w.shape, y.shape, none, none, [stride] * 2, [dilation] * 2):
        y[of_y] += np.einsum("ncpq,kc->nkpq", met, w[of_w])
    close(y, right)
