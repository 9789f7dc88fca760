"""CIFAR-10's binary files, with few records in each."""

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scratchgen.data import DataError, cifar

FILES = [f"data_batch_{i}.bin" for i in range(1, 6)] + ["test_batch.bin"]
steady = settings(derandomize=True, deadline=None, database=None, max_examples=30)


def write(folder, records=3):
    """Six files built byte by byte; returns the labels and the pixels (6·records, 32, 32, 3)."""
    folder.mkdir(exist_ok=True)
    rng = np.random.Generator(np.random.PCG64(0))
    pixels = rng.integers(256, size=(6 * records, 32, 32, 3))
    labels = rng.integers(10, size=6 * records)
    for i, name in enumerate(FILES):
        data = bytearray()
        for image, label in zip(pixels[i * records:][:records], labels[i * records:][:records], strict=True):
            data.append(label)
            for channel in range(3):
                for row in range(32):
                    data.extend(image[row, column, channel] for column in range(32))
        (folder / name).write_bytes(data)
    return labels, pixels


def refused(call, *words):
    with pytest.raises(DataError) as caught:
        call()
    assert str(caught.value).isprintable()
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize("inner", ["", "cifar-10-batches-bin"])
def test_read(tmp_path, inner):
    labels, pixels = write(tmp_path / inner)
    ds = cifar.read(tmp_path, records=3)
    assert (ds.name, ds.levels, ds.shape) == ("cifar10", 256, (32, 32, 3))
    assert ds.train.dtype == np.float32 and not ds.train.flags.writeable
    x = np.concatenate([ds.train, ds.heldout])
    np.testing.assert_array_equal(x, (pixels / 127.5 - 1).astype(np.float32))
    np.testing.assert_array_equal(np.concatenate([ds.train_labels, ds.heldout_labels]), labels)
    assert len(ds.train) == 15 and ds.train_labels.dtype == np.int64


def test_planes_are_red_green_blue(tmp_path):
    write(tmp_path, records=1)
    (tmp_path / FILES[5]).write_bytes(bytes([4]) + bytes([255]) * 1024 + bytes(2048))
    red = cifar.read(tmp_path, records=1).heldout[0]
    assert (red[..., 0] == 1).all() and (red[..., 1:] == -1).all()


@pytest.mark.parametrize("name", [FILES[0], FILES[4], FILES[5]])
def test_damage(tmp_path, name):
    write(tmp_path)
    path = tmp_path / name
    whole = path.read_bytes()
    for data, words in ((b"", "is empty"), (whole[:-1], "truncated"), (whole[:-3073], "truncated"),
                        (whole + b"\0", "too long"), (whole + bytes(3073), "too long"),
                        (b"\x0a" + whole[1:], "the label 10"), (whole[1:] + b"\0", "the label")):
        path.write_bytes(data)
        refused(lambda: cifar.read(tmp_path, records=3), words, str(path))
    path.unlink()
    refused(lambda: cifar.read(tmp_path, records=3), f"holds no {name}", str(tmp_path))
    path.with_suffix("").touch()
    refused(lambda: cifar.read(tmp_path, records=3), "this is the Python version")
    path.mkdir()
    refused(lambda: cifar.read(tmp_path, records=3), "is a folder", str(path))


def test_wrong_folder_and_permission(tmp_path, monkeypatch):
    refused(lambda: cifar.read(tmp_path / "none"), "no such file", "none")
    write(tmp_path)
    refused(lambda: cifar.read(tmp_path / FILES[0]), "is a file", FILES[0])
    refused(lambda: cifar.read(tmp_path), "truncated", "10000 records of 3073")

    def forbidden(*args, **kwargs):
        raise PermissionError(13, "Permission denied")
    monkeypatch.setattr(Path, "open", forbidden)
    refused(lambda: cifar.read(tmp_path, records=3), "permission denied", FILES[0])


@steady
@given(name=st.sampled_from(FILES), cut=st.integers(0, 3072), change=st.integers(1, 255), whole=st.booleans())
def test_fuzz(name, cut, change, whole):
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder), records=1)
        data = bytearray((Path(folder) / name).read_bytes())
        data[cut] ^= change
        (Path(folder) / name).write_bytes(data if whole else data[:cut])
        try:
            ds = cifar.read(folder, records=1)
        except DataError as fault:
            assert str(fault).isprintable() and name in str(fault)
        else:
            assert whole and np.abs(ds.train).max() <= 1 and ds.train_labels.max() <= 9
