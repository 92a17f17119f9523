"""StyleGAN: images whose layers take styles, from coarse to fine.

Karras, Laine & Aila 2019, arXiv:1812.04948, and Karras et al. 2020, arXiv:1912.04958 (StyleGAN2). A mapping
network makes of noise z a latent w, whose styles scale the channels of each layer (`likely.nets.style`); what
is random in an image beyond that comes from noise in each layer. Then

- styles mix: layers before some one take w, later ones w′, in training at random, so that each resolution
  learns its own aspects of an image;
- truncation, w ← w̄ + ψ (w − w̄), trades variety for quality, where w̄ = E w is the mean latent;
- the losses are those of Goodfellow et al. (non-saturating) with R₁, now and then;
- with the option `path`, the generator pays for changes of image that differ in size: (‖Jᵀy‖ − a)², with
  the Jacobian J of images by w, normal images y, and the running mean a of ‖Jᵀy‖.

The second w of mixed styles does not count for w̄, which `finish` finds for the final weights.
"""

from typing import Annotated, Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from likely.contract import Batch, NonNegative, Positive, Range, Recipe, Rows, register
from likely.contract.inputs import accept_context, context_features, of_each
from likely.core.domain import Domain
from likely.core.random import seeded
from likely.models.gans.images import ImageGAN
from likely.models.gans.penalties import path_lengths
from likely.nets.adversarial import ImageCritic
from likely.nets.convolutional import Shape
from likely.nets.growing import PlainFeatures
from likely.nets.mlp import with_context
from likely.nets.normalisation import Equalised
from likely.nets.style import StyleGenerator, Styles, crossed

PATH_EVERY, PATH_MEMORY = 4, 0.01  # steps, and the weight of one in the mean


@register(
    "stylegan",
    title="GAN of styles",
    constraint="none on the generator; the critic's slope on data is penalised",
    paper="Karras et al. 2020, arXiv:1912.04958",
)
class StyleGAN(ImageGAN):
    """Style-based GAN, of the size of a laptop.

    Parameters
    ----------
    domain : Domain
        With the layout of an image of 16 to 64 pixels along an edge, of one kind.
    context : Domain, optional
        It joins the noise in the mapping network, and the critic as in `ImageGAN`.
    hidden : sequence of int, optional
        Channels at half the resolution, at a quarter … of both networks; None doubles them from 32 on.
    minibatch_std : bool
        Whether the critic sees how much the samples of a batch differ.
    penalty, penalty_every
        Weight γ of R₁, and at which steps it counts, as in `GAN`.
    mapping : int
        Layers of the mapping network.
    mapping_rate : float
        Factor of its learning rate.
    mixing : float
        Part of the samples in training whose later layers have the styles of another.
    path : float
        Weight of path lengths, which count at each fourth step, four times.
    latent, critic_steps, critic_rate, augment
        As in `ImageGAN`.

    Examples
    --------
    >>> import likely as lk
    >>> data = lk.load_data("sprites")
    >>> model = lk.gans.StyleGAN(data.domain, hidden=(4, 8))
    >>> history = lk.fit(model, data, steps=2, batch=16)
    >>> model.sample(5, truncation=0.7, seed=1).shape[0]
    5
    >>> styles = model.styles(5, seed=1)
    >>> model.sample(5, styles=styles.flip(0), seed=1).shape[0]
    5
    """

    recipe = Recipe(batch=32, rate=2e-3, betas=(0.0, 0.99), steps=10_000)
    first = 32
    generator: StyleGenerator

    def __init__(
        self,
        domain: Domain,
        *,
        minibatch_std: bool = True,
        penalty: NonNegative = 1.0,
        penalty_every: int = 16,
        mapping: int = 2,
        mapping_rate: Positive = 0.01,
        mixing: Annotated[float, Range(0, 1)] = 0.5,
        path: NonNegative = 0.0,
        **options: Any,
    ) -> None:
        self.mapping = mapping, mapping_rate, mixing
        super().__init__(
            domain,
            minibatch_std=minibatch_std,
            penalty=penalty,
            penalty_every=penalty_every,
            **options,
        )
        self.path, self.path_mean = path, 0.0
        self.derivative_in_loss = penalty > 0 or path > 0
        self.mean_latent = nn.Buffer(torch.zeros(self.latent))

    def image_networks(
        self, image: Shape, seen: Shape, widths: tuple[int, ...]
    ) -> tuple[nn.Module, nn.Module]:
        generator = StyleGenerator(self.latent, self.context_size, image, widths, *self.mapping)
        critic = ImageCritic(PlainFeatures(seen, widths, self.minibatch_std), self.context_size)
        return generator, Equalised.layers_of(critic)

    # Path lengths.

    def _generator_objective(self, batch: Batch) -> Float[Tensor, " n"]:
        loss = super()._generator_objective(batch)
        if not self.path or batch.step % PATH_EVERY:
            return loss
        context = context_features(self, batch.context, len(batch))
        styles = self.generator.styles(with_context(self._noise(len(batch)), context))
        assert self.image is not None
        pixels = self.image[1] * self.image[2]
        length = path_lengths(self._images, styles, pixels)
        mean = length.mean().item()
        self.path_mean += (PATH_MEMORY if self.path_mean else 1.0) * (mean - self.path_mean)
        return loss + PATH_EVERY * self.path * (length - self.path_mean).square()

    def training_state(self) -> dict[str, Any]:
        return {"path_mean": self.path_mean}

    def load_training_state(self, state: dict[str, Any]) -> None:
        self.path_mean = state.get("path_mean", 0.0)

    # Use.

    @torch.no_grad()
    def finish(self, batch: Batch) -> None:
        super().finish(batch)
        styles = self.generator.styles(self._standing_inputs(batch))
        self.mean_latent.copy_(styles[:, 0].mean(0))  # the first layer's are never mixed

    def _images(self, styles: Styles, noise: bool = True) -> Float[Tensor, "n dim"]:
        """Columns of the view that the generator makes of styles."""
        return self.view.squash(self.generator.synthesis(styles, noise))

    def generate(self, z: Float[Tensor, "n normals"]) -> Rows:
        """The rows that the generator makes of numbers, without the noise of its layers."""
        return self.view.inverse(self._images(self.generator.styles(z), noise=False))

    @torch.no_grad()
    def styles(self, n: int, *, context: Any = None, seed: int | None = None) -> Styles:
        """Draw styles: for each sample a latent for each layer, from coarse to fine, all the same.

        Parameters
        ----------
        n : int
        context, seed
            As in `sample`.

        Raises
        ------
        DataError
            If the context is missing, not wanted, or outside its domain.
        """
        features = accept_context(self, context, n)
        with seeded(seed, self.device):
            return self.generator.styles(with_context(self._noise(n), features))

    def sample(self, n: int, *, styles: Tensor | None = None, **sampling: Any) -> Any:
        """Draw from the model, with styles if there are some; otherwise as `GenerativeModel.sample`.

        Parameters
        ----------
        n : int
        styles : Tensor, shape (n, layers, latent) or (layers, latent), optional
            As `styles` draws them, or mixed; one row serves all draws.
        truncation : float
            ψ: 0 draws the mean latent, 1 the plain samples.
        noise : bool
            Whether layers add noise.
        **sampling
            As in `GenerativeModel.sample`.

        Raises
        ------
        DataError
            If the styles have another shape.
        """
        if styles is not None:
            row = self.generator.layers, self.latent
            styles = of_each(styles.to(self.mean_latent), row, n, "the styles have")
        return super().sample(n, styles=styles, **sampling)

    def _sample(
        self,
        n: int,
        context: Tensor | None,
        *,
        truncation: NonNegative = 1.0,
        styles: Tensor | None = None,
        noise: bool = True,
    ) -> Tensor:
        """Draws; styles have a row for each."""
        if styles is None:
            styles = self.generator.styles(with_context(self._noise(n), context))
        styles = self.mean_latent + truncation * (styles - self.mean_latent)
        return self.view.inverse(self._images(styles, noise))

    @torch.no_grad()
    def mix_styles(
        self, n: int, first: int | None = None, *, context: Any = None, seed: int | None = None
    ) -> Float[Tensor, "n n *shape"]:
        """Images with the coarse styles of sample i and the fine ones of sample j; i = j are the samples.

        Parameters
        ----------
        n : int
        first : int, optional
            The first layer of the fine styles; None takes the middle one.
        context, seed
            As in `sample`.
        """
        styles = self.styles(n, context=context, seed=seed)
        coarse, fine = styles.repeat_interleave(n, 0), styles.repeat(n, 1, 1)
        mixed = crossed(coarse, fine, self.generator.layers // 2 if first is None else first)
        return self.view.inverse(self._images(mixed, noise=False)).unflatten(0, (n, n))
