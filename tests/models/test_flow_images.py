"""Maps of images against their pixels one by one, numeric Jacobians, and the logistic distribution."""

import numpy as np
import pytest
from evidence import agree, apart, at_most, lifted, up
from flow_tools import flat_map, images, levels_of, randomised
from hypothesis import given
from hypothesis import strategies as st
from sandbox_tools import SOME, floats, methods, seeds
from scipy import special, stats

import scratchgen as sg
from reference import dequantise as bins
from reference import flows as oracle
from reference.derivatives import jacobian
from scratchgen.models.flows import change, coupling
from scratchgen.models.flows import images as maps
from scratchgen.random import Generator

SQUEEZE = maps.Squeeze()


def bent(seed, c):
    """A scale of one kind: squeezed to c channels, an affine coupling with a network that is not 0."""
    net = coupling.network(c // 2, c, 8, 1, Generator(seed))
    return change.Chain([SQUEEZE, randomised(coupling.Coupling(net, c // 2, c // 2).astype(np.float64), seed).frozen()])


def two_scales(seed, shape=(4, 4, 1)):
    return maps.Scales(shape, [bent(seed + s, c) for s, (_, _, c) in enumerate(maps.squeezed(shape, 2))])


# --- (1) and (2) ------------------------------------------------------------------------------------------------


@pytest.mark.equation("flow.squeeze")
@SOME
@given(seeds, st.integers(1, 3), st.integers(1, 3), st.integers(1, 3))
def test_squares_of_pixels_become_pixels(seed, h, w, c):
    x = images(seed, 2, 2 * h, 2 * w, c)
    z, log_det = methods(SQUEEZE).forward_and_log_det(x)
    agree(z, oracle.squares(x))
    agree(log_det, np.zeros(2))
    agree(methods(SQUEEZE).inverse(z), x)


@pytest.mark.equation("flow.squeeze")
def test_squeezing_keeps_volume():
    """Its matrix, by the numeric Jacobian, has one 1 in each row and column."""
    J = jacobian(flat_map(SQUEEZE, (4, 4, 2)), images(1, 1, 4, 4, 2).ravel(), levels=1)
    agree(np.round(J, 8), np.round(J, 8) ** 2)
    agree(J.sum(axis=0), np.ones(32), atol=1e-8)
    agree(J.sum(axis=1), np.ones(32), atol=1e-8)
    agree(oracle.log_abs_det(flat_map(SQUEEZE, (4, 4, 2)), images(1, 1, 4, 4, 2).ravel()), 0.0, atol=1e-9)


@pytest.mark.equation("flow.checkerboard")
@pytest.mark.parametrize(("seed", "c"), [(0, 1), (1, 2)])
def test_a_coupling_of_colours_has_the_checkerboards_mask(seed, c):
    """In pixels, by the numeric Jacobian: black pixels stay, white ones depend on themselves and on black ones."""
    net = coupling.network(2 * c, 4 * c, 8, 1, Generator(seed))
    moved = randomised(coupling.Coupling(net, 2 * c, 2 * c).astype(np.float64), seed).frozen()
    colours = maps.checkerboard(4 * c)
    flow = change.Compose([SQUEEZE, colours, moved, change.Inverse(colours), change.Inverse(SQUEEZE)])
    J = jacobian(flat_map(flow, (4, 4, c)), images(seed, 1, 4, 4, c).ravel())
    black = np.repeat(oracle.is_black(4, 4)[:, :, None], c, axis=2).ravel()
    eye = np.eye(len(black))
    agree(J[black], eye[black], atol=1e-9)
    agree(J[np.ix_(~black, ~black)] * (1 - np.eye((~black).sum())), 0.0, atol=1e-9)
    assert np.abs(J[np.ix_(~black, black)]).max() > 1e-3  # white pixels do look at black ones
    found = methods(flow).forward_and_log_det(images(seed, 1, 4, 4, c)).log_det
    agree(found, [oracle.log_abs_det(flat_map(flow, (4, 4, c)), images(seed, 1, 4, 4, c).ravel())], atol=1e-7)


@pytest.mark.equation("flow.checkerboard")
@pytest.mark.parametrize("c", [1, 2, 3])
def test_the_first_half_of_the_channels_is_black(c):
    """The board itself, squeezed and put in order.  Swapped, the second half is."""
    board = np.repeat(oracle.is_black(4, 6)[None, :, :, None], c, axis=3).astype(float)
    found = methods(maps.checkerboard(4 * c)).forward_and_log_det(oracle.squares(board)).z
    agree(found[..., : 2 * c], np.ones((1, 2, 3, 2 * c)))
    agree(found[..., 2 * c :], np.zeros((1, 2, 3, 2 * c)))
    x = images(c, 1, 2, 3, 4 * c)
    agree(methods(maps.swap(4 * c)).forward_and_log_det(x).z, np.concatenate(np.split(x, 2, axis=3)[::-1], axis=3))
    for order in (maps.checkerboard(4 * c), maps.swap(4 * c)):
        assert sorted(order.order) == list(range(4 * c))


# --- (3) --------------------------------------------------------------------------------------------------------


@pytest.mark.equation("flow.multiscale")
@pytest.mark.parametrize("seed", [0, 1])
def test_scales_have_the_numeric_jacobians_determinant(seed):
    """All 16 pixels' Jacobian, of two scales."""
    flow, x = two_scales(seed), images(seed, 1)
    found = methods(flow).forward_and_log_det(x)
    agree(found.log_det, [oracle.log_abs_det(flat_map(flow, (4, 4, 1)), x.ravel())], atol=1e-7)
    agree(methods(flow).inverse(found.z), x, atol=1e-12)


@pytest.mark.equation("flow.multiscale")
def test_what_leaves_early_has_seen_one_map_only():
    """z_1 is the second half of the first map's channels; z_2 the second map's, of the first half.  A negative
    control: nothing of z_1 depends on the second map, and all of z_2 does."""
    flow, x = two_scales(3), images(3, 2)
    first = methods(flow.flows[0]).forward_and_log_det(x)
    second = methods(flow.flows[1]).forward_and_log_det(first.z[..., :2])
    found = methods(flow).forward_and_log_det(x)
    agree(found.z, np.concatenate([first.z[..., 2:].reshape(2, -1), second.z.reshape(2, -1)], axis=1))
    agree(found.log_det, first.log_det + second.log_det, rtol=1e-13)
    other = methods(maps.Scales((4, 4, 1), [flow.flows[0], bent(9, 8)])).forward_and_log_det(x).z
    agree(other[:, :8], found.z[:, :8])
    apart(other[:, 8:], found.z[:, 8:], by=1e-2)


@pytest.mark.equation("flow.multiscale")
def test_shapes_are_known_beforehand():
    """What the inverse reads is what the maps wrote, of any width."""
    for shape in ((8, 8, 1), (4, 8, 3)):
        flow = maps.Scales(shape, [SQUEEZE, SQUEEZE])
        x = images(5, 3, *shape)
        z = methods(flow).forward_and_log_det(x).z
        assert z.shape == (3, int(np.prod(shape)))
        agree(np.sort(z, axis=1), np.sort(x.reshape(3, -1), axis=1))
        agree(methods(flow).inverse(z), x)


# --- (4) --------------------------------------------------------------------------------------------------------


@pytest.mark.equation("flow.logit")
@SOME
@given(st.integers(2, 256), floats(0.01, 0.3), seeds)
def test_the_bins_of_all_levels_fill_the_interval(levels, alpha, seed):
    """The two ends of the bins go to ±logit α; between them, scipy's logit of the oracle's interval."""
    low, high = bins.bin_of(-1.0, levels)[0], bins.bin_of(1.0, levels)[1]
    flow = maps.Logit(levels, alpha)
    y = np.concatenate([[0.0, 1.0], np.random.default_rng(seed).random(4)])
    x = (low + y * (high - low))[None]
    z, log_det = methods(flow).forward_and_log_det(x)
    agree(z[0], special.logit(alpha + (1 - 2 * alpha) * y), atol=1e-10)
    agree(methods(flow).inverse(z), x, atol=1e-12)
    inner = x[:, 2:] * 0.98  # the numeric derivative stays inside
    agree(methods(flow).forward_and_log_det(inner).log_det,
          [oracle.log_abs_det(flat_map(flow, (4,)), inner[0], h=1e-3)], atol=1e-7)  # fmt: skip
    assert log_det.shape == (1,)


@pytest.mark.equation("flow.logit")
def test_logistic_noise_is_uniform():
    """As α goes to 0: the density of x under a logistic z is that of U over the interval."""
    low, high = bins.bin_of(-1.0, 17)[0], bins.bin_of(1.0, 17)[1]
    x = np.linspace(low, high, 41)[1:-1, None]
    z, log_det = methods(maps.Logit(17, 1e-9)).forward_and_log_det(x)
    agree(stats.logistic.logpdf(z[:, 0]) + log_det, stats.uniform(low, high - low).logpdf(x[:, 0]), atol=1e-7)


# --- all ----------------------------------------------------------------------------------------------------------


@pytest.mark.equation("flow.squeeze", "flow.checkerboard", "flow.multiscale", "flow.logit")
def test_gradients_pass():
    x = images(2, 1, reach=0.9)
    flow = change.Chain([maps.Logit(17), maps.Scales((4, 4, 1), [
        change.Chain([SQUEEZE, maps.checkerboard(4)]), change.Chain([SQUEEZE, maps.swap(8)])])])  # fmt: skip
    with sg.backend("numpy"):
        sg.check_grads(lambda x: flow.forward_and_log_det(x).z, (x,), order=2)
        sg.check_grads(lambda x: flow.forward_and_log_det(x).log_det, (x,), order=2)
        sg.check_grads(flow.inverse, (np.random.default_rng(1).normal(size=(1, 16)),), order=2)


def test_float32_stays_and_keeps_its_digits():
    """Grey levels and noise, there and back: within 20 units of float32's last digit."""
    flow = change.Chain([maps.Logit(17), maps.Scales((8, 8, 1), [SQUEEZE, SQUEEZE])])
    x = levels_of(1, (5, 8, 8, 1)).astype(np.float32)
    z, log_det = methods(flow).forward_and_log_det(x)
    assert (z.dtype, log_det.dtype) == (np.float32, np.float32)
    at_most(np.abs(methods(flow).inverse(z) - x), 20 * 2.0**-23)


def test_misfits_are_refused():
    x = up(np.zeros((2, 4, 4, 1)))
    for bad in (x[:, :3], x[:, :, :3], x[0]):
        with pytest.raises(ValueError, match=r"flow.Squeeze: .* should be \(B, H, W, C\), H and W even"):
            SQUEEZE.forward_and_log_det(bad)
    with pytest.raises(ValueError, match="C divisible by 4"):
        SQUEEZE.inverse(x)
    with pytest.raises(ValueError, match="6 channels are no squares"):
        maps.checkerboard(6)
    for shape, scales in (((4, 4), 1), ((4, 4, 1), 3), ((6, 8, 1), 2), ((4, 4, 1), 0)):
        with pytest.raises(ValueError, match="cannot be halved"):
            maps.Scales(shape, [SQUEEZE] * scales)
    for levels, alpha in ((1, 0.05), (17, 0.0), (17, 0.5)):
        with pytest.raises(ValueError, match="alpha"):
            maps.Logit(levels, alpha)
    assert lifted(maps).Squeeze is maps.Squeeze
