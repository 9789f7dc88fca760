"""The VQ-VAE: gradients to the right parts, codes by gradient and by counting, prior and bound by enumeration."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from autoregressive_tools import randomised, sequences, surprise, told_only
from evidence import agree, apart, at_most, host, up
from hypothesis import given
from hypothesis import strategies as st
from latent_tools import FEW

import scratchgen as sg
from reference import autoregressive
from reference import vq as oracle
from scratchgen import ops
from scratchgen.models.latent import VQVAE, VQVAEConfig, quantise
from scratchgen.random import Generator
from scratchgen.train import RunConfig, RunFolder, TrainConfig, as_json, train

TINY = VQVAEConfig(
    shape=(2, 4, 1), levels=3, codes=3, dims=2, width=4, groups=2, prior_width=5, prior_layers=2, prior_dropout=0.0
)  # fmt: skip
BOTH = pytest.mark.parametrize("decay", [None, 0.9])
seeds = st.integers(0, 2**32 - 1)


def make(scale=0.3, seed=0, **changes):
    return randomised(VQVAE(replace(TINY, **changes), rng=Generator(seed)), seed, scale)


def pictures(n, seed=1, shape=TINY.shape, levels=3):
    return 2.0 * np.random.default_rng(seed).integers(0, levels, (n, *shape)) / (levels - 1) - 1


def started(**changes):
    """In float64, its codes on the encoder's vectors, so that all or most are the nearest to some."""
    system = make(**changes)
    system.start(up(pictures(20)), Generator(5))
    return system


# --- who learns from what -------------------------------------------------------------------------------------------


def decoder_of(system):
    """Vectors (n, d) of some pictures ↦ pictures, in NumPy."""
    frozen, (h, w), d = system.decoder.frozen(), system.prior.config.shape, system.config.dims
    return lambda e: host(frozen(up(np.reshape(e, (-1, h, w, d)))))


@pytest.mark.equation("vq.straight_through", "vq.loss")
@FEW
@given(seed=st.integers(0, 200))
def test_gradients_of_encoder_and_codes_are_those_of_the_loss_with_its_stops_held(seed):
    """The oracle has ∂L/∂E and ∂L/∂e by differences of the decoder; with differences of the encoder, the chain rule."""
    system = started(seed=seed, beta=0.7)
    x = pictures(3, seed)
    E = host(system.encoder.frozen()(up(x)))
    codes = host(system.codebook)
    to_E, to_codes = oracle.loss_gradients(x, decoder_of(system), E.reshape(-1, 2), codes, 0.7)
    own = dict(system.encoder.named_parameters())
    found = sg.gradients(ops.sum(system.loss(up(x), Generator(1)).loss), [*own.values(), system.codebook])
    agree(found[-1], to_codes, rtol=1e-7, atol=1e-7)
    noise = np.random.default_rng(seed)
    v = {name: noise.standard_normal(p.shape) for name, p in own.items()}

    def moved(t):
        return host(system.encoder.frozen({name: p.value + up(t * v[name]) for name, p in own.items()})(up(x)))

    h = 1e-4  # the error of four points is h⁴, of numbers of some hundreds
    slope = (8 * (moved(h) - moved(-h)) - (moved(2 * h) - moved(-2 * h))) / (12 * h)
    along = sum(float(np.sum(host(g) * v[name])) for name, g in zip(own, found, strict=False))
    agree(along, np.sum(to_E * slope.reshape(-1, 2)), rtol=1e-6, atol=1e-5)


@pytest.mark.equation("vq.loss")
def test_only_codes_that_are_the_nearest_move(xp):
    """By gradient: each by twice the sum of its distances; one far away not at all."""
    system = started(codes=5)
    system.codebook.assign(system.codebook.value + up(np.array([0, 0, 0, 0, 50.0])[:, None]))
    x = pictures(6)
    E, codes = host(system.encoder.frozen()(up(x))).reshape(-1, 2), host(system.codebook)
    k = np.array(oracle.nearest(E, codes))
    (found,) = sg.gradients(ops.sum(system.loss(up(x), Generator(1)).loss), [system.codebook])
    assert len(set(k)) > 1
    for j in range(5):
        agree(host(found)[j], 2 * (codes[j] - E[k == j]).sum(axis=0), rtol=1e-10, atol=1e-12)
    agree(host(found)[4], np.zeros(2))


@BOTH
def test_each_player_reaches_its_own_parameters_and_no_others(decay, xp):
    system = make(decay=decay, shape=(4, 4, 1))
    model, prior = system.players()
    assert (model.name, prior.name) == ("model", "prior")
    assert set(prior.parameters) == {n for n, _ in system.named_parameters() if n.startswith("prior.")}
    assert ("codebook" in model.parameters) == (decay is None)
    remembered = set(dict(system.named_parameters())) - set(model.parameters) - set(prior.parameters)
    assert remembered == (set() if decay is None else {"codebook", "counted.n", "counted.m"})
    for player, other in ((model, prior), (prior, model)):
        loss = ops.sum(player.loss(up(pictures(8, shape=(4, 4, 1))), Generator(1)).loss)
        own = [np.abs(host(g)).max() for g in sg.gradients(loss, list(player.parameters.values()))]
        assert min(own) > 0
        rest = [*other.parameters.values(), *(x for n, x in system.named_parameters() if n in remembered)]
        assert max(np.abs(host(g)).max() for g in sg.gradients(loss, rest)) == 0


@pytest.mark.equation("vq.loss")
@BOTH
def test_the_loss_is_its_three_terms(decay, xp):
    system = started(decay=decay, beta=0.6)
    x = pictures(4)
    found = system.loss(up(x), Generator(1))
    E, codes = host(system.encoder.frozen()(up(x))), host(system.codebook)
    e = codes[oracle.nearest(E.reshape(-1, 2), codes)].reshape(E.shape)
    far = [oracle.squared_distance(*pair) for pair in zip(E, e, strict=True)]
    off = [oracle.squared_distance(*pair) for pair in zip(x, decoder_of(system)(e), strict=True)]
    agree(found.reconstruction, off, rtol=1e-11)
    agree(found.loss, np.array(off) + 1.6 * np.array(far), rtol=1e-11)


# --- codes by counting ----------------------------------------------------------------------------------------------


@pytest.mark.equation("vq.moving_average")
def test_what_follows_a_step_is_k_means_on_the_minibatch(xp):
    system = started(decay=0.0, codes=4)
    x = pictures(9, 3)
    before, E = host(system.codebook).copy(), host(system.encoder.frozen()(up(x))).reshape(-1, 2)
    system.players()[0].after(up(x), Generator(0))
    agree(system.codebook, oracle.kmeans_step(E, before), rtol=1e-12, atol=1e-13)
    apart(system.codebook, before, 1e-3)
    assert system.players()[1].after is None
    assert make().players()[0].after is None


@pytest.mark.equation("vq.moving_average")
def test_several_steps_are_means_of_all_that_was_seen(xp):
    system = started(decay=0.8)
    begin, history = host(system.codebook).copy(), []
    agree(system.counted["m"], begin)
    for seed in range(4):
        x = pictures(5, seed)
        E = host(system.encoder.frozen()(up(x))).reshape(-1, 2)
        history.append((E, oracle.nearest(E, host(system.codebook))))
        system.average(up(x), Generator(0))
    agree(system.codebook, oracle.aged_means(history, begin, 0.8), rtol=1e-11, atol=1e-12)


def test_codes_begin_as_vectors_of_the_first_minibatch(xp):
    system = make(codes=6)
    x = pictures(20)
    E = host(system.encoder.frozen()(up(x))).reshape(-1, 2)
    system.start(up(x), Generator(5))
    distances = np.abs(host(system.codebook)[:, None] - E).sum(axis=-1)
    agree(distances.min(axis=1), np.zeros(6))
    assert len(set(distances.argmin(axis=1))) == 6 or len(np.unique(E, axis=0)) < len(E)
    make(codes=60).start(up(pictures(2)), Generator(5))  # fewer vectors than codes


# --- from codes to pictures, and what those cost --------------------------------------------------------------------


def grids():
    return sequences(2, 3).reshape(-1, 1, 2)


def prior_table(system):
    logits = lambda k: ops.reshape(system.prior.logits(ops.reshape(k, (-1, 1, 2))), (-1, 2, 3))  # noqa: E731
    return autoregressive.table(told_only(logits, 2, 3), 2, 3)


@pytest.mark.equation("vq.nearest", "vq.straight_through")
def test_codes_are_all_that_the_decoder_sees(xp):
    """A picture, its vectors replaced one by one, decoded; and the same by way of integers."""
    system, x = started(), pictures(5)
    E, codes = host(system.encoder.frozen()(up(x))).reshape(-1, 2), host(system.codebook)
    k = np.reshape(oracle.nearest(E, codes), (5, 1, 2))
    agree(system.encode(up(x)), k)
    agree(system.reconstruct(up(x)), decoder_of(system)(codes[k]), rtol=1e-11, atol=1e-12)
    agree(system.frozen().decode(up(k)), system.reconstruct(up(x)), rtol=1e-11, atol=1e-12)
    E = system.encoder(up(x))
    e, _ = quantise.quantise(E, system.codebook)
    agree(system.decoder(quantise.straight_through(E, e)), system.reconstruct(up(x)), rtol=1e-10, atol=1e-11)


@pytest.mark.equation("autoregressive.log_prob")
def test_the_prior_shares_1_out_among_all_grids(xp):
    system = make()
    table = prior_table(system)
    log_p = host(system.prior.log_prob(up(grids())))
    agree(log_p, np.log(list(table.values())), 1e-11, 1e-11)
    agree(np.exp(log_p).sum(), 1, 0, 1e-13)
    apart(np.exp(log_p), 1 / 9, 1e-2)
    x = pictures(4)
    bits = -host(system.prior.log_prob(system.encode(up(x)))) / np.log(2)
    agree(system.prior_loss(up(x), Generator(1)).loss, bits / 2, rtol=1e-12)


@pytest.mark.equation("vq.bound")
def test_the_bound_is_below_the_evidence_by_what_the_grid_leaves_to_guess(xp):
    """log P(x) adds up all nine grids; the bound has one of them, whose posterior is the difference."""
    system, x = started(), pictures(12)
    log_sigma = np.log(np.random.default_rng(2).uniform(0.3, 0.9, (1, 2, 4, 1)))
    table, decode = prior_table(system), decoder_of(system)
    codes = host(system.codebook)
    found, k = host(system.elbo(up(x), up(log_sigma))), host(system.encode(up(x)))
    for one, grid, bound in zip(x, k, found, strict=True):
        means = lambda key: decode(codes[list(key)])  # noqa: E731
        log_p, posterior = oracle.log_evidence(one, table, means, np.exp(log_sigma), 3)
        agree(bound, log_p + np.log(posterior[tuple(grid.ravel())]), rtol=1e-9)
        at_most(bound, log_p)


@pytest.mark.equation("vq.bound")
def test_pictures_together_have_no_more_than_1():
    """Of all 3⁸: the evidence adds up to 1, so that bounds below it cannot add up to more."""
    system = started()
    x = 1.0 * np.array(list(itertools.product([-1, 0, 1], repeat=8))).reshape(-1, 2, 4, 1)
    log_sigma = np.full((1, 2, 4, 1), -0.5)
    found = np.exp(host(system.elbo(up(x), up(log_sigma)))).sum()
    at_most(found, 1.0)
    assert found > 0.05
    one = oracle.log_evidence(x[7], prior_table(system), lambda k: decoder_of(system)(host(system.codebook)[list(k)]),
                              np.exp(log_sigma), 3)[0]  # fmt: skip
    at_most(host(system.elbo(up(x[7:8]), up(log_sigma))), one)


def test_the_deviation_is_that_of_what_is_lost_and_of_one_level_more(xp):
    system, x = started(), pictures(7)
    lost = np.concatenate([x - host(system.reconstruct(up(x))), np.ones((1, 2, 4, 1))])
    agree(system.log_deviation(up(x)), np.log(np.sqrt(np.mean(lost**2, axis=0, keepdims=True))), rtol=1e-9, atol=1e-12)


@pytest.mark.equation("autoregressive.sample")
def test_samples_are_grids_of_the_prior_decoded(xp):
    """4,000 of nine kinds, told apart by their pictures; a p-value below 1e-6 is chance once in a million."""
    system = started()
    kinds = host(system.frozen().decode(up(grids()))).reshape(9, -1)
    x = host(system.sample(4000, Generator(3))).reshape(4000, -1)
    far = np.abs(x[:, None] - kinds).max(axis=-1)
    agree(far.min(axis=1), np.zeros(4000), atol=1e-9)
    drawn = grids()[far.argmin(axis=1)].reshape(-1, 2)
    at_most(1e-6, surprise(drawn, prior_table(system), 3))
    assert surprise(drawn, dict.fromkeys(prior_table(system), 1 / 9), 3) < 1e-6


# --- training -------------------------------------------------------------------------------------------------------

CONFIG = TrainConfig(steps=4, batch_size=8, lr=1e-2, ema_decay=0.9, log_every=2, checkpoint_every=2)
X = pictures(40).astype(np.float32)


@pytest.mark.parametrize("decay, shards", [(None, 1), (None, 2), (0.9, 2)])
def test_training_replayed_gives_the_same_bits(decay, shards, capsys):
    found = []
    for replay in (True, False):
        system = VQVAE(replace(TINY, decay=decay, prior_dropout=0.2), rng=Generator(0))
        result = train(system, X, replace(CONFIG, shards=shards, replay=replay))
        found.append((system.state_dict(), result.losses))
    assert "without replay" not in capsys.readouterr().err
    assert all(np.array_equal(found[0][0][name], found[1][0][name]) for name in found[0][0])
    assert found[0][1] == found[1][1]


def test_codes_by_counting_are_part_of_the_checkpoint(tmp_path):
    """Two steps, and two from what was saved, are four."""
    config = replace(TINY, decay=0.9)
    ends = []
    for name, stops in (("whole", (4,)), ("parts", (2, 4))):
        for i, steps in enumerate(stops):
            system = VQVAE(config, rng=Generator(i))
            settings = replace(CONFIG, steps=steps)
            run = RunConfig("vqvae", as_json(config), settings, "digits")
            folder = RunFolder.create(tmp_path / name, run) if i == 0 else RunFolder(tmp_path / name, run)
            train(system, X, settings, folder, progress=False)
        ends.append(system.state_dict())
    assert all(np.array_equal(ends[0][name], ends[1][name]) for name in ends[0])


@pytest.mark.parametrize("decay", [pytest.param(None, marks=pytest.mark.long), 0.9])
def test_a_few_pictures_are_learnt_by_heart(decay):
    """Three of them, equally often: a grid for each, which costs log₂ 3 bits at best, 7.2 unlearnt; samples are theirs.

    Half a bit and more is left where the codes came to rest last, and the prior had no time to follow.
    """
    x = np.tile(pictures(3, 4), (40, 1, 1, 1)).astype(np.float32)
    config = replace(TINY, codes=12, width=8, prior_width=8, decay=decay)
    system = VQVAE(config, rng=Generator(0))
    train(system, x, TrainConfig(steps=150, batch_size=15, lr=2e-2, final_lr=0.0), progress=False)
    agree(system.reconstruct(up(x[:3])), x[:3], atol=0.2)
    bits = -host(system.prior.log_prob(system.encode(up(x[:3])))).mean() / np.log(2)
    at_most(bits, np.log2(3) + 1)
    drawn = np.rint(host(system.sample(60, Generator(1))))
    known = (drawn[:, None] == x[:3]).all(axis=(2, 3, 4))
    assert known.any(axis=1).mean() > 0.9
    assert known.any(axis=0).all()


@pytest.mark.parametrize("changes, said", [
    ({"codes": 0}, "codes must be at least 1"), ({"halvings": 2}, "divisible by 4"),
    ({"decay": 1.0}, r"not in \[0, 1\)"), ({"shape": (8, 8)}, r"not \(H, W, C\)"),
    ({"beta": -1.0}, "negative"), ({"groups": 3}, "groups"),
])  # fmt: skip
def test_numbers_that_make_no_model_are_refused(changes, said):
    with pytest.raises(ValueError, match=said):
        VQVAE(replace(TINY, **changes), rng=Generator(0))
