"""The forward process and its posterior, against composed kernels, conditioned Gaussians and Bayes on a grid."""

import numpy as np
import pytest
from diffusion_tools import (
    FEW,
    SOME,
    alpha_for_alpha_bar,
    betas,
    close,
    normal,
    one_late,
    schedule_of,
    seeds,
    tampered,
)  # fmt: skip
from evidence import agree, apart, at_most, host, lifted
from hypothesis import given
from hypothesis import strategies as st

import scratchgen as sg
from reference import diffusion as chain
from reference import samplers as R
from scratchgen.models.diffusion import process as on_backend

process = lifted(on_backend)
D = 3


def drawn(seed, n, shape=(2, D)):
    return list(normal(seed, n, *shape))


def noised(beta, t, x0, eps):
    """x_t from the mean and the covariance of t composed kernels."""
    means, covs = zip(*((m[t], c[t]) for m, c in (chain.forward_chain(beta, x) for x in x0)), strict=True)
    return np.stack([m + np.linalg.cholesky(c) @ e for m, c, e in zip(means, covs, eps, strict=True)])


@pytest.mark.equation("diffusion.forward_step")
@SOME
@given(betas(), seeds)
def test_one_step(beta, seed):
    schedule, (x,) = schedule_of(beta), drawn(seed, 1)
    for t in range(1, len(beta) + 1):
        q = process.q_step(schedule, x, t)
        for b in range(len(x)):
            means, covs = chain.forward_chain(beta[t - 1 : t], x[b])
            close(q.mean[b], means[1])
            close(q.var * np.eye(D), covs[1])


@pytest.mark.equation("diffusion.forward_step", "diffusion.forward")
@SOME
@given(betas(), seeds)
def test_steps_from_one_marginal_lead_to_the_next(beta, seed):
    """The library's own lines against one another: E q_step and its total variance are q_marginal, a step later."""
    schedule, (x0,) = schedule_of(beta), drawn(seed, 1)
    for t in range(1, len(beta) + 1):
        after = process.q_marginal(schedule, x0, t)
        if t == 1:
            mean, var = x0, 0.0
        else:
            mean, var = process.q_marginal(schedule, x0, t - 1)
        step = process.q_step(schedule, mean, t)
        slope = process.q_step(schedule, np.ones_like(x0), t).mean[0, 0]
        close(step.mean, after.mean)
        close(slope**2 * var + step.var, after.var)


@pytest.mark.equation("diffusion.forward")
@SOME
@given(betas(), seeds)
def test_the_marginal_composes_the_steps(beta, seed):
    """ᾱ has to come out of T kernels applied one after the other, as matrices."""
    schedule, (x0, eps) = schedule_of(beta), drawn(seed, 2)
    means, covs = chain.forward_chain(beta, x0[0])
    for t in range(1, len(beta) + 1):
        q = process.q_marginal(schedule, x0, t)
        close(q.mean[0], means[t])
        close(q.var * np.eye(D), covs[t])
        xt = process.q_sample(schedule, x0, t, eps)
        close(xt, noised(beta, t, x0, eps))
        close(xt, R.noised_input(x0, eps, t, beta), 1e-12, 1e-12)


@pytest.mark.equation(
    "diffusion.forward", "diffusion.posterior", "diffusion.mean_from_eps", "diffusion.predict_x0",
    "diffusion.predict_eps",
)  # fmt: skip
def test_every_example_has_its_own_time(xp):
    beta = np.linspace(0.05, 0.6, 7)
    schedule = schedule_of(beta)
    x0, eps, x = drawn(0, 3, (4, 2, 2, 1))
    t = np.array([7, 1, 3, 3])
    at_once = {
        "q_sample": process.q_sample(schedule, x0, t, eps),
        "posterior": process.posterior(schedule, x0, x, t).mean,
        "mean": process.mean_from_eps(schedule, x, eps, t),
        "clean": process.predict_x0(schedule, x, eps, t),
    }
    close(process.predict_eps(schedule, at_once["q_sample"], x0, t), eps)
    for b, time in enumerate(t):
        one = slice(b, b + 1)
        time = int(time)
        close(at_once["q_sample"][one], R.noised_input(x0[one], eps[one], time, beta))
        close(at_once["posterior"][one], R.mean_from_x0(x[one], x0[one], time, beta))
        close(at_once["mean"][one], R.mean_from_eps(x[one], eps[one], time, beta))
        close(at_once["clean"][one], R.predicted_x0(x[one], eps[one], time, beta))


@pytest.mark.equation("diffusion.posterior")
@SOME
@given(betas(), seeds)
def test_posterior_by_conditioning(beta, seed):
    schedule, (x0, xt) = schedule_of(beta), drawn(seed, 2)
    for t in range(1, len(beta) + 1):
        q = process.posterior(schedule, x0, xt, t)
        for b in range(len(x0)):
            mean, cov = chain.posterior(beta, t, x0[b], xt[b])
            close(q.mean[b], mean)
            close(q.var * np.eye(D), cov)


@pytest.mark.equation("diffusion.posterior")
@FEW
@given(betas(least=2), st.floats(-2, 2), st.floats(-2, 2), st.data())
def test_posterior_by_bayes_rule_on_a_grid(beta, x0, xt, data):
    t = data.draw(st.integers(2, len(beta)))
    q = process.posterior(schedule_of(beta), np.array([[x0]]), np.array([[xt]]), t)
    mean, var = chain.posterior_on_grid(beta, t, x0, xt)
    agree(q.mean, [[mean]], 1e-9, 1e-9)  # the grid's own error is about 1e-11
    agree(q.var, var, 1e-9)


@pytest.mark.equation("diffusion.posterior")
@SOME
@given(betas())
def test_identities_of_the_posterior(beta):
    """A√ᾱ_t + B = √ᾱ_{t−1} and A²(1−ᾱ_t) + β̃_t = 1−ᾱ_{t−1}: noising, then looking back, changes nothing."""
    schedule, one, zero = schedule_of(beta), np.ones((1, 1)), np.zeros((1, 1))
    alpha_bar = host(schedule.alpha_bar)
    for t in range(1, len(beta) + 1):
        A = float(process.posterior(schedule, zero, one, t).mean.item())
        B = float(process.posterior(schedule, one, zero, t).mean.item())
        var = float(process.posterior(schedule, zero, zero, t).var)
        now, before = alpha_bar[t], alpha_bar[t - 1]
        agree(A * np.sqrt(now) + B, np.sqrt(before), 1e-12)  # a dozen roundings, and 1/(1 − ᾱ) ≤ 10³ of one
        agree(A**2 * (1 - now) + var, 1 - before, 1e-12, 1e-15)
        close([A, B, var], chain.posterior_gains(beta, t))
        at_most(0.0, var)
        assert var < beta[t - 1]
        assert float(on_backend.beta_tilde(schedule.at(t, one))) == var
    close(process.posterior(schedule, one, zero, 1).mean, 1, 0, 1e-12)


@pytest.mark.equation("diffusion.predict_x0", "diffusion.predict_eps")
@SOME
@given(betas(), seeds)
def test_noise_and_clean_image_imply_each_other(beta, seed):
    schedule, (x0, eps) = schedule_of(beta), drawn(seed, 2)
    for t in range(1, len(beta) + 1):
        xt = noised(beta, t, x0, eps)
        close(process.predict_x0(schedule, xt, eps, t), x0)
        close(process.predict_eps(schedule, xt, x0, t), eps)
        close(process.predict_x0(schedule, xt, x0, t), R.predicted_x0(xt, x0, t, beta))


@pytest.mark.equation("diffusion.mean_from_eps")
@SOME
@given(betas(), seeds)
def test_both_parameterisations_of_the_mean(beta, seed):
    """x_t made of x_0 and ε by composed kernels; the mean of x_{t−1} by conditioning on x_0 and x_t."""
    schedule, (x0, eps, other) = schedule_of(beta), drawn(seed, 3)
    for t in range(1, len(beta) + 1):
        xt = noised(beta, t, x0, eps)
        mean = process.mean_from_eps(schedule, xt, eps, t)
        close(mean, [chain.posterior(beta, t, a, b)[0] for a, b in zip(x0, xt, strict=True)])
        close(mean, R.mean_from_eps(xt, eps, t, beta), 1e-12, 1e-12)
        claimed = process.predict_x0(schedule, other, eps, t)
        close(process.mean_from_eps(schedule, other, eps, t), process.posterior(schedule, claimed, other, t).mean)


@pytest.mark.equation("diffusion.predict_eps")
@SOME
@given(betas(), seeds, st.floats(0.1, 3))
def test_clipping(beta, seed, size):
    """The corrected noise implies a clean image in [−1, 1]: the one nearest to what was implied before."""
    schedule, (xt, eps) = schedule_of(beta), drawn(seed, 2)
    xt = xt * size
    for t in range(1, len(beta) + 1):
        clipped = process.clip_eps(schedule, xt, eps, t)
        before, after = (R.predicted_x0(xt, e, t, beta) for e in (eps, clipped))
        close(after, np.clip(before, -1, 1))
        inside = np.abs(before) < 1
        close(clipped[inside], eps[inside])
        close(
            process.mean_from_eps(schedule, xt, clipped, t),
            R.mean_from_x0(xt, np.clip(before, -1, 1), t, beta),
        )


TWO = {  # every map of two arrays here
    "q_sample": lambda s, a, b, t: on_backend.q_sample(s, a, t, b),
    "predict_x0": on_backend.predict_x0,
    "predict_eps": on_backend.predict_eps,
    "q_step": lambda s, a, b, t: on_backend.q_step(s, a, t).mean,
    "q_marginal": lambda s, a, b, t: on_backend.q_marginal(s, a, t).mean,
    "posterior": lambda s, a, b, t: on_backend.posterior(s, a, b, t).mean,
    "mean_from_eps": on_backend.mean_from_eps,
    "clip_eps": on_backend.clip_eps,
}


@pytest.mark.parametrize("name", TWO)
def test_float32_in_float32_out(name, xp):
    """Each coefficient is computed in float64 and rounded once: four roundings of float32 in all."""
    schedule = schedule_of(np.linspace(1e-4, 0.02, 50))
    x0, eps = (v.astype(np.float32) for v in drawn(1, 2))
    for t in (1, 2, 50, np.array([1, 50])):
        f = lifted(lambda a, b, t: TWO[name](schedule, a, b, t))
        narrow, full = f(x0, eps, t), f(x0.astype(np.float64), eps.astype(np.float64), t)
        assert narrow.dtype == np.float32
        assert full.dtype == np.float64
        agree(narrow, full, 0, 4e-6 * max(1.0, np.abs(full).max()))
        assert process.q_marginal(schedule, x0, t).var.dtype == np.float32


@pytest.mark.parametrize("name", [name for name in TWO if name != "clip_eps"])
def test_gradients(name):
    """Each map is affine in both arrays: gradients of both orders by central differences."""
    with sg.backend("numpy"):
        schedule = schedule_of(np.array([0.1, 0.3, 0.2]))
        a, b = drawn(2, 2)
        for t in (1, 3, np.array([2, 3])):
            sg.check_grads(lambda a, b, t=t: TWO[name](schedule, a, b, t), (a, b), order=2)


def test_times_are_integers_where_the_images_are(xp):
    t = on_backend.times(4, xp.zeros((3, 2)))
    assert type(t) is type(xp.zeros(1))
    assert host(t).tolist() == [4, 4, 4]
    assert t.dtype == np.int64


WRONG = {
    "ᾱ for α": alpha_for_alpha_bar,
    "t − 1 for t": one_late,
    "β doubled": lambda s: tampered(s, beta=2 * s.beta),
    "ᾱ_t for ᾱ_{t−1}": lambda s: tampered(s, alpha_bar_before=s.alpha_bar),
    "β̃ for β": lambda s: tampered(
        s, beta=host(s.beta) * (1 - host(s.alpha_bar_before)) / np.maximum(1 - host(s.alpha_bar), 1e-9)
    ),
    "ᾱ for α in the step": lambda s: tampered(s, alpha=s.alpha_bar),
}
READS = {  # which slips each formula can feel at all
    "q_marginal": {"ᾱ for α", "t − 1 for t"},
    "q_step": {"ᾱ for α in the step"},
    "posterior": {"ᾱ for α", "t − 1 for t", "β doubled", "ᾱ_t for ᾱ_{t−1}", "β̃ for β", "ᾱ for α in the step"},
    "predict_x0": {"ᾱ for α", "t − 1 for t"},
    "mean_from_eps": {"ᾱ for α", "t − 1 for t", "β doubled", "β̃ for β", "ᾱ for α in the step"},
}


@pytest.mark.parametrize(("formula", "slip"), [(f, s) for f, slips in READS.items() for s in sorted(slips)])
def test_wrong_coefficients_would_be_seen(formula, slip):
    """Negative control: the library's own lines on a schedule with one row wrong fail the assertions above."""
    beta, t = np.array([0.1, 0.2, 0.15, 0.3]), 3
    x0, xt = drawn(5, 2)
    right, wrong = schedule_of(beta), WRONG[slip](schedule_of(beta))
    call = {
        "q_marginal": lambda s: process.q_marginal(s, x0, t).mean,
        "q_step": lambda s: process.q_step(s, x0, t).mean,
        "posterior": lambda s: process.posterior(s, x0, xt, t).mean,
        "predict_x0": lambda s: process.predict_x0(s, xt, x0, t),
        "mean_from_eps": lambda s: process.mean_from_eps(s, xt, x0, t),
    }[formula]
    oracle = {
        "q_marginal": lambda: np.stack([chain.forward_chain(beta, x)[0][t] for x in x0]),
        "q_step": lambda: np.sqrt(1 - beta[t - 1]) * x0,
        "posterior": lambda: np.stack(
            [chain.posterior(beta, t, a, b)[0] for a, b in zip(x0, xt, strict=True)]
        ),
        "predict_x0": lambda: R.predicted_x0(xt, x0, t, beta),
        "mean_from_eps": lambda: R.mean_from_eps(xt, x0, t, beta),
    }[formula]()
    close(call(right), oracle)
    apart(call(wrong), oracle, 1e-4)
