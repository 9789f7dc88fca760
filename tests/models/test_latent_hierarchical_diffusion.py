"""A diffusion is a hierarchy of latents: both bounds, sample by sample and in the mean."""

import numpy as np
import pytest
from diffusion_tools import betas
from evidence import agree, apart, at_most
from hierarchical_tools import D, Diffusion, H
from hypothesis import given
from hypothesis import strategies as st
from latent_tools import (
    FEW,
    SOME,
    floats,
    noises,
    normal,
    seeds,
)

from reference import bound as B
from reference import latent as oracle

# --- a diffusion is a hierarchy -----------------------------------------------------------------------------


diffusions = st.builds(Diffusion, betas(least=1, most=4), seeds, st.sampled_from(["beta", "beta_tilde"]))


@pytest.mark.equation("hvae.diffusion")
@SOME
@given(diffusions, seeds)
def test_both_bounds_of_a_diffusion_sample_by_sample(d, seed):
    """The very terms that the diffusion's own bound computes, on images, with whatever latents."""
    x, zs = normal(seed, 2, 3, 2, 1), list(normal([seed, 1], d.T, 2, 3, 2, 1))
    model, chain = d.hierarchy(x), [x, *zs]
    kl, neighbours = H.elbo_kl(model, x, zs), H.elbo_neighbours(model, x, zs)
    # β ≥ 10⁻³ leaves 13 digits of 1 − ᾱ, and 1/β makes terms of 10⁴
    near = {"rtol": 1e-9, "atol": 1e-9}
    agree(kl.prior, D.prior_term(d.schedule, x), **near)
    agree(neighbours.prior, D.last_step_term(d.schedule, chain[-2]), **near)
    first = D.reconstruction_term(d.schedule, x, zs[0], d.eps(zs[0], 1), d.var, None)
    agree(kl.reconstruction, first, **near)
    agree(neighbours.reconstruction, first, **near)
    for t in range(2, d.T + 1):
        eps = d.eps(chain[t], t)
        agree(kl.transitions[:, t - 2], D.transition_term(d.schedule, x, chain[t], eps, t, d.var), **near)
        opposite = D.neighbour_term(d.schedule, chain[t - 2], chain[t - 1], chain[t], eps, t - 1, d.var)
        agree(neighbours.transitions[:, t - 2], opposite, **near)


@pytest.mark.equation("hvae.diffusion", "hvae.elbo", "hvae.elbo_neighbours", "hvae.elbo_kl")
@FEW
@given(diffusions, floats(-1.5, 1.5))
def test_the_bounds_of_a_diffusion_in_the_mean(d, x0):
    """All three forms against three oracles that know diffusions, and against the exact evidence."""
    eps, w = noises(*[1] * d.T)
    x = np.full((len(w), 1), x0)
    model = d.hierarchy(x)
    zs = H.posterior_sample(model, x, eps)
    chain = (x0, d.beta, d.a, d.b, d.s)
    near = {"rtol": 1e-8, "atol": 1e-8}  # of those oracles, which integrate
    by_kl = B.bound_by_kl(*chain)
    kl, neighbours = H.elbo_kl(model, x, zs), H.elbo_neighbours(model, x, zs)
    agree(w @ kl.prior, by_kl.prior, **near)
    agree(w @ kl.transitions, np.array(by_kl.steps), **near)
    agree(w @ kl.reconstruction, by_kl.reconstruction, **near)
    agree(w @ neighbours.transitions, np.array(B.bound_by_neighbours(*chain).steps), **near)
    direct, evidence = -B.bound_direct(*chain), B.evidence(x0, d.a, d.b, d.s)
    for found in (w @ H.elbo(model, x, zs), w @ neighbours.elbo, w @ kl.elbo):
        agree(found, direct, **near)
        agree(found, oracle.elbo([x0], *d.steps()), **near)
        at_most(found - evidence, 1e-8)


@pytest.mark.equation("hvae.diffusion")
def test_another_noise_is_another_bound():
    """Negative control: latents' variance 1 − α for β, and α for √α, in the hierarchy alone."""
    d = Diffusion(np.array([0.1, 0.3, 0.2]), 1, "beta")
    x, zs = normal(2, 2, 3), list(normal(3, 3, 2, 3))
    model = d.hierarchy(x)
    right = H.elbo_kl(model, x, zs).elbo
    squared = [step._replace(scale=step.scale**2) for step in model.up]
    apart(H.elbo_kl(model._replace(up=squared), x, zs).elbo, right, 0.1)
    halved = [step._replace(log_var=step.log_var / 2) for step in model.up]
    apart(H.elbo_kl(model._replace(up=halved), x, zs).elbo, right, 0.1)
