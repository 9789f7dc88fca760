"""Checkpoints: named arrays and a JSON record in one safetensors file.

A safetensors file is `length (8 bytes) | JSON header | raw tensors`, so reading one computes nothing
and unpickles nothing.  Its header has room for text, and ours holds one entry:

    {"sha256": <64 hex digits>, "version": 1, "meta": {...}}

The digest is that of the whole file *with the 64 digits themselves written as zeros*.  It therefore
covers every byte there is (lengths, names, shapes, padding, record, tensors), and a single flipped bit
anywhere is found before anything is handed out.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors import numpy as safetensors

from scratchgen.train.atomic import reason, write_atomically

VERSION = 1
ENTRY = "scratchgen"
NO_DIGEST = b"0" * 64
MARK = rb'{\"sha256\":\"'  # how the record begins inside the header, where its quotes are escaped
LONGEST_HEADER = 100_000_000  # bytes; the format's own limit


class CheckpointError(ValueError):
    """One line: the file, and what is wrong with it."""

    exit_code = 2


def save(path: str | os.PathLike[str], arrays: Mapping[str, np.ndarray], meta: Mapping[str, Any]) -> None:
    """Write arrays and their record atomically: killed at any moment, the old or the new file is there.

    arrays: NumPy arrays by name.  meta: anything JSON can say exactly (no NaN).
    The same arrays and record give the same bytes.
    Raises CheckpointError if the file cannot be written (a full disk, say); an older one is then untouched.
    Raises ValueError or TypeError for a record that is not JSON or a dtype the format does not know.
    """
    record = {"sha256": NO_DIGEST.decode(), "version": VERSION, "meta": dict(meta)}
    text = json.dumps(record, separators=(",", ":"), allow_nan=False)
    data = _serialise(arrays, text)
    start = data.index(MARK) + len(MARK)
    try:
        write_atomically(path, data[:start] + _digest(data, start).encode() + data[start + 64 :])
    except OSError as error:
        raise CheckpointError(f"{os.fspath(path)}: cannot be written: {reason(error)}") from error


def load(path: str | os.PathLike[str]) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """(arrays, meta) as they were saved, or CheckpointError and nothing at all.

    A missing, truncated, damaged, foreign or newer file gives one line naming the file and the fault.
    A foreign file is recognised by its header and never read as a whole.
    """
    try:
        return _load(path)
    except OSError as error:
        raise CheckpointError(f"{os.fspath(path)}: cannot be read: {reason(error)}") from error
    except _Fault as fault:
        raise CheckpointError(f"{os.fspath(path)}: {fault}") from fault.__cause__


class _Fault(Exception):
    """What is wrong with a file, before its name is added."""


def _serialise(arrays: Mapping[str, np.ndarray], text: str) -> bytes:
    # The library copies raw memory: a strided view would be written wrongly, without a word.
    dense = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    try:
        return safetensors.save(dense, {ENTRY: text})
    except SafetensorError as error:
        raise TypeError(f"a checkpoint cannot hold this: {error}") from error


def _digest(data: bytes, start: int) -> str:
    """SHA-256 of the file with zeros in place of the 64 digits at `start`."""
    view = memoryview(data)
    digest = hashlib.sha256(view[:start])
    digest.update(NO_DIGEST)
    digest.update(view[start + 64 :])
    return digest.hexdigest()


def _load(path: str | os.PathLike[str]) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise _Fault("is not a file")
    with Path(path).open("rb") as f:
        head = _read_header(f, size=os.fstat(f.fileno()).st_size)
        record, start = _read_record(head)
        data = head + f.read()
    if _digest(data, start) != record["sha256"]:
        raise _Fault("is damaged or truncated (its bytes do not match their digest)")
    try:
        return safetensors.load(data), record["meta"]
    except (SafetensorError, KeyError, ValueError) as error:  # a true digest over a malformed file
        raise _Fault(f"is not a valid safetensors file ({error})") from error


def _read_header(f: Any, size: int) -> bytes:
    """The length and the header, after a look at whether the file can hold a header of that length."""
    prefix = f.read(8)
    if len(prefix) < 8:
        raise _Fault("is truncated" if prefix else "is empty")
    length = int.from_bytes(prefix, "little")
    if length > LONGEST_HEADER:
        raise _Fault("is not a safetensors file")
    if 8 + length > size:
        raise _Fault("is truncated, or is not a safetensors file")
    return prefix + f.read(length)


def _read_record(head: bytes) -> tuple[dict[str, Any], int]:
    """The record and where its digest begins."""
    foreign = _Fault("is not a scratchgen checkpoint, or its header is damaged")
    try:
        record = json.loads(json.loads(head[8:])["__metadata__"][ENTRY])
        version, meta = record["version"], record["meta"]
        start = head.index(MARK + record["sha256"].encode()) + len(MARK)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise foreign from error
    if not isinstance(version, int) or not isinstance(meta, dict):
        raise foreign
    if version != VERSION:
        raise _Fault(f"has checkpoint format {version}; this scratchgen reads format {VERSION}")
    return record, start
