"""The probability of a bin under a Gaussian: against the integral of the density, far into the tails."""

import numpy as np
import pytest
from closed_forms import check_everywhere, check_finite, check_gradients, floats, over_event, seeds, uniform
from evidence import agree, at_most, host, lifted
from hypothesis import given
from hypothesis import strategies as st
from scipy import special

import scratchgen as sg
from reference import distributions as oracle
from reference.quadrature import integrate_panels
from scratchgen import distributions

gaussian = lifted(distributions.gaussian)

LEVELS = st.sampled_from([2, 3, 17, 256])


def grid(levels: int) -> np.ndarray:
    """All values of the grid, one per example: (levels, 1)."""
    return np.linspace(-1, 1, levels)[:, None]


def regime(x: float, mu: float, log_sigma: float, levels: int) -> str:
    """Which of the docstring's cases this is."""
    h, sigma = 1 / (levels - 1), np.exp(log_sigma)
    if abs(x) == 1:
        return "open"
    c, w = abs(x - mu) / sigma, h / sigma
    return "narrow" if w * (c + 1) < 0.5 else "tail" if c > w else "across"


@pytest.mark.equation("gaussian.discretised")
@given(levels=LEVELS, place=floats(0, 1), mu=floats(-2, 2), log_sigma=floats(-4, 5))
def test_bins_hold_the_integral_of_the_density(levels, place, mu, log_sigma):
    x = grid(levels)[[round(place * (levels - 1))]]
    got = gaussian.discretised_log_prob(x, mu, log_sigma, levels)
    want = oracle.discretised_gaussian_log_prob(x[:, 0], mu, np.exp(log_sigma), levels)
    # the integral is relative to 1e-11, so its logarithm absolute to that; rounding is relative to the value
    agree(got, want, rtol=1e-12, atol=3e-11)


@pytest.mark.equation("gaussian.discretised")
@given(levels=LEVELS, mu=floats(-3, 3), log_sigma=floats(-8, 20))
def test_the_bins_sum_to_one(levels, mu, log_sigma):
    log_p = gaussian.discretised_log_prob(grid(levels), mu, log_sigma, levels)
    at_most(log_p, 0.0)
    agree(np.exp(log_p).sum(), 1, atol=1e-12)


@pytest.mark.equation("gaussian.discretised")
@given(seed=seeds, levels=LEVELS, shape=st.sampled_from([(2,), (3, 2), (2, 2, 3)]))
def test_events_add_on_every_backend(seed, levels, shape):
    noise = np.random.default_rng(seed)
    x = (2 * noise.integers(0, levels, shape) / (levels - 1) - 1).astype(np.float32).astype(np.float64)
    mu, log_sigma = uniform(seed, shape, (-1.5, 1.5), (-5, 3))
    got = check_everywhere(lambda *a: gaussian.discretised_log_prob(*a, levels), x, mu, log_sigma)
    parts = gaussian.discretised_log_prob(x.reshape(-1), mu.reshape(-1), log_sigma.reshape(-1), levels)
    agree(got, over_event(parts.reshape(shape)), rtol=1e-13)


@pytest.mark.equation("gaussian.discretised")
@pytest.mark.parametrize("deviations", [5.0, 50.0, 500.0, 5e4, 5e7])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_open_bins_far_out_hold_scipys_tail(deviations, dtype):
    levels = 17
    mu, h = 0.5, 1 / 16
    log_sigma = np.array([np.log((1 - h - mu) / deviations)], dtype)
    got = gaussian.discretised_log_prob(np.ones(1, dtype), mu, log_sigma, levels)
    mirrored = gaussian.discretised_log_prob(-np.ones(1, dtype), -mu, log_sigma, levels)
    want = special.log_ndtr(-(1 - h - mu) / np.exp(log_sigma.astype(np.float64)))
    agree(got, want, rtol=3e-14 if dtype == "float64" else 3e-6)
    agree(got, mirrored)


@pytest.mark.equation("gaussian.discretised")
@pytest.mark.parametrize("levels", [17, 256])
@pytest.mark.parametrize("deviations", [8.0, 50.0, 500.0])
def test_inner_bins_far_out_hold_the_integral(levels, deviations):
    """Where Φ(b) − Φ(a) is 1 − 1; bins near the mean as well as far ones, wide and narrow for σ."""
    k = np.array([1, levels // 2, levels - 2])
    x = 2 * k / (levels - 1) - 1
    for distance in (0.5, 4.0):
        sigma = distance / deviations
        mu = x - distance
        got = gaussian.discretised_log_prob(x, mu, np.log(np.full(3, sigma)), levels)
        want = oracle.discretised_gaussian_log_prob(x, mu, sigma, levels)
        agree(got, want, rtol=1e-12, atol=3e-11)


@pytest.mark.equation("gaussian.discretised")
def test_no_digits_are_lost_where_one_form_takes_over_from_another():
    """Bins with w(c + 1) from 0.3 to 1.7, and with ends around the mean; near the borders, where each form is worst."""
    c, edge = (grid.ravel() for grid in np.meshgrid(np.linspace(0, 6, 7), np.linspace(0.3, 1.7, 29)))
    w = edge / (c + 1)
    got = gaussian.discretised_log_prob(np.zeros(len(c)), -0.5 * c / w, np.log(0.5 / w), 3)
    density = lambda u: np.exp(-0.5 * u**2) / np.sqrt(2 * np.pi)  # noqa: E731
    want = [np.log(integrate_panels(density, (m - r, m, m + r))) for m, r in zip(c, w, strict=True)]
    # c = 6 comes from μ and σ with an error of 1e-15, and e^(−c²/2) multiplies it by c²
    agree(got, np.array(want), atol=3e-13)


CASES = {
    "narrow": (0.25, 0.1, 0.0),
    "narrow, at the mean": (0.25, 0.25, 0.0),
    "narrow, far": (0.25, -3.75, 0.0),
    "across": (0.25, 0.23, -3.0),
    "across, at the mean": (0.25, 0.25, -3.0),
    "across, certain": (0.25, 0.25, -5.0),
    "tail": (0.25, -0.1, -2.0),
    "tail, 50 deviations": (0.25, -0.75, -3.912),
    "open, inside": (1.0, 1.3, -1.0),
    "open, outside": (1.0, 0.2, -1.0),
    "open, 50 deviations": (-1.0, 0.0, -3.912),
    "open, other side": (-1.0, 0.9, 1.0),
}


@pytest.mark.equation("gaussian.discretised")
@pytest.mark.parametrize("case", CASES)
def test_gradients_in_every_case(case):
    x, mu, log_sigma = CASES[case]
    assert regime(x, mu, log_sigma, 17) == case.split(",")[0]
    args = [np.array([v]) for v in (mu, log_sigma)]
    check_gradients(lambda m, s: gaussian.discretised_log_prob(np.array([x]), m, s, 17), *args)


@pytest.mark.equation("gaussian.discretised")
@pytest.mark.parametrize("log_sigma", [-4.0, -3.0, -2.0, -1.2])
def test_no_jump_between_the_cases(log_sigma):
    """Along μ the value and its slope move through all cases without a step: their differences are smooth."""
    mu = np.linspace(-0.6, 0.9, 3001)
    x, sigmas = np.full_like(mu, 0.25), np.full_like(mu, log_sigma)
    assert len({regime(0.25, m, log_sigma, 17) for m in mu}) > 1
    variable = sg.tensor(mu)
    value = gaussian.discretised_log_prob(x, variable, sigmas, 17)
    slope = host(sg.gradients(value.sum(), [variable])[0])
    # trapezoid: the integral of the slope over a step, up to step³/12 times the third derivative
    step = mu[1] - mu[0]
    rise = 0.5 * step * (slope[1:] + slope[:-1])
    third = np.abs(np.gradient(np.gradient(slope, step), step)).max()
    agree(np.diff(value.numpy()), rise, atol=step**3 / 12 * third * 1.5 + 1e-12)


@pytest.mark.equation("gaussian.discretised")
@pytest.mark.parametrize("levels", [2, 17, 256])
def test_extremes_are_finite_in_both_precisions(levels):
    """σ from e⁻²⁰ to e²⁰, means inside and outside: 5·10⁸ deviations away the value is −10¹⁷, and right."""
    x, mu, log_sigma = (
        a.reshape(-1) for a in np.meshgrid(
            np.linspace(-1, 1, levels)[[0, 1, levels // 2, -1]], [-1.0, -0.03, 0.0, 0.7, 3.0],
            np.linspace(-20, 20, 41), indexing="ij",
        )
    )  # fmt: skip
    _, low = check_finite(
        lambda m, s: gaussian.discretised_log_prob(x.astype(m.dtype), m, s, levels), mu, log_sigma
    )
    at_most(low, 0.0)


@pytest.mark.equation("gaussian.discretised")
def test_extremes_are_finite_to_second_order():
    for dtype in ("float32", "float64"):
        mu = sg.tensor(np.tile([-1.0, -0.03, 0.0, 3.0], 3).astype(dtype))
        x, log_sigma = np.zeros(12, dtype), sg.tensor(np.repeat([-20.0, 0.0, 20.0], 4).astype(dtype))
        value = gaussian.discretised_log_prob(x, mu, log_sigma, 17)
        slopes = sg.gradients(value.sum(), [mu, log_sigma], create_graph=True)
        for slope in slopes:
            assert all(np.isfinite(host(c)).all() for c in sg.gradients(slope.sum(), [mu, log_sigma]))


def test_nan_stays_nan():
    got = gaussian.discretised_log_prob(np.array([0.0, 1.0]), np.array([np.nan, 0.0]), np.zeros(2), 17)
    assert np.isnan(got).tolist() == [True, False]


def test_levels_below_two_and_misfits_are_refused():
    a = np.zeros((2, 2))
    with pytest.raises(ValueError, match="levels must be at least 2, got 1"):
        gaussian.discretised_log_prob(a, a, a, 1)
    with pytest.raises(ValueError, match=r"mu \(2,\) does not fit x \(2, 2\)"):
        gaussian.discretised_log_prob(a, np.zeros(2), a, 17)


# --- the hazard ---------------------------------------------------------------------------------------------


@pytest.mark.equation("gaussian.discretised")
@given(st.one_of(floats(0, 10), floats(0, 1e9)))
def test_hazard_against_the_scaled_complementary_error_function(t):
    """φ/Q is √(2/π)/erfcx(t/√2): a function of scipy's that the library does not use."""
    got = t + gaussian.hazard_excess(np.array([t]))
    # below 4, e^(−t²/2) multiplies rounding by t²
    agree(got, np.sqrt(2 / np.pi) / special.erfcx(t * np.sqrt(0.5)), rtol=1e-14)


@pytest.mark.equation("gaussian.discretised")
def test_the_hazard_keeps_its_digits_where_the_fraction_takes_over():
    t = np.linspace(2.5, 5.5, 301)
    agree(t + gaussian.hazard_excess(t), np.sqrt(2 / np.pi) / special.erfcx(t * np.sqrt(0.5)), rtol=1e-14)


@pytest.mark.equation("gaussian.discretised")
def test_excess_far_out_keeps_its_digits():
    """r → 1/t − 2/t³, the first terms of the asymptotic series; the next is 10/t⁵."""
    for dtype, digits in (("float64", 1e-14), ("float32", 3e-7)):
        t = np.array([1e4, 1e6, 1e9], dtype)
        agree(gaussian.hazard_excess(t) * t, 1 - 2 / t.astype(np.float64) ** 2, rtol=digits)


@pytest.mark.equation("gaussian.discretised")
@pytest.mark.parametrize("t", [0.1, 1.0, 3.9, 4.1, 30.0])
def test_hazard_gradients(t):
    check_gradients(gaussian.hazard_excess, np.array([t]))
    check_everywhere(gaussian.hazard_excess, np.array([t, t + 1]), tolerance=3e-5)
