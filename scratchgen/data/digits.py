"""Real handwritten digits, small enough to come with scikit-learn: 1,797 pictures of 8 × 8.

E. Alpaydin and C. Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine Learning
Repository, 1998 (its test part).  A pixel counts the inked points of a 4 × 4 block of a bitmap,
0 … 16, hence 17 levels.
"""

from __future__ import annotations

import gzip
import importlib.util
from pathlib import Path

import numpy as np

from scratchgen.data.dataset import DataError, Dataset, dequantise

LEVELS = 17


def digits() -> Dataset:
    """1,437 digits for fitting and 360 held out: (N, 8, 8, 1) float32, x = k/8 − 1 ∈ [−1, 1].

    The split is a rule and not a draw, so no version of a random generator can change it: sort the
    pictures by class, keeping their order within a class, and hold out every fifth (0, 5, 10 … 1795).
    Every class gives a fifth of itself, to within one picture.

    The pictures stand in the order of their 13 writers.  Taking every fifth takes the same share of each
    writer, so both parts follow one distribution, as a held-out likelihood supposes; it says nothing about
    the hand of a new writer, for which whole writers would have to be held out (the file does not name them).

    Raises DataError if scikit-learn is not installed.
    """
    table = _bundled()
    pixels, labels = table[:, :-1], table[:, -1]
    images = dequantise(pixels.reshape(-1, 8, 8, 1), LEVELS)
    held = np.zeros(len(labels), dtype=bool)
    held[np.argsort(labels, kind="stable")[::5]] = True
    return Dataset("digits", images[~held], images[held], labels[~held], labels[held], LEVELS)


def _bundled() -> np.ndarray:
    """The file that scikit-learn brings, 64 pixels and a label a row: read as a file, since importing the
    library for it would take seconds.
    """
    found = importlib.util.find_spec("sklearn")
    if found is None or found.origin is None:
        raise DataError("digits: scikit-learn, which holds them, is not installed")
    file = Path(found.origin).parent / "datasets" / "data" / "digits.csv.gz"
    try:
        with gzip.open(file) as rows:
            table = np.loadtxt(rows, delimiter=",", dtype=np.int64)
    except (OSError, EOFError, ValueError) as fault:
        raise DataError(f"{file}: cannot be read: {fault}") from fault
    if table.shape != (1797, 65):
        raise DataError(f"{file}: holds {table.shape[0]} rows of {table.shape[-1]} numbers, not 1797 of 65")
    return table
