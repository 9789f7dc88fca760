"""Glow on 8×8 images of 17 grey levels: `scratchgen.models.flows.Glow` itself, two scales of six steps, W as it is.

Kingma & Dhariwal (2018): activation normalisation, invertible 1×1 convolutions, affine couplings; bits per dimension.
"""

from __future__ import annotations

from math import log, pi
from typing import Any

import numpy as np

from benchmarks.workload import Noise, Workload
from scratchgen.models.flows import Glow, GlowConfig, dequantise

EXAMPLES, CONFIG = 80, GlowConfig(lu=False)
H, W, C = CONFIG.shape
DIMS, WIDTH, BIN = H * W * C, CONFIG.hidden, 2 / (CONFIG.levels - 1)
SLOPE = (1 - 2 * CONFIG.alpha) * (CONFIG.levels - 1) / (2 * CONFIG.levels)
"""Of the map onto (0, 1) before the logit."""


class Ours(Glow):
    def __init__(self, rng: Any) -> None:
        super().__init__(CONFIG, rng=rng)

    def loss(self, x: Any, u: Any) -> Any:
        return dequantise.bits_per_dim(self.code(x, u[None]).bound, DIMS)


def pytorch() -> Any:
    import torch
    from torch import nn
    from torch.nn import functional as F

    class ActNorm(nn.Module):
        def __init__(self, c: int) -> None:
            super().__init__()
            self.b, self.s = nn.Parameter(torch.zeros(c)), nn.Parameter(torch.zeros(c))

        def forward(self, x: Any) -> Any:
            y = (x + self.b[:, None, None]) * torch.exp(self.s)[:, None, None]
            return y, self.s.sum() * x.shape[2] * x.shape[3]

    class Conv1x1(nn.Module):
        def __init__(self, c: int) -> None:
            super().__init__()
            self.w = nn.Parameter(torch.eye(c))

        def forward(self, x: Any) -> Any:
            return F.conv2d(x, self.w[:, :, None, None]), torch.linalg.slogdet(self.w)[1] * x.shape[2] * x.shape[3]

    class ResBlock(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm1, self.conv1 = nn.GroupNorm(1, WIDTH), nn.Conv2d(WIDTH, WIDTH, 3, padding=1)
            self.norm2, self.conv2 = nn.GroupNorm(1, WIDTH), nn.Conv2d(WIDTH, WIDTH, 3, padding=1)

        def forward(self, x: Any) -> Any:
            return x + self.conv2(F.silu(self.norm2(self.conv1(F.silu(self.norm1(x))))))

    class Limit(nn.Module):
        def __init__(self, moving: int) -> None:
            super().__init__()
            self.c = nn.Parameter(torch.ones(moving))

        def forward(self, r: Any) -> Any:
            return self.c[:, None, None] * torch.tanh(r)

    class Coupling(nn.Module):
        def __init__(self, net: Any, half: int) -> None:
            super().__init__()
            self.net, self.limit = net, Limit(half)

        def forward(self, x: Any) -> Any:
            a, b = x.chunk(2, 1)
            r, t = self.net(a).chunk(2, 1)
            s = self.limit(r)
            return torch.cat([a, torch.exp(s) * b + t], 1), s.sum((1, 2, 3))

    def network(c: int) -> Any:
        first, last = nn.Conv2d(c // 2, WIDTH, 3, padding=1), nn.Conv2d(WIDTH, c, 3, padding=1)
        return nn.Sequential(first, *(ResBlock() for _ in range(CONFIG.blocks)), nn.SiLU(), last)

    def squeeze(x: Any) -> Any:
        n, c, h, w = x.shape
        squares = x.reshape(n, c, h // 2, 2, w // 2, 2).permute(0, 3, 5, 1, 2, 4)
        return squares.reshape(n, 4 * c, h // 2, w // 2)

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scales, c = nn.ModuleList(), C
            for i in range(CONFIG.scales):
                flows, c = nn.ModuleList(), 4 * c
                for _ in range(CONFIG.steps):
                    flows.extend([ActNorm(c), Conv1x1(c), Coupling(network(c), c // 2)])
                if i + 1 < CONFIG.scales:
                    flows.append(Coupling(nn.Conv2d(c // 2, c, 3, padding=1), c // 2))
                self.scales.append(flows)
                c //= 2

        def loss(self, x: Any, u: Any) -> Any:
            w = 0.5 + SLOPE * (x + BIN * (u - 0.5))
            log_w, log_rest = torch.log(w), torch.log1p(-w)
            h, out = log_w - log_rest, []
            total = DIMS * log(SLOPE * BIN) - (log_w + log_rest).sum((1, 2, 3))
            for i, flows in enumerate(self.scales):
                h = squeeze(h)
                for flow in flows:
                    h, log_det = flow(h)
                    total = total + log_det
                if i + 1 < CONFIG.scales:
                    h, z = h.chunk(2, 1)
                    out.append(z.flatten(1))
            z = torch.cat([*out, h.flatten(1)], 1)
            return (0.5 * z.square().sum(1) + DIMS * 0.5 * log(2 * pi) - total) / (DIMS * log(2))

    return Net()


def arrays(xp: Any) -> Any:
    from jax import lax, nn

    layout = ("NHWC", "HWIO", "NHWC")

    def conv(p: Any, name: str, x: Any) -> Any:
        frame = ((1, 1), (1, 1))
        return lax.conv_general_dilated(x, p[f"{name}.w"], (1, 1), frame, dimension_numbers=layout) + p[f"{name}.b"]

    def norm(p: Any, name: str, x: Any) -> Any:
        mean, var = xp.mean(x, (1, 2, 3), keepdims=True), xp.var(x, (1, 2, 3), keepdims=True)
        return (x - mean) * lax.rsqrt(var + 1e-5) * p[f"{name}.scale"] + p[f"{name}.shift"]

    def network(p: Any, name: str, x: Any) -> Any:
        h = conv(p, f"{name}.layers.0", x)
        for i in range(1, CONFIG.blocks + 1):
            y = conv(p, f"{name}.layers.{i}.conv1", nn.silu(norm(p, f"{name}.layers.{i}.norm1", h)))
            h = h + conv(p, f"{name}.layers.{i}.conv2", nn.silu(norm(p, f"{name}.layers.{i}.norm2", y)))
        return conv(p, f"{name}.layers.{CONFIG.blocks + 2}", nn.silu(h))

    def coupling(p: Any, name: str, net: Any, x: Any) -> Any:
        a, b = xp.split(x, 2, axis=-1)
        r, t = xp.split(net(p, f"{name}.net", a), 2, axis=-1)
        s = p[f"{name}.c"] * xp.tanh(r)
        return xp.concatenate([a, xp.exp(s) * b + t], -1), xp.sum(s, (1, 2, 3))

    def squeeze(x: Any) -> Any:
        n, h, w, c = x.shape
        return x.reshape(n, h // 2, 2, w // 2, 2, c).transpose(0, 1, 3, 2, 4, 5).reshape(n, h // 2, w // 2, 4 * c)

    def loss(p: Any, x: Any, u: Any) -> Any:
        w = 0.5 + SLOPE * (x + BIN * (u - 0.5))
        log_w, log_rest = xp.log(w), xp.log1p(-w)
        h, out = log_w - log_rest, []
        total = DIMS * log(SLOPE * BIN) - xp.sum(log_w + log_rest, (1, 2, 3))
        for i in range(CONFIG.scales):
            h, name = squeeze(h), f"flow.flows.1.flows.{i}.flows"
            pixels = h.shape[1] * h.shape[2]
            for k in range(1, 3 * CONFIG.steps, 3):
                b, s, matrix = p[f"{name}.{k}.b"], p[f"{name}.{k}.s"], p[f"{name}.{k + 1}.W"]
                h = ((h + b) * xp.exp(s)) @ matrix.T
                total = total + pixels * (xp.sum(s) + xp.linalg.slogdet(matrix)[1])
                h, log_det = coupling(p, f"{name}.{k + 2}", network, h)
                total = total + log_det
            if i + 1 < CONFIG.scales:
                h, log_det = coupling(p, f"{name}.{3 * CONFIG.steps + 1}", conv, h)
                total = total + log_det
                h, z = xp.split(h, 2, axis=-1)
                out.append(z.reshape(len(z), -1))
        z = xp.concatenate([*out, h.reshape(len(h), -1)], 1)
        return (0.5 * xp.sum(xp.square(z), 1) + DIMS * 0.5 * log(2 * pi) - total) / (DIMS * log(2))

    return loss


def batch(rng: np.random.Generator) -> tuple[np.ndarray, ...]:
    k = rng.integers(0, CONFIG.levels, (EXAMPLES, *CONFIG.shape))
    return ((BIN * k - 1).astype(np.float32),)


WORKLOAD = Workload(
    "Glow, 8×8 with 17 grey levels, 2 scales of 6 steps, batch 80", EXAMPLES, Ours, batch,
    (Noise("uniform", CONFIG.shape),), pytorch, arrays, images=True, shards=2,
)  # fmt: skip
