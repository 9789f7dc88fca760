"""Sampling by DDIM with the network of `make demo`: 64 images of 8×8 pixels in 20 steps, no gradient.

Song, Meng & Ermon (2021): x_s = √ᾱ_s·x̂_0 + √(1−ᾱ_s)·ε_θ, x̂_0 clipped to [−1, 1].
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np

from benchmarks import unet
from benchmarks.workload import Noise, Workload
from benchmarks.workloads.ddpm import alpha_bars, config
from scratchgen import nn
from scratchgen.models.diffusion import DDPM, ddim

EXAMPLES, STEPS = 64, 20
CONFIG = config(8, 16)


class Ours(nn.Module):
    def __init__(self, rng: Any) -> None:
        self.ddpm = DDPM(CONFIG, rng=rng)

    def sample(self, xT: Any) -> Any:
        for x in ddim.denoise(self.ddpm, xT.shape[0], None, STEPS, xT=xT):  # noqa: B007
            pass
        return x


def walk() -> list[tuple[int, tuple[float, float, float, float]]]:
    """For each step from t to s: t, and √ᾱ_t, √(1−ᾱ_t), √ᾱ_s, √(1−ᾱ_s)."""
    signal, noise = alpha_bars(CONFIG)
    steps = list(pairwise(ddim.sub_sequence(CONFIG.T, STEPS)))
    return [(t, tuple(map(float, (signal[t], noise[t], signal[s], noise[s])))) for s, t in reversed(steps)]


def pytorch() -> Any:
    import torch
    from torch import nn

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.eps_theta = unet.pytorch(CONFIG.unet)
            self.walk = walk()

        def sample(self, x: Any) -> Any:
            for t, (a, b, c, d) in self.walk:
                eps = self.eps_theta(x, torch.full((x.shape[0],), t))
                x0 = ((x - b * eps) / a).clamp(-1, 1)
                x = c * x0 + d * (x - a * x0) / b
            return x

    return Net()


def arrays(xp: Any) -> Any:
    from jax import lax

    eps_theta = unet.jaxed(CONFIG.unet)
    times, coefficients = (np.array(column) for column in zip(*walk(), strict=True))

    def sample(p: Any, xT: Any) -> Any:
        net = {name.removeprefix("ddpm.net."): w for name, w in p.items()}

        def step(x: Any, now: Any) -> Any:
            t, (a, b, c, d) = now
            eps = eps_theta(net, x, xp.full((x.shape[0],), t))
            x0 = xp.clip((x - b * eps) / a, -1, 1)
            return c * x0 + d * (x - a * x0) / b, None

        now = xp.asarray(times), xp.asarray(coefficients, xp.float32)
        return lax.scan(step, xT, now)[0]

    return sample


WORKLOAD = Workload(
    "DDIM sampling, 64 images of 8×8 in 20 steps", EXAMPLES, Ours, lambda rng: (), (Noise("normal", (8, 8, 1)),),
    pytorch, arrays, kind="sampling", images=True, shards=2,
)  # fmt: skip
