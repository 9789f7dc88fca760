"""IDX files: what is written is read back, and no damage gives more than one line or more memory."""

import contextlib
import gzip
import os
import struct
import tempfile
import tracemalloc
import zlib
from pathlib import Path

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scratchgen.data import DataError, idx

CODES = {"u1": 0x08, "i1": 0x09, "i2": 0x0B, "i4": 0x0C, "f4": 0x0D, "f8": 0x0E}
SPELLINGS = [(joint, end) for joint in "-." for end in ("", ".gz")]
MEGABYTE = 1 << 20
steady = settings(derandomize=True, deadline=None, database=None)


def header(code, *shape):
    return struct.pack(f">BBBB{len(shape)}I", 0, 0, code, len(shape), *shape)


def encode(array):
    """The bytes of an IDX file, item by item with struct, so that no dtype is shared with the reader."""
    kind = {"u1": "B", "i1": "b", "i2": "h", "i4": "i", "f4": "f", "f8": "d"}[array.dtype.str[1:]]
    return header(CODES[array.dtype.str[1:]], *array.shape) + b"".join(
        struct.pack(">" + kind, item) for item in array.ravel().tolist())


def squeeze(data):
    return gzip.compress(data, mtime=0)


def refused(call, *words, path=None):
    """The message of the DataError that call() must raise: one printable line with the words and the name."""
    with pytest.raises(DataError) as caught:
        call()
    message = str(caught.value)
    assert message.isprintable() and len(message) < 500, message
    for word in (*words, *([str(path)] if path is not None else [])):
        assert word in message, message
    return message


@contextlib.contextmanager
def peak_below(limit):
    tracemalloc.start()
    try:
        yield
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < limit, f"peak of {peak} bytes"


def mnist(folder, *, joint="-", end="", train=7, heldout=3, replace=None):
    """A small MNIST in the folder; replace maps a file's stem to other bytes.  Returns pixels and labels."""
    rng = np.random.Generator(np.random.PCG64(0))
    parts = {}
    for part, n in (("train", train), ("t10k", heldout)):
        parts[f"{part}-images{joint}idx3-ubyte"] = rng.integers(256, size=(n, 28, 28)).astype(np.uint8)
        parts[f"{part}-labels{joint}idx1-ubyte"] = rng.integers(10, size=n).astype(np.uint8)
    for name, array in parts.items():
        data = (replace or {}).get(name, encode(array))
        (folder / f"{name}{end}").write_bytes(squeeze(data) if end else data)
    return list(parts.values())


@st.composite
def arrays(draw):
    kind = draw(st.sampled_from(sorted(CODES)))
    shape = draw(hnp.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=4))
    return draw(hnp.arrays(np.dtype(kind), shape))


@steady
@given(array=arrays(), end=st.sampled_from(["", ".gz"]))
def test_round_trip(array, end):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"array{end}"
        path.write_bytes(squeeze(encode(array)) if end else encode(array))
        back = idx.read(path)
        assert np.array_equal(idx.read(str(path)), back, equal_nan=back.dtype.kind == "f")
    assert back.dtype == array.dtype and back.dtype.isnative and back.shape == array.shape
    assert back.flags.writeable
    np.testing.assert_array_equal(back, array)


def test_bytes_of_a_known_file(tmp_path):
    (tmp_path / "a").write_bytes(bytes.fromhex("00000b02 00000001 00000003 0001 ff00 7fff"))
    back = idx.read(tmp_path / "a")
    assert back.tolist() == [[1, -256, 32767]] and back.dtype == np.int16


GOOD = encode(np.arange(12, dtype=np.int16).reshape(3, 4))
DAMAGED = {
    "empty": (b"", "is empty"),
    "magic": (b"\1" + GOOD[1:], "not an IDX file: it begins with 01 00 0b 02"),
    "type": (b"\0\0\x0a" + GOOD[3:], "not an IDX file"),
    "three bytes": (GOOD[:3], "not an IDX file"),
    "no dimensions": (header(0x08) + b"\0", "0 dimensions"),
    "many dimensions": (header(0x08, *[1] * 33) + b"\0", "33 dimensions"),
    "cut header": (GOOD[:10], "truncated inside its header"),
    "cut": (GOOD[:-1], "truncated"),
    "no items": (GOOD[:12], "truncated"),
    "surplus": (GOOD + b"\0", "too long"),
    "huge": (header(0x08, 1 << 20, 1 << 20), "more than the limit"),
    "product wraps to 0 in 64 bits": (header(0x08, 1 << 31, 1 << 31, 4), "more than the limit"),
    "product wraps to 1 in 64 bits": (header(0x08, 641, 6700417, 4294967295) + b"\0", "more than the limit"),
    "zero hides huge": (header(0x0E, 0, *[(1 << 32) - 1] * 3), "more than the limit"),
    "text": (b"<!DOCTYPE html>", "not an IDX file"),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_damage(tmp_path, case):
    data, words = DAMAGED[case]
    path = tmp_path / "a-idx"
    path.write_bytes(data)
    refused(lambda: idx.read(path), words, path=path)


@pytest.mark.parametrize("case", DAMAGED)
def test_damage_inside_gzip(tmp_path, case):
    data, words = DAMAGED[case]
    words = {"too long": "goes on after", "is empty": "it begins with nothing"}.get(words, words)
    path = tmp_path / "a-idx.gz"
    path.write_bytes(squeeze(data))
    refused(lambda: idx.read(path), words, path=path)


def test_damaged_gzip(tmp_path):
    path, whole = tmp_path / "a.gz", squeeze(GOOD)
    crc = whole[:-8] + bytes([whole[-8] ^ 1]) + whole[-7:]
    length = whole[:-4] + bytes([whole[-4] ^ 1]) + whole[-3:]
    for data, words in ((b"", "is empty"), (GOOD, "not gzip inside"), (b"\x1f", "not gzip inside"),
                        (crc, "CRC"), (length, "damaged gzip"), (whole[:-1], "damaged gzip"),
                        (whole[:14], "damaged gzip"), (whole + b"surplus", "damaged gzip"),
                        (whole + squeeze(b"\0"), "goes on after")):
        path.write_bytes(data)
        refused(lambda: idx.read(path), words, path=path)
    half = len(GOOD) // 2
    path.write_bytes(squeeze(GOOD[:half]) + squeeze(GOOD[half:]))      # two members are one file
    assert idx.read(path).shape == (3, 4)


def test_not_a_file_to_read(tmp_path, monkeypatch):
    refused(lambda: idx.read(tmp_path), "is a folder", path=tmp_path)
    refused(lambda: idx.read(tmp_path / "none"), "no such file", path=tmp_path / "none")
    refused(lambda: idx.read("nul\0in.name"), "nul\\x00in.name")
    refused(lambda: idx.read(tmp_path / "two\nlines\x1b[31m"), "two\\nlines\\x1b[31m")
    os.mkfifo(tmp_path / "pipe")
    refused(lambda: idx.read(tmp_path / "pipe"), "not a regular file", path=tmp_path / "pipe")
    (tmp_path / "zip").write_bytes(squeeze(GOOD))
    refused(lambda: idx.read(tmp_path / "zip"), "must end in .gz", path=tmp_path / "zip")

    def forbidden(*args, **kwargs):                    # a superuser may read what its mode forbids
        raise PermissionError(13, "Permission denied")
    monkeypatch.setattr(Path, "open", forbidden)
    refused(lambda: idx.read(tmp_path / "zip"), "permission denied", path=tmp_path / "zip")


def test_memory_that_is_not_there(tmp_path, monkeypatch):
    (tmp_path / "a").write_bytes(GOOD)

    def full(*args, **kwargs):
        raise MemoryError
    monkeypatch.setattr(np, "empty", full)
    refused(lambda: idx.read(tmp_path / "a"), "no memory for its 24 bytes", path=tmp_path / "a")


def test_max_bytes_is_the_limit_of_the_items(tmp_path):
    (tmp_path / "a").write_bytes(GOOD)
    assert idx.read(tmp_path / "a", max_bytes=24).nbytes == 24
    refused(lambda: idx.read(tmp_path / "a", max_bytes=23), "limit of 23 bytes")


def bomb(path, start, zeros):
    """A gzip of `start` and that many zeros, written without ever holding them."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    with path.open("wb") as out:
        out.write(packer.compress(start))
        for _ in range(zeros // MEGABYTE):
            out.write(packer.compress(bytes(MEGABYTE)))
        out.write(packer.flush())


def test_memory_is_bounded_by_the_header(tmp_path):
    bomb(tmp_path / "bomb.gz", header(0x08, 10, 28, 28), 50 * MEGABYTE)
    with peak_below(2 * MEGABYTE):
        refused(lambda: idx.read(tmp_path / "bomb.gz"), "goes on after the 7840 bytes")
    bomb(tmp_path / "true.gz", header(0x08, 8, MEGABYTE), 8 * MEGABYTE)
    with pytest.raises(AssertionError, match="peak"), peak_below(2 * MEGABYTE):    # the meter does measure
        assert not idx.read(tmp_path / "true.gz").any()
    assert (tmp_path / "true.gz").stat().st_size * idx.DEFLATE_RATIO >= 8 * MEGABYTE


def test_a_promise_allocates_nothing(tmp_path):
    for shape in ((1 << 20, 1 << 20), (1 << 10, 1 << 20), (1 << 9, 1 << 20)):
        for name, data in (("a", header(0x08, *shape)), ("a.gz", squeeze(header(0x08, *shape)))):
            (tmp_path / name).write_bytes(data)
            with peak_below(MEGABYTE):
                refused(lambda path=tmp_path / name: idx.read(path), path=tmp_path / name)


@steady
@given(data=st.data(), end=st.sampled_from(["", ".gz"]))
def test_fuzz(data, end):
    """A file cut anywhere or with any bytes changed is an array or one line, never anything else."""
    whole = squeeze(GOOD) if end else GOOD
    cut = data.draw(st.integers(0, len(whole)))
    damaged = bytearray(whole[:cut] if data.draw(st.booleans()) else whole)
    flips = st.tuples(st.integers(0, max(len(damaged) - 1, 0)), st.integers(1, 255))
    for place, change in data.draw(st.lists(flips, max_size=4)) if damaged else ():
        damaged[place] ^= change
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"a{end}"
        path.write_bytes(damaged)
        try:
            array = idx.read(path, max_bytes=MEGABYTE)
        except DataError as fault:
            assert str(fault).isprintable() and str(path) in str(fault)
        else:
            assert array.dtype.str[1:] in CODES and array.nbytes <= MEGABYTE


def test_every_cut_and_every_flip_of_gzip(tmp_path):
    """Exhaustive where it can be: no cut passes, and no single flipped bit changes the items unseen."""
    whole, path = squeeze(GOOD), tmp_path / "a.gz"
    for cut in range(len(whole)):
        path.write_bytes(whole[:cut])
        refused(lambda: idx.read(path), path=path)
    for place in range(8 * len(whole)):
        damaged = bytearray(whole)
        damaged[place // 8] ^= 1 << place % 8
        path.write_bytes(damaged)
        try:                                           # some bits mean nothing: a date, padding
            assert idx.read(path).tolist() == np.arange(12).reshape(3, 4).tolist()
        except DataError as fault:
            assert str(fault).isprintable()


@pytest.mark.parametrize("joint, end", SPELLINGS)
def test_images(tmp_path, joint, end):
    pixels, labels, held_pixels, held_labels = mnist(tmp_path, joint=joint, end=end)
    ds = idx.images(tmp_path)
    assert (ds.name, ds.levels, ds.shape) == ("mnist", 256, (28, 28, 1))
    for x, k in ((ds.train, pixels), (ds.heldout, held_pixels)):
        assert x.dtype == np.float32 and not x.flags.writeable
        np.testing.assert_array_equal(x[..., 0], (k / 127.5 - 1).astype(np.float32))
    np.testing.assert_array_equal(ds.train_labels, labels)
    np.testing.assert_array_equal(ds.heldout_labels, held_labels)


IMAGES, LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"


@pytest.mark.parametrize("name, array, words", [
    (IMAGES, np.zeros(7, np.uint8), "a file of labels?"),
    (LABELS, np.zeros((7, 28, 28), np.uint8), "a file of images?"),
    (IMAGES, np.zeros((7, 28, 28), np.int16), "this is 3-dimensional int16"),
    (IMAGES, np.zeros((7, 28, 27), np.uint8), "7 x 28 x 27"),
    (IMAGES, np.zeros((0, 28, 28), np.uint8), "0 x 28 x 28"),
    (LABELS, np.zeros(6, np.uint8), "6 labels for the 7 images of train-images-idx3-ubyte"),
    (LABELS, np.array([0, 1, 2, 3, 4, 5, 10], np.uint8), "the label 10"),
    (LABELS, np.array([0, 1, 2, 3, 4, 5, -1], np.int8), "int8"),
])
def test_images_that_do_not_fit(tmp_path, name, array, words):
    mnist(tmp_path, replace={name: encode(array)})
    refused(lambda: idx.images(tmp_path), words, path=tmp_path / name)


def test_images_from_a_wrong_folder(tmp_path, monkeypatch):
    refused(lambda: idx.images(tmp_path / "none"), "no such file", path=tmp_path / "none")
    refused(lambda: idx.images(tmp_path), "holds no train-images-idx3-ubyte", path=tmp_path)
    mnist(tmp_path)
    refused(lambda: idx.images(tmp_path / LABELS), "is a file", path=tmp_path / LABELS)
    (tmp_path / "t10k-labels-idx1-ubyte").unlink()
    refused(lambda: idx.images(tmp_path), "holds no t10k-labels-idx1-ubyte", path=tmp_path)
    (tmp_path / IMAGES).unlink()
    (tmp_path / IMAGES).mkdir()
    refused(lambda: idx.images(tmp_path), "is a folder", path=tmp_path / IMAGES)

    def forbidden(*args):
        raise PermissionError(13, "Permission denied")
    monkeypatch.setattr(os, "listdir", forbidden)
    refused(lambda: idx.images(tmp_path), "permission denied", path=tmp_path)
