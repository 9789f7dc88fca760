"""GPT on a text: train it, say what a character costs in bits beside counts and compressors, and let it write."""

from __future__ import annotations

import hashlib
import platform
from math import log, log2, sqrt
from typing import Any

import numpy as np

from scratchgen import functional as F
from scratchgen import ops
from scratchgen.backend import active
from scratchgen.data import Dataset, text
from scratchgen.models.language import GPT, GPTConfig
from scratchgen.random import Generator
from scratchgen.recipes import drawings, gpt_pictures
from scratchgen.recipes.ngrams import NGram, compressed
from scratchgen.recipes.recipe import Recipe, RecipeError, Results, Trained, on_host
from scratchgen.train import TrainConfig
from scratchgen.train.atomic import write_atomically
from scratchgen.train.progress import Bar
from scratchgen.train.report import Passage, Picture, Table

STRIDE = 16  # symbols from the beginning of one example to that of the next
LENGTH = 400  # symbols of a sample
WRITTEN = 3  # samples of each sort that the page shows
SORTS: dict[str, dict[str, Any]] = {
    "temperature 1": {}, "temperature 0.7": {"temperature": 0.7},
    "temperature 0.8, the 10 likeliest": {"temperature": 0.8, "top_k": 10},
}  # fmt: skip
ORDERS = (1, 2, 3, 5)  # of the n-gram models
SHARES = 10  # groups of held-out symbols in a row that the standard error is made of
WRITING = 0  # purpose of random numbers


class GPTRecipe(Recipe):
    """A text, character by character; the defaults are for Python's documentation on two cores.

    A step forward and back costs 6 operations for each of N = 359,424 parameters and each character: the 1.3 million
    characters of 2,600 steps cost 2.9·10¹², some two minutes of one core, and are four times the text.
    """

    id = "gpt"
    title = "GPT: a text, character by character"
    paper = "Radford, Narasimhan, Salimans & Sutskever 2018; Vaswani et al. 2017"
    lectures = "L4"
    file = "scratchgen/models/language/gpt.py"
    dataset = "topics"
    config_type = GPTConfig
    train = TrainConfig(
        steps=2600, batch_size=8, shards=2, lr=4e-3, warmup=60, final_lr=0.02, clip=1.0, beta2=0.99,
        checkpoint_every=300, log_every=10,
    )  # fmt: skip
    equations = (
        ("log p(k) = Σ_i log p(k_i | k_1 … k_{i−1})", "each character given those before it"),
        ("a_i = Σ_{j ≤ i} softmax_j(q_i·k_j/√d)·v_j", "attention, which does not look ahead"),
        ("L = −log p(k) / (n·log 2)", "what is minimised: bits per character"),
    )
    options = ("temperature", "top_k", "prompt")
    suffixes = (".txt",)

    def configure(self, dataset: Dataset) -> GPTConfig:
        if dataset.alphabet is None:
            raise RecipeError(f"{self.id}: needs a text; {dataset.name} has examples of shape {dataset.shape}")
        return GPTConfig(symbols=len(dataset.alphabet))

    def build(self, config: GPTConfig, rng: Generator) -> GPT:
        return GPT(config, rng=rng)

    def examples(self, dataset: Dataset) -> np.ndarray:
        """All windows of a context and one symbol that begin at multiples of STRIDE."""
        return windows(dataset.train.ravel(), GPTConfig().context + 1)

    def sample(self, trained: Trained, n: int, rng: Generator, **options: Any) -> list[str]:
        return write(trained.system, n, rng, **options)

    def evaluate(self, trained: Trained, thorough: bool = False) -> Results:
        """thorough: also n-grams of up to 7, which count long rows of characters."""
        data, model = trained.dataset, trained.system
        train, held = data.train.ravel(), data.heldout.ravel()
        with Bar("evaluation", 2 + len(SORTS), unit="parts") as bar:
            results = Results()
            for name, part in (("heldout", held), ("seen", train[: len(held)])):
                results.arrays[name] = on_host(model.bits(active().asarray(part))).astype(np.float64)
                bar.advance(1, "reading")
            for i, (sort, options) in enumerate(SORTS.items()):
                results.numbers[sort] = write(model, WRITTEN, trained.rng(WRITING + i), **options)
                bar.advance(1, "writing")
        results.arrays["places"] = by_place(model, held)
        results.numbers["bits"] = self._bits(trained, results, (*ORDERS, 7) if thorough else ORDERS)
        return results

    def _bits(self, trained: Trained, results: Results, orders: tuple[int, ...]) -> dict[str, Any]:
        """Bits per character of the network, of n-grams and of compressors, and what they were measured on."""
        data, symbols = trained.dataset, trained.system.config.symbols
        train, held = data.train.ravel(), data.heldout.ravel()
        before, after = (text.decode(x).encode() for x in (train, held))
        heldout = results.arrays["heldout"]
        groups = [part.mean() for part in np.array_split(heldout, SHARES)]
        return {
            "heldout": float(heldout.mean()), "error": float(np.std(groups, ddof=1) / sqrt(SHARES)),
            "seen": float(results.arrays["seen"].mean()), "uniform": log2(symbols),
            "ngrams": [[n, float(NGram(train, n, symbols).bits(held)[1:].mean())] for n in orders],
            "compressors": compressed(before, after), "alone": compressed(b"", after),
            "read": len(train), "held": len(held), "python": platform.python_version(),
            "checksum": hashlib.sha256(before + after).hexdigest()[:16],
        }  # fmt: skip

    def tables(self, trained: Trained, results: Results) -> list[Table]:
        return [bits_table(results.numbers["bits"], trained.size), text_table(results.numbers["bits"])]

    def facts(self, trained: Trained, results: Results) -> list[tuple[str, str]]:
        bits = results.numbers["bits"]
        counts = dict(map(tuple, bits["ngrams"]))
        return [
            ("bits per character, held out", f"{bits['heldout']:.2f} ± {bits['error']:.2f}"),
            ("5-gram", f"{counts[5]:.2f}"),
            ("1-gram", f"{counts[1]:.2f}"),
            ("bz2 after the training text", f"{bits['compressors']['bz2']:.2f}"),
            ("training steps", f"{trained.step:,}"),
            ("parameters", f"{trained.size:,}"),
        ]

    def draw(self, trained: Trained, results: Results) -> list[Picture]:
        return gpt_pictures.draw(trained, results)

    def passages(self, trained: Trained, results: Results) -> list[Passage]:
        """And the same into the run's folder, as samples.txt."""
        found = [(sort, drawings.texts(results.numbers[sort])) for sort in SORTS]
        whole = "".join(f"════ {sort} ════\n\n{text}\n" for sort, text in found)
        write_atomically(trained.run.path / "samples.txt", whole.encode())
        return [
            Passage(f"Written at {sort}", "Each from the beginning of a line, with nothing given; none left out.", text)
            for sort, text in found
        ]


def windows(symbols: np.ndarray, length: int) -> np.ndarray:
    """Rows of `length` symbols that stand together, from every STRIDE-th place on: views, (N, length)."""
    return np.lib.stride_tricks.sliding_window_view(symbols, length)[::STRIDE]


def write(model: GPT, n: int, rng: Generator, temperature: float = 1.0, top_k: int | None = None,
          prompt: str = "") -> list[str]:
    """n texts of LENGTH characters, with the prompt in front.  Raises DataError for a character that is in no text."""
    given = active().asarray(text.encode(prompt or "\n"))
    drawn = on_host(model.sample(n, rng, LENGTH, given, temperature=temperature, likeliest=top_k))
    return [prompt + text.decode(row) for row in drawn]


def by_place(model: GPT, symbols: np.ndarray) -> np.ndarray:
    """Mean bits of a symbol by how many were read before it, 1 … context: (context,)."""
    rows = active().asarray(windows(symbols, model.config.context + 1)[::2])
    return on_host(ops.mean(F.cross_entropy(model.logits(rows[:, :-1]), rows[:, 1:]), axis=0)) / log(2)


def bits_table(bits: dict[str, Any], size: int) -> Table:
    """What a character costs: the network between counts and compressors."""
    rows = [
        (f"GPT, {size:,} parameters", f"{bits['heldout']:.3f} ± {bits['error']:.3f}"),
        ("GPT, training text", f"{bits['seen']:.3f}"),
        ("all characters equally likely", f"{bits['uniform']:.3f}"),
        *((f"{n}-gram", f"{value:.3f}") for n, value in bits["ngrams"]),
        *((f"{name} after the training text", f"{value:.3f}") for name, value in bits["compressors"].items()),
        *((f"{name} alone", f"{value:.3f}") for name, value in bits["alone"].items()),
    ]
    return Table(
        "What a character costs",
        f"Bits per character of {bits['held']:,} characters held out (± standard error, from {SHARES} pieces), each "
        "guessed from those before it. An n-gram guesses from the last n − 1, by counts in the same training text; "
        "compressors are given that text first, of which gzip remembers no more than 32 KB, or nothing.",
        ("", "bits per character"), rows, frozenset(range(2, len(rows))),
    )  # fmt: skip


def text_table(bits: dict[str, Any]) -> Table:
    """Which text it was: other versions of Python have another."""
    rows = [
        ("Python", bits["python"]), ("characters read", f"{bits['read']:,}"),
        ("characters held out", f"{bits['held']:,}"), ("SHA-256 of both begins with", bits["checksum"]),
    ]  # fmt: skip
    return Table(
        "The text",
        "The documentation of the language that comes with Python, pydoc_data.topics. Each paragraph is taken once; of "
        "pieces of some 4,100 characters in a row every tenth is held out.",
        ("", ""), rows,
    )  # fmt: skip
