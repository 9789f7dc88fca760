"""A training step of the DDPM of `make demo`: 8×8 pixels, 16 channels, and 32 below."""

from __future__ import annotations

from benchmarks.workloads.ddpm import workload

WORKLOAD = workload("DDPM step, U-Net 8×8, base 16, batch 64", 8, 16, shards=2)
