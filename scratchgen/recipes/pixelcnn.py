"""PixelCNN on images of one channel: train it, say what an image costs in bits, and draw it row by row."""

from __future__ import annotations

from dataclasses import replace
from math import log2, sqrt
from typing import Any

import numpy as np

from scratchgen import functional as F
from scratchgen import jacobian, ops
from scratchgen.backend import active
from scratchgen.cores import side_by_side
from scratchgen.data import Dataset, dequantise, quantise
from scratchgen.metrics import ClassifierConfig
from scratchgen.models.autoregressive import PixelCNN, PixelCNNConfig
from scratchgen.random import Generator
from scratchgen.recipes import pixelcnn_pictures
from scratchgen.recipes.quality import JUDGED, histogram_bits, judged, quality_table
from scratchgen.recipes.recipe import Recipe, RecipeError, Results, Trained, by_chunks, on_host
from scratchgen.train import TrainConfig
from scratchgen.train.progress import Bar
from scratchgen.train.report import Picture, Table

CHUNK = 90  # images that go through the network together
COMPLETED, WAYS = 4, 6  # images whose first half is given, and how often each is completed
NOISE, COMPLETIONS, RULERS = range(3)  # purposes of random numbers


class PixelCNNRecipe(Recipe):
    """Images (H, W, 1) of few grey levels, a class each; the defaults are for 8×8 digits on two cores."""

    id = "pixelcnn"
    title = "PixelCNN: an image, pixel by pixel"
    paper = "van den Oord, Kalchbrenner & Kavukcuoglu 2016; van den Oord et al. 2016"
    lectures = "L2 L4"
    file = "scratchgen/models/autoregressive/pixelcnn.py"
    dataset = "digits"
    config_type = PixelCNNConfig
    train = TrainConfig(
        steps=600, batch_size=80, shards=2, lr=4e-3, warmup=50, final_lr=0.02, clip=1.0, beta2=0.99, ema_decay=0.99,
        checkpoint_every=200, log_every=5,
    )  # fmt: skip
    equations = (
        ("p(k) = Π_i p(k_i | k_1 … k_{i−1})", "row by row, each pixel given those before it"),
        ("w∘m,  m_A = [u < 0 or (u = 0 and v < 0)],  m_B = m_A + [u = v = 0]", "kernels that do not read ahead"),
        ("y = tanh(a)⊙σ(b)", "the gate of each layer"),
        ("L = −log p(k) / (H·W·log 2)", "what is minimised: bits per pixel, exactly"),
    )
    options = ("temperature",)
    repeated = ("net.last",)

    def configure(self, dataset: Dataset) -> PixelCNNConfig:
        shape, levels = dataset.shape, dataset.levels
        if len(shape) != 3 or shape[2] != 1 or levels is None:
            raise RecipeError(f"pixelcnn: needs images of one channel and some grey levels; {dataset.name} has {shape}")
        if len(dataset.heldout) <= ClassifierConfig().width:
            raise RecipeError(f"pixelcnn: {dataset.name} holds out {len(dataset.heldout)} images, too few to judge by")
        return PixelCNNConfig(shape=shape[:2], levels=levels)

    def build(self, config: PixelCNNConfig, rng: Generator) -> PixelCNN:
        return PixelCNN(config, rng=rng)

    def examples(self, dataset: Dataset) -> np.ndarray:
        return symbols(dataset.train, dataset)

    def sample(self, trained: Trained, n: int, rng: Generator, **options: Any) -> np.ndarray:
        with Bar("sampling", steps_of(trained, n), unit="rows") as bar:
            return images(draw(trained.system, n, rng, bar, options.get("temperature", 1.0))[-1], trained.dataset)

    def evaluate(self, trained: Trained, thorough: bool = False) -> Results:
        """thorough: with ten times the samples, in groups of the same size."""
        model, data = trained.system, trained.dataset
        n = min(JUDGED, len(data.heldout))
        many = (20 if thorough else 2) * n
        with Bar("evaluation", steps_of(trained, many + COMPLETED * WAYS), unit="rows") as bar:
            rows = draw(model, many, trained.rng(NOISE), bar)
            half = symbols(data.heldout, data)[:: len(data.heldout) // COMPLETED][:COMPLETED]
            given = np.repeat(half, WAYS, axis=0)[:, : half.shape[1] // 2]
            ends = draw(model, len(given), trained.rng(COMPLETIONS), bar, given=given)[-1]
        drawn = images(rows[-1], data)
        results = Results({
            "drawn": drawn[:n], "rows": rows[:, :10],
            "originals": images(half, data), "completed": images(ends, data),
            "cost": pixel_costs(model, symbols(data.heldout, data)).mean(axis=0), "sight": sight(model),
        })  # fmt: skip
        results.numbers["quality"] = judged(trained, {"PixelCNN": drawn}, trained.rng(RULERS))
        results.numbers["bits"] = self._bits(trained)
        return results

    def _bits(self, trained: Trained) -> dict[str, float]:
        """Bits per pixel: of images held out, with its standard error, and of as many that were trained on."""
        data = trained.dataset
        held, seen = (pixel_costs(trained.system, symbols(x[: len(data.heldout)], data)).mean(axis=(1, 2))
                      for x in (data.heldout, data.train))  # fmt: skip
        return {
            "heldout": float(held.mean()), "error": float(held.std(ddof=1) / sqrt(len(held))), "images": len(held),
            "train": float(seen.mean()), "histogram": histogram_bits(data),
            "uniform": log2(trained.system.config.levels),
        }  # fmt: skip

    def tables(self, trained: Trained, results: Results) -> list[Table]:
        return [bits_table(results.numbers["bits"], "PixelCNN"), quality_table(results.numbers["quality"])]

    def facts(self, trained: Trained, results: Results) -> list[tuple[str, str]]:
        quality, bits = results.numbers["quality"], results.numbers["bits"]
        return [
            ("Fréchet, PixelCNN", f"{quality[1]['frechet']:.2f}"),
            ("floor: real, held out", f"{quality[0]['frechet']:.2f}"),
            ("ceiling: noise", f"{quality[-1]['frechet']:.0f}"),
            ("bits per pixel, held out", f"{bits['heldout']:.3f}"),
            ("a histogram per pixel", f"{bits['histogram']:.3f}"),
            ("training steps", f"{trained.step:,}"),
            ("parameters", f"{trained.size:,}"),
        ]

    def draw(self, trained: Trained, results: Results) -> list[Picture]:
        return pixelcnn_pictures.draw(trained, results)


def symbols(x: np.ndarray, dataset: Dataset) -> np.ndarray:
    """Images (N, H, W, 1) as levels (N, H, W)."""
    return quantise(x[..., 0], dataset.levels or 256)


def images(k: np.ndarray, dataset: Dataset) -> np.ndarray:
    """Levels (N, H, W) as images (N, H, W, 1)."""
    return dequantise(k, dataset.levels or 256)[..., None]


def steps_of(trained: Trained, n: int) -> int:
    """Rows of chunks that n images are drawn in, at most."""
    return -(-n // CHUNK) * trained.system.config.shape[0]


def draw(
    model: PixelCNN, n: int, rng: Generator, bar: Bar, temperature: float = 1.0, given: np.ndarray | None = None
) -> np.ndarray:
    """n images of symbols as they grow, row by row: (1 + rows drawn, n, H, W), a chunk at a time."""
    starts = range(0, n, CHUNK)

    def one(task: tuple[int, Generator]) -> np.ndarray:
        start, child = task
        part = None if given is None else active().asarray(given[start : start + CHUNK])
        states: list[Any] = []
        for k in model.draw(min(CHUNK, n - start), child, temperature, part):
            bar.advance(1 if states else 0, "drawing")
            states.append(k)
        return on_host(ops.stack(states))

    return np.concatenate(side_by_side(one, zip(starts, rng.spawn(len(starts)), strict=True)), axis=1)


def pixel_costs(model: PixelCNN, k: np.ndarray) -> np.ndarray:
    """−log₂ p(k_i | k_1 … k_{i−1}) of every pixel of images (N, H, W)."""
    return by_chunks(lambda k: F.cross_entropy(model.logits(k), k), k, CHUNK).astype(np.float64) / np.log(2)


def sight(model: PixelCNN) -> np.ndarray:
    """Σ |∂ features of one pixel / ∂x_j| for each pixel j: of this network, and of one stack of masks, (2, H, W).

    The second is not trained: what it cannot see, it could not see with any weights.
    """
    h, w = model.config.shape
    plain = PixelCNN(replace(model.config, width=8, gated=False), rng=Generator(0)).frozen()
    found = []
    for one in (model, plain):
        x = one.embed(active().asarray(np.full((1, h, w), one.config.levels // 2)))
        J = jacobian(lambda x, net=one.net: net.features(x)[0, h // 2, w // 2])(x)  # (width, 1, H, W, width)
        found.append(np.abs(on_host(J)).sum(axis=(0, 1, 4)))
    return np.stack(found)


def bits_table(bits: dict[str, float], name: str) -> Table:
    """The likelihood, beside two codes that are no model of images."""
    return Table(
        "Likelihood",
        f"What one of {bits['images']:.0f} held-out images costs, in bits per pixel (± standard error): exact, not a "
        "bound. The ceiling is a code that knows each pixel's histogram and nothing of its neighbours; how much less "
        "training images cost says how much of them was learnt by heart.",
        ("", "bits per pixel"),
        [(f"{name}, held out", f"{bits['heldout']:.3f} ± {bits['error']:.3f}"),
         (f"{name}, training images", f"{bits['train']:.3f}"),
         ("a histogram per pixel", f"{bits['histogram']:.3f}"),
         ("all levels equally likely", f"{bits['uniform']:.3f}")],
        frozenset({2, 3}),
    )  # fmt: skip
