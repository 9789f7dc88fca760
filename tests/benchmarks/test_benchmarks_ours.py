"""The workloads of the benchmarks as scratchgen runs them: their gradients are right, their steps go down."""

import numpy as np
import pytest

from benchmarks import workloads
from benchmarks.contenders.ours import Eager, Replayed
from benchmarks.workload import BATCHES, problem
from scratchgen import ops, optim
from scratchgen.autograd import gradients
from scratchgen.random import Generator

FEW = 4  # examples: enough for every weight to matter
TRAINED = [name for name in workloads.NAMES if workloads.load(name).kind != "sampling"]

SMOOTH = [name for name in TRAINED if name != "vqvae"]  # whose gradient goes straight through a choice: no slope


def few(name, dtype="float32"):
    """The network with the benchmark's weights, and the first examples of its first batch and noise."""
    workload = workloads.load(name)
    given = problem(workload)
    net = workload.network(Generator(0))
    net.load_state_dict(given.weights)
    arrays = [a[:FEW] for a in (*given.batches[0], *given.noise)]
    return net.astype(dtype), [a.astype(dtype) if a.dtype.kind == "f" else a for a in arrays]


@pytest.mark.parametrize("name", SMOOTH)
def test_the_gradient_is_the_slope_in_a_random_direction(name):
    """⟨∇L, v⟩ = (L(θ+hv) − L(θ−hv))/2h in float64; ReLUs that change sides within h leave an error of order h."""
    net, arguments = few(name, "float64")
    flat = optim.Flat(dict(net.named_parameters()))
    start, v = flat.buffer.copy(), np.random.default_rng(0).standard_normal(flat.size)
    h = 1e-6 / np.abs(v).max()

    def loss():
        return ops.mean(net.loss(*arguments))

    slope = flat.gather(gradients(loss(), net.parameters())) @ v
    ahead, behind = (flat.write(start + sign * h * v) or float(loss()) for sign in (1, -1))
    np.testing.assert_allclose((ahead - behind) / (2 * h), slope, rtol=1e-5)


@pytest.mark.parametrize("name", TRAINED)
def test_a_few_steps_go_down(name):
    net, arguments = few(name)
    flat = optim.Flat(dict(net.named_parameters()))
    adam = optim.Adam(flat, lr=1e-3)
    losses = []
    for _ in range(6):
        terms = net.loss(*arguments)
        assert terms.shape == (FEW,) and terms.dtype == np.float32
        loss = ops.mean(terms)
        losses.append(float(loss))
        adam.step(flat.gather(gradients(loss, net.parameters())))
    assert np.isfinite(losses).all() and losses[-1] < losses[0]


def test_every_weight_matters():
    """A weight without a gradient would hide what is before it from the comparison with PyTorch."""
    for name in TRAINED:
        net, arguments = few(name)
        found = gradients(ops.mean(net.loss(*arguments)), net.parameters())
        for (parameter, _), g in zip(net.named_parameters(), found, strict=True):
            cancels = (name, parameter) == ("wgan_gp_critic", "layer3.b")  # in f(x̃) − f(x)
            assert cancels or np.abs(g).max() > 0, f"{name}: {parameter}"


def test_samples_are_images_and_do_not_depend_on_who_is_beside_them():
    net, (noise,) = few("ddim_sampling")
    images = net.sample(noise)
    assert images.shape == noise.shape and np.abs(images).max() <= 1 + 1e-5
    np.testing.assert_allclose(net.sample(noise[1:2]), images[1:2], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["gpt_char", "conv_autoencoder", "ddpm_unet_8"])
def test_shards_change_nothing_but_the_order_of_sums(name):
    workload = workloads.load(name)
    assert workload.shards == 2
    given = problem(workload)
    whole, parts = (Eager(workload, given, threads).answer() for threads in (1, 2))
    norm = np.sqrt(sum(np.sum(np.square(g)) for name, g in whole.items() if name != "loss"))
    for name, value in whole.items():
        np.testing.assert_allclose(parts[name], value, rtol=1e-3, atol=1e-6 * norm)


def test_a_step_trains_and_an_answer_does_not():
    workload = workloads.load("realnvp")
    contender = Eager(workload, problem(workload), 1)
    before, first = contender.flat.buffer.copy(), contender.answer()
    np.testing.assert_array_equal(contender.flat.buffer, before)
    for _ in range(BATCHES):
        contender.step()
    assert contender.answer()["loss"] < first["loss"]


LONG = {"gpt_char", "ddim_sampling", "glow", "pixelcnn"}


@pytest.mark.parametrize("name", [
    pytest.param(name, marks=[pytest.mark.long] if name in LONG else [])
    for name in workloads.NAMES if name != "ddpm_unet_28"
])  # fmt: skip
def test_replayed_answers_and_steps_are_the_same_to_the_last_bit(name):
    """ddpm_unet_28 is the network of ddpm_unet_8 on more pixels."""
    workload = workloads.load(name)
    given = problem(workload)
    eager, fast = (kind(workload, given, 2) for kind in (Eager, Replayed))
    expected = eager.answer()
    for part, value in fast.answer().items():
        np.testing.assert_array_equal(value, expected[part])
    for _ in range(0 if workload.kind == "sampling" else Replayed.RECORDINGS + 4):
        eager.step()
        fast.step()
    np.testing.assert_array_equal(fast.flat.buffer, eager.flat.buffer)


def test_the_problem_is_the_same_for_all():
    one, two = (problem(workloads.load("ddpm_unet_8")) for _ in range(2))
    assert len(one.batches) == BATCHES
    for a, b in zip([*one.weights.values(), *one.batches[0], *one.noise],
                    [*two.weights.values(), *two.batches[0], *two.noise], strict=True):  # fmt: skip
        np.testing.assert_array_equal(a, b)
    t, eps = one.noise
    assert t.min() >= 1 and t.max() <= 120 and eps.dtype == np.float32
