"""Networks: a tree of modules, the layers with weights, the perceptron, attention, the transformer and the U-Net."""

from scratchgen.nn.attention import MultiHeadAttention, PixelAttention, Seen
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
from scratchgen.nn.transformer import TransformerBlock
from scratchgen.nn.unet import Downsample, ResBlock, UNet, UNetConfig, Upsample

__all__ = [
    "MLP", "Conv2d", "ConvTranspose2d", "Downsample", "Embedding", "GroupNorm", "LayerNorm", "Linear", "Module",
    "MultiHeadAttention", "PixelAttention", "RMSNorm", "ResBlock", "Seen", "Sequential", "SinusoidalEmbedding",
    "TransformerBlock", "UNet", "UNetConfig", "Upsample",
]  # fmt: skip
