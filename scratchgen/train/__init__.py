"""Training: one loop for every system, checkpoints that survive anything, and the run folder."""

from scratchgen.train.checkpoint import CheckpointError
from scratchgen.train.config import TrainConfig, as_json, from_json, learning_rate
from scratchgen.train.group import ALONE, Group, GroupError
from scratchgen.train.loop import TrainResult, train
from scratchgen.train.run import RunConfig, RunError, RunFolder
from scratchgen.train.signals import Interrupted
from scratchgen.train.state import DivergedError, load_weights

__all__ = [
    "ALONE", "CheckpointError", "DivergedError", "Group", "GroupError", "Interrupted", "RunConfig", "RunError",
    "RunFolder", "TrainConfig", "TrainResult", "as_json", "from_json", "learning_rate", "load_weights", "train",
]  # fmt: skip
