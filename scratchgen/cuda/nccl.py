"""Sums over GPUs of several processes, by NCCL.  Imported only where CuPy finds a device, in a process that MPI knows.

For every call by `cupyx.distributed.NCCLBackend`, whose processes find each other by mpi4py.
"""

from __future__ import annotations

import cupy
from cupy.cuda import nccl
from cupyx.distributed import NCCLBackend

from scratchgen.backend import Array, BackendError


class Communicator:
    """size processes, of which this one is number `rank` of all and number `local` on its machine, whose GPU of that
    number is its own from here on.

    Raises BackendError where there is no such GPU, or no NCCL.
    """

    def __init__(self, size: int, rank: int, local: int) -> None:
        devices = cupy.cuda.runtime.getDeviceCount()
        if local >= devices:
            raise BackendError(f"a machine has more processes than its {devices} GPUs: start one process for each GPU")
        if not nccl.available:
            major = cupy.cuda.runtime.runtimeGetVersion() // 1000
            raise BackendError(f"CuPy finds no NCCL: pip install nvidia-nccl-cu{major}, or train by one process")
        cupy.cuda.Device(local).use()
        self.backend = NCCLBackend(size, rank, use_mpi=True)

    def all_reduce(self, buffer: Array) -> None:
        """buffer ← Σ over all processes, in place, in the current stream: nobody waits for it, and it can be captured.

        buffer: contiguous, of floats.
        """
        self.backend.all_reduce(buffer, buffer)
