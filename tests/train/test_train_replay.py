"""The trainer replays its steps: the same numbers as without, and without where it must be."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from train_toys import CONFIG, Denoiser, Terms, data_for, environment, make

from scratchgen.processes import Elsewhere
from scratchgen.random import Generator
from scratchgen.train import train
from scratchgen.train.state import State


def trained(system, name="denoiser", **settings):
    """Weights, result, and for every player how many of its shards are replayed, and by processes of their own."""
    ends, close = [], State.close

    def ending(self):
        ends.append([
            (sum(any(replay.plans.values()) for replay in player.replays),
             sum(p.process is not None for replay in player.replays for plans in replay.plans.values() for p in plans))
            for player in self.players
        ])  # fmt: skip
        close(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(State, "close", ending)
        result = train(system, data_for(name), replace(CONFIG, **settings), progress=False)
    no_child_is_left()
    return system.state_dict(), result, ends[0]


def no_child_is_left():
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


@pytest.mark.parametrize("name", ["denoiser", "game", "classifier"])
@pytest.mark.parametrize("shards", [1, 2, 4])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("processes", [True, False])
def test_replay_changes_no_bit(name, shards, dtype, processes, monkeypatch):
    """Neither in this process nor in several."""
    monkeypatch.setattr("scratchgen.train.state.cores", lambda: 2 if processes else 1)
    plain, one, ends = trained(make(name, dtype), name, shards=shards, dtype=dtype, replay=False)
    assert set(ends) == {(0, 0)}
    fast, two, ends = trained(make(name, dtype), name, shards=shards, dtype=dtype)
    moved = shards - 1 if processes and sys.platform == "linux" else 0
    assert set(ends) == {(shards, moved)}
    assert all(np.array_equal(plain[key], fast[key]) for key in plain)
    assert one.losses == two.losses


@pytest.mark.skipif(sys.platform != "linux", reason="processes of their own are forked on Linux only")
@pytest.mark.parametrize("what", ["dies", "constant"])
def test_a_shard_whose_process_fails_is_computed_here(what, monkeypatch, capsys):
    """Killed in the middle of the run, or bereft of a constant that is none: one line, and the same weights."""
    plain, *_ = trained(make("denoiser"), shards=2, replay=False)
    monkeypatch.setattr("scratchgen.train.state.cores", lambda: 2)
    run, runs = Elsewhere.run, []

    def failing(self):
        runs.append(self.pid)
        if len(runs) == 3 and what == "dies":
            os.kill(self.pid, signal.SIGKILL)
        if len(runs) == 3 and what == "constant":
            self.constants.append((np.ones(3), 0))
        run(self)

    monkeypatch.setattr(Elsewhere, "run", failing)
    system = make("denoiser")
    train(system, data_for("denoiser"), replace(CONFIG, shards=2))
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "replay" in line]
    assert ("has died" if what == "dies" else "float64 from outside was written to") in line
    assert len(runs) == 3
    assert all(np.array_equal(plain[key], value) for key, value in system.state_dict().items())
    no_child_is_left()


@pytest.mark.skipif(sys.platform != "linux", reason="asks /proc for children")
def test_processes_end_with_a_run_that_is_killed(tmp_path):
    """kill −9 leaves nobody behind: the others find that nobody is there to answer."""
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from dataclasses import replace\n"
        "from train_toys import CONFIG, data_for, make\n"
        "from scratchgen import cores\n"
        "import scratchgen.train.state as state\n"
        "from scratchgen.train import train\n"
        "state.cores = lambda: 2\n"
        "config = replace(CONFIG, shards=4, steps=10**6, log_every=10**6, checkpoint_every=10**6)\n"
        "train(make('denoiser'), data_for('denoiser'), config, progress=False)\n"
    )
    toys = str(Path(__file__).parent)
    process = subprocess.Popen([sys.executable, "-c", code, toys], env=environment())
    try:
        assert wait(lambda: len(pids := spawned(process.pid)) == 3 and pids, 30)
        others = spawned(process.pid)
    finally:
        process.kill()
        process.wait()
    assert wait(lambda: not any(Path(f"/proc/{pid}").exists() for pid in others), 10)


def spawned(parent):
    """The processes whose parent it is."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = stat.read_text().rsplit(")", 1)[1].split()
            if int(fields[1]) == parent and fields[0] != "Z":
                found.append(int(stat.parent.name))
    return found


def wait(condition, seconds):
    end = time.monotonic() + seconds
    while not (found := condition()) and time.monotonic() < end:
        time.sleep(0.05)
    return found


class Reading(Denoiser):
    """A denoiser that decides by its loss, so that its step is no fixed list of calls."""

    def loss(self, x, rng):
        noise = rng.random((len(x), 1))  # must not be drawn twice
        terms = super().loss(x + 0.01 * noise, rng)
        return terms if float(terms.loss.sum()) > 0 else Terms(-terms.loss, terms.error)


@pytest.mark.parametrize("shards", [1, 2])
def test_a_step_that_decides_by_its_numbers_is_trained_without(capsys, shards):
    plain, *_ = trained(Reading(Generator(7)), shards=shards, replay=False)
    capsys.readouterr()
    fast, _, ends = trained(Reading(Generator(7)), shards=shards)
    assert ends == [(0, 0)]
    assert all(np.array_equal(plain[key], fast[key]) for key in plain)
    train(Reading(Generator(7)), data_for("denoiser"), replace(CONFIG, shards=shards))
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "replay" in line]
    assert line.startswith("Reading: replay: float() reads a number of a step that is to be replayed, ")
    assert "the result of add.reduce, at " in line
    assert line.endswith("; trained without replay, which gives the same numbers")
    assert "test_train_replay.py:" in line
