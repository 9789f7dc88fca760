"""A linear autoencoder, whose bound is known in closed form."""

import math

import numpy as np
from evidence import lifted
from latent_tools import noises, normal, repeated, steps_down, steps_up

from reference import latent as oracle
from scratchgen.models.latent import vae
from scratchgen.models.latent.vae import Gaussian

V = lifted(vae)


TIGHT = {"rtol": 1e-11, "atol": 1e-11}


class Linear:
    """Encoder and decoder are affine, so that the bound and the evidence are exact.

    Its parameters in a row: V, b and log σ² of the encoder, W, c and log s² of the decoder.
    """

    def __init__(self, seed, n, m):
        self.n, self.m, self.x = n, m, normal(seed, n)
        (V, b, q), (W, c, v) = steps_up(seed + 1, (n, m))[0], steps_down(seed + 2, (n, m))[0]
        self.shapes = [(m, n), (m,), (m,), (n, m), (n,), (n,)]
        self.parameters = np.concatenate([p.ravel() for p in (V, b, np.log(q), W, c, np.log(v))])
        (self.eps,), self.weights = noises(m)

    def split(self, row):
        sizes = np.cumsum([math.prod(shape) for shape in self.shapes])
        starts = [0, *sizes[:-1]]
        return [row[i:j].reshape(shape) for i, j, shape in zip(starts, sizes, self.shapes, strict=True)]

    def steps(self, row):
        V, b, log_q, W, c, log_v = self.split(row)
        return [(V, b, np.exp(log_q))], [(W, c, np.exp(log_v))]

    def exact(self, row):
        """The bound by linear algebra."""
        return oracle.elbo(self.x, *self.steps(row))

    def loss(self, row, beta=1.0, library=vae):
        """The terms for each ε, by the library.  library: V where row is an array, on any backend."""
        V, b, log_q, W, c, log_v = self.split(row)
        x, zero = repeated(self.x, len(self.eps)), np.zeros((len(self.eps), self.m))
        mu, log_var = x @ V.T + b, zero + log_q
        z = library.latent(None, Gaussian(mu, log_var), self.eps)
        decoded = Gaussian(z @ W.T + c, log_v.reshape((1, self.n)))
        return library.negative_elbo(x, decoded, mu, log_var, vae.gaussian_decoder, beta)

    def expected(self, row, beta=1.0):
        """The terms' exact expectations."""
        return [self.weights @ term for term in self.loss(row, beta, V)]
