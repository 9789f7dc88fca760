"""What a data set is: held arrays, a split, and how many grey levels a pixel can take.

A picture of L levels stores the integer k ∈ {0 … L−1} as the number

    x = 2k/(L−1) − 1 ∈ [−1, 1]                 (L = 17: k/8 − 1;  L = 256: k/127.5 − 1)

so that the spacing of neighbouring levels is 2/(L−1): the bin width by which a density over x
is turned into a probability of k.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np


class DataError(ValueError):
    """Data that cannot be used.  The message is one line that names the file and the fault."""

    def __init__(self, message: str) -> None:
        # A file name may hold a newline or a terminal escape; shown as \n and \x1b it stays one line.
        super().__init__("".join(c if c.isprintable() else repr(c)[1:-1] for c in message))


@dataclass(frozen=True, eq=False)
class Dataset:
    """Examples for fitting and examples held out, both read-only.

    name:            how messages and reports call it.
    train, heldout:  (N, …) and (M, …) float32, one example a row; images are (N, H, W, C) in [−1, 1].
    train_labels, heldout_labels:  (N,) and (M,) int64, or None where there are no classes.
    levels:          L, the number of values a pixel takes; None for continuous data.
    alphabet:        of a text: its symbols in order.  Examples are then rows of places in it, (N, T) int64, which
                     follow one another as they do in the text; None for everything else.

    The arrays are held as read-only views, not copied.
    Raises DataError if the dtypes or the shapes do not fit together.
    """

    name: str
    train: np.ndarray
    heldout: np.ndarray
    train_labels: np.ndarray | None = None
    heldout_labels: np.ndarray | None = None
    levels: int | None = None
    alphabet: str | None = None

    def __post_init__(self) -> None:
        wanted = np.dtype(np.float32 if self.alphabet is None else np.int64)
        if self.train.dtype != wanted or self.heldout.dtype != wanted:
            raise DataError(f"{self.name}: examples must be {wanted}, "
                            f"got {self.train.dtype} and {self.heldout.dtype}")
        if self.train.ndim < 2 or self.train.shape[1:] != self.heldout.shape[1:]:
            raise DataError(f"{self.name}: an example of train {self.train.shape} "
                            f"and one of heldout {self.heldout.shape} differ in shape")
        for part in ("train", "heldout"):
            examples, labels = getattr(self, part), getattr(self, f"{part}_labels")
            object.__setattr__(self, part, _read_only(examples))
            if labels is None:
                continue
            if labels.dtype != np.int64 or labels.shape != examples.shape[:1]:
                raise DataError(f"{self.name}: {part} labels must be int64 of shape {examples.shape[:1]}, "
                                f"got {labels.dtype} {labels.shape}")
            object.__setattr__(self, f"{part}_labels", _read_only(labels))

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one example."""
        return self.train.shape[1:]


def dequantise(k: np.ndarray, levels: int) -> np.ndarray:
    """x = 2k/(L−1) − 1 as float32, correctly rounded, for integers k ∈ {0 … L−1} of any shape."""
    return (2.0 * np.arange(levels) / (levels - 1) - 1.0).astype(np.float32)[k]


def quantise(x: np.ndarray, levels: int) -> np.ndarray:
    """k = round((x + 1)(L−1)/2), clipped to {0 … L−1}: the nearest level, int64, in the shape of x.

    Inverts `dequantise` exactly.  Raises DataError if x holds NaN, which has no nearest level.
    """
    k = np.rint((np.asarray(x, dtype=np.float64) + 1.0) * ((levels - 1) / 2.0))
    if np.isnan(k).any():
        raise DataError("quantise: x holds NaN")
    return np.clip(k, 0, levels - 1).astype(np.int64)


def binarised(dataset: Dataset) -> Dataset:
    """The same images in black and white: 1 where a pixel is brighter than the middle grey, x > 0, elsewhere −1.

    Raises DataError for examples that are no images.
    """
    if dataset.train.ndim != 4:
        raise DataError(f"{dataset.name}: examples of shape {dataset.shape} are no images")
    train, heldout = (np.where(x > 0, 1, -1).astype(np.float32) for x in (dataset.train, dataset.heldout))
    return replace(dataset, train=train, heldout=heldout, levels=2)


def to_images(x: np.ndarray) -> np.ndarray:
    """(x + 1)/2 clipped to [0, 1], for showing pictures."""
    return np.clip((np.asarray(x) + 1) / 2, 0, 1)


def _read_only(array: np.ndarray) -> np.ndarray:
    view = array.view()
    view.flags.writeable = False
    return view
