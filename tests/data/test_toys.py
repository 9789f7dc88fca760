"""The toys against moments worked out by hand and against their densities by quadrature.

Each statistical test draws n = 100,000 points from a fixed seed.  There are fewer than 50 of them, so a
threshold of 6 standard errors (two-sided 2·10⁻⁹) keeps the family's α below 10⁻⁶; with standard errors
of at most 0.007 it finds a moment off by 0.06 with probability above 0.99.
"""

import numpy as np
import pytest

from scratchgen.data import DataError, toys

N, SIGMAS = 100_000, 6.0
PI = np.pi
# E x₁, E x₂, E x₁², E x₂², E x₁x₂
ROLL_A, ROLL_B = 1.5 * PI, 4.5 * PI
ROLL_SQUARE = (ROLL_A ** 2 + ROLL_A * ROLL_B + ROLL_B ** 2) / 3                    # E t²


def roll_wave(antiderivative):
    """E t² g(2t) over t ~ U(a, b), from the antiderivative of t² g(2t)."""
    return (antiderivative(ROLL_B) - antiderivative(ROLL_A)) / (ROLL_B - ROLL_A)


ROLL_COS = roll_wave(lambda t: t ** 2 * np.sin(2 * t) / 2 + t * np.cos(2 * t) / 2 - np.sin(2 * t) / 4)
ROLL_SIN = roll_wave(lambda t: -t ** 2 * np.cos(2 * t) / 2 + t * np.sin(2 * t) / 2 + np.cos(2 * t) / 4)
MOMENTS = {
    "moons": (0, 0, 0.75 + 0.01, 0.5625 - 1 / PI + 0.01, 0.125 - 1 / PI),
    "rings": (0, 0, 0.9375 + 0.0025, 0.9375 + 0.0025, 0),
    "eight_gaussians": (0, 0, 2.04, 2.04, 0),
    "two_gaussians": (-0.3, -0.08, 0.23 + 2.25, 0.24 + 0.6 * 0.36 + 0.4 * 0.49, 0.032 + 0.54 + 0.42),
    "checkerboard": (0, 0, 4 / 3, 4 / 3, 0.25),
    "swiss_roll": (2 / 5, 2 / (3 * PI) / 5, (ROLL_SQUARE / 2 + ROLL_COS / 2 + 0.25) / 25,
                   (ROLL_SQUARE / 2 - ROLL_COS / 2 + 0.25) / 25, ROLL_SIN / 2 / 25),
    "pinwheel": (0, 0, 2.2, 2.2, 0),
}


def rng(seed=0):
    return np.random.Generator(np.random.PCG64(seed))


def deviations(x, moments):
    """(sample moment − moment) / standard error, for the five moments."""
    x = x.astype(np.float64)
    terms = np.stack([x[:, 0], x[:, 1], x[:, 0] ** 2, x[:, 1] ** 2, x[:, 0] * x[:, 1]])
    return (terms.mean(axis=1) - np.array(moments)) / (terms.std(axis=1) / np.sqrt(x.shape[0]))


def test_every_toy_has_its_moments():
    assert set(MOMENTS) == set(toys.TOYS) and set(toys.LOG_DENSITY) <= set(toys.TOYS)


@pytest.mark.parametrize("name", toys.TOYS)
def test_shape_and_determinism(name):
    draw = toys.TOYS[name]
    for n in (0, 1, 1000):
        x = draw(n, rng())
        assert x.shape == (n, 2) and x.dtype == np.float32 and np.isfinite(x).all()
    assert draw(50, rng(1)).tobytes() == draw(50, rng(1)).tobytes() != draw(50, rng(2)).tobytes()


@pytest.mark.parametrize("name", toys.TOYS)
def test_moments(name):
    x = toys.TOYS[name](N, rng())
    assert np.abs(deviations(x, MOMENTS[name])).max() < SIGMAS
    assert np.mean(np.abs(x).max(axis=1) < 4) > 0.999
    for moment in range(5):                             # the control: each moment, moved, must be noticed
        moved = np.array(MOMENTS[name], dtype=float)
        moved[moment] += 0.06
        assert np.abs(deviations(x, moved)).max() > SIGMAS


def test_the_noise_is_in_the_samples():
    """Seen where it alone shows: the distance from the noiseless curve."""
    rho = np.linalg.norm(toys.rings(N, rng()).astype(float), axis=1)
    off = rho - np.array([0.5, 1, 1.5, 2])[np.abs(rho[:, None] - [0.5, 1, 1.5, 2]).argmin(axis=1)]
    assert abs(off.std() / 0.05 - 1) < 0.02
    angle = np.linspace(0, PI, 500)
    arc = np.stack([np.cos(angle) - 0.5, np.sin(angle) - 0.25], axis=1)
    turn = np.linspace(ROLL_A, ROLL_B, 1000)
    roll = np.stack([turn * np.cos(turn), turn * np.sin(turn)], axis=1) / 5
    for draw, curve in ((toys.moons, np.concatenate([arc, -arc])), (toys.swiss_roll, roll)):
        x = draw(2000, rng()).astype(float)
        near = np.sqrt(((x[:, None] - curve) ** 2).sum(-1).min(axis=1))
        assert abs(np.sqrt((near ** 2).mean()) / 0.1 - 1) < 0.1      # the normal direction, one of the two


def test_pinwheel_has_five_blades():
    """R(2π/5) leaves the law alone, so E z^k of z = x₁ + i x₂ is 0 for k = 1 … 4 and not for k = 5."""
    z = toys.pinwheel(N, rng()).astype(np.float64) @ np.array([1, 1j]) / 2
    for k in range(1, 6):
        distance = abs((z ** k).mean()) / ((np.abs(z) ** (2 * k)).mean() / N) ** 0.5
        assert (distance > SIGMAS) == (k == 5)


def test_pinwheel_bends_by_its_law():
    """E z⁵ = E (a + ib)⁵ exp(5i eᵃ/4), z = (x₁ + i x₂)/2, by Gauss-Hermite quadrature over a and b."""
    z5 = (toys.pinwheel(N, rng()).astype(np.float64) @ np.array([1, 1j]) / 2) ** 5
    nodes, weights = np.polynomial.hermite_e.hermegauss(80)
    a, b = 1 + 0.3 * nodes[:, None], 0.1 * nodes
    mass = np.outer(weights, weights) / (2 * PI)

    def gap(rate):
        expected = (mass * (a + 1j * b) ** 5 * np.exp(5j * rate * np.exp(a))).sum()
        return abs(z5.mean() - expected) / np.sqrt((abs(z5) ** 2).mean() / N)
    assert gap(0.25) < SIGMAS < min(gap(0.24), gap(0.26), gap(0.0))


def test_checkerboard_never_touches_white():
    x = toys.checkerboard(1_000_000, rng())
    assert np.isfinite(toys.log_density_checkerboard(x)).all()
    assert len(np.unique(np.floor(x) @ [1, 10])) == 8
    edge = np.array([[-2, -2], [-2, -1], [2, 0], [0, 2], [0, 0], [1.5, 0.5], [0.5, -2.5]])
    black = [True, False, False, False, True, False, False]
    np.testing.assert_array_equal(np.isfinite(toys.log_density_checkerboard(edge)), black)


def quadrature(name):
    """Midpoints of a fine grid on [−4, 4]², p there, and the area of a cell."""
    step = 1 / 64
    axis = np.arange(-4 + step / 2, 4, step)
    grid = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    return grid, np.exp(toys.LOG_DENSITY[name](grid)), step ** 2


@pytest.mark.parametrize("name", toys.LOG_DENSITY)
def test_density_integrates_to_one_with_the_moments(name):
    grid, p, cell = quadrature(name)
    terms = np.stack([np.ones(len(p)), *grid.T, *(grid.T ** 2), grid[:, 0] * grid[:, 1]])
    # The midpoint rule is exact for 1 and x on whole squares, and off by step²/12 for x² on the board's.
    np.testing.assert_allclose(terms @ p * cell, (1, *MOMENTS[name]), rtol=0, atol=3e-5)


@pytest.mark.parametrize("name", toys.LOG_DENSITY)
def test_samples_have_the_density(name):
    """The mean of log p is minus the entropy, and the share in a cell of a coarse grid the integral of p."""
    grid, p, cell = quadrature(name)
    x = toys.TOYS[name](N, rng())
    log_p = toys.LOG_DENSITY[name](x)
    entropy = -(p * np.log(np.where(p > 0, p, 1))).sum() * cell
    assert log_p.dtype == np.float64 and log_p.shape == (N,)
    assert abs(log_p.mean() + entropy) < SIGMAS * log_p.std() / np.sqrt(N) + 1e-5

    edges = np.arange(-4, 4.5, 0.5)
    share = np.histogram2d(grid[:, 0], grid[:, 1], edges, weights=p * cell)[0]
    seen = np.histogram2d(x[:, 0], x[:, 1], edges)[0] / N

    def z(seen):                                        # 256 cells: 6.5 standard errors for the family
        return np.abs(seen - share).max() / np.sqrt(share.max() * (1 - share.max()) / N)
    assert z(seen) < 6.5
    other = toys.TOYS[{"rings": "moons"}.get(name, "rings")](N, rng())
    assert z(np.histogram2d(other[:, 0], other[:, 1], edges)[0] / N) > 6.5


def test_log_density_far_away_is_finite():
    far = np.array([[30.0, -40.0], [0.0, 0.0]])
    assert np.isfinite(toys.log_density_rings(far)).all()
    assert np.isfinite(toys.log_density_eight_gaussians(far)).all()
    assert np.isfinite(toys.log_density_two_gaussians(far)).all()


def test_toy_data_set():
    ds = toys.toy("moons", 100, 3)
    assert ds.name == "moons" and ds.train.shape == ds.heldout.shape == (100, 2)
    assert ds.levels is None and ds.train_labels is None and not ds.train.flags.writeable
    assert not np.isin(ds.heldout, ds.train).any()
    assert toys.toy("moons", 100, 3).train.tobytes() == ds.train.tobytes()
    assert toys.toy("moons", 100, 4).train.tobytes() != ds.train.tobytes()
    with pytest.raises(DataError, match="no toy is called 'moon'"):
        toys.toy("moon")
    with pytest.raises(DataError, match="at least 1"):
        toys.toy("moons", 0)
