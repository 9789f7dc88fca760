"""Networks: a tree of modules, the layers with weights, the perceptron, attention, and the U-Net."""

from scratchgen.nn.attention import MultiHeadAttention, PixelAttention
from scratchgen.nn.layers import (
    Conv2d,
    ConvTranspose2d,
    Embedding,
    GroupNorm,
    LayerNorm,
    Linear,
    RMSNorm,
    SinusoidalEmbedding,
)
from scratchgen.nn.mlp import MLP
from scratchgen.nn.module import Module, Sequential
from scratchgen.nn.unet import Downsample, ResBlock, UNet, UNetConfig, Upsample

__all__ = [
    "MLP", "Conv2d", "ConvTranspose2d", "Downsample", "Embedding", "GroupNorm", "LayerNorm", "Linear", "Module",
    "MultiHeadAttention", "PixelAttention", "RMSNorm", "ResBlock", "Sequential", "SinusoidalEmbedding", "UNet",
    "UNetConfig", "Upsample",
]  # fmt: skip
