"""Tangents of a manifold and Tangent Prop, against power iteration, a sphere, and differences."""

import numpy as np
import pytest
from evidence import agree, at_most, lifted
from hypothesis import given
from hypothesis import strategies as st

import scratchgen as sg
from reference import tangents as oracle
from scratchgen import ops
from scratchgen.models.latent import tangents as tangents_module

tangents = lifted(tangents_module)

seeds = st.integers(0, 2**32 - 1)
sizes = st.integers(1, 3)


@st.composite
def jacobians(draw):
    """(B, d, D) with singular values 3, 2, 1 …, each at least 1 from the next: the vectors are unique but for signs."""
    B, d, D = draw(sizes), draw(sizes), draw(st.integers(1, 4))
    rng = np.random.default_rng(draw(seeds))
    out = []
    for _ in range(B):
        U, V = (np.linalg.qr(rng.standard_normal((n, n)))[0] for n in (d, D))
        m = min(d, D)
        out.append(U[:, :m] * np.arange(m, 0, -1) @ V[:, :m].T)
    return np.stack(out)


@pytest.mark.equation("tangents.vectors")
@given(J=jacobians())
def test_the_tangents_are_the_directions_that_change_the_code_most(J):
    """Power iteration with a ratio of at most (2/3)² is done to rounding after 200 rounds."""
    r = min(J.shape[1:])
    for found, one in zip(tangents.vectors(J, r), J, strict=True):
        expected = oracle.most_changing(one, r)
        agree(found[:, :, None] * found[:, None], expected[:, :, None] * expected[:, None], atol=1e-11)  # no signs
        agree(found @ found.T, np.eye(r), atol=1e-13)


@pytest.mark.equation("tangents.vectors")
@given(seed=seeds, d=st.integers(2, 3), D=st.integers(3, 4))
def test_no_other_direction_changes_it_more(seed, d, D):
    rng = np.random.default_rng(seed)
    J, v = rng.standard_normal((1, d, D)), rng.standard_normal((50, D))
    change = lambda v: np.linalg.norm(v @ J[0].T, axis=-1) / np.linalg.norm(v, axis=-1)  # noqa: E731
    (first,) = tangents.vectors(J, 1)[0]
    at_most(change(v), change(first) * (1 + 1e-12))


@pytest.mark.equation("tangents.vectors")
@given(x=st.tuples(*[st.floats(0.2, 2)] * 3))
def test_tangents_of_a_sphere_are_orthogonal_to_its_radius(x):
    """The code is longitude and latitude, the Jacobian the library's own."""

    def code(x):
        return ops.stack([ops.arctan2(x[1], x[0]), ops.arctan2(x[2], ops.hypot(x[0], x[1]))])

    x = np.array(x)
    J = lifted(sg.jacobian(code))(x)[None]
    agree(tangents.vectors(J, 2)[0] @ x / np.linalg.norm(x), np.zeros(2), atol=1e-12)


def classifier(w):
    return lambda x: ops.tanh(x @ w)  # (D,) → (K,)


@pytest.mark.equation("tangents.prop")
@given(seed=seeds, B=sizes, K=sizes, r=sizes, D=sizes)
def test_the_penalty_is_the_squared_change_along_the_tangents(seed, B, K, r, D):
    """Extrapolated differences of tanh are good to 1e-10."""
    rng = np.random.default_rng(seed)
    w, x, v = rng.standard_normal((D, K)), rng.standard_normal((B, D)), rng.standard_normal((B, r, D))
    J = np.stack([lifted(lambda x, w: sg.jacobian(lambda x: classifier(w)(x))(x))(row, w) for row in x])
    expected = [oracle.squared_change(lambda x: np.tanh(x @ w), row, vs) for row, vs in zip(x, v, strict=True)]
    agree(tangents.tangent_prop(J, v), expected, rtol=1e-8, atol=1e-9)


@pytest.mark.equation("tangents.prop")
@given(seed=seeds)
def test_the_penalty_does_not_depend_on_signs_and_is_0_for_what_the_manifold_does_not_change(seed):
    rng = np.random.default_rng(seed)
    J, v = rng.standard_normal((2, 3, 4)), rng.standard_normal((2, 2, 4))
    agree(tangents.tangent_prop(J, v * np.array([[1.0], [-1.0]])), tangents.tangent_prop(J, v), rtol=1e-13)
    across = J - J @ np.linalg.pinv(v) @ v
    agree(tangents.tangent_prop(across, v), np.zeros(2), atol=1e-12)
    at_most(-tangents.tangent_prop(J, v), 0.0)


def test_gradients():
    rng = np.random.default_rng(1)
    J, v = rng.standard_normal((2, 2, 3)), rng.standard_normal((2, 2, 3))
    sg.check_grads(tangents_module.tangent_prop, (J, v), order=2)
    sg.check_grads(lambda J: ops.square(tangents_module.vectors(J, 1)), (J,), order=2)


@pytest.mark.equation("tangents.vectors", "tangents.prop")
def test_float32_stays_float32():
    rng = np.random.default_rng(2)
    J = rng.standard_normal((2, 2, 3)).astype("f")
    v = tangents.vectors(J, 2)
    assert v.dtype == tangents.tangent_prop(J, v).dtype == np.float32
    agree(tangents.tangent_prop(J, v), np.square(J.astype(float)).sum((1, 2)), rtol=1e-5)  # ‖JV‖² = ‖J‖²


def test_misfits_are_refused():
    for shape, r in (((1, 2, 4), 3), ((1, 4, 2), 3), ((1, 2, 4), 0), ((1, 2, 4), -1), ((2, 4), 1), ((1, 1, 2, 4), 1)):
        with pytest.raises(ValueError, match=f"no {r} tangents in Jacobians"):
            tangents.vectors(np.zeros(shape), r)
    for shape in ((2, 4), (3, 3, 4), (1, 3, 4), (2, 3, 3), (2, 3, 5), (2, 3, 4, 4)):
        J_f, v = np.zeros(shape), np.zeros((2, 1, 4))
        for pair in ((J_f, v), (v, J_f)):
            with pytest.raises(ValueError, match=r"should be \(B, K, D\), \(B, r, D\)"):
                tangents.tangent_prop(*pair)
