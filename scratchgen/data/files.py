"""Opening and reading a file so that every fault becomes one DataError that names the file."""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from scratchgen.data.dataset import DataError

CHUNK = 1 << 20
Name = str | os.PathLike[str]


@contextmanager
def opened(path: Name) -> Iterator[tuple[io.BufferedIOBase, int]]:
    """(the file open for reading, its size in bytes), for a regular file that is not empty."""
    path = Path(path)
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError) as fault:               # ValueError: a NUL in the name
        raise DataError(f"{path}: {_reason(fault)}") from fault
    if stat.S_ISDIR(mode):
        raise DataError(f"{path}: is a folder, a file was expected")
    if not stat.S_ISREG(mode):                           # to open a pipe would wait for ever
        raise DataError(f"{path}: is not a regular file")
    try:
        with path.open("rb") as stream:
            size = os.fstat(stream.fileno()).st_size
            if size == 0:
                raise DataError(f"{path}: is empty")
            yield stream, size
    except OSError as fault:
        raise DataError(f"{path}: {_reason(fault)}") from fault


def names(folder: Name) -> set[str]:
    """The names of what a folder holds."""
    try:
        return set(os.listdir(folder))
    except NotADirectoryError as fault:
        raise DataError(f"{folder}: is a file, a folder was expected") from fault
    except (OSError, ValueError) as fault:
        raise DataError(f"{folder}: {_reason(fault)}") from fault


def fill(stream: io.BufferedIOBase, nbytes: int, path: Name) -> np.ndarray:
    """Exactly nbytes bytes from the stream, which must then be at its end: (nbytes,) uint8.

    Never holds more than nbytes and one byte, whatever the stream goes on to give.
    """
    try:
        data = np.empty(nbytes, dtype=np.uint8)
    except MemoryError as fault:
        raise DataError(f"{path}: no memory for its {nbytes} bytes of data") from fault
    view, done = data.data, 0
    while done < nbytes:
        got = stream.readinto(view[done:done + CHUNK])
        if not got:
            raise DataError(f"{path}: truncated: {done} of {nbytes} bytes of data are there")
        done += got
    if stream.read(1):
        raise DataError(f"{path}: goes on after the {nbytes} bytes of data that it should hold")
    return data


def _reason(fault: Exception) -> str:
    """'no such file or directory' and the like, without the name, which the caller puts first."""
    text = (fault.strerror if isinstance(fault, OSError) else None) or str(fault) or type(fault).__name__
    return text[0].lower() + text[1:]
