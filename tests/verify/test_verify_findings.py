"""From evidence to verdicts, to the terminal, to the page."""

import io
import json

import pytest
from rich.console import Console

from scratchgen.train.signals import StopSignals
from scratchgen.verify import page, terminal
from scratchgen.verify.findings import as_json, findings
from scratchgen.verify.ledger import Equation, Ledger, LedgerError, Mutant, Slip, read_entries
from scratchgen.verify.session import _lines

TEX = r"\frac{a}{b}"
LEDGER = Ledger(
    {"L1": "The lecture"},
    {"toy": "Toys <b>"},
    {"toy.one": Equation("toy.one", "One", TEX, ("L1",), "here", ("scratchgen.a:f",), ("reference.a:g",), "why")},
    {"slip.one": Slip("slip.one", "Slip", ("L1",), "there", TEX, r"\frac{b}{a}", "toy.one", "why")},
    (Mutant("toy.one", "sign", "a.py", "x = a + b", "x = a - b"), Mutant("toy.one", "sign", "a.py", "c", "d")),
)
FACTS = {"backend": "numpy", "seconds": 1.0, "examples": "30", "date": "today", "versions": {"numpy": "2"}}


def line(**changes):
    usual = {
        "test": "t.py::test", "outcome": "passed", "message": "", "equations": ["toy.one"], "slips": [], "examples": 3,
        "nearest": {"float64": [1e-12, 1e-9, 1e-3]}, "share": -1.0, "backends": ["numpy"], "notes": {},
    }  # fmt: skip
    return usual | changes


SLIP = line(equations=[], slips=["slip.one"], nearest={},
            notes={"counter_example": {"a": "0.5"}, "printed": "1", "truth": "2"})  # fmt: skip
KILLED = [{"number": 0, "outcome": "killed", "by": "t.py::test"}, {"number": 1, "outcome": "killed", "by": "x"}]


def judge(tests=None, mutants=KILLED, trouble=()):
    return findings(LEDGER, tests or [line(), SLIP], mutants, list(trouble), FACTS)


def test_all_well():
    nearest = {"float64": [5e-10, 1e-9, 0.5], "float32": [1e-7, 1e-6, 0.1]}
    found = judge([line(), line(nearest=nearest, examples=7), SLIP])
    assert found.ok
    (_, tested), = found.equations
    assert (tested.tests, tested.examples) == (2, 10)
    assert tested.nearest == {"float64": (5e-10, 1e-9, 0.5), "float32": (1e-7, 1e-6, 0.1)}
    assert terminal.numbers(tested) == [("float64", "5.0e-10", "1.0e-09"), ("float32", "1.0e-07", "1.0e-06")]
    assert set(found.counts().values()) == {(1, 1), (2, 2)}


@pytest.mark.parametrize(
    ("what", "found"),
    [
        ("a failed test", judge([line(), line(outcome="failed", message="boom"), SLIP])),
        ("an equation without a test", judge([SLIP])),
        ("only a skipped test", judge([line(outcome="skipped"), SLIP])),
        ("an unproven slip", judge([line()])),
        ("a survivor", judge(mutants=[KILLED[0], {"number": 1, "outcome": "survived", "by": ""}])),
        ("a mutant that was not run", judge(mutants=KILLED[:1])),
        ("tests that did not run", judge(trouble=["the tests ended with code 3"])),
    ],
)  # fmt: skip
def test_what_is_not_well(what, found):
    assert not found.ok, what
    assert not as_json(found)["ok"]


def test_fewer_mutants_of_each_equation():
    assert len(LEDGER.with_mutants(None).mutants) == 2
    assert LEDGER.with_mutants(1).mutants == LEDGER.mutants[:1]
    assert not LEDGER.with_mutants(0).mutants
    assert findings(LEDGER.with_mutants(0), [line(), SLIP], [], [], FACTS).ok


def shown(found):
    out = io.StringIO()
    terminal.show(found, Console(file=out, width=100))
    return out.getvalue()


def test_the_terminal_says_what_failed_and_where():
    survivor = {"number": 1, "outcome": "survived", "by": ""}
    text = shown(judge([line(outcome="failed", message="E  boom"), SLIP], [KILLED[0], survivor]))
    assert "toy.one" in text
    assert "FAILS" in text
    assert "t.py::test: E  boom" in text
    assert "survived: toy.one: a.py: c → d" in text
    assert "0 of 1 equations hold" in text
    assert "a = 0.5: 1, not 2" in " ".join(text.split())


def test_no_comparison_is_a_dash_and_no_tolerance_is_exact():
    limit = line(share=0.5, nearest={"float64": [1e-12, 1e-9, 1e-3], "int64": [0, 0, 0]})
    assert terminal.numbers(judge([limit, SLIP]).equations[0][1])[1:] == [("limits", "50%", "100%")]
    asked, exact = line(nearest={}), line(nearest={"float64": [0.0, 0.0, 0.0]})
    assert terminal.numbers(judge([asked, SLIP]).equations[0][1]) == [("–", "–", "–")]
    assert terminal.numbers(judge([exact, SLIP]).equations[0][1]) == [("float64", "0.0e+00", "exact")]


def test_the_page_has_everything_and_needs_nothing():
    html = page.render(judge([line(outcome="failed", message="<script>"), SLIP]), LEDGER)
    assert html.count("<math") == 3
    assert "FAILS" in html
    assert "&lt;script&gt;" in html
    assert "Toys &lt;b&gt;" in html
    assert "x = a + b → x = a - b" in html
    for outside in ("src=", "http-equiv", "@import", "url(", "<script"):
        assert outside not in html
    assert all(href.startswith("#") for href in html.split('href="')[1:])


def test_json_has_no_nan():
    found = judge([line(outcome="failed", nearest={"float64": [float("nan"), 1e-9, float("inf")]}), SLIP])
    data = json.loads(json.dumps(as_json(found), allow_nan=False))
    assert data["equations"][0]["nearest"]["float64"] == {"error": "nan", "tolerance": 1e-9, "ratio": "inf"}


def test_json_can_be_read_back():
    data = json.loads(json.dumps(as_json(judge())))
    assert data["equations"][0]["verdict"] == "holds"
    assert data["slips"][0]["verdict"] == "proven"
    assert data["slips"][0]["nearest"] == {}
    assert [m["outcome"] for m in data["mutants"]] == ["killed", "killed"]


def test_a_mutant_shows_what_changes():
    assert LEDGER.mutants[0].change == "x = a + b → x = a - b"
    old = "f(a, b, c, d, e, g, h) + i * (j, k, l, m, n)" + " * some_other_factor" * 3
    long = Mutant("toy.one", "sign", "a.py", old, old.replace("+", "-"))
    assert long.change == ", g, h) + i * (j, → , g, h) - i * (j,"


def test_a_damaged_ledger_is_one_line(tmp_path):
    path = tmp_path / "equations.toml"
    good = 'id="a.b"\nname="n"\ntex="x"\nlectures=[]\nplace="p"\ncode=["c"]\noracle=["o"]\nwhy="w"\n'
    path.write_text("[[equation]]\n" + good)
    assert read_entries(path, "equation", Equation)[0].id == "a.b"
    for text, complaint in {
        "[[equation]]\n" + good.replace('tex="x"\n', ""): "equation a.b: lacks 'tex'",
        "[[equation]]\n" + good + 'colour="red"\n': "equation a.b: has no field 'colour'",
        "[[equation]]\n" + good.replace('code=["c"]', 'code="c"'): "code should be a list of strings",
        "[[equation]]\n" + good.replace('"w"', "3"): "why should be a string",
        "[[equation\n": "at line 1",
    }.items():
        path.write_text(text)
        with pytest.raises(LedgerError, match=complaint) as caught:
            read_entries(path, "equation", Equation)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)
    with pytest.raises(LedgerError, match="No such file"):
        read_entries(tmp_path / "absent.toml", "equation", Equation)


def test_half_a_line_is_not_read(tmp_path):
    path = tmp_path / "lines.jsonl"

    class Process:
        polls = iter(['{"a": 1}\n{"b"', ": 2}\n", None])

        def poll(self):
            text = next(self.polls)
            if text is not None:
                with path.open("a") as file:
                    file.write(text)
            return None if text is not None else 0

    with StopSignals() as stop:
        assert list(_lines(Process(), path, stop)) == [{"a": 1}, {"b": 2}]
