"""The benchmarks' judge, their arithmetic, their files; nothing here depends on how long anything takes."""

import subprocess
import sys

import numpy as np
import pytest
from click.testing import CliRunner

from benchmarks import check, memory, report
from benchmarks.__main__ import main
from benchmarks.contenders import CONTENDERS
from benchmarks.measure import LIFTED, Plan, Row, Spread, Timing, environment, measure, spread
from benchmarks.worker import Failed, Worker

QUICK = Plan(steps=2, rounds=2, seconds=0.0, warm=0.0)


def answer():
    rng = np.random.default_rng(0)
    draw = lambda *shape: rng.standard_normal(shape).astype(np.float32)  # noqa: E731
    return {"loss": np.float32(1.5), "w": draw(5, 4), "b": draw(4), "small": 1e-7 * draw(3)}


def test_what_float32_explains_is_no_disagreement():
    right = answer()
    near = {name: np.float32(value * (1 + 2e-6)) for name, value in right.items()}
    assert check.disagreement(right, right) is None and check.disagreement(near, right) is None


@pytest.mark.parametrize(
    "name, factor", [("loss", 1 + 1e-5), ("w", 1 + 1e-4), ("b", -1), ("w", np.nan), ("loss", np.inf)]
)
def test_what_float32_does_not_explain_is_named(name, factor):
    wrong = answer()
    wrong[name] = np.float32(wrong[name] * factor)
    assert name in check.disagreement(wrong, answer())


def test_one_wrong_entry_a_shape_a_type_and_a_name_are_seen():
    right = answer()
    wrong = answer()
    wrong["w"].flat[np.abs(wrong["w"]).argmax()] *= 1.001
    assert check.disagreement(wrong, right)
    assert check.disagreement({**right, "w": right["w"].T}, right)
    assert check.disagreement({**right, "w": right["w"].astype(np.float64)}, right)
    assert check.disagreement({name: right[name] for name in ("loss", "w", "b")}, right)


def test_a_small_gradient_is_measured_against_the_whole():
    right = answer()
    assert check.disagreement({**right, "small": -right["small"]}, right) is None
    assert "small" in check.disagreement({**right, "small": right["small"] + np.float32(1e-3)}, right)


def row(ours, theirs):
    timing = lambda rounds: Timing(spread(rounds), len(rounds), rounds, {"peak": 60.0, "above_imports": 5.0}, [])  # noqa: E731
    return Row("small_ops", "Small", "torch", {"ours": timing(ours), "torch": timing(theirs)}, {"ours": 0.1},
               {"jax": "not installed: pip install jax"}, [0.0, 1.0])  # fmt: skip


def test_ratios_are_taken_round_by_round():
    """A machine that slows down threefold from one round to the next does not change them."""
    made = row([1.0, 3.0, 2.0], [2.0, 6.0, 4.0])
    assert made.reference == "ours"
    assert made.ratio("torch") == Spread(2.0, 2.0, 2.0) and made.ratio("ours") == Spread(1.0, 1.0, 1.0)
    assert row([1.0] * 5, [1.0, 2.0, 3.0, 4.0, 5.0]).ratio("torch") == Spread(2.0, 3.0, 4.0)


def test_the_replayed_step_is_the_unit_where_there_is_one():
    made = row([4.0], [2.0])
    made.timings["replayed"] = made.timings["torch"]
    assert made.reference == "replayed" and made.ratio("ours").median == 2.0


def test_results_can_be_saved_shown_drawn_and_put_into_a_page(tmp_path):
    about = report.facts(QUICK, {"OPENBLAS_CORETYPE": "Haswell"})
    report.save(tmp_path / "new" / "b.json", about, [row([1.0, 1.2], [0.5, 0.5])])
    page = tmp_path / "page.md"
    page.write_text(f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n")
    picture = tmp_path / "b.png"
    arguments = ["--again", tmp_path / "new" / "b.json", "--page", page, "--picture", picture]
    shown = CliRunner().invoke(main, list(map(str, arguments)), env={"COLUMNS": "200"})
    assert shown.exit_code == 0, shown.output
    text = page.read_text()
    assert text.startswith("before\n") and text.endswith("after\n") and "old" not in text
    missing = "JAX jit: not installed: pip install jax"
    for part in ("1100 ms", "×0.46 (0.44–0.48)", "5 (60)", "OPENBLAS_CORETYPE", missing):
        assert part in text and part in shown.output
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert report.load(tmp_path / "new" / "b.json")[1] == [row([1.0, 1.2], [0.5, 0.5])]


def test_a_page_without_a_place_is_left_alone(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("nothing\n")
    with pytest.raises(ValueError, match="has no place"):
        report.insert(page, "text")
    assert page.read_text() == "nothing\n"


@pytest.mark.parametrize("seconds, text", [(1.234e-4, "0.123"), (1.2e-3, "1.20"), (12.34e-3, "12.3"), (1.5, "1500")])
def test_three_digits(seconds, text):
    assert report.milliseconds(seconds) == text


def test_a_name_that_is_none_is_refused():
    result = CliRunner().invoke(main, ["--contenders", "ours,pytorch"])
    assert result.exit_code == 2 and "'pytorch' is not one of ours" in result.output


def test_pinned_kernels_and_threads_are_lifted(monkeypatch):
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Haswell")
    variables, lifted = environment()
    assert lifted["OPENBLAS_CORETYPE"] == "Haswell" and not set(variables) & set(LIFTED)


def test_the_peak_counts_what_was_freed():
    meter = memory.Meter()
    before = meter.look()
    array = np.ones(200 << 20, np.uint8)
    del array
    assert meter.look() >= before + 100


@pytest.mark.skipif(not memory.CLEAR.exists(), reason="the kernel's peak cannot be begun anew here")
def test_the_peak_counts_processes_only_beside_what_was_there_with_them():
    """200 MiB freed, then 100 MiB in another process: 200 in all; and 100 more when both are there."""
    meter, MiB = memory.Meter(), 1 << 20
    before = meter.look()
    array = np.ones(200 * MiB, np.uint8)
    del array
    code = "import sys; held = b'1' * (100 << 20); print('ready', flush=True); sys.stdin.read()"
    other = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert other.stdout.readline() == b"ready\n"
    try:
        meter.look()
        assert 150 <= meter.look() - before <= 250
        array = np.ones(200 * MiB, np.uint8)
        assert 290 <= meter.look() - before <= 390
        assert array.all()
    finally:
        other.communicate()


def test_a_measurement_from_end_to_end(monkeypatch):
    """Ours runs in a process of its own; who is not installed is a line in the table."""
    monkeypatch.setattr(type(CONTENDERS["autograd"]), "missing",
                        lambda entry: "not installed" if entry.package == "autograd" else None)  # fmt: skip
    made = measure("small_ops", ["ours", "autograd", "channels-last"], QUICK, lambda text: None)
    assert made.problems == {"autograd": "not installed"}
    timing = made.timings["ours"]
    assert timing.steps >= 2 and len(timing.rounds) == 2 and timing.seconds.low > 0
    assert timing.memory["peak"] > timing.memory["above_imports"] >= 0


def test_a_worker_that_fails_or_dies_says_so_in_one_line():
    worker = Worker("small_ops", "ours", 1, environment()[0])
    try:
        with pytest.raises(Failed, match="AttributeError: .*no attribute 'nonsense'"):
            worker.ask("nonsense")
        worker.process.kill()
        with pytest.raises(Failed, match="its process ended"):
            worker.ask("answer")
    finally:
        worker.close()
