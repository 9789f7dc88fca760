"""Maps of images that flows are made of: pixels into channels, half of the channels out, intervals onto the line.

    z_{h, w, (i, j, c)} = x_{2h+i, 2w+j, c},   i, j ∈ {0, 1}       log |det J| = 0      (1)  flow.squeeze
    black: (i, j) = (0, 0), (1, 1);   white: (0, 1), (1, 0)                             (2)  flow.checkerboard
    h_0 = x,   (h_s, z_s) = halves of g_s(h_{s−1}),   z = [z_1; …; z_{S−1}; g_S(h_{S−1})]
          log |det J| = Σ_s log |det J_{g_s}(h_{s−1})|                                  (3)  flow.multiscale
    y = (x − a)/(b − a),   w = α + (1 − 2α)·y,   z = log w − log (1 − w)
          log |det J| = Σ log (1 − 2α)/(b − a) − log w − log (1 − w)                    (4)  flow.logit

(1) exchanges height and width for channels, four for one, where maps of channels can mix what were neighbours (Dinh,
Sohl-Dickstein & Bengio 2016, arXiv:1605.08803, §3.6).  (2): the pixels where a checkerboard is black are, squeezed,
half of the channels; so its mask (§3.4) is a permutation of the channels before a coupling of halves, and no network
looks at holes.  (3), §3.6: what leaves early is done with, and the maps that follow have half the work; the part that
stays sees ever more of the image.  The Jacobian is triangular in blocks: [h; z_s], with the z that left unchanged.
(4), §4.1: on the line there is no border that the noise of dequantisation must not cross; α keeps z from ∞.

Everywhere: images (B, H, W, C); log-determinants (B,), in nats.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import log, prod
from typing import Any

from scratchgen import ops
from scratchgen.autograd.tensor import value_of
from scratchgen.backend import Array, backend_of
from scratchgen.distributions.events import per_example
from scratchgen.models.flows.change import Flow, Forward, Permutation, begin
from scratchgen.nn.module import Module


@dataclass(frozen=True)
class Squeeze:
    """Squares of 2×2 pixels become pixels, eq. (1): (B, H, W, C) → (B, H/2, W/2, 4C).

    Raises ValueError for what has no such squares.
    """

    def forward_and_log_det(self, x: Array) -> Forward:
        if x.ndim != 4 or x.shape[1] % 2 or x.shape[2] % 2:
            raise ValueError(f"flow.Squeeze: {x.shape} should be (B, H, W, C), H and W even")
        n, h, w, c = x.shape
        squares = ops.transpose(ops.reshape(x, (n, h // 2, 2, w // 2, 2, c)), (0, 1, 3, 2, 4, 5))
        zeros = backend_of(value_of(x)).zeros((n,), x.dtype)
        return Forward(ops.reshape(squares, (n, h // 2, w // 2, 4 * c)), zeros)

    def inverse(self, z: Array) -> Array:
        if z.ndim != 4 or z.shape[3] % 4:
            raise ValueError(f"flow.Squeeze: {z.shape} should be (B, H, W, C), C divisible by 4")
        n, h, w, c = z.shape
        squares = ops.transpose(ops.reshape(z, (n, h, w, 2, 2, c // 4)), (0, 1, 3, 2, 4, 5))
        return ops.reshape(squares, (n, 2 * h, 2 * w, c // 4))


def checkerboard(channels: int) -> Permutation:
    """Of squeezed channels: those of the black pixels first, eq. (2).  channels: after squeezing.

    Raises ValueError if they were not squeezed.
    """
    if channels % 4:
        raise ValueError(f"flow.checkerboard: {channels} channels are no squares of 2×2 pixels")
    c = channels // 4
    return Permutation([square * c + i for square in (0, 3, 1, 2) for i in range(c)])


def swap(channels: int) -> Permutation:
    """The halves of the channels exchanged: what stayed will move."""
    return Permutation([*range(channels // 2, channels), *range(channels // 2)])


class Scales(Module):
    """One map after the other; after each but the last, half of the channels leave, eq. (3).

    shape: (H, W, C) of x.  flows: each begins with a squeeze.  z is flat, (B, H·W·C): first what left first.
    Raises ValueError for an image that cannot be halved so often.
    """

    def __init__(self, shape: Sequence[int], flows: Sequence[Flow]) -> None:
        self.flows = list(flows)
        self.shapes = squeezed(shape, len(self.flows))

    def forward_and_log_det(self, x: Array) -> Forward:
        out, total = [], 0.0
        for i, flow in enumerate(self.flows):
            x, log_det = flow.forward_and_log_det(x)
            total = total + log_det
            half = x.shape[3] // 2 if i + 1 < len(self.flows) else 0
            out.append(ops.reshape(x[..., half:], (x.shape[0], -1)))
            x = x[..., :half]
        return Forward(ops.concatenate(out, axis=1), total)

    def start(self, x: Array) -> None:
        """Show each map what reaches it."""
        for flow in self.flows:
            begin(flow, x)
            z = flow.forward_and_log_det(x).z
            x = z[..., : z.shape[3] // 2]

    def inverse(self, z: Array) -> Array:
        parts, start = [], 0
        for i, (h, w, c) in enumerate(self.shapes):
            kept = c // 2 if i + 1 < len(self.shapes) else c
            parts.append(ops.reshape(z[:, start : start + h * w * kept], (z.shape[0], h, w, kept)))
            start += h * w * kept
        x: Any = None
        for flow, part in zip(reversed(self.flows), reversed(parts), strict=True):
            x = flow.inverse(part if x is None else ops.concatenate([x, part], axis=3))
        return x


def squeezed(shape: Sequence[int], scales: int) -> list[tuple[int, int, int]]:
    """(H, W, C) at every scale, after its squeeze.  Raises ValueError for an image that cannot be halved so often."""
    if len(shape) != 3 or scales < 1 or shape[0] % 2**scales or shape[1] % 2**scales:
        raise ValueError(f"flow.Scales: images {tuple(shape)} cannot be halved {scales} times")
    h, w, c = shape
    return [(h >> s, w >> s, c * 2 ** (s + 1)) for s in range(1, scales + 1)]


@dataclass(frozen=True)
class Logit:
    """The interval that the bins of all levels fill, [−L/(L−1), L/(L−1)], onto the line, eq. (4).

    Raises ValueError unless 0 < alpha < ½ and L ≥ 2.
    """

    levels: int
    alpha: float = 0.05

    def __post_init__(self) -> None:
        if not 0 < self.alpha < 0.5 or self.levels < 2:
            what = f"alpha {self.alpha} and levels {self.levels}"
            raise ValueError(f"flow.Logit: {what} should be in (0, ½) and at least 2")

    @property
    def slope(self) -> float:
        """dw/dx."""
        return (1 - 2 * self.alpha) * (self.levels - 1) / (2 * self.levels)

    def forward_and_log_det(self, x: Array) -> Forward:
        w = 0.5 + self.slope * x
        log_w, log_rest = ops.log(w), ops.log1p(-w)
        return Forward(log_w - log_rest, prod(x.shape[1:]) * log(self.slope) - per_example(log_w + log_rest))

    def inverse(self, z: Array) -> Array:
        return (ops.expit(z) - 0.5) / self.slope
