"""The oracles of score matching where a closed form is known."""

import numpy as np
import pytest
from scipy import stats

from reference import score as S

EDGES = np.linspace(-12, 12, 49)
A, B, MEAN, COV = np.array([[-1.0, 0.3], [0.7, -2.0]]), np.array([0.5, -1.0]), np.array([0.2, 0.1]), \
    np.array([[0.5, 0.2], [0.2, 0.8]])  # fmt: skip


def test_traces_and_forms_of_a_linear_field():
    x, v = np.array([0.3, -2.0]), np.array([1.0, 2.0])
    assert S.trace(lambda x: A @ x, x) == pytest.approx(-3.0, abs=1e-9)
    assert S.quadratic_form(lambda x: A @ x, x, v) == pytest.approx(v @ A @ v, abs=1e-9)


def test_fisher_between_two_normals():
    """½E(x − (x − 1))² = ½; and a linear score in two dimensions against sampling-free sums of second moments."""
    assert S.fisher_1d(lambda x: 1 - x, stats.norm.logpdf, EDGES) == pytest.approx(0.5, abs=1e-10)
    M = -np.linalg.inv(COV) - A
    shift = M @ MEAN + np.linalg.solve(COV, MEAN) - B
    expected = (np.trace(M @ COV @ M.T) + shift @ shift) / 2
    assert S.fisher_gaussian(A, B, MEAN, COV) == pytest.approx(expected, abs=1e-12)


def test_the_mean_target_and_the_denoising_loss_of_a_normal():
    """x ~ N(0, 1), σ = 2: the score of x̃ is −x̃/5; the loss of s = 0 is ½E ε² = ½, of the score ½·Var(ε|x̃) = 0.1."""
    assert S.mean_target(1.5, stats.norm.logpdf, 2.0, -10, 10) == pytest.approx(-0.3, abs=1e-9)
    assert S.denoising_1d(lambda x: 0 * x, stats.norm.logpdf, 2.0, EDGES) == pytest.approx(0.5, abs=1e-9)
    assert S.denoising_1d(lambda x: -x / 5, stats.norm.logpdf, 2.0, EDGES) == pytest.approx(0.1, abs=1e-9)
