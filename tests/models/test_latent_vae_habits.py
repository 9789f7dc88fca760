"""Habits of public code with a VAE's loss: each would be seen."""

import numpy as np
import pytest
from evidence import agree, apart
from latent_tools import normal, repeated
from latent_vae_tools import TIGHT, Linear, V

from scratchgen.models.latent import vae
from scratchgen.models.latent.vae import Gaussian

# --- habits of public code: each would be seen --------------------------------------------------------------


@pytest.mark.equation("vae.latent", "vae.loss")
def test_habit_the_latent_is_drawn_with_the_variance_as_its_deviation():
    """z = μ + exp(log σ²)·ε: another deviation, and a loss that is no bound of anything."""
    model = Linear(1, 2, 2)
    q = Gaussian(np.zeros((3, 2)), np.log(np.full((3, 2), 0.25)))
    agree(V.latent(None, q, np.ones((3, 2))), np.full((3, 2), 0.5))
    apart(q.mu + np.exp(q.log_var), V.latent(None, q, np.ones((3, 2))), 0.2)

    def slip(row):
        V_, b, log_q, W, c, log_v = model.split(row)
        x = repeated(model.x, len(model.eps))
        z = x @ V_.T + b + np.exp(log_q) * model.eps
        log_var = np.tile(log_q, (len(z), 1))
        decoded = Gaussian(z @ W.T + c, log_v[None])
        return model.weights @ V.negative_elbo(x, decoded, x @ V_.T + b, log_var, vae.gaussian_decoder).loss

    agree(model.expected(model.parameters)[0], -model.exact(model.parameters), **TIGHT)
    apart(slip(model.parameters), -model.exact(model.parameters), 0.01)


@pytest.mark.equation("vae.loss")
def test_habit_the_half_of_the_divergence_is_dropped():
    """‖μ‖² + Σ (σ² − log σ² − 1) is β = 2 in disguise."""
    model = Linear(2, 3, 2)
    loss, reconstruction, kl = model.expected(model.parameters)
    agree(loss, -model.exact(model.parameters), **TIGHT)
    apart(reconstruction + 2 * kl, -model.exact(model.parameters), 0.1)
    agree(reconstruction + 2 * kl, model.expected(model.parameters, beta=2.0)[0], **TIGHT)


@pytest.mark.equation("vae.loss")
def test_habit_one_term_is_a_sum_and_the_other_a_mean():
    """The error averaged over pixels, the divergence summed over latents: β = number of pixels in disguise."""
    model = Linear(3, 3, 2)
    loss, reconstruction, kl = model.expected(model.parameters)
    agree(loss, -model.exact(model.parameters), **TIGHT)
    apart(reconstruction / 3 + kl, -model.exact(model.parameters), 0.1)
    agree(3 * (reconstruction / 3 + kl), model.expected(model.parameters, beta=3.0)[0], **TIGHT)


@pytest.mark.equation("vae.loss")
def test_habit_the_batch_is_summed():
    """The loss of an example does not know who else is in the batch, so the mean over a batch does not grow with it."""
    x, mean, mu, log_var = normal(4, 4, 5, 3)
    whole = V.negative_elbo(x, Gaussian(mean, 0.0), mu, log_var, vae.gaussian_decoder)
    for i in range(5):
        one = V.negative_elbo(
            x[i : i + 1], Gaussian(mean[i : i + 1], 0.0), mu[i : i + 1], log_var[i : i + 1], vae.gaussian_decoder
        )
        agree([term[0] for term in one], [term[i] for term in whole], 1e-14, 1e-14)
    apart(whole.loss.sum(), whole.loss.mean(), 1.0)
