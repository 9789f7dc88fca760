"""The workloads, one a file.  Each has the network four times: `Ours`, `pytorch`, and `arrays` for JAX and autograd."""

from __future__ import annotations

from importlib import import_module

from benchmarks.workload import Workload

NAMES = ("vae_mlp", "realnvp", "gpt_char", "ddpm_unet_28", "ddpm_unet_8", "conv_autoencoder", "wgan_gp_critic",
         "small_ops", "ddim_sampling", "pixelcnn",
         "vqvae", "glow")  # fmt: skip


def load(name: str) -> Workload:
    """The workload of that name."""
    return import_module(f"benchmarks.workloads.{name}").WORKLOAD
