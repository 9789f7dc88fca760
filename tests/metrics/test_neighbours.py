"""Neighbours against loops over all pairs, on grids full of ties too, and what precision and recall tell apart."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import linalg

from reference import metrics as oracle
from scratchgen.metrics import neighbours
from scratchgen.metrics.neighbours import nearest, precision_recall, radii

seeds = st.integers(0, 2**32 - 1)


def points(rng, n, d, grid):
    """A cloud, or points of a small grid: many coincide, many distances are equal, all are exact."""
    return rng.integers(0, 3, (n, d)).astype(float) if grid else rng.standard_normal((n, d))


@given(seeds, st.integers(4, 15), st.integers(4, 15), st.integers(1, 3), st.integers(1, 3), st.booleans())
def test_agrees_with_loops(seed, n, m, d, k, grid):
    rng = np.random.default_rng(seed)
    real, fake = points(rng, n, d, grid), points(rng, m, d, grid)
    np.testing.assert_allclose(radii(real, k), oracle.neighbour_radii(real, k), rtol=1e-14)
    assert precision_recall(real, fake, k) == oracle.precision_recall(real, fake, k)


@given(seeds, st.integers(1, 12), st.integers(1, 12), st.booleans(), st.data())
def test_nearest_agrees_with_sorting_all_pairs(seed, n, m, grid, data):
    rng, k = np.random.default_rng(seed), data.draw(st.integers(1, m))
    x, y = points(rng, n, 4, grid).reshape(n, 2, 2, 1), points(rng, m, 4, grid).reshape(m, 2, 2, 1)
    found = nearest(x, y, k)
    for i in range(n):
        pairs = sorted((float(np.sqrt(np.sum((x[i] - y[j]) ** 2))), j) for j in range(m))
        np.testing.assert_allclose(found.distance[i], [distance for distance, _ in pairs[:k]], rtol=1e-14)
        if grid:
            assert found.index[i].tolist() == [j for _, j in pairs[:k]]  # of equals the first


def test_blocks_change_nothing(monkeypatch):
    rng = np.random.default_rng(0)
    real, fake = rng.standard_normal((50, 3)), rng.standard_normal((41, 3))
    whole = radii(real), precision_recall(real, fake), nearest(fake, real, 2)
    sizes = []
    cdist = neighbours.cdist

    def counted(x, y):
        sizes.append(len(x) * len(y))
        return cdist(x, y)

    monkeypatch.setattr(neighbours, "ENTRIES", 200)
    monkeypatch.setattr(neighbours, "cdist", counted)
    parts = radii(real), precision_recall(real, fake), nearest(fake, real, 2)
    np.testing.assert_array_equal(whole[0], parts[0])
    assert whole[1] == parts[1]
    np.testing.assert_array_equal(whole[2].index, parts[2].index)
    assert max(sizes) <= 200 < sum(sizes)


@given(seeds, st.integers(5, 20), st.integers(1, 4))
def test_a_set_covers_itself(seed, n, k):
    x = np.random.default_rng(seed).standard_normal((n, 3)) * 1e-3 + 1e3  # where ‖x‖² − 2⟨x, y⟩ + ‖y‖² fails
    assert precision_recall(x, x, k) == (1, 1)


@given(seeds)
def test_rotation_order_and_roles(seed):
    rng = np.random.default_rng(seed)
    real, fake = rng.standard_normal((30, 3)), rng.standard_normal((20, 3)) + 0.5
    turn = linalg.qr(rng.standard_normal((3, 3)))[0]
    found = precision_recall(real, fake)
    assert precision_recall(real @ turn, fake @ turn) == found
    assert precision_recall(rng.permutation(real), rng.permutation(fake)) == found
    assert precision_recall(fake, real) == found[::-1]


def test_precision_and_recall_tell_faults_apart():
    rng = np.random.default_rng(0)
    real = np.concatenate([rng.standard_normal((200, 2)), rng.standard_normal((200, 2)) + 20])  # two modes
    good = np.concatenate([rng.standard_normal((200, 2)), rng.standard_normal((200, 2)) + 20])
    one_mode, elsewhere = rng.standard_normal((400, 2)), rng.standard_normal((400, 2)) - 50
    assert min(precision_recall(real, good)) > 0.9
    precision, recall = precision_recall(real, one_mode)
    assert precision > 0.9
    assert 0.4 < recall < 0.55
    assert precision_recall(real, elsewhere) == (0, 0)
    collapsed = np.repeat(real[:1], 400, axis=0)
    assert precision_recall(real, collapsed) == (1, 1 / 400)


def test_copies_are_found():
    rng = np.random.default_rng(0)
    training = rng.standard_normal((100, 8, 8, 1)).astype(np.float32)
    which = rng.permutation(100)[:20]
    found = nearest(training[which], training, k=2)
    np.testing.assert_array_equal(found.index[:, 0], which)
    np.testing.assert_array_equal(found.distance[:, 0], 0)
    assert (found.distance[:, 1] > 5).all()


@pytest.mark.parametrize("k", [0, 4, -1])
def test_k_must_fit(k):
    four = np.zeros((4, 2))
    with pytest.raises(ValueError, match=f"k = {k} is not between 1 and n − 1, with n = 4"):
        radii(four, k)
    with pytest.raises(ValueError, match="is not between"):
        precision_recall(four, np.zeros((9, 2)), k)
    if k != 4:
        with pytest.raises(ValueError, match="training examples"):
            nearest(four, four, k)


def test_shapes_must_fit():
    with pytest.raises(ValueError, match="differ in shape"):
        nearest(np.zeros((3, 8, 8, 1)), np.zeros((3, 64)))
    with pytest.raises(ValueError, match="dimensions"):
        precision_recall(np.zeros((9, 2)), np.zeros((9, 3)))
    with pytest.raises(ValueError, match="not finite"):
        nearest(np.full((3, 2), np.nan), np.zeros((3, 2)))
    with pytest.raises(ValueError, match="too few"):
        nearest(np.zeros((3, 2)), np.zeros((0, 2)))
