"""Processes that train one system together, each on its part of every minibatch.

    Group         one process, which has nobody to wait for
    MPIGroup      those that mpiexec started; what they add up goes through the host
    NCCLGroup     the same, each with a GPU of its own; what they add up goes from GPU to GPU

A minibatch is worked on in s shards, by K processes, K a divisor of s.  Of L's gradient on the shards, g_0 … g_{s−1},
process r adds up its s/K, and all together

    g = (1/s) Σ_r Σ_i g_i,     i = r·s/K … (r+1)·s/K − 1        (one all-reduce, the terms of the loss with it)

Every shard has noise of its own, a child of the run's, wherever it is worked on: shard i of minibatch n (0, 1, …) the
child of number n·s + i.  So a run's numbers depend on s, and on K only in the order of this sum.  Everything else
(clipping, the optimiser, averages, what follows a step, the order of the data) each process does for itself, on the
same numbers: weights stay the same to the last bit.

On devices s is K: each process works on its part as a whole, and the whole update with the all-reduce in it is one CUDA
graph.  So K GPUs have the numbers of one process on the host with s = K.  A process whose capture is refused must not
go on alone: NCCL may plan a sum in a graph with the other processes, and otherwise than one outside.  By MPI, which is
no part of the capture, all ask twice whether anybody has been refused (`concur`): before NCCL is called in the capture,
and before the graph is launched.  Then all go on with it, or all without.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np

from scratchgen import guard
from scratchgen.backend import Backend, backend_of

T = TypeVar("T")


class GroupError(ValueError):
    """What processes, or shards of a minibatch, cannot do together; one line."""

    exit_code = 2


class Elsewhere(guard.CaptureError):
    """A capture that was refused in another process, of which all know."""


class Group:
    """One process; and what any group can do, by what MPI and NCCL do for several.

    rank: of this process, 0 … size−1.  Process 0 writes, prints, and judges.
    """

    rank, size = 0, 1
    captures = True
    """Whether `all_reduce` may be part of a CUDA graph."""

    def all_reduce(self, buffer: Any) -> None:
        """buffer ← Σ over all processes, in place, the same bits in each of them.  buffer: flat, on any backend."""

    def broadcast(self, value: T) -> T:
        """What process 0 has, in every process: whatever can be pickled."""
        return value

    def largest(self, number: int) -> int:
        """The largest of the processes' numbers, each of less than 63 bits."""
        return number

    def close(self) -> None:
        """Part: from here on every process is alone."""

    def on(self, xp: Backend) -> Group:
        """The same processes, for arrays of a backend.  To be called before there are any."""
        return self

    def share(self, shards: Sequence[T]) -> Sequence[T]:
        """Those shards that are this process's.  Raises GroupError where not all have equally many."""
        each, left = divmod(len(shards), self.size)
        if left:
            raise GroupError(f"{self.size} processes cannot share {len(shards)} shards of a minibatch equally")
        return shards[self.rank * each : (self.rank + 1) * each]

    def first(self, f: Callable[[], T]) -> T:
        """f(), called by process 0 alone; every process has what it returns, or raises what it raises."""
        result: Any = None
        error: Exception | None = None
        if self.rank == 0:
            try:
                result = f()
            except Exception as raised:
                error = raised
        result, error = self.broadcast((result, error))
        if error is not None:
            raise error
        return result

    def agree(self, number: int) -> bool:
        """Whether all processes have the same number."""
        return self.largest(number) == -self.largest(-number)

    def concur(self, refusal: guard.CaptureError | None) -> None:
        """Said by every process in the course of a capture: None, or what it was refused for, and then once.

        Raises CaptureError in all of them if one has been refused.
        """
        refused = 0 if isinstance(refusal, Elsewhere) else self.largest(0 if refusal is None else self.rank + 1)
        if refusal is not None:
            raise refusal
        if refused:
            raise Elsewhere(f"capture: process {refused - 1} of {self.size} cannot capture its step")

    def add_up(self, terms: Sequence[Any], gradient: Any) -> tuple[list[Any], Any]:
        """A minibatch's terms, from each process's part of them, and the sum of the processes' gradients.

        terms: arrays (B/K,).  gradient: (P,), of one dtype and backend with them.  Returns arrays (B,), and (P,).
        One all-reduce of P + B·len(terms) numbers: where the others' terms go, a process has zeros.
        """
        if self.size == 1:
            return list(terms), gradient
        xp, P = backend_of(gradient), len(gradient)
        table = xp.zeros((len(terms), self.size, len(terms[0])), gradient.dtype)
        for row, term in zip(table, terms, strict=True):
            row[self.rank] = term
        buffer = xp.concatenate([gradient, table.reshape(-1)])
        self.all_reduce(buffer)
        return list(buffer[P:].reshape((len(terms), -1))), buffer[:P]


ALONE = Group()


class MPIGroup(Group):
    """The processes of an mpi4py communicator.  Arrays of any backend are added up on the host."""

    captures = False

    def __init__(self, comm: Any) -> None:
        from mpi4py import MPI

        self.mpi, self.comm = MPI, comm
        self.rank, self.size = comm.Get_rank(), comm.Get_size()
        self.leaving = comm.Dup()  # for words that must not be taken for others

    def all_reduce(self, buffer: Any) -> None:
        xp = backend_of(buffer)
        host = np.ascontiguousarray(xp.to_numpy(buffer))
        self.comm.Allreduce(self.mpi.IN_PLACE, host)
        if host is not buffer:
            buffer[...] = xp.asarray(host)

    def broadcast(self, value: T) -> T:
        return self.comm.bcast(value)

    def largest(self, number: int) -> int:
        found = np.array([number], np.int64)
        self.comm.Allreduce(self.mpi.IN_PLACE, found, self.mpi.MAX)
        return int(found[0])

    def on(self, xp: Backend) -> Group:
        return NCCLGroup(self) if xp.name == "cupy" else self

    def close(self) -> None:
        if not self.mpi.Is_finalized():
            self.mpi.Finalize()

    def meets(self, seconds: float) -> bool:
        """Whether all processes come here before so many seconds are over."""
        arrival, end = self.leaving.Ibarrier(), time.monotonic() + seconds
        while not arrival.Test():
            if time.monotonic() > end:
                return False
            time.sleep(0.01)
        return True

    def abort(self, code: int) -> None:
        """End all processes, with this exit code."""
        self.comm.Abort(code)


class NCCLGroup(MPIGroup):
    """The processes of another group, each with a GPU of its own: the one whose number on its machine is the process's.

    Gradients are added up by NCCL, in the current stream, so nobody waits for a GPU; all else is said by MPI.
    Raises BackendError where NCCL is missing, or a machine has fewer GPUs than processes.
    """

    captures = True

    def __init__(self, group: MPIGroup) -> None:
        from scratchgen.cuda.nccl import Communicator

        self.mpi, self.comm, self.leaving = group.mpi, group.comm, group.leaving
        self.rank, self.size = group.rank, group.size
        neighbours = self.comm.Split_type(self.mpi.COMM_TYPE_SHARED)
        self.nccl = Communicator(self.size, self.rank, neighbours.Get_rank())

    def all_reduce(self, buffer: Any) -> None:
        if guard.is_capturing():
            self.concur(None)
        self.nccl.all_reduce(buffer)


def split(batch: Any, shards: int) -> list[Any]:
    """A minibatch in equal parts, whether it is an array or a tuple of arrays."""
    if isinstance(batch, tuple):
        return list(zip(*(split(array, shards) for array in batch), strict=True))
    size = len(batch) // shards
    return [batch[i * size : (i + 1) * size] for i in range(shards)]
