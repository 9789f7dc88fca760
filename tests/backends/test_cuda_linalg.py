"""CuPy says nothing of a matrix without a Cholesky factor, unless it is asked to; here it is asked."""

import contextlib
import importlib.util
import sys
import types

import numpy as np
import pytest

STATE = {"linalg": "ignore"}


@contextlib.contextmanager
def errstate(*, linalg):
    before, STATE["linalg"] = STATE["linalg"], linalg
    try:
        yield
    finally:
        STATE["linalg"] = before


def cholesky(x):
    """As cupy.linalg.cholesky: a wrong result without a word, unless `errstate` says otherwise."""
    try:
        return np.linalg.cholesky(x)
    except np.linalg.LinAlgError:
        if STATE["linalg"] == "raise":
            raise
        return np.tril(x)


@pytest.fixture
def linalg(monkeypatch):
    """The module under test, over this CuPy."""
    cupy, cupyx = types.ModuleType("cupy"), types.ModuleType("cupyx")
    cupy.linalg = types.SimpleNamespace(cholesky=cholesky, inv=np.linalg.inv)
    cupyx.errstate = errstate
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    monkeypatch.setitem(sys.modules, "cupyx", cupyx)
    where = importlib.util.find_spec("scratchgen").submodule_search_locations[0] + "/cuda/linalg.py"
    spec = importlib.util.spec_from_file_location("linalg_over_a_fake", where)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.Linalg()


def test_a_matrix_that_is_not_positive_definite_raises(linalg):
    with pytest.raises(np.linalg.LinAlgError):
        linalg.cholesky(np.array([[1.0, 2.0], [2.0, 1.0]]))
    assert STATE["linalg"] == "ignore"
    np.testing.assert_array_equal(linalg.cholesky(4 * np.eye(2)), 2 * np.eye(2))


def test_the_others_are_cupys(linalg):
    assert linalg.inv is np.linalg.inv
    with pytest.raises(AttributeError):
        linalg.nonsense  # noqa: B018
