"""Laws that the functions of networks obey, beside the value-by-value checks of tests/ops."""

import numpy as np
import pytest

import scratchgen as sg
from scratchgen import functional as F
from scratchgen import ops

RNG = np.random.default_rng(0)
LOGITS, LABELS = 3 * RNG.standard_normal((5, 4)), np.array([0, 3, 1, 1, 2])
Q, K, V = RNG.standard_normal((3, 2, 6, 4))
IMAGES = RNG.standard_normal((2, 3, 4, 6))


def plain(backend, y):
    return backend.to_numpy(y)


def close(actual, wanted, tolerance=1e-12):
    np.testing.assert_allclose(actual, wanted, rtol=tolerance, atol=tolerance)


# --- softmax and the cross entropies ------------------------------------------------------------------------


def test_softmax_is_a_distribution_that_a_shift_does_not_move(backend):
    x = backend.asarray(LOGITS)
    y = plain(backend, F.softmax(x))
    close(y.sum(-1), 1)
    close(plain(backend, F.softmax(x + 1000.0)), y, 1e-10)
    close(plain(backend, ops.exp(F.log_softmax(x))), y)
    close(plain(backend, F.log_softmax(x) + ops.logsumexp(x, axis=-1, keepdims=True)), LOGITS)


def test_the_gradient_of_softmax_vanishes_under_a_constant_upstream(backend):
    x = backend.asarray(LOGITS)
    close(plain(backend, sg.grad(lambda x: F.softmax(x).sum())(x)), 0, 1e-15)
    jacobian = plain(backend, sg.jacobian(F.softmax)(x[0]))
    p = plain(backend, F.softmax(x[0]))
    close(jacobian, np.diag(p) - np.outer(p, p))


def test_cross_entropy_and_its_gradient(backend):
    x, labels = backend.asarray(LOGITS), backend.asarray(LABELS)
    p = np.exp(LOGITS) / np.exp(LOGITS).sum(1, keepdims=True)
    close(plain(backend, F.cross_entropy(x, labels)), -np.log(p[np.arange(5), LABELS]))
    close(plain(backend, sg.grad(lambda x: F.cross_entropy(x, labels).sum())(x)), p - np.eye(4)[LABELS])
    close(plain(backend, F.cross_entropy(x * 0, labels)), np.log(4))
    with pytest.raises(IndexError):
        F.cross_entropy(LOGITS, LABELS + 1)


def test_binary_cross_entropy_and_its_gradient(backend):
    logits, x = backend.asarray(LOGITS[0]), backend.asarray(np.array([0.0, 1.0, 0.3, 1.0]))
    sigma = 1 / (1 + np.exp(-LOGITS[0]))
    slope = sg.grad(lambda z: F.binary_cross_entropy(z, x).sum())(logits)
    close(plain(backend, slope), sigma - plain(backend, x))
    far = backend.asarray(np.array([800.0, -800.0]))
    close(plain(backend, F.binary_cross_entropy(far, backend.asarray(np.array([1.0, 0.0])))), 0)
    close(plain(backend, F.binary_cross_entropy(far, backend.asarray(np.array([0.0, 1.0])))), 800)


def test_binary_cross_entropy_keeps_its_digits_where_the_guess_is_right():
    """Beside float64: relative to the value, also where that is 10⁻¹³ or the sum of two large terms would be."""
    rng = np.random.default_rng(1)
    logits = rng.uniform(-30, 30, 1000)
    for x in ((logits > 0) * 1.0, rng.integers(0, 256, 1000) / 255, 1 / (1 + np.exp(-logits))):
        logits32, x32 = logits.astype(np.float32), x.astype(np.float32)
        wanted = F.binary_cross_entropy(logits32.astype(np.float64), x32.astype(np.float64))
        np.testing.assert_allclose(F.binary_cross_entropy(logits32, x32), wanted, rtol=1e-6, atol=0)
        slope = sg.grad(lambda z, x=x32: F.binary_cross_entropy(z, x).sum())(logits32)
        sigma = 1 / (1 + np.exp(-logits32.astype(np.float64)))
        np.testing.assert_allclose(slope, sigma - x32, rtol=0, atol=1.5e-7)


def test_activations_at_known_places():
    x = np.array([-800.0, -1.0, 0.0, 1.0, 800.0])
    close(F.relu(x), [0, 0, 0, 1, 800])
    close(F.leaky_relu(x), [-160, -0.2, 0, 1, 800])
    close(F.sigmoid(x), [0, 0.2689414213699951, 0.5, 0.7310585786300049, 1])
    close(F.silu(x), [0, -0.2689414213699951, 0, 0.7310585786300049, 800])
    close(F.gelu(x), [0, -0.15865525393145707, 0, 0.8413447460685429, 800])
    close(F.softplus(x), [0, 0.31326168751822286, np.log(2), 1.3132616875182228, 800])
    close(F.log_sigmoid(x), -F.softplus(-x))
    assert F.sigmoid is ops.expit
    assert F.tanh is ops.tanh


# --- normalisation ------------------------------------------------------------------------------------------


def test_normalised_numbers_have_mean_0_and_variance_1(backend):
    x = backend.asarray(5 + 3 * IMAGES)
    for y, axes in (
        (F.layer_norm(x, tiny=0.0), -1),
        (F.group_norm(x, 1, tiny=0.0), (1, 2, 3)),
        (F.group_norm(x, 6, tiny=0.0), (1, 2)),
    ):
        close(plain(backend, y).mean(axes), 0)
        close(plain(backend, y).var(axes), 1)
    rms = plain(backend, F.rms_norm(x, tiny=0.0))
    close((rms**2).mean(-1), 1)


def test_norms_do_not_see_shift_and_scale(backend):
    x = backend.asarray(IMAGES)
    close(plain(backend, F.group_norm(7 + 2 * x, 3, tiny=0.0)), plain(backend, F.group_norm(x, 3, tiny=0.0)))
    close(plain(backend, F.layer_norm(7 + 2 * x, tiny=0.0)), plain(backend, F.layer_norm(x, tiny=0.0)))
    close(plain(backend, F.rms_norm(2 * x, tiny=0.0)), plain(backend, F.rms_norm(x, tiny=0.0)))


def test_norms_of_constant_numbers_are_finite_with_their_gradients():
    x = np.full((2, 4), 3.0)
    for norm in (F.layer_norm, F.rms_norm, lambda x: F.group_norm(x, 2)):
        assert np.isfinite(norm(x)).all()
        assert np.isfinite(sg.grad(lambda x, n=norm: (n(x) * LOGITS[:2]).sum())(x)).all()
        assert np.isfinite(sg.hvp(lambda x, n=norm: (n(x) * LOGITS[:2]).sum(), x, LOGITS[2:4])).all()
    close(F.layer_norm(x), 0)


@pytest.mark.parametrize("norm", [F.layer_norm, lambda x: F.group_norm(x, 4)], ids=["layer", "group"])
def test_norms_in_single_precision_are_those_of_double(norm):
    x = np.random.default_rng(2).normal(3, 2, (4, 28, 28, 32)).astype(np.float32)
    g = np.random.default_rng(3).standard_normal(x.shape).astype(np.float32)
    exact, back = sg.vjp(norm, x.astype(np.float64))
    rough, back32 = sg.vjp(norm, x)
    np.testing.assert_allclose(rough, exact, rtol=0, atol=3e-6)
    np.testing.assert_allclose(back32(g), back(g.astype(np.float64)), rtol=0, atol=2e-6)


def test_scale_and_shift_of_norms(backend):
    x, scale, shift = map(backend.asarray, (LOGITS, LOGITS[0], LOGITS[1]))
    bare = plain(backend, F.layer_norm(x))
    close(plain(backend, F.layer_norm(x, scale, shift)), bare * LOGITS[0] + LOGITS[1])
    close(plain(backend, F.layer_norm(x, scale)), bare * LOGITS[0])
    close(plain(backend, F.layer_norm(x, None, shift)), bare + LOGITS[1])


# --- attention ----------------------------------------------------------------------------------------------


def test_attention_to_equal_keys_is_the_mean_of_the_values(backend):
    q, v = backend.asarray(Q), backend.asarray(V)
    k = backend.asarray(np.broadcast_to(K[:, :1], K.shape).copy())
    close(plain(backend, F.attention(q, k, v)), np.broadcast_to(V.mean(1, keepdims=True), V.shape))


def test_attention_does_not_see_the_order_of_keys_and_follows_that_of_queries(backend):
    order = np.array([3, 0, 5, 1, 4, 2])
    q, k, v = map(backend.asarray, (Q, K, V))
    y = plain(backend, F.attention(q, k, v))
    shuffled = [backend.asarray(a[:, order]) for a in (Q, K, V)]
    close(plain(backend, F.attention(q, *shuffled[1:])), y)
    close(plain(backend, F.attention(shuffled[0], k, v)), y[:, order])


def test_under_a_causal_mask_the_future_has_no_influence(backend):
    q, k, v = map(backend.asarray, (Q, K, V))
    mask = F.causal_mask(6, like=q)
    jacobian = plain(backend, sg.jacobian(lambda v: F.attention(q, k, v, mask)[0, :, 0])(v))[:, 0, :, 0]  # (t, s)
    assert np.all(np.triu(jacobian, 1) == 0)
    assert np.all(jacobian[np.tril_indices(6)] > 0)
    close(jacobian.sum(1), 1)
    first = plain(backend, F.attention(q, k, v, mask))[:, 0]
    close(first, V[:, 0])


# --- embeddings ---------------------------------------------------------------------------------------------


def test_embedding_is_a_product_with_one_hot_rows(backend):
    table, places = backend.asarray(LOGITS), backend.asarray(np.array([[0, 4], [4, 1]]))
    hot = F.one_hot(places, 5, dtype="float64")
    close(plain(backend, F.embedding(table, places)), plain(backend, ops.matmul(hot, table)))
    g = backend.asarray(RNG.standard_normal((2, 2, 4)))
    ours = sg.vjp(lambda t: F.embedding(t, places), table)[1](g)
    theirs = sg.vjp(lambda t: ops.matmul(hot, t), table)[1](g)
    close(plain(backend, ours), plain(backend, theirs))
    with pytest.raises(IndexError):
        F.embedding(LOGITS, np.array([5]))


def test_one_hot_and_causal_mask_live_where_they_should(backend):
    with sg.backend(backend.name):
        assert type(F.causal_mask(3)) is type(backend.zeros((1,)))
    assert plain(backend, F.one_hot(backend.asarray(np.array([2, 0])), 3)).tolist() == [[0, 0, 1], [1, 0, 0]]
    assert F.one_hot(backend.asarray(np.array([1])), 3).dtype == np.float32


# --- images -------------------------------------------------------------------------------------------------


def test_a_convolution_moves_with_its_image(backend):
    w = backend.asarray(RNG.standard_normal((3, 3, 6, 2)))
    x = np.zeros((1, 9, 9, 6))
    x[:, 2:5, 2:5] = IMAGES[:1, :, :3]
    moved = np.roll(x, (2, 1), (1, 2))
    y = plain(backend, ops.conv2d(backend.asarray(x), w, padding="same"))
    close(plain(backend, ops.conv2d(backend.asarray(moved), w, padding="same")), np.roll(y, (2, 1), (1, 2)))


def test_a_convolution_with_a_delta_is_the_image(backend):
    delta = np.zeros((3, 3, 6, 6))
    delta[1, 1] = np.eye(6)
    x, w = backend.asarray(IMAGES), backend.asarray(delta)
    close(plain(backend, ops.conv2d(x, w, padding="same")), IMAGES)
    close(plain(backend, ops.conv2d_transpose(x, w, padding=1)), IMAGES)


def test_pooling_of_a_constant_image_is_that_constant(backend):
    x = backend.asarray(np.full((1, 5, 4, 2), 3.0))
    for pool in (ops.avg_pool2d, ops.max_pool2d):
        y = plain(backend, pool(x))
        assert y.shape == (1, 2, 2, 2)
        close(y, 3)
        g = plain(backend, sg.grad(lambda x, p=pool: p(x).sum())(x))
        close(g[:, :4], 0.25)
        close(g[:, 4:], 0)


def test_networks_of_float32_stay_float32(backend):
    x = backend.asarray(IMAGES.astype(np.float32))
    w = backend.asarray(RNG.standard_normal((3, 3, 6, 6)).astype(np.float32))

    def network(x, w):
        y = F.silu(F.group_norm(ops.conv2d(x, w, padding="same"), 3))
        y = F.gelu(ops.max_pool2d(F.leaky_relu(y) + F.softplus(y), 2, 1))
        y = ops.reshape(y, (2, -1, 6))
        return F.cross_entropy(F.rms_norm(F.attention(y, y, y)), backend.asarray(np.zeros((2, 6), np.int64))).mean()

    value, found = sg.value_and_grad(network, (0, 1))(x, w)
    assert value.dtype == np.float32
    assert [g.dtype for g in found] == [np.float32, np.float32]
    sg.check_grads(network, [x.astype(np.float64), w.astype(np.float64)], order=1)


# --- under replay -------------------------------------------------------------------------------------------

STEPS = {
    "silu": F.silu, "gelu": F.gelu, "softplus": F.softplus, "relu": F.relu, "softmax": F.softmax,
    "log_softmax": F.log_softmax, "layer_norm": F.layer_norm, "rms_norm": F.rms_norm, "erf": ops.erf,
    "expit": ops.expit, "ndtr": ops.ndtr, "group_norm": lambda x: F.group_norm(x, 4),
    "binary_cross_entropy": lambda x: F.binary_cross_entropy(x, F.sigmoid(x)),
    "attention": lambda x: F.attention(x, x, x, F.causal_mask(x.shape[1], like=x)),
    "bias": lambda x: x + ops.sum(x, axis=(0, 1)),
    "outer": lambda x: ops.matmul(x[:, :, :1], x[:, :1]),
    "rows": lambda x: F.embedding(x[0], np.arange(3000).reshape(10, 300) * 7 % 100 - 50),
}  # fmt: skip


@pytest.mark.parametrize("name", STEPS)
def test_replayed_steps_give_the_same_numbers(name):
    def step(x):
        y, back = sg.vjp(STEPS[name], x)
        return y, back(y * 0.5 + 1)

    replayed = sg.replay(step)
    for seed in range(5):
        x = np.random.default_rng(seed).standard_normal((6, 120, 64)).astype(np.float32)
        for ours, theirs in zip(replayed(x), step(x), strict=True):
            np.testing.assert_array_equal(ours, theirs)
