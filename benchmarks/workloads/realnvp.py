"""RealNVP on points of the plane: eight affine couplings, each a multilayer perceptron 1-64-64-2.

Dinh, Sohl-Dickstein & Bengio (2017): one half passes, y_b = x_b·exp(s(x_a)) + t(x_a), log|det J| = Σ s.
"""

from __future__ import annotations

from math import log, pi
from typing import Any

import numpy as np

from benchmarks.workload import Workload
from scratchgen import functional as F
from scratchgen import nn, ops

COUPLINGS, WIDTH, EXAMPLES = 8, 64, 256


class Coupling(nn.Module):
    def __init__(self, rng: Any) -> None:
        self.layer1 = nn.Linear(1, WIDTH, rng=rng)
        self.layer2 = nn.Linear(WIDTH, WIDTH, rng=rng)
        self.layer3 = nn.Linear(WIDTH, 2, rng=rng)

    def __call__(self, x: Any) -> tuple[Any, Any]:
        h = self.layer3(F.relu(self.layer2(F.relu(self.layer1(x)))))
        return ops.tanh(h[:, :1]), h[:, 1:]


class Ours(nn.Module):
    def __init__(self, rng: Any) -> None:
        self.couplings = [Coupling(rng) for _ in range(COUPLINGS)]

    def loss(self, x: Any) -> Any:
        a, b = x[:, :1], x[:, 1:]
        log_det: Any = 0.0
        for coupling in self.couplings:
            s, t = coupling(a)
            a, b = b * ops.exp(s) + t, a
            log_det = log_det + s
        nats = 0.5 * (ops.square(a) + ops.square(b)) + log(2 * pi) - log_det
        return nats[:, 0]


def pytorch() -> Any:
    import torch
    from torch import nn

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.couplings = nn.ModuleList(
                nn.Sequential(nn.Linear(1, WIDTH), nn.ReLU(), nn.Linear(WIDTH, WIDTH), nn.ReLU(), nn.Linear(WIDTH, 2))
                for _ in range(COUPLINGS)
            )

        def loss(self, x: Any) -> Any:
            a, b = x[:, :1], x[:, 1:]
            log_det = 0.0
            for coupling in self.couplings:
                h = coupling(a)
                s, t = torch.tanh(h[:, :1]), h[:, 1:]
                a, b = b * torch.exp(s) + t, a
                log_det = log_det + s
            nats = 0.5 * (a.square() + b.square()) + log(2 * pi) - log_det
            return nats[:, 0]

    return Net()


def arrays(xp: Any) -> Any:
    def loss(p: Any, x: Any) -> Any:
        a, b = x[:, :1], x[:, 1:]
        log_det: Any = 0.0
        for i in range(COUPLINGS):
            w = [(p[f"couplings.{i}.layer{k}.w"], p[f"couplings.{i}.layer{k}.b"]) for k in (1, 2, 3)]
            h = xp.maximum(a @ w[0][0] + w[0][1], 0)
            h = xp.maximum(h @ w[1][0] + w[1][1], 0)
            h = h @ w[2][0] + w[2][1]
            s, t = xp.tanh(h[:, :1]), h[:, 1:]
            a, b = b * xp.exp(s) + t, a
            log_det = log_det + s
        nats = 0.5 * (xp.square(a) + xp.square(b)) + log(2 * pi) - log_det
        return nats[:, 0]

    return loss


def batch(rng: np.random.Generator) -> tuple[np.ndarray, ...]:
    return (rng.standard_normal((EXAMPLES, 2), dtype=np.float32),)


WORKLOAD = Workload(
    "RealNVP on the plane, 8 couplings of width 64, batch 256", EXAMPLES, Ours, batch, (), pytorch, arrays,
    autograd=True,
)  # fmt: skip
