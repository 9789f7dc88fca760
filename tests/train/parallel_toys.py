"""A process of several that train a toy system together, as mpiexec starts it.

    mpiexec -n K python parallel_toys.py FOLDER SYSTEM SETTINGS RANK STEP FAULT

creates the run, or resumes it; the process of that rank does something wrong when it begins that minibatch:

    none                    raise                   an error that nobody foresaw
    kill                    is killed               drift   moves a weight by a hair
    SIGINT, SIGTERM         is sent the signal

With "gpus" among the settings the processes play that they have one each (`host_nccl`); something then goes wrong when
the minibatch is drawn, since a graph's launch calls no loss.
"""

import json
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from train_toys import CONFIG, Done, make, run_in

from scratchgen import use
from scratchgen.train import GroupError, Interrupted, loop
from scratchgen.train.launch import joined


def strike(fault, system):
    if fault == "raise":
        raise ZeroDivisionError("something that nobody foresaw")
    if fault == "drift":
        tensor = system.parameters()[0]
        tensor.value[...] = np.nextafter(tensor.array, np.float32(9))
    if fault == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if fault.startswith("SIG"):
        os.kill(os.getpid(), signal.Signals[fault])


def play_gpus(group):
    """The group on GPUs of the host; this process uses one from here on."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "backends"))
    import host_cupy
    import host_graph
    import host_nccl

    patch = pytest.MonkeyPatch()
    kept.append(host_cupy.installed(patch))
    next(kept[0])
    xp = use("cupy")
    host_nccl.installed(patch, host_graph.installed(patch), group.mpi, group.comm)
    return group.on(xp)


kept = []  # generators that would put things back when they end


def main(group, folder, name, settings, rank, step, fault) -> int:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # which a background job would ignore
    settings = json.loads(settings)
    gpus = settings.pop("gpus", False)
    group = play_gpus(group) if gpus else group
    system = make(name)
    first = "critic_loss" if name == "game" else "loss"
    quick, calls = getattr(system, first), iter(range(1, 1000))

    def perhaps():
        if next(calls) == int(step) and group.rank == int(rank):
            strike(fault, system)

    striking = Done(perhaps)

    def struck(x, rng):
        striking()
        return quick(x, rng)

    if fault != "none" and gpus:
        draw = loop.Source.__call__
        loop.Source.__call__ = lambda self, cursor: (perhaps(), draw(self, cursor))[1]
    elif fault != "none":
        setattr(system, first, struck)
    try:
        run_in(folder, name, replace(CONFIG, **settings), system, group)
    except Interrupted as stop:
        return stop.code
    except GroupError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    with joined() as group:
        sys.exit(main(group, *sys.argv[1:]))
