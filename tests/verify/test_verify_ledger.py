"""The ledger is whole: every equation has code, oracle, test and mutant, and nothing claims an unknown one."""

import ast
import inspect
import re
import sys
from functools import cache

import pytest

from scratchgen.verify import document
from scratchgen.verify.formula import mathml, plain
from scratchgen.verify.ledger import ROOT, Ledger, files_by_id, resolve

LEDGER = Ledger.load()
FILES = files_by_id()
EQUATIONS = pytest.mark.parametrize("equation", LEDGER.equations.values(), ids=LEDGER.equations)
SLIPS = pytest.mark.parametrize("slip", LEDGER.slips.values(), ids=LEDGER.slips)
FORMULA_FOLDERS = ("scratchgen/distributions", "scratchgen/models", "scratchgen/metrics", "scratchgen/nn")


def docstrings(path):
    """Every docstring of a source file, with the line it stands on."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node):
            yield getattr(node, "lineno", 1), ast.get_docstring(node, clean=False)


def claimed(text):
    """The ids that a docstring names: family.name of a known family, or whatever follows an equation's number."""
    families = "|".join(sorted({id.split(".")[0] for id in LEDGER.equations}))
    numbered = re.findall(r"\(\d+[a-z]?\)  +([a-z_]+\.[a-z_0-9]+)", text)
    return set(numbered) | set(re.findall(rf"(?<![\w./])((?:{families})\.(?!py\b)[a-z_0-9]+)\b(?![(./])", text))


@EQUATIONS
def test_an_equation_has_code_and_an_oracle(equation):
    assert equation.code, "no code"
    assert equation.oracle, "no oracle"
    assert all(name.startswith("scratchgen.") and callable(resolve(name)) for name in equation.code)
    assert all(name.startswith("reference.") and callable(resolve(name)) for name in equation.oracle)


@cache
def definitions(path):
    """By name, what each top-level function, class or assignment of a file mentions, and the ids it is marked with."""
    found = {}
    for node in ast.parse(path.read_text("utf-8")).body:
        if isinstance(node, ast.Assign):
            defined = [name.id for target in node.targets for name in ast.walk(target) if isinstance(name, ast.Name)]
        else:
            defined = [getattr(node, "name", None)]
        used = {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}
        used |= {n.attr for n in ast.walk(node) if isinstance(n, ast.Attribute)}
        marks = {
            argument.value
            for call in ast.walk(node)
            if isinstance(call, ast.Call) and getattr(call.func, "attr", "") == "equation"
            for argument in call.args
            if isinstance(argument, ast.Constant)
        }
        found |= {name: (used, marks) for name in defined if name}
    return found


def mentioned(test, path):
    """All names that a test can reach through the functions of its own file and of the tools beside it."""
    tools = [p for p in path.parent.glob("*.py") if not p.name.startswith("test_")]
    reachable = {name: used for p in tools for name, (used, _) in definitions(p).items()}
    reachable |= {name: used for name, (used, _) in definitions(path).items()}
    seen, waiting = set(), [test]
    while waiting:
        new = reachable.get(waiting.pop(), set()) - seen
        seen |= new
        waiting += new
    return seen


@EQUATIONS
def test_an_equation_has_tests_that_use_its_oracle(equation):
    assert equation.id in FILES, "no test names it"
    names = set()
    for path in (ROOT / file for file in FILES[equation.id]):
        for test, (_, marks) in definitions(path).items():
            reached = mentioned(test, path)
            parameters = [definitions(path)[name][1] for name in reached if name in definitions(path)]
            if test.startswith(("test", "Test")) and equation.id in marks.union(*parameters):
                names |= reached
    unused = [name for name in equation.oracle if name.split(":")[1].split(".")[-1] not in names]
    assert not unused, "no test that is marked with it uses this oracle"


@EQUATIONS
def test_an_equation_stands_in_the_docstring_of_its_code(equation):
    for name in equation.code:
        function = resolve(name)
        module = sys.modules[name.split(":")[0]]
        text = (inspect.getdoc(function) or "") + (module.__doc__ or "")
        assert re.search(rf"(?<![\w.]){re.escape(equation.id)}\b", text), f"{name} does not say {equation.id}"


@EQUATIONS
def test_an_equation_can_be_read(equation):
    assert re.fullmatch(r"[a-z_0-9]+\.[a-z_0-9]+", equation.id)
    assert equation.id.split(".")[0] in LEDGER.families
    assert set(equation.lectures) <= set(LEDGER.lectures)
    assert equation.name
    assert equation.place
    assert equation.why
    assert "\n" not in equation.why
    assert mathml(equation.tex).startswith("<math")
    assert "\\" not in plain(equation.tex)


@EQUATIONS
def test_an_equation_has_a_mutant(equation):
    assert any(mutant.equation == equation.id for mutant in LEDGER.mutants)


@SLIPS
def test_a_slip_has_a_test_and_belongs_to_an_equation(slip):
    assert slip.id in FILES, "no test names it"
    assert slip.id not in LEDGER.equations
    assert slip.equation in LEDGER.equations
    assert set(slip.lectures) <= set(LEDGER.lectures)
    assert slip.lectures
    assert slip.why
    assert slip.place
    assert slip.printed != slip.holds
    for tex in (slip.printed, slip.holds):
        assert "\\" not in plain(tex)


def test_no_test_names_what_the_ledger_does_not_know():
    unknown = {id: files for id, files in FILES.items() if id not in LEDGER.equations and id not in LEDGER.slips}
    assert not unknown


@pytest.mark.parametrize("path", sorted((ROOT / "scratchgen").rglob("*.py")), ids=lambda p: str(p.relative_to(ROOT)))
def test_no_docstring_names_what_the_ledger_does_not_know(path):
    unknown = [(line, id) for line, text in docstrings(path) for id in claimed(text) if id not in LEDGER.equations]
    assert not unknown


def test_docstrings_are_searched():
    """A negative control: the search above finds the ids of a docstring, known or not."""
    assert claimed("  x = y   (3)  flow.no_such_thing\n") == {"flow.no_such_thing"}
    assert claimed("see gaussian.nonsense") == {"gaussian.nonsense"}
    assert claimed("see scratchgen.models.diffusion.process, gaussian.py, gaussian.log_prob(x)") == set()


def test_every_mutant_changes_one_place_of_the_source():
    for mutant in LEDGER.mutants:
        where = f"{mutant.source}: {mutant.equation}: {mutant.change}"
        assert mutant.equation in LEDGER.equations, where
        assert mutant.file.startswith(FORMULA_FOLDERS), where
        assert (ROOT / mutant.file).read_text("utf-8").count(mutant.old) == 1, where
        assert mutant.old != mutant.new, where


NO_FORMULA = {
    "distributions.events": {"per_example", "fitted", "same_shape", "same_precision", "alike", "bin_half_width"},
    "models.diffusion.ddim": {"denoise"},
    "models.diffusion.process": {"mix", "normals", "times"},
    "models.energy.metropolis": {"start", "fits", "random_walk"},
    "models.exact": {"gaussian"},
    "models.flows.change": {"begin"},
    "models.flows.coupling": {"network", "shuffle"},
    "models.flows.glow": {"scale"},
    "models.flows.images": {"squeezed"},
    "models.levels": {"meet", "time"},
    "models.score.network": {"network"},
    "models.score.score_sde": {"equation"},
    "models.score.sde": {"time_of"},
    "models.score.solvers": {"integrate", "adaptive"},
}
"""Public functions that state nothing: shapes, loops, noise."""


@pytest.mark.parametrize("folder", ["distributions", "models"])
def test_every_formula_is_in_the_ledger(folder):
    """No public function of the formula modules computes what the ledger does not have."""
    known = {name for e in LEDGER.equations.values() for name in e.code}
    for path in sorted((ROOT / "scratchgen" / folder).rglob("*.py")):
        module = ".".join(path.relative_to(ROOT / "scratchgen").with_suffix("").parts)
        for node in ast.parse(path.read_text("utf-8")).body:
            private = not isinstance(node, ast.FunctionDef) or node.name.startswith("_") or node.decorator_list
            if not private and node.name not in NO_FORMULA.get(module, ()):
                assert f"scratchgen.{module}:{node.name}" in known


def test_families_stand_together():
    order = list(dict.fromkeys(id.split(".")[0] for id in LEDGER.equations))
    assert [id.split(".")[0] for id in LEDGER.equations] == sorted(
        (id.split(".")[0] for id in LEDGER.equations), key=order.index
    )


def test_the_document_is_the_ledgers():
    """docs/equations.md is what `python -m scratchgen.verify.document` makes."""
    assert document.PATH.read_text("utf-8") == document.document(LEDGER)
