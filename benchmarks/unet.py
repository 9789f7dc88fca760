"""`scratchgen.nn.UNet` once more, in PyTorch and in JAX: the same layers in the same order, the same weights."""

from __future__ import annotations

from math import log, sqrt
from typing import Any

from scratchgen.nn import UNetConfig


def pytorch(config: UNetConfig) -> Any:
    """ε_θ(x_t, t) as a torch.nn.Module.  x_t: (B, C, H, W)."""
    import torch
    from torch import nn
    from torch.nn import functional as F

    class Attention(nn.Module):
        def __init__(self, width: int) -> None:
            super().__init__()
            self.query, self.key, self.value = (nn.Linear(width, width, bias=False) for _ in range(3))
            self.out = nn.Linear(width, width)

        def split(self, x: Any) -> Any:
            return x.unflatten(-1, (config.heads, -1)).transpose(1, 2)

        def forward(self, x: Any) -> Any:
            q, k, v = self.split(self.query(x)), self.split(self.key(x)), self.split(self.value(x))
            return self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))

    class PixelAttention(nn.Module):
        def __init__(self, channels: int) -> None:
            super().__init__()
            self.norm = nn.GroupNorm(config.groups, channels)
            self.attention = Attention(channels)

        def forward(self, x: Any) -> Any:
            y = self.attention(self.norm(x).flatten(2).transpose(1, 2))
            return x + y.transpose(1, 2).unflatten(2, x.shape[2:])

    class ResBlock(nn.Module):
        def __init__(self, c_in: int, c_out: int) -> None:
            super().__init__()
            self.norm1 = nn.GroupNorm(config.groups, c_in)
            self.conv1 = nn.Conv2d(c_in, c_out, 3, padding=1)
            self.time = nn.Linear(config.time, c_out)
            self.norm2 = nn.GroupNorm(config.groups, c_out)
            self.conv2 = nn.Conv2d(c_out, c_out, 3, padding=1)
            self.skip = nn.Identity() if c_in == c_out else nn.Conv2d(c_in, c_out, 1)

        def forward(self, x: Any, time: Any) -> Any:
            h = self.conv1(F.silu(self.norm1(x))) + self.time(time)[:, :, None, None]
            return self.conv2(F.silu(self.norm2(h))) + self.skip(x)

    class Level(nn.Module):
        def __init__(self, widths: list[tuple[int, int]], attend: bool) -> None:
            super().__init__()
            self.blocks = nn.ModuleList(ResBlock(a, b) for a, b in widths)
            self.attention = nn.ModuleList(PixelAttention(b) for _, b in widths if attend)

        def step(self, i: int, x: Any, time: Any) -> Any:
            x = self.blocks[i](x, time)
            return self.attention[i](x) if len(self.attention) else x

    class UNet(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            half = config.base // 2
            self.register_buffer("omega", torch.exp(torch.arange(half) * (-log(10_000.0) / half)))
            self.time1, self.time2 = nn.Linear(config.base, config.time), nn.Linear(config.time, config.time)
            self.first = nn.Conv2d(config.channels, config.base, 3, padding=1)
            down, up, middle = plan(config)
            self.down = nn.ModuleList(Level(pairs, i in config.attention) for i, pairs in enumerate(down))
            self.downsample = nn.ModuleList(nn.Conv2d(d[-1][1], d[-1][1], 3, 2, 1) for d in down[:-1])
            self.middle = Level([(middle, middle)] * 2, False)
            self.middle_attention = PixelAttention(middle)
            self.up = nn.ModuleList(Level(pairs, len(up) - 1 - i in config.attention) for i, pairs in enumerate(up))
            self.upsample = nn.ModuleList(nn.Conv2d(u[-1][1], u[-1][1], 3, padding=1) for u in up[:-1])
            self.norm = nn.GroupNorm(config.groups, config.base * config.multipliers[0])
            self.last = nn.Conv2d(config.base * config.multipliers[0], config.channels, 3, padding=1)

        def forward(self, x: Any, t: Any) -> Any:
            angle = t.float()[:, None] * self.omega
            time = torch.cat([angle.sin(), angle.cos()], -1)
            time = F.silu(self.time2(F.silu(self.time1(time))))
            h = self.first(x)
            skips = [h]
            for i, level in enumerate(self.down):
                for k in range(len(level.blocks)):
                    h = level.step(k, h, time)
                    skips.append(h)
                if i < len(self.downsample):
                    h = self.downsample[i](h)
                    skips.append(h)
            h = self.middle.step(1, self.middle_attention(self.middle.step(0, h, time)), time)
            for i, level in enumerate(self.up):
                for k in range(len(level.blocks)):
                    h = level.step(k, torch.cat([h, skips.pop()], 1), time)
                if i < len(self.upsample):
                    h = self.upsample[i](F.interpolate(h, scale_factor=2, mode="nearest"))
            return self.last(F.silu(self.norm(h)))

    return UNet()


def plan(config: UNetConfig) -> tuple[list[list[tuple[int, int]]], list[list[tuple[int, int]]], int]:
    """Channels in and out of every residual block: of the way down, of the way up, and in the middle."""
    down, up, skips, c = [], [], [config.base], config.base
    widths = [config.base * m for m in config.multipliers]
    for i, width in enumerate(widths):
        down.append([(c if k == 0 else width, width) for k in range(config.blocks)])
        skips += [width] * (config.blocks + (i < len(widths) - 1))
        c = width
    middle = c
    for width in reversed(widths):
        pairs = []
        for _ in range(config.blocks + 1):
            pairs.append((c + skips.pop(), width))
            c = width
        up.append(pairs)
    return down, up, middle


def jaxed(config: UNetConfig) -> Any:
    """ε_θ(p, x_t, t), a function of the parameters by name.  x_t: (B, H, W, C)."""
    import jax
    from jax import numpy as jnp

    silu = jax.nn.silu

    def linear(p: Any, name: str, x: Any) -> Any:
        y = x @ p[f"{name}.w"]
        return y + p[f"{name}.b"] if f"{name}.b" in p else y

    def conv(p: Any, name: str, x: Any, stride: int = 1) -> Any:
        w = p[f"{name}.w"]
        frame = [((w.shape[0] - 1) // 2,) * 2] * 2
        y = jax.lax.conv_general_dilated(
            x, w, (stride, stride), frame, dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        return y + p[f"{name}.b"]

    def norm(p: Any, name: str, x: Any) -> Any:
        b, h, w, c = x.shape
        y = x.reshape(b, h * w, config.groups, c // config.groups)
        mean, var = y.mean((1, 3), keepdims=True), y.var((1, 3), keepdims=True)
        y = ((y - mean) * jax.lax.rsqrt(var + 1e-5)).reshape(x.shape)
        return y * p[f"{name}.scale"] + p[f"{name}.shift"]

    def split(x: Any) -> Any:
        return x.reshape(*x.shape[:2], config.heads, -1).transpose(0, 2, 1, 3)

    def attend(p: Any, name: str, x: Any) -> Any:
        b, h, w, c = x.shape
        y = norm(p, f"{name}.norm", x).reshape(b, h * w, c)
        q, k, v = (split(linear(p, f"{name}.attention.{part}", y)) for part in ("query", "key", "value"))
        scores = q @ k.swapaxes(-1, -2) / sqrt(c // config.heads)
        y = (jax.nn.softmax(scores) @ v).transpose(0, 2, 1, 3).reshape(b, h * w, c)
        return x + linear(p, f"{name}.attention.out", y).reshape(x.shape)

    def block(p: Any, name: str, x: Any, time: Any) -> Any:
        h = conv(p, f"{name}.conv1", silu(norm(p, f"{name}.norm1", x)))
        h = h + linear(p, f"{name}.time", time)[:, None, None]
        h = conv(p, f"{name}.conv2", silu(norm(p, f"{name}.norm2", h)))
        return h + (conv(p, f"{name}.skip", x) if f"{name}.skip.w" in p else x)

    def step(p: Any, level: str, k: int, x: Any, time: Any) -> Any:
        x = block(p, f"{level}.blocks.{k}", x, time)
        attention = f"{level}.attention.{k}"
        return attend(p, attention, x) if f"{attention}.norm.scale" in p else x

    def eps_theta(p: Any, x: Any, t: Any) -> Any:
        half, levels = config.base // 2, len(config.multipliers)
        angle = t.astype(x.dtype)[:, None] * jnp.exp(jnp.arange(half) * (-log(10_000.0) / half))
        time = jnp.concatenate([jnp.sin(angle), jnp.cos(angle)], -1)
        time = silu(linear(p, "time2", silu(linear(p, "time1", time))))
        h = conv(p, "first", x)
        skips = [h]
        for i in range(levels):
            for k in range(config.blocks):
                h = step(p, f"down.{i}", k, h, time)
                skips.append(h)
            if i < levels - 1:
                h = conv(p, f"downsample.{i}.conv", h, 2)
                skips.append(h)
        h = attend(p, "middle_attention", step(p, "middle", 0, h, time))
        h = step(p, "middle", 1, h, time)
        for i in range(levels):
            for k in range(config.blocks + 1):
                h = step(p, f"up.{i}", k, jnp.concatenate([h, skips.pop()], -1), time)
            if i < levels - 1:
                h = conv(p, f"upsample.{i}.conv", h.repeat(2, 1).repeat(2, 2))
        return conv(p, "last", silu(norm(p, "norm", h)))

    return eps_theta
