"""Hypothesis profiles, the backends that the engine's tests run on, and what a test of an equation reports.

HYPOTHESIS_PROFILE=ci        the default: the same examples every time, no deadline, no database
                   dev       few examples, for the edit-and-run cycle
                   nightly   many examples, other ones every time
                   mutants   few examples, and no shrinking: whether a test fails is all that is asked
HYPOTHESIS_EXAMPLES=N        ci, with N examples

SCRATCHGEN_BACKEND=NAME      tests of equations and slips run on that backend, as under `scratchgen verify`; all others
                             begin on NumPy, as without it.  Where there is a GPU, tests that take a backend run on
                             CuPy too, whatever is asked for

--equation=PATTERNS          only tests that verify an equation or slip whose id fits (diffusion.*,gaussian.kl)
--evidence=FILE              one line of JSON for each test of an equation or a slip, as it finishes
"""

import json
import os
import signal
import sys
from pathlib import Path

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as a shell's background job: Ctrl-C could not be tested
    signal.signal(signal.SIGINT, signal.default_int_handler)
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # read when NumPy is loaded; the workers are the parallelism
sys.path.insert(0, str(Path(__file__).parent))
sys.path.extend(map(str, sorted(Path(__file__).parent.glob("[!_.]*/"))))  # what tests of one folder share

import evidence
import pytest
from hypothesis import HealthCheck, Phase, settings

import scratchgen as sg
from scratchgen.backend import BackendError, get
from scratchgen.verify.ledger import Ledger, fits

SLOW = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
settings.register_profile("dev", max_examples=10, deadline=None, suppress_health_check=SLOW)
settings.register_profile(
    "ci", max_examples=int(os.environ.get("HYPOTHESIS_EXAMPLES") or 30), deadline=None, derandomize=True,
    database=None, suppress_health_check=SLOW, phases=[p for p in Phase if p is not Phase.explain],
)  # fmt: skip
settings.register_profile("nightly", max_examples=1500, deadline=None, suppress_health_check=SLOW)
settings.register_profile(
    "mutants", settings.get_profile("ci"), max_examples=12, report_multiple_bugs=False,
    phases=[Phase.explicit, Phase.generate],
)  # fmt: skip
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE") or "ci")


def usable(*names: str) -> list[str]:
    """Those backends that this machine has."""
    found = []
    for name in names:
        try:
            found.append(get(name).name)
        except BackendError:
            continue
    return found


BACKENDS = usable("numpy", "strict", "cupy")
ASKED = os.environ.get("SCRATCHGEN_BACKEND") or "numpy"


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    """The backend that was asked for is for tests of equations; others say themselves where they run."""
    if ASKED != "numpy":
        os.environ["SCRATCHGEN_BACKEND"] = ASKED if verified(item) else "numpy"
        sg.use(os.environ["SCRATCHGEN_BACKEND"])


@pytest.fixture(params=BACKENDS)
def backend(request):
    """A backend whose arrays the test uses; which one is active stays as it is."""
    return get(request.param)


@pytest.fixture(params=BACKENDS)
def xp(request):
    """The active backend: NumPy, the strict one, and CuPy where there is a GPU."""
    with sg.backend(request.param) as active:
        yield active


@pytest.fixture
def cupy(monkeypatch):
    """The CuPy backend, on a CuPy made of NumPy whose kernels are compiled for the host."""
    import host_cupy

    yield from host_cupy.installed(monkeypatch)


# --- equations and slips: which tests verify them, and what they saw -----------------------------------------


def pytest_addoption(parser):
    group = parser.getgroup("equations")
    group.addoption("--equation", metavar="PATTERNS", help="only tests of equations and slips that fit, as in a.b,c.*")
    group.addoption("--evidence", metavar="FILE", help="what each test of an equation saw, as lines of JSON")


def verified(item) -> list[str]:
    """The ids of the equations and slips that a test names."""
    return [id for mark in ("equation", "slip") for found in item.iter_markers(mark) for id in found.args]


def pytest_collection_modifyitems(config, items):
    patterns = config.getoption("--equation")
    if patterns:
        chosen = patterns.split(",")
        kept, others = [], []
        for item in items:
            wanted = any(fits(id, pattern) for id in verified(item) for pattern in chosen)
            (kept if wanted else others).append(item)
        config.hook.pytest_deselected(items=others)
        items[:] = kept


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    evidence.begin()
    handle = getattr(item.obj, "hypothesis", None)
    if handle is not None:
        handle.inner_test = counted(handle.inner_test)
    return (yield)


def counted(test):
    """The test that hypothesis calls for each example, counting those that it did not throw away."""
    if hasattr(test, "counts_examples"):
        return test

    def count(*args, **kwargs):
        result = test(*args, **kwargs)
        evidence.record.examples += 1
        return result

    count.counts_examples = True
    return count


def summary(item) -> dict:
    seen = evidence.record
    drawn = getattr(item.obj, "hypothesis", None) is not None
    return {
        "equations": [id for mark in item.iter_markers("equation") for id in mark.args],
        "slips": [id for mark in item.iter_markers("slip") for id in mark.args],
        "examples": seen.examples if drawn else 1, "nearest": seen.nearest, "share": seen.share,
        "backends": sorted(seen.backends), "notes": seen.notes,
    }  # fmt: skip


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if verified(item) and (report.when == "call" or report.failed):
        report.user_properties.append(("evidence", summary(item)))
    if verified(item) and report.failed:
        ledger = Ledger.load()
        report.sections += [(f"equation {id}", ledger.describe(id)) for id in verified(item)]
    return report


def pytest_configure(config):
    try:
        get(ASKED)
    except BackendError as error:
        raise pytest.UsageError(f"SCRATCHGEN_BACKEND={ASKED}: {error}") from None
    if not hasattr(config, "workerinput"):  # the one that reports, not a worker of pytest-xdist
        config.pluginmanager.register(Reporter(config.getoption("--evidence")), "equations")


def what_failed(report) -> str:
    """The first line of what a failed test raised."""
    if not report.failed:
        return ""
    crash = getattr(report.longrepr, "reprcrash", None)
    return (crash.message if crash else str(report.longrepr).strip()).split("\n")[0]


class Reporter:
    """Writes how many tests there are and the evidence of each, and says at the end which equations do not hold."""

    def __init__(self, path):
        self.file = open(path, "w", buffering=1) if path else None  # noqa: SIM115
        self.failed: dict[str, list[str]] = {}

    def write(self, **line):
        if self.file:
            self.file.write(json.dumps(line) + "\n")

    def pytest_collection_finish(self, session):
        if session.items:
            self.write(total=len(session.items))

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, node, ids):
        self.write(total=len(ids))

    def pytest_runtest_logreport(self, report):
        seen = dict(report.user_properties).get("evidence")
        if seen is None:
            return
        if report.failed:
            for id in seen["equations"] + seen["slips"]:
                self.failed.setdefault(id, []).append(report.nodeid)
        self.write(test=report.nodeid, outcome=report.outcome, message=what_failed(report), **seen)

    def pytest_terminal_summary(self, terminalreporter):
        if self.failed:
            ledger = Ledger.load()
            terminalreporter.section("equations that do not hold", red=True)
            for id, tests in sorted(self.failed.items()):
                terminalreporter.line(f"{ledger.describe(id)}\n    {len(tests)} tests failed, first {tests[0]}")

    def pytest_unconfigure(self):
        if self.file:
            self.file.close()
