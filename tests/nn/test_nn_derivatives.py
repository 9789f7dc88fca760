"""First and second derivatives through every layer, by inputs and parameters, against differences."""

import numpy as np
import pytest
from nn_tools import CASES, SMALL, as_function, build, host, inputs, randomise

import scratchgen as sg
from reference import derivatives
from scratchgen import nn, ops
from scratchgen.random import Generator

NOT_LAYERS = {"Module", "UNetConfig", "Seen", "SinusoidalEmbedding"}  # the last takes plain numbers only


def weighted(y, xp):
    """A scalar of y whose gradient is not constant: Σ w·sin y, with w all different."""
    w = xp.asarray(np.cos(1.0 + np.arange(y.size)).reshape(y.shape))
    return (w * ops.sin(y)).sum()


def weighted_on_host(y):
    return float((np.cos(1.0 + np.arange(y.size)).reshape(y.shape) * np.sin(y)).sum())


def test_no_layer_is_left_out():
    assert {name.split(",")[0] for name in CASES} == set(nn.__all__) - NOT_LAYERS


@pytest.mark.parametrize("name", SMALL)
def test_every_argument_and_parameter_to_second_order(name, xp):
    f, parameters = as_function(name, build(name))
    sg.check_grads(f, [*inputs(name), *parameters], order=2)


def unet_of_one_row(xp):
    """The U-Net as a function of its images and of all its parameters in one row."""
    f, parameters = as_function("UNet", build("UNet"))

    def of_row(x, theta):
        parts, start = [], 0
        for p in parameters:
            parts.append(ops.reshape(theta[start : start + p.size], p.shape))
            start += p.size
        return f(x, *parts)

    return of_row, xp.concatenate([p.reshape(-1) for p in parameters])


def test_the_unet_to_second_order(xp):
    f, theta = unet_of_one_row(xp)
    for seed in range(3):
        sg.check_grads(f, [*inputs("UNet"), theta], order=2, seed=seed)


@pytest.mark.parametrize("name", CASES)
def test_gradients_of_a_module_are_those_of_the_function(name, xp):
    """A trainer's way (the module's own tensors) and a transform's (arguments) give the same numbers."""
    module, xs = build(name), inputs(name)
    f, parameters = as_function(name, module)
    y = weighted(CASES[name].call(module, *xs), xp)
    own = sg.gradients(y, module.parameters())
    numbers = range(len(xs), len(xs) + len(parameters))
    found = sg.grad(lambda *args: weighted(f(*args), xp), argnums=list(numbers))(*xs, *parameters)
    for a, b in zip(own, found, strict=True):
        np.testing.assert_allclose(host(a), host(b), rtol=1e-12, atol=1e-12)
        assert np.abs(host(a)).max() > 1e-8  # every parameter matters


def numeric(f, args, i):
    """f as a function of its i-th argument, on host arrays."""
    return lambda x: f(*[x if j == i else a for j, a in enumerate(args)])


@pytest.mark.parametrize("name", SMALL)
def test_jacobian(name):
    f, parameters = as_function(name, build(name))
    args = [*inputs(name), *parameters]
    noise = np.random.default_rng(4)
    for i, x in enumerate(args):
        found = sg.jacobian(f, i)(*args)
        one = numeric(f, args, i)
        assert found.shape == one(x).shape + x.shape
        if x.size <= 32:  # entry by entry
            expected = derivatives.jacobian(one, x, levels=3)
            np.testing.assert_allclose(found, expected, rtol=1e-7, atol=1e-7)
        for _ in range(3):
            v = noise.standard_normal(x.shape)
            along = derivatives.directional(one, x, v / np.linalg.norm(v), levels=3) * np.linalg.norm(v)
            np.testing.assert_allclose(np.tensordot(found, v, x.ndim), along, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", SMALL)
def test_hessian_and_hvp(name, xp):
    """The whole Hessian in random directions, for every argument, and Hv against its rows."""
    f, parameters = as_function(name, build(name))
    args = [*inputs(name), *parameters]
    noise = np.random.default_rng(5)
    for i, x in enumerate(args):
        scalar = numeric(lambda *a: weighted(f(*a), xp), args, i)
        H = host(sg.hessian(scalar)(x)).reshape(x.size, x.size)
        np.testing.assert_allclose(H, H.T, rtol=1e-10, atol=1e-10)
        on_host = lambda z, scalar=scalar: float(host(scalar(xp.asarray(z))))  # noqa: E731
        for _ in range(2):
            v, w = noise.standard_normal((2, *x.shape)) / np.sqrt(x.size)
            expected = derivatives.bilinear_second(on_host, host(x), v, w, levels=3)
            assert v.ravel() @ H @ w.ravel() == pytest.approx(float(expected), rel=1e-6, abs=1e-7)
            Hv = host(sg.hvp(scalar, x, xp.asarray(v)))
            np.testing.assert_allclose(Hv.ravel(), H @ v.ravel(), rtol=1e-10, atol=1e-10)


def test_hessian_entry_by_entry_through_norm_attention_and_residual_block():
    """Every entry, not only directions, for the three layers with second derivatives of their own."""
    for name in ("LayerNorm", "MultiHeadAttention", "ResBlock, time"):
        f, parameters = as_function(name, build(name))
        args = [*inputs(name), *parameters]
        scalar = numeric(lambda *a, f=f: weighted(f(*a), np), args, 0)
        x = args[0].reshape(-1)[:6]
        rest = args[0].reshape(-1)[6:]

        def part(z, shape=args[0].shape, scalar=scalar, rest=rest):
            return scalar(ops.reshape(ops.concatenate([z, rest]), shape))

        expected = derivatives.hessian(lambda z, p=part: float(p(z)), x, levels=3)
        np.testing.assert_allclose(sg.hessian(part)(x), expected, rtol=1e-6, atol=1e-7)


def test_jacobian_hessian_and_hvp_through_the_unet():
    f, theta = unet_of_one_row(np)
    (x,) = inputs("UNet")
    noise = np.random.default_rng(6)
    J = sg.jacobian(lambda z: f(z, theta))(x).reshape(x.size, x.size)
    for _ in range(3):
        v = noise.standard_normal(x.shape)
        expected = derivatives.directional(lambda z: f(z, theta), x, v, levels=3)
        np.testing.assert_allclose(J @ v.ravel(), expected.ravel(), rtol=1e-6, atol=1e-6)
    assert np.all(J.reshape(2, 16, 2, 16)[0, :, 1] == 0)  # one image never sees another
    one = x[:1]
    net = build("UNet").frozen()
    scalar = lambda z: weighted(net(z, np.array([3])), np)  # noqa: E731
    H = sg.hessian(scalar)(one).reshape(16, 16)
    np.testing.assert_allclose(H, H.T, atol=1e-9)
    for _ in range(3):
        v, w = noise.standard_normal((2, *one.shape)) / 4
        expected = derivatives.bilinear_second(lambda z: float(scalar(z)), one, v, w, levels=3)
        assert v.ravel() @ H @ w.ravel() == pytest.approx(float(expected), rel=1e-5, abs=1e-6)
        np.testing.assert_allclose(sg.hvp(scalar, one, v).ravel(), H @ v.ravel(), rtol=1e-9, atol=1e-9)


def test_hvp_by_all_parameters_of_the_unet():
    """vᵀH v over all parameters at once against a second difference of the loss."""
    f, theta = unet_of_one_row(np)
    (x,) = inputs("UNet")
    loss = lambda row: weighted(f(x, row), np)  # noqa: E731
    noise = np.random.default_rng(7)
    v = noise.standard_normal(theta.shape) / np.sqrt(theta.size)
    expected = derivatives.directional_second(lambda z: float(loss(z)), theta, v, levels=3)
    assert float(v @ sg.hvp(loss, theta, v)) == pytest.approx(float(expected), rel=1e-5, abs=1e-7)


def penalty(module, call, xs, xp):
    """Σ (‖∇_x Σ y‖_b − 1)² over the examples: the gradient penalty of WGAN-GP, a second-order loss."""
    x = sg.tensor(xs[0])
    (g,) = sg.gradients(weighted(call(module, x, *xs[1:]), xp), [x], create_graph=True)
    norms = ops.sqrt(ops.sum(ops.square(g), axis=tuple(range(1, g.ndim))))
    return ops.square(norms - 1).sum()


@pytest.mark.parametrize("name", [name for name in CASES if CASES[name].shapes])
def test_gradient_penalty_by_the_weights(name, xp):
    """∂/∂θ of a loss of ∂y/∂x: differentiated analytically, against differences of the loss itself."""
    if name == "UNet" and xp.name == "strict":
        pytest.skip("the same code as its layers, which run here")
    module, xs, call = build(name), inputs(name), CASES[name].call
    found = sg.gradients(penalty(module, call, xs, xp), module.parameters())
    start = [host(p.value) for p in module.parameters()]
    noise = np.random.default_rng(8)
    v = [noise.standard_normal(p.shape) for p in start]
    length = np.sqrt(sum((d**2).sum() for d in v))

    def along(t):
        for p, p0, d in zip(module.parameters(), start, v, strict=True):
            p.assign(xp.asarray(p0 + float(t) * d / length))
        return float(penalty(module, call, xs, xp))

    expected = float(derivatives.directional(along, 0.0, 1.0, levels=3))
    analytic = sum(float((host(g) * d).sum()) for g, d in zip(found, v, strict=True)) / length
    assert analytic == pytest.approx(expected, rel=1e-5, abs=1e-6)


def test_gradient_penalty_whose_inner_gradient_is_numeric_too():
    """The same penalty with nothing analytic in the judge: differences of differences of the forward pass."""
    net = randomise(
        nn.Sequential(
            nn.Linear(3, 4, rng=Generator(0)), nn.LayerNorm(4), nn.Linear(4, 1, rng=Generator(1))
        ).astype(np.float64)
    )
    x = np.random.default_rng(9).standard_normal((2, 3))
    names = [n for n, _ in net.named_parameters()]
    theta = [p.value.copy() for p in net.parameters()]

    def judged(*arrays):
        layer = net.frozen(dict(zip(names, arrays, strict=True)))
        g = derivatives.gradient(lambda z: weighted_on_host(layer(z)), x)
        return float(((np.sqrt((g**2).sum(axis=1)) - 1) ** 2).sum())

    found = sg.gradients(penalty(net, lambda m, z: m(z), [x], np), net.parameters())
    for i, g in enumerate(found):
        v = np.random.default_rng(i).standard_normal(g.shape)

        def along(t, i=i, v=v):
            return judged(*[p + (t * v if j == i else 0) for j, p in enumerate(theta)])

        expected = float(derivatives.directional(along, 0.0, 1.0, levels=3))
        assert float((g * v).sum()) == pytest.approx(expected, abs=1e-6)
