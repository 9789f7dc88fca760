"""GANs on images: train one, judge its samples between floor and ceiling, and draw the game and what comes of it."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from scratchgen.data import Dataset
from scratchgen.metrics import ClassifierConfig
from scratchgen.models.adversarial import GAN, GANConfig
from scratchgen.models.system import System
from scratchgen.random import Generator
from scratchgen.recipes import gan_pictures
from scratchgen.recipes.quality import JUDGED, judged, quality_table, rounded
from scratchgen.recipes.recipe import Recipe, RecipeError, Results, Trained, on_host
from scratchgen.train import TrainConfig
from scratchgen.train.report import Picture, Table

ROWS, STOPS = 8, 15  # of the picture of ways through the latent space
NOISE, ENDS, RULERS, FEATURES = range(4)  # purposes of random numbers


class AdversarialRecipe(Recipe):
    """What all GANs have in common: images come in, are drawn in one pass, and nobody knows their likelihood."""

    lectures = "L1"
    dataset = "digits"
    system: ClassVar[type]
    variant: ClassVar[dict[str, Any]] = {}
    """Settings of the system in which this recipe differs from its config's defaults."""

    def configure(self, dataset: Dataset) -> Any:
        if len(dataset.shape) != 3:
            raise RecipeError(f"{self.id}: needs images; {dataset.name} has examples of shape {dataset.shape}")
        if len(dataset.heldout) <= ClassifierConfig().width:
            raise RecipeError(f"{self.id}: {dataset.name} holds out {len(dataset.heldout)} images, too few to judge by")
        return self.config_type(shape=dataset.shape, levels=dataset.levels, **self.variant)

    def build(self, config: Any, rng: Generator) -> System:
        return self.system(config, rng=rng)

    def sample(self, trained: Trained, n: int, rng: Generator, **options: Any) -> np.ndarray:
        return rounded(on_host(trained.system.sample(n, rng)), trained.system.config.levels)

    def evaluate(self, trained: Trained, thorough: bool = False) -> Results:
        """thorough: with ten times the samples, in groups of the same size."""
        n = min(JUDGED, len(trained.dataset.heldout))
        drawn = self.sample(trained, (20 if thorough else 2) * n, trained.rng(NOISE))
        ends = trained.system.prior(2 * ROWS, trained.rng(ENDS))
        way = [on_host(x) for x in trained.system.between(ends[:ROWS], ends[ROWS:], STOPS)]
        results = Results({"drawn": drawn[:n], "between": np.stack(way, axis=1)})
        results.numbers["quality"] = judged(trained, {self.name: drawn}, trained.rng(RULERS))
        return results

    @property
    def name(self) -> str:
        """What its samples are called in tables."""
        return self.id.upper().replace("_", "-")

    def tables(self, trained: Trained, results: Results) -> list[Table]:
        return [quality_table(results.numbers["quality"])]

    def facts(self, trained: Trained, results: Results) -> list[tuple[str, str]]:
        quality = results.numbers["quality"]
        return [
            (f"Fréchet, {self.name}", f"{quality[1]['frechet']:.2f}"),
            ("floor: real, held out", f"{quality[0]['frechet']:.2f}"),
            ("ceiling: noise", f"{quality[-1]['frechet']:.0f}"),
            ("training steps", f"{trained.step:,}"),
            ("parameters", f"{trained.size:,}"),
        ]


class GANRecipe(AdversarialRecipe):
    """The game of 2014, its generator non-saturating."""

    id = "gan"
    title = "A generative adversarial network (GAN)"
    paper = "Goodfellow et al. 2014"
    file = "scratchgen/models/adversarial/gan.py"
    config_type = GANConfig
    system = GAN
    train = TrainConfig(
        steps=6000, batch_size=64, lr=5e-4, final_lr=0.1, beta1=0.5, ema_decay=0.998, checkpoint_every=1000,
        log_every=20,
    )  # fmt: skip
    equations = (
        ("V(D, G) = E log D(x) + E log(1 − D(G(z)))", "D makes it large"),
        ("D* = p_r/(p_r + p_g),  V(D*, G) = 2·JS(p_r, p_g) − log 4", "the best it can do against a fixed G"),
        ("L_G = −E log D(G(z))", "G makes it small: the form that does not saturate"),
    )

    def draw(self, trained: Trained, results: Results) -> list[Picture]:
        return [
            gan_pictures.samples(trained, results, self.name), gan_pictures.between(trained, results),
            gan_pictures.game(trained),
        ]  # fmt: skip
