"""A chain of 750 operations on 4 numbers, and its gradient: what an operation costs when it has nothing to do.

250 steps of Euler's method on ẋ = −tanh x, three operations each; the gradient is with respect to where x begins.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.workload import Workload
from scratchgen import nn, ops
from scratchgen.autograd import tensor

STEPS, H = 250, 0.01


class Ours(nn.Module):
    def __init__(self, rng: Any) -> None:
        self.start = tensor(rng.standard_normal(4))

    def loss(self) -> Any:
        x = self.start
        for _ in range(STEPS):
            x = x - H * ops.tanh(x)
        return x


def pytorch() -> Any:
    import torch
    from torch import nn

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.start = nn.Parameter(torch.empty(4))

        def loss(self) -> Any:
            x = self.start
            for _ in range(STEPS):
                x = x - H * torch.tanh(x)
            return x

    return Net()


def arrays(xp: Any) -> Any:
    def loss(p: Any) -> Any:
        x = p["start"]
        for _ in range(STEPS):
            x = x - H * xp.tanh(x)
        return x

    return loss


def batch(rng: np.random.Generator) -> tuple[np.ndarray, ...]:
    return ()


WORKLOAD = Workload(
    "750 operations on 4 numbers, forward and back", 4, Ours, batch, (), pytorch, arrays, kind="gradient",
    autograd=True,
)  # fmt: skip
