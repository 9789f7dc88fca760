"""The likelihood along the probability flow against the mixture's own density, and its gradient against the score."""

import numpy as np
import pytest
from evidence import agree, apart, lifted, up
from sandbox_tools import mixture, on_backend, points

import scratchgen as sg
from reference import denoisers as E
from scratchgen import ops
from scratchgen.models.score import sde, solvers

R = lifted(sde)
KINDS = [sde.VP(0.1, 6.0), sde.SubVP(0.1, 6.0), sde.VE(0.1, 3.0)]


@pytest.mark.equation("sde.log_likelihood")
@pytest.mark.parametrize("equation", KINDS, ids=lambda e: type(e).__name__)
def test_the_flows_likelihood_is_the_mixtures(equation):
    """log p_0 by the flow and log p of the mixture by scipy: what is left is RK4's error, of about fourth order."""
    data, x = mixture(11, 2, 2), points(12, 4, 2, 2)
    m, expected = on_backend(data), E.log_prob(data, x)
    score, prior = m.score_theta(equation), m.noisy(*equation.marginal(1.0)).log_prob
    found = {n: R.log_likelihood(equation, score, x, prior, n) for n in (10, 20, 40)}
    errors = [np.abs(found[n] - expected).max() for n in (10, 20, 40)]
    agree(found[40], expected, 0, 2e-6)
    assert np.log2(errors[0] / errors[2]) / 2 > 3
    apart(2 * lifted(prior)(x) - found[40], expected, 1e-2)


@pytest.mark.equation("sde.log_likelihood")
def test_the_likelihoods_gradient_is_the_score():
    """∇ of the flow's log p_0, through 40 steps and a trace in each: derivatives inside derivatives."""
    data, equation, x = mixture(13, 2, 2), sde.VP(0.1, 3.0), points(14, 3, 2, 1.5)
    m = on_backend(data)
    score, prior = m.score_theta(equation), m.noisy(*equation.marginal(1.0)).log_prob
    f = lambda x: ops.sum(sde.log_likelihood(equation, score, x, prior, 25))  # noqa: E731
    agree(lifted(sg.grad(f))(x), [E.score(p, data, 1.0, 0.0) for p in x], 0, 2e-4)


@pytest.mark.equation("sde.log_likelihood")
def test_between_two_times_and_with_other_steps():
    """log p_t0 for t0 > 0, with Heun's step, is that of the noised mixture."""
    data, equation, x = mixture(15, 2, 2), sde.SubVP(0.1, 4.0), points(16, 3, 2, 1.5)
    m = on_backend(data)
    prior = m.noisy(*equation.marginal(0.8)).log_prob
    found = R.log_likelihood(equation, m.score_theta(equation), x, prior, 60, 0.3, 0.8, solvers.heun)
    level = (float(c) for c in lifted(equation.marginal)(0.3))
    agree(found, E.log_prob(E.noisy(data, *level), x), 0, 1e-3)


@pytest.mark.equation("sde.log_likelihood")
def test_estimated_traces_average_to_the_exact_one():
    """One probe for all times: the average over all sign vectors is the likelihood itself, for any score."""
    equation, x = sde.VP(0.1, 3.0), points(17, 2, 2)
    m = on_backend(mixture(18, 2, 2))
    score, prior = m.score_theta(equation), m.noisy(*equation.marginal(1.0)).log_prob
    exact = R.log_likelihood(equation, score, x, prior, 10)
    signs = [np.broadcast_to(v, x.shape).copy() for v in ([1.0, 1.0], [1.0, -1.0])]
    each = [R.log_likelihood(equation, score, x, prior, 10, probe=v) for v in signs]
    agree(np.mean(each, axis=0), exact, 1e-12, 1e-12)
    apart(each[0], exact, 1e-4)


@pytest.mark.equation("sde.log_likelihood")
def test_images_and_float32():
    data, equation, x = mixture(19, 2, 4), sde.VP(0.1, 3.0), points(20, 3, 4, 1.5)
    m, m32 = on_backend(data), on_backend(data, "float32")
    plain = R.log_likelihood(equation, m.score_theta(equation), x, lambda x: x[:, 0], 10)
    flat = lambda x: ops.reshape(x, (3, 4))  # noqa: E731
    image = R.log_likelihood(equation, lambda x, t: ops.reshape(m.score_theta(equation)(flat(x), t), (3, 2, 2, 1)),
                             x.reshape(3, 2, 2, 1), lambda x: flat(x)[:, 0], 10)  # fmt: skip
    agree(image, plain, 1e-13, 1e-13)
    single = R.log_likelihood(equation, m32.score_theta(equation), x.astype("float32"), lambda x: x[:, 0], 10)
    assert single.dtype == np.float32
    agree(single, plain, 1e-4, 1e-4)


def test_no_steps_are_refused():
    x = up(np.zeros((2, 2)))
    with pytest.raises(ValueError, match="0 steps"):
        sde.log_likelihood(sde.VP(), lambda x, t: x, x, lambda x: x[:, 0], 0)
