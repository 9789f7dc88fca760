"""The run folder: made once, read by anyone, written by one."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from scratchgen.train.atomic import write_atomically
from scratchgen.train.config import TrainConfig
from scratchgen.train.run import RunConfig, RunError, RunFolder

CONFIG = RunConfig(system="ddpm", model={"width": 8, "levels": [1, 2]}, train=TrainConfig(steps=5),
                   dataset="digits")


def message(function, *arguments) -> str:
    with pytest.raises(RunError) as caught:
        function(*arguments)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2
    return str(caught.value)


def test_create_then_open(tmp_path):
    made = RunFolder.create(tmp_path / "deep" / "run", CONFIG)
    found = RunFolder.open(str(made.path))
    assert found.config == CONFIG
    assert found.path == made.path
    assert {"python", "numpy", "safetensors"} <= set(found.config.versions)
    assert sorted(os.listdir(made.path)) == [".lock", "config.json", "pictures"]


def test_the_config_is_readable(tmp_path):
    text = (RunFolder.create(tmp_path / "run", CONFIG).path / "config.json").read_text()
    assert text.startswith('{\n  "system": "ddpm",\n')
    assert '\n    "steps": 5,\n' in text
    assert text.endswith("}\n")


def test_an_empty_folder_is_taken(tmp_path):
    RunFolder.create(tmp_path, CONFIG)


def test_a_folder_with_anything_in_it_is_refused_and_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    text = message(RunFolder.create, tmp_path, CONFIG)
    assert text.startswith(f"{tmp_path}: the folder is not empty")
    assert (tmp_path / "thesis.tex").read_text() == "years of work"
    assert not (tmp_path / "config.json").exists()


def test_a_run_is_not_overwritten(tmp_path):
    RunFolder.create(tmp_path, CONFIG)
    assert "not empty" in message(RunFolder.create, tmp_path, CONFIG)


def test_what_a_killed_create_left_counts_as_empty(tmp_path):
    (tmp_path / ".lock").touch()
    (tmp_path / ".config.json.0123abcd.tmp").write_text("half")
    RunFolder.create(tmp_path, CONFIG)
    assert sorted(os.listdir(tmp_path)) == [".lock", "config.json", "pictures"]


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "file").touch()
    assert "exists and is not a folder" in message(RunFolder.create, tmp_path / "file", CONFIG)
    assert "cannot be made" in message(RunFolder.create, tmp_path / "file" / "run", CONFIG)
    assert "is not a folder" in message(RunFolder.open, tmp_path / "file")


@pytest.mark.parametrize(("content", "why"), [
    (b"", "is damaged"), (b"{", "is damaged"), (b"[]", "is damaged: RunConfig is not a JSON object"),
    (b"\xff\xfe\x00", "is damaged"), (b"{}", "is damaged: RunConfig lacks the field 'system'"),
    (b"[" * 100_000, "is damaged"), (b'{"format": 2}', "has format 2; this scratchgen reads format 1"),
    (b'{"system": "x", "model": {}, "train": {"steps": "many"}, "dataset": "d"}', "must be of type int"),
])
def test_a_damaged_config_is_named(tmp_path, content, why):
    (tmp_path / "config.json").write_bytes(content)
    text = message(RunFolder.open, tmp_path)
    assert text.startswith(f"{tmp_path}/config.json: ")
    assert why in text


def test_folders_that_are_no_runs(tmp_path):
    assert message(RunFolder.open, tmp_path / "none") == f"{tmp_path}/none: there is no such folder"
    assert message(RunFolder.open, tmp_path) == f"{tmp_path}: is not a run folder (it has no config.json)"
    (tmp_path / "config.json").mkdir()
    assert "config.json: cannot be read: is a directory" in message(RunFolder.open, tmp_path)


# --- the lock ----------------------------------------------------------------------------------------------


def hold(path: str) -> None:
    """In a process of its own: hold the lock until killed."""
    with RunFolder.open(path).lock():
        print("held", flush=True)
        signal.pause()


@pytest.fixture
def holder(tmp_path):
    """A run folder that another process holds, and that process."""
    path = RunFolder.create(tmp_path / "run", CONFIG).path
    code = "import sys; sys.path.insert(0, sys.argv[1]); import test_train_folder as t; t.hold(sys.argv[2])"
    here = Path(__file__)
    process = subprocess.Popen([sys.executable, "-c", code, str(here.parent), str(path)], text=True,
                               cwd=here.parents[2], stdout=subprocess.PIPE)
    assert process.stdout.readline() == "held\n"
    yield path, process
    process.kill()
    process.wait()
    process.stdout.close()


def test_a_second_writer_is_refused_until_the_first_is_killed(holder):
    path, process = holder
    run = RunFolder.open(path)  # reading is free
    assert message(run.lock().__enter__) == f"{path}: another process is writing to this run"
    process.kill()
    process.wait()
    with run.lock():
        pass


def test_a_writer_s_temporaries_are_left_alone_by_readers_and_swept_by_the_next_writer(holder):
    path, process = holder
    stale = path / ".checkpoint.safetensors.00000000.tmp"
    stale.touch()
    run = RunFolder.open(path)
    message(run.lock().__enter__)
    assert stale.exists()
    process.kill()
    process.wait()
    with run.lock():
        assert not stale.exists()
    assert (path / "config.json").exists()
    assert (path / ".lock").exists()


def test_the_lock_nests_and_is_exclusive_within_a_process(tmp_path):
    run = RunFolder.create(tmp_path, CONFIG)
    other = RunFolder.open(tmp_path)
    with run.lock():
        with run.lock():
            message(other.lock().__enter__)
        message(other.lock().__enter__)
    with other.lock():
        message(run.lock().__enter__)


def test_the_lock_is_released_by_an_error(tmp_path):
    run = RunFolder.create(tmp_path, CONFIG)
    with pytest.raises(ZeroDivisionError), run.lock():
        raise ZeroDivisionError
    with RunFolder.open(tmp_path).lock():
        pass


def test_two_creators_at_once_make_one_run(tmp_path):
    made, refused = [], []

    def create():
        try:
            made.append(RunFolder.create(tmp_path / "run", CONFIG))
        except RunError as error:
            refused.append(error)

    threads = [threading.Thread(target=create) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1
    assert len(refused) == 7


def test_a_rewritten_config(tmp_path):
    run = RunFolder.create(tmp_path, CONFIG)
    longer = RunConfig("ddpm", {}, TrainConfig(steps=50), "digits")
    run.write_config(longer)
    assert RunFolder.open(tmp_path).config == longer == run.config


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is read-only to root")
def test_a_read_only_folder(tmp_path):
    run = RunFolder.create(tmp_path / "run", CONFIG)
    (run.path / ".lock").unlink()
    run.path.chmod(0o500)
    try:
        assert "cannot be written to: permission denied" in message(run.lock().__enter__)
        assert "cannot be written: permission denied" in message(run.write_config, CONFIG)
    finally:
        run.path.chmod(0o700)


def test_an_atomic_write_replaces_and_creates(tmp_path):
    write_atomically(tmp_path / "f", b"one")
    write_atomically(tmp_path / "f", b"two")
    assert (tmp_path / "f").read_bytes() == b"two"
    assert os.listdir(tmp_path) == ["f"]
