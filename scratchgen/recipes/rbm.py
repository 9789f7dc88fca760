"""The restricted Boltzmann machine on black-and-white digits: its likelihood by annealing, and what its chains do."""

from __future__ import annotations

from dataclasses import replace
from math import log, sqrt
from typing import Any, ClassVar

import numpy as np

from scratchgen.backend import active
from scratchgen.cores import side_by_side
from scratchgen.data import Dataset, binarised
from scratchgen.metrics import ClassifierConfig
from scratchgen.models.energy import RBM, RBMConfig, ais, rbm
from scratchgen.random import Generator
from scratchgen.recipes import rbm_pictures
from scratchgen.recipes.quality import JUDGED, judged, quality_table
from scratchgen.recipes.recipe import KEEPS_CHAINS, Recipe, RecipeError, Results, Trained, on_host
from scratchgen.train import RunFolder, TrainConfig, train
from scratchgen.train.progress import Bar
from scratchgen.train.report import Picture, Table

SMALL = 10  # hidden units of the machine whose constant is counted
WALKERS, ANNEALING = 200, 4000
STEPS = 1000  # of block Gibbs sampling, for a sample
FLIPPED = 0.1  # share of the pixels that noise flips
GIBBS, BURN = 300, 50  # steps of denoising, and how many of them are not counted
MOMENTS = (0, 1, 3, 10, 30, 100, 300, 1000)  # of a chain, shown
NOISE, CHAINS, RULERS, ANNEAL, FLIPS, HALF = range(6)  # purposes of random numbers


def pixels(images: np.ndarray) -> np.ndarray:
    """Images (N, H, W, C) in [−1, 1] as rows of 0 and 1, (N, H·W·C)."""
    return (images.reshape(len(images), -1) > 0).astype(np.float32)


def images(x: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Rows of numbers in [0, 1] as images in [−1, 1]."""
    return (2 * x - 1).reshape(-1, *shape).astype(np.float32)


class RBMRecipe(Recipe):
    """Any images, made black and white; the defaults are for 8×8 digits."""

    id = "rbm"
    title = "Restricted Boltzmann machine"
    paper = "Hinton 2002; Tieleman 2008; Salakhutdinov & Murray 2008"
    lectures = "L2"
    file = "scratchgen/models/energy/rbm.py"
    dataset = "digits"
    config_type = RBMConfig
    train = TrainConfig(
        steps=4000, batch_size=100, lr=3e-2, final_lr=0.01, weight_decay=0.01, checkpoint_every=1000, log_every=20,
    )  # fmt: skip
    whole = KEEPS_CHAINS
    options = ("steps",)
    samplers: ClassVar[dict[str, dict[str, Any]]] = {}  # not in the chart: black and white pictures
    equations = (
        ("p(x, z) = e^(xᵀWz + b·x + c·z)/Z", "pixels x and hidden units z, coupled across only"),
        ("p(z_j = 1 | x) = σ(c_j + Σ_i x_i·w_ij)", "one side, given the other: a step of the chain is two of these"),
        ("p(x) = e^−F(x)/Z,  F(x) = −b·x − Σ_j log(1 + e^(c_j + Σ_i x_i·w_ij))", "the hidden units summed out"),
        ("∇log p(x) = −∇F(x) + E ∇F(x⁻)", "up at the data, down where the chains are"),
        ("log Z ≈ log Z_0 + log mean w", "annealed importance sampling"),
    )

    def configure(self, dataset: Dataset) -> RBMConfig:
        shape = dataset.train.shape[1:]
        if len(shape) != 3 or dataset.train_labels is None:
            raise RecipeError(f"rbm: needs labelled images; an example of {dataset.name} has shape {shape}")
        if len(dataset.heldout) <= ClassifierConfig().width:
            raise RecipeError(f"rbm: {dataset.name} holds out {len(dataset.heldout)} images, too few to judge by")
        return RBMConfig(pixels=int(np.prod(shape)))

    def build(self, config: RBMConfig, rng: Generator) -> RBM:
        return RBM(config, rng=rng)

    def examples(self, dataset: Dataset) -> np.ndarray:
        return pixels(dataset.train)

    def load(self, run: RunFolder) -> Trained:
        trained = super().load(run)
        return replace(trained, dataset=binarised(trained.dataset))

    def sample(self, trained: Trained, n: int, rng: Generator, **options: Any) -> np.ndarray:
        """steps: of block Gibbs sampling, from independent pixels."""
        x = trained.system.sample(n, rng, options.get("steps", STEPS))
        return images(on_host(x), trained.dataset.shape)

    def evaluate(self, trained: Trained, thorough: bool = False) -> Results:
        model, data, results = trained.system, trained.dataset, Results()
        small = self._small(trained)
        longer = 5 if thorough else 1
        with Bar("evaluation", 3 * longer + 6, unit="parts") as bar:
            rows = []
            for machine, steps in ((small, ANNEALING), (model, longer * ANNEALING)):
                rows.append(likelihood(machine, data, steps, trained.rng(ANNEAL)))
                bar.advance(1 if machine is small else 2 * longer, "annealing")
            results.numbers["likelihood"] = {"machines": rows, "independent": independent(data)}
            children = trained.rng(CHAINS).spawn(2)
            drawn = side_by_side(lambda child: self.sample(trained, JUDGED, child), children)
            samples = np.concatenate(drawn)
            bar.advance(2, "Gibbs sampling")
            results.arrays["samples"] = samples[:100]
            results.arrays["film"] = self._film(trained)
            bar.advance(2, "the chains' film")
            self._denoise(trained, results)
            bar.advance(1, "denoising")
            self._complete(trained, results)
            bar.advance(1, "completion")
        results.arrays["filters"] = filters(model, data.shape)
        results.numbers["quality"] = judged(trained, {f"RBM, {STEPS} Gibbs steps": samples}, trained.rng(RULERS))
        return results

    def _small(self, trained: Trained) -> RBM:
        """A machine of ten hidden units, trained in the same way for a fifth of the steps: its Z can be counted."""
        config = trained.run.config.train
        machine = RBM(replace(trained.system.config, hidden=SMALL), rng=Generator(config.seed))
        steps = max(1, config.steps // 5)
        train(machine, pixels(trained.dataset.train), replace(config, steps=steps, log_every=min(steps, 20)),
              name=f"rbm of {SMALL} hidden units")  # fmt: skip
        return machine

    def _film(self, trained: Trained) -> np.ndarray:
        """Eight chains from independent pixels, (moments, 8, H, W, C)."""
        model, rng = trained.system, trained.rng(NOISE)
        x = model.prior(8, rng, model.frozen().b)
        seen = [x, *model.chains(x, rng, MOMENTS[-1])]
        return np.array([images(on_host(seen[k]), trained.dataset.shape) for k in MOMENTS])

    def _denoise(self, trained: Trained, results: Results) -> None:
        """A tenth of the pixels flipped, and what the posterior makes of that; beside it, pixel by pixel."""
        data, rng = trained.dataset, trained.rng(FLIPS)
        x = pixels(data.heldout[:JUDGED])
        flips = on_host(rng.random(x.shape)) < FLIPPED
        y = np.abs(x - flips).astype(np.float32)
        mean = on_host(trained.system.restore(active().asarray(y), FLIPPED, rng, GIBBS, BURN))
        prior = pixels(data.train).mean(axis=0)
        alone = prior * np.where(y == 1, 1 - FLIPPED, FLIPPED)
        alone = alone / (alone + (1 - prior) * np.where(y == 1, FLIPPED, 1 - FLIPPED))
        results.numbers["denoising"] = {
            "noisy": float(np.mean(y != x)), "independent": float(np.mean((alone > 0.5) != x)),
            "rbm": float(np.mean((mean > 0.5) != x)), "images": len(x),
        }  # fmt: skip
        chosen = slice(None, None, max(1, len(x) // 12))
        rows = [x[chosen][:12], y[chosen][:12], mean[chosen][:12], mean[chosen][:12] > 0.5]
        results.arrays["denoised"] = images(np.concatenate(rows), data.shape)

    def _complete(self, trained: Trained, results: Results) -> None:
        """The upper half is known, the lower one drawn, three times."""
        data, rng = trained.dataset, trained.rng(HALF)
        x = pixels(data.heldout[:: max(1, len(data.heldout) // 12)][:12])
        upper = np.zeros(data.shape, np.float32)
        upper[: data.shape[0] // 2] = 1
        rho = np.where(upper.ravel() == 1, 1e-4, 0.5).astype(np.float32)
        known = np.where(upper.ravel() == 1, x, 0.5)
        weights = rbm.posterior(trained.system.frozen().weights, active().asarray(x), active().asarray(rho))
        rows = [x, known]
        for _ in range(3):
            start = active().asarray(np.where(upper.ravel() == 1, x, on_host(rng.random(x.shape)) < 0.5)
                                     .astype(np.float32))  # fmt: skip
            *_, last = trained.system.chains(start, rng, GIBBS, weights)
            rows.append(on_host(last))
        results.arrays["completed"] = images(np.concatenate(rows), data.shape)

    def tables(self, trained: Trained, results: Results) -> list[Table]:
        numbers = results.numbers
        return [likelihood_table(numbers["likelihood"], trained), quality_table(numbers["quality"]),
                denoising_table(numbers["denoising"])]  # fmt: skip

    def facts(self, trained: Trained, results: Results) -> list[tuple[str, str]]:
        found, quality = results.numbers["likelihood"], results.numbers["quality"]
        small, model = found["machines"]
        return [
            ("log p, held out, nats per image", f"{model['heldout']:.2f}"),
            ("floor: independent pixels", f"{found['independent']:.2f}"),
            (f"annealing against counting, {SMALL} hidden units", f"{abs(small['log_Z'] - small['exact']):.4f} nats"),
            ("Fréchet", f"{quality[1]['frechet']:.2f} (real: {quality[0]['frechet']:.2f})"),
            ("training steps", f"{trained.step:,}"),
            ("parameters", f"{trained.size - trained.system.config.chains * trained.system.config.pixels:,}"),
        ]

    def draw(self, trained: Trained, results: Results) -> list[Picture]:
        return rbm_pictures.draw(trained, results)


def base_rates(data: Dataset) -> np.ndarray:
    """log p/(1 − p) of every pixel, each value counted once more than it was seen."""
    ones, n = pixels(data.train).sum(axis=0, dtype=np.float64), len(data.train)
    return np.log((ones + 1) / (n - ones + 1)).astype(np.float32)


def likelihood(machine: RBM, data: Dataset, steps: int, rng: Generator) -> dict[str, Any]:
    """log Z by annealing, with its standard error, and by counting where that can be; the mean of log p, in nats."""
    base, xp = active().asarray(base_rates(data)), active()
    found = side_by_side(lambda child: machine.anneal(WALKERS // 2, child, steps, base), rng.spawn(2))
    log_w = xp.concatenate([log_w for log_w, _ in found])
    log_Z = float(ais.log_Z(log_w, float(found[0][1])))
    w = np.exp(on_host(log_w) - float(log_w.max()))
    countable = min(machine.config.hidden, machine.config.pixels) <= rbm.ENUMERABLE
    weights = rbm.Weights(*(x.astype("float64") for x in machine.frozen().weights))
    exact = float(rbm.log_Z(weights)) if countable else None
    best = log_Z if exact is None else exact
    means = {part: float(on_host(machine.frozen().log_prob(active().asarray(pixels(x)), best)).mean())
             for part, x in (("train", data.train), ("heldout", data.heldout))}  # fmt: skip
    return {"hidden": machine.config.hidden, "log_Z": log_Z, "error": float(w.std() / w.mean() / sqrt(len(w))),
            "exact": exact, "steps": steps, **means}  # fmt: skip


def independent(data: Dataset) -> float:
    """The mean of log p of the held-out images, where every pixel is a coin of its own, in nats."""
    logits = base_rates(data).astype(np.float64)
    return float((pixels(data.heldout) @ logits - np.logaddexp(0, logits).sum()).mean())


def filters(model: RBM, shape: tuple[int, ...]) -> np.ndarray:
    """The couplings of the 64 hidden units with the strongest, as images between −1 and 1."""
    W = on_host(model.frozen().W).T
    strongest = np.argsort(-np.linalg.norm(W, axis=1))[:64]
    return (W[strongest] / np.abs(W[strongest]).max(axis=1, keepdims=True)).reshape(-1, *shape)


def likelihood_table(found: dict[str, Any], trained: Trained) -> Table:
    """By annealing, beside counting where that can be done, between independent pixels and nothing known at all."""
    dims = trained.system.config.pixels
    rows = [
        (f"{m['hidden']} hidden units", f"{m['heldout']:.2f}", f"{m['train']:.2f}",
         f"{m['log_Z']:.3f} ± {m['error']:.3f}", "2^" + str(m["hidden"]) + " states"
         if m["exact"] is None else f"{m['exact']:.3f}")
        for m in found["machines"]
    ]  # fmt: skip
    return Table(
        "Likelihood",
        f"The mean of log p(x), in nats per image, with log Z from annealed importance sampling: {WALKERS} walks of "
        f"{found['machines'][-1]['steps']:,} steps from independent pixels (± standard error). With {SMALL} hidden "
        "units the states can be counted, and annealing must come to the same log Z. The marked rows know less: the "
        "floor treats every pixel as a coin of its own.",
        ("", "held out", "training", "log Z, annealed", "log Z, counted"),
        [*rows, ("independent pixels", f"{found['independent']:.2f}", "", "", ""),
         (f"fair coins, −{dims}·log 2", f"{-dims * log(2):.2f}", "", "", "")],
        frozenset({len(rows), len(rows) + 1}),
    )  # fmt: skip


def denoising_table(found: dict[str, Any]) -> Table:
    """The share of wrong pixels."""
    rows = [("noisy", "noisy"), ("each pixel alone, by how often it is 1", "independent"), ("RBM", "rbm")]
    return Table(
        "Denoising",
        f"{found['images']} held-out images with {FLIPPED:.0%} of the pixels flipped; the mean of p(x | noisy) over "
        f"{GIBBS - BURN} Gibbs steps decides.",
        ("", "wrong pixels"), [(name, f"{found[key]:.2%}") for name, key in rows], frozenset({0, 1}),
    )  # fmt: skip
