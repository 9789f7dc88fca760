"""What `scratchgen list` says of a recipe."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from scratchgen.recipes.recipe import Recipe, flag
from scratchgen.train import CheckpointError, checkpoint

PACKAGE = Path(__file__).parents[2]
RESULTS = "evaluation.safetensors"
"""In a run folder: what `evaluate` found."""


def entry(recipe: Recipe, run: Path) -> list[tuple[str, str]]:
    """(what, text) for each line.  run: the folder where its last figures may be."""
    lines = [("paper", recipe.paper), ("lectures", recipe.lectures or "none"), ("dataset", recipe.dataset),
             ("file", recipe.file), ("equations", ", ".join(equations(recipe)) or "none")]  # fmt: skip
    if recipe.options:
        lines.append(("sampling", " ".join(map(flag, recipe.options))))
    found = figures(run)
    return [*lines, ("last run", f"{'; '.join(f'{k} {v}' for k, v in found)}  ({run})")] if found else lines


def equations(recipe: Recipe) -> list[str]:
    """The ids of the verified equations that stand at the top of the recipe's file."""
    text = ast.get_docstring(ast.parse((PACKAGE / recipe.file).read_text(encoding="utf-8"))) or ""
    return re.findall(r"\(\d+\)\s+([a-z0-9_]+\.[a-z0-9_]+)", text)


def figures(run: Path) -> list[tuple[str, str]]:
    """The figure of quality that was found last, and its floor; nothing where there is no judged run."""
    try:
        _, meta = checkpoint.load(run / RESULTS)
    except CheckpointError:
        return []
    return [(str(what), str(value)) for what, value in meta.get("facts", [])[:2]]
