"""RealNVP and NICE on images: couplings of checkerboards and channels at two scales."""

from __future__ import annotations

from typing import Any, ClassVar

from scratchgen.models.flows import CouplingConfig, CouplingFlow
from scratchgen.recipes.flow_images import FlowRecipe
from scratchgen.train import TrainConfig


class RealNVPRecipe(FlowRecipe):
    """Affine couplings."""

    id = "realnvp"
    title = "RealNVP: images from noise by invertible steps"
    paper = "Dinh, Sohl-Dickstein & Bengio 2016"
    file = "scratchgen/models/flows/coupling.py"
    config_type = CouplingConfig
    system = CouplingFlow
    name = "RealNVP"
    variant: ClassVar[dict[str, Any]] = {"couplings": 3, "hidden": 32, "blocks": 1}
    train = TrainConfig(
        steps=450, batch_size=80, shards=2, lr=4e-3, warmup=50, final_lr=0.02, clip=1.0, beta2=0.99, ema_decay=0.99,
        weight_decay=0.1, checkpoint_every=150, log_every=5,
    )  # fmt: skip
    equations: ClassVar[tuple[tuple[str, str], ...]] = (
        ("log p(x) = log N(g(x); 0, I) + log |det J_g(x)|", "exact, for numbers; noise fills the bins of grey levels"),
        ("L = −(log p(x_u) + D·log Δ)/(D·log 2)", "what is minimised: bits per pixel"),
        ("z_a = x_a,  z_b = e^s(x_a)⊙x_b + t(x_a)", "one coupling: half of the numbers says how the other half moves"),
        ("(h_s, z_s) = halves of g_s(h_{s−1})", "after each scale half of the channels leave"),
        ("x = g⁻¹(τ·ε),  ε ~ N(0, I)", "sampling, in one pass"),
    )


class NICERecipe(RealNVPRecipe):
    """Additive couplings, and one factor for each number of the noise."""

    id = "nice"
    title = "NICE: images from noise by steps that keep every volume"
    paper = "Dinh, Krueger & Bengio 2014"
    name = "NICE"
    variant: ClassVar[dict[str, Any]] = {**RealNVPRecipe.variant, "affine": False}
    equations = (
        *RealNVPRecipe.equations[:2],
        ("z_a = x_a,  z_b = x_b + t(x_a)", "one coupling, |det J| = 1"),
        ("z = e^s⊙h,  log |det J| = Σ_i s_i", "at the end: one factor for each number"),
        *RealNVPRecipe.equations[3:],
    )
