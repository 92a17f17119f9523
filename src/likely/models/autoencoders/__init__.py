"""Autoencoders, plain and variational."""

from likely.models.autoencoders.ae import Autoencoder
from likely.models.autoencoders.dae import DenoisingAutoencoder
from likely.models.autoencoders.iwae import IWAE
from likely.models.autoencoders.vae import VAE

__all__ = ["IWAE", "VAE", "Autoencoder", "DenoisingAutoencoder"]
