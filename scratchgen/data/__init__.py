"""Data sets: real digits and a text that come along, two-dimensional toys, and readers of the standard files.

Nothing here downloads, and everything here lives on the host, as NumPy arrays.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable

from scratchgen.data import cifar, idx, text, toys
from scratchgen.data.batches import Batches, batch_indices
from scratchgen.data.dataset import DataError, Dataset, binarised, dequantise, quantise, to_images
from scratchgen.data.digits import digits
from scratchgen.data.files import Name

__all__ = ["NAMES", "Batches", "DataError", "Dataset", "batch_indices", "binarised", "cifar", "dequantise", "digits",
           "idx", "load", "quantise", "text", "to_images", "toys"]

READERS: dict[str, Callable[[Name], Dataset]] = {
    "mnist": idx.images, "idx": idx.images, "cifar10": cifar.read}
NAMES = ("digits", *toys.TOYS, "topics", *READERS)


def load(name: str, folder: Name | None = None) -> Dataset:
    """The data set called `name`: "digits", "topics", a toy (see toys.TOYS), or from the files in `folder` "mnist"
    (also called "idx") or "cifar10".

    Raises DataError, one line, for an unknown name, a folder missing or not wanted, or a damaged file.
    """
    if name not in NAMES:
        near = difflib.get_close_matches(name.lower(), NAMES, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(NAMES)}"
        raise DataError(f"no data set is called {name!r}: {hint}")
    if name in READERS:
        if folder is None:
            raise DataError(f"{name}: is read from your own files: name the folder that holds them")
        return READERS[name](folder)
    if folder is not None:
        raise DataError(f"{name}: comes with the package and takes no folder, got {folder}")
    if name == "topics":
        return text.topics()
    return digits() if name == "digits" else toys.toy(name)
