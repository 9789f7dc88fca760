"""A DDPM's bound on its likelihood, and its configuration."""

import math
from dataclasses import FrozenInstanceError

import numpy as np
import pytest
from ddpm_tools import TINY, UNET, _on, betas_of, images, make
from diffusion_tools import close, normal
from evidence import agree, apart, at_most, down, host, lowered

from reference import bound as B
from reference import diffusion as chain
from reference import samplers as R
from scratchgen.data import digits
from scratchgen.models.diffusion import DDPM, DDPMConfig, bound
from scratchgen.models.system import Player, System
from scratchgen.random import Generator

# --- the bound ----------------------------------------------------------------------------------------------


class Affine(DDPM):
    """A system in one pixel with ε_θ(x, t) = e_t·x + f_t: a linear-Gaussian model, whose evidence is exact."""

    e, f = np.random.default_rng(0).standard_normal((2, 5)) * 0.5

    def eps_theta(self, xt, t):
        pick = lambda row, t: row[t].reshape(-1, 1, 1, 1)  # noqa: E731
        return lowered(lambda x, t: pick(self.e, t) * x + pick(self.f, t))(xt, t)


@pytest.mark.equation("diffusion.elbo")
@pytest.mark.parametrize("sigma", ["beta", "beta_tilde"])
def test_the_elbo_of_a_linear_gaussian_system(sigma):
    """20,000 independent draws against the exact bound, within 6 standard errors (α = 2·10⁻⁹); and ≤ log p."""
    system = Affine(DDPMConfig(T=4, shape=(1, 1, 1), levels=None, sigma=sigma, unet=UNET), rng=Generator(0))
    beta, n, x0 = betas_of(system), 20_000, 0.6
    mean = lambda x, t: R.mean_from_eps(x, system.e[t] * x + system.f[t], t, beta)[0]  # noqa: E731
    b = np.array([mean(np.zeros(1), t) for t in (1, 2, 3, 4)])
    a = np.array([mean(np.ones(1), t) for t in (1, 2, 3, 4)]) - b
    s = np.sqrt(beta if sigma == "beta" else [R.beta_tilde(beta, max(t, 2)) for t in (1, 2, 3, 4)])
    found = down(system.elbo(_on(np.full((n, 1, 1, 1), x0)), Generator(1)))
    assert found.elbo.shape == found.prior.shape == found.reconstruction.shape == (n,)
    assert found.transitions.shape == (n, 3)
    error = found.elbo.std() / math.sqrt(n)
    exact = -B.bound_direct(x0, beta, a, b, s)
    agree(found.elbo.mean(), exact, 0, 6 * error)
    at_most(exact - float(B.evidence(x0, a, b, s)), 0.0)
    terms = B.bound_by_kl(x0, beta, a, b, s)
    for column, expected in zip(found.transitions.T, terms.steps, strict=True):
        agree(column.mean(), expected, 0, 6 * column.std() / math.sqrt(n))
    # a negative control with power: the bound of a chain one step shorter is far outside of the interval
    apart(-B.bound_direct(x0, beta[:3], a[:3], b[:3], s[:3]), exact, 12 * error)


@pytest.mark.equation("diffusion.elbo", "diffusion.transition_term")
def test_the_elbo_is_the_sum_of_its_terms(xp):
    model, x0 = make(), images(3)
    rng = Generator(2)
    state = rng.state()
    found = model.elbo(x0, rng)
    parts = [host(part) for part in found]
    close(parts[0], -(parts[1] + parts[2].sum(axis=1) + parts[3]))
    assert parts[2].shape == (3, 5)
    at_most(0.0, parts[1])
    at_most(0.0, parts[2])
    at_most(0.0, parts[3])  # a probability of grey levels is at most 1
    close(found.bits_per_dim(16), -parts[0] / 16 / math.log(2))
    again, net = Generator.from_state(state), model.frozen()
    beta = betas_of(model)
    for t in range(1, 7):
        eps = host(again.standard_normal(x0.shape, np.float64))
        xt = R.noised_input(host(x0), eps, t, beta)
        guess = host(net.eps_theta(_on(xt), _on(np.array([t] * 3))))
        if t > 1:
            var = float(host(model.var)[t])
            p_mean = R.mean_from_eps(xt, guess, t, beta)
            for b in range(3):
                q_mean, q_cov = chain.posterior(beta, t, host(x0)[b].ravel(), xt[b].ravel())
                q_var = q_cov[0, 0]
                distance = ((q_mean - p_mean[b].ravel()) ** 2).sum()
                kl = 8 * (q_var / var - 1 - math.log(q_var / var)) + distance / (2 * var)
                agree(parts[2][b, t - 2], kl, 1e-8, 1e-8)


def test_one_step_and_continuous_data():
    model = make(T=1, levels=None)
    found = model.elbo(images(2), Generator(0))
    assert found.transitions.shape == (2, 0)
    close(found.elbo, -(found.prior + found.reconstruction))
    assert host(list(model.denoise(2, Generator(0), _on(normal(0, 2, 4, 4, 1))))[-1]).shape == (2, 4, 4, 1)


# --- a system -----------------------------------------------------------------------------------------------


def test_a_system_has_one_player_by_default():
    model = make()
    (player,) = model.players()
    assert type(player) is Player
    assert player.name == "model"
    assert player.steps == 1
    assert list(player.parameters) == [n for n, _ in model.named_parameters()]
    assert player.loss == model.loss
    with pytest.raises(NotImplementedError, match="System has no loss"):
        System().loss(None, None)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"schedule": "square"}, "'square' is not one of linear, cosine"),
        ({"sigma": "one"}, "'one' is neither"),
    ],
)
def test_a_wrong_setting_is_told(settings, says):
    with pytest.raises(ValueError, match=says):
        DDPM(DDPMConfig(**{**TINY, **settings}), rng=Generator(0))


@pytest.mark.parametrize("T", [0, -1])
def test_a_chain_without_steps_is_refused(T):
    with pytest.raises(ValueError, match=f"T must be at least 1, not {T}"):
        DDPMConfig(T=T)


def test_the_default_configuration_is_that_of_the_digits():
    config, dataset = DDPMConfig(), digits()
    assert config.shape == dataset.shape
    assert config.levels == dataset.levels
    with pytest.raises(FrozenInstanceError):
        config.T = 3


def test_the_default_configuration_is_consistent():
    model = DDPM(DDPMConfig(), rng=Generator(0))
    assert model.schedule.T == 120
    close(model.var[2:], [bound.beta_tilde(model.schedule.at(t, np.zeros(1))) for t in range(2, 121)])
    assert 2e5 < model.size() < 2e6
