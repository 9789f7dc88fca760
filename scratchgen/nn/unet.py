"""The U-Net of diffusion models: down to a few pixels and up again, told at every step what time it is.

Ronneberger et al. (2015) for the shape; Ho et al. (2020, App. B) for residual blocks that know the time, and
attention at the coarse levels.

    8×8 ─ block ─ block ───────────────── skip ─────────────── block ─ block ─ 8×8
                    └ 4×4 ─ block ─ block ─ middle ─ block ─ block ┘
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from scratchgen import functional as F
from scratchgen import ops
from scratchgen.nn.attention import PixelAttention
from scratchgen.nn.layers import Conv2d, GroupNorm, Linear, SinusoidalEmbedding
from scratchgen.nn.module import Module
from scratchgen.nn.settings import at_least_one
from scratchgen.random import Generator


@dataclass(frozen=True)
class UNetConfig:
    """channels: of the images.  base·multipliers: channels at each level, the image halved between levels.
    blocks: residual blocks per level.  attention: levels with attention among pixels, in so many `heads`.
    groups: of channels that are normalised together.  time: width of the embedded time.
    Raises ValueError for numbers that make no network.
    """

    channels: int = 1
    base: int = 32
    multipliers: tuple[int, ...] = (1, 2)
    blocks: int = 1
    attention: tuple[int, ...] = (1,)
    heads: int = 2
    groups: int = 8
    time: int = 128

    def __post_init__(self) -> None:
        at_least_one(self, "channels", "base", "blocks", "heads", "groups", "time")
        if not self.multipliers or min(self.multipliers) < 1:
            raise ValueError(f"UNetConfig: multipliers {self.multipliers} must be one or more positive numbers")
        if not set(self.attention) <= set(range(len(self.multipliers))):
            raise ValueError(f"UNetConfig: attention {self.attention} names a level that is not there")


class ResBlock(Module):
    """y = skip(x) + conv(silu(norm(conv(silu(norm x)) + time))).

    x: (B, H, W, c_in).  time: (B, n_time), or None for a block without time.  Returns (B, H, W, c_out).
    The last convolution starts at 0, so that a deep network starts as its skips.
    """

    def __init__(
        self, c_in: int, c_out: int, *, rng: Generator, n_time: int | None = None, groups: int = 8
    ) -> None:
        self.norm1 = GroupNorm(groups, c_in)
        self.conv1 = Conv2d(c_in, c_out, 3, rng=rng)
        self.time = None if n_time is None else Linear(n_time, c_out, rng=rng)
        self.norm2 = GroupNorm(groups, c_out)
        self.conv2 = Conv2d(c_out, c_out, 3, rng=rng, gain=0.0)
        self.skip = None if c_in == c_out else Conv2d(c_in, c_out, 1, rng=rng)

    def __call__(self, x: Any, time: Any = None) -> Any:
        h = self.conv1(F.silu(self.norm1(x)))
        if self.time is not None:
            h = h + ops.expand_dims(self.time(time), (1, 2))
        h = self.conv2(F.silu(self.norm2(h)))
        return h + (x if self.skip is None else self.skip(x))


class Downsample(Module):
    """Half the height and width, by a convolution of stride 2."""

    def __init__(self, channels: int, *, rng: Generator) -> None:
        self.conv = Conv2d(channels, channels, 3, rng=rng, stride=2)

    def __call__(self, x: Any) -> Any:
        return self.conv(x)


class Upsample(Module):
    """Twice the height and width: every pixel four times, then a convolution."""

    def __init__(self, channels: int, *, rng: Generator) -> None:
        self.conv = Conv2d(channels, channels, 3, rng=rng)

    def __call__(self, x: Any) -> Any:
        return self.conv(ops.repeat(ops.repeat(x, 2, axis=1), 2, axis=2))


class Level(Module):
    """The residual blocks of one resolution, with attention where the level has it."""

    def __init__(self, widths: list[tuple[int, int]], attend: bool, config: UNetConfig, *, rng: Generator) -> None:
        n_time, groups = config.time, config.groups
        self.blocks = [ResBlock(a, b, rng=rng, n_time=n_time, groups=groups) for a, b in widths]
        self.attention = [
            PixelAttention(b, rng=rng, heads=config.heads, groups=groups) for _, b in widths if attend
        ]

    def step(self, i: int, x: Any, time: Any) -> Any:
        x = self.blocks[i](x, time)
        return self.attention[i](x) if self.attention else x


class UNet(Module):
    """ε_θ(x_t, t), or any other image-to-image map that depends on a time.

    x: (B, H, W, channels), H and W divisible by 2^(levels − 1).  t: plain numbers (B,).  Returns x's shape.
    The last convolution starts at 0: the untrained network predicts 0.
    """

    def __init__(self, config: UNetConfig, *, rng: Generator) -> None:
        self.config = config
        widths = [config.base * m for m in config.multipliers]
        self.embed = SinusoidalEmbedding(config.base)
        self.time1 = Linear(config.base, config.time, rng=rng)
        self.time2 = Linear(config.time, config.time, rng=rng)
        self.first = Conv2d(config.channels, config.base, 3, rng=rng)
        self.down, self.downsample, skips, c = [], [], [config.base], config.base
        for i, width in enumerate(widths):
            pairs = [(c if k == 0 else width, width) for k in range(config.blocks)]
            self.down.append(Level(pairs, i in config.attention, config, rng=rng))
            skips += [width] * config.blocks
            c = width
            if i < len(widths) - 1:
                self.downsample.append(Downsample(c, rng=rng))
                skips.append(c)
        self.middle = Level([(c, c), (c, c)], False, config, rng=rng)
        self.middle_attention = PixelAttention(c, rng=rng, heads=config.heads, groups=config.groups)
        self.up, self.upsample = [], []
        for i, width in reversed(list(enumerate(widths))):
            pairs = []
            for _ in range(config.blocks + 1):
                pairs.append((c + skips.pop(), width))
                c = width
            self.up.append(Level(pairs, i in config.attention, config, rng=rng))
            if i > 0:
                self.upsample.append(Upsample(c, rng=rng))
        self.norm = GroupNorm(config.groups, c)
        self.last = Conv2d(c, config.channels, 3, rng=rng, gain=0.0)

    def __call__(self, x: Any, t: Any) -> Any:
        self._check(x)
        time = F.silu(self.time2(F.silu(self.time1(self.embed(t).astype(x.dtype)))))  # (B, time)
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
                h = level.step(k, ops.concatenate([h, skips.pop()], axis=-1), time)
            if i < len(self.upsample):
                h = self.upsample[i](h)
        return self.last(F.silu(self.norm(h)))

    def _check(self, x: Any) -> None:
        factor = 2 ** (len(self.config.multipliers) - 1)
        if x.ndim != 4 or x.shape[3] != self.config.channels or x.shape[1] % factor or x.shape[2] % factor:
            raise ValueError(
                f"UNet: images {tuple(x.shape)} are not (B, H, W, {self.config.channels}) "
                f"with H and W divisible by {factor}"
            )
