"""The value of every layer, and of the blocks made of them, against loops over indices."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nn_tools import TINY_UNET, build, host, inputs, randomise

import scratchgen as sg
from reference import layers as R
from scratchgen import nn, ops
from scratchgen.random import Generator

SOME = settings(max_examples=max(5, settings.default.max_examples // 4), deadline=None)
seeds = st.integers(0, 2**32 - 1)


def ready(layer, seed=0):
    return randomise(layer.astype(np.float64), seed)


def parts(layer, *names):
    state = layer.state_dict()
    return [state[n] for n in names]


def draw(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape)


def silu(x):
    return x / (1 + np.exp(-x))


def close(found, expected, tolerance=1e-12):
    assert found.shape == expected.shape
    np.testing.assert_allclose(host(found), expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("bias", [True, False])
def test_linear(bias, xp):
    layer = ready(nn.Linear(4, 3, rng=Generator(0), bias=bias))
    x = draw(1, 2, 5, 4)
    w = layer.state_dict()["w"]
    b = layer.state_dict().get("b", np.zeros(3))
    row = lambda v: [sum(v[i] * w[i, j] for i in range(4)) + b[j] for j in range(3)]  # noqa: E731
    expected = np.array([[row(v) for v in matrix] for matrix in x])
    close(layer(xp.asarray(x)), expected)


def test_mlp(xp):
    layer = ready(nn.MLP(3, 5, 4, 2, rng=Generator(0)))
    x = draw(1, 6, 3)
    w1, b1, w2, b2, w3, b3 = layer.state_dict().values()
    close(layer(xp.asarray(x)), silu(silu(x @ w1 + b1) @ w2 + b2) @ w3 + b3)
    bent = nn.MLP(3, 5, 2, rng=Generator(0), activation=ops.tanh, gain=0.0).astype(np.float64)
    close(bent(xp.asarray(x)), np.zeros((6, 2)))
    with pytest.raises(ValueError, match=r"widths \(3,\) are no layer"):
        nn.MLP(3, rng=Generator(0))


@SOME
@given(seeds, st.integers(1, 3), st.integers(1, 3), st.integers(0, 2), st.integers(1, 3), st.integers(1, 2))
def test_conv2d(seed, kernel, stride, padding, c_in, c_out):
    layer = ready(nn.Conv2d(c_in, c_out, kernel, rng=Generator(seed), stride=stride, padding=padding), seed)
    x = draw(seed, 2, 4, 3, c_in)
    w, b = parts(layer, "w", "b")
    close(layer(x), R.conv2d(x, w, stride, padding) + b)


@pytest.mark.parametrize("groups", [1, 2, 6])
def test_conv2d_in_groups(groups, xp):
    """Each part of the output's channels is a layer of its own on its part of the input's; depthwise at last."""
    layer = ready(nn.Conv2d(6, 12, rng=Generator(0), stride=2, groups=groups))
    x = draw(0, 2, 5, 4, 6)
    w, b = parts(layer, "w", "b")
    assert w.shape == (3, 3, 6 // groups, 12)
    y = [R.conv2d(u, v, 2, 1) for u, v in zip(np.split(x, groups, 3), np.split(w, groups, 3), strict=True)]
    close(layer(xp.asarray(x)), np.concatenate(y, axis=3) + b)


def test_weights_of_a_convolution_in_groups_are_drawn_for_as_many_inputs_as_they_have():
    w = host(nn.Conv2d(64, 128, rng=Generator(0), groups=16).w)
    assert abs(w.std() * np.sqrt(9 * 64 / 16) - 1) < 5 / np.sqrt(2 * w.size)


@pytest.mark.parametrize("c_in, c_out, groups", [(3, 4, 2), (4, 3, 2), (4, 4, 0)])
def test_channels_that_do_not_divide_into_groups(c_in, c_out, groups):
    with pytest.raises(ValueError, match=f"{c_in} and {c_out} channels do not divide into {groups} groups"):
        nn.Conv2d(c_in, c_out, rng=Generator(0), groups=groups)


def test_conv2d_keeps_the_size_by_default(xp):
    for kernel in (1, 3, 5):
        layer = ready(nn.Conv2d(2, 3, kernel, rng=Generator(0)))
        x = draw(0, 1, 6, 5, 2)
        w, b = parts(layer, "w", "b")
        close(layer(xp.asarray(x)), R.conv2d(x, w, 1, kernel // 2) + b)


@SOME
@given(seeds, st.integers(1, 4), st.integers(1, 3), st.integers(0, 1), st.integers(1, 2), st.integers(1, 2))
def test_conv_transpose2d(seed, kernel, stride, padding, c_in, c_out):
    """Stamps of the kernel, of kernels smaller than the stride too."""
    layer = ready(
        nn.ConvTranspose2d(c_in, c_out, kernel, rng=Generator(seed), stride=stride, padding=padding), seed
    )
    x = draw(seed, 2, 3, 4, c_in)
    w, b = parts(layer, "w", "b")
    assert w.shape == (kernel, kernel, c_out, c_in)
    close(layer(x), R.conv2d_transpose(x, w.swapaxes(2, 3), stride, padding) + b)


@SOME
@given(seeds, st.integers(1, 4), st.integers(1, 3), st.integers(0, 1))
def test_conv_transpose2d_is_the_adjoint_of_conv2d(seed, kernel, stride, padding):
    """⟨A x, h⟩ = ⟨x, Aᵀ h⟩ with one kernel, for random x and h."""
    up = ready(
        nn.ConvTranspose2d(3, 2, kernel, rng=Generator(seed), stride=stride, padding=padding, bias=False),
        seed,
    )
    h = draw(seed, 2, 3, 4, 3)
    y = up(h)
    x = draw(seed + 1, *y.shape)
    down = nn.Conv2d(2, 3, kernel, rng=Generator(0), stride=stride, padding=padding, bias=False).astype(
        np.float64
    )
    down.load_state_dict(up.state_dict())
    left, right = float((host(down(x)) * h).sum()), float((x * host(y)).sum())
    assert left == pytest.approx(right, rel=1e-11, abs=1e-11)


def test_norms(xp):
    x = draw(2, 3, 2, 2, 4) * 3 + 1
    layer = ready(nn.GroupNorm(2, 4))
    close(layer(xp.asarray(x)), R.group_norm(x, 2, *parts(layer, "scale", "shift")))
    layer = ready(nn.GroupNorm(1, 4, tiny=0.1))
    close(layer(xp.asarray(x)), R.group_norm(x, 1, *parts(layer, "scale", "shift"), 0.1))
    layer = ready(nn.LayerNorm(4))
    close(layer(xp.asarray(x)), R.layer_norm(x, *parts(layer, "scale", "shift")))
    layer = ready(nn.RMSNorm(4))
    close(layer(xp.asarray(x)), R.rms_norm(x, *parts(layer, "scale"), 1e-6))


def test_norms_begin_as_standardisation():
    for layer in (nn.GroupNorm(2, 4), nn.LayerNorm(4)):
        assert host(layer.scale).tolist() == [1.0] * 4
        assert host(layer.shift).tolist() == [0.0] * 4


def test_embedding(xp):
    layer = ready(nn.Embedding(5, 3, rng=Generator(0)))
    (table,) = parts(layer, "table")
    indices = np.array([[4, 0], [4, 2]])
    y = layer(xp.asarray(indices))
    close(y, np.stack([[table[i] for i in row] for row in indices]), 0)
    (g,) = sg.gradients(y.sum(), [layer.table])
    assert host(g)[:, 0].tolist() == [1, 0, 1, 0, 2]  # a row used twice receives both


def heads_by_loops(q, k, v, heads, mask=None):
    """Each head attends within its share of the width; the shares stand side by side in the result."""
    share = q.shape[-1] // heads
    cut = lambda a, h: a[..., h * share : (h + 1) * share]  # noqa: E731
    return np.concatenate([R.attention(cut(q, h), cut(k, h), cut(v, h), mask) for h in range(heads)], axis=-1)


def attention_by_loops(state, prefix, x, heads, context=None, mask=None):
    context = x if context is None else context
    q, k = x @ state[prefix + "query.w"], context @ state[prefix + "key.w"]
    v = context @ state[prefix + "value.w"]
    return heads_by_loops(q, k, v, heads, mask) @ state[prefix + "out.w"] + state[prefix + "out.b"]


@pytest.mark.parametrize("heads", [1, 2, 3])
def test_multi_head_attention(heads, xp):
    layer = ready(nn.MultiHeadAttention(6, heads, rng=Generator(1)))
    x, mask = draw(3, 2, 4, 6), np.tril(np.ones((4, 4), bool))
    close(layer(xp.asarray(x)), attention_by_loops(layer.state_dict(), "", x, heads))
    found = layer(xp.asarray(x), mask=xp.asarray(mask))
    close(found, attention_by_loops(layer.state_dict(), "", x, heads, mask=mask))


def test_cross_attention(xp):
    layer = ready(nn.MultiHeadAttention(4, 2, rng=Generator(1), context=5))
    x, context = draw(4, 2, 3, 4), draw(5, 2, 6, 5)
    expected = attention_by_loops(layer.state_dict(), "", x, 2, context)
    close(layer(xp.asarray(x), xp.asarray(context)), expected)


def test_a_masked_key_has_no_influence():
    layer = ready(nn.MultiHeadAttention(4, 2, rng=Generator(1)))
    x, mask = draw(6, 1, 4, 4), np.tril(np.ones((4, 4), bool))
    J = sg.jacobian(lambda z: layer.frozen()(z, mask=mask))(x)[0, :, :, 0]  # (T, width, T, width)
    for t in range(4):
        assert np.all(J[t, :, t + 1 :] == 0)
        assert np.all(np.abs(J[t, :, : t + 1]).max(axis=(0, 2)) > 0)


def pixel_attention_by_loops(state, prefix, x, heads, groups):
    n = R.group_norm(x, groups, state[prefix + "norm.scale"], state[prefix + "norm.shift"])
    rows = n.reshape(x.shape[0], -1, x.shape[3])
    return x + attention_by_loops(state, prefix + "attention.", rows, heads).reshape(x.shape)


def conv(state, name, x, stride=1):
    w = state[name + ".w"]
    return R.conv2d(x, w, stride, w.shape[0] // 2) + state[name + ".b"]


def res_block_by_loops(state, prefix, x, time, groups):
    def norm(i, z):
        return R.group_norm(z, groups, state[f"{prefix}norm{i}.scale"], state[f"{prefix}norm{i}.shift"])

    h = conv(state, prefix + "conv1", silu(norm(1, x)))
    if time is not None:
        h = h + (time @ state[prefix + "time.w"] + state[prefix + "time.b"])[:, None, None, :]
    h = conv(state, prefix + "conv2", silu(norm(2, h)))
    return h + (conv(state, prefix + "skip", x) if prefix + "skip.w" in state else x)


def test_pixel_attention(xp):
    layer = ready(nn.PixelAttention(4, rng=Generator(2), heads=2, groups=2))
    x = draw(7, 2, 3, 2, 4)
    close(layer(xp.asarray(x)), pixel_attention_by_loops(layer.state_dict(), "", x, 2, 2))


@pytest.mark.parametrize(("c_in", "c_out", "n_time"), [(4, 4, None), (2, 4, 3), (4, 2, 3)])
def test_res_block(c_in, c_out, n_time, xp):
    layer = ready(nn.ResBlock(c_in, c_out, rng=Generator(3), n_time=n_time, groups=2))
    x, time = draw(8, 2, 3, 3, c_in), draw(9, 2, n_time or 1)
    given_time = time if n_time else None
    found = layer(xp.asarray(x), xp.asarray(time) if n_time else None)
    close(found, res_block_by_loops(layer.state_dict(), "", x, given_time, 2))


def test_down_and_upsample(xp):
    x = draw(10, 2, 4, 6, 3)
    down, up = ready(nn.Downsample(3, rng=Generator(4))), ready(nn.Upsample(3, rng=Generator(5)))
    close(down(xp.asarray(x)), conv(down.state_dict(), "conv", x, 2))
    big = np.array([[[image[i // 2, j // 2] for j in range(12)] for i in range(8)] for image in x])
    close(up(xp.asarray(x)), conv(up.state_dict(), "conv", big))


@pytest.mark.parametrize("dtype", [np.int64, np.float32, np.float64])
def test_sinusoidal_embedding(dtype, xp):
    layer = nn.SinusoidalEmbedding(8)
    t = np.array([0, 1, 7, 200, 1000])
    found = layer(xp.asarray(t.astype(dtype)))
    single = dtype is not np.float64
    assert found.dtype == (np.float32 if single else np.float64)
    # float32 holds the angle 1000 to 6e-5
    close(found, R.sinusoidal_embedding(t, 8), 1e-4 if single else 1e-12)
    assert not list(layer.named_parameters())


def test_sequential_applies_in_order():
    layers = [ready(nn.Linear(3, 4, rng=Generator(0))), ops.sin, ready(nn.Linear(4, 2, rng=Generator(1)))]
    x = draw(11, 2, 3)
    a, b = layers[0].state_dict(), layers[2].state_dict()
    close(nn.Sequential(*layers)(x), np.sin(x @ a["w"] + a["b"]) @ b["w"] + b["b"])


def unet_by_loops(state, x, t, config):
    """The U-Net of the picture in `nn/unet.py` for two levels of one block, block by block."""
    g, heads = config.groups, config.heads
    linear = lambda n, z: z @ state[n + ".w"] + state[n + ".b"]  # noqa: E731
    time = silu(linear("time2", silu(linear("time1", R.sinusoidal_embedding(t, config.base)))))
    res = lambda n, z: res_block_by_loops(state, n + ".", z, time, g)  # noqa: E731
    att = lambda n, z: pixel_attention_by_loops(state, n + ".", z, heads, g)  # noqa: E731
    join = lambda *zs: np.concatenate(zs, axis=-1)  # noqa: E731
    a = conv(state, "first", x)
    b = res("down.0.blocks.0", a)
    c = conv(state, "downsample.0.conv", b, 2)
    d = att("down.1.attention.0", res("down.1.blocks.0", c))
    h = res("middle.blocks.1", att("middle_attention", res("middle.blocks.0", d)))
    h = att("up.0.attention.0", res("up.0.blocks.0", join(h, d)))
    h = att("up.0.attention.1", res("up.0.blocks.1", join(h, c)))
    h = conv(state, "upsample.0.conv", h.repeat(2, axis=1).repeat(2, axis=2))
    h = res("up.1.blocks.0", join(h, b))
    h = res("up.1.blocks.1", join(h, a))
    return conv(state, "last", silu(R.group_norm(h, g, state["norm.scale"], state["norm.shift"])))


def test_the_whole_unet(xp):
    net = build("UNet")
    (x,) = inputs("UNet")
    t = np.array([3.0, 7.0])
    expected = unet_by_loops(net.state_dict(), host(x), t, TINY_UNET)
    close(net(x, xp.asarray(t)), expected, 1e-10)
    assert np.abs(expected).max() > 0.1
    # wrong wiring would show: another time, or the skips of two blocks exchanged
    assert np.abs(unet_by_loops(net.state_dict(), host(x), t[::-1], TINY_UNET) - expected).max() > 1e-3


@pytest.mark.parametrize(
    ("layer", "fan_in"),
    [
        (lambda r: nn.Linear(64, 400, rng=r), 64),
        (lambda r: nn.Conv2d(16, 200, 3, rng=r), 144),
        (lambda r: nn.ConvTranspose2d(64, 64, 4, rng=r), 256),
        (lambda r: nn.Linear(64, 400, rng=r, gain=1.0), 64),
    ],
)
def test_weights_begin_with_variance_one_over_fan_in(layer, fan_in):
    """A sample variance of n normals has deviation √(2/n): at n ≥ 25,000 six of them are 0.054."""
    w = host(layer(Generator(7)).w)
    assert w.dtype == np.float32
    assert w.size >= 25_000
    assert w.var() * fan_in == pytest.approx(1.0, abs=0.054)
    assert abs(w.mean()) * np.sqrt(fan_in) < 6 / np.sqrt(w.size)


def test_gain_zero_begins_at_the_bias():
    layer = nn.Linear(3, 2, rng=Generator(0), gain=0.0)
    assert np.all(host(layer(np.ones((4, 3), np.float32))) == 0)


def test_the_same_seed_gives_the_same_layer_on_every_backend(xp):
    noise = np.random.Generator(np.random.PCG64(np.random.SeedSequence(3))).standard_normal(
        (3, 4), np.float32
    )
    assert np.array_equal(host(nn.Linear(3, 4, rng=Generator(3)).w), noise * np.float32(3**-0.5))


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: nn.GroupNorm(3, 4), "4 channels do not divide into 3 groups"),
        (lambda: nn.MultiHeadAttention(5, 2, rng=Generator(0)), "width 5 does not divide into 2 heads"),
        (lambda: nn.SinusoidalEmbedding(5), "width 5 is odd"),
    ],
)
def test_sizes_that_do_not_fit_are_told(make, says):
    with pytest.raises(ValueError, match=says):
        make()
