"""TeX as a browser renders it (MathML), and as a terminal shows it (one line of Unicode)."""

from __future__ import annotations

import unicodedata
from functools import cache
from xml.etree import ElementTree

from scratchgen.verify.ledger import LedgerError

SUB = dict(zip("0123456789+-−=()aeijklmnoprstuvxβγρφχ", "₀₁₂₃₄₅₆₇₈₉₊₋₋₌₍₎ₐₑᵢⱼₖₗₘₙₒₚᵣₛₜᵤᵥₓᵦᵧᵨᵩᵪ", strict=True))
SUP = dict(zip("0123456789+-−=()aeijklmnoprstuvxT", "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁻⁼⁽⁾ᵃᵉⁱʲᵏˡᵐⁿᵒᵖʳˢᵗᵘᵛˣᵀ", strict=True))
ACCENTS = {"¯": "\u0304", "‾": "\u0304", "~": "\u0303", "˜": "\u0303", "^": "\u0302", "ˆ": "\u0302", "˙": "\u0307"}
HALVES = {("1", "2"): "½", ("1", "3"): "⅓", ("1", "4"): "¼"}
SPACED = set("=≈≤≥<>→∼∝⟺⇔≡≪∈≠") | {"≔"}
NAMESPACE = "{http://www.w3.org/1998/Math/MathML}"
ElementTree.register_namespace("", NAMESPACE[1:-1])
NAMES = {"log", "ln", "det", "exp", "min", "max", "sin", "cos", "tr", "arg", "sg"}


@cache
def mathml(tex: str) -> str:
    """A <math> element.  Raises LedgerError where the converter does not know a command."""
    from latex2mathml.converter import convert

    text = convert(tex, display="block")
    if "\\" in text:
        raise LedgerError(f"TeX that cannot be rendered: {tex}")
    root = ElementTree.fromstring(text)
    _space_names(root)
    return ElementTree.tostring(root, encoding="unicode")


def _space_names(node: ElementTree.Element) -> None:
    """log x, not logx: a thin space between the name of a function and an argument without brackets."""
    children = list(node)
    for place in range(len(children) - 1, -1, -1):
        _space_names(children[place])
        after = "".join(children[place + 1].itertext()) if place + 1 < len(children) else "("
        if _ends_in_name(children[place]) and not after.startswith(("(", "[", "|", "‖", ")", ",")):
            node.insert(place + 1, ElementTree.Element(NAMESPACE + "mspace", width="0.17em"))


def _ends_in_name(node: ElementTree.Element) -> bool:
    base = node[0] if node.tag.endswith(("msub", "munder", "msup")) and len(node) else node
    return base.tag.endswith("mi") and (base.text or "") in NAMES


@cache
def plain(tex: str) -> str:
    """One line of text: fractions with a slash and the brackets they need, short indices as Unicode's own."""
    text = _text(ElementTree.fromstring(mathml(tex)))
    return unicodedata.normalize("NFC", " ".join(text.split()))


def _text(node: ElementTree.Element) -> str:
    tag = node.tag.rsplit("}", 1)[-1]
    parts = [_text(child) for child in node]
    if tag in ("mi", "mn", "mo", "mtext"):
        return _leaf(tag, node.text or "")
    if tag == "mfrac":
        return HALVES.get((parts[0].strip(), parts[1].strip())) or f"{_group(parts[0])}/{_group(parts[1])}"
    if tag in ("msqrt", "mroot"):
        return "√" + _group("".join(parts))
    if tag in ("mover", "munder") and len(parts) == 2:
        if tag == "mover" and parts[1].strip() in ACCENTS and len(parts[0]) <= 2:
            return parts[0] + ACCENTS[parts[1].strip()]
        return parts[0] + _script("_", parts[1], SUB)
    if tag in ("msub", "msup"):
        return parts[0] + (_script("_", parts[1], SUB) if tag == "msub" else _script("^", parts[1], SUP))
    if tag in ("msubsup", "munderover"):
        return parts[0] + _script("_", parts[1], SUB) + _script("^", parts[2], SUP)
    if tag == "mtable":
        return "; ".join(parts)
    if tag == "mtr":
        return ", ".join(part.strip() for part in parts)
    return " " if tag == "mspace" else _joined(parts)


def _leaf(tag: str, text: str) -> str:
    if tag == "mo" and text in SPACED:
        return f" {text} "
    if tag == "mo" and text in ("+", "−", "-"):
        return f" {text.replace('-', '−')} "
    return text


def _joined(parts: list[str]) -> str:
    """Neighbours, with a space around the names of functions, which would run into their arguments."""
    out = ""
    for part in parts:
        named = part in NAMES or (out and out.split(" ")[-1] in NAMES)
        touching = out and part and (out[-1].isalnum() or out[-1] in ")") and part[0].isalnum()
        out += " " + part if named and (touching or part in NAMES) else part
    return out


def _script(sign: str, text: str, table: dict[str, str]) -> str:
    compact = text.replace(" ", "")
    if all(c in table for c in compact):
        return "".join(table[c] for c in compact)
    return f"{sign}{compact}" if len(compact) == 1 else f"{sign}{{{compact}}}"


def _group(text: str) -> str:
    """In brackets, unless it is one symbol with its indices."""
    text = text.strip()
    symbol = "".join(c for c in text if unicodedata.category(c) not in ("Mn", "Lm", "No"))
    return text if symbol.isdecimal() or (len(symbol) == 1 and symbol.isalpha()) else f"({text})"
