"""IDX, the format of MNIST and its family (Y. LeCun, C. Cortes, C. Burges, "The MNIST database", 1998).

    byte 0, 1      zero
    byte 2         type of the items: 08 uint8, 09 int8, 0B int16, 0C int32, 0D float32, 0E float64
    byte 3         d, the number of dimensions
    4 + 4i         size of dimension i, big-endian uint32, i = 0 … d−1
    4 + 4d         the items, big-endian, last dimension fastest

A header is four bytes of a stranger's file that ask for memory.  So nothing is allocated before the sizes
it gives have been compared with the size of the file, and a .gz is unpacked no further than they say.
"""

from __future__ import annotations

import gzip
import io
import math
import struct
import zlib
from pathlib import Path

import numpy as np

from scratchgen.data.dataset import DataError, Dataset, dequantise
from scratchgen.data.files import Name, fill, names, opened

MAX_BYTES = 1 << 30
MAX_DIMENSIONS = 32          # what every version of NumPy can hold
DEFLATE_RATIO = 1032         # deflate gives at most 258 bytes for 2 bits
TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
SIDE, CLASSES, LEVELS = 28, 10, 256


def read(path: Name, *, max_bytes: int = MAX_BYTES) -> np.ndarray:
    """The array in an IDX file, in native byte order; a name that ends in .gz is unpacked on the way.

    max_bytes: the most that the items may take.
    Raises DataError, one line, if the file cannot be read or is not exactly one well-formed IDX array.
    """
    path = Path(path)
    with opened(path) as (stream, size):
        if path.suffix.lower() != ".gz":
            dtype, shape, nbytes = _header(stream, path, max_bytes)
            promised = stream.tell() + nbytes
            if size != promised:
                fault = "truncated" if size < promised else "too long"
                raise DataError(f"{path}: {fault}: {size} bytes, its header promises {promised}")
            data = fill(stream, nbytes, path)
        else:
            data, dtype, shape = _unzip(stream, size, path, max_bytes)
    return data.view(dtype).reshape(shape).astype(dtype.newbyteorder("="), copy=False)


def images(folder: Name, *, max_bytes: int = MAX_BYTES) -> Dataset:
    """MNIST, or a data set of its shape, from its four files: (N, 28, 28, 1) float32 in [−1, 1], 256 levels.

    The files are train-images-idx3-ubyte, train-labels-idx1-ubyte and the same with t10k; '.idx' may
    stand for '-idx', and each may end in .gz.  The t10k files are the held-out part.
    Raises DataError, one line, for a missing or damaged file, images that are not 28 × 28 bytes, labels
    outside 0 … 9, or images and labels that differ in number.
    """
    folder = Path(folder)
    train, train_labels = _part(folder, "train", max_bytes)
    heldout, heldout_labels = _part(folder, "t10k", max_bytes)
    return Dataset("mnist", train, heldout, train_labels, heldout_labels, LEVELS)


def _header(stream: io.BufferedIOBase, path: Path, max_bytes: int) -> tuple[np.dtype, tuple[int, ...], int]:
    """(type, shape, number of bytes of the items); leaves the stream at the first item."""
    magic = stream.read(4)
    if magic[:2] == b"\x1f\x8b":
        raise DataError(f"{path}: is gzip inside: its name must end in .gz")
    if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] not in TYPES:
        raise DataError(f"{path}: not an IDX file: it begins with {magic.hex(' ') or 'nothing'}")
    dtype, dimensions = np.dtype(TYPES[magic[2]]), magic[3]
    if not 1 <= dimensions <= MAX_DIMENSIONS:
        raise DataError(f"{path}: its header has {dimensions} dimensions, 1 to {MAX_DIMENSIONS} can be read")
    sizes = stream.read(4 * dimensions)
    if len(sizes) < 4 * dimensions:
        raise DataError(f"{path}: truncated inside its header")
    shape = struct.unpack(f">{dimensions}I", sizes)
    # Python's integers do not overflow.  A zero must not hide its neighbours: NumPy refuses the shape
    # (0, 2³², 2³²) too, because it multiplies the sizes that are not zero.
    if math.prod(max(size, 1) for size in shape) * dtype.itemsize > max_bytes:
        raise DataError(f"{path}: its header asks for {' x '.join(map(str, shape))} items "
                        f"of {dtype.itemsize} bytes, more than the limit of {max_bytes} bytes")
    return dtype, shape, math.prod(shape) * dtype.itemsize


def _unzip(stream: io.BufferedIOBase, size: int, path: Path, max_bytes: int,
           ) -> tuple[np.ndarray, np.dtype, tuple[int, ...]]:
    """(bytes of the items, type, shape) from a gzip stream of `size` bytes."""
    if stream.read(2) != b"\x1f\x8b":
        raise DataError(f"{path}: its name ends in .gz, but it is not gzip inside")
    stream.seek(0)
    try:
        with gzip.GzipFile(fileobj=stream, mode="rb") as unzipped:
            dtype, shape, nbytes = _header(unzipped, path, max_bytes)
            if nbytes > DEFLATE_RATIO * size:
                raise DataError(f"{path}: truncated: {size} bytes of gzip cannot hold "
                                f"the {nbytes} bytes that its header promises")
            return fill(unzipped, nbytes, path), dtype, shape     # fill reads to the end, where the CRC is
    except (gzip.BadGzipFile, EOFError, zlib.error) as fault:
        raise DataError(f"{path}: damaged gzip: {fault}") from fault


def _part(folder: Path, part: str, max_bytes: int) -> tuple[np.ndarray, np.ndarray]:
    """(images (N, 28, 28, 1) float32, labels (N,) int64) of the part 'train' or 't10k'."""
    image_file = _find(folder, f"{part}-images", "idx3-ubyte")
    label_file = _find(folder, f"{part}-labels", "idx1-ubyte")
    pixels = _bytes(image_file, 3, "images", max_bytes)
    labels = _bytes(label_file, 1, "labels", max_bytes)
    if len(pixels) == 0 or pixels.shape[1:] != (SIDE, SIDE):
        raise DataError(f"{image_file}: holds {' x '.join(map(str, pixels.shape))} pixels, "
                        f"images of {SIDE} x {SIDE} were expected")
    if len(labels) != len(pixels):
        raise DataError(f"{label_file}: holds {len(labels)} labels for the {len(pixels)} images "
                        f"of {image_file.name}")
    if labels.max() >= CLASSES:
        raise DataError(f"{label_file}: holds the label {labels.max()}, labels are 0 to {CLASSES - 1}")
    return dequantise(pixels[..., None], LEVELS), labels.astype(np.int64)


def _bytes(path: Path, dimensions: int, what: str, max_bytes: int) -> np.ndarray:
    array = read(path, max_bytes=max_bytes)
    if array.dtype != np.uint8 or array.ndim != dimensions:
        meant = {1: " (a file of labels?)", 3: " (a file of images?)"}.get(array.ndim, "")
        raise DataError(f"{path}: {what} are {dimensions}-dimensional uint8, "
                        f"this is {array.ndim}-dimensional {array.dtype}{meant}")
    return array


def _find(folder: Path, stem: str, kind: str) -> Path:
    present = names(folder)
    for name in (f"{stem}{joint}{kind}{end}" for end in ("", ".gz") for joint in "-."):
        if name in present:
            return folder / name
    raise DataError(f"{folder}: holds no {stem}-{kind}, with or without .gz")
