"""A run folder: everything that one training run leaves behind, in files a person can open.

    config.json             what was run: system, its numbers, training numbers, data, backend, versions
    checkpoint.safetensors  parameters, optimiser, averages, random state: what the run continues from
    metrics.csv             one row every `log_every` steps: the mean of each term of the loss
    timing.csv              the same steps and the seconds they took (never part of a comparison)
    pictures/, index.html   made afterwards, by whoever draws
    .lock                   held with flock while a process writes here; the file itself means nothing

The lock belongs to an open file, not to a file's existence: a killed process leaves none behind.
Reading (sampling, evaluating, drawing) needs no lock, since every file is replaced as a whole or only
grows.  POSIX only: flock, and rename over an existing file.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import platform
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from scratchgen.train.atomic import is_temporary, reason, remove_temporaries, write_atomically
from scratchgen.train.config import TrainConfig, as_json, from_json
from scratchgen.version import VERSION

FORMAT = 1
LOCK = ".lock"


class RunError(ValueError):
    """One line: the run folder, and what is wrong with it or why it may not be used."""

    exit_code = 2


def versions() -> dict[str, str]:
    """The versions a result may depend on."""
    found = {"scratchgen": VERSION, "python": platform.python_version()}
    for package in ("numpy", "safetensors"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[package] = metadata.version(package)
    return found


@dataclass(frozen=True)
class RunConfig:
    """What config.json says.  The seed and the dtype stand in `train`.

    system: the ID that `scratchgen list` shows.  model: `as_json` of that system's own config.
    """

    system: str
    model: dict[str, Any]
    train: TrainConfig
    dataset: str
    data_folder: str | None = None
    backend: str = "numpy"
    versions: dict[str, str] = field(default_factory=versions)
    format: int = FORMAT


class RunFolder:
    """The files of one run, by name.  Made by `create` or `open`."""

    def __init__(self, path: Path, config: RunConfig) -> None:
        self.path = path
        self.config = config
        self._locked = False

    @property
    def checkpoint(self) -> Path:
        return self.path / "checkpoint.safetensors"

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.csv"

    @property
    def timing(self) -> Path:
        return self.path / "timing.csv"

    @property
    def pictures(self) -> Path:
        return self.path / "pictures"

    @property
    def index(self) -> Path:
        return self.path / "index.html"

    @classmethod
    def create(cls, path: str | os.PathLike[str], config: RunConfig) -> RunFolder:
        """A new run folder holding `config`; parents are made as needed.

        Raises RunError if the folder exists and is not empty: a run is continued with `open`.
        (What a killed `create` left, a lock file or a temporary, counts as empty.)
        """
        path = Path(path)
        try:
            path.mkdir(parents=True, exist_ok=True)
        except FileExistsError:
            raise RunError(f"{path}: exists and is not a folder") from None
        except OSError as error:
            raise RunError(f"{path}: cannot be made: {reason(error)}") from error
        run = cls(path, config)
        with run.lock():
            if any(entry.name != LOCK and not is_temporary(entry.name) for entry in path.iterdir()):
                raise RunError(f"{path}: the folder is not empty: resume its run, or name another folder")
            run.write_config(config)
            run._make(run.pictures)
        return run

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> RunFolder:
        """The run in an existing folder.  Raises RunError if there is none or its config is damaged."""
        path = Path(path)
        file = path / "config.json"
        if not path.is_dir():
            raise RunError(f"{path}: " + ("is not a folder" if path.exists() else "there is no such folder"))
        try:
            data = json.loads(file.read_bytes())
            if isinstance(data, dict) and data.get("format", FORMAT) != FORMAT:
                raise RunError(f"{file}: has format {data['format']}; this scratchgen reads format {FORMAT}")
            config = from_json(RunConfig, data)
        except FileNotFoundError:
            raise RunError(f"{path}: is not a run folder (it has no config.json)") from None
        except OSError as error:
            raise RunError(f"{file}: cannot be read: {reason(error)}") from error
        except RunError:
            raise
        except (ValueError, RecursionError) as error:
            raise RunError(f"{file}: is damaged: {error}") from error
        return cls(path, config)

    def write_config(self, config: RunConfig) -> None:
        """Replace config.json, atomically (a run that is continued for more steps, say)."""
        text = json.dumps(as_json(config), indent=2, ensure_ascii=False, allow_nan=False)
        try:
            write_atomically(self.path / "config.json", text.encode() + b"\n")
        except OSError as error:
            raise RunError(f"{self.path}/config.json: cannot be written: {reason(error)}") from error
        self.config = config

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the folder for writing, and sweep up what a killed writer left.  May be nested.

        Raises RunError if another process (or another RunFolder of this one) holds it.
        """
        if self._locked:
            yield
            return
        file = self._acquire()
        self._locked = True
        try:
            remove_temporaries(self.path)
            yield
        finally:
            self._locked = False
            os.close(file)  # which releases the lock

    def _acquire(self) -> int:
        try:
            file = os.open(self.path / LOCK, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            raise RunError(f"{self.path}: cannot be written to: {reason(error)}") from error
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(file)
            raise RunError(f"{self.path}: another process is writing to this run") from None
        except OSError as error:
            os.close(file)
            raise RunError(f"{self.path}: this file system has no locks: {reason(error)}") from error
        return file

    def _make(self, folder: Path) -> None:
        try:
            folder.mkdir(exist_ok=True)
        except OSError as error:
            raise RunError(f"{folder}: cannot be made: {reason(error)}") from error
