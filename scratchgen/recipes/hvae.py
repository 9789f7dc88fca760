"""The hierarchical VAE on images: its bound beside that of one level, what each level keeps, and what it draws."""

from __future__ import annotations

from typing import Any

import numpy as np

from scratchgen.backend import active
from scratchgen.data import Dataset
from scratchgen.models.latent.hierarchical import HVAE, HVAEConfig
from scratchgen.models.latent.vae import VAE, VAEConfig
from scratchgen.random import Generator
from scratchgen.recipes import codes, hvae_pictures
from scratchgen.recipes.quality import JUDGED, rounded
from scratchgen.recipes.recipe import Results, Trained, on_host
from scratchgen.recipes.vae import CODES, OBSERVED, VAERecipe, error, images
from scratchgen.train import train
from scratchgen.train.report import Picture

ROWS, WAYS = 8, 12  # codes of the top level, and pictures that are drawn from each
SHOWN = 14  # images that are rebuilt from every level
TOP = 10  # a purpose of random numbers, beside those of the VAE


class HVAERecipe(VAERecipe):
    """Images, a class each; the defaults are for 8×8 digits on two cores."""

    id = "hvae"
    title = "Hierarchical VAE: latents of latents"
    paper = "Sønderby et al. 2016; Kingma et al. 2021; Luo 2022"
    lectures = "L3"
    file = "scratchgen/models/latent/hierarchical.py"
    config_type = HVAEConfig
    equations = (
        ("p(x, z) = p(z_T)·p(x|z_1)·Π_t p(z_{t−1}|z_t)", "each latent is made from the next one alone"),
        ("q(z|x) = Π_t q(z_t|z_{t−1}),  z_0 = x", "and guessed from the one below alone"),
        ("L = log p(x|z_1) − KL(q(z_T|z_{T−1})‖p(z_T)) − Σ_t log q(z_t|z_{t−1})/p(z_t|z_{t+1})",
         "what is maximised, in the mean: each step beside the opposite one"),
        ("z_T ~ N(0, I),  z_{t−1} ~ p(z_{t−1}|z_t)", "a sample, from the top down"),
    )  # fmt: skip

    def configure(self, dataset: Dataset) -> Any:
        images(self.id, dataset)
        return HVAEConfig(shape=dataset.shape, levels=dataset.levels)

    def build(self, config: Any, rng: Generator) -> Any:
        return HVAE(config, rng=rng)

    def codes(self, trained: Trained, n: int, rng: Generator, temperature: float) -> Any:
        """temperature: of the top level's codes only."""
        return trained.system.descend(trained.system.prior(n, rng) * temperature, rng)

    def evaluate(self, trained: Trained, thorough: bool = False) -> Results:
        """With the same network of one level, trained for as many steps on the same minibatches."""
        results = super().evaluate(trained, thorough)
        results.numbers["rows"].insert(-2, _one_level(trained))
        return results

    def _look(self, trained: Trained, x: Any, results: Results) -> None:
        """What every level keeps of an image, where its codes lie, and what one code of the top may become."""
        model, labels = trained.system, trained.dataset.heldout_labels
        T, rng = len(model.config.latents), trained.rng(TOP)
        chosen = codes.one_of_each(None if labels is None else labels[:JUDGED], SHOWN)
        rebuilt = [on_host(model.reconstruct(x[chosen], t)) for t in range(1, T + 1)]
        results.arrays |= {"original": trained.dataset.heldout[chosen], "rebuilt": np.stack(rebuilt)}
        z = x
        for t in range(1, T + 1):
            z = model.encode(z, t).mu
        results.arrays["codes"] = on_host(z)
        top = on_host(model.prior(ROWS, rng))
        below = model.descend(active().asarray(np.repeat(top, WAYS, axis=0)), rng)
        results.arrays["ways"] = rounded(on_host(model.draw(below)), trained.dataset.levels)

    def facts(self, trained: Trained, results: Results) -> list[tuple[str, str]]:
        found, one = super().facts(trained, results), results.numbers["rows"][-3]
        return [*found[:2], (one["name"], f"{one['nats']:.2f}"), *found[2:]]

    def draw(self, trained: Trained, results: Results) -> list[Picture]:
        return hvae_pictures.draw(trained, results)


def _one_level(trained: Trained) -> dict[str, Any]:
    """The row of a VAE whose one code is as long as z_1."""
    config, data = trained.system.config, trained.dataset
    alike = VAEConfig(shape=config.shape, latent=config.latent, widths=config.widths, decoder=config.decoder,
                      levels=config.levels)  # fmt: skip
    settings = trained.run.config.train
    model = VAE(alike, rng=Generator(settings.seed))
    found = train(model, data.train, settings, name="one level, to compare with")
    model = model.frozen(found.average)
    x = model.pixels.observe(active().asarray(data.heldout[:JUDGED]), trained.rng(OBSERVED))
    bound = on_host(model.elbo(x, trained.rng(CODES)))
    return {"name": "a VAE of one level, ELBO", "nats": float(bound.mean()), "error": error(bound), "train": None,
            "exact": False}  # fmt: skip
