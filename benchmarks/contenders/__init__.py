"""Who competes.  A contender is made of a workload and its problem, takes steps, and can be asked for its answer."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from typing import Any, NamedTuple, Protocol

import numpy as np

from benchmarks.workload import Problem, Workload

LR, BETA1, BETA2, TINY = 1e-4, 0.9, 0.999, 1e-8


class Contender(Protocol):
    """What the worker asks of a contender."""

    def step(self) -> None:
        """One whole step with noise of its own, finished on return."""

    def answer(self) -> dict[str, np.ndarray]:
        """On the first batch with the given noise: the loss and each parameter's gradient by our name and in our
        layout, or the sampled images.  Changes nothing."""


class Entry(NamedTuple):
    """label: in tables.  package: what must be installed.  make: (workload, problem, threads) ↦ the contender.
    fits: which workloads it can compete in."""

    label: str
    package: str
    make: Callable[[Workload, Problem, int], Contender]
    fits: Callable[[Workload], bool] = lambda workload: True


def _ours(replayed: bool) -> Callable[..., Any]:
    def make(workload: Workload, problem: Problem, threads: int) -> Contender:
        from benchmarks.contenders.ours import Eager, Replayed

        return (Replayed if replayed else Eager)(workload, problem, threads)

    return make


def _pytorch(**options: Any) -> Callable[..., Any]:
    def make(workload: Workload, problem: Problem, threads: int) -> Contender:
        from benchmarks.contenders.pytorch import PyTorch

        return PyTorch(workload, problem, threads, **options)

    return make


def _jax(workload: Workload, problem: Problem, threads: int) -> Contender:
    from benchmarks.contenders.jaxed import Jax

    return Jax(workload, problem)


def _autograd(workload: Workload, problem: Problem, threads: int) -> Contender:
    from benchmarks.contenders.hips import Autograd

    return Autograd(workload, problem)


CONTENDERS = {
    "ours": Entry("scratchgen", "scratchgen", _ours(replayed=False)),
    "replayed": Entry("scratchgen, replayed", "scratchgen", _ours(replayed=True)),
    "torch": Entry("PyTorch", "torch", _pytorch()),
    "compile": Entry("torch.compile", "torch", _pytorch(compiled=True)),
    "channels-last": Entry("PyTorch, channels last", "torch", _pytorch(channels_last=True), lambda w: w.images),
    "jax": Entry("JAX jit", "jax", _jax),
    "autograd": Entry("HIPS autograd", "autograd", _autograd, lambda w: w.autograd),
}  # fmt: skip
INSTALL = {
    "torch": "pip install torch --index-url https://download.pytorch.org/whl/cpu",
    "jax": "pip install jax",
    "autograd": "pip install autograd",
}


def missing(name: str) -> str | None:
    """Why a contender cannot take part, and what to do about it; None if it can."""
    import scratchgen as sg

    if name == "replayed" and not hasattr(sg, "replay"):
        return "this scratchgen has no sg.replay"
    package = CONTENDERS[name].package
    try:
        version(package)
    except PackageNotFoundError:
        return f"not installed: {INSTALL.get(package, 'make bench')}"
    return None
