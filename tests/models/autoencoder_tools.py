"""Autoencoders by loops, for all tests of them."""

import numpy as np
from scipy import stats

from reference import layers


def silu(x):
    """x times the chance that logistic noise stays below it."""
    return x * stats.logistic.cdf(x)


def convolved(conv, x):
    """One convolution, by loops over its pixels."""
    return layers.conv2d(x, conv.w.numpy(), conv.stride, conv.padding) + conv.b.numpy()


def grown(layer, x):
    """An image of twice the height and width: each pixel four times, convolved; or stamps of a kernel that overlap."""
    if hasattr(layer, "conv"):
        twice = np.zeros((len(x), 2 * x.shape[1], 2 * x.shape[2], x.shape[3]))
        for b, i, j in np.ndindex(*twice.shape[:3]):
            twice[b, i, j] = x[b, i // 2, j // 2]
        return convolved(layer.conv, twice)
    stamps = np.swapaxes(layer.w.numpy(), 2, 3)  # (in, out)
    return layers.conv2d_transpose(x, stamps, layer.stride, layer.padding) + layer.b.numpy()


def encoded(net, x):
    """The code of images by a convolutional encoder."""
    for conv in net.convs:
        x = silu(convolved(conv, x))
    return x.reshape(len(x), -1) @ net.last.w.numpy() + net.last.b.numpy()


def decoded(net, c):
    """The images of codes by a convolutional decoder."""
    h = silu(c @ net.first.w.numpy() + net.first.b.numpy()).reshape(len(c), *net.small)
    for grow, conv in zip(net.grow, net.convs, strict=True):
        h = silu(convolved(conv, silu(grown(grow, h))))
    return convolved(net.last, h)
