"""What tests say of themselves: nearness is remembered, NaN agrees with nothing, shapes must fit."""

import evidence
import numpy as np
import pytest

import scratchgen as sg
from scratchgen.backend import active


@pytest.fixture(autouse=True)
def record():
    evidence.begin()
    return evidence.record


def test_the_comparison_nearest_to_failing_is_remembered(record):
    evidence.agree(np.array([1.0, 2.4995]), np.array([1.0, 2.5]), atol=1e-3)
    evidence.agree(np.array([1.0]), np.array([1.0 + 3e-10]), rtol=1e-9)
    evidence.agree(np.float32(100), 100.0, atol=1e-3)
    assert record.nearest["float64"] == pytest.approx((2e-4, 4e-4, 0.5))  # relative to 2.5 …
    assert record.nearest["float32"] == (0.0, 1e-5, 0.0)  # … and to 100
    assert record.share == -1


def test_exact_agreement_has_no_error(record):
    evidence.agree(np.arange(3.0), np.arange(3.0))
    assert record.nearest == {"float64": (0, 0, 0)}
    with pytest.raises(AssertionError):
        evidence.agree(1.0, 1.0 + 1e-15)


@pytest.mark.parametrize("expected", [np.nan, 1.0])
def test_nan_agrees_with_nothing(expected, record):
    with pytest.raises(AssertionError):
        evidence.agree(np.array([np.nan]), np.array([expected]), atol=np.inf)
    with pytest.raises(AssertionError):
        evidence.at_most(np.nan, 1.0)
    assert record.share == np.inf


def test_infinities_agree_with_their_like():
    evidence.agree(np.array([np.inf]), np.array([np.inf]), rtol=1e-9)
    with pytest.raises(AssertionError):
        evidence.agree(np.array([np.inf]), np.array([-np.inf]), rtol=1e-9)
    with pytest.raises(AssertionError):
        evidence.agree(np.array([1.0]), np.array([np.inf]), rtol=1e-9)


def test_shapes_must_fit():
    with pytest.raises(AssertionError):
        evidence.agree(np.zeros((2, 1)), np.zeros(2), atol=1.0)
    evidence.agree(np.zeros(4), 0.0)


def test_at_most(record):
    evidence.at_most(np.array([0.5, 0.25]), 1.0)
    assert record.nearest == {}
    assert record.share == 0.5


def test_a_statistic_is_told_apart_from_a_value(record):
    evidence.agree(np.array([1.0]), np.array([1.02]), atol=0.05)
    assert record.nearest == {}
    assert 0.39 < record.share < 0.41


def test_a_limit_is_a_limit(record):
    evidence.at_most(np.array([0.5, -3.0]), 1.0)
    assert record.share == 0.5
    with pytest.raises(AssertionError):
        evidence.at_most(1.5, 1.0)


def test_a_negative_control_must_differ():
    evidence.apart(1.0, 2.0, by=0.5)
    with pytest.raises(AssertionError, match="would not be seen"):
        evidence.apart(1.0, 1.1, by=0.5)
    with pytest.raises(AssertionError):
        evidence.apart(np.nan, 1.0, by=0.5)


def test_a_lifted_function_computes_where_arrays_live():
    def double(pair, *, scale):
        seen.append(type(pair[0]))
        return {"twice": pair[0] * scale, "n": 3}

    seen = []
    with sg.backend("strict"):
        got = evidence.lifted(double)((np.ones(2), "text"), scale=2.0)
        assert seen == [type(active().zeros(1))]
    assert isinstance(got["twice"], np.ndarray)
    assert got == {"twice": pytest.approx(2 * np.ones(2)), "n": 3}


def test_a_lowered_function_computes_in_numpy():
    def square(x):
        assert isinstance(x, np.ndarray)
        return x**2

    with sg.backend("strict") as xp:
        got = evidence.lowered(square)(xp.asarray(np.arange(3.0)))
        assert type(got) is type(xp.zeros(1))
