"""What was drawn, as a file: a grid of images, points of the plane, a text, or the numbers."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from scratchgen.recipes import pictures
from scratchgen.recipes.recipe import RecipeError, Trained
from scratchgen.train.atomic import write_atomically


def check(out: Path, trained: Trained) -> None:
    """Make the run's own folder of pictures.  Raises RecipeError for a file that cannot be written, before the work."""
    suffixes = trained.recipe.suffixes
    if out.suffix not in suffixes:
        raise RecipeError(f"--out {out}: the name must end in {' or '.join(suffixes)}")
    if out.parent == trained.run.pictures:
        out.parent.mkdir(exist_ok=True)
    if not out.parent.is_dir():
        raise RecipeError(f"--out {out}: there is no folder {out.parent}")


def write(out: Path, samples: Any) -> None:
    """Samples of a recipe, into a file of one of its suffixes."""
    if out.suffix == ".txt":
        write_atomically(out, texts(samples).encode())
    elif out.suffix == ".npy":
        held = io.BytesIO()
        np.save(held, samples)
        write_atomically(out, held.getvalue())
    else:
        pictures.save(_figure(samples), out)


def texts(samples: Sequence[str]) -> str:
    """Texts one below the other, each with a ruled line that says which it is."""
    rules = (f"──── {i} of {len(samples)} ────" for i in range(1, len(samples) + 1))
    return "".join(f"{rule}\n{text}\n\n" for rule, text in zip(rules, samples, strict=True))


def _figure(samples: np.ndarray) -> Any:
    if samples.ndim == 2 and samples.shape[1] == 1:
        fig = pictures.figure(6.0, 3.0)
        fig.add_subplot().hist(samples[:, 0], bins="auto", color="black")
        return fig
    if samples.ndim == 2:
        fig = pictures.figure(5.0, 5.0)
        pictures.points(fig.add_subplot(), samples)
        return fig
    columns = max(1, min(16, round(len(samples) ** 0.5)))
    fig = pictures.figure(6.0, 6.0 * (-(-len(samples) // columns)) / columns)
    pictures.show(fig.add_subplot(), pictures.tiles(samples, columns))
    return fig
