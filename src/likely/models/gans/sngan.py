"""SNGAN: a critic whose layers have spectral norm one, and the hinge loss.

Miyato, Kataoka, Koyama & Yoshida 2018, arXiv:1802.05957. Each matrix of the critic is divided by its
largest singular value, so that the critic's slope is bounded without a penalty. With the hinge loss (eq. 16
and 17 there),

    critic:  E_data max(0, 1 − f(x)) + E_noise max(0, 1 + f(G)),        generator:  −E_noise f(G),

the best critic is the sign of p_data − p_model, and rows well on their side no longer count.

A context joins the critic as an inner product (Miyato & Koyama 2018, arXiv:1802.05637).
"""

from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from likely.contract import Positive, Recipe, register
from likely.core.domain import Domain
from likely.models.gans.images import ImageGAN
from likely.nets.adversarial import DCFeatures, DCGenerator, ImageCritic
from likely.nets.convolutional import Shape
from likely.nets.normalisation import SpectralNorm


@register(
    "sngan",
    title="GAN with spectral normalisation and the hinge loss",
    constraint="none on the generator; the critic's layers have spectral norm one",
    paper="Miyato et al. 2018, arXiv:1802.05957",
)
class SNGAN(ImageGAN):
    """GAN with a spectrally normalised critic, and the hinge loss.

    Parameters
    ----------
    domain, context, latent, hidden, minibatch_std, critic_steps, penalty, penalty_every, augment
        As in `ImageGAN`.
    critic_rate : float, optional
        Learning rate of the critic: four times that of the generator (two time-scales, Heusel et al. 2017,
        arXiv:1706.08500). None takes that of the fit.

    Examples
    --------
    >>> import likely as lk
    >>> data = lk.load_data("sprites")
    >>> model = lk.gans.SNGAN(data.domain, hidden=(4, 8))
    >>> history = lk.fit(model, data, steps=2, batch=16)
    >>> model.sample(5, seed=1).shape[0]
    5
    """

    recipe = Recipe(batch=64, rate=1e-4, betas=(0.0, 0.9), steps=10_000)

    def __init__(
        self, domain: Domain, *, critic_rate: Positive | None = 4e-4, **options: Any
    ) -> None:
        super().__init__(domain, critic_rate=critic_rate, **options)

    def image_networks(
        self, image: Shape, seen: Shape, widths: tuple[int, ...]
    ) -> tuple[nn.Module, nn.Module]:
        features = DCFeatures(seen, widths, minibatch_std=self.minibatch_std)
        critic = ImageCritic(features, self.context_size)
        generator = DCGenerator(self.noise + self.context_size, image, widths)
        return generator, SpectralNorm.layers_of(critic)

    def critic_loss(self, real: Tensor, fake: Tensor) -> Tensor:
        """max(0, 1 − f(x)) + max(0, 1 + f(G))."""
        return F.relu(1 - real) + F.relu(1 + fake)

    def generator_loss(self, fake: Tensor) -> Tensor:
        """−f(G)."""
        return -fake
