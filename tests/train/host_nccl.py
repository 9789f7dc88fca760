"""Processes with a GPU each, on the host: `host_cupy` and `host_graph` in each, MPI and NCCL between them.

    apart(K, f)          f(group) in K processes forked from this one, which MPI, made of pipes, brings together
    installed(…)         NCCL, by what MPI adds up: as strict as NCCL may be, a call waits for the other processes even
                         while it is captured.  A graph's launch makes it again

The group is the trainer's own `NCCLGroup`.
"""

from __future__ import annotations

import os
import pickle
import sys
import types
from multiprocessing import Pipe

import numpy as np

PATIENCE = 30.0
"""Seconds after which a process that waits for another one has been left alone."""


class Comm:
    """An mpi4py communicator: as much of it as groups use.  links: to process 0, or from there to all others."""

    def __init__(self, rank, size, links):
        self.rank, self.size, self.links = rank, size, links

    Get_rank = property(lambda self: lambda: self.rank)
    Get_size = property(lambda self: lambda: self.size)

    def Dup(self):
        return self

    def Split_type(self, kind):
        return self

    def exchange(self, value):
        """What every process brings, by rank."""
        if self.rank:
            self.links[0].send(value)
            return received(self.links[0])
        found = [value, *map(received, self.links)]
        for link in self.links:
            link.send(found)
        return found

    def bcast(self, value):
        return self.exchange(value)[0]

    def Allreduce(self, in_place, array, op=None):
        found = self.exchange(array.copy())
        array[...] = np.max(found, axis=0) if op == "max" else added(found)


def received(link):
    if not link.poll(PATIENCE):
        raise TimeoutError("a process waits, and nobody comes")
    return link.recv()


def added(arrays):
    first, *others = arrays
    for other in others:
        first = first + other
    return first


MPI = types.SimpleNamespace(IN_PLACE=None, MAX="max", COMM_TYPE_SHARED=0)


def installed(monkeypatch, world, mpi, comm):
    """NCCL for the CuPy of a `host_graph.World`, by an MPI communicator.  Returns its calls, launches with them."""
    calls = []

    class NCCLBackend:
        def __init__(self, n_devices, rank, use_mpi=False):
            assert (n_devices, rank, use_mpi) == (comm.Get_size(), comm.Get_rank(), True)

        def all_reduce(self, in_array, out_array, op="sum", stream=None):
            assert in_array is out_array and op == "sum" and stream is None and in_array.flags.c_contiguous
            world.run(lambda: add(in_array), "all_reduce", add, (in_array,), {})

    def add(array):
        calls.append(array.size)
        comm.Allreduce(mpi.IN_PLACE, array._a)

    cupy = sys.modules["cupy"]
    cupy.cuda.runtime.getDeviceCount = comm.Get_size
    cupy.cuda.Device = lambda i=0: types.SimpleNamespace(use=lambda: None, synchronize=lambda: None, id=i)
    cupy.cuda.nccl = types.SimpleNamespace(available=True)
    monkeypatch.setitem(sys.modules, "cupy.cuda", cupy.cuda)
    monkeypatch.setitem(sys.modules, "mpi4py", types.SimpleNamespace(MPI=mpi))
    monkeypatch.setitem(sys.modules, "cupyx.distributed", types.SimpleNamespace(NCCLBackend=NCCLBackend))
    return calls


def apart(size, f):
    """f(comm) in so many processes.  Returns what each returns or raises; None for one that is killed."""
    pipes, answers = [Pipe() for _ in range(size - 1)], [Pipe(duplex=False) for _ in range(size)]
    pids = [_forked(rank, f, pipes, answers) for rank in range(size)]
    for link in (*(end for pipe in pipes for end in pipe), *(write for _, write in answers)):
        link.close()
    found = []
    for read, _ in answers:
        try:
            found.append(pickle.loads(read.recv_bytes()))
        except EOFError:
            found.append(None)
        read.close()
    for pid in pids:
        os.waitpid(pid, 0)
    return found


def _forked(rank, f, pipes, answers):
    pid = os.fork()
    if pid:
        return pid
    try:
        own = [there for there, _ in pipes] if rank == 0 else [pipes[rank - 1][1]]
        for end in (end for pipe in (*pipes, *answers) for end in pipe):
            if end not in own and end is not answers[rank][1]:
                end.close()
        try:
            found = f(Comm(rank, len(answers), own))
        except Exception as error:
            found = error
        answers[rank][1].send_bytes(pickle.dumps(found))
    finally:
        os._exit(0)
