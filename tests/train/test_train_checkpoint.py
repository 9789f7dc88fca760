"""Checkpoints: what is saved comes back, and nothing else ever does."""

import json
import os
import pickle
import resource
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save as foreign_save

from scratchgen.train import atomic, checkpoint
from scratchgen.train.checkpoint import CheckpointError, load, save

ARRAYS = {
    "w": np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 4),
    "double": np.array([np.pi, -0.0, np.inf, np.nan]),
    "step": np.array(7, dtype=np.int64),
    "empty": np.zeros((0, 3), np.float32),
    "mask": np.array([True, False]),
}
META = {"step": 7, "rng": {"state": 2**127 + 1}, "name": "ε", "sha256": "0" * 64, "list": [1.5, None]}


def saved(folder: Path) -> Path:
    save(folder / "c.safetensors", ARRAYS, META)
    return folder / "c.safetensors"


def refused(path: Path) -> str:
    """The message of the error, which is one line and names the file."""
    with pytest.raises(CheckpointError) as caught:
        load(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    return message


def test_arrays_and_record_come_back_exactly(tmp_path):
    arrays, meta = load(saved(tmp_path))
    assert meta == META
    assert sorted(arrays) == sorted(ARRAYS)
    for name, array in ARRAYS.items():
        assert arrays[name].dtype == array.dtype
        assert arrays[name].shape == array.shape
        assert arrays[name].tobytes() == array.tobytes()
        arrays[name][...] = 0  # they are the caller's own


def test_views_are_saved_by_value(tmp_path):
    base = np.arange(24.0).reshape(4, 6)
    views = {"strided": base[::2, ::-3], "transposed": base.T, "fortran": np.asfortranarray(base),
             "big_endian": base.astype(">f8"), "broadcast": np.broadcast_to(np.float32(3), (2, 2))}
    save(tmp_path / "c", views, {})
    arrays, _ = load(tmp_path / "c")
    for name, view in views.items():
        assert np.array_equal(arrays[name], view)


def test_the_same_content_gives_the_same_bytes_in_another_process(tmp_path):
    code = ("import sys; sys.path.insert(0, sys.argv[1]); import test_train_checkpoint as t; "
            "t.save(sys.argv[2], dict(reversed(t.ARRAYS.items())), t.META)")
    here = Path(__file__)
    subprocess.run([sys.executable, "-c", code, str(here.parent), str(tmp_path / "other")], check=True,
                   cwd=here.parents[2])
    assert saved(tmp_path).read_bytes() == (tmp_path / "other").read_bytes()


def test_no_arrays_and_no_record(tmp_path):
    save(tmp_path / "c", {}, {})
    assert load(tmp_path / "c") == ({}, {})


@pytest.mark.parametrize(("arrays", "meta"), [
    ({"x": np.array(["text"])}, {}),
    ({"x": np.array([object()], dtype=object)}, {}),
    ({"x": np.zeros(1, np.complex128)}, {}),
    ({}, {"x": np.zeros(2)}),
    ({}, {"x": float("nan")}),
])
def test_what_cannot_be_said_exactly_is_refused(tmp_path, arrays, meta):
    path = saved(tmp_path)
    with pytest.raises((TypeError, ValueError)):
        save(path, arrays, meta)
    assert load(path)[1] == META
    assert os.listdir(tmp_path) == [path.name]


# --- damage ------------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(data=st.data())
def test_any_changed_byte_is_found(tmp_path_factory, data):
    path = saved(tmp_path_factory.getbasetemp())
    good = path.read_bytes()
    places = data.draw(st.lists(st.integers(0, len(good) - 1), min_size=1, max_size=4, unique=True))
    bad = bytearray(good)
    for place in places:
        bad[place] ^= data.draw(st.integers(1, 255))
    path.write_bytes(bad)
    refused(path)


def test_every_single_bit_of_the_header_and_of_a_tensor_counts(tmp_path):
    path = saved(tmp_path)
    good = path.read_bytes()
    for place in range(len(good)):
        bad = bytearray(good)
        bad[place] ^= 1 << (place % 8)
        path.write_bytes(bad)
        refused(path)


def test_blanks_that_leave_the_header_s_meaning_alone_are_found_too(tmp_path):
    for width in range(1, 9):  # until the header needs padding
        save(tmp_path / "c", {"x" * width: np.zeros(1)}, {})
        good = (tmp_path / "c").read_bytes()
        end = 8 + int.from_bytes(good[:8], "little")
        if good[end - 1: end] == b" ":
            break
    (tmp_path / "c").write_bytes(good[: end - 1] + b"\t" + good[end:])
    assert "digest" in refused(tmp_path / "c")


def test_a_file_cut_anywhere_is_refused(tmp_path):
    path = saved(tmp_path)
    good = path.read_bytes()
    for length in range(len(good)):
        path.write_bytes(good[:length])
        refused(path)


def test_anything_appended_is_refused(tmp_path):
    path = saved(tmp_path)
    path.write_bytes(path.read_bytes() + b"\0")
    assert "digest" in refused(path)


def test_swapped_tensors_are_refused(tmp_path):
    one, other = {"a": np.zeros(4), "b": np.ones(4)}, {"a": np.ones(4), "b": np.zeros(4)}
    save(tmp_path / "one", one, {})
    save(tmp_path / "other", other, {})
    body = (tmp_path / "other").read_bytes()[-64:]
    (tmp_path / "one").write_bytes((tmp_path / "one").read_bytes()[:-64] + body)
    assert "digest" in refused(tmp_path / "one")


def foreign_files() -> dict[str, bytes]:
    deep = b"[" * 200_000
    return {
        "nothing": b"",
        "text": b"hello, this is a text file and no checkpoint at all\n",
        "pickle": pickle.dumps({"w": np.zeros(3)}),
        "zip": b"PK\x03\x04" + bytes(200),
        "safetensors without our entry": foreign_save({"w": np.zeros(3)}),
        "safetensors with another's entry": foreign_save({"w": np.zeros(3)}, {"format": "pt"}),
        "safetensors with our entry, not JSON": foreign_save({}, {"scratchgen": "{"}),
        "safetensors with our entry, a list": foreign_save({}, {"scratchgen": "[]"}),
        "safetensors with an empty record": foreign_save({}, {"scratchgen": "{}"}),
        "a record of the wrong types": foreign_save(
            {}, {"scratchgen": '{"sha256":"\\ud800","version":1,"meta":{}}'}),
        "a header that nests without end": len(deep).to_bytes(8, "little") + deep,
    }


@pytest.mark.parametrize("kind", foreign_files())
def test_foreign_files_are_refused(tmp_path, kind):
    path = tmp_path / "foreign"
    path.write_bytes(foreign_files()[kind])
    refused(path)


def test_a_malformed_body_under_a_true_digest_is_refused(tmp_path):
    path = saved(tmp_path)
    data = path.read_bytes()[:-1]  # the tensors no longer fill what the header says
    start = data.index(checkpoint.MARK) + len(checkpoint.MARK)
    digest = checkpoint._digest(data, start).encode()
    path.write_bytes(data[:start] + digest + data[start + 64:])
    assert "not a valid safetensors file" in refused(path)


def test_a_newer_format_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "VERSION", 2)
    path = saved(tmp_path)
    monkeypatch.undo()
    assert "format 2" in refused(path)
    assert "format 1" in refused(path)


def test_missing_files_folders_and_pipes(tmp_path):
    assert "no such file" in refused(tmp_path / "none")
    assert "is not a file" in refused(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    assert "is not a file" in refused(tmp_path / "pipe")


def test_a_huge_foreign_file_is_not_read(tmp_path):
    path = tmp_path / "huge"
    with path.open("wb") as f:
        f.write((1000).to_bytes(8, "little"))
        f.truncate(1 << 40)  # a terabyte of nothing; a sparse file
    refused(path)
    with path.open("r+b") as f:
        f.write((1 << 39).to_bytes(8, "little"))
    refused(path)


# --- writing -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", ["write", "fsync", "replace"])
def test_a_failure_at_any_step_keeps_the_old_file(tmp_path, monkeypatch, step):
    path = saved(tmp_path)

    def fail(*_):
        raise OSError(28, "No space left on device")

    class Full:
        def __init__(self, file, mode):
            self.file = open(file, mode)  # noqa: SIM115

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self.file.close()

        write = staticmethod(fail)

    target = {"write": ("fdopen", Full), "fsync": ("fsync", fail), "replace": ("replace", fail)}[step]
    monkeypatch.setattr(atomic.os, *target)
    with pytest.raises(CheckpointError, match=r"c\.safetensors: cannot be written: no space left on device"):
        save(path, {}, {"step": 8})
    monkeypatch.undo()
    assert load(path)[1] == META
    assert os.listdir(tmp_path) == [path.name]


def test_a_loss_of_power_finds_bytes_before_names(tmp_path, monkeypatch):
    """The file's bytes reach the disk, then its new name is given, then that name reaches the disk."""
    order = []
    sync, replace = os.fsync, os.replace

    def syncing(file):
        order.append("folder" if stat.S_ISDIR(os.fstat(file).st_mode) else "file")
        sync(file)

    def replacing(old, new):
        order.append("name")
        replace(old, new)

    monkeypatch.setattr(atomic.os, "fsync", syncing)
    monkeypatch.setattr(atomic.os, "replace", replacing)
    saved(tmp_path)
    assert order == ["file", "name", "folder"]


def test_an_interrupt_in_the_middle_leaves_no_temporary(tmp_path, monkeypatch):
    path = saved(tmp_path)

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(atomic.os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        save(path, {}, {})
    assert os.listdir(tmp_path) == [path.name]


def _write_under_a_limit(folder: str) -> None:
    """In a process of its own: the kernel itself refuses to write more than 4096 bytes to a file."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
    try:
        save(Path(folder) / "c.safetensors", {"w": np.zeros(100_000)}, {})
    except CheckpointError as error:
        print(error)


def test_a_disk_that_is_really_full(tmp_path):
    path = saved(tmp_path)
    code = ("import sys; sys.path.insert(0, sys.argv[1]); "
            "import test_train_checkpoint as t; t._write_under_a_limit(sys.argv[2])")
    here = Path(__file__)
    done = subprocess.run([sys.executable, "-c", code, str(here.parent), str(tmp_path)], check=True,
                          cwd=here.parents[2], capture_output=True, text=True)
    assert done.stdout == f"{path}: cannot be written: file too large\n"
    assert load(path)[1] == META
    assert os.listdir(tmp_path) == [path.name]


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(CheckpointError, match="none/c: cannot be written: no such file or directory"):
        save(tmp_path / "none" / "c", {}, {})


def test_the_file_has_the_permissions_of_any_other(tmp_path):
    old = os.umask(0o027)
    try:
        assert saved(tmp_path).stat().st_mode & 0o777 == 0o640
    finally:
        os.umask(old)


def test_the_record_is_readable_in_the_file(tmp_path):
    data = saved(tmp_path).read_bytes()
    header = json.loads(data[8: 8 + int.from_bytes(data[:8], "little")])
    record = json.loads(header["__metadata__"]["scratchgen"])
    assert record["version"] == 1
    assert record["meta"] == META
    assert len(record["sha256"]) == 64
