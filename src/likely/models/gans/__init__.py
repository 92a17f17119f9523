"""Generative adversarial networks."""

from likely.models.gans.cycle_gan import CycleGAN
from likely.models.gans.gan import GAN
from likely.models.gans.lsgan import LSGAN
from likely.models.gans.minimax_gan import MinimaxGAN
from likely.models.gans.wgan import WGAN

__all__ = ["GAN", "LSGAN", "WGAN", "CycleGAN", "MinimaxGAN"]
