"""The VAE on images: what it says of images held out, beside models whose likelihood is exact, and what it draws."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import prod, sqrt
from typing import Any, ClassVar

import numpy as np

from scratchgen.backend import active
from scratchgen.data import Dataset
from scratchgen.distributions import gaussian
from scratchgen.metrics import ClassifierConfig
from scratchgen.models.flows.dequantise import bits_per_dim, log_mass
from scratchgen.models.latent.bound import elbo_importance
from scratchgen.models.latent.vae import VAE, VAEConfig
from scratchgen.random import Generator
from scratchgen.recipes import baselines, codes, vae_pictures
from scratchgen.recipes.quality import JUDGED, judged, quality_table, rounded
from scratchgen.recipes.recipe import Recipe, RecipeError, Results, Trained, on_host
from scratchgen.train import TrainConfig
from scratchgen.train.progress import Bar
from scratchgen.train.report import Picture, Table

WEIGHTS = 256  # codes of each image that the tightest bound is made of
LINES, STEPS = 6, 12  # interpolations, and images in each
DIRECTIONS = 8  # latents that are traversed
PRIOR, OBSERVED, CODES, AGGREGATE, RULERS = range(5)  # purposes of random numbers


class VAERecipe(Recipe):
    """Images, a class each; the defaults are for 8×8 digits on two cores."""

    id = "vae"
    title = "Variational autoencoder (VAE)"
    paper = "Kingma & Welling 2014; Rezende, Mohamed & Wierstra 2014"
    lectures = "L0 L1 L3 L4"
    file = "scratchgen/models/latent/vae.py"
    dataset = "digits"
    config_type: ClassVar[type] = VAEConfig
    train: ClassVar[TrainConfig] = TrainConfig(
        steps=3000, batch_size=128, shards=2, lr=2e-3, warmup=50, final_lr=0.02, clip=100.0, ema_decay=0.99,
        checkpoint_every=1000, log_every=20,
    )  # fmt: skip
    equations: ClassVar[tuple[tuple[str, str], ...]] = (
        ("z = μ(x) + σ(x)⊙ε", "a code of the picture, with the noise that makes it one of many"),
        ("−L = −log p(x|z) + KL(q(z|x)‖p(z))", "what is minimised: what is not explained, and what the code costs"),
        ("log p(x) ≥ L_K = E log (1/K) Σ_k p(x, z_k)/q(z_k|x)", "a bound that K codes make tighter"),
        ("x = g(z),  z ~ N(0, I)", "a sample"),
    )
    options = ("temperature",)
    settings: ClassVar[Mapping[str, Any]] = {}
    """What this recipe has other than the config's defaults."""

    def configure(self, dataset: Dataset) -> Any:
        images(self.id, dataset)
        return replace(VAEConfig(shape=dataset.shape, levels=dataset.levels), **self.settings)

    def build(self, config: Any, rng: Generator) -> Any:
        return VAE(config, rng=rng)

    def sample(self, trained: Trained, n: int, rng: Generator, **options: Any) -> np.ndarray:
        """temperature: the deviation of the codes; 1 is the prior's, less draws more ordinary pictures."""
        temperature = options.get("temperature", 1.0)
        if temperature < 0:
            raise RecipeError(f"{self.id}: --temperature {temperature} is negative")
        z = self.codes(trained, n, rng, temperature)
        return rounded(on_host(trained.system.draw(z)), trained.dataset.levels)

    def codes(self, trained: Trained, n: int, rng: Generator, temperature: float) -> Any:
        """n codes to draw from: of the prior, its deviation times the temperature."""
        return trained.system.prior(n, rng) * temperature

    def evaluate(self, trained: Trained, thorough: bool = False) -> Results:
        model, data, results = trained.system, trained.dataset, Results()
        pick = np.arange(0, len(data.train), max(1, len(data.train) // JUDGED))
        x, seen = (model.pixels.observe(active().asarray(part), trained.rng(OBSERVED))
                   for part in (data.heldout[:JUDGED], data.train[pick]))  # fmt: skip
        with Bar("evaluation", 2, unit="sets") as bar:
            bounds = [_bounds(model, part, trained.rng(CODES), bar) for part in (x, seen)]
        results.numbers["rows"] = _likelihoods(trained, on_host(x), bounds)
        results.numbers["by_samples"] = {str(k): float(v.mean()) for k, v in bounds[0].items() if k}
        self._look(trained, x, results)
        drawn = self.sample(trained, 2 * JUDGED, trained.rng(PRIOR))
        results.arrays["samples"] = drawn[:100]
        sets = {self.title: drawn, "codes of training images": _aggregate(trained)}
        sets |= {"ceiling: a Gaussian": baselines.gaussian_images(data, 2 * JUDGED, trained.rng(RULERS))}
        results.numbers["quality"] = judged(trained, sets, trained.rng(RULERS))
        return results

    def _look(self, trained: Trained, x: Any, results: Results) -> None:
        """Codes, reconstructions, lines between codes, and the latents one by one."""
        model, data = trained.system, trained.dataset
        q = model.encode(x)
        mu = on_host(q.mu)
        one_by_one = gaussian.kl_standard(*(a.reshape(-1, 1) for a in q))
        cost = on_host(one_by_one).reshape(mu.shape).mean(axis=0)
        labels = data.heldout_labels
        assert labels is not None  # `images` saw to it
        chosen = codes.one_of_each(labels[:JUDGED], 14)
        results.arrays |= {"codes": mu, "cost": cost, "original": data.heldout[chosen]}
        results.arrays["rebuilt"] = on_host(model.reconstruct(x[chosen]))
        ends = codes.one_of_each(labels[:JUDGED], 2 * LINES, start=3)
        line = codes.between(mu[ends[:LINES]], mu[ends[LINES:]], STEPS)
        results.arrays["line"] = on_host(model.draw(active().asarray(line)))
        order = np.argsort(-cost)[:DIRECTIONS]
        walk = np.repeat(mu[ends[:1]], len(order) * STEPS, axis=0).reshape(len(order), STEPS, -1)
        for row, latent in zip(walk, order, strict=True):
            row[:, latent] = np.linspace(-vae_pictures.REACH, vae_pictures.REACH, STEPS)
        results.arrays["walk"] = on_host(model.draw(active().asarray(walk.reshape(-1, mu.shape[1]))))
        results.arrays["order"] = order

    def tables(self, trained: Trained, results: Results) -> list[Table]:
        return [likelihood_table(trained, results.numbers["rows"]), quality_table(results.numbers["quality"])]

    def facts(self, trained: Trained, results: Results) -> list[tuple[str, str]]:
        quality, rows = results.numbers["quality"], results.numbers["rows"]
        floor = [r for r in rows if r["exact"]][-1]
        return [
            (f"ELBO, {self.id}, nats per image", f"{rows[-2]['nats']:.2f}"),
            (f"floor: {floor['name']}, exact", f"{floor['nats']:.2f}"),
            (f"bound of {WEIGHTS} codes", f"{rows[-1]['nats']:.2f}"),
            (f"Fréchet, {self.id}", f"{quality[1]['frechet']:.2f}"),
            ("floor: real, held out", f"{quality[0]['frechet']:.2f}"),
            ("ceiling: a Gaussian", f"{quality[3]['frechet']:.0f}"),
            ("training steps", f"{trained.step:,}"),
            ("parameters", f"{trained.size:,}"),
        ]

    def draw(self, trained: Trained, results: Results) -> list[Picture]:
        return vae_pictures.draw(trained, results)


class BernoulliVAERecipe(VAERecipe):
    """Black and white pictures: every grey pixel is a coin."""

    id = "vae_bernoulli"
    title = "VAE of black and white pictures"
    settings: ClassVar[Mapping[str, Any]] = {"decoder": "bernoulli"}
    samplers: ClassVar[dict[str, dict[str, Any]]] = {}  # not in the chart: black and white pictures


class BetaVAERecipe(VAERecipe):
    """A code that costs β times its price: fewer things are said, each by a latent of its own."""

    id = "beta_vae"
    title = "β-VAE"
    paper = "Higgins et al. 2017"
    lectures = "L0"
    settings: ClassVar[Mapping[str, Any]] = {"beta": 2.0, "latent": 10}
    equations = (
        ("L_β = E log p(x|z) − β·KL(q(z|x)‖p(z))", "what is maximised: β times the price for every code"),
        ("z_i from −2.5 to 2.5, the others kept", "a traversal: what one latent means"),
        ("z = (1−t)·z_a + t·z_b", "an interpolation"),
    )

    def facts(self, trained: Trained, results: Results) -> list[tuple[str, str]]:
        cost = results.arrays["cost"]
        said = ("latents that say more than 0.05 nats", f"{(cost > 0.05).sum()} of {len(cost)}")
        return [*super().facts(trained, results), said]


def images(id: str, dataset: Dataset) -> None:
    """Raises RecipeError for data that are not enough labelled images to judge by."""
    if len(dataset.shape) != 3 or dataset.heldout_labels is None:
        raise RecipeError(f"{id}: needs labelled images; {dataset.name} has examples {dataset.shape}")
    if len(dataset.heldout) <= ClassifierConfig().width:
        raise RecipeError(f"{id}: {dataset.name} holds out {len(dataset.heldout)} images, too few to judge by")


def _bounds(model: Any, x: Any, rng: Generator, bar: Bar) -> dict[int, np.ndarray]:
    """Bounds (B,) by the number of codes that each is made of, all of the same draws; 0: with the closed divergence."""
    log_joint, log_q = model.weighed(x, rng, WEIGHTS)
    found = {0: on_host(model.elbo(x, rng))}
    k = 1
    while k <= WEIGHTS:
        starts = range(0, WEIGHTS, k)
        groups = [on_host(elbo_importance(log_joint[i : i + k], log_q[i : i + k])) for i in starts]
        found[k] = np.mean(groups, axis=0)
        k *= 4
    bar.advance(1, "bounds")
    return found


def _likelihoods(trained: Trained, x: np.ndarray, bounds: list[dict[int, np.ndarray]]) -> list[dict[str, Any]]:
    """Nats per image, of what was observed of the images held out: exact ones of simple models, then the bounds."""
    model, data = trained.system, trained.dataset
    seen = on_host(model.pixels.observe(active().asarray(data.train[:5000]), trained.rng(OBSERVED)))
    assert data.train_labels is not None  # `images` saw to it
    simple = baselines.likelihoods(model.config, seen, data.train_labels[:5000], x)
    rows = [{"name": name, "nats": float(v.mean()), "error": error(v), "train": None, "exact": True}
            for name, v in simple.items()]  # fmt: skip
    held, train = bounds
    names = {1: "the bound, ELBO", WEIGHTS: f"the bound of {WEIGHTS} codes, L_K"}
    return rows + [
        {"name": name, "nats": float(held[k].mean()), "error": error(held[k]), "train": float(train[k].mean()),
         "exact": False}
        for k, name in names.items()
    ]  # fmt: skip


def error(values: np.ndarray) -> float:
    """The standard error of a mean."""
    return float(values.std(ddof=1) / sqrt(len(values)))


def _aggregate(trained: Trained) -> np.ndarray:
    """Images drawn from codes of training images, z ~ q(z|x): what the decoder could do were the prior the codes'."""
    model, data = trained.system, trained.dataset
    rng = trained.rng(AGGREGATE)
    chosen = on_host(rng.permutation(len(data.train)))[: 2 * JUDGED]
    q = model.encode(model.pixels.observe(active().asarray(data.train[chosen]), rng))
    z = on_host(q.mu) + np.exp(0.5 * on_host(q.log_var)) * on_host(rng.standard_normal(q.mu.shape))
    return rounded(on_host(model.draw(active().asarray(z))), data.levels)


def likelihood_table(trained: Trained, rows: list[dict[str, Any]]) -> Table:
    """Bounds beside exact likelihoods of models without a network."""
    config = trained.system.config
    dims, spread = prod(config.shape), config.decoder == "gaussian" and config.levels is not None

    def bits(nats: float) -> str:
        return f"{float(bits_per_dim(log_mass(nats, dims, config.levels) if spread else nats, dims)):.3f}"

    body = [
        (r["name"], f"{r['nats']:.2f} ± {r['error']:.2f}", bits(r["nats"]),
         "" if r["train"] is None else f"{r['train']:.2f}")
        for r in rows
    ]  # fmt: skip
    seen = "grey levels spread over their bins" if spread else "black and white by chance, as grey as they were"
    return Table(
        "Likelihood",
        f"log p(x) of images held out, {seen}, in nats per image (± standard error): more is better. The marked rows "
        "are exact; what the networks give is a lower bound, which more codes make tighter. The last column is the "
        "same of training images: how much was learnt by heart.",
        ("", "nats per image", "bits per pixel", "training images"), body,
        frozenset(i for i, r in enumerate(rows) if r["exact"]),
    )  # fmt: skip
