"""Side by side with PyTorch and JAX: the same work, the same weights, one run.  `make bench`; docs/benchmarks.md."""
