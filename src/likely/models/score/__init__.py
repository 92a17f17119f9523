"""Score models: they learn the gradient of a log-density by removing noise."""

from likely.models.score.base import ScoreModel
from likely.models.score.ddpm import DDPM
from likely.models.score.denoising import DenoisingScore
from likely.models.score.flow_matching import FlowMatching
from likely.models.score.ncsn import NCSN
from likely.models.score.sde import ScoreSDE

__all__ = ["DDPM", "NCSN", "DenoisingScore", "FlowMatching", "ScoreModel", "ScoreSDE"]
