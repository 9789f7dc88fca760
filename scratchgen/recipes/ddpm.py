"""DDPM on images: train it, judge it between floor and ceiling, and draw what it does."""

from __future__ import annotations

from collections.abc import Iterator
from math import sqrt
from typing import Any, ClassVar

import numpy as np

from scratchgen.backend import active
from scratchgen.cores import side_by_side
from scratchgen.data import Dataset
from scratchgen.metrics import ClassifierConfig, Reference, nearest
from scratchgen.models.diffusion import DDPM, DDPMConfig, ddim
from scratchgen.models.diffusion.ddim import SIGMA_HAT
from scratchgen.nn import UNetConfig
from scratchgen.random import Generator
from scratchgen.recipes import ddpm_pictures
from scratchgen.recipes.judge import judge
from scratchgen.recipes.quality import JUDGED, histogram_bits, judged, quality_table, rounded
from scratchgen.recipes.recipe import Recipe, RecipeError, Results, Trained, on_host
from scratchgen.train import TrainConfig
from scratchgen.train.progress import Bar
from scratchgen.train.report import Picture, Table

CHUNK = 60  # images that go through the network together: what they need stays in the cache
ETAS: tuple[float | str, ...] = (0.0, 0.2, 0.5, 1.0, SIGMA_HAT)
BOUND_IMAGES = 40
FRAMES = 40
NOISE, INIT, BOUND, RULERS = range(4)  # purposes of random numbers


def steps_of(T: int) -> list[int]:
    """The numbers of steps to compare: 10, 20, 50 and all."""
    return [s for s in (10, 20, 50) if s < T] + [T]


class DDPMRecipe(Recipe):
    """Any images (H, W, C) with H and W divisible by 2; the defaults are for 8×8 digits on two cores."""

    id = "ddpm"
    title = "Denoising diffusion (DDPM), sampled as DDPM and as DDIM"
    paper = "Ho, Jain & Abbeel 2020; Song, Meng & Ermon 2021"
    lectures = "L0 L1 L2 L3 L4"
    file = "scratchgen/models/diffusion/ddpm.py"
    dataset = "digits"
    config_type = DDPMConfig
    train = TrainConfig(
        steps=1000, batch_size=80, shards=2, lr=8e-3, warmup=100, final_lr=0.02, clip=1.0, beta2=0.99,
        ema_decay=0.99, checkpoint_every=200, log_every=5,
    )  # fmt: skip

    def configure(self, dataset: Dataset) -> DDPMConfig:
        shape = dataset.train.shape[1:]
        if len(shape) != 3 or shape[0] % 2 or shape[1] % 2:
            raise RecipeError(f"ddpm: needs images of even height and width; {dataset.name} has {shape}")
        if len(dataset.heldout) <= ClassifierConfig().width:
            raise RecipeError(f"ddpm: {dataset.name} holds out {len(dataset.heldout)} images, too few to judge by")
        unet = UNetConfig(channels=shape[2], base=16 if shape[0] <= 8 else 32, attention=())
        return DDPMConfig(shape=shape, levels=dataset.levels, unet=unet)

    def build(self, config: DDPMConfig, rng: Generator) -> DDPM:
        return DDPM(config, rng=rng)

    options = ("steps", "eta")
    repeated = ("net",)
    samplers: ClassVar[dict[str, dict[str, Any]]] = {
        "DDPM": {}, **{f"DDIM {s}": {"steps": s, "eta": 0.0} for s in (5, 10, 20, 50)}
    }  # fmt: skip

    def sample(self, trained: Trained, n: int, rng: Generator, **options: Any) -> np.ndarray:
        """steps: DDIM in that many, or DDPM's own T; eta: DDIM's η, or "sigma_hat"."""
        model: DDPM = trained.system
        steps, eta = options.get("steps"), options.get("eta")
        if steps is not None and not 1 <= steps <= model.config.T:
            raise RecipeError(f"ddpm: --steps {steps} is not between 1 and T = {model.config.T}")
        if isinstance(eta, float) and not 0 <= eta <= 1:
            raise RecipeError(f"ddpm: --eta {eta} is not between 0 and 1")
        xT = model.prior(n, rng)
        with Bar("sampling", _work(n, steps or model.config.T), unit="calls") as bar:
            return chain(model, xT, rng, steps, eta, bar)[0]

    def evaluate(self, trained: Trained, thorough: bool = False) -> Results:
        model: DDPM = trained.system
        data, T = trained.dataset, model.config.T
        heldout = data.heldout[:JUDGED]
        n = len(heldout)
        referee = judge(trained.run.path, dataset=data)
        xT = model.prior(2 * n, trained.rng(INIT))  # DDPM: two groups of n
        plan: list[tuple[str, int | None, float | str | None]] = [("DDPM", None, None)]
        plan += [(f"DDIM η=0, {s}", s, 0.0) for s in steps_of(T)]
        columns = [s for s in (10, 20, 50, 100) if s < T] + [T]
        grid = [(s, eta) for eta in ETAS for s in columns] if thorough else []
        total = _work(2 * n, T) + sum(_work(n, s or T) for _, s, _ in plan[1:]) + sum(_work(n, s) for s, _ in grid)
        results, samples = Results(), {}
        with Bar("evaluation", total + T, unit="calls") as bar:
            for name, s, eta in plan:
                images, frames = chain(model, xT if s is None else xT[:n], trained.rng(NOISE), s, eta, bar, film=10)
                samples[name] = images
                results.arrays[name] = images[:100]
                if s is None:
                    results.arrays["film"] = frames
            if grid:
                reference = Reference(data.train, referee)
                cells = [
                    reference.quality(chain(model, xT[:n], trained.rng(NOISE), s, eta, bar)[0]).frechet
                    for s, eta in grid
                ]
                results.numbers["table1"] = {
                    "steps": columns, "eta": [str(e) for e in ETAS],
                    "frechet": np.reshape(cells, (len(ETAS), len(columns))).tolist(),
                }  # fmt: skip
            results.numbers["bound"] = self._bound(trained, bar)
        results.numbers["quality"] = judged(trained, samples, trained.rng(RULERS))
        self._neighbours(data, heldout, samples["DDPM"], results)
        return results

    def _bound(self, trained: Trained, bar: Bar) -> dict[str, float]:
        """The mean of the bound's terms over some held-out images, in bits per pixel."""
        model: DDPM = trained.system
        chosen = trained.dataset.heldout[:: max(1, len(trained.dataset.heldout) // BOUND_IMAGES)]
        x0 = active().asarray(chosen)
        bound = model.elbo(x0, trained.rng(BOUND))
        bar.advance(model.config.T, "the bound")
        dims = int(np.prod(x0.shape[1:]))
        bits = on_host(bound.bits_per_dim(dims)).astype(float)
        scale = dims * np.log(2)
        return {
            "bits_per_dim": float(bits.mean()), "error": float(bits.std(ddof=1) / sqrt(len(bits))),
            "prior": float(on_host(bound.prior).mean() / scale),
            "transitions": float(on_host(bound.transitions).sum(axis=1).mean() / scale),
            "reconstruction": float(on_host(bound.reconstruction).mean() / scale),
            "images": len(bits),
        }  # fmt: skip

    def _neighbours(self, data: Dataset, heldout: np.ndarray, samples: np.ndarray, results: Results) -> None:
        """Are samples copies?  Distances to the nearest training image, of samples and of real held-out ones."""
        samples = samples[: len(heldout)]
        found, real = nearest(samples, data.train), nearest(heldout, data.train)
        results.arrays["neighbours"] = data.train[found.index[:12, 0]]
        results.arrays["distances"] = found.distance[:, 0]
        results.arrays["distances_real"] = real.distance[:, 0]
        results.numbers["neighbours"] = {
            "samples": float(np.median(found.distance)), "heldout": float(np.median(real.distance)),
            "copies": int((found.distance < 1e-3).sum()),
        }  # fmt: skip

    def tables(self, trained: Trained, results: Results) -> list[Table]:
        numbers = results.numbers
        found = [quality_table(numbers["quality"]), bound_table(numbers["bound"], trained.dataset)]
        return found + ([table1(numbers["table1"], numbers["quality"])] if "table1" in numbers else [])

    equations = (
        ("x_t = √ᾱ_t·x_0 + √(1−ᾱ_t)·ε", "the forward process, at any time at once"),
        ("L = E ‖ε − ε_θ(x_t, t)‖²", "what is minimised"),
        ("x_{t−1} = (x_t − β_t/√(1−ᾱ_t)·ε_θ)/√α_t + σ_t·z", "one step back, DDPM"),
        ("x_s = √ᾱ_s·x̂_0 + √(1−ᾱ_s−σ²)·ε_θ + σ·z", "one step back, DDIM"),
    )

    def facts(self, trained: Trained, results: Results) -> list[tuple[str, str]]:
        quality, bound = results.numbers["quality"], results.numbers["bound"]
        return [
            ("Fréchet, DDPM", f"{quality[1]['frechet']:.2f}"),
            ("floor: real, held out", f"{quality[0]['frechet']:.2f}"),
            ("ceiling: noise", f"{quality[-1]['frechet']:.0f}"),
            ("−ELBO, bits per pixel", f"{bound['bits_per_dim']:.3f}"),
            ("training steps", f"{trained.step:,}"),
            ("parameters", f"{trained.size:,}"),
        ]

    def draw(self, trained: Trained, results: Results) -> list[Picture]:
        return ddpm_pictures.draw(trained, results)


def _work(n: int, steps: int) -> int:
    """Network calls that n images in `steps` steps take."""
    return -(-n // CHUNK) * steps


def chain(
    model: DDPM, xT: Any, rng: Generator, steps: int | None, eta: float | str | None, bar: Bar, film: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Images (n, H, W, C) from the noise xT, a chunk at a time; and the frames (F, film, H, W, C) of the first.

    steps, eta: DDIM's; both None: DDPM's Algorithm 2.
    """
    T = model.config.T
    pieces = range(0, xT.shape[0], CHUNK)
    every = max(1, (steps or T) // FRAMES)

    def one(task: tuple[int, Generator]) -> tuple[np.ndarray, list[np.ndarray]]:
        start, child = task
        part = xT[start : start + CHUNK]
        walk: Iterator[Any]
        if steps is None and eta is None:
            name, walk = f"DDPM, {T} steps", model.denoise(part.shape[0], child, part)
        else:
            s, h = steps or T, 0.0 if eta is None else eta
            name, walk = f"DDIM, {s} steps, η = {h}", ddim.denoise(model, part.shape[0], child, s, h, part)
        frames = [on_host(part[:film])] if film and start == 0 else []
        for k, x in enumerate(walk, start=1):
            bar.advance(1, name)
            if frames and (k % every == 0 or k == (steps or T)):
                frames.append(on_host(x[:film]))
        return on_host(x), frames

    done = side_by_side(one, zip(pieces, rng.spawn(len(pieces)), strict=True))
    images = np.concatenate([images for images, _ in done])
    return rounded(images, model.config.levels), np.array(done[0][1])


def bound_table(bound: dict[str, float], dataset: Dataset) -> Table:
    """The variational bound by its terms, beside two codes that are no model of images."""
    blank = ("", "", "")
    levels = dataset.levels or 256
    return Table(
        "Likelihood",
        f"The variational bound on {bound['images']:.0f} held-out images, in bits per pixel (± standard error): an "
        "upper limit of the code length. L_simple drops the bound's weights, and with them the times of little noise, "
        "where nearly all the bits are: a network trained for pictures need not beat a histogram as a code.",
        ("", "bits per pixel", "L_T, prior", "ΣL_{t−1}, transitions", "L_0, reconstruction"),
        [("−ELBO", f"{bound['bits_per_dim']:.3f} ± {bound['error']:.3f}",
          *(f"{bound[k]:.3f}" for k in ("prior", "transitions", "reconstruction"))),
         ("a histogram per pixel", f"{histogram_bits(dataset):.3f}", *blank),
         (f"uniform, log₂ {levels}", f"{np.log2(levels):.3f}", *blank)],
        frozenset({1, 2}),
    )  # fmt: skip


def table1(found: dict[str, Any], quality: list[dict[str, Any]]) -> Table:
    """Fréchet distance by number of steps and η: the shape of DDIM's Table 1."""
    rows = [
        ("σ̂" if eta == SIGMA_HAT else f"η = {eta}", *(f"{v:.2f}" for v in row))
        for eta, row in zip(found["eta"], found["frechet"], strict=True)
    ]
    columns = len(found["steps"])
    floor, ceiling = (quality[i]["frechet"] for i in (0, -1))
    rows = [("floor: real, held out", *[f"{floor:.2f}"] * columns), *rows,
            ("ceiling: noise", *[f"{ceiling:.2f}"] * columns)]  # fmt: skip
    return Table(
        "Fréchet distance by steps and η",
        "As in Table 1 of the DDIM paper, which finds that with few steps the deterministic sampler (η = 0) wins, that "
        "DDPM's larger noise (σ̂) loses by far, and that with all steps they come together. Here, every cell from the "
        "same noise x_T:",
        ("steps", *map(str, found["steps"])), rows, frozenset({0, len(rows) - 1}),
    )  # fmt: skip
