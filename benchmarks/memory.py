"""How much memory this process has needed: the peak of what was resident, as the kernel counts it."""

from __future__ import annotations

import os
import resource
from contextlib import suppress
from pathlib import Path

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


class Meter:
    """The peak of what this process and those that it has started hold at one time, in MiB, from one look to the next.

    Of a process that has been started the private memory counts as it is now, beside the highest of this one's since
    the last look: it must have been there then.  So look before, and after, what is to be measured.
    """

    def __init__(self) -> None:
        self.peak = 0.0
        self.there: set[Path] = set()

    def look(self) -> float:
        """The peak so far."""
        others = set(started())
        self.peak = max(self.peak, highest() + sum(map(private, others & self.there)))
        self.there = others
        begin_anew()
        return self.peak


def highest() -> float:
    """The peak of this process alone, in MiB.

    ru_maxrss begins with the peak of the process that started this one; the kernel's VmHWM, where there is one, with
    this program.
    """
    if STATUS.exists():
        for line in STATUS.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def begin_anew() -> None:
    """Let the kernel's peak begin with what is resident now, where it can be told to."""
    with suppress(OSError):
        CLEAR.write_text("5")


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
