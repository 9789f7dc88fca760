"""What was there before networks: groups, axes and parts of a table of numbers, found by iteration or by algebra.

    kmeans          k groups, each round its centre
    agglomerative   groups of groups, from single points up to everything
    pca             the directions along which the data vary most
    nmf             a table as a sum of parts that only add, with holes in it if need be

All have one way of being used: `fit(x)`, then `predict` or `transform`; x is (n, D), an example a row.
"""

from scratchgen.models.classical import agglomerative, kmeans, nmf, pca

__all__ = ["agglomerative", "kmeans", "nmf", "pca"]
