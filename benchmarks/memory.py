"""How much memory this process has needed: the peak of what was resident, as the kernel counts it."""

from __future__ import annotations

import resource
from pathlib import Path

STATUS = Path("/proc/self/status")


def peak() -> float:
    """The peak so far, in MiB.

    ru_maxrss begins with the peak of the process that started this one; the kernel's VmHWM, where there is one, with
    this program.
    """
    if STATUS.exists():
        for line in STATUS.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
