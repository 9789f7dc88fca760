"""Glow on images: activation normalisation, invertible 1×1 convolutions, couplings."""

from __future__ import annotations

from scratchgen.models.flows import Glow, GlowConfig
from scratchgen.recipes.flow_images import FlowRecipe
from scratchgen.train import TrainConfig


class GlowRecipe(FlowRecipe):
    """The convolutions by their LU decomposition."""

    id = "glow"
    title = "Glow: a flow with invertible 1×1 convolutions"
    paper = "Kingma & Dhariwal 2018"
    file = "scratchgen/models/flows/glow.py"
    config_type = GlowConfig
    system = Glow
    name = "Glow"
    train = TrainConfig(
        steps=450, batch_size=80, shards=2, lr=4e-3, warmup=50, final_lr=0.02, clip=1.0, beta2=0.99, ema_decay=0.99,
        weight_decay=0.1, checkpoint_every=150, log_every=5,
    )  # fmt: skip
    equations = (
        ("log p(x) = log N(g(x); 0, I) + log |det J_g(x)|", "exact, for numbers; noise fills the bins of grey levels"),
        ("L = −(log p(x_u) + D·log Δ)/(D·log 2)", "what is minimised: bits per pixel"),
        ("z_hwc = e^s_c·(x_hwc + b_c)", "actnorm: at first, mean 0 and variance 1 of each channel"),
        ("z_hw = W·x_hw,  log |det J| = H·W·log |det W|", "every pixel's channels mixed by one learnt matrix"),
        ("W = P·L·(U + diag d),  log |det W| = Σ_i log |d_i|", "so that the determinant is cheap"),
        ("x = g⁻¹(τ·ε),  ε ~ N(0, I)", "sampling, in one pass; τ is the temperature"),
    )
