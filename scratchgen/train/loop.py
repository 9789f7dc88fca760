"""The training loop, one for every system.

    for each step:
        for each player, k times:                       (Goodfellow et al. 2014, Algorithm 1; k = 1, one
            draw a minibatch x and fresh noise           player, for everything that is not a game)
            L = (1/B) Σ_b loss(x_b)
            g = ∂L/∂θ, clipped to a norm
            θ ← optimiser(θ, g, η_t), then what else the player does after a step
            θ̄ ← μ θ̄ + (1−μ) θ                           (the averaged weights)

Everything a step depends on is in `State` and in the seed, so a run that is stopped anywhere and continued
from its last checkpoint goes through the same numbers, bit by bit, as one that was never stopped.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np

from scratchgen import ops
from scratchgen.backend import active
from scratchgen.cores import side_by_side
from scratchgen.data.batches import Batches
from scratchgen.models.system import System
from scratchgen.random import Generator
from scratchgen.recorded import ReplayError
from scratchgen.train.config import TrainConfig, learning_rate, settled
from scratchgen.train.group import ALONE, Group, split
from scratchgen.train.launch import keeper
from scratchgen.train.metrics_log import MetricsLog
from scratchgen.train.progress import Bar
from scratchgen.train.run import RunError, RunFolder
from scratchgen.train.signals import Interrupted, StopSignals
from scratchgen.train.state import PlayerState, State

START = (1 << 31) + 1  # this child of the seed makes the noise of `System.start`
Data = np.ndarray | tuple[np.ndarray, ...]


@dataclass(frozen=True)
class TrainResult:
    """What training ends with; the trained weights are in the system itself.

    step: steps taken in all.  losses: the last row logged by this call, by column ({} if there was none).
    average: the averaged weights by parameter name, for `system.frozen(average)`; None without an average.
    """

    step: int
    losses: dict[str, float]
    average: dict[str, Any] | None


def train(system: System, data: Data, config: TrainConfig, run: RunFolder | None = None, *,
          name: str | None = None, progress: bool = True, group: Group = ALONE) -> TrainResult:
    """Train `system` on `data` on the active backend, and continue where `run` left off if it has begun.

    data: an array (N, …) or a tuple of arrays of one length; a player's loss receives the same with B in
    place of N, floats in the dtype of `config`, which must be that of the parameters.
    run: where to save; without it nothing is written and signals are left alone.
    name: what the system is called in messages and in the checkpoint (its class's name by default).
    group: the processes that train together (`train.group`), each with the same arguments.  The first of them writes
    and prints; a signal to any of them stops all.

    Raises DivergedError when a loss, a gradient or a parameter is not finite: the checkpoint from before
    stays.  Raises Interrupted on SIGINT or SIGTERM, after the step is finished and saved.
    Raises RunError or CheckpointError for a folder that is in use, damaged, full, or of another run.
    Raises GroupError for what processes cannot share, and if they have come to different numbers.
    """
    name, config = name or type(system).__name__, settled(config, active().own_noise)
    source = Source(data, config)
    with ExitStack() as stack:
        stop = StopSignals()
        if run is not None:
            group.first(lambda: stack.enter_context(run.lock()))
            stack.enter_context(stop)
        state = begin(system, source, config, run, name, group)
        stack.callback(state.close)
        journal = stack.enter_context(Journal(run if group.rank == 0 else None, state.step))
        if state.saved is None:
            journal.save(state)
        if journal.run is not None and group.size > 1:
            stack.enter_context(keeper(f"scratchgen: {name}: a process of this run has died; its last checkpoint, "
                                       f"{journal.run.checkpoint}, is whole: --resume goes on from there"))
        bar = stack.enter_context(Bar(name, config.steps, state.step, silent=not progress or group.rank > 0))
        losses: dict[str, float] = {}
        while state.step < config.steps:
            take_turn(state, source)
            stopping = group.largest(stop.received or 0)
            if state.step % config.log_every == 0:
                losses = journal.log(state)
            if stopping or state.step % config.checkpoint_every == 0 or state.step == config.steps:
                journal.save(state)
            for note in state.notes:
                bar.say(note)
            state.notes.clear()
            bar.update(state.step, state.describe)
            if stopping:
                raise Interrupted(128 + stopping, state.step)
    return TrainResult(state.step, losses, state.averages())


def begin(
    system: System, source: Source, config: TrainConfig, run: RunFolder | None, name: str, group: Group = ALONE
) -> State:
    """The state that the run was last saved in, or the initial one: the first process's, in all."""
    own: list[State] = []

    def found() -> Any:
        own.append(_begin(system, source, config, run, name, group))
        return (*own[0].contents(), own[0].saved) if group.size > 1 else (None, None, None)

    arrays, meta, saved = group.first(found)
    state = own[0] if own else State.restored(arrays, meta, system, config, name, group)
    state.saved = saved if group.rank > 0 else state.saved
    return state


def _begin(
    system: System, source: Source, config: TrainConfig, run: RunFolder | None, name: str, group: Group
) -> State:
    if run is not None and run.checkpoint.exists():
        return State.load(run.checkpoint, system, config, name, group)
    if run is not None and run.metrics.exists():  # the first checkpoint is older than the first row of the log
        raise RunError(f"{run.checkpoint}: is gone, so this run cannot be continued")
    system.start(source(0), Generator(np.random.SeedSequence(config.seed, spawn_key=(START,))))
    return State(system, config, name, group)


def take_turn(state: State, source: Source) -> None:
    """One step of the algorithm above."""
    rate = learning_rate(state.config, state.step)
    state.step += 1
    for player in state.players:
        for _ in range(player.steps):
            update(player, source(state.cursor), rate, state)
            state.cursor += 1


def update(player: PlayerState, batch: Any, rate: float, state: State) -> None:
    """One minibatch of one player.  On a device it is one call, which is replayed as a whole."""
    player.set_rate(rate)
    player.count += 1
    with np.errstate(all="ignore"):  # what is not finite is looked for, and named, by `check`
        if not state.on_host:
            return on_device(player, batch, state)
        terms, gradient = descent(player, batch, state)
        player.clip(terms, gradient)
        state.check()  # before the step, which would spoil the weights
        player.move(batch, state.rng, gradient)


def on_device(player: PlayerState, batch: Any, state: State) -> None:
    """The update as a graph of kernels.  Without, for good, where that cannot be: with a note, and with nothing done
    twice, since what is refused has not been done.  Several processes go the same way."""
    noise = state.rng, state.own_noise()
    for step in player.replays:
        try:
            return step(batch, *noise)
        except ReplayError as error:
            give_up(player, error, state)
    player.update(batch, *noise)


def descent(player: PlayerState, batch: Any, state: State) -> tuple[Any, Any]:
    """The loss's terms (B,) and ∂L/∂θ on the flat buffer: the mean over shards, each with noise of its own.

    The shards' passes are recorded once and replayed, unless the configuration says no, or they cannot be.  Of several
    processes, each works on its own shards.
    """
    shards = state.shards
    streams = [state.rng] if shards == 1 else state.rng.spawn(shards)
    parts = state.group.share(list(zip(split(batch, shards), streams, strict=True)))
    found = replayed(player, parts, state) if player.replays else None
    if found is None:
        found = side_by_side(lambda part: player.gradient(*part), parts)
    terms = [ops.concatenate(column) for column in zip(*(terms for terms, _ in found), strict=True)]
    gradient = found[0][1]
    for _, other in found[1:]:
        gradient += other
    terms, gradient = state.group.add_up(terms, gradient)
    if shards > 1:
        gradient /= shards
    return type(found[0][0])(*terms), gradient


def replayed(player: PlayerState, parts: Sequence[Any], state: State) -> list[Any] | None:
    """What `player.gradient` gives of each part, by replay.  None, for good, where that cannot be: with a note, and
    with the noise and the system's memory as they were."""
    before = [rng.mark() for _, rng in parts]
    held = [] if player.is_recorded() else [flat.buffer.copy() for flat in state.memory]
    try:
        found = side_by_side(lambda task: task[0](*task[1]), zip(player.replays, parts, strict=True))
    except ReplayError as error:
        for (_, rng), was in zip(parts, before, strict=True):
            rng.back(was)
        for flat, buffer in zip(state.memory, held, strict=False):
            flat.write(buffer)
        give_up(player, error, state)
        return None
    player.spread()
    return found


def give_up(player: PlayerState, error: ReplayError, state: State) -> None:
    """Replay no more."""
    state.notes.append(f"{error}; trained without replay, which gives the same numbers")
    player.close()


RESIDENT = 1 << 31
"""Bytes of data that a device holds from the start; more stay on the host."""


class Source:
    """Minibatches on the active backend, in an order that the seed alone decides.

    On a device the data are brought in once, the order of an epoch when it begins, and a minibatch is chosen there.
    Of data larger than RESIDENT each minibatch is brought in: CuPy copies it from pinned memory and waits for nothing,
    so it is gathered while the device is still at the step before.
    """

    def __init__(self, data: Data, config: TrainConfig) -> None:
        """Raises ValueError for arrays of different lengths, or fewer examples than a batch has."""
        self.several = isinstance(data, tuple)
        self.arrays = [_in_dtype(a, config.dtype) for a in (data if isinstance(data, tuple) else (data,))]
        if len({len(a) for a in self.arrays}) != 1:
            raise ValueError(f"data: arrays of different lengths {[len(a) for a in self.arrays]}")
        self.batches = Batches(len(self.arrays[0]), config.batch_size, config.seed)
        self.xp = active()
        self.is_resident = self.xp.on_device and sum(a.nbytes for a in self.arrays) <= RESIDENT
        self.there: list[Any] = [self.xp.asarray(a) for a in self.arrays] if self.is_resident else []
        self.order: tuple[int, Any] = (-1, None)  # of an epoch, where the data are

    def __call__(self, cursor: int) -> Any:
        """The minibatch at a place in the order: (B, …), or a tuple of those."""
        batch = self._chosen(cursor) if self.is_resident else self._brought(cursor)
        return batch if self.several else batch[0]

    def _brought(self, cursor: int) -> tuple[Any, ...]:
        """Of data on the host."""
        chosen = self.batches(cursor)
        return tuple(self.xp.asarray(a[chosen]) for a in self.arrays)

    def _chosen(self, cursor: int) -> tuple[Any, ...]:
        """Of data on the device."""
        epoch, start = self.batches.place(cursor)
        if self.order[0] != epoch:
            self.order = epoch, self.xp.asarray(self.batches.order(epoch))
        chosen = self.order[1][start : start + self.batches.batch_size]
        return tuple(a[chosen] for a in self.there)


def _in_dtype(array: Any, dtype: str) -> np.ndarray:
    """Floats in the dtype of the run; labels and other integers as they are."""
    if not isinstance(array, np.ndarray):
        raise TypeError(f"data: a {type(array).__name__} is no NumPy array")
    return array.astype(dtype) if array.dtype.kind == "f" else array


class Journal:
    """What a run writes down: metrics, times and checkpoints.  Without a run folder, nothing.

    start: the step the run continues from; the rows after it are dropped.
    """

    def __init__(self, run: RunFolder | None, start: int) -> None:
        self.run, self.start = run, start
        self.logs: list[MetricsLog] = []  # metrics and timing, once the loss has told its terms
        self.began = time.monotonic()

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        for log in self.logs:
            log.close()

    def log(self, state: State) -> dict[str, float]:
        """Write the row of this step, and begin the next one's means."""
        state.check()
        row = state.means()
        if self.run is not None:
            if not self.logs:
                self.logs.append(MetricsLog(self.run.metrics, list(row), self.start))
                self.logs.append(MetricsLog(self.run.timing, ["seconds"], self.start))
                before = self.logs[1].last
                self.began -= before[1] if before else 0.0  # the seconds of the run's earlier lives
            self.logs[0].append(state.step, list(row.values()))
            self.logs[1].append(state.step, [time.monotonic() - self.began])
        return row

    def save(self, state: State) -> None:
        """Write the checkpoint, after the rows that it relies on."""
        state.check(parameters=True)
        state.compare()
        if self.run is not None:
            for log in self.logs:
                log.sync()
            state.save(self.run.checkpoint)
