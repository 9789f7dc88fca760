"""Formula bugs that stand in public teaching code: here the library behaves, and the bug, written out, does not."""

from math import exp, sqrt

import numpy as np
import pytest
from chains import betas, carried, point, schedule_of
from evidence import agree, apart, down, lifted, up
from hypothesis import given
from hypothesis import strategies as st
from slips import TENTHS

import scratchgen as sg
from reference.distributions import kl_gaussian_hermite
from reference.layers import softmax as softmax_by_loops
from reference.quadrature import gaussian_expectation, panel_nodes
from reference.vq import loss_gradients
from scratchgen import functional, nn, ops
from scratchgen.autograd import primitive
from scratchgen.autograd.transforms import GradientError
from scratchgen.distributions import gaussian as gaussian_module
from scratchgen.models.diffusion import DDPM, DDPMConfig
from scratchgen.models.diffusion import ddim as ddim_module
from scratchgen.models.diffusion import ddpm as ddpm_module
from scratchgen.models.flows import change
from scratchgen.models.latent import quantise
from scratchgen.random import Generator

gaussian, ddim, ddpm = lifted(gaussian_module), lifted(ddim_module), lifted(ddpm_module)

SMALL = st.integers(-3, 3)


@pytest.mark.equation("gaussian.sample")
@given(mu=SMALL, log_var=st.sampled_from([1.0, -1.0, 2.0]))
def test_a_latent_is_drawn_with_the_deviation_not_with_exp_of_the_log_variance(mu, log_var):
    """The bug: z = μ + e^{log σ²}·ε.  The variance of z by Gauss–Hermite should be e^{log σ²}."""
    like = lambda eps, number: np.full_like(eps, number)  # noqa: E731

    def variance(draw):
        return gaussian_expectation(lambda eps: (draw(eps) - mu)[:, 0] ** 2, [0.0], [[1.0]])

    good = variance(lambda eps: gaussian.sample(None, like(eps, mu), like(eps, log_var), eps))
    bug = variance(lambda eps: mu + np.exp(log_var) * eps)
    agree(good, exp(log_var), rtol=1e-12)
    apart(bug, exp(log_var), by=0.2)


@pytest.mark.equation("ddpm.step", "ddim.step")
@given(beta=betas(1, 4), x0=SMALL, eps=SMALL, z=st.sampled_from([1.0, -1.0, 2.0]))
def test_the_last_step_adds_no_noise(beta, x0, eps, z):
    """The bug: σ_1·z at t = 1 too.  With the noise of x_1 known exactly, its last step must return x_0."""
    schedule = schedule_of(beta)
    x1 = point(sqrt(1 - beta[0]) * x0 + sqrt(beta[0]) * eps)
    sigma = up(np.sqrt([0.0, *beta]))
    good = ddpm.step(schedule, x1, point(eps), 1, sigma, point(z))
    bug = good + sqrt(beta[0]) * z
    agree(good, x0, atol=1e-13)
    for eta in (0.0, 1.0, ddim_module.SIGMA_HAT):
        agree(ddim.step(schedule, x1, point(eps), 1, 0, eta, point(z)), x0, atol=1e-13)
    apart(bug, x0, by=0.3)


UNET = nn.UNetConfig(channels=1, base=2, multipliers=(1,), attention=(), heads=1, groups=1, time=2)


class Listening(DDPM):
    """A DDPM whose network remembers the times it was asked for, and always guesses that there is no noise."""

    def eps_theta(self, xt, t):
        self.heard = down(t)
        return 0 * xt


def listening(T, pixels=1):
    return Listening(DDPMConfig(T=T, shape=(1, pixels, 1), unet=UNET), rng=Generator(0))


@pytest.mark.equation("ddpm.simple")
def test_every_time_up_to_T_is_trained():
    """The bug: `integers(1, T)`, which stops before T, so that the noisiest images are never seen in training.

    4,000 draws of 1 … 5: 800 each, with a deviation of 25; six of them, for five counts, is less than α = 1e-6.
    """
    T, n = 5, 4000
    model = listening(T)
    model.loss(up(np.zeros((n, 1, 1, 1), "f")), Generator(1))
    counted = np.bincount(model.heard, minlength=T + 1)
    agree(counted, [0, *[n / T] * T], atol=np.array([0, *[152] * T]))
    bug = np.bincount(down(Generator(1).integers(1, T, (n,))), minlength=T + 1)
    agree(bug[T], 0)
    apart(bug, counted, by=600)


class Given:
    """A generator that hands out one time for all and given noise."""

    def __init__(self, t, eps):
        self.t, self.eps = t, eps

    def integers(self, low, high, shape):
        return up(np.full(shape, self.t))

    def standard_normal(self, shape, dtype):
        return up(self.eps.reshape(shape).astype(dtype))


@pytest.mark.equation("ddpm.simple")
@given(seed=st.integers(0, 2**32 - 1), times=st.integers(2, 4))
def test_a_loss_does_not_grow_with_the_picture_or_the_batch(seed, times):
    """The bug: a sum over pixels, or over examples, where a mean is meant: the step grows with either.

    One noise, repeated to a picture and to a batch so many times as large; the network says 0.
    """
    eps = np.random.default_rng(seed).uniform(1, 2, (2, 1, 3, 1))
    wide, many = np.tile(eps, (1, 1, times, 1)), np.tile(eps, (times, 1, 1, 1))
    zeros = lambda noise: up(np.zeros(noise.shape))  # noqa: E731
    losses = [listening(4, e.shape[2]).loss(zeros(e), Given(2, e)).loss for e in (eps, wide, many)]
    one, larger, more = map(down, losses)
    agree(one, np.square(eps).mean((1, 2, 3)), rtol=1e-12)
    agree(larger, one, rtol=1e-12)
    agree(more.mean(), one.mean(), rtol=1e-12)  # the mean over the batch is the trainer's
    agree(np.square(wide).sum((1, 2, 3)) / np.square(eps).sum((1, 2, 3)), times, rtol=1e-12)
    apart(np.square(wide).sum((1, 2, 3)), one, by=1.0)
    apart(more.sum(), one.sum(), by=1.0)


@pytest.mark.equation("flow.change_of_variables")
@given(d=st.sampled_from([2.0, 0.5, -2.0]), b=SMALL)
def test_the_log_det_of_the_map_to_noise_is_added(d, b):
    """The bug: log p_z(z) − log |det J| for z = g(x), as if J were that of the map from noise to data.

    The density must integrate to 1; the bug's integrates to 1/d².
    """
    x, w = panel_nodes(np.linspace(-30, 30, 61))
    standard = lambda z: gaussian_module.log_prob(z, 0.0, 0.0)  # noqa: E731
    flow = change.Diagonal(up(np.array([d])), up(np.array([float(b)])))
    log_p = lifted(lambda x: change.log_prob(flow, standard, x))(x[:, None])
    z, log_det = lifted(flow.forward_and_log_det)(x[:, None])
    agree(np.exp(log_p) @ w, 1.0, rtol=1e-11)
    apart(np.exp(lifted(standard)(z) - log_det) @ w, 1.0, by=0.7)


@pytest.mark.equation("gaussian.kl_standard")
@given(mu=st.integers(1, 3), log_var=st.sampled_from([0.0, 1.0, -1.0]))
def test_the_kl_has_its_half(mu, log_var):
    """The bug: Σ (μ² + σ² − log σ² − 1), which weighs the prior twice as much as the data."""
    truth = kl_gaussian_hermite([mu], [[exp(log_var)]], [0.0], [[1.0]])
    agree(gaussian.kl_standard(point(mu), point(log_var))[0], truth, rtol=1e-12)
    apart(mu**2 + exp(log_var) - log_var - 1, truth, by=0.4)


@pytest.mark.equation("ddim.step")
@given(beta=betas(4, 8), x0=SMALL, eps=st.sampled_from([1.0, -1.0, 2.0]), S=st.integers(2, 3))
def test_a_sub_sequence_steps_to_the_time_kept_before_not_to_t_minus_1(beta, x0, eps, S):
    """The bug: ᾱ_{t−1} in a step that ends at τ_{i−1} < t − 1: the image is noisier than its time says.

    With the noise known exactly and η = 0, x_s must be √ᾱ_s·x_0 + √(1−ᾱ_s)·ε, by moments along the chain.
    """
    schedule, tau = schedule_of(beta), ddim_module.sub_sequence(len(beta), S)

    def at(s):
        gain, var = carried(beta[:s])
        return gain * x0 + sqrt(var) * eps

    noise = lambda x, t: 0 * x + eps  # noqa: E731
    walk = ddim_module.sample(noise, schedule, up(point(at(len(beta)))), S, 0.0, None)
    for x, s in zip(walk, tau[-2::-1], strict=True):
        agree(down(x), at(s), atol=1e-12)
    x = point(sqrt(carried(beta)[1]) * eps)  # x_0 = 0
    for t in tau[:0:-1]:
        x = ddim.step(schedule, x, point(eps), t, t - 1, 0.0, None)  # and on to the next kept time
    apart(x, 0.0, by=1e-3)


@pytest.mark.equation("vq.loss")
@given(seed=st.integers(0, 2**32 - 1), beta=TENTHS)
def test_beta_weighs_the_encoders_term_and_not_the_codebooks(seed, beta):
    """The bug: ‖sg[e] − E‖² + β·‖sg[E] − e‖²: the value is the same number, the codes learn β times as fast."""
    rng = np.random.default_rng(seed)
    E, codes, x = rng.uniform(1, 2, (3, 2)), rng.uniform(-2, -1, (2, 2)), np.zeros((3, 1))

    def gradients(total):
        def f(E, codes):
            e, _ = quantise.quantise(E, codes)
            return ops.sum(total(quantise.loss(up(x), up(x), E, e, beta)))

        return lifted(sg.grad(f, argnums=(0, 1)))(E, codes)

    good, bug = gradients(lambda terms: terms.loss), gradients(lambda terms: beta * terms.codebook + terms.commitment)
    truth = loss_gradients(x, lambda z: x, E, codes, beta)
    for found, wrong, expected in zip(good, bug, truth, strict=True):
        agree(found, expected, rtol=1e-8, atol=1e-8)
        apart(wrong, expected, by=0.1)


# --- a gradient that a test with ones cannot see -------------------------------------------------------------


@primitive(lambda g, y, _x: -y * (g - ops.sum(g * y, axis=-1, keepdims=True)))
def softmax_with_the_wrong_sign(xp, x, /):
    """softmax, and a derivative with a minus."""
    e = xp.exp(x - x.max(axis=-1, keepdims=True))
    return e / xp.sum(e, axis=-1, keepdims=True)


@primitive(lambda g, y, _x: y * ops.sum((1 - y) * g, axis=-1, keepdims=True) - y * (y.shape[-1] - 1))
def softmax_with_a_constant(xp, x, /):
    """softmax, and a derivative that has little to do with it."""
    e = xp.exp(x - x.max(axis=-1, keepdims=True))
    return e / xp.sum(e, axis=-1, keepdims=True)


@pytest.mark.parametrize("wrong", [softmax_with_the_wrong_sign, softmax_with_a_constant])
def test_an_upstream_gradient_of_ones_hides_what_random_directions_show(wrong):
    """Σ softmax = 1 whatever x is, so that its gradient is 0, and so is many a wrong one's."""
    x = np.array([[0.3, -1.2, 0.5], [2.0, 0.1, -0.4]])
    agree(lifted(functional.softmax)(x), [softmax_by_loops(row) for row in x], rtol=1e-13)

    def pulled(f, g):
        return down(sg.vjp(f, up(x))[1](up(g)))

    for f in (functional.softmax, wrong):
        agree(pulled(f, np.ones_like(x)), np.zeros_like(x), atol=1e-15)  # the test that sees nothing
    sg.check_grads(functional.softmax, (up(x),), order=2)
    with pytest.raises(GradientError, match="argument 0, order 1"):
        sg.check_grads(wrong, (up(x),))
    g = np.random.default_rng(0).standard_normal(x.shape)
    apart(pulled(wrong, g), pulled(functional.softmax, g), by=0.1)
