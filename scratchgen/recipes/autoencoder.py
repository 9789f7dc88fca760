"""Autoencoders on images: what is lost on the way through the code, beside PCA, and what lies between the codes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np

from scratchgen.backend import active
from scratchgen.data import Dataset
from scratchgen.models.classical import pca
from scratchgen.models.latent.autoencoder import Autoencoder, AutoencoderConfig
from scratchgen.random import Generator
from scratchgen.recipes import autoencoder_pictures, codes
from scratchgen.recipes.quality import JUDGED, judged, quality_table, rounded
from scratchgen.recipes.recipe import Recipe, RecipeError, Results, Trained, on_host
from scratchgen.train import TrainConfig
from scratchgen.train.report import Picture, Table

LINES, STEPS = 6, 12  # interpolations, and images in each
RANDOM, RULERS = range(2)  # purposes of random numbers


class AutoencoderRecipe(Recipe):
    """Images, a class each; the defaults are for 8×8 digits on two cores."""

    id = "autoencoder"
    title = "Autoencoder"
    paper = "Hinton & Salakhutdinov 2006; Baldi & Hornik 1989"
    lectures = "L0 L1 L4"
    file = "scratchgen/models/latent/autoencoder.py"
    dataset = "digits"
    config_type = AutoencoderConfig
    train = TrainConfig(
        steps=2500, batch_size=128, lr=2e-3, warmup=50, final_lr=0.02, ema_decay=0.99, checkpoint_every=500,
        log_every=10,
    )  # fmt: skip
    equations = (
        ("c = f(x),  x̂ = g(c)", "a few numbers of the picture, and the picture of the numbers"),
        ("L = ‖x − x̂‖²", "what is minimised"),
        ("min L = Σ_{k>d} λ_k", "the best that affine f and g reach: PCA with d directions"),
    )
    settings: ClassVar[Mapping[str, Any]] = {}
    """What this recipe has other than the config's defaults."""

    def configure(self, dataset: Dataset) -> AutoencoderConfig:
        if len(dataset.shape) != 3 or dataset.heldout_labels is None:
            raise RecipeError(f"{self.id}: needs labelled images; {dataset.name} has examples {dataset.shape}")
        return replace(AutoencoderConfig(shape=dataset.shape), **self.settings)

    def build(self, config: AutoencoderConfig, rng: Generator) -> Autoencoder:
        return Autoencoder(config, rng=rng)

    def sample(self, trained: Trained, n: int, rng: Generator, **options: Any) -> np.ndarray:
        """Images of random codes, from a Gaussian with the mean and covariance of the training images' codes."""
        c = on_host(trained.system.encode(active().asarray(trained.dataset.train)))
        moments = (active().asarray(m.astype(c.dtype)) for m in (c.mean(axis=0), np.atleast_2d(np.cov(c.T))))
        return rounded(on_host(trained.system.sample(n, rng, *moments)), trained.dataset.levels)

    def evaluate(self, trained: Trained, thorough: bool = False) -> Results:
        model: Autoencoder = trained.system
        data, results = trained.dataset, Results()
        x, seen = (active().asarray(part) for part in (data.heldout[:JUDGED], data.train[:5000]))
        c = on_host(model.encode(x))
        parts = {"heldout": on_host(x), "train": on_host(seen)}
        results.numbers["errors"] = {
            "latent": model.config.latent, "pca": {name: _pca_errors(data.train, y) for name, y in parts.items()},
            "heldout": float(on_host(model.error(x)).mean()), "train": float(on_host(model.error(seen)).mean()),
        }  # fmt: skip
        chosen = codes.one_of_each(data.heldout_labels[:JUDGED], 14)
        ends = codes.one_of_each(data.heldout_labels[:JUDGED], 2 * LINES, start=3)
        line = codes.between(c[ends[:LINES]], c[ends[LINES:]], STEPS)
        drawn = self.sample(trained, JUDGED, trained.rng(RANDOM))
        rebuilt = on_host(model.decode(model.encode(x)))
        results.arrays |= {
            "codes": c, "original": data.heldout[chosen], "rebuilt": rebuilt[chosen], "samples": drawn[:100],
            "line": on_host(model.decode(active().asarray(line))),
        }  # fmt: skip
        sets = {"reconstructions": rounded(rebuilt, data.levels), "random codes": drawn}
        results.numbers["quality"] = judged(trained, sets, trained.rng(RULERS))
        return results

    def tables(self, trained: Trained, results: Results) -> list[Table]:
        return [error_table(results.numbers["errors"], self.title), quality_table(results.numbers["quality"])]

    def facts(self, trained: Trained, results: Results) -> list[tuple[str, str]]:
        errors, quality = results.numbers["errors"], results.numbers["quality"]
        d = errors["latent"]
        return [
            (f"‖x − x̂‖², {d} numbers, held out", f"{errors['heldout']:.2f}"),
            (f"PCA, {d} numbers", f"{errors['pca']['heldout'][d]:.2f}"),
            ("ceiling: the mean image", f"{errors['pca']['heldout'][0]:.2f}"),
            ("Fréchet, random codes", f"{quality[2]['frechet']:.1f}"),
            ("floor: real, held out", f"{quality[0]['frechet']:.2f}"),
            ("training steps", f"{trained.step:,}"),
            ("parameters", f"{trained.size:,}"),
        ]

    def draw(self, trained: Trained, results: Results) -> list[Picture]:
        return autoencoder_pictures.draw(trained, results)


class ConvAutoencoderRecipe(AutoencoderRecipe):
    """Convolutions down, and up by repeating pixels."""

    id = "conv_autoencoder"
    title = "Convolutional autoencoder, upsampling"
    paper = "Masci et al. 2011; Odena, Dumoulin & Olah 2016"
    settings: ClassVar[Mapping[str, Any]] = {"network": "upsample"}
    train = replace(AutoencoderRecipe.train, steps=1200, shards=2, checkpoint_every=200)


class DeconvAutoencoderRecipe(ConvAutoencoderRecipe):
    """Convolutions down, and up by their adjoints."""

    id = "deconv_autoencoder"
    title = "Convolutional autoencoder, transposed convolutions"
    paper = "Masci et al. 2011; Zeiler et al. 2010"
    settings: ClassVar[Mapping[str, Any]] = {"network": "deconvolution"}


def _pca_errors(train: np.ndarray, x: np.ndarray) -> list[float]:
    """The mean of ‖x − x̂‖² over x (N, …), by the number of PCA's directions: none, the mean image, to 64 or all."""
    flat, asked = (a.reshape(len(a), -1).astype(np.float64) for a in (train, x))
    axes = pca.components(flat)
    found = []
    for r in range(min(64, flat.shape[1]) + 1):
        kept = pca.Axes(axes.mean, axes.components[:r], axes.variance[:r])
        rebuilt = pca.reconstruct(pca.transform(asked, kept), kept)
        found.append(float(np.square(asked - rebuilt).sum(axis=1).mean()))
    return found


def error_table(errors: dict[str, Any], title: str) -> Table:
    """The squared error beside PCA's with as many numbers."""
    d, pca_errors = errors["latent"], errors["pca"]
    everything = pca_errors["heldout"][0]
    as_good = next((r for r, e in enumerate(pca_errors["heldout"]) if e <= errors["heldout"]), None)
    rows = [("the mean image, no number", *(pca_errors[part][0] for part in ("heldout", "train"))),
            (f"PCA, {d} numbers", *(pca_errors[part][d] for part in ("heldout", "train"))),
            (f"{title}, {d} numbers", errors["heldout"], errors["train"])]  # fmt: skip
    if as_good is not None:
        rows.append((f"PCA, {as_good} numbers", *(pca_errors[part][as_good] for part in ("heldout", "train"))))
    return Table(
        "Reconstruction",
        "‖x − x̂‖² per image, and its share of the mean image's. PCA is the best that affine maps can do with as many "
        "numbers, exactly; the last row says how many of its numbers do as well on images held out.",
        ("", "held out", "share", "training images"),
        [(name, f"{held:.2f}", f"{held / everything:.1%}", f"{train:.2f}") for name, held, train in rows],
        frozenset({0, 1, 3}),
    )  # fmt: skip
