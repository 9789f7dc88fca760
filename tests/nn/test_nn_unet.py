"""What a U-Net promises besides its values: shapes, its start at 0, and where times and images go."""

import numpy as np
import pytest
from nn_tools import TINY_UNET, build, host, randomise

import scratchgen as sg
from scratchgen import nn
from scratchgen.random import Generator

CONFIGS = {
    "one level": (
        nn.UNetConfig(channels=1, base=4, multipliers=(1,), attention=(), groups=2, time=4),
        (5, 3),
    ),
    "two levels": (TINY_UNET, (4, 6)),
    "three levels, two blocks, colour": (
        nn.UNetConfig(
            channels=3, base=4, multipliers=(1, 2, 3), blocks=2, attention=(1, 2), groups=2, time=8
        ),
        (8, 4),
    ),
    "narrowing": (
        nn.UNetConfig(channels=2, base=8, multipliers=(2, 1), attention=(0,), groups=4, time=4),
        (4, 4),
    ),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_shape_dtype_and_use_of_every_parameter(name, xp):
    config, (h, w) = CONFIGS[name]
    net = randomise(nn.UNet(config, rng=Generator(0)))
    x = Generator(1).standard_normal((2, h, w, config.channels))
    y = net(x, xp.asarray(np.array([1, 9])))
    assert y.shape == x.shape
    assert y.dtype == np.float32
    for (part, _), g in zip(net.named_parameters(), sg.gradients(y.sum(), net.parameters()), strict=True):
        assert g.dtype == np.float32
        assert np.any(host(g) != 0), part


def test_backends_agree():
    config, (h, w) = CONFIGS["three levels, two blocks, colour"]
    answers = []
    for name in ("numpy", "strict"):
        with sg.backend(name) as xp:
            net = randomise(nn.UNet(config, rng=Generator(0)).astype(np.float64))
            x = xp.asarray(np.random.default_rng(1).standard_normal((2, h, w, 3)))
            answers.append(host(net(x, xp.asarray(np.array([1, 9])))))
    np.testing.assert_allclose(*answers, rtol=0, atol=1e-12 * np.abs(answers[0]).max())


def test_the_untrained_network_predicts_zero(xp):
    net = nn.UNet(TINY_UNET, rng=Generator(0))
    x = Generator(1).standard_normal((2, 4, 4, 1))
    assert np.all(host(net(x, xp.asarray(np.array([1, 2])))) == 0)


def test_the_untrained_network_can_learn_all_the_same():
    """Zero layers stand last in their branches: after a few steps gradients reach every parameter."""
    net = nn.UNet(TINY_UNET, rng=Generator(0))
    x, t = np.ones((1, 4, 4, 1), np.float32), np.array([3])
    for _ in range(4):
        for p, g in zip(
            net.parameters(), sg.gradients(((net(x, t) - 1) ** 2).sum(), net.parameters()), strict=True
        ):
            p.assign(p.value - np.float32(0.01) * g)
    found = sg.gradients(((net(x, t) - 1) ** 2).sum(), net.parameters())
    unreached = [n for (n, _), g in zip(net.named_parameters(), found, strict=True) if not np.any(g)]
    assert not unreached


def test_time_matters_and_belongs_to_its_own_image(xp):
    net = build("UNet").frozen()
    x = xp.asarray(np.random.default_rng(0).standard_normal((2, 4, 4, 1)))
    times = lambda *t: xp.asarray(np.array(t))  # noqa: E731
    a, b = host(net(x, times(3, 7))), host(net(x, times(3, 8)))
    np.testing.assert_array_equal(a[0], b[0])
    assert np.abs(a[1] - b[1]).max() > 1e-4
    alone = host(net(x[1:], times(7)))
    np.testing.assert_allclose(a[1:], alone, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("shape", [(2, 4, 4), (2, 4, 4, 3), (2, 5, 4, 1), (2, 4, 7, 1), (4, 4, 1)])
def test_images_that_do_not_fit_are_told(shape):
    net = nn.UNet(TINY_UNET, rng=Generator(0))
    with pytest.raises(ValueError, match=r"UNet: images \(.*\) are not \(B, H, W, 1\) .* divisible by 2"):
        net(np.zeros(shape, np.float32), np.array([1, 1]))


def test_images_of_another_precision_are_told():
    with pytest.raises(TypeError, match="float64"):
        nn.UNet(TINY_UNET, rng=Generator(0))(np.zeros((1, 4, 4, 1)), np.array([1]))
