"""The variational bound in linear-Gaussian models, where its terms, and the evidence, are known exactly.

An affine ε_θ is an affine reverse mean.  The terms are quadratic in the noisy images, so that Gauss–Hermite sums
of order 3 give their expectations exactly.
"""

import math

import numpy as np
import pytest
from diffusion_tools import FEW, SOME, alpha_for_alpha_bar, betas, close, normal, schedule_of, seeds
from evidence import agree, apart, at_most, host, lifted, up
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

import scratchgen as sg
from reference import bound as B
from reference import diffusion as chain
from reference import samplers as R
from reference.derivatives import complex_step
from reference.distributions import discretised_gaussian_log_prob
from reference.quadrature import gaussian_nodes
from scratchgen.models.diffusion import bound as on_backend
from scratchgen.models.diffusion import process

bound = lifted(on_backend)
VARIANCES = st.sampled_from(["beta", "beta_tilde"])


class Model:
    """ε_θ(x, t) = e_t·x + f_t, as the library takes it, and the reverse chain a, b, s that it means."""

    def __init__(self, beta, seed, variance):
        self.beta, self.T, self.schedule = beta, len(beta), schedule_of(beta)
        self.e, self.f = normal(seed, 2, self.T + 1) * 0.5
        self.var = bound.reverse_variance(self.schedule, variance)
        tilde = [R.beta_tilde(beta, t) for t in range(1, self.T + 1)]
        tilde[0] = tilde[min(1, self.T - 1)] or beta[0]
        self.s = np.sqrt(beta if variance == "beta" else tilde)
        zero, one = np.zeros(1), np.ones(1)
        mean = lambda x, t: R.mean_from_eps(x, self.e[t] * x + self.f[t], t, beta)[0]  # noqa: E731
        self.b = np.array([mean(zero, t) for t in range(1, self.T + 1)])
        self.a = np.array([mean(one, t) for t in range(1, self.T + 1)]) - self.b

    def eps(self, x, t):
        return self.e[t] * x + self.f[t]

    def exact(self, form, x0):
        return form(x0, self.beta, self.a, self.b, self.s)

    def joint(self, x0, times):
        mean, cov = chain.forward_joint(self.beta, [x0], [[0.0]])
        nodes, weights = gaussian_nodes(mean[times], cov[np.ix_(times, times)], 3)
        return nodes.T[:, :, None], weights  # one (n, 1) per time

    def by_kl(self, x0):
        """Every expected term of eq. (1), from the library's functions."""
        first = np.array([[x0]])
        prior = bound.prior_term(self.schedule, first)[0]
        steps = []
        for t in range(2, self.T + 1):
            (xt,), w = self.joint(x0, [t])
            known = np.full_like(xt, x0)
            steps.append(w @ bound.transition_term(self.schedule, known, xt, self.eps(xt, t), t, self.var))
        (x1,), w = self.joint(x0, [1])
        known = np.full_like(x1, x0)
        last = bound.reconstruction_term(self.schedule, known, x1, self.eps(x1, 1), self.var, None)
        return B.Bound(prior, steps, w @ last)

    def by_neighbours(self, x0):
        """Every expected term of eq. (5)."""
        (before,), w = self.joint(x0, [self.T - 1])
        prior = w @ bound.last_step_term(self.schedule, before)
        steps = []
        for t in range(1, self.T):
            (a, b, c), w = self.joint(x0, [t - 1, t, t + 1])
            term = bound.neighbour_term(self.schedule, a, b, c, self.eps(c, t + 1), t, self.var)
            steps.append(w @ term)
        return B.Bound(prior, steps, self.by_kl(x0).reconstruction)


models = st.builds(Model, betas(least=1, most=5), seeds, VARIANCES)


@pytest.mark.equation(
    "diffusion.elbo", "diffusion.prior_term", "diffusion.transition_term", "diffusion.reconstruction_term"
)
@FEW
@given(models, st.floats(-1.5, 1.5))
def test_every_term_by_quadrature(model, x0):
    found, expected = model.by_kl(x0), model.exact(B.bound_by_kl, x0)
    close([found.prior, *found.steps, found.reconstruction],
          [expected.prior, *expected.steps, expected.reconstruction], 1e-8, 1e-8)  # fmt: skip
    at_most(0.0, [found.prior, *found.steps])  # divergences


@pytest.mark.equation("diffusion.elbo_neighbours")
@FEW
@given(models, st.floats(-1.5, 1.5))
def test_every_term_of_the_neighbours_form(model, x0):
    found, expected = model.by_neighbours(x0), model.exact(B.bound_by_neighbours, x0)
    close([found.prior, *found.steps], [expected.prior, *expected.steps], 1e-8, 1e-8)


@pytest.mark.equation("diffusion.elbo", "diffusion.elbo_neighbours")
@SOME
@given(models, st.floats(-1.5, 1.5))
def test_both_forms_are_one_bound(model, x0):
    """(1) = (5) = the definition, undecomposed, and none of them under −log p(x_0)."""
    one, other = model.by_kl(x0).total, model.by_neighbours(x0).total
    direct = model.exact(B.bound_direct, x0)
    close([one, other], [direct, direct], 1e-8, 1e-8)
    evidence = float(B.evidence(x0, model.a, model.b, model.s))
    at_most(-np.array([one, other]) - evidence, 1e-8)


@pytest.mark.equation("diffusion.elbo", "diffusion.elbo_neighbours")
def test_the_bound_is_tight_for_the_chain_reversed():
    """Data N(0, 1) and ε of it: the reverse model with σ² = β is the forward chain, but for x_T, N(0, 1) in both."""
    model = Model(np.array([0.2, 0.3, 0.4]), 0, "beta")
    model.e = np.array([0.0, *(math.sqrt(1 - R.alpha_bar(model.beta, t)) for t in (1, 2, 3))])
    model.f = np.zeros(4)
    model.a, model.b = np.sqrt(1 - model.beta), np.zeros(3)
    for x0 in (-1.0, 0.3, 2.0):
        evidence = -float(B.evidence(x0, model.a, model.b, model.s))
        agree(model.by_kl(x0).total, evidence, 0, 1e-12)
        agree(model.by_neighbours(x0).total, evidence, 0, 1e-12)


def test_what_is_often_printed_for_the_neighbours_form_is_another_number():
    """Negative control: divergences in place of the expected log-ratios."""
    model = Model(np.array([0.2, 0.3, 0.4]), 1, "beta")
    wrong = model.exact(B.bound_by_neighbours_as_printed, 0.5).total
    apart(model.by_neighbours(0.5).total, wrong, 0.1)


@pytest.mark.equation("diffusion.reconstruction_term")
@FEW
@given(betas(most=4), seeds, st.sampled_from([2, 17, 256]), VARIANCES)
def test_reconstruction_of_grey_levels(beta, seed, levels, variance):
    schedule, noise = schedule_of(beta), np.random.default_rng(seed)
    x0 = noise.integers(0, levels, (2, 2, 2, 1)) / (levels - 1) * 2 - 1
    x1, eps = noise.standard_normal((2, *x0.shape))
    var = bound.reverse_variance(schedule, variance)
    found = bound.reconstruction_term(schedule, x0, x1, eps, var, levels)
    mean, sigma = R.mean_from_eps(x1, eps, 1, beta), math.sqrt(var[1])
    expected = -discretised_gaussian_log_prob(x0, mean, sigma, levels).sum(axis=(1, 2, 3))
    close(found, expected, 1e-8, 1e-8)
    at_most(0.0, found)  # a probability is at most 1


@pytest.mark.equation("diffusion.reconstruction_term")
def test_many_levels_approach_the_density():
    """−log(mass) = −log(density) − log(bin): L_0 of 2¹⁶ levels and of continuous data differ by the bin's width."""
    beta, levels = np.array([0.2, 0.3]), 2**16 + 1
    schedule, var = schedule_of(beta), bound.reverse_variance(schedule_of(beta), "beta")
    x0 = np.round(normal(0, 3, 4) * 0.2 * (levels - 1) / 2) / ((levels - 1) / 2)
    x1, eps = normal(1, 2, 3, 4)
    fine = bound.reconstruction_term(schedule, x0, x1, eps, var, levels)
    smooth = bound.reconstruction_term(schedule, x0, x1, eps, var, None)
    close(fine, smooth - 4 * math.log(2 / (levels - 1)), 0, 1e-6)


@pytest.mark.equation("diffusion.elbo")
def test_bits_per_dim():
    """64 fair coins cost 64 bits; their log-probability is 64·log ½."""
    log_p = -sum(stats.bernoulli(0.5).entropy() for _ in range(64))
    found = on_backend.Bound(np.array([log_p, 0.0]), None, None, None).bits_per_dim(64)
    close(found, [1.0, 0.0])


@pytest.mark.equation("diffusion.elbo")
@pytest.mark.parametrize("n", [0, 1, 3])
def test_the_bound_adds_its_terms(n, xp):
    """Term by term, in exact arithmetic: −(prior + transitions + reconstruction), transitions side by side."""
    prior, last, *steps = normal(0, n + 2, 4)
    found = on_backend.bound(*up((prior, list(steps), last)))
    assert found.transitions.shape == (4, n)
    expected = [-math.fsum([prior[b], last[b], *(step[b] for step in steps)]) for b in range(4)]
    close(found.elbo, expected, 1e-14, 1e-14)
    close(found.prior, prior, 0, 0)
    close(found.reconstruction, last, 0, 0)
    for t, step in enumerate(steps):
        close(host(found.transitions)[:, t], step, 0, 0)


# --- the weights of the noise -------------------------------------------------------------------------------


@pytest.mark.equation("diffusion.eps_weight")
@FEW
@given(betas(least=2, most=5), VARIANCES)
def test_weights_measured_by_quadrature(beta, variance):
    schedule = schedule_of(beta)
    var = bound.reverse_variance(schedule, variance)
    weight = bound.simple_weight(schedule, var)
    assert weight.shape == (len(beta) + 1,)
    assert weight[0] == 0
    for t in range(2, len(beta) + 1):
        agree(weight[t], chain.noise_weight(beta, t, var[t]), 1e-6)  # the divergences' digits lost in their difference


@pytest.mark.equation("diffusion.eps_weight", "ddpm.weighted")
@SOME
@given(betas(), seeds, VARIANCES)
def test_a_transition_is_its_weight_times_the_squared_error(beta, seed, variance):
    """KL(ε_θ) − KL(ε'_θ) = w_t(‖ε − ε_θ‖² − ‖ε − ε'_θ‖²), and the gradients agree; at t = 1 for continuous L_0."""
    schedule, T = schedule_of(beta), len(beta)
    x0, eps, guess, other = normal(seed, 4, 2, 3)
    var = bound.reverse_variance(schedule, variance)
    weight = bound.simple_weight(schedule, var)

    for t in range(1, T + 1):
        xt = lifted(process.q_sample)(schedule, x0, t, eps)

        def term(e, t=t, xt=xt):
            if t == 1:
                return bound.reconstruction_term(schedule, x0, xt, e, var, None)
            return bound.transition_term(schedule, x0, xt, e, t, var)

        error = lambda e: ((eps - e) ** 2).sum(axis=1)  # noqa: E731
        scale = 1e-10 * (1 + weight[t] * 20)
        close(term(guess) - term(other), weight[t] * (error(guess) - error(other)), 1e-8, 10 * scale)
        slope = lifted(sg.grad(lambda e, term=term: term(e).sum()))(guess)
        close(slope, 2 * weight[t] * (guess - eps), 1e-8, 10 * scale)


def test_wrong_weights_would_be_seen():
    """Negative controls: ᾱ for α, β̃ for β as σ², the ½ or a square left out."""
    beta, t = np.array([0.1, 0.2, 0.15, 0.3]), 3
    schedule = schedule_of(beta)
    beta_, tilde = (bound.reverse_variance(schedule, v) for v in ("beta", "beta_tilde"))
    right = chain.noise_weight(beta, t, beta_[t])
    close(bound.simple_weight(schedule, beta_)[t], right, 1e-6)
    b, a, n = (host(row)[t] for row in (schedule.beta, schedule.alpha, schedule.alpha_bar))
    n = 1 - n
    for wrong in (
        bound.simple_weight(alpha_for_alpha_bar(schedule), beta_)[t], bound.simple_weight(schedule, tilde)[t],
        bound.simple_weight(schedule, np.sqrt(beta_))[t], b * b / (beta_[t] * a * n), b / (2 * beta_[t] * a * n),
        bound.simple_weight(schedule, beta_)[t - 1],
    ):  # fmt: skip
        apart(wrong, right, 1e-3)


@pytest.mark.equation("diffusion.prior_term", "diffusion.transition_term")
def test_wrong_terms_would_be_seen():
    """Negative controls: the other divergence, another time, another variance, ᾱ for α."""
    model = Model(np.array([0.1, 0.2, 0.15, 0.3]), 2, "beta")
    schedule, x0, t = model.schedule, np.full((1, 1), 0.7), 3
    xt = np.full((1, 1), -0.4)
    mean, cov = chain.posterior(model.beta, t, x0[0], xt[0])
    q = stats.norm(mean[0], math.sqrt(cov[0, 0]))
    p = stats.norm(model.a[t - 1] * xt.item() + model.b[t - 1], model.s[t - 1])
    eps = model.eps(xt, t)
    right = [chain.kl_panels(q, p)]
    close(bound.transition_term(schedule, x0, xt, eps, t, model.var), right, 1e-8)
    apart([chain.kl_panels(p, q)], right, 1e-4)
    for wrong in (
        bound.transition_term(schedule, x0, xt, eps, t - 1, model.var),
        bound.transition_term(schedule, x0, xt, model.eps(xt, t - 1), t, model.var),
        bound.transition_term(schedule, x0, xt, eps, t, np.sqrt(model.var)),
        bound.transition_term(alpha_for_alpha_bar(schedule), x0, xt, eps, t, model.var),
    ):
        apart(wrong, right, 1e-4)
    prior = bound.prior_term(schedule, x0)
    means, covs = chain.forward_chain(model.beta, x0[0])
    close(prior, [chain.kl_panels(stats.norm(means[4, 0], math.sqrt(covs[4, 0, 0])), stats.norm(0, 1))], 1e-8)
    apart(bound.prior_term(alpha_for_alpha_bar(schedule), x0), prior, 1e-4)


def test_terms_on_both_backends_and_in_float32(xp):
    beta = np.linspace(0.01, 0.3, 4)
    x0 = np.round(normal(3, 2, 2, 2, 1) * 4) / 8
    arrays = [x0, *normal(4, 4, 2, 2, 2, 1)]
    with sg.backend("numpy"):
        on_numpy = terms(beta, *arrays)
    for found, expected in zip(terms(beta, *arrays), on_numpy, strict=True):
        assert found.shape == (2,)
        close(found, expected, 1e-12, 1e-12)
    for found, expected in zip(terms(beta, *(v.astype(np.float32) for v in arrays)), on_numpy, strict=True):
        assert found.dtype == np.float32
        close(found, expected, 1e-4, 1e-4)


def terms(beta, x0, a, b, c, eps):
    schedule = schedule_of(beta)
    var = on_backend.reverse_variance(schedule, "beta")
    return [
        bound.prior_term(schedule, x0), bound.transition_term(schedule, x0, a, eps, 3, var),
        bound.reconstruction_term(schedule, x0, a, eps, var, 17), bound.last_step_term(schedule, a),
        bound.reconstruction_term(schedule, x0, a, eps, var, None),
        bound.neighbour_term(schedule, a, b, c, eps, 2, var),
    ]  # fmt: skip


def test_gradients():
    """Of every term, in all that it is a function of, to the second order by central differences."""
    with sg.backend("numpy"):
        schedule = schedule_of(np.linspace(0.05, 0.3, 4))
        var = on_backend.reverse_variance(schedule, "beta_tilde")
        x0, a, b, c, eps = normal(5, 5, 2, 2) * 0.4
        f = on_backend
        sg.check_grads(lambda x0: f.prior_term(schedule, x0), (x0,), order=2)
        sg.check_grads(lambda x0, x, e: f.transition_term(schedule, x0, x, e, 3, var), (x0, a, eps), order=2)
        sg.check_grads(lambda x, e: f.reconstruction_term(schedule, x0, x, e, var, 17), (a, eps), order=2)
        sg.check_grads(lambda a, b, c, e: f.neighbour_term(schedule, a, b, c, e, 2, var), (a, b, c, eps), order=2)


# --- the variance of a reverse step ---------------------------------------------------------------------------


@pytest.mark.equation("diffusion.reverse_variance")
@SOME
@given(betas())
def test_reverse_variances(beta):
    """By t: β_t is the variance of a kernel, β̃_t that of x_{t−1} given both its ends; β̃_1 = 0 has β̃_2 in its place."""
    schedule, T = schedule_of(beta), len(beta)
    kernels = [chain.forward_chain(beta[t - 1 : t], [0.0])[1][1].item() for t in range(1, T + 1)]
    close(bound.reverse_variance(schedule, "beta"), [0.0, *kernels], 1e-15, 0)
    tilde = [chain.posterior(beta, t, [0.3], [-0.2])[1].item() for t in range(1, T + 1)]
    agree(tilde[0], 0.0, 0, 1e-15)
    tilde[0] = tilde[1] if T > 1 else beta[0]
    found = bound.reverse_variance(schedule, "beta_tilde")
    assert found.shape == (T + 1,)
    close(found[1:], tilde, 1e-12, 1e-13)  # the conditioning subtracts numbers up to 1
    assert np.all(found[1:] > 0)


@pytest.mark.parametrize("choice", ["alpha", "beta_hat", "gamma"])
def test_a_variance_of_another_name_is_refused(choice):
    with pytest.raises(ValueError, match=f"'{choice}' is neither"):
        bound.reverse_variance(schedule_of([0.1, 0.2]), choice)


@pytest.mark.equation("diffusion.reverse_variance")
@pytest.mark.parametrize("choice", ["beta", "beta_tilde"])
def test_reverse_variances_at_their_two_extremes(choice, xp):
    """β_t is the true reverse variance of N(0, 1) data, β̃_t that of a point: both by conditioning the whole chain."""
    beta = np.array([0.1, 0.3, 0.2])
    schedule = schedule_of(beta)
    found = on_backend.reverse_variance(schedule, choice)
    assert type(found) is type(xp.zeros(1))
    assert found.dtype == np.float64
    _, cov = chain.forward_joint(beta, [0.0], [[1.0 if choice == "beta" else 0.0]])
    for t in (2, 3):
        true = cov[t - 1, t - 1] - cov[t - 1, t] ** 2 / cov[t, t]
        close(host(found)[t], true, 1e-12, 0)


@pytest.mark.equation("diffusion.learnt_variance")
@SOME
@given(betas(least=2), seeds)
def test_a_learnt_variance_lies_between_its_ends(beta, seed):
    """0 is β̃, 1 is β, halfway their geometric mean, and equal steps of v are equal factors."""
    schedule, T = schedule_of(beta), len(beta)
    v = np.random.default_rng(seed).uniform(0, 1, (2, 3))
    for t in range(1, T + 1):
        upper = beta[t - 1]
        lower = chain.posterior(beta, max(t, 2), [0.0], [0.0])[1].item()
        at = lambda v, t=t: bound.learnt_variance(schedule, v, t)  # noqa: E731
        ends = at(np.array([[0.0, 1.0, 0.5]]))
        close(ends, [[lower, upper, math.sqrt(lower * upper)]], 1e-11, 0)  # β̃ by conditioning, see above
        found = at(v)
        close(found * at(1 - v), np.full(v.shape, lower * upper), 1e-11, 0)
        # a variance in between, by weighted powers (SciPy's geometric mean)
        expected = [[stats.gmean([upper, lower], weights=[w, 1 - w]) for w in row] for row in v]
        close(found, expected, 1e-11, 0)
        at_most(found / max(lower, upper) - 1, 1e-12)
        at_most(1 - found / min(lower, upper), 1e-12)


@pytest.mark.equation("diffusion.learnt_variance")
def test_the_gradient_of_a_learnt_variance(xp):
    """By the complex step on powers, σ² = β̃·(β/β̃)^v; each example with its own t; both orders by differences."""
    beta = np.array([0.1, 0.3, 0.2])
    schedule, v, t = schedule_of(beta), np.array([[0.2, 0.9], [0.6, 0.0], [0.3, 0.5]]), np.array([3, 1, 2])
    lower = np.array([chain.posterior(beta, max(k, 2), [0.0], [0.0])[1].item() for k in t])[:, None]
    upper = beta[t - 1][:, None]
    at = lambda v: on_backend.learnt_variance(schedule, v, up(t))  # noqa: E731
    agree(lifted(at)(v), lower * (upper / lower) ** v, 1e-12)
    slope = complex_step(lambda v: lower * (upper / lower) ** v, v, np.ones_like(v))
    agree(lifted(sg.grad(lambda v: at(v).sum()))(v), slope, 1e-12)
    narrow = lifted(at)(v.astype(np.float32))
    assert narrow.dtype == np.float32
    close(narrow, lower * (upper / lower) ** v, 1e-6, 0)
    apart(lifted(at)(1 - v), lower * (upper / lower) ** v, 1e-2)  # negative control: the ends swapped
    with sg.backend("numpy"):
        schedule = schedule_of(beta)
        sg.check_grads(lambda v: on_backend.learnt_variance(schedule, v, t), (v,), order=2)
