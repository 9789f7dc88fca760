"""The pictures of a GPT run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from scratchgen.data import text
from scratchgen.recipes import pictures
from scratchgen.train import metrics_log
from scratchgen.train.report import Picture

if TYPE_CHECKING:
    from scratchgen.recipes.recipe import Results, Trained

COLUMNS, LINES = 74, 16  # of the shaded text
CEILING = 8.0  # bits that are shaded darkest


def draw(trained: Trained, results: Results) -> list[Picture]:
    """All of them, in the order of the page."""
    return [_codes(trained, results), _shaded(trained, results), _places(trained, results), _loss(trained, results)]


def _codes(trained: Trained, results: Results) -> Picture:
    bits = results.numbers["bits"]
    bars = [("GPT", bits["heldout"]), *((f"{n}-gram", value) for n, value in bits["ngrams"]),
            *bits["compressors"].items()]  # fmt: skip
    bars.sort(key=lambda bar: bar[1])
    fig = pictures.figure(7.2, 0.42 * len(bars) + 0.8)
    axes = fig.add_subplot()
    for y, (name, value) in enumerate(bars):
        axes.barh(y, value, color="tab:blue" if name == "GPT" else "0.75")
        axes.text(value + 0.04, y, f"{value:.2f}", va="center")
    axes.set_yticks(range(len(bars)), [name for name, _ in bars])
    axes.invert_yaxis()
    axes.set_xlabel("bits per character, held out")
    axes.spines[["top", "right"]].set_visible(False)
    axes.margins(x=0.1)
    pictures.save(fig, trained.run.pictures / "codes.png")
    return Picture(
        "codes.png", "Beside counts and compressors", "What a held-out character costs: by the network; by n-grams, "
        "which count what followed the last n − 1 characters; and by compressors that have read the training text.",
        "Bars of bits per character, the shortest on top.",
    )  # fmt: skip


def _shaded(trained: Trained, results: Results) -> Picture:
    held, bits = trained.dataset.heldout.ravel(), results.arrays["heldout"]
    cells = _cells(text.decode(held), np.concatenate([[0.0], bits]))
    fig = pictures.figure(8.0, 8.0 * LINES / COLUMNS * 2.0)
    axes = fig.add_subplot()
    shades = np.zeros((LINES, COLUMNS))
    for line, column, character, cost in cells:
        shades[line, column] = cost
        axes.text(column, line, character, ha="center", va="center", family="monospace", fontsize=9,
                  color="white" if cost > 0.6 * CEILING else "black")  # fmt: skip
    shown = axes.imshow(shades, cmap="Reds", vmin=0, vmax=CEILING, aspect="auto")
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    fig.colorbar(shown, location="bottom", label="bits", shrink=0.5, aspect=40)
    pictures.save(fig, trained.run.pictures / "shaded.png")
    return Picture(
        "shaded.png", "Where the bits are", "The first lines that were held out, each character as dark as it was "
        "dear. A word's beginning costs most, and its end, once the word is clear, next to nothing.",
        "Lines of text in which some characters, mostly at the beginning of words, are shaded red.",
    )  # fmt: skip


def _cells(characters: str, bits: np.ndarray) -> list[tuple[int, int, str, float]]:
    """(line, column, character, bits) of the first LINES lines; what is too long goes on in the next line, and the
    bits of a line's end are shown behind it."""
    found, line, column = [], 0, 0
    for character, cost in zip(characters, bits, strict=True):
        if column == COLUMNS:
            line, column = line + 1, 0
        if line == LINES:
            break
        found.append((line, column, " " if character == "\n" else character, float(cost)))
        column = COLUMNS if character == "\n" else column + 1
    return found


def _places(trained: Trained, results: Results) -> Picture:
    cost = results.arrays["places"]
    fig = pictures.figure(7.2, 3.2)
    axes = fig.add_subplot()
    axes.plot(np.arange(1, len(cost) + 1), cost, marker="o", ms=3)
    _levels(axes, results.numbers["bits"]["ngrams"][1:])
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set(xlabel="characters read before", ylabel="bits per character", ylim=(0, None))
    axes.grid(alpha=0.25)
    pictures.save(fig, trained.run.pictures / "places.png")
    return Picture(
        "places.png", "What the context is worth", "What a held-out character costs that is guessed from so many "
        "others (logarithmic scale); dashed: n-grams, which look at n − 1.",
        "A falling curve of bits per character against the number of characters read before.",
    )  # fmt: skip


def _levels(axes: Any, ngrams: list[Any]) -> None:
    """A dashed line for each n-gram's bits, with its name on the right."""
    for n, value in ngrams:
        axes.axhline(value, color="0.6", lw=0.9, ls="--", zorder=1)
        axes.annotate(f"{n}-gram", (1, value), xycoords=("axes fraction", "data"), xytext=(4, 0),
                      textcoords="offset points", fontsize=9, va="center")  # fmt: skip


def _loss(trained: Trained, results: Results) -> Picture:
    log = metrics_log.read(trained.run.metrics)
    bits = results.numbers["bits"]
    fig = pictures.figure(7.2, 3.4)
    axes = fig.add_subplot()
    pictures.curve(axes, log["step"], log["loss"], "training")
    axes.plot(trained.step, bits["heldout"], "o", color="tab:red", label="held out", clip_on=False, zorder=3)
    _levels(axes, bits["ngrams"])
    axes.set(xlabel="step", ylabel="bits per character", ylim=(0, None))
    axes.grid(alpha=0.25)
    axes.legend(frameon=False, loc="lower left")
    pictures.save(fig, trained.run.pictures / "loss.png")
    return Picture(
        "loss.png", "Loss", "Bits per character of the minibatches, as training goes on, beside n-grams of the "
        "same text, held out. Thin: every logged step; thick: its running mean.",
        "The training loss against the step, falling.",
    )  # fmt: skip
