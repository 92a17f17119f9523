"""The GAN as a zero-sum game (Goodfellow et al. 2014, arXiv:1406.2661, eq. 1)."""

from torch import Tensor
from torch.nn import functional as F

from likely.contract import register
from likely.models.gans.gan import GAN, PAPER


@register(
    "gan-minimax",
    title="generative adversarial network, minimax",
    constraint="none on the generator, which hardly learns while the critic wins",
    paper=PAPER,
)
class MinimaxGAN(GAN):
    """The GAN as a zero-sum game: the generator minimises what the critic maximises.

    Parameters and limits are those of `GAN`.
    """

    def generator_loss(self, fake: Tensor) -> Tensor:
        """log(1 − D(G))."""
        return -F.softplus(fake)
