"""NMF against Poisson counts, bounds searched for their least values, and scikit-learn step by step."""

import warnings

import numpy as np
import pytest
from closed_forms import check_everywhere, check_gradients, seeds, seldom, uniform
from evidence import agree, apart, at_most, host, lifted, up
from hypothesis import given
from hypothesis import strategies as st
from sklearn import decomposition

import scratchgen as sg
from reference import factors as oracle
from scratchgen.models.classical import nmf as module
from scratchgen.models.classical.nmf import NMF, NMFConfig
from scratchgen.random import Generator

nmf = lifted(module)
sizes = st.integers(1, 4)
LOSSES = {"frobenius": "frobenius", "kl": "kullback-leibler"}
losses = st.sampled_from(list(LOSSES))


def tables(seed, n, D, r):
    """X, W, H and M, of which some entries are 0 but no row's or column's all are."""
    x, w, h = (uniform(seed + i, shape, (0.2, 3))[0] for i, shape in enumerate(((n, D), (n, r), (r, D))))
    known = np.random.default_rng(seed).random((n, D)) > 0.3
    known[:, 0] = known[0] = True
    return x, w, h, known.astype(float)


def theirs(x, w, h, steps, loss):
    """scikit-learn's W and H after so many updates of both."""
    model = decomposition.NMF(w.shape[1], init="custom", solver="mu", beta_loss=LOSSES[loss], max_iter=steps, tol=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it would like more of them
        return model.fit_transform(x, W=w.copy(), H=h.copy()), model.components_, model


# --- (1) and (2) ----------------------------------------------------------------------------------------------------


@pytest.mark.equation("nmf.frobenius")
@given(seeds, sizes, sizes, sizes)
def test_half_the_squares(seed, n, D, r):
    x, w, h, known = tables(seed, n, D, r)
    agree(check_everywhere(nmf.frobenius, x, w, h), oracle.squared_error(x, w @ h, 0 * x + 1), rtol=1e-13)
    agree(check_everywhere(nmf.frobenius, x, w, h, known), oracle.squared_error(x, w @ h, known), rtol=1e-13)
    _, _, model = theirs(x, w, h, 3, "frobenius")
    at_most(model.reconstruction_err_**2 / 2, nmf.frobenius(x, w, h).sum() + 1e-12)


@pytest.mark.equation("nmf.kl")
@given(seeds, sizes, sizes, sizes)
def test_the_excess_of_poisson_counts(seed, n, D, r):
    """Counts, 0 among them, by probabilities; other numbers by SciPy's kl_div.  Never negative, 0 for X itself."""
    x, w, h, known = tables(seed, n, D, r)
    counts = np.random.default_rng(seed).poisson(w @ h).astype(float)
    agree(check_everywhere(nmf.kl, counts, w, h), oracle.excess(counts, w @ h, 0 * x + 1), rtol=1e-12, atol=1e-12)
    agree(check_everywhere(nmf.kl, counts, w, h, known), oracle.excess(counts, w @ h, known), rtol=1e-12, atol=1e-12)
    agree(check_everywhere(nmf.kl, x, w, h, known), oracle.divergence(x, w @ h, known), rtol=1e-12, atol=1e-12)
    at_most(-nmf.kl(counts, w, h), 1e-13)
    agree(nmf.kl(w @ h, w, h), np.zeros(n), atol=1e-13)


@pytest.mark.equation("nmf.frobenius", "nmf.kl")
def test_gradients():
    x, w, h, known = tables(3, 3, 4, 2)
    for loss in (module.frobenius, module.kl):
        check_gradients(lambda w, h: loss(x, w, h, known), w, h)  # noqa: B023
        check_gradients(lambda x, w, h: loss(x, w, h), x, w, h)  # noqa: B023


@pytest.mark.equation("nmf.kl")
def test_no_ink_and_no_guess_cost_nothing():
    zero = np.zeros((1, 2))
    agree(nmf.kl(zero, np.zeros((1, 1)), np.ones((1, 2))), np.zeros(1))
    agree(nmf.kl(zero, np.ones((1, 1)), np.array([[2.0, 3.0]])), [5.0])
    agree(oracle.excess(zero, np.array([[2.0, 3.0]]), zero + 1), [5.0], rtol=1e-15)


# --- (3) and (4) ----------------------------------------------------------------------------------------------------


@pytest.mark.equation("nmf.frobenius_update", "nmf.kl_update", "nmf.frobenius", "nmf.kl")
@seldom
@given(seeds, losses, sizes, sizes, sizes)
def test_an_update_is_where_the_bound_is_least(seed, loss, n, D, r):
    """The bound touches the loss at W, is nowhere below it, and its least value, searched for, is at the next W."""
    x, w, h, known = tables(seed, n, D, r)
    value, update = getattr(nmf, loss), getattr(nmf, f"{loss}_update")
    for mask in (None, known):
        M = 0 * x + 1 if mask is None else mask
        args = (x, w, h) if mask is None else (x, w, h, mask)
        got = check_everywhere(update, *args)
        agree(got, [oracle.bound_minimum(*rows, loss) for rows in zip(x, w, [h] * n, M, strict=True)], rtol=1e-11)
        bound = lambda u: [oracle.bound(*row, loss) for row in zip(u, x, w, [h] * n, M, strict=True)]  # noqa: B023, E731
        agree(bound(w), value(*args), rtol=1e-11, atol=1e-12)
        other = w * np.exp(np.random.default_rng(seed).normal(size=w.shape))
        at_most(value(x, other, h, *args[3:]), np.array(bound(other)) + 1e-11)
        at_most(value(x, got, h, *args[3:]), value(*args) + 1e-12)


@pytest.mark.equation("nmf.frobenius_update", "nmf.kl_update")
@given(seeds, losses, sizes, sizes, sizes)
def test_an_update_is_a_gradient_step_of_a_length_of_its_own(seed, loss, n, D, r):
    """w − (w/below)·∂D/∂w by the engine's gradient, where below − above is that gradient: so both have one sign."""
    x, w, h, known = tables(seed, n, D, r)
    W = sg.tensor(up(w))
    (slope,) = sg.gradients(getattr(module, loss)(up(x), W, up(h), up(known)).sum(), [W])
    got = getattr(nmf, f"{loss}_update")(x, w, h, known)
    agree(np.sign(np.where(np.abs(host(slope)) > 1e-9, w - got, 0)), np.sign(np.where(np.abs(host(slope)) > 1e-9,
          host(slope), 0)))  # fmt: skip
    below = known @ h.T if loss == "kl" else (known * (w @ h)) @ h.T
    agree(got, w - w / below * host(slope), rtol=1e-11, atol=1e-12)
    assert (got > 0).all()


@pytest.mark.equation("nmf.frobenius_update", "nmf.kl_update")
@seldom
@given(seeds, losses, st.integers(2, 6), st.integers(2, 6), st.integers(1, 3))
def test_every_step_is_scikit_learns(seed, loss, n, D, r):
    """W and H after 1, 2, … 20 updates from the same start, zeros in X too; to 1e-10 of what is not vanishing."""
    x, w, h, _ = tables(seed, n, D, r)
    x = np.where(np.random.default_rng(seed).random(x.shape) < 0.2, 0, x)
    x[0] = x[0] + 0.1
    system = NMF(NMFConfig(n, D, r, loss))
    values = []
    for t, value in enumerate(system.descend(up(x), (up(w), up(h)), 20), start=1):
        values.append(value)
        if t in (1, 2, 3, 10, 20):
            W, H, model = theirs(x, w, h, t, loss)
            agree(system.W, W, rtol=1e-10, atol=1e-12)
            agree(system.H, H, rtol=1e-10, atol=1e-12)
            agree(value, model.reconstruction_err_**2 / 2, rtol=1e-10, atol=1e-11)
    at_most(np.diff(values), 1e-12 * values[0])


@pytest.mark.equation("nmf.frobenius_update", "nmf.kl_update", "nmf.frobenius", "nmf.kl")
@given(seeds, losses, st.integers(2, 6), st.integers(2, 6), st.integers(1, 3))
def test_the_divergence_never_rises_and_what_is_missing_does_not_matter(seed, loss, n, D, r):
    x, w, h, known = tables(seed, n, D, r)
    start, M = (up(w), up(h)), up(known)
    system, other = NMF(NMFConfig(n, D, r, loss)), NMF(NMFConfig(n, D, r, loss))
    values = list(system.descend(up(x), start, 15, M))
    at_most(np.diff(values), 1e-12 * values[0])
    assert list(other.descend(up(np.where(known, x, 77.0)), start, 15, M)) == values
    agree(other.W, system.W)
    agree(values[-1], getattr(nmf, loss)(x, host(system.W), host(system.H), known).sum(), rtol=1e-12)
    full, none = (list(NMF(NMFConfig(n, D, r, loss)).descend(up(x), start, 5, m)) for m in (up(0 * x + 1), None))
    agree(full, none, rtol=1e-11)


@pytest.mark.equation("nmf.frobenius_update", "nmf.kl_update")
@pytest.mark.parametrize("loss", LOSSES)
def test_nothing_is_divided_by_zero(loss):
    """A part that is nowhere, a person who has rated nothing, an example without ink: all stay finite."""
    x, w, h, known = tables(1, 3, 4, 2)
    update = getattr(nmf, f"{loss}_update")
    h[0], known[1], x[2] = 0, 0, 0
    for mask in ((), (known,)):
        got = update(x, w, h, *mask)
        assert np.isfinite(got).all()
        agree(got[:, 0], [0, 0, 0])
        agree(got[2], [0, 0])
    agree(got[1], [0, 0])


# --- the system -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", LOSSES)
def test_a_product_of_parts_is_found_again_through_its_holes(loss, xp):
    """X of rank 2 with a third of it hidden: the known part is fitted, and the hidden part is then right."""
    _, w, h, _ = tables(5, 30, 12, 2)
    x, known = w @ h, np.random.default_rng(0).random((30, 12)) > 0.33
    system = NMF(NMFConfig(30, 12, 2, loss))
    seen = np.where(known, x, 0)
    assert system.fit(up(seen), Generator(2), steps=1500, mask=up(known.astype(float))) is system
    guess = host(system.inverse_transform(system.W))
    at_most(np.abs(guess - x)[~known].mean(), 0.02)
    apart(x[~known], x[known].mean(), by=0.2)
    blind = NMF(NMFConfig(30, 12, 2, loss)).fit(up(seen), Generator(2), steps=200)  # which takes holes for zeros
    apart(host(blind.inverse_transform(blind.W))[~known], x[~known], by=0.5)


@pytest.mark.parametrize("loss", LOSSES)
def test_fit_and_transform_are_scikit_learns(loss, xp):
    x, w, h, _ = tables(8, 9, 6, 3)
    system = NMF(NMFConfig(9, 6, 3, loss))
    system.fit(up(x), start=(up(w), up(h)), steps=30)
    W, H, model = theirs(x, w, h, 30, loss)
    agree(system.W, W, rtol=1e-10)
    agree(system.H, H, rtol=1e-10)
    new = tables(9, 4, 6, 3)[0]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        agree(system.transform(up(new), steps=30), model.transform(new), rtol=1e-9)
    agree(system.inverse_transform(up(W)), W @ H, rtol=1e-10)


def test_what_does_not_fit_is_refused(xp):
    x, w, h, _ = tables(0, 3, 4, 2)
    system = NMF(NMFConfig(3, 4, 2))
    with pytest.raises(ValueError, match="give a start, or an rng"):
        system.fit(up(x))
    with pytest.raises(ValueError, match="X, W and H must not be negative"):
        system.fit(up(x - 5), start=(up(w), up(h)))
    with pytest.raises(ValueError, match=r"NMF: X \(3, 3\), W \(3, 2\), H \(2, 4\) do not fit \(3, 2\), \(2, 4\)"):
        system.fit(up(x[:, :3]), start=(up(w), up(h)))
    with pytest.raises(ValueError, match="must be at least 1"):
        NMFConfig(rank=0)
