"""Flows against numeric Jacobians, scipy's Gaussians, integrals over the plane, and the noise they are made from."""

import types

import numpy as np
import pytest
from evidence import agree, apart, lifted, lowered, up
from flow_change_tools import KINDS, composed, deep, dimensions, log_normal
from hypothesis import given
from hypothesis import strategies as st
from sandbox_tools import FEW, SOME, methods, points, seeds
from scipy import stats

import scratchgen as sg
from reference import flows as oracle
from reference.derivatives import directional, directional_second
from reference.divergence import plane
from scratchgen import ops
from scratchgen.models.flows import change

BENT = ("coupling", "compose")


def width(kind, D):
    """What bends needs two numbers at least: one to stay."""
    return max(D, 2) if kind in BENT else D


def point_map(function):
    """A map of one point (D,), from one of a batch (1, D)."""
    return lambda x: function(x[None])[0]


def forward(flow):
    return lambda x: methods(flow).forward_and_log_det(x).z


@pytest.mark.parametrize("kind", [pytest.param(kind, marks=mark) for kind, mark in [
    ("diagonal", pytest.mark.equation("flow.diagonal")), ("triangular", pytest.mark.equation("flow.triangular")),
    ("permutation", pytest.mark.equation("flow.permutation")), ("coupling", pytest.mark.equation("flow.coupling")),
    ("compose", pytest.mark.equation("flow.compose")),
]])  # fmt: skip
class TestEveryMap:
    @SOME
    @given(seed=seeds, D=dimensions)
    def test_log_det_is_the_numeric_jacobians(self, kind, seed, D):
        """Of numbers of a few units; what bends sharply, in a deep composition, leaves a numeric Jacobian 8 digits."""
        D = width(kind, D)
        flow = KINDS[kind](seed, D)
        x = points(seed, 2, D, 1.5)
        agree(methods(flow).forward_and_log_det(x).log_det,
              [oracle.log_abs_det(point_map(forward(flow)), p) for p in x],
              atol=1e-7 if kind in BENT else 1e-11)  # fmt: skip

    @SOME
    @given(seed=seeds, D=dimensions)
    def test_inverse_undoes_forward(self, kind, seed, D):
        """The scales of seven maps multiply to less than 10³: a dozen digits."""
        D = width(kind, D)
        flow = methods(KINDS[kind](seed, D))
        x = points(seed, 3, D, 1.5)
        agree(flow.inverse(flow.forward_and_log_det(x).z), x, rtol=1e-10, atol=1e-10)

    @FEW
    @given(seed=seeds, D=dimensions)
    def test_derivatives_along_random_directions(self, kind, seed, D):
        """First and second, there and back: the tape's against displaced points; the inverse's Jacobian undoes J."""
        D = width(kind, D)
        flow = KINDS[kind](seed, D)
        x, v = points(seed, 1, D, 1.0), points(seed + 1, 1, D, 1.0)
        v = v / np.linalg.norm(v)

        def z(x):
            return flow.forward_and_log_det(x).z

        def log_det(x):
            return flow.forward_and_log_det(x).log_det

        def along(f):
            return lambda x, v: sg.jvp(f, (x,), (v,))[1]

        for f, at in ((z, x), (log_det, x), (flow.inverse, lifted(z)(x))):
            first, second = lifted(along(f)), lifted(lambda x, v, f=f: along(lambda x: along(f)(x, v))(x, v))
            numeric = directional(lifted(f), at, v, h=2e-3)
            agree(first(at, v), numeric, atol=1e-8 * (1 + np.abs(numeric).max()))
            # differences of differences lose five digits more
            numeric = directional_second(lifted(f), at, v, h=4e-3)
            agree(second(at, v), numeric, atol=1e-5 * (1 + np.abs(numeric).max()))
        back = lifted(along(flow.inverse))(lifted(z)(x), lifted(along(z))(x, v))
        agree(back, v, rtol=1e-10, atol=1e-10)

    def test_float32_in_float32_out(self, kind):
        """Some dozen float32 roundings of numbers up to ten."""
        x = points(5, 4, 3, 1.0).astype("float32")
        exact = methods(KINDS[kind](5, 3)).forward_and_log_det(x.astype("float64"))
        flow = methods(KINDS[kind](5, 3, "float32"))
        found = flow.forward_and_log_det(x)
        back = flow.inverse(found.z)
        assert {found.z.dtype, found.log_det.dtype, back.dtype} == {np.dtype("float32")}
        agree(found.z, exact.z, rtol=1e-5, atol=1e-5)
        agree(found.log_det, exact.log_det, rtol=1e-5, atol=1e-5)
        agree(back, x, rtol=1e-4, atol=1e-4)


# --- (1): change of variables -----------------------------------------------------------------------------------


@pytest.mark.equation("flow.change_of_variables")
@SOME
@given(st.sampled_from(sorted(set(KINDS) - set(BENT))), seeds, dimensions)
def test_affine_maps_of_noise_are_scipys_gaussians(kind, seed, D):
    """A has singular values from about 0.1 to 4: a dozen digits of the density are left."""
    flow = KINDS[kind](seed, D)
    x = points(seed, 4, D)
    log_p = oracle.image_density(point_map(forward(flow)), D)
    agree(lifted(change).log_prob(flow, log_normal, x), [log_p(p) for p in x], rtol=1e-10, atol=1e-10)


def gentle(seed):
    """A map of the plane that bends both coordinates a little: the density of its noise fits on a grid."""
    def bend(a, b):
        return lambda x: change.Affine(0.3 * ops.tanh(a * x), 0.5 * ops.sin(b * x))

    a, b, c, d = np.random.default_rng(seed).uniform(-0.7, 0.7, 4).tolist()
    scale = change.Diagonal(*up([np.array([1.2, -0.8]), np.array([0.3, 0.0])]))
    return change.Compose([scale, change.Coupling(bend(a, b), 1), change.Permutation([1, 0]),
                           change.Coupling(bend(c, d), 1)])  # fmt: skip


@pytest.mark.equation("flow.change_of_variables", "flow.compose")
@FEW
@given(seeds)
def test_densities_integrate_to_one_and_means_are_those_of_the_noise(seed):
    """On an even grid: ∫p = 1, and ∫p·h = E h(g⁻¹(z)).  Negative control: the other sign of the log-determinant.

    x is within 7 deviations of z, on which ½ is added and which are divided by 0.8·e^−0.3: 12.7.
    """
    flow = gentle(seed)
    nodes = plane((-13, -13), (13, 13), (200, 200))
    mass = nodes.weights * np.exp(lifted(change).log_prob(flow, log_normal, nodes.points))
    agree(mass.sum(), 1, atol=1e-10)

    def h(x):
        return np.exp(-((x[:, 0] - 0.5) ** 2) - (x[:, 1] + 0.2) ** 2 / 2)

    # 40 nodes of Gauss–Hermite a side, for a bump about as wide as the noise
    agree(mass @ h(nodes.points), oracle.image_mean(h, methods(flow).inverse, 2), atol=1e-8)
    z, log_det = methods(flow).forward_and_log_det(nodes.points)
    apart(nodes.weights @ np.exp(stats.norm.logpdf(z).sum(axis=1) - log_det), 1, by=0.01)


@pytest.mark.equation("flow.change_of_variables")
def test_a_map_of_ones_own():
    """Any object with the two methods is a flow: the logarithm makes log-normal data normal."""
    logarithm = types.SimpleNamespace(
        forward_and_log_det=lambda x: change.Forward(ops.log(x), -ops.log(x[:, 0])), inverse=ops.exp
    )
    x = np.linspace(0.1, 5, 20)[:, None]
    agree(lifted(change).log_prob(logarithm, log_normal, x), stats.lognorm(1).logpdf(x[:, 0]), rtol=1e-13, atol=1e-13)
    halved = change.Compose([logarithm, change.Diagonal(*up([np.array([2.0]), np.array([0.0])]))])
    agree(lifted(change).log_prob(halved, log_normal, x), stats.lognorm(0.5).logpdf(x[:, 0]), rtol=1e-12, atol=1e-12)
    other = lowered(lambda z: stats.logistic.logpdf(z[:, 0]))
    agree(lifted(change).log_prob(logarithm, other, x), stats.fisk(1).logpdf(x[:, 0]), rtol=1e-12, atol=1e-12)


# --- (2): composition -------------------------------------------------------------------------------------------


@pytest.mark.equation("flow.compose")
@FEW
@given(seeds, st.integers(2, 3))
def test_log_dets_add_up_each_at_its_own_input(seed, D):
    """The numeric Jacobians, multiplied.  Negative control: all of them at the first input."""
    flows = deep(seed, D)
    x = points(seed, 1, D, 1.0)
    found = methods(change.Compose(flows)).forward_and_log_det(x).log_det
    agree(found, [oracle.chain_log_abs_det([point_map(forward(f)) for f in flows], x[0])], atol=1e-7)
    apart(found, sum(methods(f).forward_and_log_det(x).log_det for f in flows), by=1e-3)


@pytest.mark.equation("flow.compose")
@FEW
@given(seeds)
def test_the_first_map_comes_first(seed):
    """And last in the inverse; nesting makes no difference."""
    flows = deep(seed, 3)
    x = points(seed, 2, 3, 1.0)
    z = x
    for flow in flows:
        z = methods(flow).forward_and_log_det(z).z
    all_at_once = methods(change.Compose(flows))
    nested = methods(change.Compose([flows[0], change.Compose(flows[1:4]), change.Compose(flows[4:])]))
    found = all_at_once.forward_and_log_det(x)
    agree(found.z, z)
    agree(nested.forward_and_log_det(x).z, z)
    agree(nested.forward_and_log_det(x).log_det, found.log_det, rtol=1e-13, atol=1e-13)
    agree(nested.inverse(z), all_at_once.inverse(z))


# --- (3): the inverse as a map ----------------------------------------------------------------------------------


@pytest.mark.equation("flow.inverse")
@FEW
@given(st.sampled_from(sorted(KINDS)), seeds, dimensions)
def test_the_inverse_has_minus_the_log_det_at_the_preimage(kind, seed, D):
    """Its own numeric Jacobian, at z; a composition with the map itself changes no volume."""
    flow = KINDS[kind](seed, width(kind, D))
    x = points(seed, 1, width(kind, D), 1.0)
    z, log_det = methods(flow).forward_and_log_det(x)
    back = change.Inverse(flow)
    found = methods(back).forward_and_log_det(z)
    agree(found.z, x, rtol=1e-10, atol=1e-10)
    agree(found.log_det, -log_det, rtol=1e-9, atol=1e-9)
    agree(methods(back).inverse(x), z)
    # the inverse of a bent map bends more sharply: small displacements, and seven digits
    agree(found.log_det, [oracle.log_abs_det(point_map(forward(back)), z[0], h=1e-3)], atol=1e-7)
    agree(methods(change.Compose([flow, back])).forward_and_log_det(x).log_det, [0.0], atol=1e-9)


@pytest.mark.equation("flow.inverse")
def test_the_inverse_looks_at_its_own_side():
    """Negative control: minus the log-determinant at z, as if z were data."""
    flow, z = composed(3, 2), points(1, 4, 2, 0.5)
    found = methods(change.Inverse(flow)).forward_and_log_det(z).log_det
    agree(found, [oracle.log_abs_det(point_map(methods(flow).inverse), p, h=1e-3) for p in z], atol=1e-7)
    apart(found, -methods(flow).forward_and_log_det(z).log_det, by=0.1)
