"""Autoregressive models: one symbol at a time, each told of those before it.

`choice` sharpens or cuts a distribution before it is drawn from; `pixelcnn` is the system for images, and for any other
grid of symbols.  The system for text is in `models.language`.
"""

from scratchgen.models.autoregressive import choice, pixelcnn
from scratchgen.models.autoregressive.pixelcnn import PixelCNN, PixelCNNConfig

__all__ = ["PixelCNN", "PixelCNNConfig", "choice", "pixelcnn"]
