"""A variational autoencoder of two multilayer perceptrons, 784-512-20 and back, with Bernoulli pixels.

Kingma & Welling (2014): −L = −log p(x|z) + KL(q‖p(z)), z = μ + σ⊙ε.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.workload import Noise, Workload
from scratchgen import functional as F
from scratchgen import nn, ops
from scratchgen.models.latent import vae

PIXELS, WIDTH, LATENT = 784, 512, 20


class Ours(nn.Module):
    def __init__(self, rng: Any) -> None:
        self.enc1 = nn.Linear(PIXELS, WIDTH, rng=rng)
        self.enc2 = nn.Linear(WIDTH, 2 * LATENT, rng=rng)
        self.dec1 = nn.Linear(LATENT, WIDTH, rng=rng)
        self.dec2 = nn.Linear(WIDTH, PIXELS, rng=rng)

    def loss(self, x: Any, eps: Any) -> Any:
        mu, log_var = ops.split(self.enc2(F.relu(self.enc1(x))), 2, axis=-1)
        z = vae.latent(None, vae.Gaussian(mu, log_var), eps)
        logits = self.dec2(F.relu(self.dec1(z)))
        return vae.negative_elbo(x, logits, mu, log_var, vae.bernoulli_decoder).loss


def pytorch() -> Any:
    import torch
    from torch import nn
    from torch.nn import functional as F

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.enc1, self.enc2 = nn.Linear(PIXELS, WIDTH), nn.Linear(WIDTH, 2 * LATENT)
            self.dec1, self.dec2 = nn.Linear(LATENT, WIDTH), nn.Linear(WIDTH, PIXELS)

        def loss(self, x: Any, eps: Any) -> Any:
            mu, log_var = self.enc2(F.relu(self.enc1(x))).chunk(2, dim=-1)
            z = mu + torch.exp(0.5 * log_var) * eps
            logits = self.dec2(F.relu(self.dec1(z)))
            bits = F.binary_cross_entropy_with_logits(logits, x, reduction="none").sum(-1)
            return bits + 0.5 * (mu.square() + log_var.exp() - log_var - 1).sum(-1)

    return Net()


def arrays(xp: Any) -> Any:
    def loss(p: Any, x: Any, eps: Any) -> Any:
        h = xp.maximum(x @ p["enc1.w"] + p["enc1.b"], 0)
        q = h @ p["enc2.w"] + p["enc2.b"]
        mu, log_var = q[:, :LATENT], q[:, LATENT:]
        z = mu + xp.exp(0.5 * log_var) * eps
        h = xp.maximum(z @ p["dec1.w"] + p["dec1.b"], 0)
        logits = h @ p["dec2.w"] + p["dec2.b"]
        bits = xp.sum(xp.logaddexp(logits, 0) - x * logits, axis=-1)
        return bits + 0.5 * xp.sum(xp.square(mu) + xp.exp(log_var) - log_var - 1, axis=-1)

    return loss


def batch(rng: np.random.Generator) -> tuple[np.ndarray, ...]:
    return ((rng.random((128, PIXELS)) < 0.2).astype(np.float32),)


WORKLOAD = Workload(
    "VAE, MLP 784-512-20, batch 128", 128, Ours, batch, (Noise("normal", (LATENT,)),), pytorch, arrays, autograd=True,
)  # fmt: skip
