"""Two processes that mpiexec starts: the run of one, and every way in which one of them can end.

With two shards, g_0 + g_1 is the same sum in whatever process it is made: runs are the same, byte for byte.  With
four, (g_0 + g_1) + (g_2 + g_3) stands for ((g_0 + g_1) + g_2) + g_3, which differs in float32's last bits, 6e-8 of a
gradient; after a dozen steps by less than 1e-6 of a loss.
"""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import host_cuda
import numpy as np
import pytest
from train_toys import CONFIG, environment, left_by, make, run_in

from scratchgen import cli
from scratchgen.train import load_weights

TOYS = Path(__file__).with_name("parallel_toys.py")
BESIDE = Path(sys.executable).with_name("mpiexec")  # the extra `mpi` brings one
MPIEXEC = str(BESIDE) if BESIDE.exists() else shutil.which("mpiexec")
WHY = ("mpi4py is not installed (extra `mpi`)" if importlib.util.find_spec("mpi4py") is None else
       "there is no mpiexec" if MPIEXEC is None else "")  # fmt: skip
pytestmark = pytest.mark.skipif(bool(WHY), reason=WHY)
STEADY = replace(CONFIG, final_lr=1.0)


def mpiexec(*arguments, processes=2):
    """(exit code, standard error) of so many processes of Python."""
    as_root = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}  # Open MPI's; others ignore them
    command = [MPIEXEC, "-n", str(processes), sys.executable, "-W", "error", *map(str, arguments)]
    done = subprocess.run(command, env={**environment(), **as_root}, capture_output=True, text=True, timeout=120)
    return done.returncode, done.stderr


def trained(folder, name, rank=0, step=0, fault="none", processes=2, **settings):
    """(exit code, standard error) of processes that train a toy."""
    settings = {"final_lr": 1.0, "shards": 2} | settings
    return mpiexec(TOYS, folder, name, json.dumps(settings), rank, step, fault, processes=processes)


def rows(folder):
    return np.loadtxt(folder / "metrics.csv", delimiter=",", skiprows=1)


def test_two_shards_give_the_run_of_one_process(tmp_path):
    run_in(tmp_path / "one", "game", replace(STEADY, shards=2))
    assert trained(tmp_path / "two", "game") == (0, "")
    assert left_by(tmp_path / "two") == left_by(tmp_path / "one")


@pytest.mark.parametrize("replay", [True, False])
def test_four_shards_give_the_losses_of_one_process(tmp_path, replay):
    run_in(tmp_path / "one", "denoiser", replace(STEADY, shards=4))
    assert trained(tmp_path / "two", "denoiser", shards=4, replay=replay) == (0, "")
    np.testing.assert_allclose(rows(tmp_path / "two"), rows(tmp_path / "one"), rtol=1e-6)


def test_the_command_line(tmp_path):
    """A GAN, whose recipe has one shard: by two processes it is the run of one with --shards 2."""
    wanted = ("train", "gan", "--steps", "6", "--no-report", "--out")
    code, said = mpiexec("-m", "scratchgen", *wanted, tmp_path / "two")
    assert (code, said.count("gan: step 6/6")) == (0, 1)
    assert cli.run([*wanted, str(tmp_path / "one"), "--shards", "2"]) == 0
    assert left_by(tmp_path / "two") == left_by(tmp_path / "one")


@pytest.mark.parametrize(("arguments", "fault"), [
    (["train", "gan", "--batch-size", "9"], "2 processes cannot share a minibatch of 9 equally: choose another"),
    (["train", "ebm"], "ebm: keeps its chains"),
    (["list"], "only `train` is work for several processes: leave mpiexec away for `list`"),
])  # fmt: skip
def test_what_two_processes_cannot_do_is_one_line(tmp_path, arguments, fault):
    out = ["--out", tmp_path / "run"] if arguments[0] == "train" else []
    code, said = mpiexec("-m", "scratchgen", *arguments, *out)
    assert (code, said.count("\n")) == (2, 1)
    assert said.startswith(f"scratchgen: {fault}")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("rank", [0, 1])
def test_a_process_that_is_killed_ends_all_and_the_run_goes_on_later(tmp_path, rank):
    run_in(tmp_path / "one", "game", replace(STEADY, shards=2))
    code, said = trained(tmp_path / "two", "game", rank, 18, "kill", replay=False)  # in the ninth turn of two
    assert code not in (0, 2)
    assert said.count("scratchgen: game: a process of this run has died; its last checkpoint, ") == 1
    assert "is whole: --resume goes on from there" in said
    assert load_weights(make("game"), tmp_path / "two" / "checkpoint.safetensors") == 5
    if rank == 0:
        assert trained(tmp_path / "two", "game") == (0, "")
    else:
        run_in(tmp_path / "two", "game", replace(STEADY, shards=2))  # by one process
    assert left_by(tmp_path / "two") == left_by(tmp_path / "one")


# --- with a GPU each, played by the host: graphs with the sum over all processes in them ------------------------

GPUS = {"gpus": True, "noise": "counter", "steps": 16}


@pytest.fixture
def compiler():
    host_cuda.require_compiler()


@pytest.mark.usefixtures("compiler")
def test_two_gpus_give_the_losses_of_two_shards_on_the_host(tmp_path):
    run_in(tmp_path / "one", "game", replace(STEADY, shards=2, noise="counter", steps=16))
    assert trained(tmp_path / "two", "game", **GPUS) == (0, "")
    np.testing.assert_allclose(rows(tmp_path / "two"), rows(tmp_path / "one"), rtol=1e-6)


@pytest.mark.usefixtures("compiler")
@pytest.mark.parametrize("rank", [0, 1])
def test_a_gpu_s_process_that_is_killed_between_launches_ends_all(tmp_path, rank):
    """The others wait for its part of a sum; they are ended, and the run goes on from its checkpoint."""
    assert trained(tmp_path / "one", "game", **GPUS) == (0, "")
    code, said = trained(tmp_path / "two", "game", rank, 26, "kill", **GPUS)  # in the ninth turn of three minibatches
    assert code not in (0, 2)
    assert said.count("scratchgen: game: a process of this run has died; its last checkpoint, ") == 1
    assert load_weights(make("game"), tmp_path / "two" / "checkpoint.safetensors") == 5
    assert trained(tmp_path / "two", "game", **GPUS) == (0, "")
    assert left_by(tmp_path / "two") == left_by(tmp_path / "one")


@pytest.mark.usefixtures("compiler")
def test_an_error_in_one_gpu_s_process_ends_all(tmp_path):
    code, said = trained(tmp_path, "denoiser", 1, 8, "raise", **GPUS)
    assert code == 1
    assert "ZeroDivisionError: something that nobody foresaw\nscratchgen: process 1 of 2 fails alone" in said
    assert load_weights(make("denoiser"), tmp_path / "checkpoint.safetensors") == 5


# --- and again without ------------------------------------------------------------------------------------------


def test_an_error_in_one_process_ends_all(tmp_path):
    code, said = trained(tmp_path, "denoiser", 1, 8, "raise", replay=False)
    assert code == 1
    assert said.startswith("Traceback")
    assert said.count("ZeroDivisionError: something that nobody foresaw\nscratchgen: process 1 of 2 fails alone, which "
                      "ends all; --resume goes on from the last checkpoint, if there is one\n") == 1  # fmt: skip
    assert load_weights(make("denoiser"), tmp_path / "checkpoint.safetensors") == 5


@pytest.mark.parametrize(("signal", "code"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_a_signal_to_any_process_stops_all_after_the_step(tmp_path, signal, code):
    run_in(tmp_path / "one", "denoiser", replace(STEADY, shards=2))
    assert trained(tmp_path / "two", "denoiser", 1, 7, signal) == (code, "")
    assert load_weights(make("denoiser"), tmp_path / "two" / "checkpoint.safetensors") == 7
    assert trained(tmp_path / "two", "denoiser") == (0, "")
    assert left_by(tmp_path / "two") == left_by(tmp_path / "one")


def test_weights_that_have_come_apart_are_one_line(tmp_path):
    code, said = trained(tmp_path, "denoiser", 1, 7, "drift", replay=False)
    assert (code, said) == (2, "denoiser: processes have come to different numbers by step 10; "
                            "the checkpoint of step 5 stays\n")  # fmt: skip
    assert load_weights(make("denoiser"), tmp_path / "checkpoint.safetensors") == 5


def test_processes_that_do_not_divide_the_shards_of_a_run(tmp_path):
    run_in(tmp_path, "denoiser", replace(STEADY, shards=2, steps=6))
    before = left_by(tmp_path)
    code, said = trained(tmp_path, "denoiser", processes=3)
    assert (code, said) == (2, "3 processes cannot share 2 shards of a minibatch equally\n")
    assert left_by(tmp_path) == before


def test_mpiexec_leaves_nobody_behind(tmp_path):
    trained(tmp_path, "denoiser", 1, 8, "kill", replay=False)
    running = [Path(f"/proc/{pid}/cmdline") for pid in os.listdir("/proc") if pid.isdigit()]
    assert not [p for p in running if str(tmp_path).encode() in (p.read_bytes() if p.exists() else b"")]
