"""A run that was stopped, anywhere and in any way, ends as the run that was not: byte for byte."""

import os
import random
import signal
import subprocess
import time
from dataclasses import replace

import pytest
from train_toys import CONFIG, ROOT, Done, command, environment, left_by, make, run_in

from scratchgen.train import (
    CheckpointError,
    Interrupted,
    RunError,
    RunFolder,
    atomic,
    checkpoint,
    load_weights,
)

STEADY = replace(CONFIG, final_lr=1.0)  # a rate that does not depend on the number of steps


@pytest.fixture
def start():
    """A function that starts the toy process and returns it once it is about to train."""
    processes = []

    def starting(folder, name, **settings) -> subprocess.Popen:
        process = subprocess.Popen(command(folder, name, **settings), stdin=subprocess.PIPE, text=True,
                                   stdout=subprocess.PIPE, env=environment(), cwd=ROOT)
        processes.append(process)
        assert process.stdout.readline() == "ready\n"
        return process

    yield starting
    for process in processes:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()


def finish(process) -> tuple[int, str]:
    out, _ = process.communicate(timeout=60)
    return process.returncode, out


def interrupt_at(call: int, number: int, *others: int):
    """A denoiser whose process is sent a signal in the middle of its call-th loss."""
    system = make("denoiser")
    quick, calls = system.loss, iter(range(1, 1000))

    def strike():
        if next(calls) == call:
            for signal_number in (number, *others):
                os.kill(os.getpid(), signal_number)

    striking = Done(strike)

    def struck(x, rng):
        striking()
        return quick(x, rng)

    system.loss = struck
    return system


# --- N + M steps -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["denoiser", "game", "classifier"])
@pytest.mark.parametrize("first", [1, 4, 9])
def test_n_and_m_steps_are_n_plus_m_steps(tmp_path, name, first):
    """First: before any row of the log; between two rows; at a row."""
    run_in(tmp_path / "whole", name, STEADY)
    run_in(tmp_path / "parts", name, replace(STEADY, steps=first))
    result = run_in(tmp_path / "parts", name, STEADY)
    assert result.step == 12
    assert left_by(tmp_path / "parts") == left_by(tmp_path / "whole")


@pytest.mark.parametrize("name", ["denoiser", "game"])
def test_the_same_in_a_new_process(start, tmp_path, name):
    run_in(tmp_path / "whole", name, STEADY)
    run_in(tmp_path / "parts", name, replace(STEADY, steps=7))
    assert finish(start(tmp_path / "parts", name, final_lr=1.0)) == (0, "")
    assert left_by(tmp_path / "parts") == left_by(tmp_path / "whole")


def test_stopped_at_every_step_with_a_rate_that_decays(tmp_path):
    run_in(tmp_path / "whole", "denoiser")
    for step in range(1, 13):
        with pytest.raises(Interrupted) as caught:
            run_in(tmp_path / "parts", "denoiser", system=interrupt_at(1, signal.SIGTERM))
        assert (caught.value.code, caught.value.step) == (143, step)
    assert left_by(tmp_path / "parts") == left_by(tmp_path / "whole")


def test_the_optimiser_s_momentum_is_part_of_a_run(tmp_path):
    config = replace(STEADY, optimiser="sgd", momentum=0.9, ema_decay=None)
    run_in(tmp_path / "whole", "denoiser", config)
    run_in(tmp_path / "parts", "denoiser", replace(config, steps=5))
    run_in(tmp_path / "parts", "denoiser", config)
    assert left_by(tmp_path / "parts") == left_by(tmp_path / "whole")


def test_a_finished_run_has_nothing_left_to_do(tmp_path):
    run_in(tmp_path, "denoiser")
    before = left_by(tmp_path)
    assert run_in(tmp_path, "denoiser").step == 12
    assert left_by(tmp_path) == before


def test_saving_more_often_changes_nothing(tmp_path):
    run_in(tmp_path / "whole", "denoiser")
    run_in(tmp_path / "often", "denoiser", replace(CONFIG, checkpoint_every=1))
    arrays, _ = checkpoint.load(tmp_path / "whole" / "checkpoint.safetensors")
    again, _ = checkpoint.load(tmp_path / "often" / "checkpoint.safetensors")
    assert {k: v.tobytes() for k, v in arrays.items()} == {k: v.tobytes() for k, v in again.items()}


def test_the_seconds_of_earlier_lives_are_counted(tmp_path):
    run_in(tmp_path, "denoiser", replace(STEADY, steps=6))
    first = (tmp_path / "timing.csv").read_text().splitlines()
    run_in(tmp_path, "denoiser", STEADY)
    lines = (tmp_path / "timing.csv").read_text().splitlines()
    assert lines[:3] == first
    assert lines[0] == "step,seconds"
    seconds = [float(line.split(",")[1]) for line in lines[1:]]
    assert seconds == sorted(seconds)
    assert len(seconds) == 4


# --- kill -9 -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["denoiser", "game"])
def test_a_run_killed_at_random_moments(start, tmp_path, name):
    """Saving after every step on a slow disk, killed six times, mostly in the middle of a save."""
    settings = {"steps": 100, "checkpoint_every": 1, "log_every": 2}
    folder, chance = tmp_path / "killed", random.Random(name)
    for _ in range(6):
        process = start(folder, name, tell=True, **settings)
        for _ in range(chance.randrange(0, 12)):
            assert process.stdout.readline() == "step\n"
            process.stdin.write("\n")
            process.stdin.flush()
        process.stdin.write("\n\n")
        process.stdin.flush()
        time.sleep(chance.uniform(0.0, 0.02))
        process.kill()
        assert finish(process)[0] == -signal.SIGKILL
        if (folder / "config.json").exists():
            RunFolder.open(folder)
        if (folder / "checkpoint.safetensors").exists():
            load_weights(make(name), folder / "checkpoint.safetensors")
    assert finish(start(folder, name, **settings)) == (0, "")
    run_in(tmp_path / "whole", name, replace(CONFIG, **settings))
    assert left_by(folder) == left_by(tmp_path / "whole")
    assert not [file for file in os.listdir(folder) if file.endswith(".tmp")]


KILL_POINTS = ["before the first checkpoint", "in a temporary file", "before the rename", "after the rename"]


@pytest.mark.parametrize("moment", KILL_POINTS)
def test_a_run_killed_at_chosen_moments(tmp_path, monkeypatch, moment):
    """The same inside one process: what the kernel would keep is kept, and everything else is forgotten."""

    class Killed(BaseException):
        pass

    folder = tmp_path / "killed"
    saves = iter(range(1000))
    write = atomic.write_atomically

    def dying(path, data):
        path = os.fspath(path)
        if not path.endswith("checkpoint.safetensors") or next(saves) != (moment != KILL_POINTS[0]):
            return write(path, data)
        if moment != "after the rename":
            with open(f"{folder}/.checkpoint.safetensors.0000.tmp", "wb") as f:
                f.write(data if moment == "before the rename" else data[: len(data) // 2])
        else:
            write(path, data)
        raise Killed

    monkeypatch.setattr(checkpoint, "write_atomically", dying)
    with pytest.raises(Killed):
        run_in(folder, "denoiser")
    monkeypatch.undo()
    run_in(folder, "denoiser")
    run_in(tmp_path / "whole", "denoiser")
    assert left_by(folder) == left_by(tmp_path / "whole")
    assert sorted(os.listdir(folder)) == sorted(os.listdir(tmp_path / "whole"))


def test_a_run_killed_in_the_middle_of_a_row(tmp_path):
    run_in(tmp_path / "whole", "denoiser")
    run_in(tmp_path / "killed", "denoiser", replace(CONFIG, steps=12))
    system = interrupt_at(8, signal.SIGTERM)
    (tmp_path / "again").mkdir()
    with pytest.raises(Interrupted):
        run_in(tmp_path / "again", "denoiser", system=system)  # checkpoint of step 8, rows 3 and 6
    with (tmp_path / "again" / "metrics.csv").open("ab") as f:
        f.write(b"9,1.25,0.5\n10,1.2")  # rows that the checkpoint knows nothing of, the last one torn
    run_in(tmp_path / "again", "denoiser")
    assert left_by(tmp_path / "again") == left_by(tmp_path / "whole")


@pytest.mark.skipif(not os.path.exists("/proc/self/fd"), reason="asks /proc for the names of files")
def test_rows_reach_the_disk_before_the_checkpoint_that_relies_on_them(tmp_path, monkeypatch):
    synced = []
    sync = os.fsync

    def syncing(file):
        synced.append(os.path.basename(os.readlink(f"/proc/self/fd/{file}")).split(".")[0])
        sync(file)

    run_in(tmp_path / "run", "denoiser", replace(STEADY, steps=1))
    monkeypatch.setattr(atomic.os, "fsync", syncing)
    run_in(tmp_path / "run", "denoiser", replace(STEADY, steps=3, checkpoint_every=3))
    saves = [name for name in synced if name in ("metrics", "timing", "")]  # "": a temporary, .NAME.…
    assert saves[-3:] == ["metrics", "timing", ""]


# --- signals -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_the_process_with_its_code_and_the_run_goes_on_later(start, tmp_path, number, code):
    process = start(tmp_path / "run", "denoiser", delay=0.05)
    time.sleep(0.2)
    process.send_signal(number)
    found, out = finish(process)
    assert found == code
    step = int(out)
    assert 0 < step < 12
    assert load_weights(make("denoiser"), tmp_path / "run" / "checkpoint.safetensors") == step
    assert finish(start(tmp_path / "run", "denoiser")) == (0, "")
    run_in(tmp_path / "whole", "denoiser")
    assert left_by(tmp_path / "run") == left_by(tmp_path / "whole")


def test_more_signals_during_the_save_do_not_break_it(tmp_path, monkeypatch):
    handlers = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    struck = []

    def striking(path, data):
        for number in (signal.SIGINT, signal.SIGTERM):
            struck.append(number)
            os.kill(os.getpid(), number)
        write(path, data)

    write = atomic.write_atomically
    monkeypatch.setattr(checkpoint, "write_atomically", striking)
    with pytest.raises(Interrupted) as caught:  # the first save, before the first step, is struck already
        run_in(tmp_path, "denoiser")
    assert len(struck) >= 4
    assert (caught.value.code, caught.value.step) == (130, 1)
    assert load_weights(make("denoiser"), tmp_path / "checkpoint.safetensors") == 1
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == handlers


def test_a_signal_in_the_last_step_is_not_lost(tmp_path):
    with pytest.raises(Interrupted) as caught:
        run_in(tmp_path, "denoiser", system=interrupt_at(12, signal.SIGINT))
    assert caught.value.step == 12
    assert run_in(tmp_path, "denoiser").step == 12


def test_the_process_that_holds_a_run_shuts_others_out_until_it_is_killed(start, tmp_path):
    process = start(tmp_path / "run", "denoiser", delay=0.2)
    while not (tmp_path / "run" / "checkpoint.safetensors").exists():
        time.sleep(0.01)
    with pytest.raises(ValueError, match="another process is writing to this run"):
        run_in(tmp_path / "run", "denoiser")
    process.kill()
    finish(process)
    run_in(tmp_path / "run", "denoiser")
    run_in(tmp_path / "whole", "denoiser")
    assert left_by(tmp_path / "run") == left_by(tmp_path / "whole")


# --- a disk that fills up ----------------------------------------------------------------------------------


def test_a_save_that_finds_the_disk_full_keeps_the_one_before(tmp_path, monkeypatch):
    calls, sync = iter(range(1000)), os.fsync

    def full(descriptor):
        if next(calls) >= 8:  # 2 for the config, 2 for step 0, 2 for the logs, 2 for step 5, and then
            raise OSError(28, "No space left on device")
        sync(descriptor)

    monkeypatch.setattr(atomic.os, "fsync", full)
    with pytest.raises((CheckpointError, RunError), match="cannot be written: no space left on device"):
        run_in(tmp_path / "run", "denoiser")
    monkeypatch.undo()
    assert load_weights(make("denoiser"), tmp_path / "run" / "checkpoint.safetensors") >= 0
    run_in(tmp_path / "run", "denoiser")
    run_in(tmp_path / "whole", "denoiser")
    assert left_by(tmp_path / "run") == left_by(tmp_path / "whole")


def test_a_log_that_finds_the_disk_full_stops_the_run_with_one_line(start, tmp_path):
    """The kernel refuses files of more than 4096 bytes: the checkpoint is smaller, the log gets there."""
    settings = {"steps": 300, "log_every": 1, "checkpoint_every": 20}
    code, out = finish(start(tmp_path / "run", "denoiser", limit=4096, **settings))
    assert code == 2
    assert out.startswith(f"{tmp_path}/run/metrics.csv: cannot be written: ")
    assert out.count("\n") == 1
    assert (tmp_path / "run" / "metrics.csv").stat().st_size == 4096
    assert load_weights(make("denoiser"), tmp_path / "run" / "checkpoint.safetensors") > 0
    assert finish(start(tmp_path / "run", "denoiser", **settings)) == (0, "")
    run_in(tmp_path / "whole", "denoiser", replace(CONFIG, **settings))
    assert left_by(tmp_path / "run") == left_by(tmp_path / "whole")
