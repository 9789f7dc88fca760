"""Dataset, the grey levels, and load()."""

import dataclasses

import numpy as np
import pytest

from scratchgen import data
from scratchgen.data import DataError, Dataset, dequantise, quantise, to_images


def zeros(*shape):
    return np.zeros(shape, np.float32)


def test_frozen_and_read_only():
    labels = np.zeros(3, np.int64)
    ds = Dataset("a", zeros(3, 2), zeros(1, 2), labels, labels[:1], 17)
    with pytest.raises(dataclasses.FrozenInstanceError):
        ds.name = "b"
    for array in (ds.train, ds.heldout, ds.train_labels, ds.heldout_labels):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1
    assert ds.shape == (2,) and labels.flags.writeable


@pytest.mark.parametrize("arguments, words", [
    ((zeros(3, 2).astype(float), zeros(1, 2)), "float32"),
    ((zeros(3, 2), zeros(1, 3)), "differ in shape"),
    ((zeros(3), zeros(1)), "differ in shape"),
    ((zeros(3, 2), zeros(1, 2), np.zeros(2, np.int64)), "train labels"),
    ((zeros(3, 2), zeros(1, 2), None, np.zeros(1, np.int32)), "heldout labels"),
])
def test_parts_that_do_not_fit(arguments, words):
    with pytest.raises(DataError, match=words):
        Dataset("a", *arguments)


def test_a_message_is_one_line():
    message = str(DataError("a\nb\r\u2028c\x1b[2J\udc80 ᾱ é"))
    assert message == "a\\nb\\r\\u2028c\\x1b[2J\\udc80 ᾱ é" and len(message.splitlines()) == 1
    assert issubclass(DataError, ValueError)


@pytest.mark.parametrize("levels", [2, 17, 256])
def test_levels(levels):
    k = np.arange(levels)
    x = dequantise(k, levels)
    assert x.dtype == np.float32 and x[0] == -1 and x[-1] == 1
    np.testing.assert_allclose(np.diff(x.astype(float)), 2 / (levels - 1), rtol=0, atol=1.2e-7)
    np.testing.assert_array_equal(quantise(x, levels), k)
    inside = 0.49 * 2 / (levels - 1)
    np.testing.assert_array_equal(quantise(x + inside, levels), k)
    np.testing.assert_array_equal(quantise(x - inside, levels), k)
    assert (quantise(np.array([-9.0, 9.0, -np.inf, np.inf]), levels) == [0, levels - 1] * 2).all()
    with pytest.raises(DataError, match="NaN"):
        quantise(np.array([np.nan]), levels)


def test_to_images():
    assert to_images(np.array([-2, -1, 0, 1, 2], np.float32)).tolist() == [0, 0, 0.5, 1, 1]
    assert to_images(zeros(2, 2)).dtype == np.float32


@pytest.mark.parametrize("name", ["digits", "topics", *data.toys.TOYS])
def test_load_what_comes_along(name):
    ds = data.load(name)
    assert ds.name == name and np.isfinite(ds.train).all()
    with pytest.raises(DataError, match="takes no folder"):
        data.load(name, "somewhere")


@pytest.mark.parametrize("name", ["mnist", "idx", "cifar10"])
def test_load_from_a_folder(name, tmp_path, monkeypatch):
    with pytest.raises(DataError, match="name the folder"):
        data.load(name)
    with pytest.raises(DataError, match="holds no"):
        data.load(name, tmp_path)
    monkeypatch.setitem(data.READERS, name, lambda folder: (name, folder))
    assert data.load(name, tmp_path) == (name, tmp_path)


@pytest.mark.parametrize("name, near", [("digts", "digits"), ("Moons", "moons"), ("cifar-10", "cifar10"),
                                        ("MNIST", "mnist"), ("eight_gausians", "eight_gaussians")])
def test_unknown_name(name, near):
    with pytest.raises(DataError, match=f"did you mean '{near}'"):
        data.load(name)
    with pytest.raises(DataError, match="there are digits, moons"):
        data.load("zzz\n")


def test_black_and_white():
    """A pixel is 1 above the middle grey, and the middle grey itself is black; labels stay."""
    ds = data.binarised(data.digits())
    assert ds.levels == 2 and ds.train_labels is not None
    for mine, grey in ((ds.train, data.digits().train), (ds.heldout, data.digits().heldout)):
        assert mine.dtype == np.float32
        assert np.array_equal(mine == 1, quantise(grey, 17) > 8)
        assert np.array_equal(mine == -1, quantise(grey, 17) <= 8)
    with pytest.raises(DataError, match="are no images"):
        data.binarised(data.load("moons"))
