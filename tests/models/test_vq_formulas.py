"""Vector quantisation against loops, and against differences of a loss whose stop-gradients are written out."""

import numpy as np
import pytest
from evidence import agree, apart, at_most, lifted
from hypothesis import given
from hypothesis import strategies as st

import scratchgen as sg
from reference import vq as oracle
from scratchgen import ops
from scratchgen.models.latent import quantise as quantise_module

vq = lifted(quantise_module)

seeds = st.integers(0, 2**32 - 1)
sizes = st.integers(1, 4)
betas = st.sampled_from([0.25, 1.0, 0.0, 2.0])


def numbers(seed, *shapes):
    rng = np.random.default_rng(seed)
    return [rng.uniform(-2, 2, shape) for shape in shapes]


@pytest.mark.equation("vq.nearest")
@given(seed=seeds, B=sizes, n=sizes, K=st.integers(1, 7), d=sizes)
def test_the_nearest_code_is_the_one_that_a_loop_finds(seed, B, n, K, d):
    """Continuous codes: two are never as near as rounding (1e-15) is wide, so that the places must be equal."""
    E, codes = numbers(seed, (B, n, d), (K, d))
    k = vq.nearest(E, codes)
    agree(k, np.reshape(oracle.nearest(E.reshape(-1, d), codes), (B, n)))
    agree(vq.nearest(E[:, 0], codes), k[:, 0])  # one vector per example


@pytest.mark.equation("vq.nearest")
@given(seed=seeds, K=st.integers(2, 7))
def test_no_other_code_is_nearer_and_another_choice_would_be_worse(seed, K):
    E, codes = numbers(seed, (5, 3), (K, 3))
    e, k = vq.quantise(E, codes)
    agree(e, codes[k])
    found = np.square(E - e).sum(-1)
    at_most(found, np.square(E[:, None] - codes).sum(-1).min(1) * (1 + 1e-12))
    apart(found, np.square(E - codes[(k + 1) % K]).sum(-1), by=1e-9)


@pytest.mark.equation("vq.nearest")
def test_codes_of_many_numbers():
    E, codes = numbers(1, (6, 300), (4, 300))
    agree(vq.nearest(E, codes), oracle.nearest(E, codes))


@pytest.mark.equation("vq.nearest")
def test_of_equal_codes_the_first_and_far_from_the_origin_the_right_one():
    codes = np.array([[3.0, 0.0], [1.0, 0.0], [1.0, 0.0], [-1.0, 0.0]])
    agree(vq.nearest(np.array([[0.5, 7.0], [-2.0, 1.0], [0.0, 0.0]]), codes), [1, 3, 1])
    # float32 squares of 4096 and more are spaced by 1: without a common origin all the codes would look alike
    far, near = (np.float32(4096) + codes[[0, 1, 3]].astype("f") / 16, np.array([[2.6, 0.0], [0.4, 0.1]], "f") / 16)
    agree(vq.nearest(np.float32(4096) + near, far), [0, 1])


@pytest.mark.equation("vq.straight_through")
@given(seed=seeds, B=sizes, K=sizes, d=sizes)
def test_it_is_the_code_and_its_jacobian_the_identity(seed, B, K, d):
    """The derivative of the code itself would be 0 in E; that of the codebook reaches the decoder not at all."""
    E, codes, g = numbers(seed, (B, d), (K, d), (B, d))
    e, _ = vq.quantise(E, codes)
    agree(vq.straight_through(E, e), e, atol=1e-15)  # E + (e − E) rounds twice, at numbers below 4

    def seen(E, codes, g):
        return ops.sum(g * quantise_module.straight_through(E, quantise_module.quantise(E, codes)[0]))

    to_E, to_codes = lifted(sg.grad(seen, argnums=(0, 1)))(E, codes, g)
    agree(to_E, g)
    agree(to_codes, np.zeros((K, d)))


def through_decoder(beta):
    """The loss of a small nonlinear autoencoder, as a function of E, the codes and the decoder's weights."""

    def total(E, codes, w, x):
        e, _ = quantise_module.quantise(E, codes)
        decoded = ops.tanh(quantise_module.straight_through(E, e) @ w)
        return ops.sum(quantise_module.loss(x, decoded, E, e, beta).loss)

    return total


@pytest.mark.equation("vq.straight_through", "vq.loss")
@given(seed=seeds, B=sizes, K=st.integers(1, 3), d=st.integers(1, 3), beta=betas)
def test_gradients_are_differences_with_the_stopped_copies_held(seed, B, K, d, beta):
    """Extrapolated differences are good to about 1e-10 of numbers of some tens."""
    E, codes, w, x = numbers(seed, (B, d), (K, d), (d, 2), (B, 2))
    found = lifted(sg.grad(through_decoder(beta), argnums=(0, 1)))(E, codes, w, x)
    expected = oracle.loss_gradients(x, lambda z: np.tanh(z @ w), E, codes, beta)
    agree(found[0], expected[0], rtol=1e-8, atol=1e-8)
    agree(found[1], expected[1], rtol=1e-8, atol=1e-8)


@pytest.mark.equation("vq.loss")
@given(seed=seeds, B=sizes, n=sizes, d=sizes, beta=betas)
def test_the_loss_is_its_sum_over_entries(seed, B, n, d, beta):
    x, decoded, E, e = numbers(seed, (B, 3, 2), (B, 3, 2), (B, n, d), (B, n, d))
    found = vq.loss(x, decoded, E, e, beta)
    far = [oracle.squared_distance(*pair) for pair in zip(E, e, strict=True)]
    off = [oracle.squared_distance(*pair) for pair in zip(x, decoded, strict=True)]
    agree(found.reconstruction, off, rtol=1e-13)
    agree(found.codebook, far, rtol=1e-13)
    agree(found.commitment, far, rtol=1e-13)
    agree(found.loss, np.array(off) + (1 + beta) * np.array(far), rtol=1e-13)


@pytest.mark.equation("vq.loss")
@given(seed=seeds, beta=betas)
def test_each_term_reaches_exactly_the_parts_it_should(seed, beta):
    """By hand: 2(e − E) to the code, 2(E − e) to the encoder, and nothing of the one to the other."""
    x, decoded, E, e = numbers(seed, (2, 3), (2, 3), (2, 4), (2, 4))

    def reached(term):
        parts = lambda *args: ops.sum(getattr(quantise_module.loss(*args, beta), term))  # noqa: E731
        return lifted(sg.grad(parts, argnums=(1, 2, 3)))(x, decoded, E, e)

    none, away = np.zeros_like(E), 2 * (E - e)
    for term, expected in {
        "reconstruction": (2 * (decoded - x), none, none), "codebook": (0 * x, none, -away),
        "commitment": (0 * x, away, none), "loss": (2 * (decoded - x), beta * away, -away),
    }.items():  # fmt: skip
        for got, wanted in zip(reached(term), expected, strict=True):
            agree(got, wanted, rtol=1e-14)


@pytest.mark.equation("vq.loss")
def test_beta_is_a_quarter_unless_told():
    found = vq.loss(*numbers(2, (3, 2), (3, 2), (3, 4), (3, 4)))
    agree(found.loss, found.reconstruction + found.codebook + found.commitment / 4, 1e-14)


@pytest.mark.equation("vq.loss")
def test_second_order_gradients_of_the_loss():
    x, decoded, E, e = numbers(3, (2, 3), (2, 3), (2, 2), (2, 2))
    sg.check_grads(lambda x, y: quantise_module.loss(x, y, E, e).loss, (x, decoded), order=2)


@pytest.mark.equation("vq.nearest", "vq.straight_through", "vq.loss")
def test_float32_stays_float32():
    x, decoded, E, codes = (a.astype("f") for a in numbers(5, (4, 3), (4, 3), (4, 2), (6, 2)))
    e, _ = vq.quantise(E, codes)
    wide = vq.loss(*(a.astype(float) for a in (x, decoded, E, e)))
    for got, want in zip(vq.loss(x, decoded, E, e), wide, strict=True):
        assert got.dtype == np.float32
        agree(got, want, rtol=1e-6)
    assert vq.straight_through(E, e).dtype == np.float32


# --- codes by counting ------------------------------------------------------------------------------------------------


@pytest.mark.equation("vq.moving_average")
@given(seed=seeds, B=sizes, n=sizes, K=st.integers(1, 7), d=sizes)
def test_without_memory_it_is_a_step_of_k_means(seed, B, n, K, d):
    """Sums of 16 numbers below 2, over their number."""
    E, codes = numbers(seed, (B, n, d), (K, d))
    counted = vq.tally(E, vq.nearest(E, codes), K)
    agree(counted.n.sum(), B * n)
    zeros = quantise_module.Tally(np.zeros(K), np.zeros((K, d)))
    agree(vq.centres(vq.moving_average(zeros, counted, 0.0), codes), oracle.kmeans_step(E.reshape(-1, d), codes),
          rtol=1e-13, atol=1e-14)  # fmt: skip


@pytest.mark.equation("vq.moving_average")
@given(seed=seeds, T=st.integers(1, 5), K=st.integers(1, 4), d=st.integers(1, 3),
       gamma=st.sampled_from([0.1, 0.5, 0.9, 0.99]))  # fmt: skip
def test_codes_are_means_of_all_their_vectors_the_older_the_less(seed, T, K, d, gamma):
    rng = np.random.default_rng(seed)
    history = [(rng.uniform(-2, 2, (6, d)), rng.integers(0, K, 6)) for _ in range(T)]
    codes = begin = rng.uniform(-2, 2, (K, d))
    counted = quantise_module.Tally(np.ones(K), begin)
    for E, k in history:
        counted = vq.moving_average(counted, vq.tally(E, k, K), gamma)
        codes = vq.centres(counted, codes)
    agree(codes, oracle.aged_means(history, begin, gamma), rtol=1e-12, atol=1e-13)


@pytest.mark.equation("vq.moving_average")
def test_a_code_that_nothing_has_chosen_for_long_stays():
    """Its number and sum would in the end be a few of the smallest float32's, and their ratio anywhere."""
    codes, E = np.array([[1.0, 2.0], [9.3, 0.7]], "f"), np.array([[1.5, 2.0]], "f")
    counted, now = quantise_module.Tally(np.ones(2, "f"), codes), codes
    for _ in range(400):
        counted = vq.moving_average(counted, vq.tally(E, np.array([0]), 2), 0.7)
        now = vq.centres(counted, now)
    agree(now, [[1.5, 2], [9.3, 0.7]], rtol=1e-5)  # the rounding of some thirty steps
    assert now.dtype == np.float32
    at_most(counted.n[1], 1e-40)


@pytest.mark.equation("vq.perplexity")
@given(seed=seeds, n=st.integers(1, 40), K=st.integers(1, 8))
def test_the_perplexity_of_codes_in_use(seed, n, K):
    k = np.random.default_rng(seed).integers(0, K, (n, 2))
    shares = np.array([np.mean(k == j) for j in range(K)])
    p = vq.usage(k, K)
    agree(p, shares, rtol=1e-14)
    found = vq.perplexity(p)
    agree(found, oracle.perplexity(shares), rtol=1e-12)
    at_most(found, np.count_nonzero(shares) * (1 + 1e-12))


@pytest.mark.equation("vq.perplexity")
@given(K=st.integers(1, 9), more=st.integers(0, 4))
def test_equally_many_of_each_are_as_many_as_there_are(K, more):
    k = np.tile(np.arange(K), 3)
    agree(vq.perplexity(vq.usage(k, K + more)), oracle.perplexity([1 / K] * K), rtol=1e-12)
    agree(vq.perplexity(vq.usage(k, K + more)), K, rtol=1e-12)
    agree(vq.perplexity(vq.usage(np.zeros(5, int), K)), 1)


def test_misfits_are_refused():
    for E, codebook in (((4, 3), (5, 2)), ((4, 3), (5, 4)), ((4, 3), (3,)), ((4, 3), (5, 3, 2)), ((3,), (5, 3))):
        with pytest.raises(ValueError, match=r"should be \(B, …, d\) and \(K, d\)"):
            vq.nearest(np.zeros(E), np.zeros(codebook))
    with pytest.raises(ValueError, match=r"decoded \(4, 1\)"):
        vq.loss(np.zeros((4, 3)), np.zeros((4, 1)), np.zeros((4, 2)), np.zeros((4, 2)))
    with pytest.raises(ValueError, match=r"e \(4, 1\)"):
        vq.loss(np.zeros((4, 3)), np.zeros((4, 3)), np.zeros((4, 2)), np.zeros((4, 1)))
