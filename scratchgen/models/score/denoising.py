"""Denoising score matching, and the noise-conditional score network.

    x̃ = x + σ·ε,   ∇log q(x̃ | x) = (x − x̃)/σ²                                           (1)  score.denoising_target
    σ²·½‖s(x̃, σ) − (x − x̃)/σ²‖² = ½‖σ·s(x̃, σ) + ε‖²                                     (2)  score.denoising
    ∇log q(x̃) = (E[x | x̃] − x̃)/σ²                                                      (3)  score.denoiser

The target (1) needs only the noise that was added, yet its mean given x̃ is the score of the noisy data, so the
minimiser of (2) is that score (Vincent 2011); (3) says the same of a denoiser: what it takes away from its input,
over the noise's variance.  The factor σ² in (2) makes all noise levels count alike (Song & Ermon 2019, eqs. 5
and 6, arXiv:1907.05600).  With s = −ε_θ/σ, (2) is ½‖ε − ε_θ‖²: half a diffusion's simple loss.

Everywhere: x (B, …), σ a number or one per example (B,).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from scratchgen import ops
from scratchgen.backend import Array
from scratchgen.distributions.events import per_example, same_shape
from scratchgen.models.levels import meet


def denoising_target(x: Array, xt: Array, sigma: Any) -> Array:
    """(x − x̃)/σ², eq. (1): the score of q(x̃ | x).  x, xt: (B, …), clean and noisy.  Like x."""
    same_shape("denoising_target", "x", x.shape, xt=xt)
    return (x - xt) / meet(sigma, x) ** 2


def denoising(score: Callable[[Array, Any], Array], x: Array, eps: Array, sigma: Any) -> Array:
    """σ²·½‖s(x̃, σ) − (x − x̃)/σ²‖², eq. (2).  x: clean, eps: noise of its shape.  Returns (B,).

    score(x̃, σ) is asked with σ as it came.  Computed as ½‖σ·s + ε‖², where nothing is divided by a small σ.
    """
    same_shape("denoising", "x", x.shape, eps=eps)
    width = meet(sigma, x)
    s = score(x + width * eps, sigma)
    return 0.5 * per_example(ops.square(width * s + eps))


def score_from_denoiser(denoised: Array, xt: Array, sigma: Any) -> Array:
    """(E[x | x̃] − x̃)/σ², eq. (3).  denoised, xt: (B, …).  Like xt."""
    same_shape("score_from_denoiser", "xt", xt.shape, denoised=denoised)
    return (denoised - xt) / meet(sigma, xt) ** 2
