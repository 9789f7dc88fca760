"""Models of ∇log p: `matching` and `denoising` fit them, `sde` says what they mean for noise in continuous time,
`solvers` walk along them and `samplers` back to the data; `score_matching`, `ncsn` and `score_sde` are the systems.
"""

from scratchgen.models.score import denoising, matching, ncsn, samplers, score_matching, score_sde, sde, solvers
from scratchgen.models.score.ncsn import NCSN, NCSNConfig
from scratchgen.models.score.score_sde import ScoreSDE, ScoreSDEConfig

__all__ = [
    "NCSN", "NCSNConfig", "ScoreSDE", "ScoreSDEConfig", "denoising", "matching", "ncsn", "samplers", "score_matching",
    "score_sde", "sde", "solvers",
]  # fmt: skip
