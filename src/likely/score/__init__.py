"""Score models: they learn the gradient of a log-density by removing noise."""

from likely.score.ddpm import DDPM
from likely.score.denoising import DenoisingScore
from likely.score.ncsn import NCSN
from likely.score.score import ScoreModel
from likely.score.sde import ScoreSDE

__all__ = ["DDPM", "NCSN", "DenoisingScore", "ScoreModel", "ScoreSDE"]
