"""A plan in a process of its own.

Threads that run NumPy side by side take turns at the interpreter after every call, and waking up costs more than most
calls.  A plan needs no interpreter but its own: it is a list of array calls on planned memory.  So a forked process
runs it, over memory that both share: the plan's, and the parameters'.  What passes between them is a word to begin,
with the generators that draw the noise, and a word at the end.
"""

from __future__ import annotations

import os
import signal
import sys
import warnings
import weakref
from contextlib import suppress
from multiprocessing.connection import Connection, Pipe
from typing import Any

import numpy as np

from scratchgen.cores import is_shared
from scratchgen.planning import Plan, touched
from scratchgen.random import Generator
from scratchgen.recorded import Given, ReplayError
from scratchgen.recording import check_sum, owner

CHECKED = 1 << 17
"""Bytes of arrays outside of shared memory, which the other process sees as they are now: they are looked at in every
step, so there may not be more."""


def move(plan: Plan) -> bool:
    """Let a process of its own run the plan from here on.  False where that cannot be: the plan then stays.

    It can be where processes fork; where nothing has to be done anew in every step but drawing from generators that are
    given; and where what the plan reads from outside is in shared memory (`optim.Flat`), or small.
    """
    if plan.process is not None:
        return True
    calls = [call for step in plan.steps for call in step.calls]
    outside = [owner(s.array) for call in calls for s in touched(call) if s.array is not None and not s.root.anew]
    constants = [a for a in {id(a): a for a in outside}.values() if not is_shared(a)]
    done_here = [call for call in calls if call.always and type(call.args[0]) is not Given]
    written = {id(owner(call.out.array)) for call in calls if call.out is not None and call.out.array is not None}
    if sys.platform != "linux" or done_here or written & {id(a) for a in constants}:
        return False
    if sum(a.nbytes for a in constants) > CHECKED:
        return False
    plan.process = Elsewhere(plan, constants)
    plan.run = plan.process.run
    return True


class Elsewhere:
    """The process, as seen from here.  It ends when it is closed or forgotten, and when we end."""

    def __init__(self, plan: Plan, constants: list[np.ndarray]) -> None:
        self.given, self.constants = plan.given, [(a, check_sum(a)) for a in constants]
        self.channel, there = Pipe()
        with warnings.catch_warnings():  # of forking with threads: the child runs none of their code
            warnings.simplefilter("ignore", DeprecationWarning)
            self.pid = os.fork()
        if self.pid == 0:
            _serve(plan, there, self.channel)
        there.close()
        OPEN.append(self.channel)
        self.close = weakref.finalize(self, _end, self.channel, self.pid)

    def run(self) -> None:
        """The step, in the other process; the generators are then where it left them.

        Raises ReplayError if the process has died, or if a constant is none; and what the step raises.
        """
        for array, was in self.constants:
            if check_sum(array) != was:
                raise ReplayError(f"replay: an array of {array.dtype} from outside was written to between two steps")
        try:
            self.channel.send([None if isinstance(x, np.ndarray) else x for x in self.given])
            error, states = self.channel.recv()
        except (EOFError, OSError):
            raise ReplayError("replay: the process that ran a part of the step has died") from None
        for stream, state in zip(filter(is_stream, self.given), states, strict=True):
            stream.restore(state)
        if error is not None:
            raise error


OPEN: list[Connection] = []  # to the other processes: a new one must not keep them alive


def is_stream(x: Any) -> bool:
    return isinstance(x, Generator)


def _serve(plan: Plan, channel: Connection, ours: Connection) -> None:
    """What the process does: wait, run, answer, until nobody is there."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent answers
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        for connection in [*OPEN, ours]:
            connection.close()
        while True:
            plan.given[:] = channel.recv()
            error: Exception | None = None
            try:
                with np.errstate(all="ignore"):
                    plan.run()
            except Exception as raised:
                error = raised
            channel.send((error, [stream.state() for stream in filter(is_stream, plan.given)]))
    except (EOFError, OSError):
        pass
    finally:
        os._exit(0)


def _end(channel: Connection, pid: int) -> None:
    """Hang up; the process then ends by itself."""
    if channel in OPEN:
        OPEN.remove(channel)
        channel.close()
        with suppress(ChildProcessError):
            os.waitpid(pid, 0)
