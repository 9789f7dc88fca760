"""The bundled digits: counts, split, levels."""

import gzip
import importlib.util
from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.datasets import load_digits

from scratchgen.data import DataError, digits, quantise

PER_CLASS = [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]      # printed in the data set's description
HELD_PER_CLASS = [36, 36, 36, 36, 37, 36, 36, 36, 35, 36]


@pytest.fixture(scope="module")
def ds():
    return digits()


def test_shapes_range_and_levels(ds):
    assert ds.train.shape == (1437, 8, 8, 1) and ds.heldout.shape == (360, 8, 8, 1)
    assert ds.train.dtype == ds.heldout.dtype == np.float32 and ds.train_labels.dtype == np.int64
    assert ds.levels == 17
    np.testing.assert_array_equal(np.unique(ds.train), np.arange(17) / 8 - 1)
    np.testing.assert_array_equal(np.unique(ds.heldout), np.arange(17) / 8 - 1)


def test_classes(ds):
    held = np.bincount(ds.heldout_labels, minlength=10)
    assert held.tolist() == HELD_PER_CLASS
    assert (held + np.bincount(ds.train_labels, minlength=10)).tolist() == PER_CLASS


def test_the_split_is_a_partition_of_the_source(ds):
    """Every source picture with its label is in exactly one part, and no picture's twin is in the other."""
    pixels, labels = load_digits(return_X_y=True)
    source = sorted((int(c), *row) for c, row in zip(labels, pixels.astype(int).tolist(), strict=True))
    parts = [[(int(c), *row) for c, row in zip(y, quantise(x, 17).reshape(-1, 64).tolist(), strict=True)]
             for x, y in ((ds.train, ds.train_labels), (ds.heldout, ds.heldout_labels))]
    assert sorted(parts[0] + parts[1]) == source
    assert not set(parts[0]) & set(parts[1])


def test_the_split_is_the_stated_rule(ds):
    """Class by class with plain counting: every fifth, counted on through the classes."""
    pixels, labels = load_digits(return_X_y=True)
    place, held = 0, []
    for c in range(10):
        for i, label in enumerate(labels.tolist()):
            if label == c:
                if place % 5 == 0:
                    held.append(i)
                place += 1
    np.testing.assert_array_equal(ds.heldout.reshape(-1, 64), pixels[sorted(held)] / 8 - 1)
    share = np.histogram(held, bins=np.linspace(0, 1797, 14))[0]       # thirteen writers, one after another
    assert share.min() >= 26 and share.max() <= 30


def test_read_only_and_repeatable(ds):
    with pytest.raises(ValueError, match="read-only"):
        ds.train[0] = 0
    again = digits()
    assert again.train.tobytes() == ds.train.tobytes()
    assert again.heldout_labels.tobytes() == ds.heldout_labels.tobytes()


def test_without_scikit_learn(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DataError, match="scikit-learn"):
        digits()


def test_a_damaged_bundled_file(monkeypatch, tmp_path):
    origin = tmp_path / "__init__.py"
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: SimpleNamespace(origin=str(origin)))
    file = tmp_path / "datasets" / "data" / "digits.csv.gz"
    with pytest.raises(DataError, match="digits.csv.gz"):
        digits()
    file.parent.mkdir(parents=True)
    for content in (b"not gzip", gzip.compress(b"1,2,3\n"), gzip.compress(b"a,b\n"), gzip.compress(b"1\n" * 9)[:-4]):
        file.write_bytes(content)
        with pytest.raises(DataError, match="digits.csv.gz"):
            digits()
