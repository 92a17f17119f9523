"""Autoencoders, plain and variational."""

from likely.models.autoencoders.ae import Autoencoder
from likely.models.autoencoders.beta_tc_vae import BetaTCVAE
from likely.models.autoencoders.dae import DenoisingAutoencoder
from likely.models.autoencoders.factor_vae import FactorVAE
from likely.models.autoencoders.hsic_vae import HSICVAE
from likely.models.autoencoders.info_vae import InfoVAE
from likely.models.autoencoders.iwae import IWAE
from likely.models.autoencoders.sentence_vae import SentenceVAE
from likely.models.autoencoders.so3_vae import SO3VAE
from likely.models.autoencoders.vae import VAE
from likely.models.autoencoders.vmf_vae import VMFVAE
from likely.models.autoencoders.vq_vae import VQVAE
from likely.models.autoencoders.wae import WAEGAN, WAEMMD

__all__ = [
    "HSICVAE", "IWAE", "SO3VAE", "VAE", "VMFVAE", "VQVAE", "WAEGAN", "WAEMMD", "Autoencoder",
    "BetaTCVAE", "DenoisingAutoencoder", "FactorVAE", "InfoVAE", "SentenceVAE",
]  # fmt: skip
