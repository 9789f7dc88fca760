"""The README's example runs, and prints what the README says it prints."""

import contextlib
import io
import re
from pathlib import Path

import pytest

from scratchgen.recipes import RECIPES
from scratchgen.verify.ledger import Ledger

README = Path(__file__).parents[1] / "README.md"


def test_the_example_prints_what_it_says():
    code, said = re.search(r"```python\n(.*?)```\n\n```\n(.*?)```", README.read_text(encoding="utf-8"), re.S).groups()
    assert len([line for line in code.splitlines() if line.strip()]) <= 12
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code, "README.md", "exec"), {})
    assert printed.getvalue() == said


@pytest.mark.parametrize("page", ["README.md", "docs/README.md", "docs/equations.md", "docs/mutants.md"])
def test_what_a_page_links_to_is_there(page):
    path = README.parent / page
    links = re.findall(r"\]\((?!http)([^)#]+)\)", path.read_text(encoding="utf-8"))
    missing = [link for link in links if not (path.parent / link).exists()]
    assert not missing


def test_it_counts_what_the_ledger_has():
    text, ledger = " ".join(README.read_text(encoding="utf-8").split()), Ledger.load()
    assert f"checks {len(ledger.equations)} equations" in text
    assert f"{len(ledger.mutants)} wrong formulas are put" in text
    assert f"proves {len(ledger.slips)} misprints" in text


def test_every_system_has_its_figure():
    text = README.read_text(encoding="utf-8").split("<!-- figures -->")[1].split("<!-- end of figures -->")[0]
    rows = re.findall(r"^\| \[(\w+)\]\(([\w/.]+)\) \| (\w+) \| .+: .+ \|$", text, re.M)
    assert rows == [(recipe.id, recipe.file, recipe.dataset) for recipe in RECIPES.values()]


def test_nothing_is_left_to_fill_in():
    assert "@@" not in README.read_text(encoding="utf-8")
