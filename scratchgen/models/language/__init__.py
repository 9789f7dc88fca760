"""Language models: the next symbol of a text."""

from scratchgen.models.language import gpt
from scratchgen.models.language.gpt import GPT, GPTConfig

__all__ = ["GPT", "GPTConfig", "gpt"]
