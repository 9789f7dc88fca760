"""The oracles import nothing from the library they judge, and stay small enough to be read."""

import ast
import sys
from pathlib import Path

import pytest

FILES = sorted((Path(__file__).parents[2] / "reference").rglob("*.py"))
ALLOWED = {"numpy", "scipy", "reference", *sys.stdlib_module_names}
DYNAMIC = {"import_module", "__import__", "exec", "eval", "run_path", "run_module"}


def imported(source: str) -> set[str]:
    """Top-level packages a source file imports anywhere in it, and the dynamic imports it names."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add("(relative import)" if node.level else str(node.module).split(".")[0])
        elif isinstance(node, ast.Name | ast.Attribute):
            name = node.id if isinstance(node, ast.Name) else node.attr
            if name in DYNAMIC:
                found.add(name)
    return found


def test_there_are_files():
    assert len(FILES) >= 10


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_only_numpy_scipy_and_the_standard_library(path):
    assert imported(path.read_text(encoding="utf-8")) <= ALLOWED


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_readable(path):
    source = path.read_text(encoding="utf-8")
    assert len(source.splitlines()) < 250
    assert ast.get_docstring(ast.parse(source))


@pytest.mark.parametrize("source", [
    "import scratchgen", "import scratchgen.ops as ops", "from scratchgen.models import diffusion",
    "def f():\n    from scratchgen import ops", "from ..scratchgen import ops",
    "import importlib\nimportlib.import_module('scratch' + 'gen')", "__import__('scratchgen')",
])
def test_the_check_can_fail(source):
    assert not imported(source) <= ALLOWED
