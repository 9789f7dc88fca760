"""The log of a run: a CSV file whose rows are appended as the run goes.

On a continued run the rows written after the checkpoint are dropped, since those steps are taken again.
With numbers written the same way every time, the file of a run that was killed and continued is then,
byte for byte, the file of the run that was not.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from scratchgen.train.atomic import reason, write_atomically
from scratchgen.train.run import RunError


def read(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """The columns of a log by name: "step" as int64 (n,), the others as float64 (n,).

    A last line without its line break (the writer was killed in the middle of it) is left out.
    Raises RunError for a missing or damaged file, naming the line.
    """
    path = Path(path)
    lines = _lines(path)
    if not lines:
        raise RunError(f"{path}: is empty")
    columns, rows = _parse(path, lines)
    table = np.array([row for _, row in rows], dtype=np.float64).reshape(len(rows), len(columns))
    steps = np.array([step for step, _ in rows], dtype=np.int64)
    return {name: steps if name == "step" else table[:, i] for i, name in enumerate(columns)}


class MetricsLog:
    """Rows of numbers, appended to `path`; those after step `keep` are dropped first.

    columns: their names, after the leading "step".  `last`: the last row kept, or None.
    Raises RunError if the file there is damaged, has other columns, or cannot be written.
    """

    def __init__(self, path: Path, columns: Sequence[str], keep: int) -> None:
        self.path = path
        self.columns = ["step", *columns]
        self.last: list[float] | None = None
        try:
            self._truncate(keep)
            self._file = path.open("ab", buffering=0)
        except OSError as error:
            raise RunError(f"{path}: cannot be written: {reason(error)}") from error

    def append(self, step: int, values: Sequence[float]) -> None:
        """One row; readers see it at once."""
        row = ",".join([str(step), *(f"{float(v):.9g}" for v in values)]).encode("ascii") + b"\n"
        try:
            written = self._file.write(row)
        except OSError as error:
            raise RunError(f"{self.path}: cannot be written: {reason(error)}") from error
        if written != len(row):
            raise RunError(f"{self.path}: cannot be written: no space left for a row")

    def sync(self) -> None:
        """On the disk before the checkpoint that relies on it."""
        try:
            os.fsync(self._file.fileno())
        except OSError as error:
            raise RunError(f"{self.path}: cannot be written: {reason(error)}") from error

    def close(self) -> None:
        self._file.close()

    def _truncate(self, keep: int) -> None:
        lines = _lines(self.path) if self.path.exists() else []
        if lines:
            columns, rows = _parse(self.path, lines)
            if columns != self.columns:
                found, wanted = ",".join(columns), ",".join(self.columns)
                raise RunError(f"{self.path}: its columns are {found}, not {wanted}")
            rows = [row for row in rows if row[0] <= keep]
            self.last = rows[-1][1] if rows else None
            lines = lines[: 1 + len(rows)]
        else:
            lines = [",".join(self.columns)]
        new = "".join(line + "\n" for line in lines).encode("ascii")
        if not self.path.exists() or new != self.path.read_bytes():
            write_atomically(self.path, new)


def _lines(path: Path) -> list[str]:
    """The complete lines, without their breaks."""
    try:
        text = path.read_bytes().decode("ascii")
    except OSError as error:
        raise RunError(f"{path}: cannot be read: {reason(error)}") from error
    except UnicodeDecodeError as error:
        raise RunError(f"{path}: is damaged at byte {error.start}") from error
    return text.split("\n")[:-1]


def _parse(path: Path, lines: list[str]) -> tuple[list[str], list[tuple[int, list[float]]]]:
    """(column names, [(step, values)]), the step standing first among the values too."""
    columns = lines[0].split(",")
    if columns[0] != "step":
        raise RunError(f"{path}: is not a log (its first column is not 'step')")
    rows: list[tuple[int, list[float]]] = []
    for number, line in enumerate(lines[1:], start=2):
        try:
            step, values = int(line.split(",")[0]), [float(v) for v in line.split(",")]
            sound = len(values) == len(columns) and (not rows or step > rows[-1][0])
        except ValueError:
            sound = False
        if not sound:
            raise RunError(f"{path}: line {number} is damaged: {line[:60]!r}")
        rows.append((step, values))
    return columns, rows
