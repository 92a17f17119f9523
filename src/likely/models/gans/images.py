"""What adversarial networks of images share: which images they take, and widths that suit them."""

from torch import nn

from likely.contract import NonNegative, Positive, Widths
from likely.core.domain import Domain
from likely.core.errors import LikelyError
from likely.models.gans.gan import GAN
from likely.nets.adversarial import COARSEST, doubling
from likely.nets.convolutional import Shape, image_shape

EDGES = range(16, 65)  # pixels


class ImageGAN(GAN):
    """A GAN of images; a subclass writes `image_networks`.

    Parameters
    ----------
    domain : Domain
        With the layout of an image of 16 to 64 pixels along an edge, of one kind.
    context : Domain, optional
        It joins the generator's noise, and the critic as an inner product with its features (projection).
    latent : int
        Dimension of the generator's normal noise.
    hidden : sequence of int, optional
        Channels at half the resolution, at a quarter … of both networks. None doubles them down to edges of
        4 to 7 pixels.
    minibatch_std : bool
        Whether the critic sees how much the samples of a batch differ.
    critic_steps, critic_rate, penalty, penalty_every, augment
        As in `GAN`, and so are its limits.

    Raises
    ------
    LikelyError
        If an option is out of range, or there are more widths than an image can be halved.
    """

    of_one_kind = True
    first = 64  # of the widths
    coarsest = COARSEST  # pixels along an edge, at most

    def __init__(
        self,
        domain: Domain,
        *,
        context: Domain | None = None,
        context_encoder: nn.Module | str | None = None,
        latent: int = 64,
        hidden: Widths | None = None,
        minibatch_std: bool = False,
        critic_steps: int = 1,
        critic_rate: Positive | None = None,
        penalty: NonNegative = 0.0,
        penalty_every: int = 1,
        augment: str = "",
    ) -> None:
        self.minibatch_std = minibatch_std
        super().__init__(
            domain,
            context=context,
            context_encoder=context_encoder,
            latent=latent,
            hidden=hidden,
            network="convolutional",
            critic_steps=critic_steps,
            critic_rate=critic_rate,
            penalty=penalty,
            penalty_every=penalty_every,
            augment=augment,
        )

    @classmethod
    def obstacle(cls, domain: Domain) -> str | None:
        shape = image_shape(domain)
        fits = shape is not None and all(edge in EDGES for edge in shape[1:])
        where = 'anything but layout="image" with edges of 16 to 64 pixels'
        return super().obstacle(domain) or (None if fits else where)

    def networks(self, image: Shape | None, hidden: Widths | None) -> tuple[nn.Module, nn.Module]:
        assert image is not None
        assert self.image is not None
        widths = tuple(hidden or doubling(image, self.first, coarsest=self.coarsest))
        if not min(image[1:]) >> len(widths):
            raise LikelyError(f"hidden={widths}: edges of {image[1:]} pixels are halved less often")
        return self.image_networks(image, self.image, widths)

    def image_networks(
        self, image: Shape, seen: Shape, widths: tuple[int, ...]
    ) -> tuple[nn.Module, nn.Module]:
        """The generator of images of one shape, and the critic of what it sees of them."""
        raise NotImplementedError
