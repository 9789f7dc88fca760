"""The log: rows after the checkpoint go, torn lines go, damage is named."""

import os
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scratchgen.train.metrics_log import MetricsLog, read
from scratchgen.train.run import RunError


def write(path: Path, steps, keep: int = 0) -> bytes:
    log = MetricsLog(path, ["loss", "kl"], keep)
    for step in steps:
        log.append(step, [1 / step, np.float32(step) / 3])
    log.sync()
    log.close()
    return path.read_bytes()


def test_rows_come_back(tmp_path):
    text = write(tmp_path / "m.csv", [10, 20])
    assert text == b"step,loss,kl\n10,0.1,3.33333325\n20,0.05,6.66666651\n"
    columns = read(tmp_path / "m.csv")
    assert list(columns) == ["step", "loss", "kl"]
    assert columns["step"].dtype == np.int64
    assert columns["step"].tolist() == [10, 20]
    assert np.array_equal(columns["loss"], [0.1, 0.05])


def test_rows_are_there_at_once(tmp_path):
    log = MetricsLog(tmp_path / "m.csv", ["loss"], 0)
    log.append(1, [2.0])
    assert read(tmp_path / "m.csv")["loss"].tolist() == [2.0]
    log.close()


def test_a_log_without_rows(tmp_path):
    write(tmp_path / "m.csv", [])
    columns = read(tmp_path / "m.csv")
    assert list(columns) == ["step", "loss", "kl"]
    assert all(column.shape == (0,) for column in columns.values())


@settings(deadline=None)
@given(n=st.integers(0, 6), keep=st.integers(0, 70), cut=st.integers(0, 30))
def test_a_killed_and_continued_log_is_the_uninterrupted_one(tmp_path_factory, n, keep, cut):
    """Rows 10 … 10n are written, the last bytes torn off, as many as came after the checkpoint."""
    folder = tmp_path_factory.mktemp("log")
    whole = write(folder / "whole.csv", range(10, 71, 10))
    text = write(folder / "m.csv", range(10, 10 * n + 1, 10))
    kept = write(folder / "kept.csv", [s for s in range(10, 10 * n + 1, 10) if s <= keep])
    (folder / "m.csv").write_bytes(text[: max(len(text) - cut, len(kept) if keep >= 10 and n else 0)])
    step = min(keep, 10 * n)
    assert write(folder / "m.csv", range(step // 10 * 10 + 10, 71, 10), keep=step) == whole


def test_the_last_kept_row(tmp_path):
    write(tmp_path / "m.csv", [1, 2, 4])
    log = MetricsLog(tmp_path / "m.csv", ["loss", "kl"], keep=2)
    log.close()
    assert log.last[:2] == [2.0, 0.5]


@pytest.mark.parametrize(("content", "why"), [
    (b"step,loss,kl\n1,2,3\n1,2,3\n", "line 3 is damaged"), (b"step,loss,kl\n1,2\n", "line 2 is damaged"),
    (b"step,loss,kl\nx,2,3\n", "line 2 is damaged"), (b"step,loss,kl\n1,2,3\n\n", "line 3 is damaged"),
    (b"step,loss,kl\n1,\xff,3\n", "is damaged at byte 15"), (b"time,loss\n", "is not a log"),
    (b"step,loss\n", "its columns are step,loss, not step,loss,kl"),
])
def test_damage_is_named_and_left_alone(tmp_path, content, why):
    path = tmp_path / "m.csv"
    path.write_bytes(content)
    with pytest.raises(RunError, match=why) as caught:
        MetricsLog(path, ["loss", "kl"], 5)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)
    assert path.read_bytes() == content


def test_reading_what_is_not_there(tmp_path):
    with pytest.raises(RunError, match=r"m\.csv: cannot be read: no such file or directory"):
        read(tmp_path / "m.csv")
    (tmp_path / "m.csv").touch()
    with pytest.raises(RunError, match=r"m\.csv: is empty"):
        read(tmp_path / "m.csv")


def test_a_folder_in_its_place(tmp_path):
    (tmp_path / "m.csv").mkdir()
    with pytest.raises(RunError, match=r"m\.csv: cannot be read: is a directory"):
        MetricsLog(tmp_path / "m.csv", ["loss"], 0)


def _fill(folder: str) -> None:
    """In a process of its own: the kernel refuses to write more than 100 bytes to a file."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
    log = MetricsLog(Path(folder) / "m.csv", ["loss"], 0)
    try:
        for step in range(1, 100):
            log.append(step, [0.125])
    except RunError as error:
        print(error)


def test_a_full_disk_is_one_line_and_its_torn_row_is_dropped(tmp_path):
    code = ("import sys; sys.path.insert(0, sys.argv[1]); "
            "import test_train_metrics_log as t; t._fill(sys.argv[2])")
    here = Path(__file__)
    done = subprocess.run([sys.executable, "-c", code, str(here.parent), str(tmp_path)], check=True,
                          cwd=here.parents[2], capture_output=True, text=True)
    assert done.stdout.startswith(f"{tmp_path}/m.csv: cannot be written: ")
    assert done.stdout.count("\n") == 1
    assert os.stat(tmp_path / "m.csv").st_size == 100
    assert set(read(tmp_path / "m.csv")["loss"]) == {0.125}
