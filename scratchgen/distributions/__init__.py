"""Closed forms: log-densities, entropies, divergences and samples, as plain functions.

Conventions that hold for every function here:

    axes         the leading axis is the batch, every other axis belongs to the event (for `categorical` the
                 last axis of the logits counts the classes); log_prob, entropy and kl return one number per
                 example, (B,), in nats, summed over the event
    kl(q, p)     KL(q‖p) = E_q[log q − log p], the parameters of q first
    tensors      tensors give tensors with gradients of any order, plain arrays give plain arrays
    precision    float32 in, float32 out, float64 alike, both together: TypeError; Python numbers take either
    shapes       the first argument has the full shape; every other one has the same number of axes, each as
                 long or of length 1 (shared), or is a number.  Anything else raises ValueError: (B,) against
                 (B, 1) would broadcast to (B, B) without a word
    sample       rng draws the noise, on the active backend; pass the noise itself to fix it (rng may be None)

    gaussian         diagonal covariance, in mu and log_var; bins of pixel values
    gaussian_full    any covariance; conditioning
    bernoulli        in logits
    categorical      in logits
    logistic         in mu and log_s; bins of pixel values
    exponential      in log_rate

    divergence       between any two densities, on weighted points, which there the last axis counts
"""

from scratchgen.distributions import (
    bernoulli,
    categorical,
    divergence,
    exponential,
    gaussian,
    gaussian_full,
    logistic,
)

__all__ = ["bernoulli", "categorical", "divergence", "exponential", "gaussian", "gaussian_full", "logistic"]
