"""`scratchgen parity`: what it finds on the strict backend, and what it must find on backends that compute wrongly."""

import json

import numpy as np
import pytest
from pages import shown

from scratchgen import cli
from scratchgen.backend import get
from scratchgen.recipes import RECIPES, parity, parity_page
from scratchgen.recipes.fitted import FittedRecipe
from scratchgen.recipes.parity import Allowed, Finding, measure, reordered

SMALL = ("realnvp_2d", "gan", "rbm", "kmeans")
"""One player, two, one that draws in its loss, and one that is fitted."""


@pytest.fixture
def wrong(monkeypatch):
    """A function that puts another one of the strict backend's in its place: (name, right ↦ wrong)."""
    xp = get("strict")

    def put(name, change):
        monkeypatch.setitem(vars(xp), name, change(getattr(xp, name)))

    return put


def found(id, steps=2):
    return measure(RECIPES[id], "strict", steps, 4, lambda n: None)


@pytest.mark.parametrize("id", [id if id in SMALL else pytest.param(id, marks=pytest.mark.long) for id in RECIPES])
def test_the_strict_backend_gives_numpys_numbers(id):
    said = []
    finding = measure(RECIPES[id], "strict", 3, 4, said.append)
    assert finding.holds(), parity_page.complaints(finding)
    assert sum(said) == parity.work(RECIPES[id], 3)
    if isinstance(RECIPES[id], FittedRecipe):
        assert set(finding.errors) == {"float64 fit"}
        return
    assert set(finding.errors) == {f"{d} {w}" for d in ("float64", "float32") for w in ("loss", "gradient")}
    assert [step for step, _, _ in finding.way] == [1, 2, 3]
    assert 0 < finding.order["float64 gradient"] < parity.TIGHT / 10  # the yardstick is one, and within the bound
    assert finding.order["float32 gradient"] < finding.bounds.float32 / 2


# --- backends that compute wrongly --------------------------------------------------------------------------------


def test_a_product_that_is_a_little_off_is_caught_in_float64(wrong):
    wrong("matmul", lambda right: lambda a, b: right(a, b) * (1 + 3e-9))
    finding = found("gan")
    assert not finding.holds()
    assert finding.errors["float64 gradient"] > parity.TIGHT
    assert finding.errors["float32 gradient"] < finding.bounds.float32
    (line, *_) = parity_page.complaints(finding)
    assert line.startswith("gan: float64 loss of ") and "allowed 1e-10" in line


def test_products_in_tf32_are_caught_in_float32(wrong):
    """Ten bits of mantissa, of float32 operands only."""

    def short(x):
        if x.dtype != np.float32:
            return x
        return get("strict").asarray((x._a.view(np.int32) + (1 << 12) & ~0x1FFF).view(np.float32))

    wrong("matmul", lambda right: lambda a, b: right(short(a), short(b)))
    finding = found("realnvp_2d")
    assert not finding.holds()
    assert finding.errors["float64 gradient"] < parity.TIGHT
    assert finding.errors["float32 gradient"] > finding.bounds.float32


def test_other_noise_is_caught(wrong):
    wrong("noise_stream", lambda right: lambda drawn, key: right(drawn + 1, key))
    assert not found("gan").holds()


def test_a_gradient_that_is_forgotten_is_caught(wrong):
    """Only the gradient sums over the batch, of a bias."""
    wrong("sum", lambda right: lambda x, axis=None, keepdims=False: right(x, axis=axis, keepdims=keepdims) * (
        0 if axis in (0, (0,)) else 1))  # fmt: skip
    finding = found("realnvp_2d")
    assert finding.errors["float64 loss"] < parity.TIGHT < finding.errors["float64 gradient"]


def test_a_system_that_begins_with_a_minibatch_sees_a_whole_one():
    """Products of experts begin at 16 points; the minibatches compared here have four."""
    assert found("product_of_experts", steps=1).holds()


def test_a_number_that_is_none_is_caught(wrong):
    wrong("exp", lambda right: lambda x, **options: right(x, **options) * float("nan"))
    finding = found("realnvp_2d")
    assert finding.errors["float64 loss"] == float("inf")
    assert not finding.holds()
    json.dumps(parity_page.as_json([finding], {}), allow_nan=False)


def test_a_fit_that_is_off_is_caught(monkeypatch):
    linalg = get("strict").linalg
    right = linalg.svd
    monkeypatch.setattr(linalg, "svd", lambda *a, **k: [part * (1 + 1e-8) for part in right(*a, **k)])
    finding = found("pca")
    assert finding.errors["float64 fit"] > parity.TIGHT
    assert not finding.holds()
    assert not found_fit_of_other_shape().holds()


def found_fit_of_other_shape():
    finding = Finding("pca")
    finding.note("float64", "fit", {"mean": parity.difference(np.ones(3), np.ones((3, 1)))})
    return finding


def test_an_optimiser_that_goes_elsewhere_is_caught(wrong):
    """Loss and gradient are right, the steps are too long."""
    from scratchgen import optim

    right = optim.Adam.step

    def longer(self, gradient, lr=None):
        return right(self, gradient, lr=lr * (1.01 if self.flat.xp.name == "strict" else 1))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(optim.Adam, "step", longer)
        finding = found("realnvp_2d", steps=4)
    assert max(finding.errors.values()) < parity.TIGHT
    assert not finding.way_holds()
    assert not finding.holds()
    assert "the way parts by" in parity_page.complaints(finding)[0]


@pytest.mark.parametrize(("there", "other", "holds"), [
    (1e-5, 1e-6, True), (2e-3, 1e-6, False), (2e-3, 1e-4, True), (float("nan"), 1.0, False), (0.5, 0.01, False),
    (0.0, 0.0, True), (1e-4, float("nan"), False),
])  # fmt: skip
def test_how_far_a_way_may_part(there, other, holds):
    way = [(1, 0.0, 0.0), (2, there, other), (3, 0.0, 0.0)]
    assert Finding("x", way=way).way_holds() == holds
    assert Finding("x", way=way, bounds=Allowed(way=1.0)).way_holds() == np.isfinite(there + other)


def test_every_exception_names_a_system_and_a_reason():
    assert set(parity.ALLOWED) <= set(RECIPES)
    assert all(bounds.why and bounds != Allowed(why=bounds.why) for bounds in parity.ALLOWED.values())


def test_the_kernels_in_a_graph_give_numpys_numbers(cupy, monkeypatch):
    """On the CuPy made of NumPy: its kernels, the noise among them, and whole steps as graphs."""
    import host_graph

    world = host_graph.installed(monkeypatch)
    finding = measure(RECIPES["gan"], "cupy", 4, 4, lambda n: None)
    assert finding.holds(), parity_page.complaints(finding)
    assert sum("launch" in line for line in world.log) >= 4


# --- the yardstick ------------------------------------------------------------------------------------------------


def test_another_order_is_the_same_sum():
    xp, rng = get("numpy"), np.random.default_rng(0)
    a, b = (rng.standard_normal(s).astype(np.float32) for s in ((30, 400), (400, 20)))
    x, w = rng.standard_normal((2, 6, 6, 8)).astype(np.float32), rng.standard_normal((3, 3, 8, 8)).astype(np.float32)

    def computed():
        return [xp.matmul(a, b), xp.sum(a, axis=1), xp.mean(a), xp.sum(a, (0, 1), True),
                xp.correlate(x, w, 1, ((1, 1), (1, 1))), xp.matmul(a, b[:, 0])]  # fmt: skip

    plain = computed()
    with reordered():
        other = computed()
    for here, there in zip(plain, other, strict=True):
        assert np.shape(here) == np.shape(there)
        np.testing.assert_allclose(here, there, rtol=1e-4, atol=1e-4)
    assert not np.array_equal(plain[0], other[0])
    assert not np.array_equal(plain[1], other[1])
    with pytest.raises(ZeroDivisionError), reordered():
        raise ZeroDivisionError
    for here, there in zip(plain, computed(), strict=True):
        np.testing.assert_array_equal(here, there)


# --- the command --------------------------------------------------------------------------------------------------


def test_the_command_writes_table_numbers_and_page(tmp_path, capsys):
    given = ["parity", "realnvp_2d", "--backend", "strict", "--steps", "2", "--batch-size", "4"]
    assert cli.run([*given, "--report", str(tmp_path / "parity")]) == 0
    out = capsys.readouterr().out
    assert "NumPy against strict" in out and "holds" in out and "FAILS" not in out
    kept = json.loads((tmp_path / "parity" / "parity.json").read_text())
    assert kept["holds"] and kept["backend"] == "strict" and kept["steps"] == 2
    (system,) = kept["systems"]
    assert system["id"] == "realnvp_2d" and len(system["way"]) == 2
    assert "Parity of NumPy and strict" in shown(tmp_path / "parity", ["ways.png"])


def test_what_does_not_hold_is_said_with_code_1(tmp_path, wrong, capsys):
    wrong("matmul", lambda right: lambda a, b: right(a, b) * (1 + 3e-9))
    given = ["parity", "gan", "--backend", "strict", "--steps", "1", "--batch-size", "4", "--report", str(tmp_path)]
    assert cli.run(given) == 1
    assert "FAILS" in capsys.readouterr().out
    assert not json.loads((tmp_path / "parity.json").read_text())["holds"]


def test_without_a_device_it_is_one_line(tmp_path, monkeypatch, capsys):
    import sys

    monkeypatch.delitem(sys.modules["scratchgen.backend"]._loaded, "cupy", raising=False)
    monkeypatch.setitem(sys.modules, "cupy", None)
    assert cli.run(["parity", "--report", str(tmp_path / "none")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "CuPy is not installed" in line
    assert not (tmp_path / "none").exists()
    assert cli.run(["parity", "dppm", "--backend", "strict"]) == 2
    assert "did you mean 'ddpm'?" in capsys.readouterr().err
