"""All rows, with those of the operations beneath and above `ops`."""

import numpy as np
import rows_arrays
import rows_elementwise
import rows_matrices
import rows_networks
from registry import Row, elementwise, normal, positive
from scipy import stats

from scratchgen.autograd import transforms
from scratchgen.autograd.primitive import broadcast_to
from scratchgen.autograd.primitive import sum_to as our_sum_to
from scratchgen.distributions import gaussian


def sum_to(x, shape):
    y = np.zeros(shape)
    for place in np.ndindex(x.shape):
        target = place[x.ndim - len(shape) :]
        y[tuple(i if n > 1 else 0 for i, n in zip(target, shape, strict=True))] += x[place]
    return y


def hazard_excess(t):
    return np.exp(stats.norm.logpdf(t) - stats.norm.logsf(t)) - t


OTHERS = [
    elementwise("identity", lambda x: x, normal, function=transforms.identity, analytic=True),
    Row("stack_rows", lambda *xs: np.stack(xs), (normal, normal), (((), ()), ((2, 3), (2, 3))),
        function=transforms._stack_rows, analytic=True),
    Row("broadcast_to", np.broadcast_to, (normal,), (((3, 1),), ((),)), ({"shape": (2, 3, 4)},),
        function=lambda x, shape: broadcast_to(x, shape), analytic=True),
    Row("sum_to", sum_to, (normal,), (((2, 3, 4),),), ({"shape": (3, 1)}, {"shape": ()}, {"shape": (1, 3, 4)}),
        function=lambda x, shape: our_sum_to(x, shape), analytic=True),
    elementwise("distributions.gaussian.hazard_excess", hazard_excess, positive, function=gaussian.hazard_excess),
]  # fmt: skip

ROWS = rows_elementwise.ROWS + rows_arrays.ROWS + rows_matrices.ROWS + rows_networks.ROWS + OTHERS
