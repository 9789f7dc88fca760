"""What the tests of autoregressive systems share: networks that are no longer 0, all sequences, tables of them."""

import itertools

import numpy as np
from evidence import host
from scipy import stats

from scratchgen.backend import active


def up(array):
    return active().asarray(array)


def randomised(model, seed=0, scale=0.5):
    """The model in float64 with noise on its weights: a new network's last layer is 0."""
    model, noise = model.astype(np.float64), np.random.default_rng(seed)
    for p in model.parameters():
        p.assign(p.value + up(scale * noise.standard_normal(p.shape)))
    return model


def sequences(n, symbols):
    """All of them, (symbolsⁿ, n), in the order of counting."""
    return np.array(list(itertools.product(range(symbols), repeat=n)))


def told_only(next_, n, symbols, seed=3):
    """prefix ↦ p(next | prefix), where whatever would come later is filled up at random, differently for each prefix.

    next_: sequences (1, n) ↦ logits (1, n, symbols).
    """
    noise = np.random.default_rng(seed)

    def conditional(prefix):
        filled = np.concatenate([prefix, noise.integers(0, symbols, n - len(prefix))]).astype(np.int64)
        logits = host(next_(up(filled[None])))[0, len(prefix)]
        e = np.exp(logits - logits.max())
        return e / e.sum()

    return conditional


def surprise(drawn, table, symbols):
    """The chance that sequences drawn (N, n) fit a table worse than this, if they come from it: Pearson's test."""
    places = drawn @ symbols ** np.arange(drawn.shape[1])[::-1]
    p = np.array(list(table.values()))
    counts = np.bincount(places, minlength=len(p))
    assert (len(drawn) * p).min() > 5
    return stats.chisquare(counts, len(drawn) * p / p.sum()).pvalue
