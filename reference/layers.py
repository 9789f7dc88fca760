"""Network layers as nested loops over indices.

Each output number is written as the sum that defines it, in Python floats with an exactly rounded sum
(`math.fsum`). No im2col, no reshaping, no broadcasting, no einsum: the ways in which fast versions go wrong
(a transposed kernel, an off-by-one in the padding, groups cut along the wrong axis) have no place to hide.
Images are (B, H, W, C), kernels (kh, kw, in, out).
"""

import itertools
import math

import numpy as np


def softmax(x) -> list[float]:
    """e^{x_i} / Σ_j e^{x_j} of one row; −∞ has weight 0, but not all entries may be −∞.

    The largest entry is subtracted first: exact in exact arithmetic, and e^{±700} never occurs.
    """
    row = [float(v) for v in x]
    top = max(row)
    weights = [math.exp(v - top) for v in row]
    total = math.fsum(weights)
    return [w / total for w in weights]


def logsumexp(x) -> float:
    """log Σ e^{x_i} of one row; −∞ when all entries are."""
    row = [float(v) for v in x]
    top = max(row)
    if math.isinf(top):
        return top
    return top + math.log(math.fsum(math.exp(v - top) for v in row))


def conv2d(x, w, stride: int = 1, padding: int = 0) -> np.ndarray:
    """Cross-correlation (no kernel flip) with zero padding on all four sides.

        y[b,i,j,o] = Σ_{u,v,c} x[b, i·stride + u − padding, j·stride + v − padding, c] · w[u,v,c,o]

    Entries of x outside the image are zero. Output height (H + 2·padding − kh)//stride + 1.
    """
    x, w = np.asarray(x, dtype=np.float64), np.asarray(w, dtype=np.float64)
    (B, H, W, C), (kh, kw, _, n_out) = x.shape, w.shape
    height, width = (H + 2 * padding - kh) // stride + 1, (W + 2 * padding - kw) // stride + 1
    y = np.zeros((B, height, width, n_out))
    for b, i, j, o in np.ndindex(y.shape):
        terms = []
        for u, v, c in itertools.product(range(kh), range(kw), range(C)):
            row, column = i * stride + u - padding, j * stride + v - padding
            if 0 <= row < H and 0 <= column < W:
                terms.append(float(x[b, row, column, c]) * float(w[u, v, c, o]))
        y[b, i, j, o] = math.fsum(terms)
    return y


def conv2d_transpose(x, w, stride: int = 1, padding: int = 0) -> np.ndarray:
    """Each input pixel stamps its multiple of the kernel onto the output; overlaps add.

        y[b, i·stride + u − padding, j·stride + v − padding, o] += x[b,i,j,c] · w[u,v,c,o]

    Stamps that fall outside are cut off. Output height (H − 1)·stride + kh − 2·padding.
    w is (kh, kw, in, out) with `in` the channels of x, so this is the adjoint of `conv2d` with the kernel's
    last two axes exchanged.
    """
    x, w = np.asarray(x, dtype=np.float64), np.asarray(w, dtype=np.float64)
    (B, H, W, C), (kh, kw, _, n_out) = x.shape, w.shape
    height, width = (H - 1) * stride + kh - 2 * padding, (W - 1) * stride + kw - 2 * padding
    y = np.zeros((B, height, width, n_out))
    for b, i, j, c in np.ndindex(B, H, W, C):
        for u, v, o in np.ndindex(kh, kw, n_out):
            row, column = i * stride + u - padding, j * stride + v - padding
            if 0 <= row < height and 0 <= column < width:
                y[b, row, column, o] += x[b, i, j, c] * w[u, v, c, o]
    return y


def _windows(x, size: int, stride: int):
    """Yields (index of the output, the size² numbers of its window); incomplete windows are dropped."""
    B, H, W, C = x.shape
    for b, i, j, c in np.ndindex(B, (H - size) // stride + 1, (W - size) // stride + 1, C):
        yield (b, i, j, c), [float(x[b, i * stride + u, j * stride + v, c])
                             for u in range(size) for v in range(size)]


def _pool(x, size: int, stride: int | None, reduce) -> np.ndarray:
    x = np.asarray(x, dtype=np.float64)
    stride = size if stride is None else stride
    B, H, W, C = x.shape
    y = np.zeros((B, (H - size) // stride + 1, (W - size) // stride + 1, C))
    for index, window in _windows(x, size, stride):
        y[index] = reduce(window)
    return y


def avg_pool2d(x, size: int, stride: int | None = None) -> np.ndarray:
    """Mean of each size × size window of each channel; stride None means size."""
    return _pool(x, size, stride, lambda window: math.fsum(window) / len(window))


def max_pool2d(x, size: int, stride: int | None = None) -> np.ndarray:
    """Largest entry of each size × size window of each channel; stride None means size."""
    return _pool(x, size, stride, max)


def _standardise(values: list[float], tiny: float) -> list[float]:
    """(v − mean)/√(variance + tiny), the variance divided by n."""
    mean = math.fsum(values) / len(values)
    var = math.fsum((v - mean) ** 2 for v in values) / len(values)
    return [(v - mean) / math.sqrt(var + tiny) for v in values]


def group_norm(x, groups: int, gamma, beta, tiny: float = 1e-5) -> np.ndarray:
    """Standardise each example's groups of consecutive channels over space and group, then γ_c·x̂ + β_c.

    x: (B, …, C) with C divisible by groups; gamma, beta: (C,). (Wu & He 2018.)
    """
    x = np.asarray(x, dtype=np.float64)
    C, y = x.shape[-1], np.empty(x.shape)
    width = C // groups
    for b, g in np.ndindex(x.shape[0], groups):
        members = [(b, *place, c) for place in np.ndindex(x.shape[1:-1])
                   for c in range(g * width, (g + 1) * width)]
        for index, value in zip(members, _standardise([float(x[m]) for m in members], tiny), strict=True):
            y[index] = float(gamma[index[-1]]) * value + float(beta[index[-1]])
    return y


def layer_norm(x, gamma, beta, tiny: float = 1e-5) -> np.ndarray:
    """Standardise each vector along the last axis, then γ·x̂ + β (Ba et al. 2016)."""
    x = np.asarray(x, dtype=np.float64)
    y = np.empty(x.shape)
    for place in np.ndindex(x.shape[:-1]):
        values = _standardise([float(v) for v in x[place]], tiny)
        y[place] = [float(gamma[c]) * v + float(beta[c]) for c, v in enumerate(values)]
    return y


def rms_norm(x, gamma, tiny: float = 1e-5) -> np.ndarray:
    """γ·x/√(mean x² + tiny) along the last axis; no mean is subtracted (Zhang & Sennrich 2019)."""
    x = np.asarray(x, dtype=np.float64)
    y = np.empty(x.shape)
    for place in np.ndindex(x.shape[:-1]):
        values = [float(v) for v in x[place]]
        scale = math.sqrt(math.fsum(v * v for v in values) / len(values) + tiny)
        y[place] = [float(gamma[c]) * v / scale for c, v in enumerate(values)]
    return y


def attention(q, k, v, mask=None) -> np.ndarray:
    """softmax(q kᵀ/√d) v for q (…, N, d), k (…, M, d), v (…, M, e) (Vaswani et al. 2017, eq. 1).

    mask: booleans (N, M), True where query n may look at key m; each query must have one such key.
    """
    q, k, v = (np.asarray(a, dtype=np.float64) for a in (q, k, v))
    y = np.empty((*q.shape[:-1], v.shape[-1]))
    for place in np.ndindex(q.shape[:-2]):
        for n in range(q.shape[-2]):
            logits = []
            for m in range(k.shape[-2]):
                dot = math.fsum(float(a) * float(b) for a, b in zip(q[place][n], k[place][m], strict=True))
                visible = mask is None or bool(mask[n][m])
                logits.append(dot / math.sqrt(q.shape[-1]) if visible else -math.inf)
            weights = softmax(logits)
            y[place][n] = [math.fsum(w * float(v[place][m, e]) for m, w in enumerate(weights))
                           for e in range(v.shape[-1])]
    return y


def sinusoidal_embedding(t, dim: int) -> np.ndarray:
    """(n, dim): the first half sines, the second half cosines of t·ω_i, ω_i = 10000^{−i/half}, half = dim/2.

    Frequencies from 1 down towards, and not reaching, 1/10000. dim is even.
    """
    half = dim // 2
    rows = []
    for time in np.ravel(t):
        angles = [float(time) * math.exp(-math.log(10000.0) * i / half) for i in range(half)]
        rows.append([math.sin(angle) for angle in angles] + [math.cos(angle) for angle in angles])
    return np.array(rows, dtype=np.float64)
