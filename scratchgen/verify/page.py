"""The findings as one page that needs no network: formulas as MathML, which browsers render themselves."""

from __future__ import annotations

from importlib import resources
from itertools import groupby

from jinja2 import Environment
from markupsafe import Markup

from scratchgen.verify.findings import HOLDS, KILLED, PROVEN, Findings
from scratchgen.verify.formula import mathml
from scratchgen.verify.ledger import Equation, Ledger, Slip
from scratchgen.verify.terminal import counter_example, numbers


def render(found: Findings, ledger: Ledger) -> str:
    """The page's HTML."""
    source = resources.files("scratchgen.verify").joinpath("page.html").read_text(encoding="utf-8")
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.globals |= {"HOLDS": HOLDS, "PROVEN": PROVEN, "KILLED": KILLED}
    environment.filters |= {
        "math": lambda tex: Markup(mathml(tex)),  # made by the converter from the ledger's TeX
        "numbers": numbers,
        "counter_example": counter_example,
        "short": short,
        "lectures": lambda entry: lectures(entry, ledger),
    }
    families = [
        (family, ledger.families.get(family, family), list(rows))
        for family, rows in groupby(found.equations, lambda row: row[0].id.split(".")[0])
    ]
    killed: dict[str, list] = {}
    for mutant in found.mutants:
        killed.setdefault(mutant[0].equation, []).append(mutant)
    return environment.from_string(source).render(found=found, families=families, killed=killed, ledger=ledger)


def short(name: str) -> str:
    """scratchgen.distributions.gaussian:kl as a reader looks for it: distributions/gaussian.py: kl."""
    module, _, function = name.partition(":")
    return f"{module.removeprefix('scratchgen.').replace('.', '/')}.py: {function}"


def lectures(entry: Equation | Slip, ledger: Ledger) -> str:
    """The full titles of an entry's lectures, for whoever hovers over their short names."""
    return "; ".join(ledger.lectures.get(name, name) for name in entry.lectures)
