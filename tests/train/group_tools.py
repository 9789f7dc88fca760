"""A group of threads: what several processes do together, in one."""

import pickle
import threading
from concurrent.futures import ThreadPoolExecutor

from scratchgen.train import Group


class ThreadGroup(Group):
    """One of the threads of `together`."""

    captures = False  # one thread records at a time: it would wait for the others, and they for it

    def __init__(self, rank, size, table, barrier):
        self.rank, self.size, self.table, self.barrier = rank, size, table, barrier
        self.reduced = 0

    def exchange(self, value):
        """What all of them brought, by rank."""
        self.table[self.rank] = value
        self.barrier.wait(60)
        found = list(self.table)
        self.barrier.wait(60)
        return found

    def all_reduce(self, buffer):
        self.reduced += 1
        first, *others = self.exchange(buffer.copy())
        for other in others:
            first = first + other
        buffer[...] = first

    def broadcast(self, value):
        found = self.exchange(value)[0]
        return found if self.rank == 0 else pickle.loads(pickle.dumps(found))

    def largest(self, number):
        return max(self.exchange(number))


def together(size, f):
    """f(group) in so many threads, each with its own group.  Returns what each returns, or the exception it raises."""
    table, barrier = [None] * size, threading.Barrier(size)

    def member(rank):
        try:
            return f(ThreadGroup(rank, size, table, barrier))
        except Exception as error:
            if type(error) is threading.BrokenBarrierError:
                raise
            return error

    with ThreadPoolExecutor(size) as pool:
        return list(pool.map(member, range(size)))
