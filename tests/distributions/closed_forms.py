"""What the tests of the distributions share: what hypothesis draws, and checks that every function must pass."""

import numpy as np
from evidence import agree, apart, at_most, host
from hypothesis import settings
from hypothesis import strategies as st
from scipy import stats

import scratchgen as sg

seldom = settings(max_examples=max(5, settings().max_examples // 5))           # for adaptive quadrature
seeds = st.integers(0, 2**32 - 1)
shapes = st.lists(st.integers(1, 3), min_size=1, max_size=3).map(tuple)       # (B, …)
event_shapes = st.lists(st.integers(1, 3), min_size=2, max_size=3).map(tuple)  # with an event axis
POSITIVE = np.finfo(np.float64).tiny                                          # at_most(POSITIVE, x): x > 0


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
    """f of float64 arrays, on the active backend; equal on tensors, on NumPy and the strict backend, near in float32.

    f: a function of the library, lifted (see `evidence`), or one made of such.
    float32 rounds at 6e-8; a sum of a few dozen terms, each a handful of roundings, stays within 1e-5 of
    max(1, |value|).  The float64 value it is held against is that of the same rounded arguments.
    """
    value = f(*args)
    assert isinstance(value, np.ndarray)
    assert value.dtype == np.float64
    recorded = f(*[sg.tensor(a) if a.dtype == np.float64 else a for a in args])
    assert isinstance(recorded, sg.Tensor)
    agree(recorded, value)
    with sg.backend("numpy"):
        plain = f(*args)
    with sg.backend("strict"):
        agree(f(*args), plain)
    single = rounded(args)
    low = f(*single)
    assert low.dtype == np.float32
    exact = f(*[a.astype(np.float64) if a.dtype == np.float32 else a for a in single])
    agree(low, exact, atol=tolerance * np.maximum(1, np.abs(exact)))
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
        found = [host(a) for a in (value, *sg.gradients(value.sum(), variables))]
        assert all(np.isfinite(a).all() for a in found)
        assert {a.dtype for a in found} == {inputs[0].dtype}
        answers.append(found)
    exact, low = answers
    for a, b in zip(exact, low, strict=True):
        agree(b, a, atol=3e-5 * np.maximum(1, np.abs(a)))
    return exact[0], low[0]


def check_gradients(f, *args) -> None:
    """First and second derivatives against central differences, on NumPy: their steps need float64 and no device."""
    with sg.backend("numpy"):
        sg.check_grads(f, args, order=2)


# --- statistical tests --------------------------------------------------------------------------------------

ALPHA = 1e-7      # of each test: with fewer than ten of them, 1e-6 for the family
N = 20_000
FARTHEST = stats.kstwo.isf(ALPHA, N)      # Kolmogorov–Smirnov: 0.021, which a scale that is off by 9 % exceeds


def distance(sample, cdf) -> float:
    """Kolmogorov–Smirnov distance of N draws from a law, by its distribution function."""
    sample = np.ravel(sample)
    assert sample.size == N
    return stats.kstest(sample, cdf).statistic


def check_fits(sample, cdf) -> None:
    """A Kolmogorov–Smirnov test keeps the sample."""
    at_most(distance(sample, cdf), FARTHEST)


def check_misfits(sample, cdf) -> None:
    """A Kolmogorov–Smirnov test rejects the sample."""
    apart(distance(sample, cdf), 0, by=FARTHEST)


def chi_square(labels, p) -> tuple[float, float]:
    """Pearson's statistic of N labels for the probabilities p, and what it stays below but for one time in 1/ALPHA."""
    labels = np.ravel(labels)
    assert labels.size == N
    expected = N * np.asarray(p)
    return stats.chisquare(np.bincount(labels, minlength=len(p)), expected).statistic, stats.chi2.isf(ALPHA, len(p) - 1)


def check_counts(labels, p) -> None:
    """A chi-square test keeps the labels."""
    at_most(*chi_square(labels, p))


def check_miscounts(labels, p) -> None:
    """A chi-square test rejects the labels."""
    statistic, critical = chi_square(labels, p)
    apart(statistic, 0, by=critical)


def successes(p: float) -> tuple[float, float]:
    """Middle and half width of the counts that N trials give but for one time in 1/ALPHA: the exact interval."""
    low, high = stats.binom.interval(1 - ALPHA, N, p)
    return (low + high) / 2, (high - low) / 2
