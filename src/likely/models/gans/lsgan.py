"""Least-squares GAN.

Mao et al. 2017, arXiv:1611.04076, eq. 9: real rows are pulled to 1, samples to 0, and the generator
pulls its samples to 1, so that those far on the right side of the critic's boundary still learn.
"""

from torch import Tensor

from likely.contract import register
from likely.models.gans.gan import GAN


@register(
    "lsgan",
    title="least-squares GAN",
    constraint="none on the generator; a critic next to it",
    paper="Mao et al. 2017, arXiv:1611.04076",
)
class LSGAN(GAN):
    """Least-squares GAN. Parameters and limits are those of `GAN`."""

    def critic_loss(self, real: Tensor, fake: Tensor) -> Tensor:
        """½ (f(x) − 1)² + ½ f(G)²."""
        return ((real - 1).square() + fake.square()) / 2

    def generator_loss(self, fake: Tensor) -> Tensor:
        """½ (f(G) − 1)²."""
        return (fake - 1).square() / 2
