"""A training step of a DDPM on images of 28×28 pixels: the U-Net with 32 channels, and 64 below."""

from __future__ import annotations

from benchmarks.workloads.ddpm import workload

WORKLOAD = workload("DDPM step, U-Net 28×28, base 32, batch 64", 28, 32, shards=2)
