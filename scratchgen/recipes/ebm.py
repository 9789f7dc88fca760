"""A deep energy model of images: samples by Langevin's steps, what it finds strange, and what it takes noise for."""

from __future__ import annotations

from math import hypot
from typing import Any, ClassVar

import numpy as np

from scratchgen.backend import active
from scratchgen.cores import side_by_side
from scratchgen.data import Dataset
from scratchgen.metrics import ClassifierConfig
from scratchgen.models.energy import EBM, EBMConfig
from scratchgen.random import Generator
from scratchgen.recipes import ebm_2d_pictures, ebm_pictures
from scratchgen.recipes.quality import JUDGED, judged, quality_table, rounded
from scratchgen.recipes.recipe import KEEPS_CHAINS, Recipe, RecipeError, Results, Trained, on_host
from scratchgen.train import TrainConfig
from scratchgen.train.progress import Bar
from scratchgen.train.report import Picture, Table

STEPS = 300  # of a chain, for a sample
MOMENTS = (0, 5, 10, 20, 50, 100, 200, 300)  # of a chain, shown
SIGMA, RESTORING = 0.6, 100  # noise to be taken away, and the steps that take it
KERNELS = ("langevin", "mala")
NOISE, INIT, RULERS, STRANGE, DENOISE = range(5)  # purposes of random numbers


class EBMRecipe(Recipe):
    """Any images; the defaults are for 8×8 digits."""

    id = "ebm"
    title = "A deep energy model"
    paper = "Du & Mordatch 2019; Nijkamp et al. 2019"
    lectures = "L2"
    file = "scratchgen/models/energy/deep.py"
    dataset = "digits"
    config_type = EBMConfig
    train = TrainConfig(
        steps=2000, batch_size=100, lr=1e-3, warmup=100, final_lr=0.02, beta1=0.5, ema_decay=0.99,
        checkpoint_every=500, log_every=10,
    )  # fmt: skip
    whole = KEEPS_CHAINS
    options = ("steps", "solver")
    repeated = ("f", "score")
    samplers: ClassVar[dict[str, dict[str, Any]]] = {f"Langevin, {k} steps": {"steps": k} for k in (100, STEPS)}
    equations = (
        ("p(x) = e^f(x)/Z,  f(x) = g_θ(x) − ‖x‖²/(2s²)", "any network g_θ; its constant Z is not needed"),
        ("∇log p(x) = ∇f(x) − E ∇f(x⁻)", "in θ: up at the data, down where the chains are"),
        ("x' = x + ε·∇f(x) + √(2ε)·z", "a step of a chain; where they are is kept, in the replay buffer"),
        ("E[x | y] = y + σ²·∇f(y)", "f was learnt from noisy images y: what they were"),
    )

    def configure(self, dataset: Dataset) -> EBMConfig:
        if len(dataset.shape) != 3:
            raise RecipeError(f"{self.id}: needs images; {dataset.name} has examples of shape {dataset.shape}")
        if len(dataset.heldout) <= ClassifierConfig().width:
            raise RecipeError(f"{self.id}: {dataset.name} holds out {len(dataset.heldout)} images, too few to judge by")
        return EBMConfig(
            shape=dataset.shape, width=256, s=1.0, noise=0.2, buffer=1000, chains=100, k=10, epsilon=0.01,
            kernel="langevin", restart=0.05, jump=False,
        )  # fmt: skip

    def build(self, config: EBMConfig, rng: Generator) -> EBM:
        return EBM(config, rng=rng)

    def sample(self, trained: Trained, n: int, rng: Generator, **options: Any) -> np.ndarray:
        """solver: langevin or mala; steps: of the chain, from N(0, s²I)."""
        kernel = options.get("solver", "langevin")
        if kernel not in KERNELS:
            raise RecipeError(f"{self.id}: --solver {kernel} is not one of {', '.join(KERNELS)}")
        x = trained.system.sample(n, rng, options.get("steps", STEPS), kernel)
        return rounded(on_host(x), trained.dataset.levels)

    def evaluate(self, trained: Trained, thorough: bool = False) -> Results:
        """thorough: with five times the samples, in groups of the same size."""
        model: EBM = trained.system
        data, results = trained.dataset, Results()
        samples, n = {}, len(data.heldout[:JUDGED])

        def one(task: tuple[str, Generator]) -> np.ndarray:
            return self.sample(trained, -(-n // 2), task[1], solver=task[0])

        with Bar("evaluation", len(KERNELS) + 2, unit="parts") as bar:
            for kernel in KERNELS:
                children = trained.rng(NOISE).spawn(10 if thorough else 2)
                drawn = side_by_side(one, [(kernel, child) for child in children])
                samples[f"EBM, {STEPS} {kernel_name(kernel)} steps"] = np.concatenate(drawn)
                bar.advance(1, kernel)
            kept = on_host(model.clean(active().asarray(on_host(model.buffer))))
            samples["EBM, the replay buffer"] = rounded(kept, data.levels)
            first = next(iter(samples.values()))
            results.arrays["samples"] = first[:100]
            begin = model.prior(6, trained.rng(INIT))
            seen = [begin, *(state.x for state in model.walk(begin, trained.rng(INIT), MOMENTS[-1], "langevin"))]
            results.arrays["film"] = np.array([on_host(seen[k]) for k in MOMENTS])
            self._strange(trained, results)
            bar.advance(1, "anomalies")
            self._denoise(trained, results)
            bar.advance(1, "denoising")
        results.numbers["quality"] = judged(trained, samples, trained.rng(RULERS))
        return results

    def _strange(self, trained: Trained, results: Results) -> None:
        """f of images of several kinds, with the noise of training, and how well f tells them from held-out ones."""
        model, data, rng = trained.system, trained.dataset, trained.rng(STRANGE)
        x = data.heldout[:JUDGED]
        shuffled = x.reshape(len(x), -1)[:, np.argsort(on_host(rng.random((x[0].size,))))].reshape(x.shape)
        kinds = {
            "held out": x, "training": data.train[:: max(1, len(data.train) // len(x))][: len(x)],
            "upside down": x[:, ::-1], "negative": -x, "pixels shuffled": shuffled,
        }  # fmt: skip
        found = {}
        for name, images in kinds.items():
            noise = on_host(rng.standard_normal(images.shape))
            noisy = active().asarray((images + model.config.noise * noise).astype(np.float32))
            found[name] = on_host(model.f(noisy)).astype(float)
        results.arrays["f"] = np.stack([f[: min(map(len, found.values()))] for f in found.values()])
        results.numbers["strange"] = [
            {"name": name, "f": float(f.mean()), "auc": told_apart(found["held out"], f)} for name, f in found.items()
        ]

    def _denoise(self, trained: Trained, results: Results) -> None:
        """Noise on held-out images: a draw of the posterior, cleaned; beside it, the best linear map of the pixels."""
        model, data, rng = trained.system, trained.dataset, trained.rng(DENOISE)
        x = data.heldout[:JUDGED]
        whole = hypot(SIGMA, model.config.noise)  # of which the model's own noise is a part
        y = (x + whole * on_host(rng.standard_normal(x.shape))).astype(np.float32)
        drawn = [on_host(model.clean(model.restore(active().asarray(y), SIGMA, rng, RESTORING))) for _ in range(4)]
        mean = np.mean(drawn, axis=0)
        error = lambda z: float(np.sqrt(np.mean((z - x) ** 2)))  # noqa: E731
        results.numbers["denoising"] = {
            "images": len(x), "noise": whole, "noisy": error(y), "linear": error(linear(data.train, y, whole)),
            "draw": error(drawn[0]), "mean": error(mean),
        }  # fmt: skip
        chosen = slice(None, None, max(1, len(x) // 12))
        results.arrays["denoised"] = np.concatenate([z[chosen][:12] for z in (x, y, drawn[0], mean)])

    def tables(self, trained: Trained, results: Results) -> list[Table]:
        numbers = results.numbers
        return [quality_table(numbers["quality"]), strange_table(numbers["strange"]),
                denoising_table(numbers["denoising"])]  # fmt: skip

    def facts(self, trained: Trained, results: Results) -> list[tuple[str, str]]:
        quality, size = results.numbers["quality"], trained.system.buffer.shape[0] * int(np.prod(trained.dataset.shape))
        return [
            (f"Fréchet, EBM, {STEPS} Langevin steps", f"{quality[1]['frechet']:.2f}"),
            ("floor: real, held out", f"{quality[0]['frechet']:.2f}"),
            ("ceiling: noise", f"{quality[-1]['frechet']:.0f}"),
            ("training steps", f"{trained.step:,}"),
            ("parameters", f"{trained.size - size:,}"),
        ]

    def draw(self, trained: Trained, results: Results) -> list[Picture]:
        return [
            ebm_pictures.samples(trained, results), ebm_pictures.chains(trained, results, MOMENTS),
            ebm_pictures.strange(trained, results), ebm_pictures.denoised(trained, results),
            ebm_2d_pictures.learning(trained),
        ]  # fmt: skip


def kernel_name(kernel: str) -> str:
    return {"langevin": "Langevin", "mala": "MALA"}[kernel]


def told_apart(known: np.ndarray, other: np.ndarray) -> float:
    """How often f of a known image is above that of another (the area under the ROC curve); ties count half."""
    return float(np.mean((known[:, None] > other) + 0.5 * (known[:, None] == other)))


def linear(train: np.ndarray, y: np.ndarray, sigma: float) -> np.ndarray:
    """E[x | y] where x is Gaussian with the training images' mean and covariance: the best linear map."""
    rows = train.reshape(len(train), -1).astype(np.float64)
    cov = np.cov(rows.T, bias=True)
    apart = y.reshape(len(y), -1) - rows.mean(axis=0)
    gain = np.linalg.solve(cov + sigma**2 * np.eye(len(cov)), cov)
    return (rows.mean(axis=0) + apart @ gain).reshape(y.shape)


def strange_table(rows: list[dict[str, Any]]) -> Table:
    """By kind of image."""
    return Table(
        "Anomalies",
        "f, the logarithm of the density up to a constant, of images with the noise of training, and how often a "
        "held-out image has more of it than one of another kind: 50% where f cannot tell them apart, 100% where it "
        "always can. Training images at 50% mean that they were not learnt by heart.",
        ("images", "mean f", "held-out ones are above"),
        [(r["name"], f"{r['f']:.1f}", f"{r['auc']:.1%}") for r in rows], frozenset({0}),
    )  # fmt: skip


def denoising_table(found: dict[str, Any]) -> Table:
    """The error of several guesses."""
    rows = [("noisy", "noisy"), ("the best linear map", "linear"), ("EBM, one draw", "draw"),
            ("EBM, mean of four draws", "mean")]  # fmt: skip
    return Table(
        "Denoising",
        f"{found['images']} held-out images with noise of deviation {found['noise']:.2f}: the root of the mean squared "
        "error per pixel. A draw of the posterior errs √2 times as much as its mean would; the mean of four draws is "
        "near that.",
        ("", "error per pixel"), [(name, f"{found[key]:.3f}") for name, key in rows], frozenset({0, 1}),
    )  # fmt: skip
