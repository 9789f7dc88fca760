"""VQ-VAEs on images: train one with its prior, say what it loses and what an image costs, and draw what codes are."""

from __future__ import annotations

from math import log, log2, prod, sqrt
from typing import Any, ClassVar

import numpy as np

from scratchgen.backend import active
from scratchgen.data import Dataset
from scratchgen.metrics import ClassifierConfig
from scratchgen.models.latent import VQVAE, VQVAEConfig, quantise
from scratchgen.random import Generator
from scratchgen.recipes import vqvae_pictures
from scratchgen.recipes.pixelcnn import CHUNK, pixel_costs
from scratchgen.recipes.pixelcnn import draw as draw_codes
from scratchgen.recipes.quality import JUDGED, histogram_bits, judged, quality_table, rounded
from scratchgen.recipes.recipe import Recipe, RecipeError, Results, Trained, by_chunks, on_host
from scratchgen.train import TrainConfig
from scratchgen.train.progress import Bar
from scratchgen.train.report import Picture, Table

NOISE, ANY, RULERS = range(3)  # purposes of random numbers


class VQVAERecipe(Recipe):
    """Images (H, W, C) of few grey levels, H and W even; the defaults are for 8×8 digits on two cores."""

    id = "vqvae"
    title = "VQ-VAE with a PixelCNN prior"
    paper = "van den Oord, Vinyals & Kavukcuoglu 2017"
    lectures = "L0"
    file = "scratchgen/models/latent/vqvae.py"
    dataset = "digits"
    config_type = VQVAEConfig
    train = TrainConfig(
        steps=700, batch_size=80, shards=2, lr=4e-3, warmup=50, final_lr=0.02, beta2=0.99, ema_decay=0.99,
        checkpoint_every=200, log_every=5,
    )  # fmt: skip
    equations: ClassVar[tuple[tuple[str, str], ...]] = (
        ("e_i = e_k,  k = argmin_j ‖E_i − e_j‖²", "each vector of the encoder becomes the nearest of K codes"),
        ("e_st = E + sg[e − E]", "what the decoder sees: a code, with the gradient of E"),
        ("L = ‖x − D(e_st)‖² + ‖sg[E] − e‖² + β·‖sg[e] − E‖²", "decoder and encoder; codes; encoder"),
        ("p(k) = Π_i p(k_i | k_1 … k_{i−1})", "the prior over grids of codes"),
        ("log P(x) ≥ log p(k) + log P(x|k)", "what an image costs: its codes, then what they leave open"),
    )
    options = ("temperature",)
    name: ClassVar[str] = "VQ-VAE"
    decay: ClassVar[float | None] = None
    """γ of the moving averages that codes follow; None: they learn by gradient."""

    def configure(self, dataset: Dataset) -> VQVAEConfig:
        shape, levels = dataset.shape, dataset.levels
        if len(shape) != 3 or shape[0] % 2 or shape[1] % 2 or levels is None:
            raise RecipeError(f"{self.id}: needs images of even height and width and some grey levels; {dataset.name} "
                              f"has {shape}")  # fmt: skip
        if len(dataset.heldout) <= ClassifierConfig().width:
            raise RecipeError(f"{self.id}: {dataset.name} holds out {len(dataset.heldout)} images, too few to judge by")
        return VQVAEConfig(shape=shape, levels=levels, decay=self.decay)

    def build(self, config: VQVAEConfig, rng: Generator) -> VQVAE:
        return VQVAE(config, rng=rng)

    def sample(self, trained: Trained, n: int, rng: Generator, **options: Any) -> np.ndarray:
        with Bar("sampling", rows_of(trained, n), unit="rows") as bar:
            k = draw_codes(trained.system.prior, n, rng, bar, options.get("temperature", 1.0))[-1]
        return decoded(trained, k)

    def evaluate(self, trained: Trained, thorough: bool = False) -> Results:
        """thorough: with ten times the samples, in groups of the same size."""
        model, data = trained.system, trained.dataset
        n, K = min(JUDGED, len(data.heldout)), model.config.codes
        many = (20 if thorough else 2) * n
        with Bar("evaluation", rows_of(trained, many), unit="rows") as bar:
            k = draw_codes(model.prior, many, trained.rng(NOISE), bar)[-1]
        drawn = decoded(trained, k)
        anyhow = decoded(trained, on_host(trained.rng(ANY).integers(0, K, k.shape)))
        held, seen = (encoded(trained, x) for x in (data.heldout, data.train))
        rebuilt = decoded(trained, held)
        shares = np.stack([on_host(quantise.usage(active().asarray(codes), K)) for codes in (seen, held)])
        results = Results({
            "drawn": drawn[:n], "anyhow": anyhow[:n], "shares": shares, "codebook": surroundings(data.train, seen, K),
            "originals": data.heldout[:10], "rebuilt": rebuilt[:10],
        })  # fmt: skip
        rows = {self.name: drawn, "codes at random": anyhow, "held out, rebuilt": rebuilt}
        results.numbers["quality"] = judged(trained, rows, trained.rng(RULERS))
        results.numbers["codes"] = {
            "K": K, "dead": int(np.sum(shares[0] == 0)),
            **{name: float(quantise.perplexity(active().asarray(p)))
               for name, p in zip(("train", "heldout"), shares, strict=True)},
        }  # fmt: skip
        results.numbers["error"] = self._error(trained)
        results.numbers["bits"] = self._bits(trained, held, seen)
        return results

    def _error(self, trained: Trained) -> dict[str, float]:
        """The squared error of a picture, not rounded: held out, of as many seen, and with the mean of all for each."""
        data = trained.dataset
        seen = data.train[: len(data.heldout)]
        lost = {name: float(np.square(x - by_chunks(trained.system.reconstruct, x, CHUNK)).sum(axis=(1, 2, 3)).mean())
                for name, x in (("heldout", data.heldout), ("train", seen))}  # fmt: skip
        return {**lost, "mean": float(np.square(data.heldout - data.train.mean(axis=0)).sum(axis=(1, 2, 3)).mean())}

    def _bits(self, trained: Trained, held: np.ndarray, seen: np.ndarray) -> dict[str, float]:
        """Bits: of a code by the prior, by a histogram for each place, by none; and bounds on those of a pixel."""
        model, data = trained.system, trained.dataset
        K, pixels = model.config.codes, prod(data.shape)
        seen_codes = seen[: len(held)]
        log_sigma = model.log_deviation(active().asarray(data.train))
        cost = {name: -by_chunks(lambda x: model.elbo(x, log_sigma), x, CHUNK).astype(np.float64) / (pixels * log(2))
                for name, x in (("heldout", data.heldout), ("train", data.train[: len(held)]))}  # fmt: skip
        code = float(pixel_costs(model.prior, held).mean())
        return {
            "code": code, "code_train": float(pixel_costs(model.prior, seen_codes).mean()),
            "code_histogram": places(seen, held, K), "code_uniform": log2(K), "share": code * held[0].size / pixels,
            "heldout": float(cost["heldout"].mean()), "train": float(cost["train"].mean()),
            "error": float(cost["heldout"].std(ddof=1) / sqrt(len(held))), "images": len(held),
            "histogram": histogram_bits(data), "uniform": log2(data.levels or 256),
        }  # fmt: skip

    def tables(self, trained: Trained, results: Results) -> list[Table]:
        numbers = results.numbers
        return [quality_table(numbers["quality"]), error_table(numbers["error"]), codebook_table(numbers["codes"]),
                *bits_tables(numbers["bits"], self.name)]  # fmt: skip

    def facts(self, trained: Trained, results: Results) -> list[tuple[str, str]]:
        quality, codes, bits = (results.numbers[name] for name in ("quality", "codes", "bits"))
        error = results.numbers["error"]
        return [
            (f"Fréchet, {self.name}", f"{quality[1]['frechet']:.2f}"),
            ("floor: real, held out", f"{quality[0]['frechet']:.2f}"),
            ("ceiling: noise", f"{quality[-1]['frechet']:.0f}"),
            ("squared error lost, held out", f"{100 * error['heldout'] / error['mean']:.1f} %"),
            ("perplexity of the codes", f"{codes['train']:.1f} of {codes['K']:.0f}"),
            ("dead codes", f"{codes['dead']:.0f}"),
            ("bits per pixel, at most", f"{bits['heldout']:.3f}"),
            ("training steps", f"{trained.step:,}"),
            ("parameters", f"{trained.size:,}"),
        ]

    def draw(self, trained: Trained, results: Results) -> list[Picture]:
        return vqvae_pictures.draw(trained, results, self.name)


class VQVAEEMARecipe(VQVAERecipe):
    """Codes that follow the means of their vectors, without a gradient."""

    id = "vqvae_ema"
    title = "VQ-VAE with codes by moving average, and a PixelCNN prior"
    equations = (
        *VQVAERecipe.equations[:2],
        ("L = ‖x − D(e_st)‖² + β·‖sg[e] − E‖²", "decoder and encoder"),
        ("n_j ← γ·n_j + (1−γ)·Σ_i [k_i = j],  m_j ← γ·m_j + (1−γ)·Σ_i [k_i = j]·E_i,  e_j = m_j/n_j",
         "codes: at the means of their vectors"),
        *VQVAERecipe.equations[3:],
    )  # fmt: skip
    name = "VQ-VAE, moving average"
    decay = 0.99


def rows_of(trained: Trained, n: int) -> int:
    """Rows of codes of chunks that n images are drawn in, at most."""
    return -(-n // CHUNK) * trained.system.prior.config.shape[0]


def encoded(trained: Trained, x: np.ndarray) -> np.ndarray:
    """The codes (N, h, w) of images."""
    return by_chunks(trained.system.encode, x, CHUNK)


def decoded(trained: Trained, k: np.ndarray) -> np.ndarray:
    """The images of codes (N, h, w), at the data's grey levels."""
    return rounded(by_chunks(trained.system.decode, k, CHUNK), trained.system.config.levels)


def surroundings(x: np.ndarray, k: np.ndarray, K: int) -> np.ndarray:
    """What each code is used for: the mean of its places' pixels in images (N, H, W, C), and of those one pixel around.

    k: the images' codes (N, h, w).  Returns (K, H/h + 2, W/w + 2, C); of a code that is not used, the mean of all.
    """
    rows, columns = (n // m for n, m in zip(x.shape[1:3], k.shape[1:], strict=True))
    framed = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=-1)
    windows = np.lib.stride_tricks.sliding_window_view(framed, (rows + 2, columns + 2), axis=(1, 2))
    cut = windows[:, ::rows, ::columns].transpose(0, 1, 2, 4, 5, 3).reshape(-1, rows + 2, columns + 2, x.shape[3])
    used = [cut[k.ravel() == j] for j in range(K)]
    return np.stack([(mine if len(mine) else cut).mean(axis=0) for mine in used])


def places(seen: np.ndarray, asked: np.ndarray, K: int) -> float:
    """Bits per code of grids (N, h, w) under one histogram for each place, each code counted once more than seen."""
    seen, asked = (k.reshape(len(k), -1) for k in (seen, asked))
    counts = np.stack([np.bincount(column, minlength=K) + 1.0 for column in seen.T])
    p = counts / counts.sum(axis=1, keepdims=True)
    return float(-np.log2(p[np.arange(len(p)), asked]).mean())


def error_table(error: dict[str, float]) -> Table:
    """What is lost on the way to codes and back."""
    rows = [("held out", "heldout"), ("training images", "train"), ("the mean image", "mean")]
    return Table(
        "Reconstruction",
        "The squared error of an image that went through the codes, summed over its pixels (−1 black, 1 white), and as "
        "a share of the ceiling: what is lost if the mean of all training images stands for each. The floor is 0.",
        ("", "squared error", "share"),
        [(what, f"{error[key]:.2f}", f"{100 * error[key] / error['mean']:.1f} %") for what, key in rows],
        frozenset({2}),
    )  # fmt: skip


def codebook_table(codes: dict[str, float]) -> Table:
    """How many of the codes are in use."""
    return Table(
        "Codebook",
        "The perplexity of codes: as many equally frequent ones would be as hard to guess; all codes at best. A code "
        "is dead if no vector of a training image is nearest to it.",
        ("", "number"),
        [("perplexity, training images", f"{codes['train']:.1f}"), ("perplexity, held out", f"{codes['heldout']:.1f}"),
         ("dead codes", f"{codes['dead']:.0f}"), ("all codes", f"{codes['K']:.0f}")],
        frozenset({3}),
    )  # fmt: skip


def bits_tables(bits: dict[str, float], name: str) -> list[Table]:
    """What codes cost, and what images do."""
    return [
        Table(
            "The prior",
            "What one code of a held-out image costs, in bits: exact. The ceiling is a histogram for each place of the "
            "grid, which knows nothing of neighbours; and all codes equally likely.",
            ("", "bits per code"),
            [("the prior, held out", f"{bits['code']:.3f}"),
             ("the prior, training images", f"{bits['code_train']:.3f}"),
             ("a histogram per place", f"{bits['code_histogram']:.3f}"),
             ("all codes equally likely", f"{bits['code_uniform']:.3f}")],
            frozenset({2, 3}),
        ),
        Table(
            "Likelihood",
            f"What one of {bits['images']:.0f} held-out images costs, in bits per pixel (± standard error), if its "
            "codes are told first and then each pixel's grey level: a bound, since other grids of codes would tell of "
            f"the same image. {bits['share']:.3f} of it are the codes. The ceiling is a code that knows each pixel's "
            "histogram and nothing of its neighbours.",
            ("", "bits per pixel"),
            [(f"{name}, held out", f"≤ {bits['heldout']:.3f} ± {bits['error']:.3f}"),
             (f"{name}, training images", f"≤ {bits['train']:.3f}"),
             ("a histogram per pixel", f"{bits['histogram']:.3f}"),
             ("all levels equally likely", f"{bits['uniform']:.3f}")],
            frozenset({2, 3}),
        ),
    ]  # fmt: skip
