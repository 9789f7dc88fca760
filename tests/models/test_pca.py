"""PCA against power iteration, least squares, EM and scikit-learn."""

import numpy as np
import pytest
from closed_forms import N, check_everywhere, check_fits, check_gradients, check_misfits, seeds, seldom
from evidence import agree, apart, at_most, host, lifted, up
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sklearn import decomposition

from reference import factors as oracle
from reference.tangents import most_changing
from scratchgen import ops
from scratchgen.models.classical import pca as module
from scratchgen.models.classical.pca import PCA, Axes, PCAConfig
from scratchgen.random import Generator

pca = lifted(module)
sizes = st.integers(1, 5)


def cloud(seed, n, D):
    """Points (n, D), n > D, whose deviations along unknown directions are D, …, 2, 1: no two alike, all well apart."""
    noise = np.random.default_rng(seed)
    raw = noise.standard_normal((n, D + 1))
    raw[:, 0] = 1  # what is orthogonal to it has the mean 0
    U = np.linalg.qr(raw)[0][:, 1:]
    V = np.linalg.qr(noise.standard_normal((D, D)))[0]
    return noise.uniform(-3, 3, D) + np.sqrt(n - 1) * U * np.arange(D, 0, -1) @ V.T


def found(x, r):
    axes = pca.components(x)
    return Axes(axes.mean, axes.components[:r], axes.variance[:r])


# --- (1) ------------------------------------------------------------------------------------------------------------


@pytest.mark.equation("pca.components")
@given(seeds, st.integers(2, 5), st.integers(1, 6))
def test_the_directions_are_those_of_the_largest_variance(seed, D, more):
    """Power iteration with a ratio of at most (4/5)² is done to rounding; products vᵢvⱼ have no signs."""
    x = cloud(seed, D + 1 + more, D)
    axes = pca.components(x)
    agree(axes.mean, x.mean(axis=0), rtol=1e-13, atol=1e-14)
    want = most_changing(x - x.mean(axis=0), D)
    agree(axes.components[:, :, None] * axes.components[:, None], want[:, :, None] * want[:, None], atol=1e-11)
    agree(axes.components @ axes.components.T, np.eye(D), atol=1e-13)
    agree(axes.variance, [oracle.variance_along(x, v) for v in want], rtol=1e-11)
    agree(axes.variance, np.arange(D, 0, -1.0) ** 2, rtol=1e-12)
    largest = np.abs(axes.components).argmax(axis=1)
    at_most(0, axes.components[np.arange(D), largest])
    low = pca.components(x.astype(np.float32))
    assert {a.dtype for a in low} == {np.dtype(np.float32)}
    agree(low.variance, axes.variance, rtol=1e-4)


@pytest.mark.equation("pca.components")
@given(seeds, st.integers(2, 12), sizes)
def test_numbers_are_scikit_learns(seed, n, D):
    """Signs too, with fewer points than dimensions as well; directions to 1e-10 unless variances nearly meet."""
    x = np.random.default_rng(seed).normal(size=(n, D)) * np.arange(1, D + 1)
    axes, theirs = pca.components(x), decomposition.PCA(svd_solver="full").fit(x)
    agree(axes.mean, theirs.mean_, atol=1e-13)
    agree(axes.variance, theirs.explained_variance_, rtol=1e-11, atol=1e-12)
    values = axes.variance[: min(D, n - 1)]
    if min([*-np.diff(values), values[-1]], default=1) > 1e-2:
        agree(axes.components[: len(values)], theirs.components_[: len(values)], atol=1e-10)


@pytest.mark.equation("pca.components")
def test_gradients_of_the_variances():
    x = cloud(0, 5, 3)
    check_gradients(lambda x: module.components(x).variance, x)
    check_gradients(lambda x: module.components(x).mean, x)
    with pytest.raises(ValueError, match=r"pca.components: x \(1, 3\) should be \(n, D\), n ≥ 2"):
        pca.components(x[:1])


# --- (2) and (3) ----------------------------------------------------------------------------------------------------


@pytest.mark.equation("pca.transform", "pca.reconstruct")
@given(seeds, st.integers(2, 5), st.integers(1, 5))
def test_the_code_is_the_nearest_point_of_the_plane(seed, D, r):
    """Least squares by SVD, right to some units of the last place of numbers below 20."""
    x, r = cloud(seed, D + 5, D), min(r, D)
    axes = found(x, r)
    new = np.random.default_rng(seed).normal(0, 3, (4, D))
    coordinates, points = oracle.nearest_on_plane(new, axes.mean, axes.components)
    z = check_everywhere(lambda x, *axes: pca.transform(x, Axes(*axes)), new, *axes)
    agree(z, coordinates, atol=1e-12)
    agree(check_everywhere(lambda z, *axes: pca.reconstruct(z, Axes(*axes)), z, *axes), points, atol=1e-12)
    if r == D:
        agree(points, new, atol=1e-12)
    white = pca.transform(new, axes, whiten=True)
    agree(pca.reconstruct(white, axes, whiten=True), points, atol=1e-12)


@pytest.mark.equation("pca.transform")
@given(seeds, sizes)
def test_a_white_code_has_variance_1(seed, D):
    x = cloud(seed, D + 4, D)
    z = pca.transform(x, found(x, D), whiten=True)
    agree(np.cov(z.T).reshape(D, D), np.eye(D), atol=1e-12)
    agree([oracle.variance_along(z, v) for v in np.eye(D)], np.ones(D), rtol=1e-12)


@pytest.mark.equation("pca.reconstruct")
@given(seeds, st.integers(2, 5), st.integers(1, 4))
def test_what_is_lost_is_the_variance_left_out_and_no_plane_loses_less(seed, D, r):
    x, r = cloud(seed, D + 4, D), min(r, D - 1)
    axes = found(x, r)
    lost = ((x - pca.reconstruct(pca.transform(x, axes), axes)) ** 2).sum() / (len(x) - 1)
    agree(lost, (np.arange(D - r, 0, -1.0) ** 2).sum(), rtol=1e-11)
    other = np.random.default_rng(seed).normal(size=(r, D))
    theirs = ((x - oracle.nearest_on_plane(x, axes.mean, other)[1]) ** 2).sum() / (len(x) - 1)
    at_most(lost, theirs * (1 + 1e-12))


@pytest.mark.equation("pca.transform", "pca.reconstruct", "pca.covariance")
def test_gradients():
    x = cloud(1, 6, 3)
    axes = found(x, 2)
    for white in (False, True):
        check_gradients(lambda x, *axes: module.transform(x, Axes(*axes), white), x[:2], *axes)  # noqa: B023
        check_gradients(lambda z, *axes: module.reconstruct(z, Axes(*axes), white), x[:2, :2], *axes)  # noqa: B023
    check_gradients(lambda noise, *axes: module.covariance(Axes(*axes), noise), np.array(0.3), *axes)


# --- (4) ------------------------------------------------------------------------------------------------------------


@pytest.mark.equation("pca.covariance")
@seldom
@given(seeds, st.integers(2, 5), st.integers(1, 4))
def test_the_gaussian_is_the_likeliest_of_its_kind(seed, D, r):
    """EM goes on until W moves no more, by rates of at most σ²/λ_r ≤ 3/4 here: to 1e-10 of covariances up to 25."""
    x, r = cloud(seed, D + 6, D), min(r, D - 1)
    axes = found(x, r)
    noise = np.array((np.arange(D - r, 0, -1.0) ** 2).mean())
    got = check_everywhere(lambda noise, *axes: pca.covariance(Axes(*axes), noise), noise, *axes)
    agree(got, oracle.factor_covariance(x, r), atol=1e-9)
    agree(got, decomposition.PCA(r, svd_solver="full").fit(x).get_covariance(), atol=1e-11)


@pytest.mark.equation("pca.covariance")
@seldom
@given(seeds, st.integers(2, 4))
def test_its_variances_are_the_datas_along_the_directions_and_one_elsewhere(seed, D):
    x = cloud(seed, D + 6, D)
    axes = found(x, D)
    kept = Axes(axes.mean, axes.components[:1], axes.variance[:1])
    C = pca.covariance(kept, np.array(0.5))
    agree(axes.components @ C @ axes.components.T, np.diag([D**2, *[0.5] * (D - 1)]), atol=1e-11)
    agree(axes.components[0] @ C @ axes.components[0], oracle.variance_along(x, axes.components[0]), rtol=1e-11)
    apart(C, np.cov(x.T), by=0.1)
    full = pca.covariance(axes, np.array(0.0))
    agree(full, np.cov(x.T), atol=1e-11)
    agree(full, oracle.factor_covariance(x, D - 1), atol=1e-9)  # σ² is then the last λ: nothing is averaged


# --- the system -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("whiten", [False, True])
def test_the_system_is_scikit_learns(whiten, xp):
    x, new = cloud(2, 40, 6), np.random.default_rng(1).normal(0, 3, (5, 6))
    system, theirs = PCA(PCAConfig(6, 3, whiten)), decomposition.PCA(3, whiten=whiten, svd_solver="full").fit(x)
    assert system.fit(up(x)) is system
    agree(system.components, theirs.components_, atol=1e-12)
    agree(system.variance, theirs.explained_variance_, rtol=1e-12)
    agree(system.noise, theirs.noise_variance_, rtol=1e-12)
    z = system.transform(up(new))
    agree(z, theirs.transform(new), atol=1e-11)
    agree(system.inverse_transform(z), theirs.inverse_transform(theirs.transform(new)), atol=1e-11)
    plain = decomposition.PCA(3, svd_solver="full").fit(x)  # theirs of a whitened fit is another matrix
    agree(system.covariance(), plain.get_covariance(), atol=1e-11)
    agree(system.log_prob(up(new)), plain.score_samples(new), rtol=1e-11)
    with pytest.raises(ValueError, match="2 points have no 3 directions"):
        system.fit(up(x[:2]))
    with pytest.raises(ValueError, match="rank 7 is not between 1 and the 6"):
        PCAConfig(6, 7)


def test_draws_have_the_gaussians_variances(xp):
    """20,000 draws along the direction found and along one that is left out; along no other are they so wide."""
    x = cloud(5, 30, 3)
    system = PCA(PCAConfig(3, 1)).fit(up(x))
    drawn = host(system.sample(N, Generator(4))) - host(system.mean)
    first, rest = host(system.components)[0], np.linalg.svd(host(system.components))[2][1]
    check_fits(drawn @ first, stats.norm(0, 3).cdf)
    check_fits(drawn @ rest, stats.norm(0, np.sqrt(2.5)).cdf)
    check_misfits(drawn @ rest, stats.norm(0, 3).cdf)
    agree(ops.sum(system.noise), 2.5, rtol=1e-12)
