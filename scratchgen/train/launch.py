"""Processes that mpiexec started, from the first word to the last: they are found, they fail together, they part.

A process of a group may end in four ways:

    with the others    process 0 speaks for all, and all exit with one code: done, stopped, diverged, a wrong option
    alone, by an error it says which, once the others have had a moment to come to the same end, and ends them all
    killed             mpiexec ends the others, and a process that process 0 left behind (`keeper`) says what remains
    after training     they part when it is over: process 0 goes on to judge, the others are done
"""

from __future__ import annotations

import io
import os
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from scratchgen.train.group import ALONE, Group, GroupError, MPIGroup

SIZES = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE")  # what Open MPI's mpiexec sets, and MPICH's and its kin
RANKS = ("OMPI_COMM_WORLD_RANK", "PMI_RANK", "PMIX_RANK")  # the last by launchers that tell no size
HEARD = 0.5
"""Seconds that mpiexec has to pass on what was written, before everything ends."""
PATIENCE = 3.0
"""Seconds that a failing process waits for the others to fail in the same way."""
KEEPER = Path(__file__).with_name("keeper.py")


def told(names: tuple[str, ...]) -> int | None:
    """The number that a launcher put into the environment."""
    return next((int(os.environ[name]) for name in names if os.environ.get(name, "").isdigit()), None)


def join() -> Group:
    """All processes that one mpiexec started; without mpiexec, or if it is the only one, this one.

    mpi4py is imported only where there are several.  Raises GroupError where it is missing, or knows another number of
    processes than mpiexec, being made for another MPI.
    """
    size = told(SIZES)
    if size == 1 or (size is None and told(RANKS) is None):
        return ALONE
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:  # the second where it finds no MPI
        why = "is not installed" if isinstance(error, ModuleNotFoundError) else "finds no MPI"
        raise GroupError(f"mpiexec starts processes, but mpi4py {why}: pip install 'scratchgen[mpi]'") from error
    found = MPI.COMM_WORLD.Get_size()
    if size is not None and found != size:
        raise GroupError(f"mpiexec starts {size} processes, of which mpi4py sees {found}: it is made for another MPI; "
                         "take the mpiexec beside it")  # fmt: skip
    return ALONE if found == 1 else MPIGroup(MPI.COMM_WORLD)


@contextmanager
def joined() -> Iterator[Group]:
    """The group that this process belongs to.  What the block raises ends all of it, never a part.

    Only process 0 is heard, and another one if it fails alone.
    """
    group = join()
    if not isinstance(group, MPIGroup):
        yield group
        return
    heard = sys.stderr
    if group.rank > 0:
        sys.stdout, sys.stderr = io.StringIO(), io.StringIO()
    try:
        yield group
    except BaseException as error:
        code = exit_code(error)
        if code and not group.mpi.Is_finalized() and not group.meets(PATIENCE):
            said = sys.stderr.getvalue() if isinstance(sys.stderr, io.StringIO) else ""
            heard.write(f"{said}scratchgen: process {group.rank} of {group.size} fails alone, which ends all; --resume "
                        "goes on from the last checkpoint, if there is one\n")  # fmt: skip
            heard.flush()
            time.sleep(HEARD)
            group.abort(code)
        group.close()
        sys.exit(code)


def exit_code(error: BaseException) -> int:
    """What a process should exit with that ends by this; an error that nobody foresaw is printed."""
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else int(error.code is not None)
    traceback.print_exception(error)
    return 1


@contextmanager
def keeper(words: str) -> Iterator[None]:
    """A process that says the words on standard error if this one is killed within the block.

    mpiexec ends all processes when one has died, at once and together with theirs; this one has a session of its own.
    """
    process = subprocess.Popen([sys.executable, "-I", "-S", KEEPER, words], stdin=subprocess.PIPE,
                               stdout=subprocess.DEVNULL, start_new_session=True)  # fmt: skip
    assert process.stdin is not None
    try:
        yield
    finally:
        with suppress(BrokenPipeError):
            process.stdin.write(b"all is well")
            process.stdin.close()
        process.wait()
