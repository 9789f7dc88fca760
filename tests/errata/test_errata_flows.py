"""Misprints about normalizing flows.  The truth: numeric derivatives of the whole map."""

from typing import NamedTuple

import numpy as np
from chains import point
from evidence import lifted, up
from hypothesis import strategies as st
from scipy import stats
from slips import Forms, slip

import scratchgen as sg
from reference.derivatives import directional, jacobian
from scratchgen import ops
from scratchgen.distributions import gaussian
from scratchgen.models.flows import change


class Arsinh(NamedTuple):
    """g(x) = arsinh(x/scale), a map whose slope 1/√(x² + scale²) is not the same everywhere."""

    scale: float

    def forward_and_log_det(self, x):
        return change.Forward(ops.arcsinh(x / self.scale), -0.5 * ops.log(ops.square(x) + self.scale**2)[:, 0])

    def inverse(self, z):
        return self.scale * ops.sinh(z)


@slip(
    "slip.flow_composition", x=st.sampled_from([1.0, 0.0, 2.0, -1.0]),
    scales=st.lists(st.sampled_from([1.0, 2.0, 0.5]), min_size=1, max_size=3),
)  # fmt: skip
def flow_composition(x, scales):
    """log p_x(x) of x = f_T∘…∘f_1(z_0): the step back g_t, from z_t to z_{t−1}, has its Jacobian at z_t.

    The truth: the density of N(0, 1) at G(x), times the numeric slope of the whole of G = g_1∘…∘g_T.
    """
    standard = lambda z: gaussian.log_prob(z, 0.0, 0.0)  # noqa: E731
    maps, z, printed = [Arsinh(scale) for scale in scales], point(x), 0.0
    for g in maps:
        z = lifted(g.forward_and_log_det)(z).z
        printed += lifted(g.forward_and_log_det)(z).log_det[0]  # at where it leads

    def whole(x):
        for scale in scales:
            x = np.arcsinh(x / scale)
        return x

    holds = lifted(lambda x: change.log_prob(change.Compose(maps), standard, x))(point(x))[0]
    truth = stats.norm.logpdf(whole(x)) + np.log(directional(whole, x, 1.0))
    return Forms(stats.norm.logpdf(z[0, 0]) + printed, holds, truth)


@slip("slip.coupling_block", alpha=st.lists(st.sampled_from([1.0, 2.0, 0.5]), min_size=1, max_size=3))
def coupling_block(alpha):
    """∂z_b/∂x_b of a coupling map: each coordinate has a scale of its own.

    For the printed αI, the multiple of I that comes nearest.  The truth: differences of z = (x_a, α⊙x_b + x_a).
    """
    alpha, x = np.array(alpha), np.linspace(-1.0, 1.0, len(alpha) + 1)

    def z(x):
        return np.concatenate([x[:1], alpha * x[1:] + x[0]])

    def scale_and_shift(x_a):
        return change.Affine(ops.log(up(alpha)) + 0 * x_a, 0 * up(alpha) + x_a)

    flow = change.Coupling(scale_and_shift, 1)
    found = lifted(sg.jacobian(lambda x: flow.forward_and_log_det(x[None]).z[0]))(x)
    return Forms(printed=alpha.mean() * np.eye(len(alpha)), holds=found[1:, 1:], truth=jacobian(z, x)[1:, 1:])
