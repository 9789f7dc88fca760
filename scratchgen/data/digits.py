"""Real handwritten digits, small enough to come with scikit-learn: 1,797 pictures of 8 × 8.

E. Alpaydin and C. Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine Learning
Repository, 1998 (its test part).  A pixel counts the inked points of a 4 × 4 block of a bitmap,
0 … 16, hence 17 levels.
"""

from __future__ import annotations

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
    try:
        from sklearn.datasets import load_digits  # slow to import, and needed only here
    except ImportError as fault:
        raise DataError("digits: scikit-learn, which holds them, is not installed") from fault
    pixels, labels = load_digits(return_X_y=True)
    images = dequantise(pixels.astype(np.int64).reshape(-1, 8, 8, 1), LEVELS)
    labels = labels.astype(np.int64)
    held = np.zeros(len(labels), dtype=bool)
    held[np.argsort(labels, kind="stable")[::5]] = True
    return Dataset("digits", images[~held], images[held], labels[~held], labels[held], LEVELS)
