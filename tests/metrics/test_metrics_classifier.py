"""The classifier as a network: its gradients, its shifts, its backends; and the score as a formula."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reference import metrics as oracle
from scratchgen import ops
from scratchgen.autograd import Tensor, gradients
from scratchgen.backend import backend
from scratchgen.metrics import Classifier, ClassifierConfig, classifier_score
from scratchgen.metrics import classifier as module
from scratchgen.random import Generator
from scratchgen.train import TrainConfig, train

seeds = st.integers(0, 2**32 - 1)
RNG = np.random.default_rng(0)
IMAGES = RNG.uniform(-1, 1, (40, 8, 8, 1)).astype(np.float32)
LABELS = RNG.integers(0, 10, 40)


def make(seed=0, **settings):
    return Classifier(ClassifierConfig(**settings), rng=Generator(seed))


def test_every_parameter_has_the_gradient_of_a_finite_difference():
    """In a random direction of each parameter, float64, shifts drawn anew from the same seed."""
    classifier = make(base=4, width=6).astype(np.float64)
    batch = IMAGES.astype(np.float64), LABELS
    named = dict(classifier.named_parameters())
    mean = lambda: ops.mean(classifier.loss(batch, Generator(3)).loss)  # noqa: E731
    found = gradients(mean(), list(named.values()))
    for (name, parameter), g in zip(named.items(), found, strict=True):
        assert np.abs(g).max() > 1e-6, name
        v, before, step = RNG.standard_normal(parameter.shape), parameter.numpy().copy(), 1e-5
        parameter.assign(before + step * v)
        up = float(mean())
        parameter.assign(before - step * v)
        slope = (up - float(mean())) / (2 * step)
        parameter.assign(before)
        assert slope == pytest.approx(np.sum(g * v), rel=1e-5, abs=1e-8), name


def test_the_loss_is_the_cross_entropy_of_the_probabilities():
    classifier = make(shift=0)
    terms = classifier.loss((IMAGES, LABELS), Generator(0))
    p = classifier.probabilities(IMAGES)
    np.testing.assert_allclose(terms.loss.numpy(), -np.log(p[np.arange(40), LABELS]), rtol=1e-4)
    np.testing.assert_array_equal(terms.error, p.argmax(1) != LABELS)
    assert classifier.accuracy(IMAGES, LABELS) == pytest.approx(1 - terms.error.mean())


def test_features_and_probabilities_are_what_the_network_computes(monkeypatch):
    classifier = make()
    seen = classifier.see(IMAGES)
    assert seen.features.shape == (40, 32)
    assert seen.probabilities.shape == (40, 10)
    assert seen.features.dtype == seen.probabilities.dtype == np.float64
    np.testing.assert_allclose(seen.probabilities.sum(1), 1, rtol=1e-14)
    h = classifier.embed(IMAGES)
    assert type(h) is Tensor
    np.testing.assert_allclose(seen.features, h.numpy(), rtol=1e-5, atol=1e-6)
    logits = classifier(IMAGES).numpy()
    np.testing.assert_array_equal(seen.probabilities.argmax(1), logits.argmax(1))
    monkeypatch.setattr(module, "BLOCK", 7)
    np.testing.assert_allclose(classifier.features(IMAGES), seen.features, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(classifier.frozen().features(IMAGES), seen.features, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shape", [(8, 8, 1), (28, 28, 1), (32, 32, 3), (7, 5, 2), (1, 1, 1)])
def test_images_of_any_shape(shape):
    classifier = make(shape=shape, classes=4, base=2, width=8)
    images = RNG.uniform(-1, 1, (3, *shape)).astype(np.float32)
    assert classifier.probabilities(images).shape == (3, 4)
    assert classifier.loss((images, np.array([0, 1, 2])), Generator(0)).loss.shape == (3,)
    assert classifier.see(images[:0]).features.shape == (0, 8)


@pytest.mark.parametrize("shape", [(8, 8), (0, 8, 1), (1, 8, 8, 1)])
def test_shapes_that_are_no_image(shape):
    with pytest.raises(ValueError, match="not the shape"):
        make(shape=shape)


def test_shifts_move_whole_images_and_let_in_background():
    moved = module.shifted(IMAGES, 1, Generator(0))
    wide = np.pad(IMAGES, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=-1)
    seen = set()
    for before, after in zip(wide, moved, strict=True):
        places = [(u, v) for u in range(3) for v in range(3)
                  if np.array_equal(before[u : u + 8, v : v + 8], after)]
        assert len(places) == 1
        seen.update(places)
    assert len(seen) == 9
    np.testing.assert_array_equal(module.shifted(IMAGES, 0, Generator(0)), IMAGES)


def test_accuracy_wants_a_label_for_every_image():
    for labels in (LABELS[:-1], LABELS[:, None], LABELS[:0]):
        with pytest.raises(ValueError, match="do not pair"):
            make().accuracy(IMAGES, labels)


def trained(seed=0):
    classifier = make(seed)
    config = TrainConfig(steps=5, batch_size=16, lr=1e-2, seed=seed)
    train(classifier, (IMAGES, LABELS), config, progress=False)
    return classifier.state_dict()


def test_training_is_deterministic_and_the_same_on_the_strict_backend():
    first, second, other = trained(), trained(), trained(seed=1)
    with backend("strict"):
        strict = trained()
    for name in first:
        np.testing.assert_array_equal(first[name], second[name])
        np.testing.assert_allclose(first[name], strict[name], rtol=1e-5, atol=1e-6)
    assert any(not np.array_equal(first[name], other[name]) for name in first)


@given(seeds, st.integers(1, 20), st.integers(1, 6))
def test_score_agrees_with_loops(seed, n, classes):
    p = np.random.default_rng(seed).dirichlet(np.full(classes, 0.3), n)
    assert classifier_score(p) == pytest.approx(oracle.classifier_score(p), rel=1e-12)


@given(seeds, st.integers(2, 8))
def test_score_in_closed_form(seed, classes):
    rng = np.random.default_rng(seed)
    sure = np.eye(classes)[np.arange(3 * classes) % classes]
    assert classifier_score(sure) == pytest.approx(classes, rel=1e-12)  # each class as often
    assert classifier_score(sure[:1].repeat(5, 0)) == 1  # all alike
    assert classifier_score(np.full((7, classes), 1 / classes)) == pytest.approx(1, rel=1e-12)  # no idea
    share = rng.uniform(0.1, 0.9)  # a symmetric channel: ln K − its entropy
    rest = (1 - share) / (classes - 1)
    channel = np.full((classes, classes), rest) + (share - rest) * np.eye(classes)
    entropy = -share * math.log(share) - (1 - share) * math.log(rest)
    assert classifier_score(channel) == pytest.approx(math.exp(math.log(classes) - entropy), rel=1e-10)


@given(seeds)
def test_score_depends_on_no_order(seed):
    rng = np.random.default_rng(seed)
    p = rng.dirichlet(np.full(4, 0.5), 12)
    assert classifier_score(rng.permutation(p)) == pytest.approx(classifier_score(p), rel=1e-12)
    assert classifier_score(rng.permutation(p, axis=1)) == pytest.approx(classifier_score(p), rel=1e-12)
    assert 1 <= classifier_score(p) <= 4


@pytest.mark.parametrize("p", [
    np.full((3, 2), 0.4), np.array([[1.5, -0.5]]), np.full((3, 2), np.nan), np.ones(3), np.ones((0, 2)),
])  # fmt: skip
def test_what_is_no_probability(p):
    with pytest.raises(ValueError, match="probabilities"):
        classifier_score(p)
