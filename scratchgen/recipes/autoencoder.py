"""Autoencoders on images: what is lost on the way through the code, beside PCA, and what lies between the codes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import prod
from typing import Any, ClassVar

import numpy as np

from scratchgen.backend import active
from scratchgen.data import Dataset
from scratchgen.models.classical import pca
from scratchgen.models.latent.autoencoder import Autoencoder, AutoencoderConfig
from scratchgen.random import Generator
from scratchgen.recipes import autoencoder_pictures, codes
from scratchgen.recipes.quality import rounded
from scratchgen.recipes.recipe import Recipe, RecipeError, Results, Trained, on_host
from scratchgen.train import TrainConfig
from scratchgen.train.report import Picture, Table

SHOWN, LINES, STEPS = 14, 6, 12  # reconstructions, interpolations, and images in each
LARGEST = 5000  # images that are reconstructed, at most
CODES = 0  # a purpose of random numbers


class AutoencoderRecipe(Recipe):
    """Images of classes; the defaults are for 8×8 digits on two cores."""

    id = "autoencoder"
    title = "Autoencoder"
    paper = "Hinton & Salakhutdinov 2006; Baldi & Hornik 1989"
    lectures = "L0 L1 L4"
    file = "scratchgen/models/latent/autoencoder.py"
    dataset = "digits"
    config_type = AutoencoderConfig
    train = TrainConfig(
        steps=2500, batch_size=128, lr=2e-3, warmup=50, final_lr=0.02, weight_decay=0.02, ema_decay=0.99,
        checkpoint_every=500, log_every=10,
    )  # fmt: skip
    equations = (
        ("c = f(x),  x̂ = g(c)", "a few numbers of the picture, and the picture of the numbers"),
        ("L = ‖x − x̂‖²", "what is minimised"),
        ("min L = Σ_{k>d} λ_k", "the best that affine f and g reach with d numbers: PCA"),
    )
    settings: ClassVar[Mapping[str, Any]] = {}
    """What this recipe has other than the config's defaults."""

    def configure(self, dataset: Dataset) -> AutoencoderConfig:
        if len(dataset.shape) != 3 or dataset.heldout_labels is None:
            raise RecipeError(f"{self.id}: needs labelled images; {dataset.name} has examples {dataset.shape}")
        if min(len(dataset.train), prod(dataset.shape)) <= AutoencoderConfig.latent:
            raise RecipeError(f"{self.id}: {dataset.name} is too small for a code to be narrow")
        return replace(AutoencoderConfig(shape=dataset.shape), **self.settings)

    def build(self, config: AutoencoderConfig, rng: Generator) -> Autoencoder:
        return Autoencoder(config, rng=rng)

    def sample(self, trained: Trained, n: int, rng: Generator, **options: Any) -> np.ndarray:
        """Images of random codes, from a Gaussian with the mean and covariance of the training images' codes."""
        c = on_host(trained.system.encode(active().asarray(trained.dataset.train[:LARGEST])))
        moments = (active().asarray(m.astype(c.dtype)) for m in (c.mean(axis=0), np.atleast_2d(np.cov(c.T))))
        return rounded(on_host(trained.system.sample(n, rng, *moments)), trained.dataset.levels)

    def evaluate(self, trained: Trained, thorough: bool = False) -> Results:
        model: Autoencoder = trained.system
        data = trained.dataset
        heldout, seen = (active().asarray(part[:LARGEST]) for part in (data.heldout, data.train))
        labels = None if data.heldout_labels is None else data.heldout_labels[:LARGEST]
        chosen = codes.one_of_each(labels, SHOWN)
        ends = codes.one_of_each(labels, 2 * LINES, start=3)
        c = model.encode(heldout)
        rebuilt, places = on_host(model.decode(c)), on_host(c)
        line = codes.between(places[ends[:LINES]], places[ends[LINES:]], STEPS)
        results = Results({
            "codes": places, "original": data.heldout[chosen], "rebuilt": rebuilt[chosen],
            "line": on_host(model.decode(active().asarray(line))),
            "samples": self.sample(trained, 100, trained.rng(CODES)),
        })  # fmt: skip
        pixels = prod(data.shape)
        results.numbers["errors"] = {
            "latent": model.config.latent,
            "heldout": float(on_host(model.error(heldout)).mean()) / pixels,
            "train": float(on_host(model.error(seen)).mean()) / pixels,
            "pca": {part: pca_errors(data.train, on_host(x)) for part, x in (("heldout", heldout), ("train", seen))},
        }  # fmt: skip
        return results

    def tables(self, trained: Trained, results: Results) -> list[Table]:
        return [error_table(results.numbers["errors"], self.title)]

    def facts(self, trained: Trained, results: Results) -> list[tuple[str, str]]:
        errors = results.numbers["errors"]
        d, linear = errors["latent"], errors["pca"]["heldout"]
        return [
            (f"squared error per pixel, {d} numbers", f"{errors['heldout']:.4f}"),
            (f"PCA, {d} numbers", f"{linear[d]:.4f}"),
            ("ceiling: the mean image", f"{linear[0]:.4f}"),
            ("training steps", f"{trained.step:,}"),
            ("parameters", f"{trained.size:,}"),
        ]

    def draw(self, trained: Trained, results: Results) -> list[Picture]:
        return autoencoder_pictures.draw(trained, results)


class LinearAutoencoderRecipe(AutoencoderRecipe):
    """Encoder and decoder are affine: what they learn is PCA, found by descent."""

    id = "linear_autoencoder"
    title = "Linear autoencoder"
    paper = "Baldi & Hornik 1989"
    settings: ClassVar[Mapping[str, Any]] = {"widths": ()}
    train = replace(  # all digits at once: of noise, angles would keep a trace
        AutoencoderRecipe.train, steps=3000, batch_size=1437, lr=3e-2, beta2=0.99, final_lr=0.001, weight_decay=0.0,
    )  # fmt: skip

    def evaluate(self, trained: Trained, thorough: bool = False) -> Results:
        results = super().evaluate(trained, thorough)
        decoder = on_host(trained.system.decoder.mlp.layers[0].w)  # (d, D)
        results.numbers["errors"]["angle"] = largest_angle(decoder, trained.dataset.train)
        return results

    def facts(self, trained: Trained, results: Results) -> list[tuple[str, str]]:
        return [*super().facts(trained, results), ("largest angle to PCA's directions",
                                                   f"{results.numbers['errors']['angle']:.2g}°")]  # fmt: skip


class ConvAutoencoderRecipe(AutoencoderRecipe):
    """Convolutions down, and up by repeating pixels."""

    id = "conv_autoencoder"
    title = "Convolutional autoencoder, upsampling"
    paper = "Masci et al. 2011; Odena, Dumoulin & Olah 2016"
    settings: ClassVar[Mapping[str, Any]] = {"network": "upsample"}
    train = replace(AutoencoderRecipe.train, steps=1000, shards=2, checkpoint_every=250)


class DeconvAutoencoderRecipe(ConvAutoencoderRecipe):
    """Convolutions down, and up by their adjoints."""

    id = "deconv_autoencoder"
    title = "Convolutional autoencoder, transposed convolutions"
    paper = "Masci et al. 2011; Zeiler et al. 2010"
    settings: ClassVar[Mapping[str, Any]] = {"network": "deconvolution"}


def directions(train: np.ndarray) -> pca.Axes:
    """All principal directions of images, on the host."""
    flat = train.reshape(len(train), -1).astype(np.float64)
    return pca.Axes(*map(on_host, pca.components(active().asarray(flat))))


def pca_errors(train: np.ndarray, x: np.ndarray) -> list[float]:
    """What PCA loses of images x, per pixel, by the number of its directions: from none, the mean image, to 64 or all.

    Directions are orthogonal, so each takes the square of its own coordinate away from the error.
    """
    flat = x.reshape(len(x), -1).astype(np.float64)
    found = directions(train)
    z = (flat - found.mean) @ found.components.T
    whole = np.square(flat - found.mean).sum(axis=1).mean()
    left = whole - np.cumsum(np.square(z).mean(axis=0))
    return [float(e) / flat.shape[1] for e in (whole, *left.clip(min=0)[:64])]


def largest_angle(rows: np.ndarray, train: np.ndarray) -> float:
    """The largest principal angle, in degrees, of the span of rows (d, D) to PCA's first d directions."""
    from scipy.linalg import subspace_angles

    best = directions(train).components[: len(rows)]
    return float(np.degrees(subspace_angles(rows.T.astype(np.float64), best.T).max()))


def error_table(errors: dict[str, Any], title: str) -> Table:
    """The squared error beside PCA's with as many numbers."""
    d, linear = errors["latent"], errors["pca"]
    whole = linear["heldout"][0]
    as_good = next((r for r, e in enumerate(linear["heldout"]) if e <= errors["heldout"]), None)
    rows = [("the mean image, no number", *(linear[part][0] for part in ("heldout", "train"))),
            (f"PCA, {d} numbers", *(linear[part][d] for part in ("heldout", "train"))),
            (f"{title}, {d} numbers", errors["heldout"], errors["train"])]  # fmt: skip
    if as_good not in (None, d):
        rows.append((f"PCA, {as_good} numbers", *(linear[part][as_good] for part in ("heldout", "train"))))
    return Table(
        "Reconstruction",
        "‖x − x̂‖² per pixel (pixels lie between −1 and 1), and its share of the mean image's. PCA is the best that "
        "affine maps can do with as many numbers, exactly; the last row says how many of its numbers do as well on "
        "images held out.",
        ("", "held out", "share", "training images"),
        [(name, f"{held:.4f}", f"{held / whole:.1%}", f"{train:.4f}") for name, held, train in rows],
        frozenset({0, 1, 3}),
    )  # fmt: skip
