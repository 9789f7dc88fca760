"""The Ising model on black-and-white digits and on a drawing: what descent, sampling and counting make of noise."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

import numpy as np

from scratchgen.backend import active
from scratchgen.data import Dataset, binarised
from scratchgen.models.energy import Ising, IsingConfig, ising
from scratchgen.random import Generator
from scratchgen.recipes import ising_pictures
from scratchgen.recipes.quality import JUDGED
from scratchgen.recipes.recipe import Recipe, RecipeError, Results, Trained, on_host
from scratchgen.train import RunFolder, TrainConfig
from scratchgen.train.progress import Bar
from scratchgen.train.report import Picture, Table

FLIPPED = 0.1  # share of the pixels that noise flips
RATES = (0.02, 0.05, 0.1, 0.15, 0.2, 0.3)  # others, for the chart
SWEEPS, BURN = 400, 50  # of Gibbs sampling from the noisy picture, and how many of them are not counted
STEPS = 500  # sweeps, for a sample
SHOWN = 30  # sweeps whose energies are drawn
COUNTED = 60  # pictures that are counted at a time
BETA = 1.0  # of the drawing; Bishop's
NOISE, SAMPLES, FLIPS, CHAINS, DRAWING = range(5)  # purposes of random numbers
NAMES = {
    "noisy": "noisy", "alone": "each pixel alone, by how often it is 1", "icm": "ICM", "gibbs": "Gibbs sampling",
    "exact": "counted: the posterior itself",
}  # fmt: skip
"""Of the ways to decide, the ceiling first, the floor last."""


def spins(images: np.ndarray) -> np.ndarray:
    """Black-and-white images (N, H, W, 1) as pictures of −1 and 1, (N, H, W)."""
    return np.where(images[..., 0] > 0, 1, -1).astype(np.float32)


class IsingRecipe(Recipe):
    """Any grey images at most 12 wide, made black and white; the defaults are for 8×8 digits."""

    id = "ising"
    title = "Ising model, for denoising"
    paper = "Geman & Geman 1984; Besag 1986"
    lectures = "L2"
    file = "scratchgen/models/energy/ising.py"
    dataset = "digits"
    config_type = IsingConfig
    train = TrainConfig(
        steps=800, batch_size=100, lr=3e-2, final_lr=0.01, checkpoint_every=400, log_every=10,
    )  # fmt: skip
    options = ("steps",)
    samplers: ClassVar[dict[str, dict[str, Any]]] = {}  # not in the chart: what it draws is as smooth as digits are
    equations = (
        ("E(x) = −Σ h_i·x_i − β·Σ_{i~j} x_i·x_j − η·Σ x_i·y_i", "pixels of −1 and 1; y is what is seen of them"),
        ("η = ½·log((1−ρ)/ρ)", "where a share ρ of the pixels was flipped"),
        ("m_i = h_i + β·Σ_{j~i} x_j + η·y_i", "what pulls at a pixel"),
        ("x_i = sign m_i", "descent, ICM: black squares, then white ones; the energy never rises"),
        ("p(x_i = 1 | all others) = σ(2·m_i)", "Gibbs sampling: draws in the place of signs"),
        ("E[x_i] = ∂log Z/∂f_i,  f = h + η·y", "exactly, from a Z that is counted pixel by pixel"),
    )

    def configure(self, dataset: Dataset) -> IsingConfig:
        shape = dataset.train.shape[1:]
        if len(shape) != 3 or shape[-1] != 1:
            raise RecipeError(f"ising: needs grey images; an example of {dataset.name} has shape {shape}")
        if shape[1] > ising.WIDEST:
            raise RecipeError(f"ising: counts the states of a row, at most {ising.WIDEST} pixels, not {shape[1]}")
        return IsingConfig(shape[0], shape[1])

    def build(self, config: IsingConfig, rng: Generator) -> Ising:
        return Ising(config)

    def examples(self, dataset: Dataset) -> np.ndarray:
        return spins(dataset.train)

    def load(self, run: RunFolder) -> Trained:
        trained = super().load(run)
        return replace(trained, dataset=binarised(trained.dataset))

    def sample(self, trained: Trained, n: int, rng: Generator, **options: Any) -> np.ndarray:
        """steps: sweeps of Gibbs sampling, from independent pixels."""
        return on_host(trained.system.sample(n, rng, options.get("steps", STEPS)))[..., None]

    def evaluate(self, trained: Trained, thorough: bool = False) -> Results:
        model, data, results = trained.system, trained.dataset, Results()
        with Bar("evaluation", 4 + len(RATES), unit="parts") as bar:
            results.numbers["likelihood"] = {
                part: [float(on_host(model.log_prob(active().asarray(spins(x)))).mean()), coins(data, spins(x))]
                for part, x in (("train", data.train), ("heldout", data.heldout))
            }  # fmt: skip
            bar.advance(1, "likelihood")
            self._digits(trained, results)
            bar.advance(1, "denoising")
            results.numbers["drawing"] = self._drawing(trained, results)
            bar.advance(1, "the drawing")
            rates = []
            for rho in RATES:
                x, _, found = decided(trained, rho, SWEEPS // 2)
                rates.append({name: wrong(found[name], x) for name in NAMES})
                bar.advance(1, f"{rho:.0%} flipped")
            results.numbers["rates"] = rates
            results.arrays["samples"] = self.sample(trained, 100, trained.rng(SAMPLES))
            bar.advance(1, "samples")
        return results

    def _digits(self, trained: Trained, results: Results) -> None:
        """A tenth of the pixels flipped: decisions, their energies, and those on the way."""
        model = trained.system
        x, y, found = decided(trained, FLIPPED, SWEEPS)
        f = ising.posterior(model.h, active().asarray(y), FLIPPED)
        energy = lambda x: float(on_host(ising.energy(f, model.beta, active().asarray(x))).mean())  # noqa: E731
        results.numbers["denoising"] = {
            name: {"wrong": wrong(found[name], x), "energy": energy(sign(found[name]))} for name in NAMES
        }  # fmt: skip
        start = active().asarray(y)
        results.numbers["energies"] = {
            "icm": [energy(v) for v in (start, *model.descend(start, FLIPPED))],
            "gibbs": [energy(v) for v in (start, *model.chains(f, start, trained.rng(CHAINS), SHOWN))],
            "clean": energy(x), "least": float(on_host(ising.ground(f, model.beta)).mean()),
        }  # fmt: skip
        results.numbers["gap"] = float(np.sqrt(np.mean((found["gibbs"] - found["exact"]) ** 2)))
        results.arrays["marginals"] = np.stack([found["exact"].ravel(), found["gibbs"].ravel()])[:, ::4]
        chosen = slice(None, None, max(1, len(x) // 12))
        rows = [x, y, found["icm"], found["gibbs"], sign(found["exact"])]
        results.arrays["denoised"] = np.concatenate([row[chosen][:12] for row in rows])[..., None]

    def _drawing(self, trained: Trained, results: Results) -> dict[str, Any]:
        """A picture far too wide to be counted, with one h = 0 for all and Bishop's β."""
        x = drawing()
        model = Ising(IsingConfig(x.shape[0], x.shape[1], local=False))
        model.beta.assign(active().full((), BETA, "float32"))
        net, rng = model.frozen(), trained.rng(DRAWING)
        y = x[None] * np.where(on_host(rng.random((1, *x.shape))) < FLIPPED, -1, 1).astype(np.float32)
        start = active().asarray(y)
        f = ising.posterior(net.h, start, FLIPPED)
        energy = lambda x: float(on_host(ising.energy(f, net.beta, active().asarray(x)))[0])  # noqa: E731
        steps = list(net.descend(start, FLIPPED))
        mean = on_host(net.restore(start, FLIPPED, rng, SWEEPS, BURN))
        found = {"noisy": y, "icm": on_host(steps[-1]), "gibbs": mean}
        results.arrays["drawing"] = np.concatenate([x[None], y, found["icm"], mean])[..., None]
        return {
            "wrong": {name: wrong(made, x[None]) for name, made in found.items()},
            "energies": {
                "icm": [energy(v) for v in (start, *steps)],
                "gibbs": [energy(v) for v in (start, *net.chains(f, start, rng, SHOWN))], "clean": energy(x[None]),
            },
        }  # fmt: skip

    def tables(self, trained: Trained, results: Results) -> list[Table]:
        found, likelihood = results.numbers["denoising"], results.numbers["likelihood"]
        energies, drawn = results.numbers["energies"], results.numbers["drawing"]["wrong"]
        rows = [(NAMES[key], f"{row['wrong']:.2%}", f"{row['energy']:.2f}", f"{drawn[key]:.2%}" if key in drawn else "")
                for key, row in found.items()]  # fmt: skip
        rows += [("the clean images", "0", f"{energies['clean']:.2f}", "0"),
                 ("the least energy there is", "", f"{energies['least']:.2f}", "")]  # fmt: skip
        flips = f"{min(JUDGED, len(trained.dataset.heldout))} held-out images with {FLIPPED:.0%} of the pixels flipped"
        return [
            Table(
                "Denoising",
                f"{flips}; the energy is that of the posterior, in the mean of an image. The ceiling is the noise left "
                "as it is; the floor decides by the exact posterior means, from a Z that is counted: no decision errs "
                f"less under the model. Gibbs sampling estimates those means from {SWEEPS - BURN} sweeps, and is off "
                f"by {results.numbers['gap']:.3f} (root mean square, means between −1 and 1). The drawing is too wide "
                f"for counting; there h = 0 and β = {BETA:g}.",
                ("decision", "wrong pixels", "energy", "drawing: wrong"), rows, frozenset({0, 1, 4, 5, 6}),
            ),
            Table(
                "Likelihood",
                "The mean of log p(x), in nats per image, exactly: Z is counted. The marked row treats every pixel as "
                "a coin of its own.",
                ("", "held out", "training"),
                [("Ising model", *(f"{likelihood[part][0]:.2f}" for part in ("heldout", "train"))),
                 ("independent pixels", *(f"{likelihood[part][1]:.2f}" for part in ("heldout", "train")))],
                frozenset({1}),
            ),
        ]  # fmt: skip

    def facts(self, trained: Trained, results: Results) -> list[tuple[str, str]]:
        found, (held, alone) = results.numbers["denoising"], results.numbers["likelihood"]["heldout"]
        share = lambda key: f"{found[key]['wrong']:.2%}"  # noqa: E731
        return [
            ("wrong pixels, Gibbs sampling", share("gibbs")), ("floor: the posterior, counted", share("exact")),
            ("ceiling: noisy", share("noisy")), ("ICM", share("icm")), ("each pixel alone", share("alone")),
            ("log p, held out, nats per image", f"{held:.2f} (independent pixels: {alone:.2f})"),
            ("β", f"{float(trained.system.beta):.3f}"), ("training steps", f"{trained.step:,}"),
            ("parameters", f"{trained.size:,}"),
        ]  # fmt: skip

    def draw(self, trained: Trained, results: Results) -> list[Picture]:
        return ising_pictures.draw(trained, results)


def decided(trained: Trained, rho: float, sweeps: int) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """Held-out pictures x, what is seen of them, y, and by name of `NAMES` what is made of y: signs, or means."""
    model, data, rng = trained.system, trained.dataset, trained.rng(FLIPS)
    x = spins(data.heldout[:JUDGED])
    y = x * np.where(on_host(rng.random(x.shape)) < rho, -1, 1).astype(np.float32)
    seen = active().asarray(y)
    *_, rest = model.descend(seen, rho)
    gibbs = model.restore(seen, rho, rng, sweeps, min(BURN, sweeps // 2))
    found = {"noisy": y, "alone": on_host(ising.posterior(active().asarray(base_rates(data)), seen, rho)),
             "icm": on_host(rest), "gibbs": on_host(gibbs), "exact": counted(model, y, rho)}  # fmt: skip
    return x, y, found


def counted(model: Ising, y: np.ndarray, rho: float) -> np.ndarray:
    """E[x | y], exactly, (n, H, W)."""
    parts = [active().asarray(y[k : k + COUNTED]) for k in range(0, len(y), COUNTED)]
    return np.concatenate([on_host(ising.marginals(ising.posterior(model.h, part, rho), model.beta)) for part in parts])


def sign(mean: np.ndarray) -> np.ndarray:
    """What is decided: 1 where the mean is above 0."""
    return np.where(mean > 0, 1, -1).astype(np.float32)


def wrong(mean: np.ndarray, x: np.ndarray) -> float:
    """The share of pixels whose sign is not x's."""
    return float(np.mean(sign(mean) != x))


def base_rates(data: Dataset) -> np.ndarray:
    """½·log p/(1 − p) of every pixel, each value counted once more than it was seen: the field of a coin."""
    ones, n = (spins(data.train) > 0).sum(axis=0, dtype=np.float64), len(data.train)
    return (0.5 * np.log((ones + 1) / (n - ones + 1))).astype(np.float32)


def coins(data: Dataset, x: np.ndarray) -> float:
    """The mean of log p of pictures where every pixel is a coin of its own, in nats."""
    h = base_rates(data).astype(np.float64)
    return float((x * h - np.logaddexp(h, -h)).sum(axis=(1, 2)).mean())


def drawing() -> np.ndarray:
    """A boat at sea under the sun, (144, 216) of −1 and 1."""
    y, x = np.mgrid[0:144, 0:216] / 2.0
    away, angle = np.hypot(x - 88, y - 20), np.degrees(np.arctan2(y - 20, x - 88)) % 45
    sun = (away < 9) | ((away > 12) & (away < 17) & (np.minimum(angle, 45 - angle) * away < 90))
    hull = (y > 48) & (y < 58) & (x > 18 + (y - 48)) & (x < 74 - (y - 48))
    mast = (np.abs(x - 45) < 1.5) & (y > 6) & (y < 49)
    sails = (y < 46) & (((y > 8) & (x > 48) & (x < 48 + (y - 8) * 0.6)) | ((x < 42) & (x > 42 - (y - 14) * 0.6)))
    waves = np.abs(y - 64 - 2.5 * np.sin(x / 5)) < 2
    return np.where(sun | hull | mast | sails | waves, 1, -1).astype(np.float32)
