"""The DDPM as a system: Algorithm 1 with the noise replayed, samplers from a seed, the bound, and training."""

import math

import numpy as np
import pytest
from ddpm_tools import TINY, _on, betas_of, images, make
from diffusion_tools import close, normal
from evidence import agree, apart, at_most, host
from scipy import stats

import scratchgen as sg
from reference import diffusion as chain
from reference import samplers as R
from scratchgen import ops, optim
from scratchgen.autograd import Tensor
from scratchgen.backend import active
from scratchgen.models.diffusion import DDPM, DDPMConfig, bound, ddim, process
from scratchgen.random import Generator

# --- the loss -----------------------------------------------------------------------------------------------


@pytest.mark.equation("diffusion.forward", "ddpm.simple", "ddpm.weighted", "diffusion.eps_weight")
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("sigma", ["beta", "beta_tilde"])
def test_the_loss_is_algorithm_1(weighted, sigma, xp):
    """Every number from the oracle but ε_θ itself, with t and ε replayed from the generator's state."""
    model = make(weighted=weighted, sigma=sigma)
    beta, x0, rng = betas_of(model), images(), Generator(3)
    state = rng.state()
    found = model.loss(x0, rng)
    again = Generator.from_state(state)
    t, eps = host(again.integers(1, 7, (5,))), host(again.standard_normal((5, 4, 4, 1), np.float64))
    assert rng.state() == again.state()  # nothing else was drawn
    assert t.min() >= 1
    assert t.max() <= 6
    net = model.frozen()
    mse, weights = [], []
    for b in range(5):
        time = int(t[b])
        xt = R.noised_input(host(x0)[b : b + 1], eps[b : b + 1], time, beta)
        guess = host(net.eps_theta(_on(xt), _on(t[b : b + 1])))
        mse.append(R.squared_error(eps[b : b + 1], guess)[0] / 16)
        var = beta[time - 1] if sigma == "beta" else R.beta_tilde(beta, max(time, 2))
        weights.append(measured_weight(beta, time, var))
    close(found.mse, mse, 1e-9, 1e-12)
    # the measured weights keep nine digits of the difference of two divergences
    close(found.loss, np.array(mse) * weights if weighted else mse, 1e-8 if weighted else 1e-9, 1e-12)
    assert found._fields[0] == "loss"
    assert type(found.loss) is Tensor


def measured_weight(beta, t, var, eps=0.3, eps_theta=-0.8, x0=0.4):
    """What a squared error costs in L_{t−1}: by divergences, and at t = 1 by the density of the continuous x_0."""
    if t > 1:
        return chain.noise_weight(beta, t, var, eps, eps_theta, x0)
    costs = [-stats.norm.logpdf(x0, mean_claimed(beta, 1, x0, eps, e), math.sqrt(var)) for e in (eps_theta, eps)]
    return (costs[0] - costs[1]) / (eps - eps_theta) ** 2


def mean_claimed(beta, t, x0, eps, guess):
    """The mean of x_{t−1} given x_t and the image that a guess of the noise in x_t claims, by conditioning."""
    means, covs = chain.forward_chain(beta, [1.0])
    gain, deviation = means[t, 0], math.sqrt(covs[t, 0, 0])
    xt = gain * x0 + deviation * eps
    return chain.posterior(beta, t, [(xt - deviation * guess) / gain], [xt])[0].item()


class Replayed:
    """A generator that hands out the times and the noise it is given."""

    def __init__(self, t, eps):
        self.integers = lambda low, high, shape: t
        self.standard_normal = lambda shape, dtype: eps


@pytest.mark.equation("ddpm.weighted")
@pytest.mark.parametrize("sigma", ["beta", "beta_tilde"])
def test_the_weighted_loss_is_what_the_bound_loses(sigma, xp):
    """Per pixel, the divergence at ε_θ less that at ε itself, both integrated: the loss at every t, no weight in it.

    At t = 1 x_0 is known, and −log p_θ(x_0 | x_1) stands for the divergence.  Then the same by measured weights.
    """
    T = 6
    model = make(weighted=True, sigma=sigma, levels=None)
    beta, net = betas_of(model), model.frozen()
    x0, eps, t = host(images(T)), normal(12, T, 4, 4, 1), np.arange(1, T + 1)
    found = host(model.loss(_on(x0), Replayed(_on(t), _on(eps))).loss)
    variances = {"beta": beta, "beta_tilde": [R.beta_tilde(beta, max(s, 2)) for s in t]}
    by_kl, by_weight, swapped = [], [], []
    for b in range(T):
        time, var = int(t[b]), variances[sigma][b]
        xt = R.noised_input(x0[b : b + 1], eps[b : b + 1], time, beta)
        guess = host(net.eps_theta(_on(xt), _on(t[b : b + 1])))
        lost = [lost_by_a_guess(beta, time, var, *pixel)
                for pixel in zip(x0[b].ravel(), eps[b].ravel(), guess.ravel(), strict=True)]  # fmt: skip
        by_kl.append(math.fsum(lost) / 16)
        error = R.squared_error(eps[b : b + 1], guess)[0] / 16
        by_weight.append(measured_weight(beta, time, var) * error)
        other = variances["beta_tilde" if sigma == "beta" else "beta"][b]
        swapped.append(measured_weight(beta, time, other) * error)
    # divergences of order 1 are integrated to 1e-12, and the loss is a difference of two
    agree(found, by_kl, 1e-9, 1e-10)
    agree(found, by_weight, 1e-8, 1e-10)
    apart(found, swapped, 1e-2)  # negative control: the other σ²


def lost_by_a_guess(beta, t, var, x0, eps, guess):
    """KL( q(x_{t−1} | x_t, x_0) ‖ p ) of one pixel for the guess of its noise, less that for the noise itself."""
    claimed, true = (mean_claimed(beta, t, x0, eps, e) for e in (guess, eps))
    p, best = (stats.norm(mean, math.sqrt(var)) for mean in (claimed, true))
    if t == 1:
        return best.logpdf(x0) - p.logpdf(x0)
    q = stats.norm(true, math.sqrt(chain.posterior(beta, t, [0.0], [0.0])[1].item()))
    return chain.kl_panels(q, p) - chain.kl_panels(q, best)


@pytest.mark.equation("ddpm.weighted")
@pytest.mark.parametrize("sigma", ["beta", "beta_tilde"])
def test_the_weighted_loss_has_the_gradient_of_the_bound(sigma, xp):
    """In every parameter of the network, T times the mean over t of eq. (3) pulls as the bound's terms do.

    The terms: divergences of q's posterior and the network's own Gaussian, the first for continuous data; per pixel.
    """
    T, pixels = 6, 16
    model = make(weighted=True, sigma=sigma, levels=None)
    x0 = _on(np.repeat(host(images(1)), T, axis=0))
    eps = _on(normal(11, T, 4, 4, 1))
    t = _on(np.arange(1, T + 1))

    by_loss = sg.gradients(ops.sum(model.loss(x0, Replayed(t, eps)).loss), model.parameters())
    xt = process.q_sample(model.schedule, x0, t, eps)
    guess = model.eps_theta(xt, t)
    terms = [bound.reconstruction_term(model.schedule, x0[:1], xt[:1], guess[:1], model.var, None)]
    for time in range(2, T + 1):
        one = slice(time - 1, time)
        terms.append(bound.transition_term(model.schedule, x0[one], xt[one], guess[one], time, model.var))
    by_bound = sg.gradients(sum(ops.sum(term) for term in terms) / pixels, model.parameters())
    largest = max(np.abs(host(g)).max() for g in by_bound)
    assert largest > 0.1
    for found, expected in zip(by_loss, by_bound, strict=True):
        # through a dozen layers, of terms that the weights, up to 20, multiply
        agree(found, expected, 1e-11, 1e-13 * largest)
    simple = make(sigma=sigma, levels=None)
    by_simple = sg.gradients(ops.sum(simple.loss(x0, Replayed(t, eps)).loss), simple.parameters())
    shares = [np.vdot(host(a), host(b)) / np.vdot(host(b), host(b)) for a, b in zip(by_simple, by_bound, strict=True)
              if np.abs(host(b)).max() > 1e-6]  # fmt: skip
    apart(shares, np.mean(shares), 1e-3)  # negative control: L_simple's is another, and no multiple


@pytest.mark.equation("ddpm.simple")
def test_times_are_uniform():
    """10,000 draws of 6 times: a chi-square of 5 degrees exceeds 36.9 with probability 6·10⁻⁷.

    Negative control: 5 times of 6 would give 10,000/5 = 2,000 more.
    """
    seen = []

    class Listening(DDPM):
        def eps_theta(self, xt, t):
            seen.append(host(t))
            return xt * 0

    model = Listening(DDPMConfig(**TINY), rng=Generator(0))
    model.loss(_on(np.zeros((10_000, 4, 4, 1), np.float32)), Generator(1))
    counts = np.bincount(seen[0], minlength=7)
    assert counts[0] == 0
    assert len(counts) == 7
    statistic = lambda counts: ((counts - 10_000 / 6) ** 2 / (10_000 / 6)).sum()  # noqa: E731
    at_most(statistic(counts[1:]), 36.9)
    apart(statistic(np.array([0, 2000, 2000, 2000, 2000, 2000])), 0, 36.9)


@pytest.mark.equation("ddpm.simple")
def test_an_untrained_network_has_the_loss_of_noise():
    """ε_θ = 0, so the mean of ε² is left: 1 ± 6·√(2/32,000), by chance beyond with probability 2·10⁻⁹."""
    model = DDPM(DDPMConfig(**TINY), rng=Generator(0))
    found = model.loss(_on(np.zeros((2000, 4, 4, 1), np.float32)), Generator(2))
    within = 6 * math.sqrt(2 / 32_000)
    agree(host(found.mse).mean(), 1, 0, within)
    agree(host(found.loss).mean(), 1, 0, within)
    apart(16 * host(found.mse).mean(), 1, within)  # negative control: a sum over pixels in place of the mean


@pytest.mark.parametrize(("dtype", "bound"), [(np.float32, 1e-4), (np.float64, 1e-12)])
def test_gradients_and_numbers_are_the_same_on_both_backends(dtype, bound):
    """Up to the order of sums, which NumPy's convolutions and norms have of their own: some 500 roundings."""
    answers = {}
    for name in ("numpy", "strict"):
        with sg.backend(name):
            model = make(dtype)
            x0 = images(dtype=dtype)
            loss = ops.mean(model.loss(x0, Generator(1)).loss)
            assert loss.dtype == dtype
            grads = sg.gradients(loss, model.parameters())
            assert {g.dtype for g in grads} == {np.dtype(dtype)}
            made = model.sample(2, Generator(2))
            elbo = model.elbo(x0, Generator(3))
            (*_, fast) = ddim.denoise(model, 2, Generator(4), 3, 0.5)
            (*_, hat) = ddim.denoise(model, 2, Generator(4), 3, "sigma_hat")
            (*_, code) = ddim.invert(model.frozen().eps_theta, model.schedule, x0, 3)
            answers[name] = [host(a) for a in (loss, *grads, made, *elbo, fast, hat, code)]
            assert {a.dtype for a in answers[name]} == {np.dtype(dtype)}
    largest = max(float(np.abs(g).max()) for g in answers["strict"][1 : 1 + len(grads)])
    for i, (a, b) in enumerate(zip(answers["numpy"], answers["strict"], strict=True)):
        scale = largest if 1 <= i <= len(grads) else float(np.abs(b).max())  # a gradient of 0 is rounding only
        assert np.abs(a - b).max() <= bound * scale


def test_the_gradient_of_the_loss_by_differences():
    """Along a random direction in all parameters, with the noise replayed."""
    model = make()
    x0, state = images(), Generator(5).state()
    flat = optim.Flat(dict(model.named_parameters()))
    loss = lambda: ops.mean(model.loss(x0, Generator.from_state(state)).loss)  # noqa: E731
    g = host(flat.gather(sg.gradients(loss(), model.parameters())))
    v = normal(6, flat.size)
    v /= np.linalg.norm(v)
    start, h = host(flat.buffer).copy(), 1e-4
    ends = []
    for sign in (1, -1):
        flat.write(_on(start + sign * h * v))
        ends.append(float(loss()))
    agree(g @ v, (ends[0] - ends[1]) / (2 * h), 1e-5, 1e-8)


def test_training_lowers_the_loss():
    """60 steps of Adam on two images: from 1 to under 0.7, on noise that was not trained on."""
    config = DDPMConfig(**{**TINY, "T": 20})
    model = DDPM(config, rng=Generator(0))
    flat = optim.Flat(dict(model.named_parameters()))
    adam, rng = optim.Adam(flat, lr=1e-2), Generator(1)
    x0 = _on(np.repeat(host(images(2, np.float32)), 8, axis=0))
    for _ in range(60):
        loss = ops.mean(model.loss(x0, rng).loss)
        adam.step(flat.gather(sg.gradients(loss, model.parameters())))
    judged = _on(np.repeat(host(x0), 8, axis=0))
    after = host(model.loss(judged, Generator(99)).mse).mean()
    before = host(DDPM(config, rng=Generator(0)).loss(judged, Generator(99)).mse).mean()
    assert before == pytest.approx(1, abs=0.1)
    assert after < 0.7 * before


# --- samples ------------------------------------------------------------------------------------------------


@pytest.mark.equation("ddpm.step")
@pytest.mark.parametrize("sigma", ["beta", "beta_tilde"])
def test_sampling_is_algorithm_2(sigma, xp):
    model = make(sigma=sigma, clip=False)
    net, beta = model.frozen(), betas_of(model)
    xT, rng = normal(8, 2, 4, 4, 1), Generator(4)
    state = rng.state()
    xs = list(model.denoise(2, rng, _on(xT)))
    again = Generator.from_state(state)
    zs = [host(again.standard_normal((2, 4, 4, 1), np.float64)) for _ in range(5)]
    guess = lambda x, t: host(net.eps_theta(_on(x), _on(np.array([t, t]))))  # noqa: E731
    expected = R.ddpm_chain(xT, guess, [*zs, np.zeros_like(xT)], beta, sigma)
    assert len(xs) == 6
    for x, y in zip(xs, expected[1:], strict=True):
        close(x, y, 1e-8, 1e-8)


@pytest.mark.equation("ddim.step")
@pytest.mark.parametrize("eta", [0.0, 0.4, "sigma_hat"])
def test_fast_sampling_of_a_system(eta, xp):
    model = make(clip=False)
    net, beta = model.frozen(), betas_of(model)
    xT, rng = normal(9, 2, 4, 4, 1), Generator(5)
    state = rng.state()
    xs = list(ddim.denoise(model, 2, rng, 4, eta, _on(xT)))
    again = Generator.from_state(state)
    zs = [host(again.standard_normal((2, 4, 4, 1), np.float64)) for _ in range(3)]
    guess = lambda x, t: host(net.eps_theta(_on(x), _on(np.array([t, t]))))  # noqa: E731
    tau = ddim.sub_sequence(6, 4)[1:]
    expected = R.ddim_chain(
        xT, guess, [*zs, np.zeros_like(xT)], tau, beta, None if eta == "sigma_hat" else eta
    )
    for x, y in zip(xs, expected[1:], strict=True):
        close(x, y, 1e-8, 1e-8)


def test_samples_follow_from_the_seed(xp):
    model = make(np.float32)
    a, b, c = (host(model.sample(3, Generator(s))) for s in (1, 1, 2))
    assert a.shape == (3, 4, 4, 1)
    assert a.dtype == np.float32
    assert np.array_equal(a, b)
    assert not np.array_equal(a, c)
    assert np.abs(a).max() <= 1 + 1e-5  # clipped, and no noise at the end
    assert np.array_equal(host(list(model.denoise(3, Generator(1)))[-1]), a)
    fast = [host(list(ddim.denoise(model, 3, Generator(s), 2))[-1]) for s in (1, 1, 2)]
    assert np.array_equal(fast[0], fast[1])
    assert np.array_equal(fast[0], host(list(ddim.denoise(model, 3, Generator(1), 2, eta=0.0))[-1]))  # the default
    assert not np.array_equal(fast[0], fast[2])


def test_sampling_records_no_tape_and_uses_averages_where_given():
    model = make(np.float32)
    flat = optim.Flat(dict(model.named_parameters()))
    ema = optim.EMA(flat)
    before = model.sample(2, Generator(1))
    flat.write(flat.buffer * 1.5)
    assert not np.array_equal(host(model.sample(2, Generator(1))), host(before))
    assert np.array_equal(host(model.frozen(ema.arrays()).sample(2, Generator(1))), host(before))
    assert type(before) is type(active().zeros(1))


def test_weights_survive_a_round_trip():
    model, other = make(np.float32), DDPM(DDPMConfig(**TINY), rng=Generator(9))
    other.load_state_dict(model.state_dict())
    assert np.array_equal(*(host(m.sample(2, Generator(1))) for m in (other, model)))
