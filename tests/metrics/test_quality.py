"""The figures together, through a classifier that nobody has trained: their parts, their groups, their refusals."""

import numpy as np
import pytest

from reference import metrics as oracle
from scratchgen.backend import backend
from scratchgen.metrics import Classifier, ClassifierConfig, Quality, Reference, quality, table
from scratchgen.metrics.quality import FLOOR, NORMAL, UNIFORM
from scratchgen.random import Generator

CONFIG = ClassifierConfig(shape=(4, 4, 1), classes=3, base=4, width=5)


@pytest.fixture
def classifier():
    return Classifier(CONFIG, rng=Generator(0))


def images(seed, n, level=0.0):
    noise = np.random.default_rng(seed).standard_normal((n, 4, 4, 1))
    return np.tanh(0.4 * noise + level).astype(np.float32)


def test_its_parts_are_the_oracles(classifier):
    real, fake = images(0, 60), images(1, 40, 0.3)
    found = quality(fake, real, classifier)
    x, y = classifier.features(real), classifier.features(fake)
    assert found.frechet == pytest.approx(oracle.frechet_from_samples(y, x), rel=1e-6)
    assert (found.precision, found.recall) == oracle.precision_recall(x, y, 3)
    assert found.score == pytest.approx(oracle.classifier_score(classifier.probabilities(fake)), rel=1e-12)


def test_groups_are_disjoint_and_their_rest_is_left_out(classifier):
    reference, samples = Reference(images(0, 60), classifier), images(1, 50)
    row = reference.row("some", samples, 20)
    parts = np.array([reference.quality(samples[:20]), reference.quality(samples[20:40])])
    assert (row.groups, row.n, row.name) == (2, 20, "some")
    np.testing.assert_allclose(row.mean, parts.mean(0), rtol=1e-12)
    np.testing.assert_allclose(row.spread, np.abs(parts[0] - parts[1]) / 2**0.5, rtol=1e-12)
    single = reference.row("one", samples[:20], 20)
    assert single.spread is None
    assert single.mean == reference.quality(samples[:20]) == Quality(*single.mean)


def test_the_table_has_floor_samples_and_ceilings(classifier):
    train, heldout = images(0, 60), images(1, 30)
    found = table({"a": images(2, 30), "b": images(3, 90, 1.0)}, train, heldout, classifier, rng=Generator(0))
    assert [row.name for row in found] == [FLOOR, "a", "b", NORMAL, UNIFORM]
    assert {row.n for row in found} == {30}
    assert [row.groups for row in found] == [1, 1, 3, 1, 1]
    by_name = {row.name: row.mean for row in found}
    assert by_name[FLOOR] == quality(heldout, train, classifier)
    assert by_name["a"].frechet < min(by_name[name].frechet for name in ("b", NORMAL, UNIFORM))
    rng = np.random.default_rng(0)
    noise = {NORMAL: rng.standard_normal(heldout.shape).clip(-1, 1), UNIFORM: rng.uniform(-1, 1, heldout.shape)}
    for name, other in noise.items():  # other noise of the same law: about as far
        assert by_name[name].frechet == pytest.approx(quality(other, train, classifier).frechet, rel=0.4)
    again = table({}, train, heldout, classifier, rng=Generator(0))
    assert [row for row in found if row.name not in "ab"] == again


def test_the_strict_backend_gives_the_same(classifier):
    train, heldout = images(0, 60), images(1, 30)
    here = table({}, train, heldout, classifier, rng=Generator(0))
    with backend("strict") as xp:
        there_classifier = Classifier(CONFIG, rng=Generator(0))
        samples = {"on the device": xp.asarray(heldout)}
        there = table(samples, train, heldout, there_classifier, rng=Generator(0))
    assert there[0].mean == there[1].mean
    for a, b in zip(here, [there[0], *there[2:]], strict=True):
        np.testing.assert_allclose(a.mean, b.mean, rtol=1e-4)


@pytest.mark.parametrize("n", [0, 1, 5])
def test_too_few_images(classifier, n):
    real = images(0, 60)
    with pytest.raises(ValueError, match=f"{n} images are too few for quality figures, which need 6"):
        quality(images(1, n), real, classifier)
    with pytest.raises(ValueError, match="too few"):
        Reference(images(1, n), classifier)
    with pytest.raises(ValueError, match=rf"mine: {n} images are too few for figures of n = 30"):
        table({"mine": images(1, n)}, real, images(1, 30), classifier, rng=Generator(0))


def test_images_that_are_none(classifier):
    real, broken = images(0, 60), images(1, 20)
    broken[3, 2, 1] = np.nan
    with pytest.raises(ValueError, match="not finite"):
        quality(broken, real, classifier)
    with pytest.raises(ValueError, match=r"\(20, 4, 4\) are not \(n, 4, 4, 1\)"):
        quality(broken[..., 0], real, classifier)


def test_the_figures_worsen_with_noise(classifier):
    """In the mean of features and in their covariance alike: more noise, a larger distance."""
    real, rng = images(0, 200), np.random.default_rng(5)
    noise = rng.standard_normal((200, 4, 4, 1)).astype(np.float32)
    found = [quality(images(1, 200) + s * noise, real, classifier).frechet for s in (0, 0.5, 1, 2)]
    assert found == sorted(found)
    assert found[3] > 20 * found[0]
