"""What was found of a run: on the terminal, kept in its folder, and as its page."""

from __future__ import annotations

import click
import rich.console
import rich.table

from scratchgen.recipes.catalogue import RESULTS
from scratchgen.recipes.recipe import RecipeError, Results, Trained
from scratchgen.train import checkpoint
from scratchgen.train.report import Table


def judge(trained: Trained, thorough: bool) -> None:
    """Evaluate, say what was found, keep it, draw the page."""
    with trained.run.lock():
        results = trained.recipe.evaluate(trained, thorough)
        facts = trained.recipe.facts(trained, results)
        evaluation = {"step": trained.step, "numbers": results.numbers, "facts": facts}
        checkpoint.save(trained.run.path / RESULTS, results.arrays, evaluation)
        for found in trained.recipe.tables(trained, results):
            show(found)
        report(trained)


def show(found: Table) -> None:
    """A table on the terminal; floors and ceilings are dim."""
    shown = rich.table.Table(title=found.title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for i, head in enumerate(found.head):
        shown.add_column(head, justify="left" if i == 0 else "right")
    for i, row in enumerate(found.rows):
        shown.add_row(*row, style="dim" if i in found.marked else None)
    rich.console.Console().print(shown, "")


def report(trained: Trained) -> None:
    """Draw the page from what was kept.  Raises RecipeError where that is nothing, or of another step."""
    path, again = trained.run.path / RESULTS, f"scratchgen evaluate {trained.run.path}"
    if not path.exists():
        raise RecipeError(f"{trained.run.path}: has not been judged yet; {again} does that")
    arrays, meta = checkpoint.load(path)
    if not {"step", "numbers"} <= meta.keys():
        raise RecipeError(f"{path}: holds no evaluation; {again} makes one")
    if meta["step"] != trained.step:
        raise RecipeError(f"{path}: is of step {meta['step']}, the run is at {trained.step}; {again} judges it anew")
    try:
        with trained.run.lock():
            trained.recipe.report(trained, Results(arrays, meta["numbers"]))
    except KeyError as missing:
        raise RecipeError(f"{path}: lacks {missing}; {again} makes it anew") from missing
    click.echo(f"see {trained.run.index}")
