"""A convolutional autoencoder: 28×28 → 14×14×32 → 7×7×64 by strides, and back by transposed convolutions."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.workload import Workload
from scratchgen import functional as F
from scratchgen import nn, ops

EXAMPLES, SIZE, WIDTHS = 64, 28, (32, 64)


class Ours(nn.Module):
    def __init__(self, rng: Any) -> None:
        a, b = WIDTHS
        self.down1 = nn.Conv2d(1, a, 4, rng=rng, stride=2)
        self.down2 = nn.Conv2d(a, b, 4, rng=rng, stride=2)
        self.up1 = nn.ConvTranspose2d(b, a, 4, rng=rng)
        self.up2 = nn.ConvTranspose2d(a, 1, 4, rng=rng)

    def loss(self, x: Any) -> Any:
        code = F.relu(self.down2(F.relu(self.down1(x))))
        y = self.up2(F.relu(self.up1(code)))
        return ops.mean(ops.square(y - x), axis=(1, 2, 3))


def pytorch() -> Any:
    from torch import nn
    from torch.nn import functional as F

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            a, b = WIDTHS
            self.down1, self.down2 = nn.Conv2d(1, a, 4, 2, 1), nn.Conv2d(a, b, 4, 2, 1)
            self.up1, self.up2 = nn.ConvTranspose2d(b, a, 4, 2, 1), nn.ConvTranspose2d(a, 1, 4, 2, 1)

        def loss(self, x: Any) -> Any:
            code = F.relu(self.down2(F.relu(self.down1(x))))
            y = self.up2(F.relu(self.up1(code)))
            return (y - x).square().mean((1, 2, 3))

    return Net()


def arrays(xp: Any) -> Any:
    from jax import lax

    layout = ("NHWC", "HWIO", "NHWC")

    def down(p: Any, name: str, x: Any) -> Any:
        y = lax.conv_general_dilated(x, p[f"{name}.w"], (2, 2), ((1, 1), (1, 1)), dimension_numbers=layout)
        return y + p[f"{name}.b"]

    def up(p: Any, name: str, x: Any) -> Any:
        frame = ((2, 2), (2, 2))  # 4 − 1 − 1: what the adjoint of a padding of 1 leaves of the kernel's own 3
        y = lax.conv_transpose(x, p[f"{name}.w"], (2, 2), frame, dimension_numbers=layout, transpose_kernel=True)
        return y + p[f"{name}.b"]

    def loss(p: Any, x: Any) -> Any:
        code = xp.maximum(down(p, "down2", xp.maximum(down(p, "down1", x), 0)), 0)
        y = up(p, "up2", xp.maximum(up(p, "up1", code), 0))
        return xp.mean(xp.square(y - x), (1, 2, 3))

    return loss


def batch(rng: np.random.Generator) -> tuple[np.ndarray, ...]:
    return (rng.uniform(-1, 1, (EXAMPLES, SIZE, SIZE, 1)).astype(np.float32),)


WORKLOAD = Workload(
    "Convolutional autoencoder, 28×28, widths 32 and 64, batch 64", EXAMPLES, Ours, batch, (), pytorch, arrays,
    images=True, shards=2,
)  # fmt: skip
