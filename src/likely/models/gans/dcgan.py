"""DCGAN: deep convolutional generative adversarial networks.

Radford, Metz & Chintala 2016, arXiv:1511.06434. What made images from 16 pixels on work: strided
convolutions in place of pooling, 4 × 4 kernels, batch normalisation in both networks, except where the
generator ends and the critic begins, rectifiers in the generator and leaky ones in the critic, weights
that start at N(0, 0.02²), and Adam with rate 2·10⁻⁴ and β₁ = 0.5.

The loss is that of Goodfellow et al. 2014, non-saturating. Real images and samples pass the critic in
batches of their own, since its batch normalisation would tell them apart in one.
"""

from typing import Any

from torch import nn

from likely.contract import Recipe, register
from likely.core.domain import Domain
from likely.models.gans.images import ImageGAN
from likely.nets.adversarial import DCFeatures, DCGenerator, ImageCritic
from likely.nets.convolutional import Shape
from likely.nets.normalisation import Equalised


@register(
    "dcgan",
    title="deep convolutional GAN",
    constraint="none on the generator; a critic next to it",
    paper="Radford, Metz & Chintala 2016, arXiv:1511.06434",
)
class DCGAN(ImageGAN):
    """Deep convolutional GAN.

    Parameters
    ----------
    domain, context, latent, hidden, minibatch_std, critic_steps, critic_rate, penalty, penalty_every, augment
        As in `ImageGAN`.
    equalised : bool
        Whether weights are scaled when they are used, so that all layers learn at one pace. A rate of
        about 2·10⁻³ suits them.

    Examples
    --------
    >>> import likely as lk
    >>> data = lk.load_data("sprites")
    >>> model = lk.gans.DCGAN(data.domain, hidden=(4, 8))
    >>> history = lk.fit(model, data, steps=2, batch=16)
    >>> model.sample(5, seed=1).shape[0]
    5
    """

    recipe = Recipe(batch=64, rate=2e-4, betas=(0.5, 0.999), steps=10_000)

    def __init__(self, domain: Domain, *, equalised: bool = False, **options: Any) -> None:
        self.equalised = equalised
        super().__init__(domain, **options)

    def image_networks(
        self, image: Shape, seen: Shape, widths: tuple[int, ...]
    ) -> tuple[nn.Module, nn.Module]:
        generator = DCGenerator(self.noise + self.context_size, image, widths)
        features = DCFeatures(seen, widths, batch_norm=True, minibatch_std=self.minibatch_std)
        critic = ImageCritic(features, self.context_size)
        for net in (generator, critic):
            if self.equalised:
                Equalised.layers_of(net)
            else:
                start_small(net)
        return generator, critic


def start_small(net: nn.Module) -> None:
    """Weights from N(0, 0.02²)."""
    for layer in net.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(layer.weight, std=0.02)
