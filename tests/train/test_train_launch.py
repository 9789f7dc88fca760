"""What mpiexec says of a process, without mpiexec; and NCCL's calls, on a CuPy that only writes them down."""

import importlib
import subprocess
import sys
import types

import pytest
from train_toys import ROOT, environment

from scratchgen import cli
from scratchgen.backend import BackendError
from scratchgen.recipes import RECIPES, RecipeError, request
from scratchgen.train import ALONE, GroupError, launch

VARIABLES = (*launch.SIZES, *launch.RANKS)


@pytest.fixture(autouse=True)
def nobody(monkeypatch):
    """As a process that no launcher started, on a machine without mpi4py."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setitem(sys.modules, "mpi4py", None)


@pytest.mark.parametrize("told", [{}, {"PMI_SIZE": "1", "PMI_RANK": "0"}, {"OMPI_COMM_WORLD_SIZE": "1"}])
def test_one_process_needs_no_mpi4py(monkeypatch, told):
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    assert launch.join() is ALONE
    with launch.joined() as group:
        assert group is ALONE


@pytest.mark.parametrize("told", [{"PMI_SIZE": "2", "PMI_RANK": "0"}, {"PMIX_RANK": "0"},
                                  {"OMPI_COMM_WORLD_SIZE": "4", "OMPI_COMM_WORLD_RANK": "0"}])  # fmt: skip
def test_several_processes_without_mpi4py_are_one_line(monkeypatch, capsys, told):
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit) as end:
        cli.main(["train", "gan"])
    assert end.value.code == 2
    assert capsys.readouterr().err == (
        "scratchgen: mpiexec starts processes, but mpi4py is not installed: pip install 'scratchgen[mpi]'\n")


def test_only_the_first_of_them_says_so(monkeypatch, capsys):
    monkeypatch.setenv("PMI_SIZE", "2")
    monkeypatch.setenv("PMI_RANK", "1")
    with pytest.raises(SystemExit) as end:
        cli.main(["list"])
    assert (end.value.code, *capsys.readouterr()) == (2, "", "")


def test_an_mpi_that_is_not_mpiexec_s(monkeypatch):
    """Its processes would not know of each other, and each would train on its own in the same folder."""
    world = types.SimpleNamespace(Get_size=lambda: 1)
    monkeypatch.setitem(sys.modules, "mpi4py", types.SimpleNamespace(MPI=types.SimpleNamespace(COMM_WORLD=world)))
    monkeypatch.setenv("PMI_SIZE", "2")
    with pytest.raises(GroupError, match="mpiexec starts 2 processes, of which mpi4py sees 1"):
        launch.join()
    monkeypatch.delenv("PMI_SIZE")
    monkeypatch.setenv("PMIX_RANK", "0")  # by a launcher that tells no size: one process
    assert launch.join() is ALONE


# --- the process that is left behind -----------------------------------------------------------------------

KEEPS = """
import os, sys
from scratchgen.train.launch import keeper
with keeper("something has died"):
    if len(sys.argv) > 1:
        os.kill(os.getpid(), 9)
"""


@pytest.mark.parametrize(("killed", "said"), [([], ""), (["now"], "something has died\n")])
def test_the_keeper_speaks_only_if_the_process_is_killed(killed, said):
    done = subprocess.run([sys.executable, "-c", KEEPS, *killed], env=environment(), cwd=ROOT, capture_output=True,
                          text=True, timeout=60)  # fmt: skip
    assert (done.returncode, done.stderr) == (-9 if killed else 0, said)


def test_the_keeper_is_silent_after_an_error(capfd):
    with pytest.raises(ZeroDivisionError), launch.keeper("something has died"):
        raise ZeroDivisionError
    assert capfd.readouterr().err == ""


# --- a run's settings --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("given", "processes", "shards"), [
    ({}, 1, 2), ({}, 2, 2), ({}, 4, 4), ({"batch_size": 12}, 3, 6), ({"batch_size": 15}, 3, 3), ({"shards": 8}, 2, 8),
])  # fmt: skip
def test_shards_that_the_processes_can_share(given, processes, shards):
    found = request.settings(RECIPES["ddpm"], given, 1437, processes)
    assert (found.shards, found.shards % processes, found.batch_size % shards) == (shards, 0, 0)


@pytest.mark.parametrize(("id", "given", "processes", "fault"), [
    ("ddpm", {"batch_size": 10}, 3, "3 processes cannot share a minibatch of 10 equally: choose another --batch-size"),
    ("ddpm", {"shards": 3}, 2, "--shards 3: 2 processes cannot share them equally"),
    ("ddpm", {"shards": 3}, 1, "3 shards cannot share a minibatch of 80 equally: choose another --batch-size"),
    ("rbm", {}, 2, "rbm: keeps its chains from one minibatch to the next, and every minibatch moves them on: one "),
    ("ebm_2d", {"shards": 2}, 1, "ebm_2d: keeps its chains"),
    ("kmeans", {}, 2, "kmeans: is fitted by a rule of its own"),
])  # fmt: skip
def test_shards_that_nobody_can_share(id, given, processes, fault):
    with pytest.raises(RecipeError) as caught:
        request.settings(RECIPES[id], given, 1437, processes)
    assert str(caught.value).startswith(fault)


def test_shards_are_part_of_a_run(tmp_path, capsys):
    wanted = ["train", "gan", "--steps", "1", "--shards", "4", "--no-report", "--out", str(tmp_path / "run")]
    assert cli.run(wanted) == 0
    assert cli.run([*wanted, "--resume"]) == 0
    wanted[5] = "2"
    assert cli.run([*wanted, "--resume"]) == 2
    assert "the run has --shards 4, not 2" in capsys.readouterr().err


# --- NCCL --------------------------------------------------------------------------------------------------


@pytest.fixture
def nccl(monkeypatch):
    """(scratchgen.cuda.nccl, what it called) on a CuPy of two devices that only writes down what it is asked."""
    calls = []

    class Backend:
        def __init__(self, n_devices, rank, use_mpi=False):
            calls.append(("backend", n_devices, rank, use_mpi))

        def all_reduce(self, in_array, out_array, op="sum", stream=None):
            calls.append(("all_reduce", in_array, out_array, op, stream))

    runtime = types.SimpleNamespace(getDeviceCount=lambda: 2, runtimeGetVersion=lambda: 13010)
    device = lambda i: types.SimpleNamespace(use=lambda: calls.append(("use", i)))  # noqa: E731
    library = types.SimpleNamespace(available=True)
    cuda = types.SimpleNamespace(runtime=runtime, Device=device, nccl=library)
    monkeypatch.setitem(sys.modules, "cupy", types.SimpleNamespace(cuda=cuda))
    monkeypatch.setitem(sys.modules, "cupy.cuda", cuda)
    monkeypatch.setitem(sys.modules, "cupyx", types.SimpleNamespace())
    monkeypatch.setitem(sys.modules, "cupyx.distributed", types.SimpleNamespace(NCCLBackend=Backend))
    monkeypatch.delitem(sys.modules, "scratchgen.cuda.nccl", raising=False)
    yield importlib.import_module("scratchgen.cuda.nccl"), calls, library
    sys.modules.pop("scratchgen.cuda.nccl", None)


def test_a_device_is_chosen_before_nccl_is_asked(nccl):
    module, calls, _ = nccl
    buffer = object()
    module.Communicator(4, 3, 1).all_reduce(buffer)
    assert calls == [("use", 1), ("backend", 4, 3, True), ("all_reduce", buffer, buffer, "sum", None)]


def test_too_few_devices_or_no_nccl_are_one_line(nccl):
    module, calls, library = nccl
    with pytest.raises(BackendError, match="more processes than its 2 GPUs"):
        module.Communicator(4, 2, 2)
    library.available = False
    with pytest.raises(BackendError, match="CuPy finds no NCCL: pip install nvidia-nccl-cu13, or train by one process"):
        module.Communicator(2, 0, 0)
    assert calls == []
