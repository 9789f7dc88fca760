"""Writing a file so that a kill at any moment leaves the old one or the new one, never a mixture.

The four steps, and what each is for:

1. write a temporary file *in the same folder* (a rename across file systems would be a copy);
2. `fsync` it: its bytes are on the disk before its name is;
3. `os.replace`: POSIX promises that the name points at the old file or at the new one;
4. `fsync` the folder: the rename itself survives a loss of power.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path

SUFFIX = ".tmp"


def write_atomically(path: str | os.PathLike[str], data: bytes) -> None:
    """Replace the content of `path` by `data`; the temporary file is removed when anything fails.

    Raises OSError (no space, no permission, no such folder); `path` is then as it was.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}{SUFFIX}")
    file = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        with os.fdopen(file, "wb") as f:
            f.write(data)
            f.flush()
            os.fsync(f.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def reason(error: OSError) -> str:
    """"no space left on device" and the like, without the file's name."""
    text = error.strerror or type(error).__name__
    return text[0].lower() + text[1:]


def is_temporary(name: str) -> bool:
    """Whether a file of this name is what a killed `write_atomically` leaves behind."""
    return name.startswith(".") and name.endswith(SUFFIX)


def remove_temporaries(folder: Path) -> None:
    """Remove what killed saves left behind.  Only for the one process that may write to `folder`."""
    for entry in folder.iterdir():
        if is_temporary(entry.name):
            entry.unlink(missing_ok=True)
