"""The Wasserstein GAN's equations: duality against scipy's transport, and a penalty that is differentiated twice."""

import math

import numpy as np
import pytest
from closed_forms import check_everywhere, check_gradients, seeds, seldom, uniform
from evidence import agree, apart, at_most, host, lifted, up
from hypothesis import given
from hypothesis import strategies as st

import scratchgen as sg
from reference import adversarial as oracle
from reference.derivatives import directional
from scratchgen import nn, ops, optim
from scratchgen.autograd import tensor
from scratchgen.models.adversarial import wgan as module
from scratchgen.random import Generator

wgan = lifted(module)
sizes = st.integers(1, 5)


def clouds(seed, n, m, d):
    noise = np.random.default_rng(seed)
    return noise.normal(size=(n, d)), noise.normal(size=(m, d)) * noise.uniform(0.5, 2) + noise.uniform(-2, 2, d)


# --- duality --------------------------------------------------------------------------------------------------------


@pytest.mark.equation("wgan.dual")
@seldom
@given(seed=seeds, n=st.integers(1, 6), d=st.integers(1, 3))
def test_the_best_potential_reaches_the_transport(seed, n, d):
    """Two linear programs, over potentials and over plans (on the line: distribution functions).  HiGHS: 1e-7."""
    x, y = clouds(seed, n, n, d)
    f, g = oracle.potential(x, y)
    agree(wgan.dual(f, g).mean(), oracle.transport(x, y), rtol=1e-6, atol=1e-6)


@pytest.mark.equation("wgan.dual")
@given(seed=seeds, n=st.integers(1, 40))
def test_no_potential_of_slope_1_reaches_further_on_the_line(seed, n):
    """Random waves, at most as steep as 1; the straight line reaches W where one law lies right of the other."""
    x, y = clouds(seed, n, n, 1)
    noise = np.random.default_rng(seed + 1)
    w, shift, share = noise.uniform(0.1, 5, 6), noise.uniform(0, 7, 6), noise.dirichlet(np.ones(6))

    def f(points):
        return (share / w * np.sin(w * points + shift)).sum(axis=-1)

    at_most(wgan.dual(f(x), f(y)).mean(), oracle.transport(x, y) + 1e-12)
    right = np.abs(y) + x.max()
    agree(wgan.dual(-x[:, 0], -right[:, 0]).mean(), oracle.transport(x, right), rtol=1e-12)
    agree(wgan.dual(f(x), f(y)), [f(a) - f(b) for a, b in zip(x, y, strict=True)], rtol=1e-12, atol=1e-14)
    check_everywhere(wgan.dual, f(x), f(y))


@pytest.mark.equation("wgan.dual")
def test_a_critic_with_a_penalty_learns_the_distance():
    """N(0, 1) and N(3, 1): W = 3, the best f is straight.  With the penalty λ(s − 1)² a slope of 1 + W/2λ is best:
    E f(x) − E f(G(z)) is then 3.45 for λ = 10, to the 2 % that 200 steps of Adam on 256 draws leave."""
    net, rng = nn.MLP(1, 16, 1, rng=Generator(0)), Generator(1)
    flat = optim.Flat(dict(net.named_parameters()))
    adam = optim.Adam(flat)
    critic = lambda x: net(x)[:, 0]  # noqa: E731
    for step in range(250):
        x, y = rng.standard_normal((256, 1)), 3 + rng.standard_normal((256, 1))
        between = module.interpolate(x, y, rng.random((256,)))
        gain = module.dual(critic(x), critic(y))
        loss = ops.mean(10 * module.penalty(critic, between) - gain)
        adam.step(flat.gather(sg.gradients(loss, net.parameters())), lr=0.02 * (1 - step / 250))
    z = np.random.default_rng(2).standard_normal((20_000, 1)).astype(np.float32)
    found = host(critic(up(z))).mean() - host(critic(up(z + 3))).mean()
    agree(found, 3 * (1 + 3 / 20), rtol=0.02)
    at_most(found / host(module.slopes(critic, up(3 * z))).max(), 3.03)  # a lower bound of W, for a slope of 1


# --- clipping ---------------------------------------------------------------------------------------------------------


@pytest.mark.equation("wgan.clip")
@given(seed=seeds, n=sizes, c=st.floats(0.01, 2))
def test_clipping_takes_the_nearest_weight_of_the_box(seed, n, c):
    w = uniform(seed, (n, 3), (-3, 3))[0]
    got = check_everywhere(lambda w: wgan.clip(w, c), w)
    agree(got, oracle.boxed(w, c))
    at_most(np.abs(got), c)


@pytest.mark.equation("wgan.clip")
def test_clipping_leaves_small_weights_alone():
    agree(wgan.clip(np.array([-0.5, -0.01, 0.0, 0.01, 0.5]), 0.05), [-0.05, -0.01, 0, 0.01, 0.05])
    apart(wgan.clip(np.array([0.5, -0.5]), 0.05), [0.5, 0.05], by=0.05)


@pytest.mark.equation("wgan.lipschitz")
@given(seed=seeds, a=sizes, b=sizes, c=sizes, slope=st.floats(0.5, 1.5))
def test_the_bound_is_a_product_of_steepnesses(seed, a, b, c, slope):
    noise = np.random.default_rng(seed)
    ws = [noise.normal(size=shape) for shape in ((a, b), (b, c), (c, 1))]
    got = wgan.lipschitz(ws, slope)
    # an eigenvalue of WᵀW is known to 1e-15 of the largest, and so is its root
    agree(got, slope**2 * math.prod(oracle.steepness(w) for w in ws), rtol=1e-12)
    agree(wgan.lipschitz(ws[:1]), oracle.steepness(ws[0]), rtol=1e-12)


@pytest.mark.equation("wgan.lipschitz")
@given(seed=seeds, d=sizes, width=sizes)
def test_no_two_points_are_further_apart_than_the_bound_allows(seed, d, width):
    """tanh is at most as steep as 1.  One unit after the other, and no bend, is as steep as the bound itself."""
    noise = np.random.default_rng(seed)
    ws = [noise.normal(size=shape) for shape in ((d, width), (width, width), (width, 1))]
    f = lambda x: (np.tanh(np.tanh(x @ ws[0]) @ ws[1]) @ ws[2])[:, 0]  # noqa: E731
    x, y = noise.normal(size=(2, 50, d))
    steepness = np.abs(f(x) - f(y)) / np.linalg.norm(x - y, axis=1)
    at_most(steepness, wgan.lipschitz(ws))
    chain = noise.normal(size=3)
    agree(wgan.lipschitz([np.full((1, 1), c) for c in chain]), abs(chain.prod()), rtol=1e-13)


# --- the penalty ------------------------------------------------------------------------------------------------------


@pytest.mark.equation("wgan.interpolate")
@given(seed=seeds, n=sizes, event=st.lists(st.integers(1, 3), max_size=2).map(tuple))
def test_points_between_lie_on_their_own_segments(seed, n, event):
    real, fake, u = *uniform(seed, (n, *event), (-2, 2), (-2, 2)), uniform(seed + 1, (n,), (0, 1))[0]
    got = check_everywhere(wgan.interpolate, real, fake, u)
    agree(got, oracle.on_the_line(real, fake, u), rtol=1e-13, atol=1e-14)
    agree(wgan.interpolate(real, fake, np.ones(n)), real)
    agree(wgan.interpolate(real, fake, np.zeros(n)), fake)


@pytest.mark.equation("wgan.interpolate")
def test_each_example_has_a_point_of_its_own():
    real, fake = np.ones((3, 2)), np.zeros((3, 2))
    u = np.array([0.2, 0.5, 0.9])
    agree(wgan.interpolate(real, fake, u), [[0.2, 0.2], [0.5, 0.5], [0.9, 0.9]])
    check_gradients(module.interpolate, real, fake, u)


def bowl(A, b):
    """f(x) = ½ xᵀAx + b·x, and something that bends more."""
    def f(x):
        return 0.5 * ((x @ A) * x).sum(axis=-1) + x @ b + np.sin(x).sum(axis=-1)

    return f


def bowl_of_tensors(A, b):
    def f(x):
        return 0.5 * ops.sum(ops.matmul(x, A) * x, axis=-1) + ops.matmul(x, b) + ops.sum(ops.sin(x), axis=-1)

    return f


@pytest.mark.equation("wgan.penalty")
@given(seed=seeds, n=sizes, d=sizes)
def test_the_penalty_is_each_examples_own(seed, n, d):
    """Slopes by differences of f at one point at a time; they are right to 1e-10, and of order 1."""
    A, b, x = uniform(seed, (d, d), (-1, 1))[0], *uniform(seed, (d,), (-1, 1)), *uniform(seed, (n, d), (-2, 2))
    f, g = bowl(A, b), bowl_of_tensors(up(A), up(b))
    want = [oracle.penalty(f, point) for point in x]
    agree(module.penalty(g, up(x)), want, rtol=1e-8, atol=1e-9)
    agree(module.slopes(g, up(x)), np.linalg.norm(x @ (A + A.T) / 2 + b + np.cos(x), axis=1), rtol=1e-12, atol=1e-13)
    agree(module.penalty(g, up(x[:1])), want[:1], rtol=1e-8, atol=1e-9)  # the others do not matter


@pytest.mark.equation("wgan.penalty")
@seldom
@given(seed=seeds, n=sizes, d=sizes)
def test_the_penalty_is_differentiated_in_the_critics_weights(seed, n, d):
    """A derivative of a derivative, against differences of the oracle's penalty in random directions of A and b."""
    noise = np.random.default_rng(seed)
    A, b, x = noise.uniform(-1, 1, (d, d)), noise.uniform(-1, 1, d), noise.uniform(-2, 2, (n, d))
    weights = noise.normal(size=n)
    tensors = [tensor(up(A)), tensor(up(b))]
    total = (up(weights) * module.penalty(bowl_of_tensors(*tensors), up(x))).sum()
    found = sg.gradients(total, tensors)
    for i, (at, g) in enumerate(zip((A, b), found, strict=True)):
        v = noise.normal(size=at.shape)

        def judged(at, i=i):
            f = bowl(*(at if i == j else p for j, p in enumerate((A, b))))
            return sum(w * oracle.penalty(f, point) for w, point in zip(weights, x, strict=True))

        agree((host(g) * v).sum(), directional(judged, at, v, h=1e-2), rtol=1e-5, atol=1e-5)


@pytest.mark.equation("wgan.penalty")
@given(seed=seeds, n=sizes, d=sizes)
def test_a_straight_critic_knows_its_penalty_on_paper(seed, n, d):
    """f(x) = a·x: (‖a‖ − 1)² at every point, and 2(‖a‖ − 1)·a/‖a‖ its slope in a."""
    noise = np.random.default_rng(seed)
    a, x = noise.uniform(0.2, 1, d), noise.normal(size=(n, d))
    variable = tensor(up(a))
    found = module.penalty(lambda x: ops.matmul(x, variable), up(x))
    norm = np.linalg.norm(a)
    agree(found, np.full(n, (norm - 1) ** 2), rtol=1e-12, atol=1e-15)
    (slope,) = sg.gradients(ops.mean(found), [variable])
    agree(slope, 2 * (norm - 1) * a / norm, rtol=1e-11, atol=1e-13)


@pytest.mark.equation("wgan.penalty")
def test_a_flat_critic_is_penalised_and_has_no_slope_to_follow():
    zero = tensor(up(np.zeros(3)))
    found = module.penalty(lambda x: ops.matmul(x, zero), up(np.ones((2, 3))))
    agree(found, [1, 1])
    agree(sg.gradients(found.sum(), [zero])[0], np.zeros(3))


@pytest.mark.equation("wgan.penalty")
def test_images_are_vectors_to_the_penalty():
    x = np.random.default_rng(0).normal(size=(4, 2, 3, 1))
    weights = np.random.default_rng(1).normal(size=(2, 3, 1))
    f = lambda x: ops.sum(x * up(weights), axis=(1, 2, 3))  # noqa: E731
    agree(module.slopes(f, up(x)), np.full(4, np.linalg.norm(weights)), rtol=1e-13)
    assert host(module.penalty(f, up(x))).shape == (4,)


def test_misfits_are_refused():
    a = np.zeros((3, 2))
    with pytest.raises(ValueError, match=r"wgan.dual: fake \(2,\) should have the shape of real, \(3,\)"):
        wgan.dual(np.zeros(3), np.zeros(2))
    with pytest.raises(ValueError, match=r"wgan.interpolate: fake \(2, 3\)"):
        wgan.interpolate(a, a.T, np.zeros(3))
    with pytest.raises(ValueError, match=r"wgan.interpolate: u \(3, 1\) should have the shape of the batch, \(3,\)"):
        wgan.interpolate(a, a, np.zeros((3, 1)))
