"""The adversarial systems: losses with the noise replayed, who moves what and how often, replay, and what is learnt."""

import math
from dataclasses import replace

import numpy as np
import pytest
from evidence import agree, apart, at_most, host, up
from scipy import stats
from system_tools import perceptron

import scratchgen as sg
from reference import adversarial as oracle
from reference.derivatives import directional
from scratchgen import ops, optim
from scratchgen.models.adversarial import GAN, WGAN, GANConfig, OptimalConfig, OptimalDiscriminator, WGANConfig
from scratchgen.models.adversarial import gan as gan_module
from scratchgen.random import Generator
from scratchgen.train import TrainConfig, train

TINY = {"shape": (2, 3, 1), "latent": 3, "width": 5, "depth": 2}
X = np.random.default_rng(7).uniform(-1, 1, (40, 2, 3, 1)).astype(np.float32)


def make(kind, dtype="float64", **settings):
    system, config = {"gan": (GAN, GANConfig), "wgan": (WGAN, WGANConfig)}[kind]
    made = system(config(**{**TINY, **settings}), rng=Generator(0))
    return made.astype(np.dtype(dtype))


def real(n=4):
    return up(X[:n].astype(np.float64))


def drawn(system, z):
    return np.tanh(perceptron(system.generator, z)).reshape(len(z), 2, 3, 1)


# --- the losses -----------------------------------------------------------------------------------------------------


@pytest.mark.equation("gan.value")
@pytest.mark.parametrize("noise", [0.0, 0.3])
def test_the_discriminator_descends_minus_the_value(noise, xp):
    """Every number from NumPy and the oracle, the noise replayed: z, then on the real ones, then on the generated."""
    system, rng = make("gan", noise=noise), Generator(3)
    state = rng.state()
    found = system.discriminator_loss(real(), rng)
    again = Generator.from_state(state)
    z = host(again.standard_normal((4, 3), np.float64))
    blurs = [noise * host(again.standard_normal((4, 2, 3, 1), np.float64)) if noise else 0 for _ in range(2)]
    assert rng.state() == again.state()  # nothing else was drawn
    judged = [perceptron(system.discriminator, x)[:, 0]
              for x in (host(real()) + blurs[0], drawn(system, z) + blurs[1])]  # fmt: skip
    agree(found.loss, -oracle.value(*judged), rtol=1e-11)
    agree(found.real, stats.logistic.cdf(judged[0]), rtol=1e-11)
    agree(found.fake, stats.logistic.cdf(judged[1]), rtol=1e-11)


@pytest.mark.equation("gan.minimax", "gan.non_saturating")
@pytest.mark.parametrize("saturating", [False, True])
def test_the_generator_descends_what_is_said_of_it(saturating, xp):
    system, rng = make("gan", saturating=saturating, noise=0.2), Generator(4)
    state = rng.state()
    found = system.generator_loss(real(), rng)
    again = Generator.from_state(state)
    z = host(again.standard_normal((4, 3), np.float64))
    x = drawn(system, z) + 0.2 * host(again.standard_normal((4, 2, 3, 1), np.float64))
    fake = perceptron(system.discriminator, x)[:, 0]
    agree(found.loss, (oracle.caught if saturating else oracle.surprise)(fake), rtol=1e-11)


@pytest.mark.equation("wgan.dual", "wgan.penalty", "wgan.interpolate")
@pytest.mark.parametrize("noise", [0.0, 0.2])
@pytest.mark.parametrize("weight", [None, 10.0])
def test_the_critic_descends_its_distance_and_its_penalty(weight, noise, xp):
    """The penalty by differences of the critic at one point at a time, right to 1e-8; noise on real and made alike."""
    system, rng = make("wgan", penalty=weight, noise=noise), Generator(5)
    state = rng.state()
    found = system.discriminator_loss(real(), rng)
    again = Generator.from_state(state)
    made = drawn(system, host(again.standard_normal((4, 3), np.float64)))
    x, made = (
        clean + noise * host(again.standard_normal((4, 2, 3, 1), np.float64)) if noise else clean
        for clean in (host(real()), made)
    )
    f = lambda x: perceptron(system.discriminator, x)[:, 0]  # noqa: E731
    distance = f(x) - f(made)
    want = -distance
    if weight is not None:
        between = oracle.on_the_line(x, made, host(again.random((4,), np.float64)))
        want = want + weight * np.array([oracle.penalty(lambda x: f(x[None])[0], x) for x in between])
    assert rng.state() == again.state()
    agree(found.distance, distance, rtol=1e-11)
    agree(found.loss, want, rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("kind, settings", [("gan", {}), ("wgan", {}), ("wgan", {"penalty": None})])
def test_each_player_has_its_own_network_and_reaches_it_all(kind, settings, xp):
    """The opponent stands still: its network gets no gradient from the discriminator's loss."""
    system = make(kind, **settings)
    players = {player.name: player for player in system.players()}
    opponent = "discriminator" if kind == "gan" else "critic"
    assert list(players) == [opponent, "generator"]
    assert players[opponent].steps == system.config.k
    assert players["generator"].steps == 1
    names = [name for player in players.values() for name in player.parameters]
    assert names == [*(n for n, _ in system.named_parameters() if n.startswith("discriminator.")),
                     *(n for n, _ in system.named_parameters() if n.startswith("generator."))]  # fmt: skip
    assert len(names) == len(system.parameters())
    loss = players[opponent].loss(real(), Generator(1)).loss.sum()
    own = [np.abs(host(g)).max() for g in sg.gradients(loss, list(players[opponent].parameters.values()))]
    # what is added to all of the critic's values moves neither its distance nor its slope
    assert min(own[:-1]) > 0
    assert (own[-1] < 1e-12) == (kind == "wgan")
    others = sg.gradients(loss, list(players["generator"].parameters.values()))
    assert max(np.abs(host(g)).max() for g in others) == 0
    loss = players["generator"].loss(real(), Generator(1)).loss.sum()
    assert min(np.abs(host(g)).max() for g in sg.gradients(loss, list(players["generator"].parameters.values()))) > 0


@pytest.mark.equation("gan.value", "gan.minimax", "gan.non_saturating")
def test_the_two_players_pull_v_apart():
    """A step of the discriminator down its loss raises V; one of the generator lowers it, by either of its losses."""

    def V(system, rng=11):
        made = system.generate(system.prior(40, Generator(rng)))
        return ops.mean(gan_module.value(system.score(up(X.astype(float))), system.score(made)))

    for saturating in (False, True):
        system = make("gan", noise=0.0, saturating=saturating)
        discriminator, generator = system.players()
        before = float(V(system))
        for player, sign in ((discriminator, 1), (generator, -1)):
            parameters = list(player.parameters.values())
            loss = ops.mean(player.loss(up(X.astype(float)), Generator(11)).loss)
            slope = [host(g) for g in sg.gradients(loss, parameters)]
            start = [host(p.value).copy() for p in parameters]
            for p, g in zip(parameters, slope, strict=True):
                p.assign(p.value - up(1e-3 * g))
            moved = float(V(system)) - before
            assert sign * moved > 0
            if player is discriminator or saturating:  # then the loss is −V, or V, and a part that stands still
                length = sum((g**2).sum() for g in slope)
                agree(moved, sign * 1e-3 * length, rtol=0.02)
            for p, x in zip(parameters, start, strict=True):
                p.assign(up(x))


@pytest.mark.equation("wgan.penalty")
def test_the_critics_gradient_is_that_of_its_loss():
    """Second derivatives inside: along a random direction of all weights, by differences, the noise replayed."""
    system = make("wgan")
    player = system.players()[0]
    flat = optim.Flat(player.parameters)
    state = Generator(6).state()

    def loss():
        return ops.mean(player.loss(real(), Generator.from_state(state)).loss)

    g = host(flat.gather(sg.gradients(loss(), list(player.parameters.values()))))
    v = np.random.default_rng(0).normal(size=flat.size)
    start = host(flat.buffer).copy()

    def along(theta):
        flat.write(up(theta))
        return float(loss())

    agree(g @ v, directional(along, start, v / 1, h=1e-3), rtol=1e-6, atol=1e-7)


@pytest.mark.equation("wgan.clip")
def test_clipping_follows_every_step_of_the_critic(xp):
    system = make("wgan", "float32", penalty=None, clip=0.03)
    before = {k: v for k, v in system.state_dict().items() if k.startswith("discriminator.")}
    assert max(np.abs(v).max() for v in before.values()) > 0.1
    system.players()[0].after(real(), Generator(0))
    for name, value in system.state_dict().items():
        if name in before:
            agree(value, oracle.boxed(before[name], np.float32(0.03)))
    free = make("wgan", "float32")
    kept = free.state_dict()
    free.players()[0].after(real(), Generator(0))
    assert all(np.array_equal(kept[name], value) for name, value in free.state_dict().items())


# --- training -------------------------------------------------------------------------------------------------------

LINE = {"shape": (1,), "latent": 2, "width": 16, "depth": 1, "bounded": False, "noise": 0.0}
SHORT = TrainConfig(steps=4, batch_size=8, lr=1e-3, beta1=0.5, ema_decay=0.9, log_every=2)


@pytest.mark.parametrize("shards", [1, 2])
@pytest.mark.parametrize("kind, settings", [
    ("gan", {}), ("gan", {"k": 2, "saturating": True}), ("wgan", {"k": 2}), ("wgan", {"penalty": None}),
])  # fmt: skip
def test_replay_changes_no_bit(kind, settings, shards, capsys):
    """Nor does the second derivative of the penalty."""
    ends = []
    for replay in (True, False):
        system = make(kind, "float32", **settings)
        result = train(system, X, replace(SHORT, shards=shards, replay=replay), progress=True)
        ends.append((system.state_dict(), result))
    assert "without replay" not in capsys.readouterr().err
    assert all(np.array_equal(ends[0][0][name], value) for name, value in ends[1][0].items())
    assert ends[0][1].losses == ends[1][1].losses
    if settings.get("penalty", 0) is None:
        critic = [v for k, v in ends[0][0].items() if k.startswith("discriminator.")]
        at_most(max(np.abs(v).max() for v in critic), np.float32(0.05))


def test_the_discriminator_has_k_minibatches_a_turn():
    system = make("gan", "float32", k=3)
    turns = []
    for name in ("discriminator_loss", "generator_loss"):
        loss = getattr(system, name)
        setattr(system, name, lambda x, rng, name=name, loss=loss: (turns.append(name), loss(x, rng))[1])
    train(system, X, replace(SHORT, steps=2, replay=False), progress=False)
    assert turns == (["discriminator_loss"] * 3 + ["generator_loss"]) * 2


@pytest.mark.parametrize("kind, settings", [
    ("gan", {"noise": 0.5}), ("wgan", {"k": 3, "penalty": None, "clip": 0.3}), ("wgan", {"k": 5, "shape": (2,)}),
])  # fmt: skip
def test_a_small_law_is_learnt(kind, settings):
    """N(2, ½²) in each coordinate, from a generator that begins near 0: mean and deviation to a fifth.

    The penalty has a plane: on the line a slope of 1 could turn into one of −1 by way of 0 only, which costs λ.
    """
    system = make(kind, "float32", **{**LINE, **settings})
    x = (2 + 0.5 * np.random.default_rng(0).standard_normal((2000, *system.config.shape))).astype(np.float32)
    start = host(system.sample(2000, Generator(1)))
    apart(start.mean(axis=0), 2, by=1)
    config = TrainConfig(steps=300, batch_size=100, lr=2e-2, beta1=0.0, beta2=0.9, final_lr=0.0, ema_decay=0.99)
    result = train(system, x, config, progress=False)
    made = host(system.frozen(result.average).generate(system.prior(2000, Generator(1))))
    agree(made.mean(axis=0), 2, atol=0.2)
    agree(made.std(axis=0), 0.5, atol=0.2)


# --- samples --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["gan", "wgan"])
def test_samples_follow_from_the_seed(kind, xp):
    system = make(kind, "float32")
    a, b, c = (host(system.sample(3, Generator(s))) for s in (1, 1, 2))
    assert a.shape == (3, 2, 3, 1)
    assert a.dtype == np.float32
    assert np.array_equal(a, b)
    assert not np.array_equal(a, c)
    agree(a, drawn(system, host(Generator(1).standard_normal((3, 3)))), rtol=1e-4, atol=1e-6)
    at_most(np.abs(a), 1.0)


def test_the_way_between_two_noises_has_their_law():
    """Its ends are the images of both, and its points have the variance of noise; on a straight line it would halve."""
    system = make("gan")
    z = np.random.default_rng(0).standard_normal((2, 4000, 3))
    way = list(system.between(up(z[0][:5]), up(z[1][:5]), 7))
    assert len(way) == 7
    agree(way[0], drawn(system, z[0][:5]), rtol=1e-10, atol=1e-12)
    agree(way[-1], drawn(system, z[1][:5]), rtol=1e-10, atol=1e-12)
    system.frozen = lambda: type("Seen", (), {"generate": staticmethod(lambda z: z)})
    middle = list(system.between(z[0], z[1], 7))[3]
    agree(middle.var(), 1, atol=0.06)  # 12,000 numbers: 4.6 of their errors, √(2/12,000)
    apart((0.5 * z.sum(axis=0)).var(), 1, by=0.4)
    assert len(list(system.between(z[0], z[1], 1))) == 1


# --- the best discriminator -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def learnt():
    """A discriminator of two known laws, trained for a moment on fresh draws of p_r."""
    config = OptimalConfig(width=32)
    system = OptimalDiscriminator(config, rng=Generator(0))
    x = host(system.p_r().sample(Generator(2), 20_000)).astype(np.float32)
    settings = TrainConfig(steps=400, batch_size=400, lr=1e-2, final_lr=0.0, ema_decay=0.98)
    result = train(system, x, settings, progress=False)
    return system.frozen(result.average)


def law(weights, means, variances):
    return lambda x: np.logaddexp.reduce([np.log(w) + stats.norm.logpdf(x, m, math.sqrt(v))
                                          for w, m, v in zip(weights, means, variances, strict=True)])  # fmt: skip


CONFIG = OptimalConfig()
P_R = law(CONFIG.weights, CONFIG.means, CONFIG.variances)
P_G = law([1.0], [CONFIG.mean], [CONFIG.variance])


def test_the_laws_are_those_of_the_config(learnt, xp):
    x = np.linspace(-4, 4, 9)
    agree(learnt.p_r().log_prob(up(x[:, None])), P_R(x), rtol=1e-12)
    agree(learnt.p_g().log_prob(up(x[:, None])), P_G(x), rtol=1e-12)
    made = learnt.generated(up(np.array([[-1.0], [0.0], [2.0]])))
    agree(made, [[0.5 - math.sqrt(1.5)], [0.5], [0.5 + 2 * math.sqrt(1.5)]], rtol=1e-14)


@pytest.mark.equation("gan.optimal", "gan.best_value")
def test_a_discriminator_learns_the_best_one(learnt):
    """By quadrature: its V falls short of the searched-for best one by less than a hundredth, and D is near D*.

    What is missing is the mean of KL(D*‖D) over both laws, about 2·(D − D*)²/(D(1 − D)); noise of 400 draws a step
    leaves a few thousandths.  Blind, it would fall short by 0.376.
    """
    x = np.linspace(-8, 8, 4001)
    logit = host(learnt.logit(up(x[:, None].astype(np.float32)))).astype(float)
    mass = np.gradient(x) * np.exp([P_R(x), P_G(x)])
    V = mass[0] @ stats.logistic.logcdf(logit) + mass[1] @ stats.logistic.logsf(logit)
    best = oracle.best_value(P_R, P_G, np.linspace(-8, 8, 41))
    at_most(V, best)
    agree(V, best, atol=0.01)
    star = np.array([oracle.best_logit(a, b) for a, b in zip(P_R(x), P_G(x), strict=True)])
    far = np.abs(stats.logistic.cdf(logit) - stats.logistic.cdf(star))
    agree(mass.mean(axis=0) @ far, 0, atol=0.03)
    apart(-math.log(4), best, by=0.3)


def test_draws_of_the_generator_drawn_again_are_the_datas(learnt):
    """Where p_r is and p_g is not so much: the shares of three parts of the line, to 0.05 (n = 2,000: 4.5 errors)."""
    x = host(learnt.sample(2000, Generator(3)))
    assert x.shape == (2000, 1)
    assert x.dtype == np.float32
    edges = [-np.inf, -1.0, 0.5, np.inf]
    cdf = lambda x: sum(w * stats.norm.cdf(x, m, math.sqrt(v)) for w, m, v in  # noqa: E731
                        zip(CONFIG.weights, CONFIG.means, CONFIG.variances, strict=True))  # fmt: skip
    want = np.diff([cdf(e) for e in edges])
    agree(np.histogram(x, edges)[0] / 2000, want, atol=0.05)
    apart(np.diff(stats.norm.cdf(edges, CONFIG.mean, math.sqrt(CONFIG.variance))), want, by=0.2)


# --- what makes no sense --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["latent", "width", "depth", "k"])
def test_numbers_that_make_no_game_are_refused(name):
    with pytest.raises(ValueError, match=f"GANConfig: {name} must be at least 1, not 0"):
        GANConfig(**{name: 0})


def test_other_settings_that_make_no_sense_are_refused():
    with pytest.raises(ValueError, match="WGANConfig: noise must not be negative"):
        WGANConfig(noise=-1.0)
    with pytest.raises(ValueError, match="clip must be positive"):
        WGANConfig(clip=0.0)
    with pytest.raises(ValueError, match="penalty must not be negative"):
        WGANConfig(penalty=-1.0)
    with pytest.raises(ValueError, match="a variance is not positive"):
        OptimalConfig(variance=0.0)
