"""scratchgen: the mathematics of generative models, written out, checked, and fast enough to use."""

from scratchgen import functional, ops, random
from scratchgen.autograd import (
    GradientError,
    Tensor,
    check_grads,
    from_dlpack,
    grad,
    gradients,
    hessian,
    hvp,
    jacobian,
    jvp,
    stop_gradient,
    tensor,
    value_and_grad,
    vjp,
)
from scratchgen.backend import BackendError, backend, float32, float64, use
from scratchgen.precision import precision
from scratchgen.replay import ReplayError, replay
from scratchgen.replayed import replayed
from scratchgen.version import VERSION

__version__ = VERSION

__all__ = [
    "BackendError", "GradientError", "ReplayError", "Tensor", "backend", "check_grads", "float32", "float64",
    "from_dlpack", "functional", "grad", "gradients", "hessian", "hvp", "jacobian", "jvp", "ops", "precision", "random",
    "replay", "replayed", "stop_gradient", "tensor", "use", "value_and_grad", "vjp",
]  # fmt: skip
