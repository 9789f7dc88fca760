"""TeX as MathML, and as one line that says the same."""

from xml.etree import ElementTree

import pytest

from scratchgen.verify.formula import mathml, plain
from scratchgen.verify.ledger import LedgerError

LINES = {
    r"\frac{a+b}{2c}": "(a + b)/(2c)",
    r"\frac{a}{b}": "a/b",
    r"-\tfrac12 x^2": "− ½x²",
    r"\sqrt{1-\bar\alpha_t}\,\varepsilon": "√(1 − ᾱₜ) ε",
    r"\tilde\mu_t": "μ̃ₜ",
    r"x_{t-1}": "xₜ₋₁",
    r"\sigma_{p,i}^2": "σ_{p,i}²",
    r"e^{-x^2/2}": "e^{−x²/2}",
    r"\log p(x)": "log p(x)",
    r"\log\det\Sigma": "log det Σ",
    r"\sum_i a_i": "∑ᵢaᵢ",
    r"p(x\mid z) \ge \int q": "p(x∣z) ≥ ∫q",
    r"\begin{cases} a & x<0\\ b & x\ge 0\end{cases}": "{a, x < 0; b, x ≥ 0",
}


@pytest.mark.parametrize(("tex", "line"), LINES.items())
def test_one_line(tex, line):
    assert plain(tex) == line


@pytest.mark.parametrize("tex", LINES)
def test_mathml_is_well_formed_and_whole(tex):
    root = ElementTree.fromstring(mathml(tex))
    assert root.tag.endswith("math")
    assert root.get("display") == "block"


def test_an_unknown_command_is_refused():
    with pytest.raises(LedgerError, match="cannot be rendered"):
        mathml(r"\nosuchcommand{x}")
