"""Schedules against loops, and against what their papers print."""

import math

import numpy as np
import pytest
from diffusion_tools import SOME, betas, host, schedule_of
from hypothesis import given
from hypothesis import strategies as st

from reference import samplers as R
from scratchgen.models.diffusion import Schedule, cosine, linear
from scratchgen.models.diffusion.schedule import SCHEDULES, pick


@SOME
@given(betas())
def test_rows_are_indexed_by_t(beta):
    schedule = schedule_of(beta)
    T = len(beta)
    assert schedule.T == T
    assert schedule.beta[0] == 0
    assert schedule.alpha_bar[0] == 1
    for t in range(T + 1):
        assert schedule.alpha_bar[t] == pytest.approx(R.alpha_bar(beta, t), rel=1e-14)
        if t:
            assert schedule.beta[t] == beta[t - 1]
            assert schedule.alpha[t] == 1 - beta[t - 1]
            assert schedule.alpha_bar_before[t] == schedule.alpha_bar[t - 1]


def test_coefficients_meet_a_batch(xp):
    schedule = schedule_of(np.linspace(0.1, 0.5, 5))
    t = xp.asarray(np.array([5, 1, 3]))
    c = schedule.at(t, xp.zeros((3, 2, 2, 1)))
    assert c.beta.shape == (3, 1, 1, 1)
    assert host(c.beta).ravel().tolist() == host(schedule.beta)[[5, 1, 3]].tolist()
    assert host(c.alpha_bar_before).ravel().tolist() == host(schedule.alpha_bar)[[4, 0, 2]].tolist()
    assert schedule.at(2, xp.zeros((3, 4))).alpha.shape == ()
    assert pick(schedule.beta, t, xp.zeros((3,))).shape == (3,)
    assert all(row.dtype == np.float64 for row in c)


def test_linear_at_1000_is_ho_et_al(xp):
    """β from 10⁻⁴ to 0.02 in equal steps (Ho et al. 2020, §4); there ᾱ_1000 ≈ 4·10⁻⁵."""
    schedule = linear(1000)
    by_loop = [1e-4 + (0.02 - 1e-4) * (t - 1) / 999 for t in range(1, 1001)]
    np.testing.assert_allclose(host(schedule.beta)[1:], by_loop, rtol=1e-13)
    assert host(schedule.alpha_bar)[1000] == pytest.approx(math.prod(1 - b for b in by_loop), rel=1e-11)
    assert host(schedule.alpha_bar)[1000] == pytest.approx(4.04e-5, rel=2e-3)


@SOME
@given(st.integers(21, 2000))
def test_linear_hardly_depends_on_T(T):
    """Σβ = (β_min + β_max)/2 whatever T, so ᾱ_T ≤ e^(−10.05); and −Σ ln(1−β) − Σβ is of order 1/T."""
    schedule = linear(T)
    assert schedule.beta[1:].sum() == pytest.approx(10.05, rel=1e-12)
    assert schedule.alpha_bar[T] <= math.exp(-10.05)
    assert np.all(np.diff(schedule.beta[1:]) > 0)


@SOME
@given(st.integers(1, 400), st.floats(0.001, 0.1))
def test_cosine(T, offset):
    """ᾱ_t = f(t)/f(0) up to the time where β is capped (Nichol & Dhariwal 2021, eq. 17)."""
    schedule = cosine(T, offset)
    f = [math.cos((t / T + offset) / (1 + offset) * math.pi / 2) ** 2 for t in range(T + 1)]
    for t in range(1, T + 1):
        beta = min(1 - f[t] / f[t - 1], 0.999)
        assert schedule.beta[t] == pytest.approx(beta, abs=1e-13)
        if beta < 0.999:
            assert schedule.alpha_bar[t] == pytest.approx(f[t] / f[0], rel=1e-9)
    assert schedule.beta[T] == 0.999
    assert np.all(schedule.beta[1:] > 0)


def test_both_are_the_same_on_both_backends(xp):
    for make in SCHEDULES.values():
        schedule = make(50)
        assert type(schedule.beta) is type(xp.zeros(1))
        expected = R.alpha_bar(host(schedule.beta)[1:], 50)
        assert host(schedule.alpha_bar)[50] == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("beta", [[0.1, 0.0], [0.1, 1.0], [-0.1], [1.5], [float("nan")]])
def test_a_beta_outside_of_0_and_1_is_refused(beta, xp):
    with pytest.raises(ValueError, match="strictly between 0 and 1"):
        Schedule(xp.asarray(np.array(beta)))


@pytest.mark.parametrize("beta", [np.array([]), np.array([[0.1]]), np.array([0.1], np.float32)])
def test_what_is_no_row_of_float64_is_refused(beta, xp):
    with pytest.raises(ValueError, match="row of float64"):
        Schedule(xp.asarray(beta))


def test_a_linear_schedule_too_short_is_refused():
    with pytest.raises(ValueError, match=r"T = 20 .* beta_max"):
        linear(20)
    assert linear(21).T == 21
