"""Two-dimensional toys: densities that a plot shows whole.

Each is a function name(n, rng) → (n, 2) float32, drawn from an explicit numpy.random.Generator.  All lie
in [−4, 4]², but for tails of Gaussian noise.  u ~ U(0, 1) and ε ~ N(0, 1) below are independent draws.
Four of the densities have a closed form, in LOG_DENSITY: the oracle for a learned log p.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.special import i0e

from scratchgen.data.dataset import DataError, Dataset

MOON_NOISE = 0.1
RADII, RING_NOISE = np.array([0.5, 1.0, 1.5, 2.0]), 0.05
MODE_RADIUS, MODE_STD = 2.0, 0.2
ROLL_NOISE, ROLL_SCALE = 0.5, 0.2
PAIR_WEIGHTS = np.array([0.6, 0.4])
PAIR_MEANS = np.array([[-1.5, -0.6], [1.5, 0.7]])
PAIR_COVS = np.array([[[0.25, 0.12], [0.12, 0.2]], [[0.2, -0.1], [-0.1, 0.3]]])
BLADES, BLADE_RADIAL, BLADE_TANGENTIAL, BLADE_RATE = 5, 0.3, 0.1, 0.25


def moons(n: int, rng: np.random.Generator) -> np.ndarray:
    """Two interleaved half circles, centred, with Gaussian noise: (n, 2).

        x = ±(cos πu − ½, sin πu − ¼) + 0.1 ε,   the sign fair          (after scikit-learn's make_moons)

    The second moon is the first seen through the origin, so E x = 0.
    """
    t = np.pi * rng.random(n)
    sign = rng.choice([-1.0, 1.0], n)
    arc = np.stack([np.cos(t) - 0.5, np.sin(t) - 0.25], axis=1)
    return _float32(sign[:, None] * arc + MOON_NOISE * rng.standard_normal((n, 2)))


def rings(n: int, rng: np.random.Generator) -> np.ndarray:
    """Four concentric circles of equal weight with Gaussian noise: (n, 2).

        x = r (cos 2πu, sin 2πu) + 0.05 ε,   r uniform on {½, 1, 3/2, 2}
    """
    r = rng.choice(RADII, n)
    return _float32(r[:, None] * _direction(2 * np.pi * rng.random(n))
                    + RING_NOISE * rng.standard_normal((n, 2)))


def eight_gaussians(n: int, rng: np.random.Generator) -> np.ndarray:
    """Eight equal Gaussians on a circle: (n, 2).

        p(x) = ⅛ Σ_k N(x; 2 (cos kπ/4, sin kπ/4), 0.2² I),   k = 0 … 7
    """
    return _float32(_modes()[rng.integers(8, size=n)] + MODE_STD * rng.standard_normal((n, 2)))


def two_gaussians(n: int, rng: np.random.Generator) -> np.ndarray:
    """Two Gaussians far apart: (n, 2).

        p(x) = 0.6 N(x; μ₁, C₁) + 0.4 N(x; μ₂, C₂)          (PAIR_WEIGHTS, PAIR_MEANS, PAIR_COVS)
    """
    k = (rng.random(n) > PAIR_WEIGHTS[0]).astype(int)
    root = np.linalg.cholesky(PAIR_COVS)[k]                                            # (n, 2, 2)
    return _float32(PAIR_MEANS[k] + (root @ rng.standard_normal((n, 2, 1)))[..., 0])


def checkerboard(n: int, rng: np.random.Generator) -> np.ndarray:
    """Uniform on the eight black squares of a 4 × 4 board with unit squares: (n, 2).

        p(x) = ⅛ where x ∈ [−2, 2)² and ⌊x₁⌋ + ⌊x₂⌋ is even, else 0
    """
    row = rng.integers(4, size=n)
    column = 2 * rng.integers(2, size=n) + row % 2
    # On a grid of 2⁻²³ float32 holds every point exactly, so none is rounded into a white square.
    inside = rng.integers(1 << 23, size=(n, 2)) / (1 << 23)
    return _float32(np.stack([column, row], axis=1) - 2 + inside)


def swiss_roll(n: int, rng: np.random.Generator) -> np.ndarray:
    """A spiral of one and a half turns with Gaussian noise: (n, 2).

        x = (t (cos t, sin t) + ½ ε) / 5,   t = (3π/2)(1 + 2u)          (scikit-learn's, without the height)

    Uniform in the angle, hence thinner outside; not centred: E x = (2, 2/(3π)) / 5.
    """
    t = 1.5 * np.pi * (1 + 2 * rng.random(n))
    return _float32(ROLL_SCALE * (t[:, None] * _direction(t) + ROLL_NOISE * rng.standard_normal((n, 2))))


def pinwheel(n: int, rng: np.random.Generator) -> np.ndarray:
    """Five bent blades: (n, 2)          (Johnson et al. 2016, "Composing graphical models", its experiments).

        a = 1 + 0.3 ε₁,  b = 0.1 ε₂,   x = 2 R(2πk/5 + ¼ eᵃ) (a, b)ᵀ,   k uniform on {0 … 4}

    R(θ) is the rotation by θ.  Rotations keep lengths: E‖x‖² = 4 (1 + 0.3² + 0.1²).
    """
    a = 1 + BLADE_RADIAL * rng.standard_normal(n)
    b = BLADE_TANGENTIAL * rng.standard_normal(n)
    theta = 2 * np.pi / BLADES * rng.integers(BLADES, size=n) + BLADE_RATE * np.exp(a)
    cos, sin = np.cos(theta), np.sin(theta)
    return _float32(2 * np.stack([a * cos - b * sin, a * sin + b * cos], axis=1))


def log_density_rings(x: np.ndarray) -> np.ndarray:
    """log p of `rings` at x (n, 2), in nats: (n,) float64.

    Averaging N(x; r e(φ), σ² I) over the angle φ gives a Bessel function of ρ = ‖x‖,

        p(x) = ¼ Σ_r (2πσ²)⁻¹ exp(−(ρ² + r²)/2σ²) I₀(ρr/σ²),

    taken as exp(−(ρ − r)²/2σ²) · e^{−ρr/σ²} I₀(ρr/σ²), of which neither factor overflows.
    """
    rho = np.linalg.norm(np.asarray(x, dtype=np.float64), axis=1)[:, None]             # (n, 1)
    var = RING_NOISE ** 2
    terms = np.log(i0e(rho * RADII / var)) - (rho - RADII) ** 2 / (2 * var)            # (n, 4)
    return np.logaddexp.reduce(terms, axis=1) - np.log(len(RADII) * 2 * np.pi * var)


def log_density_eight_gaussians(x: np.ndarray) -> np.ndarray:
    """log p of `eight_gaussians` at x (n, 2), in nats: (n,) float64."""
    gap = np.asarray(x, dtype=np.float64)[:, None, :] - _modes()                       # (n, 8, 2)
    terms = -(gap ** 2).sum(axis=2) / (2 * MODE_STD ** 2)
    return np.logaddexp.reduce(terms, axis=1) - np.log(8 * 2 * np.pi * MODE_STD ** 2)


def log_density_two_gaussians(x: np.ndarray) -> np.ndarray:
    """log p of `two_gaussians` at x (n, 2), in nats: (n,) float64."""
    gap = np.asarray(x, dtype=np.float64)[:, None, :] - PAIR_MEANS                     # (n, 2, 2)
    square = np.einsum("nki,kij,nkj->nk", gap, np.linalg.inv(PAIR_COVS), gap)
    log_det = np.linalg.slogdet(2 * np.pi * PAIR_COVS)[1]
    return np.logaddexp.reduce(np.log(PAIR_WEIGHTS) - (square + log_det) / 2, axis=1)


def log_density_checkerboard(x: np.ndarray) -> np.ndarray:
    """log p of `checkerboard` at x (n, 2), in nats: (n,) float64, −log 8 or −∞."""
    x = np.asarray(x, dtype=np.float64)
    on_board = ((x >= -2) & (x < 2)).all(axis=1)
    black = np.floor(x).sum(axis=1) % 2 == 0
    return np.where(on_board & black, -np.log(8.0), -np.inf)


TOYS: dict[str, Callable[[int, np.random.Generator], np.ndarray]] = {
    "moons": moons, "rings": rings, "eight_gaussians": eight_gaussians, "two_gaussians": two_gaussians,
    "checkerboard": checkerboard, "swiss_roll": swiss_roll, "pinwheel": pinwheel}

LOG_DENSITY: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "rings": log_density_rings, "eight_gaussians": log_density_eight_gaussians,
    "two_gaussians": log_density_two_gaussians,
    "checkerboard": log_density_checkerboard}


def toy(name: str, n: int = 10_000, seed: int = 0) -> Dataset:
    """n points of the toy for fitting and n more, from a stream of their own, held out.

    Raises DataError for an unknown name or n < 1.
    """
    if name not in TOYS:
        raise DataError(f"no toy is called {name!r}: there are {', '.join(TOYS)}")
    if n < 1:
        raise DataError(f"{name}: n must be at least 1, got {n}")
    train, heldout = (TOYS[name](n, np.random.Generator(np.random.PCG64(s)))
                      for s in np.random.SeedSequence(seed).spawn(2))
    return Dataset(name, train, heldout)


def _modes() -> np.ndarray:
    """The eight centres: (8, 2)."""
    return MODE_RADIUS * _direction(np.arange(8) * np.pi / 4)


def _direction(angle: np.ndarray) -> np.ndarray:
    """(cos, sin) of each angle: (n, 2)."""
    return np.stack([np.cos(angle), np.sin(angle)], axis=1)


def _float32(x: np.ndarray) -> np.ndarray:
    return x.astype(np.float32)
