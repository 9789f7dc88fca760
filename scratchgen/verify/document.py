"""docs/equations.md, made from the ledger: `python -m scratchgen.verify.document`."""

from __future__ import annotations

from itertools import groupby

from scratchgen.train.atomic import write_atomically
from scratchgen.verify.ledger import ROOT, Equation, Ledger, Slip

PATH = ROOT / "docs" / "equations.md"
HEAD = """# The equations

Made from [`equations.toml`](equations.toml) and [`errata.toml`](errata.toml) by `python -m scratchgen.verify.document`;
`scratchgen verify` checks all of it. Each equation names the code that has it, and the oracle that judges that code.
"""

MISPRINTS = """## Misprints

As they stand in a lecture's text, beside what holds. ‡ marks what may be a slip of the text's extraction.
"""


def document(ledger: Ledger) -> str:
    """The whole ledger as Markdown, formulas in TeX between dollars."""
    parts = [HEAD, "".join(f"- **{name}** {title}\n" for name, title in ledger.lectures.items())]
    for family, rows in groupby(ledger.equations.values(), lambda e: e.id.split(".")[0]):
        parts.append(f"## {ledger.families.get(family, family)}\n")
        parts += [_equation(e) for e in rows]
    parts.append(MISPRINTS)
    parts += [_slip(s) for s in ledger.slips.values()]
    return "\n".join(parts)


def _equation(e: Equation) -> str:
    code, oracle = (", ".join(f"`{name}`" for name in names) for names in (e.code, e.oracle))
    where = f"{e.why} *{e.place}.*\n\nCode: {code}. Oracle: {oracle}."
    return f"### {e.name} · `{e.id}`\n\n$${_one_line(e.tex)}$$\n\n{where}\n"


def _slip(s: Slip) -> str:
    mark = " ‡" if s.extraction else ""
    forms = f"Printed: $${_one_line(s.printed)}$$\n\nHolds: $${_one_line(s.holds)}$$"
    return f"### {s.name}{mark} · `{s.id}`\n\n{forms}\n\n{s.why} *{s.place}.* Equation: `{s.equation}`.\n"


def _one_line(tex: str) -> str:
    return " ".join(tex.split())


if __name__ == "__main__":
    write_atomically(PATH, document(Ledger.load()).encode())
    print(f"see {PATH}")
