"""GPT: attention and blocks place by place, logits of every beginning, all strings of a small alphabet."""

import itertools
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from autoregressive_tools import randomised, sequences, up
from evidence import agree, apart, at_most, host, record
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

import scratchgen as sg
from reference import autoregressive as strings
from reference import transformer as oracle
from scratchgen import functional as F
from scratchgen import nn, ops
from scratchgen.distributions import categorical
from scratchgen.models.language import GPT, GPTConfig
from scratchgen.models.language.gpt import Cache
from scratchgen.random import Generator
from scratchgen.train import TrainConfig, train

TINY = GPTConfig(symbols=3, context=4, width=4, layers=2, heads=2)
SOME = settings(max_examples=max(8, settings.default.max_examples // 4))
seeds = st.integers(0, 2**32 - 1)


def make(seed=0, scale=0.4, **changes):
    return randomised(GPT(replace(TINY, **changes), rng=Generator(seed)), seed, scale)


def weights(model):
    return {name: value.astype(np.float64) for name, value in model.state_dict().items()}


def by_beginnings(model, text):
    """(n, symbols): the logits of every beginning of a text (n,), each read by itself."""
    w, config = weights(model), model.config
    return np.array([oracle.next_logits(text[: i + 1], w, config.layers, config.heads) for i in range(len(text))])


# --- attention and the block --------------------------------------------------------------------------------


@pytest.mark.equation("gpt.attention")
@given(seed=seeds, length=st.integers(1, 5), heads=st.sampled_from([1, 2, 3]))
def test_a_place_looks_at_itself_and_those_before(seed, length, heads):
    """A mask against a future that is not there.  Rounding: some sums of a dozen numbers of size 1."""
    layer = randomised(nn.MultiHeadAttention(6, heads, rng=Generator(0)), seed)
    x = np.random.default_rng(seed).standard_normal((2, length, 6))
    found = layer(up(x), mask=F.causal_mask(length, up(x)))
    agree(found, [oracle.causal_attention(one, weights(layer), heads) for one in x], 1e-11, 1e-11)


@pytest.mark.equation("gpt.attention")
def test_the_jacobian_is_0_ahead_and_nowhere_else(xp):
    layer = randomised(nn.MultiHeadAttention(4, 2, rng=Generator(1))).frozen()
    x = up(np.random.default_rng(2).standard_normal((1, 5, 4)))
    J = host(sg.jacobian(lambda x: layer(x, mask=F.causal_mask(5, x)))(x))[0, :, :, 0]  # (T, width, T, width)
    agree(1 * (np.abs(J).max(axis=(1, 3)) > 0), np.tril(np.ones((5, 5), int)))


@pytest.mark.equation("gpt.block")
@given(seed=seeds, length=st.integers(1, 4), heads=st.sampled_from([1, 2]))
def test_a_block_looks_around_and_then_thinks(seed, length, heads):
    """Rounding as for attention; the integral of gelu is within 1e-13."""
    block = randomised(nn.TransformerBlock(4, heads, rng=Generator(0)), seed)
    x = np.random.default_rng(seed).standard_normal((1, length, 4))
    found = block(up(x), F.causal_mask(length, up(x)))
    agree(found, [oracle.block(x[0], weights(block), heads)], 1e-10, 1e-10)


@pytest.mark.equation("gpt.block")
def test_a_block_without_gain_changes_nothing():
    block = nn.TransformerBlock(6, 3, rng=Generator(0), gain=0.0).astype(np.float64)
    x = up(np.random.default_rng(0).standard_normal((2, 3, 6)))
    agree(block(x), x)


# --- the network --------------------------------------------------------------------------------------------


@pytest.mark.equation("gpt.logits")
@SOME
@given(seed=seeds, text=st.lists(st.integers(0, 2), min_size=1, max_size=4))
def test_logits_of_a_text_are_those_of_its_beginnings(seed, text):
    model = make(seed)
    agree(model.logits(up(np.array([text])))[0], by_beginnings(model, text), 1e-9, 1e-10)


@pytest.mark.equation("gpt.logits")
def test_what_comes_later_changes_no_bit(xp):
    """Of all pairs of texts: logits are alike as far as the texts are, and differ where they do."""
    model = make()
    texts = sequences(4, 3)
    logits = host(model.logits(up(texts)))
    for i in range(4):
        same = (texts[:, None, : i + 1] == texts[None, :, : i + 1]).all(axis=-1)
        equal = (logits[:, None, i] == logits[None, :, i]).all(axis=-1)
        agree(1 * equal, 1 * same)


@pytest.mark.equation("gpt.cache", "gpt.logits")
@SOME
@given(seed=seeds, parts=st.lists(st.integers(1, 3), min_size=1, max_size=4), rows=st.integers(1, 3))
def test_a_text_in_parts_has_the_logits_of_the_whole(seed, parts, rows):
    """However it is cut.  Rounding: products of matrices of other heights are summed in another order."""
    model = make(seed, context=sum(parts)).frozen()
    text = np.random.default_rng(seed).integers(0, 3, (rows, sum(parts)))
    cache, found, start = Cache(2), [], 0
    for n in parts:
        found.append(host(model.logits(up(text[:, start : start + n]), cache)))
        start += n
        assert cache.length == start
    agree(np.concatenate(found, axis=1), host(model.logits(up(text))), 1e-11, 1e-11)
    agree(found[-1][0, -1], by_beginnings(make(seed, context=sum(parts)), text[0])[-1], 1e-9, 1e-10)
    with pytest.raises(ValueError, match=rf"{start + 1} symbols are more than a context of {start}"):
        model.logits(up(text[:, :1]), cache)


@pytest.mark.equation("gpt.cache")
def test_a_step_with_a_cache_costs_as_much_more_as_there_is_to_look_at(monkeypatch, xp):
    """Multiplications of matrix products and numbers of softmaxes, counted.  Each symbol read adds the same to the
    cost of the next: two products of keys' and values' width, and a weight, in each of two layers and two heads."""
    model, counted = make(context=32).frozen(), []
    product, softmax = ops.products._matmul, F.softmax

    def matmul(a, b):
        y = product(a, b)
        counted.append(int(np.prod(y.shape)) * a.shape[-1])
        return y

    monkeypatch.setattr(ops.products, "_matmul", matmul)
    monkeypatch.setattr(F, "softmax", lambda x, axis: (counted.append(x.size), softmax(x, axis=axis))[1])
    masks, mask = [], F.causal_mask
    monkeypatch.setattr(F, "causal_mask", lambda *a: (masks.append(mask(*a)), masks[-1])[1])
    text, cache = up(np.random.default_rng(0).integers(0, 3, (1, 32))), Cache(2)
    with_cache, without = [], []
    for n in range(32):
        for costs, read in ((with_cache, lambda n=n: model.logits(text[:, n : n + 1], cache)),
                            (without, lambda n=n: model.logits(text[:, : n + 1]))):  # fmt: skip
            counted.clear()
            read()
            costs.append(sum(counted))
        assert masks[-2].shape == (1, n + 1)
    agree(np.diff(with_cache), 2 * (2 * 4 + 2))
    agree(np.diff(without, 2), 2 * 2 * (2 * 4 + 2))  # n² of the same
    assert without[-1] > 30 * with_cache[-1]
    record.notes["multiplications of the 32nd symbol"] = with_cache[-1]


# --- probabilities and samples ------------------------------------------------------------------------------


def conditional_of(model):
    """Beginning ↦ p(next), by the oracle's loops."""

    def conditional(rest):
        logits = oracle.next_logits((0, *rest), weights(model), model.config.layers, model.config.heads)
        e = np.exp(logits - logits.max())
        return e / e.sum()

    return conditional


@pytest.mark.equation("autoregressive.log_prob")
@pytest.mark.parametrize("changes", [{}, {"symbols": 2, "context": 5}, {"layers": 1, "heads": 1}])
def test_probabilities_of_all_strings(changes, xp):
    """Each that of the table, which is filled by a network that is told beginnings; and all together 1."""
    model = make(**changes)
    n, symbols = model.config.context, model.config.symbols
    table = strings.table(conditional_of(model), n, symbols)
    texts = np.array([(0, *rest) for rest in table])
    log_p = host(model.log_prob(up(texts)))
    agree(log_p, np.log(list(table.values())), 1e-9, 1e-9)
    agree(np.exp(log_p).sum(), 1, 0, 1e-12)
    apart(np.exp(log_p), symbols**-n, 1e-3)  # the network says something
    agree(model.loss(up(texts)).loss, -log_p / np.log(2) / n, 1e-13)


def both(p):
    """Of the two likeliest, made more alike."""
    kept = strings.of_the_likeliest(p, 2)
    kept[kept > 0] = strings.sharpened(kept[kept > 0], 1.5)
    return kept


def sharpened(p):
    return strings.sharpened(p, 0.7)


def likeliest(p):
    return strings.of_the_likeliest(p, 2)


CHOICES = {  # what is asked for, what that is, and what it is not
    "as it is": ({}, lambda p: p, sharpened),
    "sharpened": ({"temperature": 0.7}, sharpened, lambda p: p),
    "the likeliest": ({"likeliest": 2}, likeliest, both),
    "both": ({"likeliest": 2, "temperature": 1.5}, both, likeliest),
}


@pytest.mark.equation("autoregressive.sample", "choice.temperature", "choice.top_k")
@pytest.mark.parametrize("name", CHOICES)
def test_samples_have_the_probabilities_of_the_table(name, xp):
    """6,000 strings of 27 kinds; p-values below 1e-6 would be chance once in a million.  Another sort's table is told
    apart."""
    model, (options, choice, other) = make(scale=0.25), CHOICES[name]
    drawn = host(model.sample(6000, Generator(4), 3, **options))
    assert drawn.shape == (6000, 3)
    assert drawn.dtype == np.int64
    plain = cache(conditional_of(model))

    def fit(choice):
        """What never occurs in a table must not have been drawn; of the rest, Pearson's test."""
        table = {key: p for key, p in strings.table(lambda rest: choice(plain(rest)), 3, 3).items() if p > 1e-9}
        numbers = {key: i for i, key in enumerate(table)}
        if any(tuple(row) not in numbers for row in drawn.tolist()):
            return 0.0
        expected = len(drawn) * np.array(list(table.values()))
        counts = np.bincount([numbers[tuple(row)] for row in drawn.tolist()], minlength=len(table))
        assert expected.min() > 5
        return stats.chisquare(counts, expected).pvalue

    at_most(1e-6, fit(choice))
    assert fit(other) < 1e-6


@pytest.mark.equation("autoregressive.sample", "gpt.cache")
@pytest.mark.parametrize("context, prompt", [(4, [1]), (4, [0, 2, 1, 1]), (5, [2, 0, 1, 2, 2, 1, 0]), (1, [2])])
def test_with_what_was_kept_is_without(context, prompt, xp):
    """The same noise, the network reading the whole window for each symbol: past a context's end, its newer half."""
    model = make(context=context).frozen()
    start = np.tile(prompt, (3, 1))
    found = [host(k) for k, _ in zip(model.go_on(up(start), Generator(6), 0.8), range(12), strict=False)]
    rng, window, expected = Generator(6), start[:, -context:], []
    for _ in range(12):
        logits = model.logits(up(window))[:, -1:] / 0.8
        expected.append(host(categorical.sample(rng, logits))[:, 0])
        full = window.shape[1] == context
        window = np.concatenate([window, expected[-1][:, None]], axis=1)
        if full:
            window = window[:, -max(context // 2, 1) :]
    agree(np.array(found), np.array(expected))
    assert len(np.unique(found)) > 1
    again = model.sample(3, Generator(6), 12, up(np.array(prompt)), temperature=0.8)
    agree(host(again).T, np.array(expected))


@pytest.mark.equation("gpt.bits")
@SOME
@given(seed=seeds, context=st.integers(1, 5), n=st.integers(2, 14))
def test_a_long_text_is_read_in_windows_that_overlap_by_half(seed, context, n):
    model = make(seed, context=context, layers=1)
    text = np.random.default_rng(seed).integers(0, 3, n)
    expected = []
    for i in range(1, n):
        s = oracle.beginning(i, context)
        assert min(i, context // 2) <= i - s <= context
        logits = oracle.next_logits(text[s:i], weights(model), 1, 2)
        expected.append((np.log(np.exp(logits).sum()) - logits[text[i]]) / np.log(2))
    agree(model.bits(up(text)), expected, 1e-9, 1e-9)


@pytest.mark.equation("gpt.bits", "autoregressive.log_prob")
def test_the_bits_of_a_short_text_are_its_probability(xp):
    model = make()
    for text in itertools.product(range(3), repeat=4):
        log_p = host(model.log_prob(up(np.array([text]))))[0]
        agree(host(model.bits(up(np.array(text)))).sum(), -log_p / np.log(2), 1e-12)
    table = strings.table(conditional_of(model), 3, 3)
    agree(2.0 ** -host(model.bits(up(np.array([0, 2, 0, 1])))).sum(), table[2, 0, 1], 1e-9)
    s = [oracle.beginning(i, 4) for i in range(1, 12)]
    assert s == [0, 0, 0, 0, 2, 2, 4, 4, 6, 6, 8]


# --- the system ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("changes, said", [
    ({"symbols": 0}, "symbols must be at least 1"), ({"width": 6, "heads": 4}, "does not divide into 4 heads"),
    ({"width": 3, "heads": 1}, "width 3 is odd"), ({"context": 0}, "context must be at least 1"),
])  # fmt: skip
def test_configurations_that_make_no_network(changes, said):
    with pytest.raises(ValueError, match=said):
        replace(TINY, **changes)


def test_a_text_too_long_is_refused():
    with pytest.raises(ValueError, match="5 symbols are more than a context of 4"):
        make().logits(up(np.zeros((1, 5), np.int64)))


def test_a_new_network_knows_nothing_and_learns():
    """log₂ 3 bits a symbol; then a text that repeats what was three symbols ago costs next to nothing."""
    model = GPT(replace(TINY, context=8, width=16), rng=Generator(0))
    noise = np.random.default_rng(0)
    texts = np.concatenate([np.tile(noise.permutation(3), (1, 3)) for _ in range(300)])
    agree(model.loss(up(texts)).loss, np.log2(3), 1e-6)
    train(model, texts, TrainConfig(steps=150, batch_size=20, lr=1e-2), progress=False)
    found = host(model.loss(up(texts)).loss).mean()
    at_most(found, 1.15 * 1.0 / 8)  # of the second symbol one bit, of the others nothing
    drawn = host(model.sample(50, Generator(1), 9, up(np.array([1]))))
    assert (drawn[:, 2:] == np.concatenate([np.ones((50, 1)), drawn], axis=1)[:, :7]).mean() > 0.9


def test_the_gradient_reaches_every_weight():
    model = make()
    names, parameters = zip(*model.named_parameters(), strict=True)
    text = up(np.random.default_rng(1).integers(0, 3, (8, 5)))
    for name, g in zip(names, sg.gradients(ops.sum(model.loss(text).loss), list(parameters)), strict=True):
        assert (np.abs(host(g)) > 0).mean() > 0.9, name


def test_single_precision_stays_single():
    model = GPT(TINY, rng=Generator(0))
    assert model.loss(up(np.zeros((2, 5), np.int64))).loss.dtype == np.float32
    assert host(model.bits(up(np.zeros(9, np.int64)))).dtype == np.float32


@pytest.mark.parametrize("shards", [1, 2])
def test_training_replayed_gives_the_same_bits(shards):
    texts = np.random.default_rng(2).integers(0, 3, (40, 5))
    found = []
    for replay in (True, False):
        model = GPT(TINY, rng=Generator(0))
        config = TrainConfig(steps=6, batch_size=8, shards=shards, replay=replay, log_every=2)
        train(model, texts, config, progress=False)
        found.append(model.state_dict())
    assert all(np.array_equal(found[0][name], found[1][name]) for name in found[0])
