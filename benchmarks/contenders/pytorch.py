"""PyTorch: eager, compiled, or with images in channels-last order; Adam is the fused one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks.contenders import BETA1, BETA2, LR, TINY
from benchmarks.device import HOST, STAND_IN, Place, Ticks
from benchmarks.workload import Noise, Problem, Workload


class PyTorch:
    def __init__(
        self, workload: Workload, problem: Problem, threads: int, place: Place = HOST, compiled: bool = False,
        channels_last: bool = False,
    ) -> None:  # fmt: skip
        torch.set_num_threads(threads)
        self.place, self.ticks, self.taken = place, STAND_IN, None
        if place.torch == "cuda":
            self.ticks, self.taken = on_cuda(place)
        self.finish = self.ticks.finish
        lowered = place.on_device and place.precision == "bf16"
        self.precisely: Any = partial(torch.autocast, place.torch, torch.bfloat16) if lowered else nullcontext
        torch.manual_seed(1)
        self.workload, self.names = workload, list(problem.weights)
        self.format = torch.channels_last if channels_last else torch.contiguous_format
        self.net = workload.pytorch()
        with torch.no_grad():
            for (owner, p), w in zip(parameters(self.net), problem.weights.values(), strict=True):
                p.copy_(torch.from_numpy(theirs(owner, w)))
        self.net.to(memory_format=self.format)
        self.batches = [tuple(map(self.tensor, batch)) for batch in problem.batches]
        self.fixed = tuple(map(self.tensor, problem.noise))
        function = self.net.sample if workload.kind == "sampling" else self.loss
        if compiled and workload.kind == "sampling":
            self.net.eps_theta.compile()  # the network, not the loop around it
        self.function = torch.compile(function) if compiled and workload.kind != "sampling" else function
        self.optimiser = torch.optim.Adam(self.net.parameters(), LR, (BETA1, BETA2), TINY, fused=True)
        self.steps = 0

    def tensor(self, array: np.ndarray) -> torch.Tensor:
        """A batch or its noise; images are (B, C, H, W) here."""
        there = torch.from_numpy(array).to(self.place.torch)
        return there if array.ndim < 4 else there.permute(0, 3, 1, 2).contiguous(memory_format=self.format)

    def draw(self, noise: Noise) -> torch.Tensor:
        n, shape = self.workload.examples, noise.shape
        if noise.kind == "integers":
            return torch.randint(noise.low, noise.high, (n, *shape))
        make = torch.randn if noise.kind == "normal" else torch.rand
        if len(shape) < 3:
            return make(n, *shape)
        h, w, c = shape
        return make(n, c, h, w).contiguous(memory_format=self.format)

    def loss(self, *arguments: torch.Tensor) -> torch.Tensor:
        return self.net.loss(*arguments).float().mean()

    def forward(self, *arguments: torch.Tensor) -> torch.Tensor:
        with self.precisely():
            return self.function(*arguments)

    def step(self) -> None:
        batch = self.batches[self.steps % len(self.batches)]
        self.steps += 1
        noise = tuple(map(self.draw, self.workload.noise))
        if self.workload.kind == "sampling":
            with torch.no_grad():
                self.forward(*noise)
            return
        self.optimiser.zero_grad()
        self.forward(*batch, *noise).backward()
        if self.workload.kind == "training":
            self.optimiser.step()

    def answer(self) -> dict[str, np.ndarray]:
        if self.workload.kind == "sampling":
            with torch.no_grad():
                images = self.forward(*self.fixed)
            return {"images": images.float().permute(0, 2, 3, 1).cpu().numpy().copy()}
        self.optimiser.zero_grad()
        loss = self.forward(*self.batches[0], *self.fixed)
        loss.backward()
        found = {"loss": loss.detach().cpu().numpy().copy()}
        for name, (owner, p) in zip(self.names, parameters(self.net), strict=True):
            found[name] = ours(owner, p.grad.cpu().numpy()).copy()
        self.optimiser.zero_grad()
        return found


def on_cuda(place: Place) -> tuple[Ticks, Callable[[], float]]:
    """Everything that is made from here on is on the GPU, its products in the precision asked for."""
    if not torch.cuda.is_available():
        raise RuntimeError("this PyTorch finds no CUDA device: pip install torch (a build for CUDA)")
    torch.set_default_device("cuda")
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = place.precision == "tf32"

    def stamp() -> Any:
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    between = lambda a, b: 1e-3 * a.elapsed_time(b)  # noqa: E731
    return Ticks(stamp, between, torch.cuda.synchronize), lambda: torch.cuda.max_memory_reserved() / 2**20


def parameters(net: nn.Module) -> Iterator[tuple[nn.Module, nn.Parameter]]:
    """Every parameter in the order of definition, with the layer that it belongs to."""
    for module in net.modules():
        for p in module.parameters(recurse=False):
            yield module, p


def theirs(owner: nn.Module, w: np.ndarray) -> np.ndarray:
    """Our layout in theirs: (in, out) → (out, in), (kh, kw, in, out) → (out, in, kh, kw)."""
    if w.ndim == 4:
        w = w.transpose(3, 2, 0, 1)
    elif isinstance(owner, nn.Linear):
        w = w.T
    return np.ascontiguousarray(w)


def ours(owner: nn.Module, w: np.ndarray) -> np.ndarray:
    """`theirs`, backwards."""
    if w.ndim == 4:
        return w.transpose(2, 3, 1, 0)
    return w.T if isinstance(owner, nn.Linear) else w
