"""Hierarchies of latents: linear-Gaussian ones as one big Gaussian vector, and a diffusion as one of them.

Every bound is quadratic in the latents, and these are affine in the noise: Gauss–Hermite nodes of order 3, injected as
noise, give exact expectations.
"""

import numpy as np
import pytest
from evidence import agree, apart, at_most, lowered, up
from hierarchical_tools import Chain, Diffusion, H, chain, sizes
from hypothesis import given
from hypothesis import strategies as st
from latent_tools import (
    FEW,
    SOME,
    affine_steps,
    kernel,
    normal,
    repeated,
    seeds,
    steps_down,
)
from scipy import stats

import scratchgen as sg
from reference import latent as oracle
from reference.distributions import kl_gaussian_hermite
from scratchgen import ops
from scratchgen.models.latent import hierarchical as hierarchical_module
from scratchgen.models.latent.hierarchical import Affine, Hierarchy
from scratchgen.models.latent.vae import Gaussian, bernoulli_decoder

# Densities and bounds of order 10² from systems with condition numbers below 10³: 10⁴ roundings at most.
TIGHT = {"rtol": 1e-11, "atol": 1e-11}


def full(mean, cov):
    return stats.multivariate_normal(mean, cov)


class Noised(Chain):
    """A hierarchy whose q has `Affine` kernels, so latents like x."""

    def __init__(self, down, up, seed):
        super().__init__(down, up, seed)
        affine = [Affine(np.diag(W)[None], c[None], np.log(v)[None]) for W, c, v in up]
        self.model = self.model._replace(up=affine)


def noised(seed, d, T):
    return Noised(steps_down([seed, 1], [d] * (T + 1)), affine_steps([seed, 2], d, T), [seed, 3])


chains = st.builds(chain, seeds, sizes)
noised_chains = st.builds(noised, seeds, st.integers(1, 2), st.integers(1, 3))


# --- joint and posterior ------------------------------------------------------------------------------------


@pytest.mark.equation("hvae.joint")
@SOME
@given(chains, seeds)
def test_the_joint_is_one_big_gaussian(c, seed):
    x, zs = c.anywhere(seed)
    mean, cov, _ = oracle.joint(c.down)
    agree(H.log_joint(c.model, x, zs), full(mean, cov).logpdf(np.concatenate([x, *zs], axis=1)), **TIGHT)


@pytest.mark.equation("hvae.joint")
@FEW
@given(seeds, st.lists(st.integers(1, 2), min_size=2, max_size=3))
def test_a_binary_picture_over_a_hierarchy(seed, latents):
    """Over all pictures x, p(x, z_{1:T}) sums to p(z_{1:T})."""
    down = steps_down(seed, [3, *latents])
    W, c, _ = down[0]
    kernels = [lowered(lambda z: z @ W.T + c), *(kernel(step) for step in down[1:])]
    model = Hierarchy(kernels, kernels, bernoulli_decoder)  # of `up` only the length is read
    pictures = np.array(list(np.ndindex(2, 2, 2)), dtype=float)
    zs = [normal([seed, t], 1, d) for t, d in enumerate(latents)]
    found = H.log_joint(model, pictures, [repeated(z, 8) for z in zs])
    mean, cov, _ = oracle.joint(down[1:])
    agree(np.exp(found).sum(), full(mean, cov).pdf(np.concatenate(zs, axis=1)), 1e-10)
    logits = zs[0] @ W.T + c
    want = stats.logistic.logcdf((2 * pictures - 1) * logits).sum(axis=1)
    agree(found - found[0], want - want[0], **TIGHT)


@pytest.mark.equation("hvae.posterior")
@SOME
@given(chains, seeds)
def test_the_posterior_is_one_big_gaussian_too(c, seed):
    x, zs = c.anywhere(seed)
    mean, cov = oracle.encoded(c.x, c.up)
    agree(H.log_posterior(c.model, x, zs), full(mean, cov).logpdf(np.concatenate(zs, axis=1)), **TIGHT)


@pytest.mark.equation("hvae.posterior")
@SOME
@given(chains)
def test_its_samples_have_its_moments(c):
    _, zs, w = c.samples()
    z = np.concatenate(zs, axis=1)
    mean, cov = oracle.encoded(c.x, c.up)
    agree(w @ z, mean, **TIGHT)
    agree((w * (z - mean).T) @ (z - mean), cov, **TIGHT)


# --- the bound ----------------------------------------------------------------------------------------------


@pytest.mark.equation("hvae.elbo")
@SOME
@given(chains)
def test_the_bound_falls_short_of_the_evidence_by_its_gap(c):
    x, zs, w = c.samples()
    found = w @ H.elbo(c.model, x, zs)
    evidence = oracle.evidence(c.x, c.down)
    agree(found, oracle.elbo(c.x, c.up, c.down), **TIGHT)
    agree(found + oracle.gap(c.x, c.up, c.down), evidence, **TIGHT)
    at_most(found - evidence, 1e-10)


@pytest.mark.equation("hvae.elbo")
@FEW
@given(seeds, st.integers(1, 2), st.integers(1, 3), seeds)
def test_every_sample_is_the_evidence_at_the_true_posterior(seed, d, T, where):
    """q_t by regression of z_t on z_{t−1} given x: the posterior of a Markov chain is one."""
    down = steps_down(seed, [d] + [1] * T)
    x = normal([seed, 3], d)
    c = Chain(down, oracle.exact_up(x, down), [seed, 3])
    agree(c.x, x)
    evidence = oracle.evidence(x, down)
    rows, zs = c.anywhere(where, 4)
    agree(H.elbo(c.model, rows, zs), np.full(4, evidence), **TIGHT)
    rows, zs, w = c.samples()
    agree(w @ H.elbo_neighbours(c.model, rows, zs).elbo, evidence, **TIGHT)


@pytest.mark.equation("hvae.elbo_neighbours")
@SOME
@given(chains)
def test_step_beside_opposite_step(c):
    """In the mean the same bound; each term of each sample by scipy's densities and a divergence over nodes."""
    x, zs, w = c.samples()
    found = H.elbo_neighbours(c.model, x, zs)
    T = len(zs)
    assert found.transitions.shape == (len(w), T - 1)
    agree(w @ found.elbo, oracle.elbo(c.x, c.up, c.down), **TIGHT)
    path, last = [x, *zs], -1
    for t in range(1, T):
        log_q, log_p = (stats.norm.logpdf(path[t], path[other] @ W.T + b, np.sqrt(v)).sum(axis=1)
                        for other, (W, b, v) in ((t - 1, c.up[t - 1]), (t + 1, c.down[t])))  # fmt: skip
        agree(found.transitions[:, t - 1], log_q - log_p, **TIGHT)
    W, b, v = c.up[-1]
    d = len(b)
    want = kl_gaussian_hermite(path[-2][last] @ W.T + b, np.diag(v), np.zeros(d), np.eye(d))
    agree(found.prior[last], want, **TIGHT)
    W, b, v = c.down[0]
    agree(found.reconstruction, -stats.norm.logpdf(x, zs[0] @ W.T + b, np.sqrt(v)).sum(axis=1), **TIGHT)


@pytest.mark.equation("hvae.marginal")
@SOME
@given(noised_chains)
def test_marginals_of_an_affine_posterior(c):
    found = H.marginals(c.model.up, c.x[None])
    for t, q in enumerate(found, start=1):
        mean, cov = oracle.marginal(c.x, c.up, t)
        agree(q.mu[0], mean, **TIGHT)
        agree(np.diag(np.exp(q.log_var[0])), cov, **TIGHT)


@pytest.mark.equation("hvae.reversed")
@SOME
@given(st.builds(noised, seeds, st.integers(1, 2), st.integers(2, 4)), seeds)
def test_an_affine_posterior_turned_round(c, seed):
    zt = normal(seed, len(c.x))
    known = H.marginals(c.model.up, c.x[None])
    for t in range(2, len(c.up) + 1):
        q = H.reverse(c.model.up[t - 1], known[t - 2], zt[None])
        mean, cov = oracle.reversed_step(c.x, zt, c.up, t)
        agree(q.mu[0], mean, **TIGHT)
        agree(np.diag(np.exp(q.log_var[0])), cov, **TIGHT)
        late = H.reverse(c.model.up[t - 1], known[t - 1], zt[None])
        apart(np.concatenate(late), np.concatenate(q), 1e-6)


@pytest.mark.equation("hvae.elbo_kl")
@SOME
@given(noised_chains)
def test_the_bound_by_divergences(c):
    x, zs, w = c.samples()
    found = H.elbo_kl(c.model, x, zs)
    T, d, last = len(zs), len(c.x), -1
    assert found.transitions.shape == (len(w), T - 1)
    agree(w @ found.elbo, oracle.elbo(c.x, c.up, c.down), **TIGHT)
    at_most(-found.transitions, 0.0)
    agree(found.prior[last], kl_gaussian_hermite(*oracle.marginal(c.x, c.up, T), np.zeros(d), np.eye(d)), **TIGHT)
    for t in range(2, T + 1):
        zt = zs[t - 1][last]
        W, b, v = c.down[t - 1]
        want = kl_gaussian_hermite(*oracle.reversed_step(c.x, zt, c.up, t), W @ zt + b, np.diag(v))
        agree(found.transitions[last, t - 2], want, **TIGHT)
    W, b, v = c.down[0]
    agree(found.reconstruction, -stats.norm.logpdf(x, zs[0] @ W.T + b, np.sqrt(v)).sum(axis=1), **TIGHT)


@pytest.mark.equation("hvae.elbo", "hvae.elbo_neighbours", "hvae.elbo_kl")
@SOME
@given(noised_chains)
def test_three_forms_of_one_number(c):
    x, zs, w = c.samples()
    direct = w @ H.elbo(c.model, x, zs)
    agree(w @ H.elbo_neighbours(c.model, x, zs).elbo, direct, **TIGHT)
    agree(w @ H.elbo_kl(c.model, x, zs).elbo, direct, **TIGHT)
    at_most(direct - oracle.evidence(c.x, c.down), 1e-10)
    if len(zs) > 1:  # but not sample by sample
        apart(H.elbo_kl(c.model, x, zs).elbo, H.elbo(c.model, x, zs), 1e-6)


# --- gradients, precision, shapes ---------------------------------------------------------------------------


ALL = ["hvae.joint", "hvae.posterior", "hvae.elbo", "hvae.elbo_neighbours", "hvae.elbo_kl", "hvae.marginal",
       "hvae.reversed"]  # fmt: skip


@pytest.mark.equation(*ALL)
@pytest.mark.parametrize("form", ["log_joint", "log_posterior", "elbo", "elbo_neighbours", "elbo_kl"])
def test_gradients(form):
    """In x, the latents' noise, and both directions' parameters: two steps of two-dimensional latents."""
    x, eps, scale, shift, log_var, W, c, v = normal(1, 8, 2, 2) * 0.7

    def value(x, eps, scale, shift, log_var, W, c, v):
        rows = [(scale[t : t + 1], shift[t : t + 1], log_var[t : t + 1]) for t in range(2)]
        down = [lambda z: Gaussian(z @ W, v[:1]), lambda z: Gaussian(ops.tanh(z @ W) + c[:1], v[1:])]
        model = Hierarchy([Affine(*row) for row in rows], down)
        zs = hierarchical_module.posterior_sample(model, x, [eps, eps * 0.5])
        found = getattr(hierarchical_module, form)(model, x, zs)
        return getattr(found, "elbo", found)

    sg.check_grads(value, (x, eps, scale, shift, log_var, W, c, v), order=2, rtol=1e-5)


@pytest.mark.equation(*ALL, "hvae.diffusion")
def test_single_precision():
    c = noised(5, 2, 3)
    x, zs = c.anywhere(1)
    exact, low = everything(c.model, x, zs), everything(*in_single(c.model, x, zs))
    d = Diffusion(np.array([0.1, 0.3, 0.2]), 1, "beta")
    x, zs = normal(2, 2, 3), list(normal(3, 3, 2, 3))
    exact += everything(d.hierarchy(x), x, zs)
    _, x, zs = in_single(None, x, zs)
    low += everything(d.hierarchy(x), x, zs)
    for narrow, wide in zip(low, exact, strict=True):
        assert narrow.dtype == np.float32
        agree(narrow, wide, 1e-4, 1e-4)  # sums of a dozen terms of order 10, with 1/β among them


def everything(model, x, zs):
    rows = [H.log_joint(model, x, zs), H.log_posterior(model, x, zs), H.elbo(model, x, zs)]
    rows += H.elbo_neighbours(model, x, zs) + H.elbo_kl(model, x, zs)
    return rows + H.posterior_sample(model, x, zs) + [part for q in H.marginals(model.up, x) for part in q]


def in_single(model, x, zs):
    cast = lambda a: a.astype("f")  # noqa: E731
    if model is not None:
        up = [Affine(*map(cast, step)) for step in model.up]
        down = [lambda z, f=f: Gaussian(*(p.astype(z.dtype) for p in f(z))) for f in model.down]
        model = model._replace(up=up, down=down)
    return model, cast(x), [cast(z) for z in zs]


@pytest.mark.equation("hvae.posterior")
def test_three_hundred_latents():
    """Steps of a walk, each N(0, 1): by scipy."""
    one, zero = np.ones(()), np.zeros(())
    x, *zs = normal(6, 301, 2, 3)
    model = Hierarchy([Affine(*up([one, zero, zero]))] * 300, [None] * 300)
    want = stats.norm.logpdf(np.diff([x, *zs], axis=0)).sum(axis=(0, 2))
    agree(H.log_posterior(model, x, zs), want, rtol=1e-12)  # 900 terms of one sign


def test_misfits_are_refused():
    c = chain(1, [2, 1, 1])
    x, zs = c.anywhere(1)
    for f in (hierarchical_module.log_joint, hierarchical_module.log_posterior, hierarchical_module.elbo_neighbours):
        with pytest.raises(ValueError, match="2 steps up and 2 down cannot have 1 latents"):
            f(c.model, x, zs[:1])
        with pytest.raises(ValueError, match="2 steps up and 2 down cannot have 3 latents"):
            f(c.model, x, [*zs, zs[1]])
        with pytest.raises(ValueError, match="1 steps up and 2 down"):
            f(c.model._replace(up=c.model.up[:1]), x, zs)
        with pytest.raises(ValueError, match="3 steps up and 2 down"):
            f(c.model._replace(up=[*c.model.up, c.model.up[1]]), x, zs)
        with pytest.raises(ValueError, match="2 steps up and 1 down"):
            f(c.model._replace(down=c.model.down[:1]), x, zs)
    for noise in (zs[:1], [*zs, zs[1]]):
        with pytest.raises(ValueError, match="zip"):
            H.posterior_sample(c.model, x, noise)
    with pytest.raises(ValueError, match="Affine only"):
        hierarchical_module.elbo_kl(c.model, x, zs)
    with pytest.raises(ValueError, match="0 steps up"):
        hierarchical_module.log_joint(Hierarchy([], []), x, [])
