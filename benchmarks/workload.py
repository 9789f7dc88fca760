"""What a workload is: a network with its loss, written once for each library, and the data and noise of a step."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

import numpy as np

from scratchgen.nn import Module
from scratchgen.random import Generator

Arrays = tuple[np.ndarray, ...]


@dataclass(frozen=True)
class Noise:
    """What a step draws for each example: numbers of a kind in a shape; integers in [low, high)."""

    kind: Literal["normal", "uniform", "integers"]
    shape: tuple[int, ...] = ()
    low: int = 0
    high: int = 0

    def draw(self, n: int, rng: Any) -> Any:
        """(n, …), from a NumPy generator or one of ours."""
        shape = (n, *self.shape)
        if self.kind == "integers":
            return rng.integers(self.low, self.high, shape)
        return (rng.standard_normal if self.kind == "normal" else rng.random)(shape, dtype=np.float32)


@dataclass(frozen=True)
class Workload:
    """One row of the table.

    title     what the row is called
    examples  in a batch
    network   ours: a module with `loss(*batch, *noise)`, a number per example, or, for sampling, `sample(*noise)`
    batch     one batch of data: a tuple of arrays (B, …)
    noise     what a step draws beside it
    pytorch   () ↦ the same as a torch.nn.Module, its parameters in the same order
    arrays    (xp) ↦ loss(parameters by name, *batch, *noise) in the NumPy names of xp: JAX's or autograd's
    kind      training: loss, gradients, Adam.  gradient: without Adam.  sampling: no gradient at all
    images    whether there are convolutions, so that the memory layout matters
    autograd  whether `arrays` needs nothing that only JAX has
    shards    parts of a batch that ours works on side by side, one BLAS thread each; 1: one part, all BLAS threads
    """

    title: str
    examples: int
    network: Callable[[Generator], Module]
    batch: Callable[[np.random.Generator], Arrays]
    noise: tuple[Noise, ...]
    pytorch: Callable[[], Any]
    arrays: Callable[[Any], Callable[..., Any]]
    kind: Literal["training", "gradient", "sampling"] = "training"
    images: bool = False
    autograd: bool = False
    shards: int = 1


SIZES = {"small": 1, "medium": 8, "large": 32}
"""On a device, how many times the examples that a batch has on the host: from bound by launches to bound by numbers."""


def grown(workload: Workload, times: int) -> Workload:
    """The same with so many times the examples in a batch; itself, where their number is part of the network."""
    if times == 1 or not (workload.noise or workload.batch(np.random.default_rng(0))):
        return workload
    examples = times * workload.examples

    def batch(rng: np.random.Generator) -> Arrays:
        return tuple(np.concatenate(parts) for parts in zip(*(workload.batch(rng) for _ in range(times)), strict=True))

    title = re.sub(rf"\b{workload.examples}\b(?= images|$)", str(examples), workload.title)
    return replace(workload, title=title, examples=examples, batch=batch)


class Problem(NamedTuple):
    """What all contenders are given: weights by name, batches to go round, and one noise to be checked with."""

    weights: dict[str, np.ndarray]
    batches: list[Arrays]
    noise: Arrays


BATCHES = 8
ROUGHENED = 0.05
"""Weights that begin at 0 would hide what is before them from the check: all get some noise."""


def problem(workload: Workload, seed: int = 0) -> Problem:
    """The one problem that all contenders solve."""
    rng = np.random.default_rng(seed)
    weights = workload.network(Generator(seed)).state_dict()
    for w in weights.values():
        w += ROUGHENED * rng.standard_normal(w.shape, dtype=np.float32)
    batches = [workload.batch(rng) for _ in range(BATCHES)]
    return Problem(weights, batches, tuple(noise.draw(workload.examples, rng) for noise in workload.noise))
