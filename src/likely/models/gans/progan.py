"""Progressive growing of GANs: small images first.

Karras, Aila, Laine & Lehtinen 2018, arXiv:1710.10196. Both networks begin at 5 to 8 pixels along an edge, and
double the resolution at each stage. A new level fades in over half of its stage, with α from 0 to 1
(`likely.nets.growing`), and real images fade with it: they are (1 − α) up(down(x)) + α x. The optimizers
begin anew at each stage. The losses are those of `wgan-gp`, with a drift that keeps the critic near zero,

    critic:  f(G) − f(x) + λ (‖∇f(û)‖ − 1)² + ε f(x)²,        generator:  −f(G),

the generator's maps are normalised at each place, all weights are scaled when they are used, and the critic
sees how much a batch varies.

Slopes are measured in the space of full images at all levels, where those of a critic stay when it grows.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from likely.contract import Batch, NonNegative, Recipe, Rows, register
from likely.contract.training import Stage
from likely.core.domain import Domain
from likely.core.errors import LikelyError
from likely.models.gans.images import ImageGAN
from likely.models.gans.penalties import Seen
from likely.models.gans.wgan import Wasserstein
from likely.nets.adversarial import ImageCritic
from likely.nets.convolutional import Shape
from likely.nets.growing import Growing, GrowingFeatures, GrowingGenerator
from likely.nets.normalisation import Equalised

DRIFT = 1e-3  # ε
FADING = 0.5  # part of a stage


@register(
    "progan",
    title="GAN of growing resolutions",
    constraint="none on the generator; the critic's slope is drawn to 1",
    paper="Karras et al. 2018, arXiv:1710.10196",
)
class ProGAN(Wasserstein, ImageGAN):
    """Progressively growing GAN.

    It trains in stages of equal shares, one for each resolution, and needs a budget.

    Parameters
    ----------
    domain : Domain
        With the layout of an image of 16 to 64 pixels along an edge, of one kind. Edges must be even as often
        as they are halved: pad 30 pixels to 32.
    hidden : sequence of int, optional
        Channels at half the resolution, at a quarter … of both networks, down to the first stage. None
        doubles them from 32 on, down to edges of at most 8 pixels.
    minibatch_std : bool
        Whether the critic sees how much the samples of a batch differ.
    penalty : float
        Weight λ.
    context, latent, critic_steps, critic_rate, penalty_every, augment
        As in `ImageGAN`.

    Raises
    ------
    LikelyError
        If an option is out of range, or edges cannot be halved as often as there are widths.

    Examples
    --------
    >>> import likely as lk
    >>> data = lk.load_data("sprites")
    >>> model = lk.gans.ProGAN(data.domain, hidden=(4,))
    >>> history = lk.fit(model, data, steps=4, batch=16)
    >>> model.sample(5, seed=1).shape[0]
    5
    """

    recipe = Recipe(batch=64, rate=1e-3, betas=(0.0, 0.99), steps=10_000)
    first, coarsest = 32, 8

    def __init__(
        self,
        domain: Domain,
        *,
        minibatch_std: bool = True,
        penalty: NonNegative = 10.0,
        **options: Any,
    ) -> None:
        super().__init__(domain, minibatch_std=minibatch_std, penalty=penalty, **options)

    def image_networks(
        self, image: Shape, seen: Shape, widths: tuple[int, ...]
    ) -> tuple[nn.Module, nn.Module]:
        if any(edge % 2 ** len(widths) for edge in image[1:]):
            least = [-(-edge >> len(widths)) << len(widths) for edge in image[1:]]
            raise LikelyError(
                f"hidden={widths}: edges of {image[1:]} pixels are not even each time they are halved: pad "
                f"images to {tuple(least)}, or give fewer widths"
            )
        generator = GrowingGenerator(self.latent, self.context_size, image, widths)
        features = GrowingFeatures(seen, widths, self.minibatch_std)
        critic = ImageCritic(features, self.context_size)
        return Equalised.layers_of(generator), Equalised.layers_of(critic)

    def critic_loss(self, real: Tensor, fake: Tensor) -> Tensor:
        """f(G) − f(x) + ε f(x)²."""
        return super().critic_loss(real, fake) + DRIFT * real.square()

    # Growth.

    @property
    def growing(self) -> GrowingFeatures:
        """The critic's layers that grow."""
        features = self.critic.features
        assert isinstance(features, GrowingFeatures)
        return features

    def stages(self) -> list[Stage]:
        """One for each resolution."""
        count = len(self.growing.blocks) + 1
        return [Stage(self.objectives, 1 / count)] * count

    @torch.no_grad()
    def grow(self, progress: float) -> None:
        """Grow both networks to what belongs to a part of the budget, from 0 to 1."""
        doublings = len(self.growing.blocks)
        at = progress * (doublings + 1)
        stage = min(int(at), doublings)
        grown = max(0.0, stage - 1 + min(1.0, (at - stage) / FADING))
        for net in self.modules():
            if isinstance(net, Growing):
                net.grown.fill_(grown)

    def _critic_objective(self, batch: Batch) -> Float[Tensor, " n"]:
        self.grow(batch.progress)
        return super()._critic_objective(batch)

    def _real(self, x: Rows) -> Seen:
        return self.growing.faded(super()._real(x))

    def finish(self, batch: Batch) -> None:
        self.grow(1.0)
        super().finish(batch)
