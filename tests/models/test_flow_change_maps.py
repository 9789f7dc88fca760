"""What the Jacobians of each kind of flow look like; gradients, misfits, precisions."""

import itertools
import math
import types
from dataclasses import FrozenInstanceError

import numpy as np
import pytest
from evidence import agree, lifted, up
from flow_change_tools import (
    KINDS,
    conditioner,
    coupling,
    dimensions,
    log_normal,
    on,
    signed,
    triangular,
)
from hypothesis import given
from hypothesis import strategies as st
from sandbox_tools import SOME, methods, points, seeds

import scratchgen as sg
from scratchgen import ops
from scratchgen.models.flows import change

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
