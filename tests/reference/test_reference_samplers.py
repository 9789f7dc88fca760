"""The transcriptions of DDPM and DDIM: their own identities, and the paper's known special cases."""

import math

import numpy as np
import pytest

from reference import samplers as S

BETA = np.random.default_rng(0).uniform(0.01, 0.3, 12)


def draw(seed, n=3, shape=(2, 3)):
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(shape) for _ in range(n)]


def test_noising_is_undone_by_the_true_noise():
    x0, eps = draw(0, 2)
    for t in range(1, 13):
        xt = S.noised_input(x0, eps, t, BETA)
        np.testing.assert_allclose(S.predicted_x0(xt, eps, t, BETA), x0, atol=1e-13)


def test_both_means_agree_on_what_a_noise_prediction_implies():
    xt, eps = draw(1, 2)
    for t in range(1, 13):
        x0 = S.predicted_x0(xt, eps, t, BETA)
        from_x0 = S.mean_from_x0(xt, x0, t, BETA)
        np.testing.assert_allclose(S.mean_from_eps(xt, eps, t, BETA), from_x0, atol=1e-12)


def test_ddim_keeps_the_marginal():
    """A step from √ᾱ_t x₀ + √(1−ᾱ_t) ε has mean √ᾱ_prev x₀ and variance 1−ᾱ_prev, for every η."""
    (x0,) = draw(2, 1)
    zero = np.zeros_like(x0)
    for eta in (0.0, 0.3, 1.0):
        for t, t_prev in ((12, 11), (12, 3), (5, 0), (1, 0)):
            at = S.noised_input(x0, zero, t, BETA)
            mean = S.ddim_step(at, zero, zero, t, t_prev, BETA, eta)
            np.testing.assert_allclose(mean, math.sqrt(S.alpha_bar(BETA, t_prev)) * x0, atol=1e-13)
            one = np.ones(())
            gain_eps = S.ddim_step(S.noised_input(0 * one, one, t, BETA), one, 0 * one, t, t_prev, BETA, eta)
            gain_z = S.ddim_step(0 * one, 0 * one, one, t, t_prev, BETA, eta)
            assert gain_eps**2 + gain_z**2 == pytest.approx(1 - S.alpha_bar(BETA, t_prev), abs=1e-14)


def test_eta_one_is_ddpm_with_beta_tilde_and_sigma_hat_is_ddpm_with_beta():
    xt, eps, z = draw(3)
    for t in range(1, 13):
        np.testing.assert_allclose(S.ddim_step(xt, eps, z, t, t - 1, BETA, 1.0),
                                   S.ddpm_step(xt, eps, z, t, BETA, "beta_tilde"), atol=1e-12)
        np.testing.assert_allclose(S.ddim_step_sigma_hat(xt, eps, z, t, t - 1, BETA),
                                   S.ddpm_step(xt, eps, z, t, BETA, "beta"), atol=1e-12)
        assert S.ddim_sigma(BETA, t, t - 1, 1.0) ** 2 == pytest.approx(S.beta_tilde(BETA, t), abs=1e-15)
        assert S.ddim_sigma_hat(BETA, t, t - 1) ** 2 == pytest.approx(BETA[t - 1])


def test_noise_enters_every_step_but_the_last():
    xt, eps, z = draw(4)
    for t in range(1, 13):
        for step in (lambda z, t=t: S.ddpm_step(xt, eps, z, t, BETA, "beta"),
                     lambda z, t=t: S.ddpm_step(xt, eps, z, t, BETA, "beta_tilde"),
                     lambda z, t=t: S.ddim_step(xt, eps, z, t, t - 1, BETA, 1.0),
                     lambda z, t=t: S.ddim_step_sigma_hat(xt, eps, z, t, t - 1, BETA)):
            assert np.array_equal(step(z), step(2 * z)) == (t == 1)
        np.testing.assert_array_equal(S.ddim_step(xt, eps, z, t, t - 1, BETA, 0.0),
                                      S.ddim_step(xt, eps, 9 * z, t, t - 1, BETA, 0.0))


def test_sigma_hat_exceeds_sigma_and_eta_above_its_limit_is_refused():
    for t, t_prev in ((12, 11), (12, 4), (3, 1)):
        assert S.ddim_sigma_hat(BETA, t, t_prev) > S.ddim_sigma(BETA, t, t_prev, 1.0)
    xt, eps, z = draw(5)
    with pytest.raises(ValueError, match="exceeds"):
        S.ddim_step(xt, eps, z, 12, 2, BETA, 3.0)
    with pytest.raises(ValueError, match="variance"):
        S.ddpm_step(xt, eps, z, 3, BETA, "fixed")


def test_chains_take_the_steps_in_order_and_use_the_kept_times():
    xT, *zs = draw(6, 13)

    def eps_theta(x, t):
        return np.tanh(x) * math.cos(t)

    full = S.ddpm_chain(xT, eps_theta, zs, BETA, "beta_tilde")
    ddim = S.ddim_chain(xT, eps_theta, zs, range(1, 13), BETA, 1.0)
    assert len(full) == len(ddim) == 13
    np.testing.assert_allclose(full[-1], ddim[-1], atol=1e-10)
    short = S.ddim_chain(xT, eps_theta, zs, [2, 7, 12], BETA, 0.0)
    by_hand = xT
    for t, t_prev in ((12, 7), (7, 2), (2, 0)):
        by_hand = S.ddim_step(by_hand, eps_theta(by_hand, t), 0 * xT, t, t_prev, BETA, 0.0)
    np.testing.assert_array_equal(short[-1], by_hand)
    np.testing.assert_allclose(S.ddim_chain(xT, eps_theta, zs, range(1, 13), BETA, None)[-1],
                               S.ddpm_chain(xT, eps_theta, zs, BETA, "beta")[-1], atol=1e-10)
    for times in ([0, 3], [3, 3], [5, 2]):
        with pytest.raises(ValueError, match="increase"):
            S.ddim_chain(xT, eps_theta, zs, times, BETA, 0.0)


def test_squared_error_sums_over_pixels_and_keeps_examples_apart():
    a, b = draw(7, 2, (3, 2, 2, 1))
    np.testing.assert_allclose(S.squared_error(a, b), ((a - b) ** 2).sum((1, 2, 3)), rtol=1e-14)
