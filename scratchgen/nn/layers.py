"""The layers with weights of their own.  Weights are drawn from an explicit generator, `rng`."""

from __future__ import annotations

from math import log, sqrt
from typing import Any

from scratchgen import functional as F
from scratchgen import ops
from scratchgen.autograd.tensor import Tensor, tensor, value_of
from scratchgen.backend import active, backend_of
from scratchgen.nn.module import Module
from scratchgen.ops.conv import Padding
from scratchgen.random import Generator


def weights(rng: Generator, shape: tuple[int, ...], fan_in: int, gain: float = 1.0) -> Tensor:
    """w ~ N(0, gain²/fan_in): the output then has gain² times the input's variance (LeCun et al. 1998)."""
    return Tensor(rng.standard_normal(shape) * (gain / sqrt(fan_in)))


def constants(n: int, value: float = 0.0) -> Tensor:
    """A vector of n equal numbers, to be trained."""
    return tensor(active().full((n,), value, "float32"))


class Linear(Module):
    """y = x·w + b.  x: (…, n_in).  w: (n_in, n_out).  `gain` 0 starts the layer at y = 0."""

    def __init__(self, n_in: int, n_out: int, *, rng: Generator, bias: bool = True, gain: float = 1.0) -> None:
        self.w = weights(rng, (n_in, n_out), n_in, gain)
        self.b = constants(n_out) if bias else None

    def __call__(self, x: Any) -> Any:
        y = ops.matmul(x, self.w)
        return y if self.b is None else y + self.b


class Conv2d(Module):
    """y = conv(x, w) + b.  x: (B, H, W, c_in).  w: (k, k, c_in/groups, c_out).

    With `groups` each part of the output's channels sees its part of the input's; c_in groups are depthwise.
    """

    def __init__(
        self, c_in: int, c_out: int, kernel: int = 3, *, rng: Generator, stride: int = 1,
        padding: Padding | None = None, groups: int = 1, bias: bool = True, gain: float = 1.0,
    ) -> None:  # fmt: skip
        if groups < 1 or c_in % groups or c_out % groups:
            raise ValueError(f"Conv2d: {c_in} and {c_out} channels do not divide into {groups} groups")
        self.w = weights(rng, (kernel, kernel, c_in // groups, c_out), kernel * kernel * c_in // groups, gain)
        self.b = constants(c_out) if bias else None
        self.stride, self.groups = stride, groups
        self.padding = (kernel - 1) // 2 if padding is None else padding

    def __call__(self, x: Any) -> Any:
        y = ops.conv2d(x, self.w, self.stride, self.padding, self.groups)
        return y if self.b is None else y + self.b


class ConvTranspose2d(Module):
    """The adjoint of a strided convolution, + b: images grow by the stride.  w: (k, k, c_out, c_in)."""

    def __init__(
        self, c_in: int, c_out: int, kernel: int = 4, *, rng: Generator, stride: int = 2, padding: Padding = 1,
        bias: bool = True, gain: float = 1.0,
    ) -> None:  # fmt: skip
        fan_in = max(1, kernel * kernel * c_in // stride**2)  # how many products meet in one pixel
        self.w = weights(rng, (kernel, kernel, c_out, c_in), fan_in, gain)
        self.b = constants(c_out) if bias else None
        self.stride, self.padding = stride, padding

    def __call__(self, x: Any) -> Any:
        y = ops.conv2d_transpose(x, self.w, self.stride, self.padding)
        return y if self.b is None else y + self.b


class LayerNorm(Module):
    """Each vector to mean 0 and variance 1, then scale and shift."""

    def __init__(self, n: int, tiny: float = 1e-5) -> None:
        self.scale, self.shift, self.tiny = constants(n, 1.0), constants(n), tiny

    def __call__(self, x: Any) -> Any:
        return F.layer_norm(x, self.scale, self.shift, self.tiny)


class GroupNorm(Module):
    """Each group of channels of each image to mean 0 and variance 1, then scale and shift."""

    def __init__(self, groups: int, channels: int, tiny: float = 1e-5) -> None:
        if channels % groups:
            raise ValueError(f"GroupNorm: {channels} channels do not divide into {groups} groups")
        self.groups, self.tiny = groups, tiny
        self.scale, self.shift = constants(channels, 1.0), constants(channels)

    def __call__(self, x: Any) -> Any:
        return F.group_norm(x, self.groups, self.scale, self.shift, self.tiny)


class RMSNorm(Module):
    """x over its root mean square, then scale."""

    def __init__(self, n: int, tiny: float = 1e-6) -> None:
        self.scale, self.tiny = constants(n, 1.0), tiny

    def __call__(self, x: Any) -> Any:
        return F.rms_norm(x, self.scale, self.tiny)


class Embedding(Module):
    """A table of n vectors; called with plain integers (…), it returns (…, width)."""

    def __init__(self, n: int, width: int, *, rng: Generator) -> None:
        self.table = Tensor(rng.standard_normal((n, width)))

    def __call__(self, indices: Any) -> Any:
        return F.embedding(self.table, indices)


class SinusoidalEmbedding(Module):
    """Time as waves: [sin ω_i t, cos ω_i t], ω_i = 10000^(−i/half) (Vaswani et al. 2017, §3.5).

    t: plain numbers (B,).  Returns a plain float32 array (B, width), or float64 for float64 times.
    """

    def __init__(self, width: int) -> None:
        if width % 2:
            raise ValueError(f"SinusoidalEmbedding: the width {width} is odd")
        self.half = width // 2

    def __call__(self, t: Any) -> Any:
        t = value_of(t)
        xp = backend_of(t)
        dtype = t.dtype if t.dtype.kind == "f" else "float32"
        omega = xp.exp(xp.arange(self.half, dtype=dtype) * (-log(10_000.0) / self.half))
        angle = t.astype(dtype)[:, None] * omega
        return xp.concatenate([xp.sin(angle), xp.cos(angle)], axis=-1)
