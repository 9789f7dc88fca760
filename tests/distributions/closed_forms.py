"""What the tests of the distributions share: what hypothesis draws, and checks that every function must pass."""

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from scipy import stats

import scratchgen as sg

seldom = settings(max_examples=max(5, settings().max_examples // 5))           # for adaptive quadrature
seeds = st.integers(0, 2**32 - 1)
shapes = st.lists(st.integers(1, 3), min_size=1, max_size=3).map(tuple)       # (B, …)
event_shapes = st.lists(st.integers(1, 3), min_size=2, max_size=3).map(tuple)  # with an event axis


def floats(low: float, high: float):
    return st.floats(low, high, allow_subnormal=False)


def uniform(seed: int, shape, *ranges) -> list[np.ndarray]:
    """One array of this shape per (low, high)."""
    noise = np.random.default_rng(seed)
    return [noise.uniform(low, high, shape) for low, high in ranges]


def covariances(seed: int, shape) -> np.ndarray:
    """Symmetric positive definite matrices, (…, D, D), with condition numbers below about 100."""
    root = np.random.default_rng(seed).uniform(-1, 1, shape)
    return root @ np.swapaxes(root, -1, -2) + 0.3 * np.eye(shape[-1])


def over_event(x: np.ndarray) -> np.ndarray:
    """Sum over all axes but the first."""
    return x.reshape(len(x), -1).sum(axis=1)


def rounded(args):
    """The arguments in float32; integers stay."""
    return [a.astype(np.float32) if getattr(a, "dtype", None) == np.float64 else a for a in args]


def check_everywhere(f, *args, tolerance: float = 1e-5):
    """f of float64 arrays; equal on tensors and on the strict backend, and close to it in float32.

    float32 rounds at 6e-8; a sum of a few dozen terms, each a handful of roundings, stays within 1e-5 of
    max(1, |value|).  The float64 value it is held against is that of the same rounded arguments.
    """
    value = f(*args)
    assert isinstance(value, (np.ndarray, np.float64))
    assert value.dtype == np.float64
    tensors = [sg.tensor(a) if a.dtype == np.float64 else a for a in args]
    recorded = f(*tensors)
    assert isinstance(recorded, sg.Tensor)
    np.testing.assert_array_equal(recorded.numpy(), value)
    with sg.backend("strict") as xp:
        np.testing.assert_array_equal(xp.to_numpy(f(*[xp.asarray(a) for a in args])), value)
    single = rounded(args)
    low = f(*single)
    assert low.dtype == np.float32
    exact = f(*[a.astype(np.float64) if a.dtype == np.float32 else a for a in single])
    np.testing.assert_array_less(np.abs(low - exact), tolerance * np.maximum(1, np.abs(exact)))
    return value


def check_finite(f, *args) -> tuple[np.ndarray, np.ndarray]:
    """f and its gradients are finite in both precisions, and float32's are close to float64's.

    Returns the values (float64, float32).  Warnings are errors in these tests: none was given either.
    """
    single = rounded(args)
    answers = []
    for inputs in ([a.astype(np.float64) for a in single], single):
        variables = [sg.tensor(a) for a in inputs]
        value = f(*variables)
        gradients = sg.gradients(value.sum(), variables)
        assert all(np.isfinite(a).all() for a in (value.numpy(), *gradients))
        assert {a.dtype for a in (value, *gradients)} == {inputs[0].dtype}
        answers.append((value.numpy(), gradients))
    (exact, exact_gradients), (low, low_gradients) = answers
    for a, b in zip([exact, *exact_gradients], [low, *low_gradients], strict=True):
        np.testing.assert_array_less(np.abs(a - b), 3e-5 * np.maximum(1, np.abs(a)))
    return exact, low


# --- statistical tests --------------------------------------------------------------------------------------

ALPHA = 1e-7      # of each test: with fewer than ten of them, 1e-6 for the family
N = 20_000        # Kolmogorov–Smirnov at this α rejects a distance of 0.021: a scale that is off by 9 %


def fits(sample, cdf) -> bool:
    """Whether a Kolmogorov–Smirnov test keeps the sample of N draws."""
    sample = np.ravel(sample)
    assert sample.size == N
    return stats.kstest(sample, cdf).pvalue > ALPHA


def fits_counts(labels, p) -> bool:
    """Whether a chi-square test keeps N labels for the probabilities p."""
    labels = np.ravel(labels)
    assert labels.size == N
    return stats.chisquare(np.bincount(labels, minlength=len(p)), N * np.asarray(p)).pvalue > ALPHA
