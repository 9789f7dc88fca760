"""Agglomerative clustering against distances of all members, SciPy's trees and scikit-learn's."""

import numpy as np
import pytest
from closed_forms import check_everywhere, check_gradients, seeds, seldom
from evidence import agree, apart, at_most, host, lifted, up
from hypothesis import given
from hypothesis import strategies as st
from scipy.cluster import hierarchy
from scipy.spatial.distance import cdist
from sklearn import cluster

from reference import clusters as oracle
from scratchgen.models.classical import agglomerative as module
from scratchgen.models.classical.agglomerative import METHODS, Agglomerative, AgglomerativeConfig

linkage = lifted(module)
methods = st.sampled_from(METHODS)
sizes = st.integers(1, 4)


def rows(x, method):
    return np.array(list(linkage.merges(linkage.distances(x), method)))


def normal(seed, *shape):
    return np.random.default_rng(seed).normal(0, 2, shape)


# --- (1) ------------------------------------------------------------------------------------------------------------


@pytest.mark.equation("linkage.update")
@given(seeds, methods, st.integers(1, 3), sizes, sizes, sizes)
def test_merged_groups_need_their_members_no_more(seed, method, D, n_i, n_j, n_k):
    """All distances by all members; Ward's is a root of differences of squares below 1000, which cost some digits."""
    i, j, k = (normal(seed + s, n, D) for s, n in enumerate((n_i, n_j, n_k)))
    between = [np.array([oracle.apart(a, b, method)]) for a, b in ((i, k), (j, k), (i, j))]
    sizes = [np.array([float(n)]) for n in (n_i, n_j, n_k)]
    f = lambda *args: linkage.update(method, *args)  # noqa: E731
    together = oracle.apart([*i, *j], k, method)
    agree(f(*between, *sizes), np.array([together]), rtol=1e-11, atol=1e-7)
    if together > 0.1:
        agree(check_everywhere(f, *between, *sizes), np.array([together]), rtol=1e-11, atol=1e-11)


@pytest.mark.equation("linkage.update")
@pytest.mark.parametrize("method", METHODS)
def test_gradients_of_the_update(method):
    d = [np.array([a]) for a in (2.0, 2.7, 1.1)]
    check_gradients(lambda *d: module.update(method, *d, 2.0, 3.0, 4.0), *d)
    others = [module.update(m, 2.0, 2.7, 1.1, 2, 3, 4) for m in METHODS if m != method]
    apart(others, float(module.update(method, 2.0, 2.7, 1.1, 2, 3, 4)), by=0.05)
    with pytest.raises(ValueError, match="'median' is not one of single, complete, average, ward"):
        linkage.update("median", *d, 1, 1, 1)


# --- (2) ------------------------------------------------------------------------------------------------------------


@pytest.mark.equation("linkage.merge", "linkage.update")
@seldom
@given(seeds, methods, st.integers(2, 9), st.integers(1, 3))
def test_the_tree_is_the_one_of_all_members(seed, method, n, D):
    """Which groups, how many points, and how far apart, to 1e-10, merge by merge."""
    x = normal(seed, n, D)
    found, want = rows(x, method), oracle.tree(x, method)
    agree(found[:, [0, 1, 3]], want[:, [0, 1, 3]])
    agree(found[:, 2], want[:, 2], rtol=1e-10, atol=1e-10)


@pytest.mark.equation("linkage.merge", "linkage.update")
@given(seeds, methods, st.integers(2, 60), sizes)
def test_the_tree_is_scipys_and_scikit_learns(seed, method, n, D):
    """Both in the same order, and never downwards."""
    x = normal(seed, n, D)
    found, want = rows(x, method), hierarchy.linkage(x, method)
    agree(found[:, [0, 1, 3]], want[:, [0, 1, 3]])
    agree(found[:, 2], want[:, 2], rtol=1e-10, atol=1e-10)
    at_most(-np.diff(found[:, 2]), 1e-12)
    theirs = cluster.AgglomerativeClustering(1, linkage=method, compute_distances=True).fit(x)
    agree(found[:, :2], np.sort(theirs.children_, axis=1))
    agree(found[:, 2], theirs.distances_, rtol=1e-10, atol=1e-10)


@pytest.mark.equation("linkage.merge")
@given(seeds, st.integers(1, 20), sizes)
def test_distances(seed, n, D):
    x = normal(seed, n, D) + 1e3
    d = linkage.distances(x)
    agree(d, cdist(x, x), rtol=1e-12, atol=1e-12)
    agree(d, [[oracle.apart([a], [b], "single") for b in x] for a in x], rtol=1e-12, atol=1e-12)
    agree(d, d.T)


@pytest.mark.equation("linkage.merge")
def test_ties_and_points_that_are_one():
    """On a grid many distances are equal: which comes first is open, the heights of single linkage are not."""
    x = np.array([[i, j] for i in range(4) for j in range(3)] + [[0, 0]], dtype=float)
    agree(rows(x, "single")[:, 2], [0, *[1.0] * 11], atol=1e-14)
    agree(rows(x, "single")[:, 2], oracle.tree(x, "single")[:, 2], atol=1e-14)
    for method in METHODS:
        found = rows(x, method)
        assert found[-1, 3] == 13
        assert sorted(found[:, :2].ravel()) == list(range(24))  # every group but the last becomes part of one other
        at_most(-np.diff(found[:, 2]), 1e-12)
    with pytest.raises(ValueError, match=r"linkage.merge: distances \(2, 3\) should be \(n, n\)"):
        list(linkage.merges(np.zeros((2, 3)), "single"))


@pytest.mark.equation("linkage.merge")
def test_the_table_is_left_as_it_was():
    d = linkage.distances(normal(0, 6, 2))
    before = d.copy()
    list(module.merges(up(d), "ward"))
    assert np.array_equal(d, before)


# --- (3) ------------------------------------------------------------------------------------------------------------


@pytest.mark.equation("linkage.cut")
@given(seeds, methods, st.integers(2, 15), st.data())
def test_the_last_merges_undone_leave_k_groups(seed, method, n, data):
    """SciPy's trees; its own cut where no two heights are one."""
    k = data.draw(st.integers(1, n))
    want = hierarchy.linkage(normal(seed, n, 2), method)
    labels = linkage.cut(want, k)
    agree(len(set(labels)), k)
    groups = {frozenset(np.flatnonzero(labels == g).tolist()) for g in set(labels)}
    assert groups == oracle.grouped(want, k)
    theirs = hierarchy.fcluster(want, k, criterion="maxclust")
    assert groups == {frozenset(np.flatnonzero(theirs == g).tolist()) for g in set(theirs)}
    agree(list(dict.fromkeys(labels)), list(range(k)))  # named as they come


@pytest.mark.equation("linkage.cut")
def test_no_more_groups_than_points():
    tree = hierarchy.linkage(normal(0, 4, 2), "single")
    agree(linkage.cut(tree, 4), [0, 1, 2, 3])
    assert len(oracle.grouped(tree, 4)) == 4
    for k in (0, 5):
        with pytest.raises(ValueError, match=f"4 points make no {k} groups"):
            linkage.cut(tree, k)


# --- the system -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_the_system_is_scikit_learns(method, xp):
    x = normal(3, 50, 3)
    system = Agglomerative(AgglomerativeConfig(50, method))
    labels = host(system.fit_predict(up(x), 6))
    agree(system.tree, hierarchy.linkage(x, method), rtol=1e-10, atol=1e-10)
    theirs = cluster.AgglomerativeClustering(6, linkage=method).fit_predict(x)
    assert len(set(zip(labels.tolist(), theirs.tolist(), strict=True))) == 6  # one partition, whatever the names
    agree(labels, system.labels(6))
    with pytest.raises(ValueError, match="49 points, not 50 as configured"):
        system.fit(up(x[:49]))
    with pytest.raises(ValueError, match="1 examples make no groups"):
        AgglomerativeConfig(1)


def test_the_tree_is_saved_with_the_system(xp):
    x = up(normal(1, 7, 2))
    system, other = (Agglomerative(AgglomerativeConfig(7)) for _ in range(2))
    assert system.fit(x) is system
    other.load_state_dict(system.state_dict())
    agree(other.labels(3), system.labels(3))
