"""k-means against loops, every partition of few points, and scikit-learn step by step from the same start."""

import itertools
import math

import numpy as np
import pytest
from closed_forms import check_everywhere, check_gradients, seeds, seldom, uniform
from evidence import agree, apart, at_most, host, lifted, up
from hypothesis import given
from hypothesis import strategies as st
from scipy.cluster.vq import kmeans2
from sklearn import cluster

from reference import clusters as oracle
from reference.derivatives import gradient
from scratchgen.models.classical import kmeans as module
from scratchgen.models.classical.kmeans import KMeans, KMeansConfig
from scratchgen.random import Generator

kmeans = lifted(module)
sizes = st.integers(1, 4)


def cloud(seed, n, D, groups=3):
    """Points round a few places that are further apart than they are wide."""
    noise = np.random.default_rng(seed)
    return noise.uniform(-5, 5, (groups, D))[noise.integers(groups, size=n)] + noise.normal(0, 0.7, (n, D))


def theirs(x, start, steps, **settings):
    """scikit-learn after so many steps from the same start."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("warnings.warn", lambda *args, **kwargs: None)  # fewer steps than it likes
        return cluster.KMeans(len(start), init=start, n_init=1, max_iter=steps, tol=0, algorithm="lloyd",
                              **settings).fit(x)  # fmt: skip


# --- (1) and (2) ----------------------------------------------------------------------------------------------------


@pytest.mark.equation("kmeans.inertia", "kmeans.assign")
@given(seeds, st.integers(1, 6), sizes, sizes)
def test_each_point_pays_for_the_nearest_centre(seed, n, D, k):
    """Squares below 200 of numbers below 10 cancel: what is left is right to a few units of 200·2⁻⁵²."""
    x, _ = uniform(seed, (n, D), (-5, 5), (0, 1))
    centres, _ = uniform(seed + 1, (k, D), (-5, 5), (0, 1))
    found = [oracle.nearest(point, centres) for point in x]
    got = check_everywhere(kmeans.inertia, x, centres, tolerance=1e-4)
    agree(got, [square for _, square in found], rtol=1e-13, atol=1e-12)
    at_most(-got, 0.0)
    agree(kmeans.assign(x, centres), [c for c, _ in found])
    table = kmeans.squared_distances(x, centres)
    agree(table, [[math.dist(a, b) ** 2 for b in centres] for a in x], rtol=1e-13, atol=1e-12)


@pytest.mark.equation("kmeans.inertia", "kmeans.assign")
def test_far_from_the_origin_distances_keep_their_digits():
    """The squares of the coordinates are 10¹², and 2⁻⁵² of them would be 10⁻⁴."""
    x = 1e6 + np.array([[0.0, 0.0], [1e-2, 0.0], [3.0, 4.0]])
    centres = 1e6 + np.array([[0.0, 0.0], [3.0, 4.0]])
    agree(kmeans.inertia(x, centres), [0, 1e-4, 0], atol=1e-9)
    agree(kmeans.assign(x, centres), [0, 0, 1])
    with pytest.raises(ValueError, match=r"kmeans: points \(3, 2\) and centres \(2, 3\) should be"):
        kmeans.inertia(x, np.zeros((2, 3)))


@pytest.mark.equation("kmeans.inertia")
def test_gradients():
    x = np.array([[0.1, 0.3], [1.4, -0.2], [2.0, 1.1]])
    centres = np.array([[0.0, 0.0], [2.0, 0.5]])
    check_gradients(module.inertia, x, centres)


@pytest.mark.equation("kmeans.assign")
def test_ties_go_to_the_first():
    agree(kmeans.assign(np.zeros((2, 1)), np.array([[1.0], [-1.0], [1.0]])), [0, 0])


# --- (3) ------------------------------------------------------------------------------------------------------------


@pytest.mark.equation("kmeans.centres")
@given(seeds, st.integers(1, 4), sizes)
def test_a_centre_is_where_the_squares_are_least(seed, k, D):
    """Least squares by SVD, right to a few units of the last place; no centre is left without a point."""
    n = k + 4
    x, _ = uniform(seed, (n, D), (-5, 5), (0, 1))
    labels = np.random.default_rng(seed).permutation(np.arange(n) % k)
    got = kmeans.means(x, labels, np.zeros((k, D)))
    agree(got, [oracle.centre(x[labels == j]) for j in range(k)], rtol=1e-13, atol=1e-13)
    low = kmeans.means(x.astype(np.float32), labels, np.zeros((k, D), np.float32))
    assert low.dtype == np.float32
    agree(low, got, atol=1e-5)
    fixed = lambda c: math.fsum(math.dist(p, c[j]) ** 2 for p, j in zip(x, labels, strict=True))  # noqa: E731
    agree(gradient(fixed, got), np.zeros((k, D)), atol=1e-7)  # differences of a sum of ten squares below 400


@pytest.mark.equation("kmeans.centres")
def test_a_centre_without_points_takes_the_farthest():
    x = np.array([[0.0], [1.0], [2.0], [10.0], [11.0]])
    centres = np.array([[1.0], [50.0], [8.0]])
    labels = kmeans.assign(x, centres)
    agree(labels, [0, 0, 0, 2, 2])
    agree(kmeans.means(x, labels, centres), [[1.0], [11.0], [10.0]])
    agree(kmeans.means(x, labels, centres), theirs(x, centres, 1).cluster_centers_, atol=1e-13)
    two = np.array([[1.0], [50.0], [60.0]])  # both the others lose theirs: the two farthest go, in that order
    agree(kmeans.means(x, np.zeros(5, int), two), [[1.0], [11.0], [10.0]])
    alone = np.array([[0.0], [4.0]])  # the farthest was its centre's only one, which then stays
    agree(kmeans.means(alone[:1], np.array([1]), alone), [[0.0], [4.0]])


# --- (2) and (3) in turn --------------------------------------------------------------------------------------------


@pytest.mark.equation("kmeans.inertia", "kmeans.assign", "kmeans.centres")
@seldom
@given(seeds, st.integers(2, 5), sizes)
def test_every_step_is_scikit_learns(seed, k, D):
    """Centres, labels and J, step by step; they differ by rounding, some units of 100·2⁻⁵² on coordinates below 10."""
    x = cloud(seed, 40, D)
    start = x[np.random.default_rng(seed).choice(40, k, replace=False)] + 0.1
    steps = list(kmeans.lloyd(x, start, 300))
    agree(steps[0].centres, start)
    for t, step in enumerate(steps[1:], start=1):
        want = theirs(x, start, t)
        agree(step.centres, want.cluster_centers_, rtol=1e-12, atol=1e-12)
        agree(step.labels, want.labels_)
        agree(step.inertia, want.inertia_, rtol=1e-12, atol=1e-12)
    agree(steps[-1].centres, theirs(x, start, 300).cluster_centers_, rtol=1e-12, atol=1e-12)  # both are at rest
    if all(len(set(step.labels)) == k for step in steps):  # SciPy has no cure for a centre without points
        agree(steps[-1].centres, kmeans2(x, start, iter=len(steps), minit="matrix")[0], rtol=1e-12, atol=1e-12)


@pytest.mark.equation("kmeans.inertia", "kmeans.assign", "kmeans.centres")
@given(seeds, st.integers(1, 6), sizes)
def test_j_never_rises_and_comes_to_rest(seed, k, D):
    x = cloud(seed, 30, D)
    start, _ = uniform(seed, (k, D), (-8, 8), (0, 1))
    steps = list(kmeans.lloyd(x, start, 300))
    values = np.array([step.inertia for step in steps])
    at_most(np.diff(values), 1e-12 * values[0])
    assert len(steps) < 60
    last = steps[-1]
    agree(kmeans.assign(x, last.centres), last.labels)
    agree(kmeans.means(x, last.labels, last.centres), last.centres, atol=1e-13)
    assert len(list(kmeans.lloyd(x, start, 2))) <= 3
    (only,) = kmeans.lloyd(x, start, 0)
    agree(only.centres, start)


@pytest.mark.equation("kmeans.inertia", "kmeans.assign", "kmeans.centres")
@seldom
@given(seeds, st.integers(1, 3))
def test_from_every_start_the_best_partition_there_is(seed, k):
    """All starts at points of the data, against all partitions; a single start may do worse, none does better."""
    x = cloud(seed, 7, 2)
    least = oracle.least_inertia(x, k)
    ends = []
    for chosen in itertools.combinations(range(7), k):
        (*_, last) = kmeans.lloyd(x, x[list(chosen)], 50)
        ends.append(last.inertia)
    at_most(least, np.array(ends) + 1e-11)
    agree(min(ends), least, rtol=1e-11, atol=1e-11)


# --- (4) ------------------------------------------------------------------------------------------------------------


@pytest.mark.equation("kmeans.seeding")
@given(seeds, st.integers(2, 7), sizes)
def test_the_next_start_has_its_share_of_the_unit_interval(seed, n, D):
    """The second start as a function of u: point i just inside both ends of an interval as long as its probability.

    And the third, with the second as drawn.
    """
    x, _ = uniform(seed, (n, D), (-5, 5), (0, 1))
    first = int(np.random.default_rng(seed).integers(n))
    chosen = [first]
    for _ in range(min(2, n - 1)):
        p = oracle.shares(x, chosen)
        assert p[first] == 0
        edges = np.concatenate([[0], np.cumsum(p)])
        before = [0.5] * (len(chosen) - 1)
        for i in np.flatnonzero(p > 1e-6):
            for u in (edges[i] + 1e-9, edges[i + 1] - 1e-9):
                column = np.array([[(first + 0.5) / n], *[[b] for b in before], [u]])
                agree(kmeans.plus_plus(x, column)[-1], i)
        chosen.append(int(kmeans.plus_plus(x, np.array([[(first + 0.5) / n], [0.5]]))[-1]))


@pytest.mark.equation("kmeans.seeding")
@given(seeds, st.integers(2, 6), st.integers(1, 4), sizes)
def test_starts_are_scikit_learns(seed, k, m, D):
    """From the same uniform numbers, the greedy rule too."""
    x = cloud(seed, 30, D)
    state = np.random.RandomState(seed)
    u = np.concatenate([np.full((1, m), state.random_sample()), state.random_sample((k - 1, m))])
    want, places = cluster.kmeans_plusplus(x, k, random_state=np.random.RandomState(seed), n_local_trials=m)
    found = kmeans.plus_plus(x, u)
    agree(found, places)
    agree(x[found], want)


@pytest.mark.equation("kmeans.seeding")
def test_starts_do_not_repeat_and_lie_apart():
    """As many starts as points are all the points; on three far groups they take one of each, which chance does not."""
    x = np.arange(6.0)[:, None]
    for seed in range(20):
        u = np.random.default_rng(seed).random((6, 1))
        assert sorted(kmeans.plus_plus(x, u)) == list(range(6))
    far = np.concatenate([cloud(s, 20, 2, 1) * 0.1 + 1e3 * s for s in range(3)])
    for seed in range(20):
        u = np.random.default_rng(seed).random((3, 3))
        assert sorted(kmeans.plus_plus(far, u) // 20) == [0, 1, 2]


@pytest.mark.equation("kmeans.seeding")
def test_the_mean_end_keeps_arthurs_bound():
    """J from plain k-means++, over 300 draws, is below 8(ln k + 2) times the least; even starts are far above it."""
    x = np.concatenate([cloud(1, 3, 2, 1) * 0.01 + shift for shift in (0.0, 1.0, 40.0)])
    k, least = 3, oracle.least_inertia(x, 3)
    rng = np.random.default_rng(5)
    value = lambda starts: kmeans.inertia(x, x[starts]).sum()  # noqa: E731
    drawn = np.mean([value(kmeans.plus_plus(x, rng.random((k, 1)))) for _ in range(300)])
    even = np.mean([value(rng.choice(len(x), k, replace=False)) for _ in range(300)])
    at_most(drawn, 8 * (math.log(k) + 2) * least)
    apart(even, 0, by=8 * (math.log(k) + 2) * least)


# --- the system -----------------------------------------------------------------------------------------------------


def test_fit_is_the_loop_and_predict_its_labels(xp):
    x = cloud(3, 60, 3)
    system = KMeans(KMeansConfig(3, 4))
    start = x[:4]
    assert system.fit(up(x), start=up(start)) is system
    want = theirs(x, start, 300)
    agree(system.centres, want.cluster_centers_, rtol=1e-12)
    agree(system.predict(up(x)), want.labels_)
    new = cloud(4, 9, 3)
    agree(system.predict(up(new)), want.predict(new))
    agree(system.transform(up(new)), want.transform(new), rtol=1e-10)
    with pytest.raises(ValueError, match="give a start, or an rng"):
        system.fit(up(x))
    with pytest.raises(ValueError, match="3 points are too few for 4 clusters"):
        system.fit(up(x[:3]), Generator(0))
    with pytest.raises(ValueError, match="must be at least 1"):
        KMeansConfig(clusters=0)


def test_of_several_starts_the_best_is_kept(xp):
    x = up(cloud(7, 80, 2, 8))
    system = KMeans(KMeansConfig(2, 6, starts=5))
    rows = list(system.descend(x, Generator(1), 500))
    again = KMeans(KMeansConfig(2, 6, starts=5)).fit(x, Generator(1), steps=500)
    best = min(row.inertia for row in rows)
    agree(host(module.inertia(x, system.centres.array)).sum(), best, rtol=1e-12)
    agree(again.centres, system.centres)
    ends = [a.inertia for a, b in itertools.pairwise(rows) if b.inertia > a.inertia * (1 + 1e-9)] + [rows[-1].inertia]
    assert len(ends) == 5
    assert max(ends) > min(ends) * 1.01  # one start would not have done
    few = list(KMeans(KMeansConfig(2, 6, starts=5)).descend(x, Generator(1), 4))
    assert [row.inertia for row in few] == [row.inertia for row in rows[:4]]
