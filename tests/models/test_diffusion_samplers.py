"""DDPM and DDIM number by number against transcriptions of their papers, with the noise injected."""

import numpy as np
import pytest
from diffusion_tools import (
    SOME,
    alpha_for_alpha_bar,
    betas,
    close,
    differs,
    etas,
    handed_out,
    host,
    normal,
    one_late,
    pairs_of_times,
    schedule_of,
    seeds,
    some_eps,
    tampered,
)  # fmt: skip
from hypothesis import given
from hypothesis import strategies as st

from reference import samplers as R
from scratchgen.models.diffusion import bound, ddim, ddpm, process

SHAPES = st.sampled_from([(2, 1), (1, 3), (2, 2, 2, 1), (3, 2, 1, 2)])
VARIANCES = st.sampled_from(["beta", "beta_tilde"])


def oracle_step(xt, eps, z, t, s, beta, eta):
    if eta == "sigma_hat":
        return R.ddim_step_sigma_hat(xt, eps, z, t, s, beta)
    return R.ddim_step(xt, eps, z, t, s, beta, eta)


# --- variances ----------------------------------------------------------------------------------------------


@SOME
@given(betas())
def test_reverse_variances(beta):
    """σ_t² = β_t or β̃_t by t; β̃_1 = 0 has β̃_2 in its place."""
    schedule, T = schedule_of(beta), len(beta)
    close(bound.reverse_variance(schedule, "beta"), np.concatenate([[0.0], beta]), 0, 0)
    tilde = [R.beta_tilde(beta, t) for t in range(1, T + 1)]
    tilde[0] = tilde[1] if T > 1 else beta[0]
    found = bound.reverse_variance(schedule, "beta_tilde")
    assert found.shape == (T + 1,)
    close(found[1:], tilde)
    assert np.all(found[1:] > 0)
    with pytest.raises(ValueError, match="'gamma' is neither"):
        bound.reverse_variance(schedule, "gamma")


def test_reverse_variances_on_both_backends(xp):
    schedule = schedule_of([0.1, 0.3, 0.2])
    for choice in ("beta", "beta_tilde"):
        found = bound.reverse_variance(schedule, choice)
        assert type(found) is type(xp.zeros(1))
        assert found.dtype == np.float64


# --- DDPM ---------------------------------------------------------------------------------------------------


@pytest.mark.equation("ddpm.step")
@SOME
@given(betas(), seeds, SHAPES, VARIANCES)
def test_ddpm_step(beta, seed, shape, variance):
    schedule = schedule_of(beta)
    xt, eps, z = normal(seed, 3, *shape)
    sigma = np.sqrt(bound.reverse_variance(schedule, variance))
    for t in range(1, len(beta) + 1):
        close(
            ddpm.step(schedule, xt, eps, t, sigma, z),
            R.ddpm_step(xt, eps, z, t, beta, variance),
            1e-11,
            1e-11,
        )


@pytest.mark.equation("ddpm.step")
@SOME
@given(betas(), seeds, SHAPES, VARIANCES)
def test_ddpm_chain(beta, seed, shape, variance):
    """All of Algorithm 2: which time each call gets, which noise, and none at the end."""
    schedule, T = schedule_of(beta), len(beta)
    xT, *zs = normal(seed, T + 1, *shape)
    on_backend, on_host = some_eps(T)
    noise = handed_out(zs)
    xs = list(ddpm.sample(on_backend, schedule, xT, bound.reverse_variance(schedule, variance), noise))
    expected = R.ddpm_chain(xT, on_host, zs, beta, variance)
    assert len(xs) == T
    assert noise.calls == T - 1
    for x, y in zip(xs, expected[1:], strict=True):
        close(x, y, 1e-9, 1e-9)


def test_no_noise_at_the_last_step_of_ddpm(xp):
    """Negative control: with the noise that the formula would have at t = 1, the image is another one."""
    beta = np.array([0.2, 0.3])
    schedule = schedule_of(beta)
    xt, eps, z = (xp.asarray(v) for v in normal(0, 3, 2, 3))
    sigma = xp.sqrt(bound.reverse_variance(schedule, "beta"))
    last = ddpm.step(schedule, xt, eps, 1, sigma, None)
    close(last, process.mean_from_eps(schedule, xt, eps, 1))
    close(last, ddpm.step(schedule, xt, eps, 1, sigma, z), 0, 0)
    assert differs(last + sigma[1] * z, R.ddpm_step(host(xt), host(eps), host(z), 1, beta))


# --- DDIM ---------------------------------------------------------------------------------------------------


@pytest.mark.equation("ddim.step", "ddim.sigma", "ddim.sigma_hat")
@SOME
@given(betas(most=6), seeds, SHAPES, etas)
def test_ddim_step(beta, seed, shape, eta):
    schedule = schedule_of(beta)
    xt, eps, z = normal(seed, 3, *shape)
    for t, s in pairs_of_times(len(beta)):
        found = ddim.step(schedule, xt, eps, t, s, eta, z)
        close(found, oracle_step(xt, eps, z, t, s, beta, eta), 1e-10, 1e-10)


@pytest.mark.equation("ddim.sigma", "ddim.sigma_hat")
@SOME
@given(betas(most=6), etas)
def test_sigmas(beta, eta):
    schedule = schedule_of(beta)
    for t, s in pairs_of_times(len(beta)):
        direction, noise = ddim.sigmas(schedule, t, s, eta)
        if eta == "sigma_hat":
            close([direction, noise], [R.ddim_sigma(beta, t, s, 1.0), R.ddim_sigma_hat(beta, t, s)])
        else:
            close([direction, noise], [R.ddim_sigma(beta, t, s, eta)] * 2)
        if s == t - 1 and s > 0 and eta in (1.0, "sigma_hat"):
            assert float(noise) ** 2 == pytest.approx(beta[t - 1] if eta != 1.0 else R.beta_tilde(beta, t))


@pytest.mark.parametrize("eta", [-0.1, 1.01, "sigma", float("nan")])
def test_an_eta_that_means_nothing_is_refused(eta):
    """Above 1 there would be no room for the direction in 1 − ᾱ_s."""
    with pytest.raises(ValueError, match="eta"):
        ddim.sigmas(schedule_of([0.1, 0.2]), 2, 1, eta)


@pytest.mark.equation("ddim.step")
@SOME
@given(betas(), seeds, SHAPES, etas, st.data())
def test_ddim_chain(beta, seed, shape, eta, data):
    schedule, T = schedule_of(beta), len(beta)
    S = data.draw(st.integers(1, T))
    tau = ddim.sub_sequence(T, S)
    xT, *zs = normal(seed, S + 1, *shape)
    on_backend, on_host = some_eps(T)
    noise = handed_out(zs)
    xs = list(ddim.sample(on_backend, schedule, xT, S, eta, noise))
    expected = R.ddim_chain(xT, on_host, zs, tau[1:], beta, None if eta == "sigma_hat" else eta)
    assert len(xs) == S
    assert noise.calls == (0 if eta == 0 else S - 1)
    for x, y in zip(xs, expected[1:], strict=True):
        close(x, y, 1e-9, 1e-9)


@pytest.mark.equation("ddim.step", "ddpm.step")
@pytest.mark.parametrize(("eta", "variance"), [(1.0, "beta_tilde"), ("sigma_hat", "beta")])
@SOME
@given(beta=betas(), seed=seeds)
def test_ddim_with_every_step_is_ddpm(eta, variance, beta, seed):
    """η = 1 is σ² = β̃ and σ̂ is σ² = β, along whole chains with the same noise."""
    schedule, T = schedule_of(beta), len(beta)
    xT, *zs = normal(seed, T + 1, 2, 3)
    on_backend, _ = some_eps(T)
    by_ddim = ddim.sample(on_backend, schedule, xT, T, eta, handed_out(zs))
    by_ddpm = ddpm.sample(
        on_backend, schedule, xT, bound.reverse_variance(schedule, variance), handed_out(zs)
    )
    for a, b in zip(by_ddim, by_ddpm, strict=True):
        close(a, b, 1e-8, 1e-8)


def test_eta_zero_is_deterministic_and_other_etas_are_not():
    schedule = schedule_of(np.linspace(0.05, 0.4, 6))
    xT, *zs = normal(1, 30, 2, 3)
    on_backend, _ = some_eps(6)

    def end(eta, noise):
        return list(ddim.sample(on_backend, schedule, xT, 3, eta, noise))[-1]

    assert np.array_equal(end(0.0, None), end(0.0, handed_out(zs)))
    for eta in (0.2, 1.0, "sigma_hat"):
        assert differs(end(eta, handed_out(zs[:10])), end(eta, handed_out(zs[10:])))


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0, "sigma_hat"])
def test_no_noise_at_the_last_step_of_ddim(eta, xp):
    beta = np.array([0.2, 0.3])
    schedule = schedule_of(beta)
    xt, eps, z = (xp.asarray(v) for v in normal(2, 3, 2, 3))
    for t in (1, 2):
        last = ddim.step(schedule, xt, eps, t, 0, eta, z)
        close(last, process.predict_x0(schedule, xt, eps, t))
        close(last, oracle_step(host(xt), host(eps), host(z), t, 0, beta, eta))
    _, hat = ddim.sigmas(schedule, 1, 0, "sigma_hat")
    assert differs(last + hat * z, oracle_step(host(xt), host(eps), host(z), 2, 0, beta, eta))


@SOME
@given(st.integers(1, 1200), st.data())
def test_sub_sequences(T, data):
    S = data.draw(st.integers(1, T))
    tau = ddim.sub_sequence(T, S)
    gaps = np.diff(tau)
    assert tau[0] == 0
    assert tau[-1] == T
    assert len(tau) == S + 1
    assert gaps.min() >= 1
    assert gaps.max() - gaps.min() <= 2  # each place is rounded by at most ½
    assert max(abs(k - i * T / S) for i, k in enumerate(tau)) <= 0.5
    assert ddim.sub_sequence(T, T) == list(range(T + 1))


@pytest.mark.parametrize("S", [0, -1, 11])
def test_sub_sequences_that_cannot_be(S):
    with pytest.raises(ValueError, match="not between 1 and T = 10"):
        ddim.sub_sequence(10, S)


def test_clipping_keeps_the_implied_image_in_range():
    """With clip the samplers follow a network whose x̂_0 is clipped: written out with the oracle's parts."""
    beta = np.linspace(0.05, 0.4, 5)
    schedule = schedule_of(beta)
    xT, *zs = 3 * normal(3, 6, 2, 3)
    on_backend, on_host = some_eps(5)

    def clipped(x, t):
        x0 = np.clip(R.predicted_x0(x, on_host(x, t), t, beta), -1, 1)
        ab = R.alpha_bar(beta, t)
        return (x - np.sqrt(ab) * x0) / np.sqrt(1 - ab)

    var = bound.reverse_variance(schedule, "beta_tilde")
    for found, expected in (
        (ddpm.sample(on_backend, schedule, xT, var, handed_out(zs), True),
         R.ddpm_chain(xT, clipped, zs, beta, "beta_tilde")),
        (ddim.sample(on_backend, schedule, xT, 3, 0.5, handed_out(zs), True),
         R.ddim_chain(xT, clipped, zs, ddim.sub_sequence(5, 3)[1:], beta, 0.5)),
    ):  # fmt: skip
        found = list(found)
        for x, y in zip(found, expected[1:], strict=True):
            close(x, y)
        assert np.abs(found[-1]).max() <= 1 + 1e-12
    free = list(ddim.sample(on_backend, schedule, xT, 3, 0.5, handed_out(zs)))
    assert np.abs(free[-1]).max() > 1.5


@pytest.mark.equation("ddim.invert")
@SOME
@given(betas(), seeds, st.data())
def test_inversion_step_by_step(beta, seed, data):
    """x_t = √ᾱ_t·x̂_0 + √(1−ᾱ_t)·ε at the point that is left, one number at a time."""
    schedule, T = schedule_of(beta), len(beta)
    S = data.draw(st.integers(1, T))
    tau = ddim.sub_sequence(T, S)
    (x0,) = normal(seed, 1, 2, 3)
    on_backend, on_host = some_eps(T)
    xs = list(ddim.invert(on_backend, schedule, x0, S))
    assert len(xs) == S
    x = x0
    for i in range(S):
        eps = on_host(x, max(tau[i], 1))
        x = R.noised_input(R.predicted_x0(x, eps, tau[i], beta) if tau[i] else x, eps, tau[i + 1], beta)
        close(xs[i], x, 1e-9, 1e-9)


def test_float32_and_backends(xp):
    beta = np.linspace(0.01, 0.2, 6)
    schedule = schedule_of(beta)
    xT, *zs = normal(4, 7, 2, 2, 2, 1).astype(np.float32)
    on_backend, on_host = some_eps(6)
    var = bound.reverse_variance(schedule, "beta")
    found = list(ddpm.sample(on_backend, schedule, xp.asarray(xT), var, handed_out(zs), False))
    assert {x.dtype for x in found} == {np.dtype(np.float32)}
    close(found[-1], R.ddpm_chain(xT, on_host, zs, beta)[-1], 1e-5, 1e-5)
    for eta in (0.0, 0.3, "sigma_hat"):
        found = list(ddim.sample(on_backend, schedule, xp.asarray(xT), 4, eta, handed_out(zs)))
        assert {x.dtype for x in found} == {np.dtype(np.float32)}
        expected = R.ddim_chain(
            xT, on_host, zs, ddim.sub_sequence(6, 4)[1:], beta, None if eta == "sigma_hat" else eta
        )
        close(found[-1], expected[-1], 1e-5, 1e-5)
    (*_, code) = ddim.invert(on_backend, schedule, found[-1], 6)
    assert code.dtype == np.float32


# --- negative controls --------------------------------------------------------------------------------------

SLIPS = {
    "ᾱ for α": alpha_for_alpha_bar,
    "t − 1 for t": one_late,
    "β doubled": lambda s: tampered(s, beta=2 * s.beta),
    "ᾱ for α in the step": lambda s: tampered(s, alpha=s.alpha_bar),
}


@pytest.mark.parametrize("slip", SLIPS)
def test_a_wrong_schedule_would_be_seen_in_ddpm(slip):
    beta, t = np.array([0.1, 0.2, 0.15, 0.3]), 3
    xt, eps, z = normal(5, 3, 2, 3)
    right = schedule_of(beta)
    sigma = np.sqrt(bound.reverse_variance(right, "beta"))
    oracle = R.ddpm_step(xt, eps, z, t, beta)
    close(ddpm.step(right, xt, eps, t, sigma, z), oracle)
    assert differs(ddpm.step(SLIPS[slip](right), xt, eps, t, sigma, z), oracle)


@pytest.mark.parametrize("slip", ["ᾱ for α", "t − 1 for t"])
@pytest.mark.parametrize("eta", [0.0, 0.5, "sigma_hat"])
def test_a_wrong_schedule_would_be_seen_in_ddim(slip, eta):
    beta = np.array([0.1, 0.2, 0.15, 0.3])
    xt, eps, z = normal(6, 3, 2, 3)
    right = schedule_of(beta)
    assert differs(
        ddim.step(SLIPS[slip](right), xt, eps, 4, 2, eta, z), oracle_step(xt, eps, z, 4, 2, beta, eta)
    )


def test_other_slips_would_be_seen():
    beta = np.array([0.1, 0.2, 0.15, 0.3])
    schedule = schedule_of(beta)
    xt, eps, z = normal(7, 3, 2, 3)
    variance = {v: bound.reverse_variance(schedule, v) for v in ("beta", "beta_tilde")}
    oracle = R.ddpm_step(xt, eps, z, 3, beta, "beta_tilde")
    assert differs(ddpm.step(schedule, xt, eps, 3, np.sqrt(variance["beta"]), z), oracle)  # β for β̃
    assert differs(ddpm.step(schedule, xt, eps, 3, variance["beta_tilde"], z), oracle)  # σ² for σ
    assert differs(ddpm.step(schedule, xt, eps, 2, np.sqrt(variance["beta_tilde"]), z), oracle)  # t − 1 for t

    def misplaced(eta, t, s):
        """η² in the variance read as η in it; and η on the noise alone, the direction left at η = 1."""
        at_s = schedule.alpha_bar[s]
        one, _ = ddim.sigmas(schedule, t, s, 1.0)
        x0 = process.predict_x0(schedule, xt, eps, t)
        for direction, noise in (
            (np.sqrt(eta) * one, np.sqrt(eta) * one),
            (one, eta * one),
            (0.0, eta * one),
        ):
            yield np.sqrt(at_s) * x0 + np.sqrt(1 - at_s - direction**2) * eps + noise * z

    for wrong in misplaced(0.5, 4, 2):
        assert differs(wrong, R.ddim_step(xt, eps, z, 4, 2, beta, 0.5))
    assert differs(
        ddim.step(schedule, xt, eps, 4, 3, 0.5, z), R.ddim_step(xt, eps, z, 4, 2, beta, 0.5)
    )  # t−1 for s
    assert differs(ddim.step(schedule, xt, eps, 4, 2, 1.0, z), R.ddim_step_sigma_hat(xt, eps, z, 4, 2, beta))
