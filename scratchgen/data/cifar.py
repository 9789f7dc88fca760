"""CIFAR-10 in its binary version.

A. Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009.

Six files, each a row of records of 3,073 bytes and nothing else:

    byte 0           the class, 0 … 9
    byte 1 … 3072    the red plane, the green plane, the blue plane, each 32 rows of 32
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from scratchgen.data.dataset import DataError, Dataset, dequantise
from scratchgen.data.files import Name, fill, names, opened

INNER = "cifar-10-batches-bin"                   # the folder that the published archive unpacks to
TRAIN = tuple(f"data_batch_{i}.bin" for i in range(1, 6))
HELDOUT = ("test_batch.bin",)
SIDE, CHANNELS, CLASSES, LEVELS = 32, 3, 10, 256
RECORD = 1 + CHANNELS * SIDE * SIDE
RECORDS = 10_000                                 # in each file


def read(folder: Name, *, records: int = RECORDS) -> Dataset:
    """50,000 images for fitting and 10,000 held out: (N, 32, 32, 3) float32 in [−1, 1], 256 levels.

    folder: holds the six .bin files, or a folder cifar-10-batches-bin that does.
    records: how many images each file holds; a format without a header has no other check of its length.
    Raises DataError, one line, for a missing file, a file of another size, or a label outside 0 … 9.
    """
    folder = _locate(Path(folder))
    train, train_labels = _part(folder, TRAIN, records)
    heldout, heldout_labels = _part(folder, HELDOUT, records)
    return Dataset("cifar10", train, heldout, train_labels, heldout_labels, LEVELS)


def _locate(folder: Path) -> Path:
    """The folder that holds the files; raises DataError if one of them is missing."""
    present = names(folder)
    if INNER in present and TRAIN[0] not in present:
        folder = folder / INNER
        present = names(folder)
    for name in TRAIN + HELDOUT:
        if name not in present:
            pickled = name.removesuffix(".bin") in present
            hint = " (this is the Python version, the binary version is read)" if pickled else ""
            raise DataError(f"{folder}: holds no {name}{hint}")
    return folder


def _part(folder: Path, files: tuple[str, ...], records: int) -> tuple[np.ndarray, np.ndarray]:
    parts = [_batch(folder / name, records) for name in files]
    pixels, labels = (np.concatenate(column) for column in zip(*parts, strict=True))
    return dequantise(pixels, LEVELS), labels.astype(np.int64)


def _batch(path: Path, records: int) -> tuple[np.ndarray, np.ndarray]:
    """(pixels (records, 32, 32, 3) uint8, labels (records,) uint8) of one file."""
    with opened(path) as (stream, size):
        if size != records * RECORD:
            fault = "truncated" if size < records * RECORD else "too long"
            raise DataError(f"{path}: {fault}: {size} bytes, "
                            f"{records} records of {RECORD} are {records * RECORD}")
        data = fill(stream, size, path).reshape(records, RECORD)
    labels, planes = data[:, 0], data[:, 1:].reshape(records, CHANNELS, SIDE, SIDE)
    if labels.max() >= CLASSES:
        raise DataError(f"{path}: holds the label {labels.max()}, labels are 0 to {CLASSES - 1}")
    return planes.transpose(0, 2, 3, 1), labels
