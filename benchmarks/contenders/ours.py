"""scratchgen: as its trainer takes a step, and the same step recorded and replayed."""

from __future__ import annotations

from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

import scratchgen as sg
from benchmarks.contenders import BETA1, BETA2, LR, TINY
from benchmarks.workload import Problem, Workload
from scratchgen import ops, optim
from scratchgen.autograd import gradients
from scratchgen.random import Generator
from scratchgen.train.machine import prepare, side_by_side


class Eager:
    """The trainer's step: shards side by side, one flat gradient, Adam."""

    def __init__(self, workload: Workload, problem: Problem, threads: int) -> None:
        self.shards = workload.shards if threads > 1 else 1
        prepare()  # one BLAS thread for each shard …
        threadpool_limits(threads if self.shards == 1 else 1, user_api="blas")  # … or all threads for the one
        self.workload, self.problem = workload, problem
        self.net = workload.network(Generator(0))
        self.net.load_state_dict(problem.weights)
        self.parameters = self.net.parameters()
        self.flat = optim.Flat(dict(self.net.named_parameters()))
        self.optimiser = optim.Adam(self.flat, lr=LR, beta1=BETA1, beta2=BETA2, tiny=TINY)
        self.streams = Generator(1).spawn(self.shards)
        self.batches = [split(batch, self.shards) for batch in problem.batches]
        self.steps = 0

    def noise(self, rng: Generator) -> tuple[Any, ...]:
        """What one shard draws."""
        return tuple(noise.draw(self.workload.examples // self.shards, rng) for noise in self.workload.noise)

    def gradient(self, *arguments: Any) -> tuple[Any, Any]:
        """The mean loss and its flat gradient.  arguments: a batch and its noise."""
        loss = ops.mean(self.net.loss(*arguments))
        return loss.array, self.flat.gather(gradients(loss, self.parameters))

    def shard(self, rng: Generator, *batch: Any) -> tuple[Any, Any]:
        """`gradient` with noise of its own."""
        return self.gradient(*batch, *self.noise(rng))

    def sample(self, rng: Generator) -> Any:
        return self.net.sample(*self.noise(rng))

    def step(self) -> None:
        shards = self.batches[self.steps % len(self.batches)]
        self.steps += 1
        if self.workload.kind == "sampling":
            side_by_side(self.sample, self.streams)
            return
        found = side_by_side(lambda task: self.shard(task[0], *task[1]), zip(self.streams, shards, strict=True))
        if self.workload.kind == "training":
            self.optimiser.step(mean([g for _, g in found]))

    def answer(self) -> dict[str, np.ndarray]:
        batch, noise = self.problem.batches[0], self.problem.noise
        parts = split((*batch, *noise), self.shards)
        if self.workload.kind == "sampling":
            return {"images": np.concatenate(side_by_side(lambda part: self.net.sample(*part), parts))}
        found = side_by_side(lambda part: self.gradient(*part), parts)
        loss = np.mean([loss for loss, _ in found])
        return {"loss": loss, **self.flat.views(mean([g for _, g in found]))}


def split(batch: tuple[Any, ...], shards: int) -> list[tuple[Any, ...]]:
    """A batch in equal parts."""
    if not batch:
        return [()] * shards
    return list(zip(*(np.split(array, shards) for array in batch), strict=True))


def mean(gradients: list[Any]) -> Any:
    """The mean over shards, in the memory of the first."""
    total = gradients[0]
    for other in gradients[1:]:
        total += other
    if len(gradients) > 1:
        total /= len(gradients)
    return total


class Replayed(Eager):
    """The same, each shard's forward and backward pass recorded once and replayed."""

    def __init__(self, workload: Workload, problem: Problem, threads: int) -> None:
        super().__init__(workload, problem, threads)
        self.gradient = sg.replay(self.gradient)  # type: ignore[attr-defined, method-assign]
