"""PixelCNN: what each pixel can see, by walks; probabilities and samples, by a table of all images; its training."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from autoregressive_tools import randomised, surprise, told_only, up
from evidence import agree, apart, at_most, host, lifted, record
from hypothesis import given
from hypothesis import strategies as st

import scratchgen as sg
from reference import autoregressive as oracle
from scratchgen import ops
from scratchgen.models.autoregressive import PixelCNN, PixelCNNConfig
from scratchgen.models.autoregressive import choice as choice_module
from scratchgen.models.autoregressive import pixelcnn as module
from scratchgen.random import Generator
from scratchgen.train import TrainConfig, train

pixelcnn, choice = lifted(module), lifted(choice_module)
TINY = PixelCNNConfig(shape=(2, 2), levels=3, width=5, layers=2)
GATED = pytest.mark.parametrize("gated", [True, False])
seeds = st.integers(0, 2**32 - 1)


def make(**changes):
    return randomised(PixelCNN(replace(TINY, **changes), rng=Generator(0)), scale=0.25)


def table_of(model, temperature=1.0):
    """Of all images: p by the chain rule, each factor from a network that is told the pixels before it only."""
    (h, w), levels = model.config.shape, model.config.levels
    logits = lambda k: ops.reshape(model.logits(ops.reshape(k, (-1, h, w))), (-1, h * w, levels))  # noqa: E731
    conditional = told_only(logits, h * w, levels)
    return oracle.table(lambda prefix: oracle.sharpened(conditional(prefix), temperature), h * w, levels)


# --- what a pixel sees --------------------------------------------------------------------------------------


@pytest.mark.equation("pixelcnn.mask")
@pytest.mark.parametrize("sight", module.SIGHTS)
@pytest.mark.parametrize("kernel", [3, 5, 7])
@pytest.mark.parametrize("first", [True, False])
def test_a_mask_lets_through_what_was_read_before(sight, kernel, first):
    r = kernel // 2
    found = pixelcnn.mask(sight, kernel, first)
    places = {(u, v) for u in range(-r, 1) for v in range(-r, r + 1)}
    seen = oracle.allowed(sight, kernel, first)
    assert seen <= places
    rows, columns = ([0], range(-r, 1)) if sight == "horizontal" else (range(-r, 1), range(-r, r + 1))
    agree(np.multiply(found, 1), [[int((u, v) in seen) for v in columns] for u in rows])


def dependence(net, shape, width):
    """Where ∂logits_i/∂x_j is not 0 for one of three x, (H·W, H·W): exactly, since a mask puts an exact 0."""
    n, found = shape[0] * shape[1], 0
    for x in np.random.default_rng(5).standard_normal((3, 1, *shape, width)):
        J = host(sg.jacobian(net.frozen())(up(x)))[0, ..., 0, :, :, :]  # (H, W, L, H, W, c)
        found = found + np.abs(np.moveaxis(J, 2, -1)).max(axis=(-1, -2)).reshape(n, n)
    return found > 0


@pytest.mark.equation("pixelcnn.mask", "autoregressive.log_prob")
@pytest.mark.parametrize("shape, kernel, layers", [((3, 4), 3, 4), ((4, 3), 3, 2), ((3, 5), 5, 3)])
@GATED
def test_the_jacobian_is_0_where_no_walk_leads(gated, shape, kernel, layers, xp):
    """Causal: nothing of the pixel itself or a later one; and all that a walk can reach is used."""
    model = make(shape=shape, kernel=kernel, layers=layers, gated=gated)
    found = dependence(model.net, shape, 5)
    walk = oracle.two_stacks if gated else oracle.plain_stack
    agree(1 * found, 1 * walk(shape, kernel, layers))
    assert not np.triu(found).any()


@pytest.mark.equation("pixelcnn.mask")
def test_one_stack_has_a_blind_spot_however_deep_and_two_have_none(xp):
    """On 3×5 pixels with 6 layers of 3×3: a row up, whatever is more than one column to the right."""
    shape = (3, 5)
    plain, gated = (dependence(make(shape=shape, layers=6, gated=g).net, shape, 5) for g in (False, True))
    before = np.tril(np.ones((15, 15), bool), -1)
    agree(1 * gated, 1 * before)
    places = np.array(list(itertools.product(range(3), range(5))))
    up_, right = (np.subtract.outer(places[:, a], places[:, a]) for a in (0, 1))
    blind = before & (-right > up_)  # pixel j is up_ rows above i and −right columns to its right
    assert blind.sum() == 2 * (3 + 2 + 1) + (2 + 1)
    agree(1 * plain, 1 * (before & ~blind))
    record.notes["blind"] = int(blind.sum())


# --- gates --------------------------------------------------------------------------------------------------


@pytest.mark.equation("pixelcnn.gate")
@given(a=st.floats(-6, 6, allow_subnormal=False), b=st.floats(-6, 6, allow_subnormal=False))
def test_a_gate_lets_the_first_half_through_as_the_second_says(a, b):
    agree(pixelcnn.gate(np.array([[a, b]])), [[oracle.gated(a, b)]], rtol=1e-10, atol=1e-12)


@pytest.mark.equation("pixelcnn.gate")
@given(seed=seeds, n=st.integers(1, 3))
def test_halves_stand_one_behind_the_other(seed, n):
    x = np.random.default_rng(seed).uniform(-2, 2, (2, 3, 2 * n))
    pairs = np.stack([x[..., :n], x[..., n:]], axis=-1)
    agree(pixelcnn.gate(x), pixelcnn.gate(pairs)[..., 0])
    sg.check_grads(module.gate, (x,), order=2)


# --- probabilities and samples ------------------------------------------------------------------------------


@pytest.mark.equation("autoregressive.log_prob")
@pytest.mark.parametrize("changes", [{}, {"gated": False}, {"shape": (1, 3)}, {"shape": (3, 1), "layers": 1}])
def test_probabilities_of_all_images(changes, xp):
    """81 images (27 of three pixels): each that of the table, and all together 1.  Rounding: a dozen sums of 1e-16."""
    model = make(**changes)
    shape, levels = model.config.shape, model.config.levels
    table = table_of(model)
    images = np.array(list(table)).reshape(-1, *shape)
    log_p = host(model.log_prob(up(images)))
    agree(log_p, np.log(list(table.values())), 1e-11, 1e-11)
    agree(np.exp(log_p).sum(), 1, 0, 1e-12)
    apart(np.exp(log_p), 1 / levels ** len(images[0].ravel()), 1e-3)  # the network says something
    agree(model.bits_per_dim(up(images)), -log_p / np.log(2) / images[0].size, 1e-14)
    agree(model.loss(up(images), Generator(1)).loss, model.bits_per_dim(up(images)))


@pytest.mark.equation("autoregressive.sample", "choice.temperature")
@pytest.mark.parametrize("gated, temperature", [(True, 1.0), (True, 1.4), (False, 1.0)])
def test_samples_have_the_probabilities_of_the_table(gated, temperature, xp):
    """8,000 images of 81 kinds; p-values below 1e-6 would be chance once in a million.  A table of another
    temperature, 1.4 times as large, is told apart."""
    model = make(gated=gated)
    drawn = host(model.sample(8000, Generator(4), temperature)).reshape(-1, 4)
    assert drawn.dtype == np.int64
    found = surprise(drawn, table_of(model, temperature), 3)
    at_most(1e-6, found)
    assert surprise(drawn, table_of(model, temperature * 1.4), 3) < 1e-6


@pytest.mark.equation("autoregressive.sample")
@GATED
def test_row_by_row_is_pixel_by_pixel(gated, xp):
    """The same noise through the whole network once for each pixel."""
    model = make(shape=(3, 4), gated=gated)
    (*_, fast) = model.draw(5, Generator(6))
    rng, k = Generator(6), up(np.zeros((5, 3, 4), np.int64))
    for r, c in itertools.product(range(3), range(4)):
        logits = model.frozen().logits(k)[:, r : r + 1, c]
        k[:, r : r + 1, c] = sg.distributions.categorical.sample(rng, logits)
    agree(fast, host(k))
    *_, whole = model.draw(5, Generator(7), given=k[:, :2])
    agree(host(whole)[:, :2], host(k)[:, :2])
    agree(model.sample(5, Generator(7), given=k), k)  # there is nothing left to draw


@pytest.mark.equation("choice.temperature")
@given(seed=seeds, K=st.integers(2, 6), temperature=st.sampled_from([0.25, 0.5, 1.0, 2.0]))
def test_a_temperature_sharpens_as_the_best_of_a_tradeoff(seed, K, temperature):
    """Mirror ascent ends within rounding, of steps of some units, of the optimum."""
    logits = np.random.default_rng(seed).uniform(-1, 1, (1, K))
    p, found = (np.exp(x[0]) / np.exp(x[0]).sum() for x in (logits, choice.temper(logits, temperature)))
    agree(found, oracle.sharpened(p, temperature), 1e-9, 1e-12)


@pytest.mark.equation("choice.temperature", "choice.top_k")
def test_no_temperature_leaves_the_likeliest():
    logits = np.array([[0.3, 2.0, -1.0], [4.0, 4.0, 0.0]])
    agree(choice.temper(logits, 0), [[-np.inf, 2, -np.inf], [4, 4, -np.inf]])
    agree(choice.temper(logits, 0), choice.top_k(logits, 1))


@pytest.mark.equation("choice.top_k")
@given(seed=seeds, K=st.integers(1, 6), n=st.integers(1, 7))
def test_the_likeliest_share_what_there_is(seed, K, n):
    logits = np.random.default_rng(seed).uniform(-3, 3, (2, K))
    p, found = (np.exp(x) / np.exp(x).sum(axis=1, keepdims=True) for x in (logits, choice.top_k(logits, n)))
    agree(found, [oracle.of_the_likeliest(row, n) for row in p], 1e-12)


def test_choices_that_make_no_sense():
    with pytest.raises(ValueError, match="not negative"):
        choice.temper(np.zeros((1, 2)), -1.0)
    with pytest.raises(ValueError, match="nothing to choose"):
        choice.top_k(np.zeros((1, 2)), 0)


# --- the system ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("changes, said", [
    ({"levels": 0}, "levels must be at least 1"), ({"kernel": 4}, "no middle"), ({"kernel": 1}, "sees nothing"),
    ({"shape": (2, 2, 1)}, r"not \(H, W\)"), ({"dropout": 1.0}, "dropout"),
])  # fmt: skip
def test_configurations_that_make_no_network(changes, said):
    with pytest.raises(ValueError, match=said):
        replace(TINY, **changes)


def test_images_of_another_shape_are_refused():
    with pytest.raises(ValueError, match=r"\(1, 3, 2\) should be \('B', 2, 2\)"):
        make().log_prob(up(np.zeros((1, 3, 2), np.int64)))
    with pytest.raises(ValueError, match="'sideways' is not one of raster, vertical, horizontal"):
        module.mask("sideways", 3, True)


@GATED
def test_a_new_network_knows_nothing_and_learns(gated):
    """log₂ 3 bits for each of 3 symbols; then pixels that repeat the first one cost next to nothing."""
    model = PixelCNN(replace(TINY, shape=(3, 3), width=8, gated=gated), rng=Generator(0))
    images = np.broadcast_to(np.arange(60)[:, None, None] % 3, (60, 3, 3)).astype(np.int64)
    agree(model.bits_per_dim(up(images)), np.log2(3), 1e-6)
    train(model, images, TrainConfig(steps=80, batch_size=20, lr=2e-2), progress=False)
    found = host(model.bits_per_dim(up(images))).mean()
    at_most(found, 1.1 * np.log2(3) / 9)  # the first pixel alone
    drawn = host(model.sample(30, Generator(1)))
    assert (drawn == drawn[:, :1, :1]).mean() > 0.97


def test_the_gradient_reaches_every_weight_that_is_not_masked():
    model = make(levels=3, shape=(3, 3))
    k = up(np.random.default_rng(1).integers(0, 3, (6, 3, 3)))
    names, parameters = zip(*model.named_parameters(), strict=True)
    found = dict(zip(names, sg.gradients(ops.sum(model.loss(k, Generator(0)).loss), list(parameters)), strict=True))
    for layer, conv in itertools.product((0, 1), ("vertical", "horizontal")):
        g = host(found[f"net.layers.{layer}.{conv}.w"])
        agree(1 * (g != 0).any(axis=(2, 3)), 1 * getattr(model.net.layers[layer], conv).mask)
    others = {n for n, g in found.items() if not n.endswith(".w") or "link" in n or "out" in n}
    last = {f"net.layers.1.vertical.{x}" for x in "wb"}  # is read by the horizontal stack all the same
    assert all(host(found[n]).any() for n in others | last)


def test_dropout_is_of_training_alone_and_keeps_the_mean():
    model = make(shape=(3, 3), dropout=0.5)
    k = up(np.zeros((2, 3, 3), np.int64))
    quiet, loud = model.loss(k, Generator(1)), make(shape=(3, 3)).loss(k, Generator(1))
    apart(quiet.loss, loud.loss, 1e-3)
    agree(model.log_prob(k), make(shape=(3, 3)).log_prob(k))
    seen = []
    model.net = lambda x, drop: seen.append(drop(up(np.ones((100, 100))))) or x
    model.logits(k, Generator(2))
    assert set(np.unique(host(seen[0]))) == {0.0, 2.0}
    agree(host(seen[0]).mean(), 1, 0, 0.05)  # 5 standard deviations of 10⁴ halves


@pytest.mark.parametrize("shards", [1, 2])
def test_training_replayed_gives_the_same_bits(shards):
    images = np.random.default_rng(2).integers(0, 3, (40, 2, 2))
    found = []
    for replay in (True, False):
        model = PixelCNN(replace(TINY, dropout=0.2), rng=Generator(0))
        config = TrainConfig(steps=6, batch_size=8, shards=shards, replay=replay, log_every=2)
        train(model, images, config, progress=False)
        found.append(model.state_dict())
    assert all(np.array_equal(found[0][name], found[1][name]) for name in found[0])
