"""Densities out of functions: volumes by adaptive quadrature and enumeration, laws of scipy.stats, numeric slopes."""

import itertools
import math

import numpy as np
import pytest
from evidence import agree, host, lifted, up
from hypothesis import given
from hypothesis import strategies as st
from sandbox_tools import FEW, SOME, floats, points, seeds
from scipy import special, stats

import scratchgen as sg
from reference import densities as oracle
from reference.quadrature import panel_nodes
from scratchgen.distributions import exponential, gaussian
from scratchgen.models.energy import densities as module

D = lifted(module)
FORMS = {"square": D.log_square, "exponential": D.log_exponential, "absolute": D.log_absolute,
         "softplus": D.log_softplus}  # fmt: skip
forms = st.sampled_from(sorted(FORMS))
EDGES = np.linspace(-3, 3, 13)
NODES, WEIGHTS = panel_nodes(EDGES)


def smooth(seed):
    """A random smooth function of the line; with an offset it has no zero, where |f| would have a kink."""
    a, b, c = np.random.default_rng(seed).uniform(-1, 1, 3)
    return lambda x: a * np.sin(2 * x + b) + c * np.cos(x) + 2.5


# --- (1): positive ------------------------------------------------------------------------------------------------


@pytest.mark.equation("energy.positive")
@SOME
@given(forms, seeds)
def test_logarithms_of_positive_numbers(form, seed):
    """Of f to either side of 0.  The oracle's softplus is an integral, known to 1e-11."""
    f = np.concatenate([points(seed, 3, 2).ravel(), [-19.9, -20.1, 20.0]])
    agree(FORMS[form](f), [math.log(oracle.positive(form, v)) for v in f], rtol=1e-11, atol=1e-11)


@pytest.mark.equation("energy.positive")
def test_softplus_far_to_the_left_and_to_the_right():
    """log(1 + e^f) = e^f·(1 − e^f/2 + …) to the left, log f to the right; in float32 e^f is 0 from −104 on."""
    f = np.array([-700.0, -90.0, -21.0, -20.0, -19.0, 0.0, 80.0, 1e6])
    want = [-700, -90, -21 - np.exp(-21) / 2, -20 - np.exp(-20) / 2, np.log(np.log1p(np.exp(-19))),
            np.log(np.log(2)), np.log(80), np.log(1e6)]  # fmt: skip
    agree(D.log_softplus(f), want, rtol=1e-15, atol=1e-16)
    found = D.log_softplus(f.astype("float32"))
    assert found.dtype == np.float32
    agree(found, want, rtol=2e-7)
    for dtype in ("float64", "float32"):
        variable = sg.tensor(up(f.astype(dtype)))
        (slope,) = sg.gradients(module.log_softplus(variable).sum(), [variable])
        # σ(f)/softplus(f), by the same series
        agree(slope, [1, 1, 1, 1, 1, 0.5 / np.log(2), 1 / 80, 1e-6], rtol=1e-8 if dtype == "float64" else 2e-7)


@pytest.mark.equation("energy.positive")
def test_a_zero_has_no_density():
    """And gives no warning and no NaN; e^f and softplus have no zero."""
    f = np.array([0.0, 2.0])
    agree(D.log_square(f), [-np.inf, np.log(4)])
    agree(D.log_absolute(f), [-np.inf, np.log(2)])
    for form in (module.log_square, module.log_absolute):
        variable = sg.tensor(up(f))
        (slope,) = sg.gradients(form(variable)[1:].sum(), [variable])
        assert np.isfinite(host(slope)).all()


# --- (2): divided by the volume -----------------------------------------------------------------------------------


@pytest.mark.equation("energy.positive", "energy.normalise")
@FEW
@given(forms, seeds)
def test_densities_are_divided_by_their_volume(form, seed):
    """On nodes of Gauss–Legendre, against adaptive integrals."""
    f = smooth(seed)
    log_g = FORMS[form](f(NODES))
    Z = oracle.volume(lambda x: oracle.positive(form, f(x)), EDGES)
    # softplus is an integral within the integral, known to 1e-11
    agree(D.log_Z(log_g, WEIGHTS), math.log(Z), rtol=1e-10, atol=1e-10)
    p = np.exp(D.normalise(log_g, WEIGHTS))
    agree(p[::40], [oracle.positive(form, v) / Z for v in f(NODES[::40])], rtol=1e-9)
    agree(WEIGHTS @ p, 1, rtol=1e-12)


@pytest.mark.equation("energy.normalise")
@SOME
@given(seeds, st.lists(st.integers(1, 3), min_size=1, max_size=3))
def test_over_all_states_the_weights_are_one(seed, sizes):
    table = np.random.default_rng(seed).uniform(-30, 30, sizes)
    Z = oracle.total(lambda state: math.exp(table[state]), sizes)
    agree(D.log_Z(table.ravel()), math.log(Z), rtol=1e-13, atol=1e-13)
    states = list(itertools.product(*map(range, sizes)))
    agree(np.exp(D.normalise(table.ravel())), [math.exp(table[s]) / Z for s in states], rtol=1e-12)
    agree(D.log_Z(table.ravel(), 0.25), math.log(Z / 4), rtol=1e-13, atol=1e-13)


@pytest.mark.equation("energy.normalise")
def test_volumes_of_the_known_laws():
    """√(2πσ²) and 1/λ: normalised on nodes, the Gaussian and the exponential law of the library and of scipy."""
    x, w = panel_nodes(np.linspace(-12, 14, 53))
    log_g = -((x - 1.5) ** 2) / (2 * 0.8**2)
    agree(D.log_Z(log_g, w), 0.5 * np.log(2 * np.pi * 0.8**2), rtol=1e-13)
    agree(D.normalise(log_g, w), stats.norm.logpdf(x, 1.5, 0.8), rtol=1e-12, atol=1e-12)
    agree(D.normalise(log_g, w), lifted(gaussian).log_prob(x, 1.5, 2 * math.log(0.8)), rtol=1e-12, atol=1e-12)
    x, w = panel_nodes(np.linspace(0, 24, 25))
    agree(D.log_Z(-1.7 * x, w), -np.log(1.7), rtol=1e-12, atol=1e-12)
    agree(D.normalise(-1.7 * x, w), stats.expon.logpdf(x, scale=1 / 1.7), rtol=1e-12, atol=1e-12)
    agree(D.normalise(-1.7 * x, w), lifted(exponential).log_prob(x, math.log(1.7)), rtol=1e-12, atol=1e-12)


@pytest.mark.equation("energy.normalise")
def test_a_constant_changes_nothing_but_Z():
    """Also one that e^f could not hold."""
    log_g = points(1, 2, 40).reshape(2, 40)
    agree(D.normalise(log_g + 5000, 0.1), D.normalise(log_g, 0.1), rtol=1e-11, atol=1e-11)
    agree(D.log_Z(log_g - 5000, 0.1), D.log_Z(log_g, 0.1) - 5000, rtol=1e-14)
    agree(D.normalise(np.array([0.0, -np.inf, 0.0])), [-np.log(2), -np.inf, -np.log(2)], rtol=1e-15)


# --- (3), (4): exponential families -------------------------------------------------------------------------------

SHAPE = 2.5
COUNTS = np.arange(120.0)
FAMILIES = {
    # statistics T(x), log h(x), points, weights, draws of θ, scipy's law
    "normal": (lambda x: np.stack([x, x**2], -1), lambda x: 0 * x, *panel_nodes(np.linspace(-30, 30, 91)),
               lambda u, v: (u / (0.5 + v) ** 2, -0.5 / (0.5 + v) ** 2), lambda u, v: stats.norm(u, 0.5 + v).logpdf),
    "exponential": (lambda x: x[..., None], lambda x: 0 * x, *panel_nodes(np.linspace(0, 90, 181)),
                    lambda u, v: (-0.5 - v,), lambda u, v: stats.expon(scale=1 / (0.5 + v)).logpdf),
    "gamma": (lambda x: x[..., None], lambda x: (SHAPE - 1) * np.log(x), *panel_nodes(np.linspace(0, 3, 200) ** 4),
              lambda u, v: (-0.5 - v,), lambda u, v: stats.gamma(SHAPE, scale=1 / (0.5 + v)).logpdf),
    "poisson": (lambda x: x[..., None], lambda x: -special.gammaln(x + 1), COUNTS, 1.0,
                lambda u, v: (u,), lambda u, v: stats.poisson(np.exp(u)).logpmf),
    "bernoulli": (lambda x: x[..., None], lambda x: 0 * x, COUNTS[:2], 1.0,
                  lambda u, v: (u,), lambda u, v: stats.bernoulli(1 / (1 + np.exp(-u))).logpmf),
}  # fmt: skip
families = st.sampled_from(sorted(FAMILIES))


@pytest.mark.equation("energy.exponential_family")
@SOME
@given(families, floats(-2, 2), floats(0, 1))
def test_families_are_scipys_laws(name, u, v):
    T, log_h, x, w, natural, law = FAMILIES[name]
    theta = np.array(natural(u, v))
    A = D.log_partition(theta, T(x), log_h(x), w)
    some = x[:: max(1, len(x) // 50)]
    some = some[law(u, v)(some) > -300]
    got = D.exponential_family(theta, T(some), log_h(some), A)
    # up to 300 and A, from terms up to a few thousand; a volume of 24 nodes a panel has all but two digits
    agree(got, law(u, v)(some), rtol=1e-11, atol=1e-11)


@pytest.mark.equation("energy.exponential_family", "energy.family_gradient")
@FEW
@given(seeds)
def test_any_statistics_make_a_family(seed):
    """The volume by adaptive quadrature; its slope and its bend by finite differences; E T and its slope from here."""
    a, b = np.random.default_rng(seed).uniform(0.5, 2, 2)
    theta = np.random.default_rng(seed + 1).uniform(-1.5, 1.5, 2)

    def T(x):
        return np.stack([np.sin(a * x), np.cos(b * x) * x], axis=-1)

    def log_h(x):
        return -np.cosh(x)

    def A(theta):
        return oracle.log_volume(theta, lambda x: (math.sin(a * x), math.cos(b * x) * x),
                                 lambda x: math.exp(-math.cosh(x)), [-3, 0, 3])  # fmt: skip

    args = T(NODES), log_h(NODES), WEIGHTS
    agree(D.log_partition(theta, *args), A(theta), rtol=1e-12, atol=1e-12)
    # central differences, extrapolated: ten digits of the slope, eight of the bend
    agree(D.family_gradient(theta, *args), oracle.slope(A, theta), rtol=1e-9, atol=1e-9)
    variable = sg.tensor(up(theta))
    (slope,) = sg.gradients(module.log_partition(variable, *up(list(args))), [variable])
    agree(D.family_gradient(theta, *args), slope, rtol=1e-12, atol=1e-13)
    bend = lifted(sg.jacobian(lambda t: module.family_gradient(t, *up(list(args)))))(theta)
    agree(bend, oracle.bend(A, theta), rtol=1e-7, atol=1e-7)
    p = WEIGHTS * np.exp(D.exponential_family(theta, T(NODES), log_h(NODES), A(theta)))
    agree(bend, np.cov(T(NODES).T, aweights=p / p.sum(), bias=True), rtol=1e-10, atol=1e-11)


@pytest.mark.equation("energy.exponential_family", "energy.family_gradient")
def test_without_weights_each_point_is_a_state():
    """How many of 5 coins show 1, h the ways to do so: A(θ) = 5·log(1 + e^θ), and the mean is the binomial law's."""
    T, log_h, theta = np.arange(6.0)[:, None], np.log(special.binom(5, np.arange(6))), np.array([[-1.5], [0.4]])
    agree(D.log_partition(theta, T, log_h), 5 * np.log1p(np.exp(theta[:, 0])), rtol=1e-13)
    agree(D.family_gradient(theta, T, log_h), stats.binom(5, special.expit(theta)).mean(), rtol=1e-13)


@pytest.mark.equation("energy.family_gradient")
@SOME
@given(families, floats(-2, 2), floats(0, 1))
def test_mean_statistics_are_scipys_means(name, u, v):
    T, log_h, x, w, natural, law = FAMILIES[name]
    got = D.family_gradient(np.array(natural(u, v)), T(x), log_h(x), w)
    frozen = law(u, v).__self__
    want = [frozen.mean(), frozen.var() + frozen.mean() ** 2][: len(got)]
    agree(got, want, rtol=1e-11, atol=1e-12)


@pytest.mark.equation("energy.exponential_family", "energy.family_gradient")
def test_several_parameters_at_once():
    theta = points(4, 6, 2).reshape(3, 2, 2)
    args = points(5, 9, 2), points(6, 9, 1)[:, 0], np.linspace(0.5, 1, 9)
    A, mean = D.log_partition(theta, *args), D.family_gradient(theta, *args)
    log_p = D.exponential_family(theta, *args[:2], A)
    assert A.shape == (3, 2) and mean.shape == (3, 2, 2) and log_p.shape == (3, 2, 9)
    for i in np.ndindex(3, 2):
        agree(A[i], D.log_partition(theta[i], *args), rtol=1e-13, atol=1e-14)
        agree(mean[i], D.family_gradient(theta[i], *args), rtol=1e-13, atol=1e-14)
        agree(log_p[i], D.exponential_family(theta[i], *args[:2], float(A[i])), rtol=1e-13, atol=1e-13)
    agree(np.exp(log_p) @ args[2], np.ones((3, 2)), rtol=1e-13)


# --- all ----------------------------------------------------------------------------------------------------------


@pytest.mark.equation("energy.positive", "energy.normalise", "energy.exponential_family", "energy.family_gradient",
                      "energy.product", "energy.mixture")  # fmt: skip
def test_gradients():
    noise = np.random.default_rng(2)
    f, w, T, log_h = noise.uniform(0.5, 2, (2, 5)), noise.uniform(0.5, 1, 5), noise.normal(size=(5, 3)), noise.normal(
        size=5)  # fmt: skip
    theta, A = noise.normal(size=(2, 3)), noise.normal(size=2)
    with sg.backend("numpy"):
        for form in (module.log_square, module.log_exponential, module.log_absolute, module.log_softplus):
            sg.check_grads(form, (f,), order=2)
            sg.check_grads(form, (-f,), order=2)
        sg.check_grads(module.log_softplus, (-f - 21,), order=2)
        sg.check_grads(module.log_Z, (f, w), order=2)
        sg.check_grads(module.normalise, (f, w), order=2)
        sg.check_grads(module.log_partition, (theta, T, log_h, w), order=2)
        sg.check_grads(module.exponential_family, (theta, T, log_h, A), order=2)
        sg.check_grads(module.family_gradient, (theta, T, log_h, w), order=2)
        sg.check_grads(module.mixture, (w, f), order=2)
        sg.check_grads(lambda x, y: module.product([lambda x: -x * x, lambda y, x: -x * y**3], [x, y]), tuple(f),
                       order=2)  # fmt: skip


@pytest.mark.equation("energy.positive", "energy.normalise", "energy.exponential_family", "energy.family_gradient",
                      "energy.product", "energy.mixture")  # fmt: skip
def test_float32_in_float32_out():
    """A handful of float32 roundings of numbers up to ten."""
    args = [a.astype("float32") for a in (points(1, 3, 2), points(2, 9, 2), points(3, 9, 1)[:, 0], np.full(9, 0.25))]
    theta, T, log_h, w = args
    calls = [(form, (theta,)) for form in FORMS.values()] + [
        (D.log_Z, (T.T.copy(), w)), (D.normalise, (T.T.copy(), w)), (D.normalise, (T, 0.5)),
        (D.log_partition, (theta, T, log_h, w)), (D.exponential_family, (theta, T, log_h, theta[:, 0])),
        (D.family_gradient, (theta, T, log_h, w)), (D.mixture, (w[:2], T)),
        (lambda x, y: D.product([lambda x: x, lambda y, x: x * y], [x, y]), (w, log_h)),
    ]  # fmt: skip
    for f, inputs in calls:
        found = f(*inputs)
        assert found.dtype == np.float32
        exact = f(*[a.astype("float64") if isinstance(a, np.ndarray) else a for a in inputs])
        agree(found, exact, rtol=2e-6, atol=3e-6)


def test_misfits_are_refused():
    log_g, theta, T, log_h = (up(np.zeros(shape)) for shape in [(2, 3), (2, 4), (3, 4), (3,)])
    for shape in ((2,), (4,), (1,), (1, 3)):
        with pytest.raises(ValueError, match=r"energy.log_Z: weights .* do not fit log_g \(2, 3\)"):
            module.normalise(log_g, up(np.ones(shape)))
    with pytest.raises(ValueError, match="no axes"):
        module.log_Z(up(np.zeros(())))
    with pytest.raises(ValueError, match=r"theta \(2, 3\), T \(3, 4\), log_h \(3,\) should be \(…, K\), \(N, K\)"):
        module.log_partition(log_g, T, log_h)
    with pytest.raises(ValueError, match=r"A \(3,\) should have the shape of theta without its last axis, \(2,\)"):
        module.exponential_family(theta, T, log_h, log_h)
    misfits = ((3, 5), (3,)), ((3, 3), (3,)), ((3, 4), (2,)), ((3, 4), (4,)), ((4,), ()), ((1, 4, 3), (1,))
    for shape_T, shape_h in misfits:
        with pytest.raises(ValueError, match=r"should be \(…, K\), \(N, K\)"):
            module.log_partition(theta, up(np.zeros(shape_T)), up(np.zeros(shape_h)))
    with pytest.raises(ValueError, match=r"should be \(…, K\), \(N, K\)"):
        module.log_partition(log_h[0], log_h, log_h)
    for parts, variables in ((1, 2), (2, 1), (0, 0)):
        with pytest.raises(ValueError, match=f"{parts} parts for {variables} variables"):
            module.product([lambda x, *_: x] * parts, [log_h] * variables)
    with pytest.raises(ValueError, match=r"part \(2, 3\) should have the shape of the first part, \(3,\)"):
        module.product([lambda x: x, lambda y, x: y], [log_h, log_g])
    for shape in ((2,), (4,), (1,), (), (2, 3), (1, 3)):
        with pytest.raises(ValueError, match=r"log_alpha .* does not fit log_parts \(2, 3\)"):
            module.mixture(up(np.zeros(shape)), log_g)
    with pytest.raises(ValueError, match=r"log_alpha \(\) does not fit log_parts \(\)"):
        module.mixture(up(np.zeros(())), up(np.zeros(())))
    for weights in (0, 0.0, -1.0, float("nan")):
        with pytest.raises(ValueError, match=rf"energy.log_Z: weights {weights} should be positive"):
            module.normalise(log_g, weights)
        with pytest.raises(ValueError, match=rf"energy.family_gradient: weights {weights} should be positive"):
            module.family_gradient(theta, T, log_h, weights)
