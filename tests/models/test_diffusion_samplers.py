"""DDPM and DDIM number by number against transcriptions of their papers, with the noise injected."""

import numpy as np
import pytest
from diffusion_tools import (
    SOME,
    alpha_for_alpha_bar,
    betas,
    close,
    etas,
    handed_out,
    normal,
    one_late,
    pairs_of_times,
    schedule_of,
    seeds,
    some_eps,
    tampered,
)  # fmt: skip
from evidence import agree, apart, at_most, lifted
from hypothesis import given
from hypothesis import strategies as st

import scratchgen as sg
from reference import diffusion as chain
from reference import samplers as R
from scratchgen.models import diffusion

bound, ddim, ddpm, process = (lifted(getattr(diffusion, name)) for name in ("bound", "ddim", "ddpm", "process"))
SHAPES = st.sampled_from([(2, 1), (1, 3), (2, 2, 2, 1), (3, 2, 1, 2)])
VARIANCES = st.sampled_from(["beta", "beta_tilde"])


def oracle_step(xt, eps, z, t, s, beta, eta):
    if eta == "sigma_hat":
        return R.ddim_step_sigma_hat(xt, eps, z, t, s, beta)
    return R.ddim_step(xt, eps, z, t, s, beta, eta)


@pytest.mark.equation("ddim.step")
def test_no_room_for_a_direction_is_none_not_nan():
    """Where ᾱ_t vanishes σ(1)² is 1 − ᾱ_s, and the room that is left rounds to either side of 0."""
    before = np.linspace(0.01, 0.99, 99)
    rooms = []
    for at_s in before:
        schedule = schedule_of([1 - at_s, 1 - 1e-16, 1 - 1e-16])
        sigma, _ = ddim.sigmas(schedule, 3, 1, 1.0)
        rooms.append(float(1 - schedule.alpha_bar[1] - sigma * sigma))
        one = np.ones((1, 1))
        assert np.isfinite(ddim.step(schedule, one, one, 3, 1, 1.0, one)).all()
    assert min(rooms) < 0  # without the guard some would be NaN


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


@pytest.mark.equation("ddim.sigma")
@SOME
@given(betas(most=6), st.floats(0.01, 1))
def test_sigma_is_the_posteriors_deviation(beta, eta):
    """σ_t(1)² is the variance of x_s given x_t and x_0, by conditioning the chain; σ_t(η) is η of its root."""
    schedule = schedule_of(beta)
    for t, s in pairs_of_times(len(beta)):
        var = chain.posterior(beta, t, [0.4], [-0.7], s)[1].item() if s else 0.0
        for each in ddim.sigmas(schedule, t, s, eta):
            agree(each**2, eta**2 * var, 1e-10, 1e-14)  # the Schur complement subtracts numbers up to 1


@pytest.mark.equation("ddim.sigma_hat")
@SOME
@given(betas(most=6))
def test_sigma_hat_is_the_deviation_of_the_steps_between(beta):
    """σ̂² is the variance of x_t given x_s: kernels s + 1 … t, composed."""
    schedule = schedule_of(beta)
    for t, s in pairs_of_times(len(beta)):
        _, covs = chain.forward_chain(beta[s:t], [0.2])
        agree(ddim.sigmas(schedule, t, s, "sigma_hat")[1] ** 2, covs[-1].item(), 1e-12, 1e-14)


@pytest.mark.equation("ddim.step")
@SOME
@given(betas(most=6), seeds)
def test_a_ddim_step_with_eta_one_is_the_posterior(beta, seed):
    """Whatever steps are left out: mean and deviation of x_s by conditioning the chain on x_0 and x_t."""
    schedule = schedule_of(beta)
    x0, eps, z = normal(seed, 3, 1, 2)
    means, covs = chain.forward_chain(beta, x0[0])
    for t, s in pairs_of_times(len(beta)):
        xt = means[t] + np.sqrt(covs[t, 0, 0]) * eps
        mean, cov = chain.posterior(beta, t, x0[0], xt[0], s)
        expected = mean + (np.linalg.cholesky(cov) @ z[0] if s else 0)
        close(ddim.step(schedule, xt, eps, t, s, 1.0, z)[0], expected, 1e-9, 1e-9)


@pytest.mark.equation("ddim.step", "ddim.invert")
@SOME
@given(betas(most=6), seeds)
def test_ddim_without_noise_moves_along_one_noise(beta, seed):
    """x_t made of x_0 and ε by composed kernels; the step leads to the x_s of the same two, in both directions."""
    schedule = schedule_of(beta)
    x0, eps = normal(seed, 2, 1, 3)
    means, covs = chain.forward_chain(beta, x0[0])
    at = [m + np.sqrt(c[0, 0]) * eps for m, c in zip(means, covs, strict=True)]
    for t, s in pairs_of_times(len(beta)):
        close(ddim.step(schedule, at[t], eps, t, s, 0.0, None), at[s])
        close(ddim.step(schedule, at[s], eps, s, t, 0.0, None), at[t])


@pytest.mark.parametrize("eta", [-0.1, 1.01, "sigma", "sigma_tilde", float("nan")])
def test_an_eta_that_means_nothing_is_refused(eta):
    """Above 1 there would be no room for the direction in 1 − ᾱ_s."""
    with pytest.raises(ValueError, match="eta"):
        ddim.sigmas(schedule_of([0.1, 0.2]), 2, 1, eta)


@pytest.mark.equation("ddim.sigma_hat")
def test_sigma_hat_may_be_spelt_out():
    """As a file has it: equal to the constant, and not the same object."""
    schedule, spelt = schedule_of([0.1, 0.2]), "".join(["sigma", "_hat"])
    assert spelt is not diffusion.ddim.SIGMA_HAT
    agree(ddim.sigmas(schedule, 2, 1, spelt), ddim.sigmas(schedule, 2, 1, diffusion.ddim.SIGMA_HAT))


@pytest.mark.parametrize("s", [1, 2])
def test_noise_on_a_step_that_does_not_lead_back_is_refused(s):
    with pytest.raises(ValueError, match=f"from 1 to {s}"):
        ddim.sigmas(schedule_of([0.1, 0.2]), 1, s, 0.5)


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
        apart(end(eta, handed_out(zs[:10])), end(eta, handed_out(zs[10:])), 1e-4)


@pytest.mark.equation("ddim.step")
@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0, "sigma_hat"])
def test_no_noise_at_the_last_step_of_ddim(eta, xp):
    beta = np.array([0.2, 0.3])
    schedule = schedule_of(beta)
    xt, eps, z = normal(2, 3, 2, 3)
    for t in (1, 2):
        last = ddim.step(schedule, xt, eps, t, 0, eta, z)
        close(last, process.predict_x0(schedule, xt, eps, t))
        close(last, oracle_step(xt, eps, z, t, 0, beta, eta))
    _, hat = ddim.sigmas(schedule, 1, 0, "sigma_hat")
    apart(last + hat * z, oracle_step(xt, eps, z, 2, 0, beta, eta), 1e-4)


@pytest.mark.equation("ddim.step")
@SOME
@given(st.integers(1, 1200), st.data())
def test_sub_sequences(T, data):
    S = data.draw(st.integers(1, T))
    tau = ddim.sub_sequence(T, S)
    gaps = np.diff(tau)
    agree([tau[0], tau[-1], len(tau)], [0, T, S + 1])
    at_most(1 - gaps, 0)
    at_most(gaps.max() - gaps.min(), 2)  # each place is rounded by at most ½
    agree(tau, np.arange(S + 1) * T / S, 0, 0.5 + 1e-9)
    agree(ddim.sub_sequence(T, T), np.arange(T + 1))


@pytest.mark.parametrize("S", [0, -1, 11])
def test_sub_sequences_that_cannot_be(S):
    with pytest.raises(ValueError, match="not between 1 and T = 10"):
        ddim.sub_sequence(10, S)


@pytest.mark.equation("ddpm.step", "ddim.step")
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
    found = list(ddpm.sample(on_backend, schedule, xT, var, handed_out(zs), False))
    assert {x.dtype for x in found} == {np.dtype(np.float32)}
    close(found[-1], R.ddpm_chain(xT, on_host, zs, beta)[-1], 1e-5, 1e-5)
    for eta in (0.0, 0.3, "sigma_hat"):
        found = list(ddim.sample(on_backend, schedule, xT, 4, eta, handed_out(zs)))
        assert {x.dtype for x in found} == {np.dtype(np.float32)}
        expected = R.ddim_chain(
            xT, on_host, zs, ddim.sub_sequence(6, 4)[1:], beta, None if eta == "sigma_hat" else eta
        )
        close(found[-1], expected[-1], 1e-5, 1e-5)
    (*_, code) = ddim.invert(on_backend, schedule, found[-1], 6)
    assert code.dtype == np.float32


def test_gradients():
    """Each step is affine in all that it is given: gradients of both orders by central differences."""
    with sg.backend("numpy"):
        schedule = schedule_of(np.array([0.1, 0.3, 0.2]))
        sigma = np.sqrt(diffusion.bound.reverse_variance(schedule, "beta"))
        arrays = tuple(normal(8, 3, 2, 3))
        for t in (1, 3):
            sg.check_grads(lambda x, e, z, t=t: diffusion.ddpm.step(schedule, x, e, t, sigma, z), arrays, order=2)
        for eta in (0.0, 0.5, "sigma_hat"):
            sg.check_grads(lambda x, e, z, eta=eta: diffusion.ddim.step(schedule, x, e, 3, 1, eta, z), arrays, order=2)


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
    apart(ddpm.step(SLIPS[slip](right), xt, eps, t, sigma, z), oracle, 1e-4)


@pytest.mark.parametrize("slip", ["ᾱ for α", "t − 1 for t"])
@pytest.mark.parametrize("eta", [0.0, 0.5, "sigma_hat"])
def test_a_wrong_schedule_would_be_seen_in_ddim(slip, eta):
    beta = np.array([0.1, 0.2, 0.15, 0.3])
    xt, eps, z = normal(6, 3, 2, 3)
    right = schedule_of(beta)
    apart(ddim.step(SLIPS[slip](right), xt, eps, 4, 2, eta, z), oracle_step(xt, eps, z, 4, 2, beta, eta), 1e-4)


def test_other_slips_would_be_seen():
    beta = np.array([0.1, 0.2, 0.15, 0.3])
    schedule = schedule_of(beta)
    xt, eps, z = normal(7, 3, 2, 3)
    variance = {v: bound.reverse_variance(schedule, v) for v in ("beta", "beta_tilde")}
    oracle = R.ddpm_step(xt, eps, z, 3, beta, "beta_tilde")
    apart(ddpm.step(schedule, xt, eps, 3, np.sqrt(variance["beta"]), z), oracle, 1e-4)  # β for β̃
    apart(ddpm.step(schedule, xt, eps, 3, variance["beta_tilde"], z), oracle, 1e-4)  # σ² for σ
    apart(ddpm.step(schedule, xt, eps, 2, np.sqrt(variance["beta_tilde"]), z), oracle, 1e-4)  # t − 1 for t

    def misplaced(eta, t, s):
        """η² in the variance read as η in it; and η on the noise alone, the direction left at η = 1."""
        at_s = R.alpha_bar(beta, s)
        one, _ = ddim.sigmas(schedule, t, s, 1.0)
        x0 = process.predict_x0(schedule, xt, eps, t)
        for direction, noise in (
            (np.sqrt(eta) * one, np.sqrt(eta) * one),
            (one, eta * one),
            (0.0, eta * one),
        ):
            yield np.sqrt(at_s) * x0 + np.sqrt(1 - at_s - direction**2) * eps + noise * z

    oracle = R.ddim_step(xt, eps, z, 4, 2, beta, 0.5)
    for wrong in misplaced(0.5, 4, 2):
        apart(wrong, oracle, 1e-4)
    apart(ddim.step(schedule, xt, eps, 4, 3, 0.5, z), oracle, 1e-4)  # t − 1 for s
    apart(ddim.step(schedule, xt, eps, 4, 2, 1.0, z), R.ddim_step_sigma_hat(xt, eps, z, 4, 2, beta), 1e-4)
