"""Flows against numeric Jacobians, scipy's Gaussians, integrals over the plane, and the noise they are made from."""

import itertools
import math
import types
from dataclasses import FrozenInstanceError

import numpy as np
import pytest
from evidence import agree, apart, lifted, lowered, up
from hypothesis import given
from hypothesis import strategies as st
from sandbox_tools import FEW, SOME, methods, points, seeds
from scipy import stats

import scratchgen as sg
from reference import flows as oracle
from reference.derivatives import directional, directional_second
from reference.divergence import plane
from scratchgen import ops
from scratchgen.distributions import gaussian
from scratchgen.models.flows import change

dimensions = st.integers(1, 4)


def log_normal(z):
    return gaussian.log_prob(z, 0.0, 0.0)


def signed(noise, *shape):
    """From 0.4 to 2, to either side of 0: at a Jacobian's diagonal, nothing to lose digits on."""
    return noise.uniform(0.4, 2, shape) * noise.choice([-1.0, 1.0], shape)


def on(dtype, *arrays):
    return up([a.astype(dtype) for a in arrays])


def diagonal(seed, D, dtype="float64"):
    noise = np.random.default_rng(seed)
    return change.Diagonal(*on(dtype, signed(noise, D), noise.normal(size=D)))


def triangular(seed, D, dtype="float64"):
    """With numbers above the diagonal, which are not to be read."""
    noise = np.random.default_rng(seed)
    L = noise.uniform(-1, 1, (D, D))
    L[np.diag_indices(D)] = signed(noise, D)
    return change.Triangular(*on(dtype, L, noise.normal(size=D)))


def permutation(seed, D, dtype="float64"):
    return change.Permutation(np.random.default_rng(seed).permutation(D).tolist())


def conditioner(A, B, c):
    """s = 0.8·tanh(x_a·A + c), t = (x_a·B)²: a scale and a shift that bend."""
    return lambda a: change.Affine(0.8 * ops.tanh(ops.matmul(a, A) + c), ops.square(ops.matmul(a, B)))


def coupling(seed, D, dtype="float64", k=None):
    noise = np.random.default_rng(seed)
    k = k or int(noise.integers(1, D))
    A, B, c = noise.normal(size=(k, D - k)), 0.6 * noise.normal(size=(k, D - k)), noise.normal(size=D - k)
    return change.Coupling(conditioner(*on(dtype, A, B, c)), k)


def deep(seed, D, dtype="float64"):
    """Couplings of both halves, and affine maps between them."""
    return [coupling(seed, D, dtype, 1), permutation(seed, D), triangular(seed + 1, D, dtype),
            coupling(seed + 2, D, dtype, D - 1), diagonal(seed + 3, D, dtype),
            change.Permutation(list(reversed(range(D)))), coupling(seed + 4, D, dtype, 1)]  # fmt: skip


def composed(seed, D, dtype="float64"):
    return change.Compose(deep(seed, D, dtype))


KINDS = {"diagonal": diagonal, "triangular": triangular, "permutation": permutation, "coupling": coupling,
         "compose": composed}  # fmt: skip
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


# --- (4) to (7): what the Jacobians look like -------------------------------------------------------------------


def jacobian(flow, x):
    """By the tape, of one point: (D, D)."""
    return lifted(sg.jacobian(lambda x: flow.forward_and_log_det(x).z))(x)[0, :, 0, :]


@pytest.mark.equation("flow.diagonal")
def test_diagonal_maps_act_on_events_of_any_shape():
    noise = np.random.default_rng(1)
    d, b, x = signed(noise, 2, 1, 3), noise.normal(size=(2, 1, 3)), noise.normal(size=(4, 2, 1, 3))
    found = methods(change.Diagonal(*up([d, b]))).forward_and_log_det(x)
    agree(found.z, d * x + b, rtol=1e-14, atol=1e-14)
    agree(found.log_det, np.full(4, math.log(abs(d.prod()))), rtol=1e-13)


@pytest.mark.equation("flow.triangular")
@SOME
@given(seeds, dimensions)
def test_triangular_maps_look_back_only(seed, D):
    flow = triangular(seed, D)
    J = jacobian(flow, points(seed, 1, D))
    agree(J, np.tril(lifted(lambda: flow.L)()), rtol=1e-14)
    agree(methods(flow).forward_and_log_det(points(seed, 3, D)).log_det, np.full(3, np.linalg.slogdet(J)[1]),
          rtol=1e-12, atol=1e-12)  # fmt: skip


@pytest.mark.equation("flow.permutation")
def test_all_permutations_keep_volume_and_come_back():
    for order in itertools.permutations(range(3)):
        flow = change.Permutation(order)
        x = points(1, 2, 3)
        z, log_det = methods(flow).forward_and_log_det(x)
        agree(z, np.stack([x[:, i] for i in order], axis=1))
        agree(methods(flow).inverse(z), x)
        agree(log_det, np.zeros(2))
        J = jacobian(flow, x[:1])
        agree(J, np.eye(3)[list(order)])
        agree(log_det[0], np.linalg.slogdet(J)[1])


@pytest.mark.equation("flow.coupling")
@SOME
@given(seeds, st.integers(2, 5))
def test_coupling_has_an_identity_a_zero_and_a_diagonal(seed, D):
    """[[I, 0], [·, diag e^s]], whose diagonal is not a multiple of I."""
    flow = coupling(seed, D)
    k = flow.k
    x = points(seed, 1, D, 1.5)
    J = jacobian(flow, x)
    s, t = methods(types.SimpleNamespace(at=flow.conditioner)).at(x[:, :k])
    agree(J[:k], np.eye(D)[:k])
    agree(J[k:, k:], np.diag(np.exp(s[0])), rtol=1e-13)
    z, log_det = methods(flow).forward_and_log_det(x)
    agree(z[:, :k], x[:, :k])
    agree(z[:, k:], x[:, k:] * np.exp(s) + t, rtol=1e-13, atol=1e-13)
    agree(log_det, [np.linalg.slogdet(J)[1]], rtol=1e-12, atol=1e-12)


@pytest.mark.equation("flow.coupling")
def test_a_shift_alone_keeps_volume():
    """s = 0: NICE's coupling."""
    flow = change.Coupling(lambda a: change.Affine(0 * a, ops.tanh(a)), 2)
    x = points(3, 5, 4)
    found = methods(flow).forward_and_log_det(x)
    agree(found.z, np.concatenate([x[:, :2], x[:, 2:] + np.tanh(x[:, :2])], axis=1), rtol=1e-14)
    agree(found.log_det, np.zeros(5))


# --- all ----------------------------------------------------------------------------------------------------------


@pytest.mark.equation("flow.diagonal", "flow.triangular", "flow.coupling", "flow.compose", "flow.inverse",
                      "flow.change_of_variables")  # fmt: skip
def test_gradients_reach_the_parameters():
    noise = np.random.default_rng(8)
    x, d, b = points(1, 2, 3, 1.0), signed(noise, 3), noise.normal(size=3)
    L = np.eye(3) + noise.uniform(-0.4, 0.4, (3, 3))
    A, B, c = noise.normal(size=(1, 2)), noise.normal(size=(1, 2)), noise.normal(size=2)

    def model(d, b, L, A, B, c):
        moved = change.Coupling(conditioner(A, B, c), 1)
        return change.Compose([change.Diagonal(d, b), moved, change.Inverse(change.Triangular(L, b))])

    with sg.backend("numpy"):
        sg.check_grads(lambda x, *args: change.log_prob(model(*args), log_normal, x), (x, d, b, L, A, B, c), order=2)
        sg.check_grads(lambda z, *args: model(*args).inverse(z), (x, d, b, L, A, B, c), order=2)


def test_maps_are_themselves_and_stay_so():
    d, L, flip = up(np.ones(2)), up(np.eye(2)), change.Permutation((1, 0))
    for make, name in (
        (lambda: change.Diagonal(d, d), "d"), (lambda: change.Triangular(L, d), "L"),
        (lambda: change.Permutation((1, 0)), "order"), (lambda: change.Coupling(np.cos, 1), "k"),
        (lambda: change.Compose((flip,)), "flows"), (lambda: change.Inverse(flip), "flow"),
    ):  # fmt: skip
        one = make()
        assert len({one, one, make()}) == 2
        with pytest.raises(FrozenInstanceError):
            setattr(one, name, None)


def test_misfits_are_refused():
    three, two = up(np.ones(3)), up(np.ones(2))
    x = up(np.zeros((4, 3)))
    with pytest.raises(ValueError, match=r"flow.Diagonal: b \(2,\) should have the shape of d, \(3,\)"):
        change.Diagonal(three, two)
    with pytest.raises(ValueError, match=r"flow.Diagonal: x \(4, 3\) should have the shape of a batch, \(4, 2\)"):
        change.Diagonal(two, two).forward_and_log_det(x)
    for L in (three, up(np.ones((2, 2))), up(np.ones((3, 2))), up(np.ones((4, 4)))):
        with pytest.raises(ValueError, match=r"L .* and b \(3,\) should be \(D, D\) and \(D,\)"):
            change.Triangular(L, three)
    with pytest.raises(ValueError, match=r"flow.Triangular: x"):
        change.Triangular(up(np.eye(2)), two).forward_and_log_det(x)
    for order in ([0, 2], [0, 0], [1, 1], [-1, 0]):
        with pytest.raises(ValueError, match="is no order of 0 … 1"):
            change.Permutation(order)
    with pytest.raises(ValueError, match=r"flow.Permutation: x"):
        change.Permutation([1, 0]).forward_and_log_det(x)
    for y, k in ((x, 3), (x, 4), (x, 0), (x, -1), (x[0], 1)):
        with pytest.raises(ValueError, match=f"cannot be split after {k}"):
            change.Coupling(lambda a: change.Affine(a, a), k).forward_and_log_det(y)
    with pytest.raises(ValueError, match=r"s \(4, 2\) should have the shape of the part that moves, \(4, 1\)"):
        change.Coupling(lambda a: change.Affine(a, a), 2).inverse(x)
    for flow in (change.Diagonal(two, two), change.Triangular(up(np.eye(2)), two), change.Permutation([1, 0])):
        for z in (x, x[:, :1], x[:, 0], x[0, 0]):
            with pytest.raises(ValueError, match=r"flow\.\w+: z .* should have the shape of a batch, \((4, )?2,?\)"):
                flow.inverse(z)
            with pytest.raises(ValueError, match=r"flow\.\w+: x .* should have the shape of a batch, \((4, )?2,?\)"):
                flow.forward_and_log_det(z)
    with pytest.raises(ValueError, match=r"\(4, 3\) cannot be split after 3"):
        change.Coupling(lambda a: change.Affine(a, a), 3).inverse(x)
    with pytest.raises(ValueError, match="no maps"):
        change.Compose([])
    with pytest.raises(ValueError, match=r"log_pz \(4, 3\) should have the shape of log_det, \(4,\)"):
        change.log_prob(change.Permutation([1, 0, 2]), lambda z: z, x)


@pytest.mark.parametrize("kind", ["diagonal", "triangular", "coupling"])
def test_precisions_do_not_mix(kind):
    """Parameters of float32, points of float64, and the other way round."""
    for parameters, points_ in (("float32", "float64"), ("float64", "float32")):
        flow, (x,) = KINDS[kind](5, 3, parameters), on(points_, points(5, 4, 3, 1.0))
        for function in (flow.forward_and_log_det, flow.inverse):
            with pytest.raises(TypeError, match="float32.*float64|float64.*float32"):
                function(x)
