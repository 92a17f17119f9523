"""Autoencoders, plain and variational."""

from likely.autoencoders.autoencoder import Autoencoder
from likely.autoencoders.denoising import DenoisingAutoencoder
from likely.autoencoders.vae import VAE

__all__ = ["VAE", "Autoencoder", "DenoisingAutoencoder"]
