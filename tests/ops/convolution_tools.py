"""Convolution done a second time: by SciPy, by kernels of a single 1, and by stamps.  And shapes to draw."""

import numpy as np
from hypothesis import strategies as st
from scipy import signal

NONE, SAME = ((0, 0), (0, 0)), ((1, 1), (1, 1))


def correlate(x, w, stride, frame, groups=1):
    """y[…, o] = Σ_c x[…, c] ⋆ w[…, c, o] over the channels of o's group, by SciPy, every stride-th pixel kept."""
    x = np.pad(x, ((0, 0), *frame, (0, 0)))
    kh, kw, c, o = w.shape
    y = np.zeros((len(x), x.shape[1] - kh + 1, x.shape[2] - kw + 1, o))
    for n, j, i in np.ndindex(len(x), o, c):
        channel = j // (o // groups) * c + i
        y[n, :, :, j] += signal.correlate2d(x[n, :, :, channel], w[:, :, i, j], "valid")
    return y[:, ::stride, ::stride]


def adjoint_w(x, h, shape, stride, frame, groups=1):
    """w̄[u, v, c, o] = ⟨correlate(x, e), h⟩, with e the kernel of a single 1 at (u, v, c, o)."""
    c, o = shape[2:]
    x = np.pad(x, ((0, 0), *frame, (0, 0)))
    w = np.zeros(shape)
    down, across = (h.shape[1] - 1) * stride + 1, (h.shape[2] - 1) * stride + 1
    for u, v, i, j in np.ndindex(*shape):
        channel = j // (o // groups) * c + i
        w[u, v, i, j] = np.sum(x[:, u : u + down : stride, v : v + across : stride, channel] * h[..., j])
    return w


def stamped(h, w, shape, stride, frame, groups=1):
    """Each pixel of h stamps its multiple of the kernel onto x̄; what lands on the frame is cut off."""
    (top, bottom), (left, right) = frame
    kh, kw, c, o = w.shape
    x = np.zeros((shape[0], shape[1] + top + bottom, shape[2] + left + right, shape[3]))
    for n, i, j, k in np.ndindex(h.shape):
        group = slice(k // (o // groups) * c, (k // (o // groups) + 1) * c)
        x[n, i * stride : i * stride + kh, j * stride : j * stride + kw, group] += h[n, i, j, k] * w[..., k]
    return x[:, top : top + shape[1], left : left + shape[2]]


def draw(seed, *shape):
    return np.random.default_rng([seed, *shape]).standard_normal(shape)


def close(found, expected, tolerance=1e-12):
    assert found.shape == expected.shape
    scale = np.max(np.abs(expected), initial=1.0)
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * scale)


@st.composite
def cases(draw, channels=(1, 2, 3, 4), groups=(1,), size=9):
    """(shape of x, shape of w, stride, frame, groups), the kernel at most as large as the framed image."""
    side = st.tuples(st.integers(0, 3), st.integers(0, 3))
    frame = draw(st.sampled_from([NONE, SAME]) | st.tuples(side, side))
    h, w, g = draw(st.integers(1, size)), draw(st.integers(1, size)), draw(st.sampled_from(groups))
    kh = draw(st.integers(1, min(5, h + sum(frame[0]))))
    kw = draw(st.integers(1, min(5, w + sum(frame[1]))))
    c, o = draw(st.sampled_from(channels)), draw(st.sampled_from(channels))
    return (draw(st.integers(0, 3)), h, w, c * g), (kh, kw, c, o * g), draw(st.integers(1, 4)), frame, g


SEEDS = st.integers(0, 2**32 - 1)
