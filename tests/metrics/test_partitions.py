"""Groups against classes: scikit-learn's figures, and what they are for partitions that can be seen through."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as sklearn_metrics

from scratchgen.metrics.partitions import adjusted_rand, contingency, purity

labels = st.integers(1, 40).flatmap(
    lambda n: st.tuples(*[st.lists(st.integers(-2, 4), min_size=n, max_size=n).map(np.array)] * 2)
)


@given(labels)
def test_the_figures_are_scikit_learns(pair):
    groups, classes = pair
    table = sklearn_metrics.cluster.contingency_matrix(groups, classes)
    assert np.array_equal(contingency(groups, classes), table)
    assert purity(groups, classes) == pytest.approx(table.max(axis=1).sum() / len(groups), rel=1e-12)
    expected = sklearn_metrics.adjusted_rand_score(groups, classes)
    assert adjusted_rand(groups, classes) == pytest.approx(expected, rel=1e-12, abs=1e-12)


@given(labels)
def test_names_of_groups_mean_nothing(pair):
    groups, classes = pair
    renamed = np.array(list("edcba9876"))[groups + 2]
    assert adjusted_rand(renamed, classes) == adjusted_rand(groups, classes)
    assert purity(renamed, classes) == purity(groups, classes)
    assert adjusted_rand(groups, groups) == purity(groups, groups) == 1


def test_chance_has_the_index_0():
    """10,000 random labels of 10: the standard deviation of ARI is below 1e-3."""
    rng = np.random.default_rng(0)
    groups, classes = rng.integers(10, size=(2, 10_000))
    assert abs(adjusted_rand(groups, classes)) < 5e-3
    assert purity(groups, classes) < 0.15


def test_labels_that_do_not_pair_are_refused():
    for a, b in (((3,), (4,)), ((0,), (0,)), ((2, 2), (2, 2))):
        with pytest.raises(ValueError, match="should both be"):
            purity(np.zeros(a), np.zeros(b))
