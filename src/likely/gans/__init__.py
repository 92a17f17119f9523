"""Generative adversarial networks."""

from likely.gans.gan import GAN, MinimaxGAN
from likely.gans.lsgan import LSGAN
from likely.gans.wgan import WGAN

__all__ = ["GAN", "LSGAN", "WGAN", "MinimaxGAN"]
