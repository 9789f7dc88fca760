"""Wasserstein GANs on images: as a GAN, and the critic's distance beside the exact one."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

from scratchgen.backend import active
from scratchgen.models.adversarial import WGAN, WGANConfig, wgan
from scratchgen.recipes import gan_pictures, wgan_pictures
from scratchgen.recipes.gan import FEATURES, AdversarialRecipe
from scratchgen.recipes.quality import JUDGED
from scratchgen.recipes.recipe import Results, Trained, on_host
from scratchgen.train import TrainConfig
from scratchgen.train.report import Picture, Table

SILU_SLOPE = 1.09984  # the largest of the critic's activation


class WGANRecipe(AdversarialRecipe):
    """The critic's weights clipped, as in the first paper."""

    id = "wgan"
    title = "A Wasserstein GAN, its critic's weights clipped"
    paper = "Arjovsky, Chintala & Bottou 2017"
    file = "scratchgen/models/adversarial/wgan.py"
    config_type = WGANConfig
    system = WGAN
    variant: ClassVar[dict[str, Any]] = {"penalty": None, "clip": 0.02, "k": 5, "noise": 0.0}
    train = TrainConfig(
        steps=3000, batch_size=64, lr=1e-3, final_lr=0.1, beta1=0.0, beta2=0.9, ema_decay=0.99, checkpoint_every=500,
        log_every=10,
    )  # fmt: skip
    equations = (
        ("W(p_r, p_g) = max_{‖f‖_L ≤ 1} E f(x) − E f(G(z))", "the critic f makes it large, G makes it small"),
        ("w ← min(max(w, −c), c)", "after every step of the critic: its slope stays below some bound"),
        ("‖f‖_L ≤ Π ‖W_l‖₂·s^{L−1}", "that bound, s the steepest of the activation"),
    )

    def evaluate(self, trained: Trained, thorough: bool = False) -> Results:
        results = super().evaluate(trained, thorough)
        real, made = trained.dataset.heldout[:JUDGED], results.arrays["drawn"]
        seen = trained.dataset.train[:: len(trained.dataset.train) // len(real)][: len(real)]
        system, rng = trained.system, trained.rng(FEATURES)
        f = [on_host(system.score(active().asarray(x))).astype(float) for x in (real, made)]
        u = rng.random((len(real),))
        between = wgan.interpolate(active().asarray(real), active().asarray(made), u)
        slopes = on_host(wgan.slopes(system.score, between)).astype(float)
        matrices = [layer.w for layer in system.discriminator.layers]
        results.arrays |= {"slopes": slopes, "weights": np.concatenate([on_host(w).ravel() for w in matrices])}
        results.numbers["distance"] = {
            "critic": float(f[0].mean() - f[1].mean()), "steepest": float(slopes.max()), "slope": float(slopes.mean()),
            "bound": float(on_host(wgan.lipschitz(matrices, SILU_SLOPE))),
            "exact": assignment(real, made), "floor": assignment(real, seen), "images": len(real),
        }  # fmt: skip
        return results

    def tables(self, trained: Trained, results: Results) -> list[Table]:
        return [*super().tables(trained, results), distance_table(results.numbers["distance"])]

    def draw(self, trained: Trained, results: Results) -> list[Picture]:
        return [
            gan_pictures.samples(trained, results, self.name), gan_pictures.between(trained, results),
            wgan_pictures.distance(trained), wgan_pictures.critic(trained, results),
        ]  # fmt: skip


class WGANGPRecipe(WGANRecipe):
    """The critic's slope kept near 1 by a penalty."""

    id = "wgan_gp"
    title = "A Wasserstein GAN with gradient penalty (WGAN-GP)"
    paper = "Gulrajani et al. 2017; Arjovsky, Chintala & Bottou 2017"
    variant: ClassVar[dict[str, Any]] = {}
    train = TrainConfig(
        steps=4000, batch_size=64, lr=1e-3, final_lr=0.02, beta1=0.5, beta2=0.99, ema_decay=0.995, checkpoint_every=500,
        log_every=10,
    )  # fmt: skip
    equations = (
        ("W(p_r, p_g) = max_{‖f‖_L ≤ 1} E f(x) − E f(G(z))", "the critic f makes it large, G makes it small"),
        ("x̂ = u·x + (1−u)·G(z),  u ~ U(0, 1)", "points between real and generated examples"),
        ("L_f = E f(G(z)) − E f(x) + λ·E (‖∇f(x̂)‖ − 1)²", "the critic's slope there should be 1: λ = 10"),
    )


def assignment(x: np.ndarray, y: np.ndarray) -> float:
    """W between two sets of as many examples, exactly: the cheapest way to pair them off, by the mean distance."""
    costs = cdist(x.reshape(len(x), -1), y.reshape(len(y), -1))
    return float(costs[linear_sum_assignment(costs)].mean())


def distance_table(found: dict[str, float]) -> Table:
    """The critic's W, and the exact one."""
    n = found["images"]
    estimate = found["critic"] / found["steepest"]
    rows = [
        (f"exact, {n} real images to {n} real ones", f"{found['floor']:.2f}"),
        (f"exact, real to {n} drawn ones", f"{found['exact']:.2f}"),
        ("critic: E f(x) − E f(G(z))", f"{found['critic']:.3g}"),
        ("its steepest slope seen", f"{found['steepest']:.3g}"),
        ("a bound on its slope, by its weights", f"{found['bound']:.3g}"),
        ("critic's, for slope 1: a lower bound of W", f"{estimate:.2f}"),
    ]  # fmt: skip
    return Table(
        "Wasserstein distance",
        "Between sets of images, from black, −1, to white, 1, in every pixel. The exact distance of two samples is "
        "that of the cheapest pairing; it is large even between real sets, the floor, since few images have a near "
        "twin. What the critic says is divided by the steepest slope found between the sets.",
        ("", "distance"), rows, frozenset({0}),
    )  # fmt: skip
