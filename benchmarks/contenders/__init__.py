"""Who competes.  A contender is made of a workload and its problem, takes steps, and can be asked for its answer.

On a device it is asked for steps that nobody waits for; then it has `ticks`, the marks of its own library between them,
None if it has no such thing, `finish`, which waits for all steps, and `taken`, the MiB of the device's memory.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Protocol

import numpy as np

from benchmarks.device import HOST, Place
from benchmarks.workload import Workload

LR, BETA1, BETA2, TINY = 1e-4, 0.9, 0.999, 1e-8


class Contender(Protocol):
    """What a contender is made of, (workload, problem, threads, place), and what is asked of it."""

    def step(self) -> None:
        """One whole step with noise of its own, on the host finished on return."""

    def answer(self) -> dict[str, np.ndarray]:
        """On the first batch with the given noise: the loss and each parameter's gradient by our name and in our
        layout, or the sampled images.  Asked before the first step; changes nothing."""


@dataclass(frozen=True)
class Entry:
    """label: in tables.  package: what must be installed.  place: module and class.  options: of the class.
    fits: the workloads that it can compete in.  backends: where it can run.
    """

    label: str
    package: str
    place: str
    options: Mapping[str, bool] = field(default_factory=dict)
    fits: Callable[[Workload], bool] = lambda workload: True
    backends: tuple[str, ...] = ("numpy", "cupy", "strict")

    def load(self) -> Any:
        """The class; its library is imported here."""
        module, name = self.place.split(".")
        return getattr(import_module(f"benchmarks.contenders.{module}"), name)

    def missing(self, place: Place = HOST) -> str | None:
        """Why it cannot take part, and what to do about it; None if it can."""
        advice = INSTALL[self.package] if place.backend != "cupy" else INSTALL_CUDA.get(self.package, "")
        return None if find_spec(self.package) else f"not installed: {advice}"


CONTENDERS = {
    "ours": Entry("scratchgen", "scratchgen", "ours.Eager"),
    "replayed": Entry("scratchgen replayed", "scratchgen.replay", "ours.Replayed"),
    "cudnn": Entry("scratchgen replayed, cuDNN", "cudnn", "ours.Cudnn", {},
                   lambda workload: workload.images, ("cupy",)),
    "torch": Entry("PyTorch", "torch", "pytorch.PyTorch"),
    "compile": Entry("torch.compile", "torch", "pytorch.PyTorch", {"compiled": True}),
    "channels-last": Entry("PyTorch channels-last", "torch", "pytorch.PyTorch", {"channels_last": True},
                           lambda workload: workload.images),
    "jax": Entry("JAX jit", "jax", "jaxed.Jax"),
    "autograd": Entry("HIPS autograd", "autograd", "hips.Autograd", {}, lambda workload: workload.autograd, ("numpy",)),
}  # fmt: skip
INSTALL = {
    "torch": "pip install torch (the build for CPUs)",
    "jax": "pip install jax",
    "autograd": "pip install autograd",
    "scratchgen": "pip install -e .",
    "scratchgen.replay": "this scratchgen has no sg.replay",
}
INSTALL_CUDA = {
    "torch": "pip install torch (a build for CUDA)", "jax": "pip install 'jax[cuda13]'",
    "cudnn": "pip install -e '.[cudnn13x]'",
}  # fmt: skip
