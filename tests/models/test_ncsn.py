"""The noise-conditional score network: its levels, its loss with the noise replayed, walks along exact scores."""

import math
from dataclasses import replace

import numpy as np
import pytest
from evidence import agree, apart, at_most, host, lifted, up
from hypothesis import given, settings
from hypothesis import strategies as st
from sandbox_tools import FEW, floats, mixtures, on_backend, points, seeds
from scipy import stats

import scratchgen as sg
from reference import denoisers as E
from reference import distributions as D
from reference import ncsn as oracle
from reference import score as S
from reference.gaussian import affine_map, condition
from scratchgen import ops, optim
from scratchgen.backend import active
from scratchgen.models.energy import langevin
from scratchgen.models.score import NCSN, NCSNConfig, ncsn
from scratchgen.nn import UNetConfig
from scratchgen.random import Generator
from scratchgen.train import TrainConfig, train

N = lifted(ncsn)
SOME = settings(max_examples=20, deadline=None)
UNET = UNetConfig(channels=1, base=4, multipliers=(1,), attention=(), groups=2, time=8)
IMAGES = {"shape": (4, 4, 1), "unet": UNET, "levels": 4, "T": 2}
POINTS = {"shape": (2,), "width": 8, "levels": 5, "T": 2, "sigma_max": 3.0, "sigma_min": 0.1}
KINDS = {"images": IMAGES, "points": POINTS}
FAR = E.Mixture(np.array([0.2, 0.8]), np.array([[-2.0, 0.5], [2.0, 0.0]]), np.array([0.1 * np.eye(2), 0.2 * np.eye(2)]))


def make(kind="points", dtype="float64", seed=0, **settings):
    """A network whose last layer, 0 at first, is not 0."""
    model = NCSN(NCSNConfig(**{**KINDS[kind], **settings}), rng=Generator(0)).astype(dtype)
    noise = np.random.default_rng(seed)
    for p in model.parameters():
        p.assign(p.value + up((0.2 * noise.standard_normal(p.shape)).astype(dtype)))
    return model


def batch(model, n=5, dtype="float64"):
    return up(np.random.default_rng(7).uniform(-1, 1, (n, *model.config.shape)).astype(dtype))


def exactly(data, **settings):
    """A system whose score is the exact one of a mixture, by the library's own formula, float64."""
    model = make(**settings)
    model.score = lambda x, sigma: on_backend(data).noisy(1.0, sigma).score(x)
    return model


# --- levels -----------------------------------------------------------------------------------------------------


@pytest.mark.equation("ncsn.levels")
def test_the_levels_are_evenly_far_apart():
    """One divergence between each and the next, by quadrature of their normals; a row with even steps has others."""
    far = lambda s: [D.kl_gaussian_quad(0, s[i], 0, s[i + 1]) for i in (0, 1, 3)]  # noqa: E731
    found = far(N.levels(5.0, 0.2, 5))
    agree(found, found[0], rtol=1e-7)
    apart(far(np.linspace(5.0, 0.2, 5)), found, 0.1)


@pytest.mark.equation("ncsn.levels")
@SOME
@given(floats(0.01, 0.5), floats(1, 50), st.integers(2, 12))
def test_the_levels_are_a_geometric_row(low, high, L):
    sigma = N.levels(high, low, L)
    agree(sigma, np.geomspace(high, low, L), rtol=1e-12)
    assert sigma.dtype == np.float64


@pytest.mark.equation("ncsn.levels")
def test_a_system_has_the_levels_of_its_config():
    model = make(levels=7, sigma_max=6.0, sigma_min=0.2)
    agree([model.sigma[0], model.sigma[-1]], [6.0, 0.2], rtol=1e-14)
    agree(host(model.sigma), np.geomspace(6.0, 0.2, 7), rtol=1e-12)


# --- the loss ---------------------------------------------------------------------------------------------------


@pytest.mark.equation("score.denoising", "score.denoising_target")
@pytest.mark.parametrize("kind", KINDS)
def test_the_loss_with_its_noise_replayed(kind, xp):
    """σ²·½‖s − ∇log N(x̃; x, σ²)‖² per number, the slope by differences of SciPy's density, right to 1e-9."""
    model, rng = make(kind), Generator(3)
    x0, state, c = batch(model), rng.state(), model.config
    found = model.loss(x0, rng).loss
    again = Generator.from_state(state)
    i = host(again.integers(0, c.levels, (5,)))
    eps = host(again.standard_normal(x0.shape, np.float64))
    assert rng.state() == again.state()  # nothing else was drawn
    net, want = model.frozen(), []
    for b in range(5):
        sigma, x = np.geomspace(c.sigma_max, c.sigma_min, c.levels)[i[b]], host(x0)[b]
        noisy = x + sigma * eps[b]
        s = host(net.score(up(noisy[None]), sigma))[0]
        target = S.score_1d(lambda y, x=x, sigma=sigma: stats.norm.logpdf(y, x, sigma), noisy)
        want.append(sigma**2 * ((s - target) ** 2).mean() / 2)
    agree(found, want, rtol=1e-7, atol=1e-9)


@pytest.mark.equation("score.denoising")
def test_every_level_is_drawn_equally_often():
    """n = 4,000 of 5 levels: 800 each, within 5.3 deviations (134).  Where ε = 0, σ·s tells which level it was."""
    model = make()
    model.score = lambda x, sigma: ops.expand_dims(ops.astype(sigma, x.dtype), 1) * 0 + x  # s(x, σ) = x

    class Quiet:
        def __init__(self):
            self.integers = Generator(2).integers
            self.standard_normal = lambda shape, dtype: active().zeros(shape, dtype)

    terms = host(model.loss(up(np.ones((4000, 2))), Quiet()).loss)  # ½·σ²
    sigma, count = np.unique(np.sqrt(2 * terms).round(9), return_counts=True)
    agree(sigma, np.geomspace(0.1, 3.0, 5), atol=1e-8)
    agree(count, 800, atol=134)


@pytest.mark.parametrize("kind", KINDS)
def test_the_gradient_of_the_loss_by_differences(kind):
    model = make(kind)
    x0, state, flat = batch(model), Generator(5).state(), optim.Flat(dict(model.named_parameters()))
    loss = lambda: ops.mean(model.loss(x0, Generator.from_state(state)).loss)  # noqa: E731
    gradients = [host(g) for g in sg.gradients(loss(), model.parameters())]
    assert min(np.abs(g).max() for g in gradients) > 0  # it reaches all of the network
    v = np.random.default_rng(6).normal(size=flat.size)
    v /= np.linalg.norm(v)
    start, h, ends = host(flat.buffer).copy(), 1e-4, []
    for sign in (1, -1):
        flat.write(up(start + sign * h * v))
        ends.append(float(loss()))
    agree(np.concatenate([g.ravel() for g in gradients]) @ v, (ends[0] - ends[1]) / (2 * h), 1e-5, 1e-8)


# --- the end of the walk ------------------------------------------------------------------------------------------


@pytest.mark.equation("ncsn.denoise", "score.denoiser")
@FEW
@given(mixtures, seeds, floats(0.1, 2))
def test_what_is_left_of_the_noise_goes(data, seed, sigma):
    """x + σ²·s is E[x_0 | x], by conditioning; s by differences of the log-density, right to 1e-7."""
    x = points(seed, 3, data.means.shape[1])
    s = np.array([E.score(p, data, 1.0, sigma) for p in x])
    want = np.array([E.denoiser(p, data, 1.0, sigma) for p in x])
    agree(N.denoise(x, s, sigma), want, 1e-6, 1e-6)
    agree(N.denoise(x, s, np.full(3, sigma)), want, 1e-6, 1e-6)
    small = N.denoise(x.astype("float32"), s.astype("float32"), np.full(3, sigma))
    assert small.dtype == np.float32
    sg.check_grads(lambda x, s: ncsn.denoise(x, s, 0.7), (x, s), order=2)


# --- inpainting -----------------------------------------------------------------------------------------------------


@pytest.mark.equation("ncsn.inpaint")
@SOME
@given(seeds, floats(0.05, 5), st.booleans())
def test_known_pixels_are_blurred_and_others_left(seed, sigma, rows):
    noise = np.random.default_rng(seed)
    x, y, z = noise.normal(size=(3, 2, 3, 2, 1))
    mask = noise.integers(0, 2, x.shape).astype(float)
    level = sigma * np.array([1.0, 2.0]) if rows else sigma
    spread = np.broadcast_to(np.reshape(level, (-1, 1, 1, 1)), x.shape)
    agree(N.inpaint(x, y, mask, level, z), oracle.held(x, y, mask, spread, z), rtol=1e-9, atol=1e-9)
    small = [v.astype("float32") for v in (x, y, mask)]
    assert N.inpaint(*small, level, z.astype("float32")).dtype == np.float32
    sg.check_grads(lambda x, y, z: ncsn.inpaint(x, y, mask, 0.7, z), (x, y, z), order=2)


class Numbered:
    """A generator whose numbers are those of the rows of Z, one example each, in the order in which it is asked."""

    def __init__(self, Z):
        self.Z, self.place = Z, 0

    def standard_normal(self, shape, dtype):
        """(B, …), or (levels, B, …) where examples are the second axis."""
        B = len(self.Z)
        own = [n for k, n in enumerate(shape) if k != (0 if shape[0] == B else 1)]
        taken = self.Z[:, self.place : self.place + math.prod(own)].reshape(B, *own)
        self.place += math.prod(own)
        return up(np.ascontiguousarray(taken if shape[0] == B else np.swapaxes(taken, 0, 1)))


def law(draw, n):
    """Mean and covariance of draw(rng) (B, d), affine in the n normal numbers that each example takes of rng."""
    rng = Numbered(np.concatenate([np.zeros((1, n)), np.eye(n)]))
    x = host(draw(rng))
    assert rng.place == n
    return x[0], (x[1:] - x[0]).T @ (x[1:] - x[0])


MEAN, COV = np.array([0.4, -0.3, 0.8]), np.array([[0.5, 0.2, 0.1], [0.2, 0.3, -0.1], [0.1, -0.1, 0.4]])
KNOWN, Y = [2, 0], np.array([1.2, -0.4])


def inpainted(**settings):
    """Mean and covariance of the second coordinate, the first and the third being known, on a Gaussian."""
    model = exactly(E.gaussian(MEAN, COV), shape=(3,), **settings)
    c = model.config
    n = 3 * (1 + c.levels + c.levels * c.T)
    y, mask = (np.tile(v, (n + 1, 1)) for v in (np.array([-0.4, 5.0, 1.2]), np.array([1.0, 0.0, 1.0])))
    mean, cov = law(lambda rng: model.inpaint(up(y), up(mask), rng), n)
    agree(mean[[0, 2]], [-0.4, 1.2])  # what is known is as it was
    agree(cov[[0, 2]], 0.0)
    return model, mean[1], cov[1, 1]


@pytest.mark.equation("ncsn.inpaint", "ncsn.denoise", "ncsn.levels", "langevin.annealed")
def test_inpainting_as_one_affine_map():
    """Every number of a short walk, by the oracle's chain of steps of the process in continuous time."""
    model, mean, var = inpainted(levels=4, T=2, sigma_max=2.0, sigma_min=0.3, step=0.3)
    sigma, last = np.geomspace(2.0, 0.3, 4), 0.3
    start = math.sqrt(1 + 2.0**2)
    means, covs = oracle.walk(MEAN, COV, start, sigma, 0.3 * sigma**2, 2, KNOWN, Y)
    A, b = affine_map(lambda x: E.denoiser(x, E.gaussian(MEAN, COV), 1.0, last), 3)
    agree(mean, (A @ means + b)[1], rtol=1e-9)
    agree(var, (A @ covs @ A.T)[1, 1], rtol=1e-9)
    agree([host(model.prior(4000, Generator(0))).std()], start, atol=0.08)  # 12,000 numbers: 5.5 deviations


@pytest.mark.equation("ncsn.inpaint")
def test_inpainting_draws_from_the_conditional():
    """Of a Gaussian, which knows of no walk.  That the library walks as the oracle does is in the test above; the
    longer the oracle walks, the nearer it ends to the conditional: a short walk keeps what a wider level said."""
    want, cov = condition(MEAN, COV, KNOWN, Y)
    sigma = np.geomspace(3.0, 0.02, 12)
    off = []
    for T in (5, 50, 500):
        means, covs = oracle.walk(MEAN, COV, 3.0, sigma, 0.1 * sigma**2, T, KNOWN, Y)
        agree(means[KNOWN], Y, rtol=1e-9)
        off.append(max(abs(means[1] - want[0]), abs(covs[1, 1] - cov[0, 0])))
    at_most(off[2], 0.02)
    at_most(np.array(off[1:]), 0.5 * np.array(off[:-1]))
    _, mean, _ = inpainted(levels=5, T=10, sigma_max=2.0, sigma_min=0.3, step=0.5)
    assert abs(mean - want[0]) < 0.7 * abs(MEAN[1] - want[0])


# --- samples ------------------------------------------------------------------------------------------------------


@pytest.mark.equation("langevin.annealed", "ncsn.levels", "ncsn.denoise")
def test_exact_scores_find_a_gaussian():
    """Mean and variance of what is drawn, without sampling: the oracle's chain, whose end is near the data's."""
    data = E.gaussian([0.7], [[0.3]])
    model = exactly(data, shape=(1,), levels=8, T=30, sigma_max=3.0, sigma_min=0.05, step=0.3)
    mean, cov = law(lambda rng: model.sample(242, rng), 241)
    sigma = np.geomspace(3.0, 0.05, 8)
    means, covs = oracle.walk([0.7], [[0.3]], math.sqrt(10), sigma, 0.3 * sigma**2, 30, [], [])
    A, b = affine_map(lambda x: E.denoiser(x, data, 1.0, 0.05), 1)
    agree(mean, A @ means + b, rtol=1e-9)
    agree(cov, A @ covs @ A.T, rtol=1e-9)
    agree(mean, [0.7], atol=0.05)
    agree(cov, [[0.3]], atol=0.1)


@pytest.mark.equation("langevin.annealed", "ncsn.levels")
def test_exact_scores_recover_the_weights_of_a_mixture():
    """n = 2,000: the share of the left component, 0.2, within 5.3 deviations (0.047) and the walk's bias, 0.015.
    One level alone, the last, leaves it about where the start was."""
    model = exactly(FAR, levels=10, T=20, sigma_max=6.0, sigma_min=0.1, step=0.4)
    share = lambda x: np.mean(E.responsibilities(FAR, host(x))[0])  # noqa: E731
    room = 5.3 * math.sqrt(0.2 * 0.8 / 2000) + 0.015
    x = model.sample(2000, Generator(1))
    agree(share(x), 0.2, atol=room)
    inner = host(x)[E.responsibilities(FAR, host(x))[1] > 0.5]
    agree(inner.mean(axis=0), FAR.means[1], atol=0.07)
    agree(inner.var(axis=0), 0.2, atol=0.05)
    rng = Generator(1)
    noise = lambda shape: rng.standard_normal(shape, "float64")  # noqa: E731
    *_, alone = langevin.annealed(model.score, model.prior(2000, rng), model.sigma[-1:], 0.02, 200, noise)
    apart(share(alone), 0.2, by=room)


@pytest.mark.parametrize("kind", KINDS)
def test_samples_follow_from_the_seed(kind, xp):
    model = make(kind, "float32")
    a, b, c = (host(model.sample(3, Generator(s))) for s in (1, 1, 2))
    assert a.shape == (3, *model.config.shape)
    assert a.dtype == np.float32
    assert np.array_equal(a, b)
    assert not np.array_equal(a, c)
    frames = list(model.walk(model.prior(3, Generator(1)), Generator(2)))
    assert len(frames) == model.config.levels * model.config.T + 1
    last = model.config.sigma_min
    s = host(model.frozen().score(frames[-2], last))
    agree(frames[-1], host(frames[-2]) + last**2 * s, rtol=1e-5, atol=1e-5)
    assert len(list(model.walk(model.prior(3, Generator(1)), Generator(2), T=3))) == model.config.levels * 3 + 1
    y = np.random.default_rng(0).uniform(-1, 1, a.shape).astype("float32")
    mask = (np.arange(y[0].size).reshape(y.shape[1:]) % 2 + 0 * y).astype("float32")
    made = host(model.inpaint(up(y), up(mask), Generator(3)))
    assert made.dtype == np.float32
    assert np.array_equal(made[mask > 0], y[mask > 0])
    assert np.abs(made - y)[mask == 0].min() > 0


# --- training -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shards", [1, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_replay_changes_no_bit(kind, shards, capsys):
    x, ends = host(batch(make(kind), 40, "float32")), []
    for play in (True, False):
        model = make(kind, "float32")
        config = TrainConfig(steps=4, batch_size=8, lr=1e-3, ema_decay=0.9, log_every=2, shards=shards)
        ends.append((model, train(model, x, replace(config, replay=play), progress=True)))
    assert "without replay" not in capsys.readouterr().err
    known = ends[1][0].state_dict()
    assert all(np.array_equal(known[name], value) for name, value in ends[0][0].state_dict().items())
    assert ends[0][1].losses == ends[1][1].losses


@pytest.mark.long
@pytest.mark.equation("score.denoising", "score.network")
def test_it_learns_the_scores_of_a_mixture():
    """At three levels, where the data are: what it lacks is below three tenths of what the network lacks at first."""
    x = host(on_backend(FAR).sample(Generator(0), 4000)).astype(np.float32)
    model = NCSN(NCSNConfig(shape=(2,), width=48, levels=8, sigma_max=4.0, sigma_min=0.2), rng=Generator(0))
    new = model.astype("float32").frozen()
    config = TrainConfig(steps=300, batch_size=128, lr=5e-3, final_lr=0.0, ema_decay=0.98)
    learnt = model.frozen(train(model, x, config, progress=False).average)
    for sigma in (0.3, 1.0, 3.0):
        y = x[:500] + np.float32(sigma) * np.random.default_rng(1).standard_normal((500, 2)).astype(np.float32)
        exact = np.array([E.score(p, FAR, 1.0, sigma) for p in y[:60].astype(float)])
        lacking = [np.mean((host(net.score(up(y[:60]), sigma)) - exact) ** 2) for net in (learnt, new)]
        at_most(lacking[0], 0.3 * lacking[1])


# --- what makes no sense --------------------------------------------------------------------------------------------


def test_what_makes_no_sense_is_refused():
    for wrong in ({"sigma_min": 0.0}, {"sigma_min": 9.0}):
        with pytest.raises(ValueError, match="NCSNConfig: sigma_min"):
            NCSNConfig(**wrong)
    for wrong in ({"levels": 1}, {"T": 0}):
        with pytest.raises(ValueError, match="at least 2 of 1"):
            NCSNConfig(**wrong)
    x = np.zeros((2, 3))
    with pytest.raises(ValueError, match=r"ncsn.inpaint: mask \(2, 1\)"):
        N.inpaint(x, x, x[:, :1], 0.5, x)
