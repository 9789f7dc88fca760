"""A step of a Wasserstein GAN's critic, with its gradient penalty: a gradient of a gradient.

Gulrajani et al. (2017): f(x̃) − f(x) + 10·(‖∇f(x̂)‖ − 1)²,  x̂ = u·x + (1−u)·x̃,  u ~ U(0, 1), one for each example.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import scratchgen as sg
from benchmarks.workload import Noise, Workload
from scratchgen import functional as F
from scratchgen import nn, ops

EXAMPLES, SIZE, WIDTH = 64, 64, 128
PENALTY, SLOPE = 10.0, 0.2


class Ours(nn.Module):
    def __init__(self, rng: Any) -> None:
        self.layer1 = nn.Linear(SIZE, WIDTH, rng=rng)
        self.layer2 = nn.Linear(WIDTH, WIDTH, rng=rng)
        self.layer3 = nn.Linear(WIDTH, 1, rng=rng)

    def critic(self, x: Any) -> Any:
        h = F.leaky_relu(self.layer2(F.leaky_relu(self.layer1(x), SLOPE)), SLOPE)
        return self.layer3(h)[:, 0]

    def loss(self, real: Any, made: Any, u: Any) -> Any:
        between = u * real + (1 - u) * made
        slope = sg.grad(lambda x: ops.sum(self.critic(x)))(between)
        length = ops.sqrt(ops.sum(ops.square(slope), axis=1))
        return self.critic(made) - self.critic(real) + PENALTY * ops.square(length - 1)


def pytorch() -> Any:
    import torch
    from torch import nn
    from torch.nn import functional as F

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer1, self.layer2, self.layer3 = nn.Linear(SIZE, WIDTH), nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, 1)

        def critic(self, x: Any) -> Any:
            return self.layer3(F.leaky_relu(self.layer2(F.leaky_relu(self.layer1(x), SLOPE)), SLOPE))[:, 0]

        def loss(self, real: Any, made: Any, u: Any) -> Any:
            between = (u * real + (1 - u) * made).requires_grad_()
            (slope,) = torch.autograd.grad(self.critic(between).sum(), between, create_graph=True)
            length = slope.square().sum(1).sqrt()
            return self.critic(made) - self.critic(real) + PENALTY * (length - 1).square()

    return Net()


def arrays(xp: Any) -> Any:
    if xp.__name__.startswith("jax"):
        from jax import grad
    else:
        from autograd import grad

    def leaky_relu(x: Any) -> Any:
        return x * xp.where(x > 0, xp.float32(1), xp.float32(SLOPE))  # autograd's `where` is float64 on the way back

    def critic(x: Any, p: Any) -> Any:
        h = leaky_relu(x @ p["layer1.w"] + p["layer1.b"])
        h = leaky_relu(h @ p["layer2.w"] + p["layer2.b"])
        return (h @ p["layer3.w"] + p["layer3.b"])[:, 0]

    def loss(p: Any, real: Any, made: Any, u: Any) -> Any:
        slope = grad(lambda x: xp.sum(critic(x, p)))(u * real + (1 - u) * made)
        length = xp.sqrt(xp.sum(xp.square(slope), axis=1))
        return critic(made, p) - critic(real, p) + PENALTY * xp.square(length - 1)

    return loss


def batch(rng: np.random.Generator) -> tuple[np.ndarray, ...]:
    real, made = rng.standard_normal((2, EXAMPLES, SIZE), dtype=np.float32)
    return real, made + 0.5


WORKLOAD = Workload(
    "WGAN-GP critic, MLP 64-128-128-1, batch 64", EXAMPLES, Ours, batch, (Noise("uniform", (1,)),), pytorch, arrays,
    autograd=True,
)  # fmt: skip
