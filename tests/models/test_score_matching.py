"""Score matching: traces against numeric Jacobians, divergences against quadrature, and the integration by parts."""

import itertools

import numpy as np
import pytest
from evidence import agree, apart, at_most, host, lifted, up
from hypothesis import given
from hypothesis import strategies as st
from sandbox_tools import FEW, SOME, covariances, field, floats, library, mixture, mixtures, on_backend, points, seeds

import scratchgen as sg
from reference import denoisers as E
from reference import score as oracle
from reference.quadrature import panel_nodes
from scratchgen import ops
from scratchgen.models.score import matching
from scratchgen.random import Generator

M = lifted(matching)
dimensions = st.integers(1, 3)
EDGES = np.linspace(-14, 14, 57)  # the components' deviations are at least 0.44: a panel is about one of them


def signs(d):
    """All 2ᵈ vectors of ±1: their average over v·vᵀ is I exactly."""
    return np.array(list(itertools.product([-1.0, 1.0], repeat=d)))


def row_by_row(on_host):
    """A field of NumPy arrays at a single point."""
    return lambda x: on_host(x[None])[0]


# --- traces -----------------------------------------------------------------------------------------------------


@pytest.mark.equation("score.implicit", "score.hutchinson")
@SOME
@given(seeds, dimensions)
def test_traces_are_the_jacobians(seed, d):
    """Numeric Jacobians keep about ten digits of numbers of a few tens."""
    s, on_host = field(seed, d)
    x, (v,) = points(seed, 3, d), points(seed + 1, 3, d)[None]
    value, trace = M.divergence(s, x)
    agree(value, on_host(x), 1e-12, 1e-12)
    agree(trace, [oracle.trace(row_by_row(on_host), p) for p in x], 0, 1e-7)
    value, quadratic = M.hutchinson(s, x, v)
    agree(value, on_host(x), 1e-12, 1e-12)
    agree(quadratic, [oracle.quadratic_form(row_by_row(on_host), p, q) for p, q in zip(x, v, strict=True)], 0, 1e-6)
    agree(M.implicit(s, x), (on_host(x) ** 2).sum(axis=1) / 2 + trace, 1e-12, 1e-12)


@pytest.mark.equation("score.hutchinson")
@SOME
@given(seeds, dimensions)
def test_hutchinsons_mean_is_the_trace(seed, d):
    """Over all 2ᵈ sign vectors the average is exact: no sampling."""
    s, _ = field(seed, d)
    x = points(seed, 1, d)
    each = [M.hutchinson(s, x, v[None]).trace[0] for v in signs(d)]
    agree(np.mean(each), M.divergence(s, x).trace[0], 1e-12, 1e-12)


@pytest.mark.equation("score.hutchinson")
def test_gaussian_probes_estimate_the_trace_too():
    """n = 20 000 normal v: within 5.3 standard errors (α = 1e-7).  Negative control: v of half the size."""
    A = np.array([[-1.0, 2.0, 0.5], [0.0, 0.7, -1.0], [1.5, 0.0, -2.0]])
    A_ = up(A)
    v = host(Generator(5).standard_normal((20_000, 3), "float64"))
    found = M.hutchinson(lambda x: ops.matmul(x, A_), np.zeros((20_000, 3)), v).trace
    error = 5.3 * found.std() / np.sqrt(20_000)
    at_most(abs(found.mean() - np.trace(A)), error)
    half = M.hutchinson(lambda x: ops.matmul(x, A_), np.zeros((20_000, 3)), v / 2).trace
    apart(half.mean(), np.trace(A), error)


@pytest.mark.equation("score.implicit")
def test_events_with_several_axes():
    """A field on (B, 2, 1, 3) has the trace of the same field on (B, 6)."""
    s, _ = field(1, 6)
    x = points(2, 4, 6)
    image = x.reshape(4, 2, 1, 3)

    def s_image(x):
        return ops.reshape(s(ops.reshape(x, (4, 6))), (4, 2, 1, 3))

    agree(M.implicit(s_image, image), M.implicit(s, x), 1e-13, 1e-13)
    agree(M.sliced_vr(s_image, image, image), M.sliced_vr(s, x, x), 1e-13, 1e-13)
    agree(M.sliced(s_image, image, image), M.sliced(s, x, x), 1e-13, 1e-13)


@pytest.mark.equation("score.implicit", "score.hutchinson")
def test_a_constant_field_has_no_trace():
    """Its value never saw the tape: the walk back must still answer, with zeros."""
    one = up(np.full((3, 2), 1.5))
    agree(M.implicit(lambda x: one, np.zeros((3, 2))), np.full(3, 2.25))
    agree(M.hutchinson(lambda x: one, np.zeros((3, 2)), np.ones((3, 2))).trace, np.zeros(3))


# --- divergences ------------------------------------------------------------------------------------------------


@pytest.mark.equation("score.fisher")
@FEW
@given(seeds, st.integers(1, 3))
def test_fisher_by_quadrature(seed, K):
    data, (_, s) = mixture(seed, K, 1), field(seed, 1)
    log_p = lambda x: E.log_prob(data, x[:, None])  # noqa: E731
    x, w = panel_nodes(EDGES)
    score = library(data).score(x[:, None])
    found = (w * np.exp(log_p(x))) @ M.fisher(score, s(x[:, None]))
    expected = oracle.fisher_1d(lambda x: s(x[:, None])[:, 0], log_p, EDGES)
    agree(found, expected, 1e-8, 1e-8)


@pytest.mark.equation("score.fisher", "score.implicit")
@FEW
@given(seeds, st.integers(2, 3))
def test_a_linear_score_on_a_gaussian(seed, d):
    """Both are quadratic in x: Gauss–Hermite of order 3 is exact.  In closed form the gap is ½·tr C⁻¹."""
    noise = np.random.default_rng(seed)
    A, b, mean, cov = noise.normal(size=(d, d)), noise.normal(size=d), noise.normal(size=d), covariances(noise, d)
    A_, b_ = up([A, b])
    x, w = oracle.gaussian_nodes(mean, cov, 3)
    score = library(E.gaussian(mean, cov)).score(x)
    fisher = w @ M.fisher(score, x @ A.T + b)
    agree(fisher, oracle.fisher_gaussian(A, b, mean, cov), 1e-10, 1e-10)
    implicit = w @ M.implicit(lambda x: ops.matmul(x, ops.transpose(A_)) + b_, x)
    agree(fisher - implicit, np.trace(np.linalg.inv(cov)) / 2, 1e-10, 1e-10)
    apart(fisher - 2 * implicit, np.trace(np.linalg.inv(cov)) / 2, 1e-3)


@pytest.mark.equation("score.fisher", "score.implicit")
@FEW
@given(seeds, st.integers(1, 3), seeds)
def test_fisher_minus_implicit_does_not_depend_on_the_model(seed, K, other):
    """K1: the gap is ½E‖∇log p‖² for every s, here random networks on mixtures, by quadrature."""
    data, (x, w) = mixture(seed, K, 1), panel_nodes(EDGES)
    p, x = w * np.exp(E.log_prob(data, x[:, None])), x[:, None]
    score = library(data).score(x)
    constant = p @ M.fisher(score, 0 * score)
    for s, on_host in (field(seed, 1), field(other, 1)):
        fisher, implicit = p @ M.fisher(score, on_host(x)), p @ M.implicit(s, x)
        agree(fisher - implicit, constant, 1e-9, 1e-9)
    s, on_host = field(seed, 1)
    trace = M.divergence(s, x).trace
    wrong = p @ ((on_host(x) ** 2).sum(axis=1) + trace)  # the ½ forgotten
    apart(p @ M.fisher(score, on_host(x)) - wrong, constant, 1e-4)


@pytest.mark.equation("score.implicit")
def test_the_true_score_is_the_minimum():
    """Over s = (1 + c)·∇log p the mean of the implicit form is a parabola in c with its lowest point at 0."""
    data, (x, w) = mixture(4, 2, 1), panel_nodes(EDGES)
    p, x, true = w * np.exp(E.log_prob(data, x[:, None])), x[:, None], on_backend(data).score
    at = {c: p @ M.implicit(lambda x, c=c: (1 + c) * true(x), x) for c in (-0.5, 0.0, 0.5)}
    agree(at[-0.5], at[0.5], 1e-9)
    assert at[0.0] < at[0.5]
    agree(at[0.0], -p @ M.fisher(lifted(true)(x), 0 * x), 1e-9)


@pytest.mark.equation("score.sliced", "score.sliced_vr")
@SOME
@given(seeds, dimensions)
def test_sliced_forms_by_definition(seed, d):
    s, on_host = field(seed, d)
    x, v = points(seed, 3, d), points(seed + 1, 3, d)
    f = on_host(x)
    along = [oracle.quadratic_form(row_by_row(on_host), p, q) for p, q in zip(x, v, strict=True)]
    agree(M.sliced(s, x, v), along + np.einsum("bd,bd->b", v, f) ** 2 / 2, 0, 1e-6)
    agree(M.sliced_vr(s, x, v), along + np.einsum("bd,bd->b", f, f) / 2, 0, 1e-6)


@pytest.mark.equation("score.sliced", "score.sliced_vr")
@SOME
@given(seeds, dimensions)
def test_sliced_forms_average_to_the_implicit_one(seed, d):
    """Exactly, over all sign vectors; and where v is exact already (d = 1) both are the implicit form itself."""
    s, _ = field(seed, d)
    x = points(seed, 1, d)
    exact = M.implicit(s, x)[0]
    for form in (M.sliced, M.sliced_vr):
        each = np.array([form(s, x, v[None])[0] for v in signs(d)])
        agree(each.mean(), exact, 1e-12, 1e-12)
        if d == 1:
            agree(each, exact, 1e-12, 1e-12)


@pytest.mark.equation("score.sliced", "score.sliced_vr")
@pytest.mark.parametrize(("seed", "K"), [(0, 1), (1, 2), (2, 2)])
def test_sliced_forms_average_to_fishers_divergence(seed, K):
    """E_v E_x of both is ½E‖∇log p − s‖² − ½E‖∇log p‖², random networks on mixtures in the plane.

    v ~ N(0, I) by Gauss–Hermite of order 2, exact for what is quadratic in v; x by the oracle's grid, which is good to
    1e-12 for such fields.  Negative control: v of half the size.
    """
    data, (s, on_host) = mixture(seed, K, 2), field(seed, 2)
    log_p = lambda x: E.log_prob(data, x)  # noqa: E731
    x, (vs, w) = oracle.grid_2d(), oracle.gaussian_nodes(np.zeros(2), np.eye(2), 2)
    expected = oracle.fisher_2d(on_host, log_p) - oracle.fisher_2d(np.zeros_like, log_p)
    for form in (M.sliced, M.sliced_vr):
        for size in (1.0, 0.5):
            along = [form(s, x, np.broadcast_to(size * v, x.shape)) for v in vs]
            mean = oracle.average_2d(w @ along, log_p)
            if size == 1.0:
                agree(mean, expected, 1e-9, 1e-9)
            else:
                apart(mean, expected, 1e-2)


@pytest.mark.equation("score.sliced_vr")
def test_variance_reduction_reduces_variance():
    """A field of constant Jacobian −I: vᵀ∇s·v is −d for signs, so that (5) has no variance left, and (4) has."""
    x = points(3, 1, 3)
    s = lambda x: -x  # noqa: E731
    spread, reduced = (np.std([form(s, x, v[None])[0] for v in signs(3)]) for form in (M.sliced, M.sliced_vr))
    agree(reduced, 0.0, 0, 1e-12)
    assert spread > 1


@pytest.mark.equation("score.sliced", "score.sliced_vr")
@SOME
@given(seeds, dimensions)
def test_what_the_exact_norm_does_to_the_variance(seed, d):
    """Linear fields: var (4) − var (5) = 2sᵀ∇s·s + ½‖s‖⁴ for v ~ N(0, I), by Gauss–Hermite, exact for degree 5."""
    noise = np.random.default_rng(seed)
    H, x = noise.normal(size=(d, d)), noise.normal(size=(1, d))
    v = np.array(list(itertools.product([-np.sqrt(3), 0.0, np.sqrt(3)], repeat=d)))
    w = np.prod(np.where(v == 0, 2 / 3, 1 / 6), axis=1)
    linear, many = up([H.T.copy()])[0], np.repeat(x, len(v), axis=0)
    (s,) = x @ H.T
    terms = [form(lambda x: ops.matmul(x, linear), many, v) for form in (M.sliced, M.sliced_vr)]
    variance, reduced = (w @ (each - w @ each) ** 2 for each in terms)
    agree(variance - reduced, 2 * s @ H @ s + 0.5 * (s @ s) ** 2, 1e-10, 1e-10)


@pytest.mark.equation("score.sliced", "score.sliced_vr")
def test_the_exact_norm_may_add_variance():
    """∇s = −½s·sᵀ: in (4) the two terms cancel for every v; (5) is left with the first."""
    x, slope = np.ones((1, 3)), np.array([1.0, -2.0, 0.5])
    at, H = up([slope, np.outer(slope, slope) / -2])
    s = lambda x: ops.matmul(x - 1.0, H) + at  # noqa: E731
    both, exact_norm = (np.std([form(s, x, v[None])[0] for v in signs(3)]) for form in (M.sliced, M.sliced_vr))
    agree(both, 0.0, 0, 1e-12)
    apart(exact_norm, 0.0, 1.0)


# --- gradients, precision, shapes -------------------------------------------------------------------------------


@pytest.mark.equation("score.fisher", "score.implicit", "score.hutchinson", "score.sliced", "score.sliced_vr")
def test_gradients_reach_the_model_and_the_points():
    """Second derivatives of s inside, so third ones in the check of order 2."""
    x, v = points(1, 2, 2, 1), points(2, 2, 2, 1)
    noise = np.random.default_rng(3)
    A, C = noise.normal(size=(2, 3)), noise.normal(size=(3, 2))

    def s(A, C):
        return lambda x: ops.matmul(ops.tanh(ops.matmul(x, A)), C)

    sg.check_grads(lambda A, C, x: matching.implicit(s(A, C), x), (A, C, x), order=2, rtol=1e-5)
    sg.check_grads(lambda A, C, x: matching.hutchinson(s(A, C), x, v).trace, (A, C, x), order=2, rtol=1e-5)
    sg.check_grads(lambda A, C, x: matching.sliced(s(A, C), x, v), (A, C, x), order=2, rtol=1e-5)
    sg.check_grads(lambda A, C, x: matching.sliced_vr(s(A, C), x, v), (A, C, x), order=2, rtol=1e-5)
    sg.check_grads(matching.fisher, (x, v), order=2)


@pytest.mark.equation("score.implicit")
def test_gradient_of_the_implicit_form_is_fishers():
    """Training sees the same gradient: on Gaussian data, over s(x) = A·x, both are quadratic in A."""
    noise = np.random.default_rng(4)
    cov, A = covariances(noise, 2), noise.normal(size=(2, 2))
    x, w = oracle.gaussian_nodes(np.zeros(2), cov, 3)
    x_, w_ = up([x, w])
    found = lifted(sg.grad(lambda A: ops.sum(w_ * matching.implicit(lambda x: ops.matmul(x, A), x_))))(A)
    numeric = oracle.jacobian(lambda A: oracle.fisher_gaussian(A.T, np.zeros(2), np.zeros(2), cov), A)
    agree(found, numeric, 1e-8, 1e-8)


@pytest.mark.equation("score.fisher", "score.implicit", "score.hutchinson", "score.sliced", "score.sliced_vr")
def test_float32_in_float32_out():
    """Sums of a dozen float32 products as large as 30."""
    x, v = points(1, 4, 2).astype("float32"), points(2, 4, 2).astype("float32")
    A = np.array([[0.5, -1.0], [2.0, 0.25]])
    A64, A32 = up(A), up(A.astype("float32"))
    wide = [a.astype("float64") for a in (x, v)]
    for form in (M.implicit, M.sliced, M.sliced_vr):
        args, args64 = ((x,), wide[:1]) if form.__name__ == "implicit" else ((x, v), wide)
        found = form(lambda x: ops.tanh(ops.matmul(x, A32)), *args)
        assert found.dtype == np.float32
        agree(found, form(lambda x: ops.tanh(ops.matmul(x, A64)), *args64), 3e-6, 3e-6)
    found = M.fisher(x, v)
    assert found.dtype == np.float32
    agree(found, M.fisher(*wide), 3e-6, 3e-6)


@pytest.mark.equation("score.fisher")
@SOME
@given(mixtures, seeds)
def test_fisher_is_half_a_squared_distance(data, seed):
    d = data.means.shape[1]
    a, b = points(seed, 2, d), points(seed + 1, 2, d)
    agree(M.fisher(a, b), [np.linalg.norm(p - q) ** 2 / 2 for p, q in zip(a, b, strict=True)], 1e-12, 1e-12)
    agree(M.fisher(a, a), np.zeros(2))


@SOME
@given(floats(-2, 2))
def test_a_field_of_another_shape_is_refused(c):
    x = up(np.full((2, 3), c))
    with pytest.raises(ValueError, match=r"value \(2,\) should have the shape of x, \(2, 3\)"):
        matching.implicit(lambda x: ops.sum(x, axis=1), x)
    with pytest.raises(ValueError, match=r"v \(2, 1\) should have the shape of x"):
        matching.hutchinson(lambda x: x, x, x[:, :1])
    with pytest.raises(ValueError, match="s "):
        matching.fisher(x, x[:, :1])
