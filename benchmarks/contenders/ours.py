"""scratchgen: as its trainer takes a step, and the same step recorded and replayed."""

from __future__ import annotations

import os
from contextlib import ExitStack
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

import scratchgen as sg
from benchmarks.contenders import BETA1, BETA2, LR, TINY
from benchmarks.device import HOST, Place, precisely, taken, ticks
from benchmarks.workload import Problem, Workload
from scratchgen import ops, optim
from scratchgen.autograd import gradients
from scratchgen.cores import side_by_side
from scratchgen.random import MODES, Generator
from scratchgen.train.machine import prepare


class Eager:
    """The trainer's step: the loss and gradient of each shard, side by side; their mean; Adam.

    On a device there is one shard, and noise is drawn there.
    """

    def __init__(self, workload: Workload, problem: Problem, threads: int, place: Place = HOST) -> None:
        self.shards = workload.shards if threads > 1 and not place.on_device else 1
        self.xp = sg.use(place.backend)
        ExitStack().enter_context(precisely(place))  # for good: the process is this contender's own
        self.ticks, self.finish = ticks(place), ticks(place).finish
        self.taken = taken if place.backend == "cupy" else None
        prepare()  # one BLAS thread for each of several shards …
        threadpool_limits(threads if self.shards == 1 else 1, user_api="blas")  # … or all threads for the only one
        self.workload, self.problem = workload, problem
        self.net = workload.network(Generator(0))
        self.net.load_state_dict(problem.weights)
        self.parameters = self.net.parameters()
        self.flat = optim.Flat(dict(self.net.named_parameters()))
        self.optimiser = optim.Adam(self.flat, lr=LR, beta1=BETA1, beta2=BETA2, tiny=TINY)
        mode = "counter" if place.on_device and "counter" in MODES else "host"
        self.streams = Generator(1, mode).spawn(self.shards)
        self.batches = [split(self.moved(batch), self.shards) for batch in problem.batches]
        self.steps = 0

    def moved(self, arrays: tuple[Any, ...]) -> tuple[Any, ...]:
        return tuple(map(self.xp.asarray, arrays))

    # --- what one shard does: functions of arrays and a generator -------------------------------------------

    def gradient(self, *arguments: Any) -> tuple[Any, Any]:
        """The mean loss and its flat gradient.  arguments: a batch and its noise."""
        loss = ops.mean(self.net.loss(*arguments))
        return loss.array, self.flat.gather(gradients(loss, self.parameters))

    def draw(self, rng: Generator) -> tuple[Any, ...]:
        n = self.workload.examples // self.shards
        return tuple(noise.draw(n, rng) for noise in self.workload.noise)

    def shard(self, rng: Generator, *batch: Any) -> tuple[Any, Any]:
        """`gradient` with noise of its own."""
        return self.gradient(*batch, *self.draw(rng))

    def whole(self, rng: Generator, *batch: Any) -> tuple[Any, Any]:
        """The whole step, where there is one shard."""
        loss, gradient = self.shard(rng, *batch)
        if self.workload.kind == "training":
            self.optimiser.step(gradient)
        return loss, gradient

    def sample(self, rng: Generator) -> Any:
        return self.net.sample(*self.draw(rng))

    # --- what all do together -------------------------------------------------------------------------------

    def part(self) -> Any:
        """The function that each shard runs."""
        if self.workload.kind == "sampling":
            return self.sample
        return self.whole if self.shards == 1 else self.shard

    def run(self, tasks: list[tuple[Any, ...]]) -> list[Any]:
        """The results of the shards, from the arguments of each."""
        part = self.part()
        return side_by_side(lambda task: part(*task), tasks)

    def step(self) -> None:
        shards = self.batches[self.steps % len(self.batches)]
        self.steps += 1
        found = self.run([(rng, *shard) for rng, shard in zip(self.streams, shards, strict=True)])
        if self.shards > 1 and self.workload.kind == "training":
            self.optimiser.step(mean([gradient for _, gradient in found]))

    def answer(self) -> dict[str, np.ndarray]:
        parts = split(self.moved((*self.problem.batches[0], *self.problem.noise)), self.shards)
        out = self.xp.to_numpy
        if self.workload.kind == "sampling":
            return {"images": np.concatenate([out(self.asked(self.net.sample, part)) for part in parts])}
        found = [self.asked(self.gradient, part) for part in parts]
        loss = np.mean([out(loss) for loss, _ in found], dtype=np.float32)
        return {"loss": loss, **self.flat.views(out(mean([gradient for _, gradient in found])))}

    def asked(self, f: Any, arguments: tuple[Any, ...]) -> Any:
        """f(*arguments), in the way of this contender."""
        return f(*arguments)


class Replayed(Eager):
    """The same functions, recorded and replayed."""

    RECORDINGS = 2

    def __init__(self, workload: Workload, problem: Problem, threads: int, place: Place = HOST) -> None:
        super().__init__(workload, problem, threads, place)
        self.fast = [sg.replay(self.part(), copy=False) for _ in self.streams]

    def run(self, tasks: list[tuple[Any, ...]]) -> list[Any]:
        found = side_by_side(lambda pair: pair[0](*pair[1]), zip(self.fast, tasks, strict=True))
        if self.steps == self.RECORDINGS + 1:  # as the trainer does: all but the first in processes of their own
            for other in self.fast[1:]:
                other.move()
        return found

    def asked(self, f: Any, arguments: tuple[Any, ...]) -> Any:
        fast = sg.replay(f)
        for _ in range(self.RECORDINGS):
            fast(*arguments)
        try:
            return fast(*arguments)
        finally:
            fast.close()


class Cudnn(Replayed):
    """The same, with convolutions by cuDNN."""

    def __init__(self, workload: Workload, problem: Problem, threads: int, place: Place = HOST) -> None:
        os.environ["SCRATCHGEN_CONVOLUTION"] = "cudnn"  # read when the backend is loaded, in a process of its own
        super().__init__(workload, problem, threads, place)


def split(batch: tuple[Any, ...], shards: int) -> list[tuple[Any, ...]]:
    """A batch in equal parts."""
    if not batch or shards == 1:
        return [batch] * shards
    return list(zip(*(np.split(array, shards) for array in batch), strict=True))


def mean(gradients: list[Any]) -> Any:
    """The mean over shards, in the memory of the first."""
    total = gradients[0]
    for other in gradients[1:]:
        total += other
    if len(gradients) > 1:
        total /= len(gradients)
    return total
