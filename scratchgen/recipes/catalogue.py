"""What `scratchgen list` says of a recipe."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable
from pathlib import Path

from scratchgen.recipes.recipe import Recipe, flag
from scratchgen.train import CheckpointError, checkpoint

PACKAGE = Path(__file__).parents[2]
RESULTS = "evaluation.safetensors"
"""In a run folder: what `evaluate` found."""
SIZES = ("training steps", "parameters")
"""Facts that are no figures of quality."""


def entry(recipe: Recipe, run: Path) -> list[tuple[str, str]]:
    """(what, text) for each line.  run: the folder where its last figures may be."""
    lines = [("paper", recipe.paper), ("lectures", recipe.lectures or "none"), ("dataset", recipe.dataset),
             ("file", recipe.file), ("equations", ", ".join(equations(recipe)) or "none")]  # fmt: skip
    if recipe.options:
        lines.append(("sampling", " ".join(map(flag, recipe.options))))
    found = figures(run)[:2]
    return [*lines, ("last run", f"{'; '.join(f'{k} {v}' for k, v in found)}  ({run})")] if found else lines


def equations(recipe: Recipe) -> list[str]:
    """The ids of the verified equations that stand at the top of the recipe's file."""
    text = ast.get_docstring(ast.parse((PACKAGE / recipe.file).read_text(encoding="utf-8"))) or ""
    return re.findall(r"\(\d+\)\s+([a-z0-9_]+\.[a-z0-9_]+)", text)


def figures(run: Path) -> list[tuple[str, str]]:
    """What was found last, (what, value), the figure of quality and its floor first; nothing where no run is judged."""
    try:
        _, meta = checkpoint.load(run / RESULTS)
    except CheckpointError:
        return []
    return [(str(what), str(value)) for what, value in meta.get("facts", [])]


def table(recipes: Iterable[Recipe], runs: Path) -> str:
    """The figures of all systems that have been judged, as a table in Markdown: a row for each."""
    lines = ["| system | data | figure of quality | beside it |", "|---|---|---|---|"]
    for recipe in recipes:
        facts = [(what, value) for what, value in figures(runs / recipe.id) if what not in SIZES]
        found = [f"{what}: {value}".replace("|", "\\|") for what, value in facts]
        if found:
            lines.append(f"| [{recipe.id}]({recipe.file}) | {recipe.dataset} | {found[0]} | {'; '.join(found[1:])} |")
    return "\n".join(lines)
