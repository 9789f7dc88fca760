"""A training step of a DDPM on images, and what its sizes have in common.

Ho, Jain & Abbeel (2020), Algorithm 1: ‖ε − ε_θ(√ᾱ_t·x_0 + √(1−ᾱ_t)·ε, t)‖², t and ε fresh in every step.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks import unet
from benchmarks.workload import Noise, Workload
from scratchgen import nn, ops
from scratchgen.models.diffusion import DDPM, DDPMConfig
from scratchgen.models.diffusion.process import q_sample
from scratchgen.nn import UNetConfig
from scratchgen.random import Generator

EXAMPLES = 64


def config(size: int, base: int) -> DDPMConfig:
    """As in the recipe `ddpm`: two levels, attention in the middle."""
    return DDPMConfig(shape=(size, size, 1), unet=UNetConfig(base=base, attention=()))


class Ours(nn.Module):
    def __init__(self, config: DDPMConfig, rng: Any) -> None:
        self.ddpm = DDPM(config, rng=rng)

    def loss(self, x0: Any, t: Any, eps: Any) -> Any:
        xt = q_sample(self.ddpm.schedule, x0, t, eps)
        return ops.mean(ops.square(eps - self.ddpm.eps_theta(xt, t)), axis=(1, 2, 3))


def alpha_bars(config: DDPMConfig) -> tuple[np.ndarray, np.ndarray]:
    """√ᾱ_t and √(1−ᾱ_t) by t, in float32."""
    alpha_bar = DDPM(config, rng=Generator(0)).schedule.alpha_bar
    return np.sqrt(alpha_bar).astype(np.float32), np.sqrt(1 - alpha_bar).astype(np.float32)


def pytorch(config: DDPMConfig) -> Any:
    import torch
    from torch import nn

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.eps_theta = unet.pytorch(config.unet)
            signal, noise = alpha_bars(config)
            self.register_buffer("signal", torch.from_numpy(signal))
            self.register_buffer("noise", torch.from_numpy(noise))

        def loss(self, x0: Any, t: Any, eps: Any) -> Any:
            xt = self.signal[t][:, None, None, None] * x0 + self.noise[t][:, None, None, None] * eps
            return (eps - self.eps_theta(xt, t)).square().mean((1, 2, 3))

    return Net()


def arrays(config: DDPMConfig, xp: Any) -> Any:
    eps_theta = unet.jaxed(config.unet)
    signal, noise = map(xp.asarray, alpha_bars(config))

    def loss(p: Any, x0: Any, t: Any, eps: Any) -> Any:
        net = {name.removeprefix("ddpm.net."): w for name, w in p.items()}
        xt = signal[t][:, None, None, None] * x0 + noise[t][:, None, None, None] * eps
        return xp.mean(xp.square(eps - eps_theta(net, xt, t)), (1, 2, 3))

    return loss


def workload(title: str, size: int, base: int, shards: int) -> Workload:
    """The training step for images of size×size pixels."""
    made = config(size, base)

    def batch(rng: np.random.Generator) -> tuple[np.ndarray, ...]:
        return (rng.uniform(-1, 1, (EXAMPLES, size, size, 1)).astype(np.float32),)

    noise = (Noise("integers", (), 1, made.T + 1), Noise("normal", (size, size, 1)))
    return Workload(
        title, EXAMPLES, lambda rng: Ours(made, rng), batch, noise, lambda: pytorch(made),
        lambda xp: arrays(made, xp), images=True, shards=shards,
    )  # fmt: skip
