"""How much memory this process has needed: the peak of what was resident, as the kernel counts it."""

from __future__ import annotations

import os
import resource
from contextlib import suppress
from pathlib import Path

STATUS = Path("/proc/self/status")


def peak() -> float:
    """The peak so far, in MiB, and what processes that this one has started hold for themselves.

    ru_maxrss begins with the peak of the process that started this one; the kernel's VmHWM, where there is one, with
    this program.
    """
    if STATUS.exists():
        for line in STATUS.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024 + sum(map(private, started()))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def started() -> list[Path]:
    """The processes that this one has started, as folders of /proc."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if int((folder / "stat").read_text().rsplit(")", 1)[1].split()[1]) == os.getpid():
                found.append(folder)
    return found


def private(folder: Path) -> float:
    """The MiB that a process shares with no other."""
    with suppress(OSError):
        lines = (folder / "smaps_rollup").read_text().splitlines()
        return sum(int(line.split()[1]) for line in lines if line.startswith("Private_")) / 1024
    return 0.0
