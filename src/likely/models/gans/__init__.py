"""Generative adversarial networks."""

from likely.models.gans.biggan import BigGAN
from likely.models.gans.cycle_gan import CycleGAN
from likely.models.gans.dcgan import DCGAN
from likely.models.gans.gan import GAN
from likely.models.gans.infogan import InfoGAN
from likely.models.gans.lsgan import LSGAN
from likely.models.gans.minimax_gan import MinimaxGAN
from likely.models.gans.progan import ProGAN
from likely.models.gans.sngan import SNGAN
from likely.models.gans.stylegan import StyleGAN
from likely.models.gans.wgan import WGAN

__all__ = [
    "DCGAN", "GAN", "LSGAN", "SNGAN", "WGAN", "BigGAN", "CycleGAN", "InfoGAN", "MinimaxGAN", "ProGAN",
    "StyleGAN",
]  # fmt: skip
