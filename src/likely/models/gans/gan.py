"""Generative adversarial network: a generator learns to deceive a critic, which learns to see through it.

Goodfellow et al. 2014, arXiv:1406.2661, eq. 1. With D = 1/(1 + e^(−f)), where f is the critic's number,
the two play for

    V = E_data log D(x) + E_noise log(1 − D(G(noise))).

At the critic's optimum, f = log p_data/p_model, this is 2 JS(data, model) − log 4: the generator's
best answer is p_model = p_data, where V = −log 4. The critic maximises V. The generator minimises
E log(1 − D) (minimax), or −E log D (non-saturating), which has the same fixed point, and a slope
where the critic is sure of itself.

With alternating steps the game circles its equilibrium unless something damps it, such as the gradient
penalty on data, R₁ = γ/2 E_data ‖∇f(x)‖² (Mescheder, Geiger & Nowozin 2018, arXiv:1801.04406, eq. 9;
the noise-induced regulariser of Roth et al. 2017, arXiv:1705.09367, is its kin).
"""

from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from likely.contract import Batch, Objective, RealView, Recipe, Rows, ViewedModel, register
from likely.contract.inputs import accept_inside, context_features, map_chunks
from likely.contract.options import NonNegative, Positive, Widths
from likely.core.domain import Domain
from likely.core.errors import DataError, LikelyError
from likely.core.likelihood import Figure, Kind
from likely.models.gans.penalties import Seen, squared_gradient
from likely.nets.augmentation import augmentation
from likely.nets.convolutional import ImageDecoder, Network, Shape, image_shape_for
from likely.nets.critic import Critic, frozen
from likely.nets.mlp import MLP, with_context
from likely.nets.normalisation import batch_norms, converge, sees_neighbours, standing_statistics

PAPER = "Goodfellow et al. 2014, arXiv:1406.2661"
STANDING, STANDING_BATCH = 2048, 256  # samples for what belongs to the final weights
MIN_IMAGE = 16  # pixels along an edge, below which convolutions cost more than they bring


@register(
    "gan-gp",
    title="GAN with a gradient penalty on data",
    constraint="none on the generator; the critic's slope on data is penalised",
    paper="Mescheder et al. 2018, arXiv:1801.04406",
    penalty=1.0,
)
@register(
    "gan",
    title="generative adversarial network",
    constraint="none on the generator; a critic next to it",
    paper=PAPER,
)
class GAN(ViewedModel):
    """Generative adversarial network with the non-saturating loss.

    It has no likelihood: `log_prob` and `log_likelihood` raise a `DensityError`. Nor do its losses
    say how good it is. Compare samples with data (`lk.evaluate`: distances between samples), look at
    `critic_gap`, and count modes where they are known (`likely.evaluation.mode_coverage`): a GAN may
    miss some and look perfect on the others.

    Parameters
    ----------
    domain : Domain
        Of real, positive, bounded, periodic, integer, count, binary or spin columns.
    context : Domain, optional
    latent : int, optional
        Dimension of the generator's normal noise; by default that of the data, from 2 to 64.
    hidden : sequence of int, optional
        Widths of the hidden layers of both networks; if they are convolutional, channels at half the
        resolution, at a quarter … None takes (128, 128, 128), or (32, 64) channels.
    network : {"auto", "mlp", "convolutional"}
        Convolutions are for images with entries of one kind; "auto" takes them from 16 × 16 pixels on.
    critic_steps : int
        Steps of the critic for each of the generator.
    critic_rate : float, optional
        Learning rate of the critic, where that of the fit is to be the generator's only.
    penalty : float
        Weight γ of R₁.
    penalty_every : int
        The penalty counts at each k-th step only, and then k times: its mean stays, at less cost.
    augment : str
        Random changes of all images that the critic sees, for small data sets: "translation", "cutout",
        "colour", or several, separated by commas. Penalties are on the slope at the changed images.

    Raises
    ------
    LikelyError
        If the penalty is negative, or convolutions are asked for where there are no images.

    Examples
    --------
    >>> import likely as lk
    >>> data = lk.load_data("eight-gaussians")
    >>> model = lk.gans.GAN(data.domain, penalty=0.1)
    >>> history = lk.fit(model, data, steps=100)
    >>> model.sample(5, seed=1).shape
    torch.Size([5, 2])
    """

    density = Kind.NONE
    recipe = Recipe(batch=256, rate=2e-3, betas=(0.0, 0.9), steps=10_000)

    def __init__(
        self,
        domain: Domain,
        *,
        latent: int | None = None,
        hidden: Widths | None = None,
        network: Network = "auto",
        critic_steps: int = 1,
        critic_rate: Positive | None = None,
        penalty: NonNegative = 0.0,
        penalty_every: int = 1,
        augment: str = "",
        **options: Any,
    ) -> None:
        image = image_shape_for(domain, network, len(domain.columns) == 1, least=MIN_IMAGE)
        super().__init__(domain, **options)
        self.view = RealView(domain, "plain" if image is None else "pixels")
        self.critic_steps, self.critic_rate = critic_steps, critic_rate
        self.penalty, self.penalty_every = penalty, penalty_every
        # A penalty that comes seldom comes with gradients as many times as large.
        self.recipe = replace(self.recipe, clip=self.recipe.clip * penalty_every)
        self.derivative_in_loss = penalty > 0
        self.latent = min(max(2, self.view.dim), 64) if latent is None else latent
        self.circles = int(self.view.periodic.sum())
        self.augmentation = augmentation(augment)
        if augment and image is None:
            raise LikelyError("augment: only images with convolutions are changed: leave it out")
        self.image = image and (image[0] * (2 if self.circles else 1), *image[1:])
        self.generator, self.critic = self.networks(image, hidden)
        self.together = not sees_neighbours(self.critic)
        self.averaged = tuple(
            f"{player}.{name}.running_{moment}"
            for player in ("generator", "critic")
            for name in batch_norms(getattr(self, player))
            for moment in ("mean", "var")
        )

    @property
    def noise(self) -> int:
        """Number of entries of a generator's noise."""
        return self.latent

    def networks(self, image: Shape | None, hidden: Widths | None) -> tuple[nn.Module, nn.Module]:
        """The generator and the critic, of an image or of any columns."""
        given, seen = self.context_size, self.view.dim + self.circles
        if image is None:
            hidden = hidden or (128, 128, 128)
            generator: nn.Module = MLP(self.noise + given, self.view.dim, hidden)
        else:
            hidden = hidden or (32, 64)
            generator = ImageDecoder(self.noise + given, image, hidden)
        return generator, Critic(seen, given, hidden, self.image)

    # The equations; a variant writes its own. `real` and `fake` are the critic's numbers.

    def critic_loss(self, real: Tensor, fake: Tensor) -> Float[Tensor, " n"]:
        """−log D(x) − log(1 − D(G)), whose mean is −V."""
        return F.softplus(-real) + F.softplus(fake)

    def generator_loss(self, fake: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
        """−log D(G)."""
        return F.softplus(-fake)

    def penalties(self, real: Seen, fake: Seen, context: Tensor | None) -> Float[Tensor, " n"]:
        """What the critic pays for its slope: R₁."""
        return self.penalty / 2 * squared_gradient(lambda u: self.critic(u, context), real)

    def bound_critic(self) -> None:
        """What is done to the critic after each of its steps: nothing here."""

    # The two players.

    def loss(self, batch: Batch) -> Tensor:
        raise LikelyError("a GAN has two players: train both of its `objectives()`")

    def objectives(self) -> list[Objective]:
        critic, generator = (list(net.parameters()) for net in (self.critic, self.generator))
        if self.context_features is not None:  # what tells real rows from others, tells most
            critic += self.context_features.parameters()
        return [
            Objective(
                "critic",
                critic,
                self._critic_objective,
                after=self.bound_critic,
                rate=self.critic_rate,
            ),
            Objective("generator", generator, self._generator_objective, every=self.critic_steps),
        ]

    def _critic_objective(self, batch: Batch) -> Float[Tensor, " n"]:
        context = context_features(self, batch.context, len(batch))
        real = self._shown(self._real(batch.x))
        with torch.no_grad():
            fake = self._shown(self._seen(self._sample_real(len(batch), context)))
        if self.together:  # one pass costs less than two
            twice = None if context is None else context.repeat(2, 1)
            loss = self.critic_loss(*self.critic(torch.cat([real, fake]), twice).chunk(2))
        else:
            loss = self.critic_loss(self.critic(real, context), self.critic(fake, context))
        return loss + self._penalty(batch, real, fake, context)

    def _penalty(
        self, batch: Batch, real: Seen, fake: Seen, context: Tensor | None
    ) -> Tensor | float:
        """The penalties, at the steps at which they count."""
        if not self.penalty or batch.step % self.penalty_every:
            return 0.0
        return self.penalty_every * self.penalties(real, fake, context)

    def _generator_objective(self, batch: Batch) -> Float[Tensor, " n"]:
        context = context_features(self, batch.context, len(batch))
        fake = self._shown(self._seen(self._sample_real(len(batch), context)))
        with frozen(self.critic):  # it judges, but does not learn from this
            return self.generator_loss(self.critic(fake, context))

    def finish(self, batch: Batch) -> None:
        """Find what belongs to the final, averaged weights: singular values, and means over batches."""
        converge(self)
        if batch_norms(self.generator):
            standing_statistics(self.generator, self._standing_inputs(batch).split(STANDING_BATCH))

    def _standing_inputs(self, batch: Batch) -> Float[Tensor, "m inputs"]:
        """Inputs of the generator, given contexts of these rows, for means over samples."""
        rows = torch.ones(len(batch)) if batch.weight is None else batch.weight
        at = torch.multinomial(rows, STANDING, replacement=True).to(self.device)
        context = context_features(self, batch.context, len(batch))
        return with_context(self._noise(STANDING), None if context is None else context[at])

    def _noise(self, n: int) -> Float[Tensor, "n noise"]:
        """What the generator makes columns of."""
        return self.view.scale.new_empty(n, self.latent).normal_()

    def _generated(
        self, noise: Float[Tensor, "n noise"], context: Tensor | None
    ) -> Float[Tensor, "n dim"]:
        """Columns of the view that the generator makes of noise."""
        return self.view.squash(self.generator(with_context(noise, context)))

    @property
    def normals(self) -> int | None:
        """As in `Generates`; None where levels of pixels or angles leave no slope."""
        return self.noise if self.view.exact and not self.circles else None

    def generate(self, z: Float[Tensor, "n normals"]) -> Rows:
        """The rows that the generator makes of numbers."""
        return self.view.inverse(self._generated(z, None))

    def _sample_real(self, n: int, context: Tensor | None) -> Float[Tensor, "n dim"]:
        return self._generated(self._noise(n), context)

    def _real(self, x: Rows) -> Seen:
        """What a critic sees of real rows."""
        return self._seen(self.view(x)[0])

    def _shown(self, seen: Seen) -> Seen:
        """What a critic sees in training: images change at random, where that is wanted."""
        if self.image is None:
            return seen
        return self.augmentation(seen.unflatten(1, self.image)).flatten(1)

    def _seen(self, z: Float[Tensor, "n dim"]) -> Seen:
        """What a critic sees of the view's columns: angles as cosine and sine, nothing jumps."""
        if not self.circles:
            return z
        circle = self.view.periodic
        return torch.cat([z[:, ~circle], z[:, circle].cos(), z[:, circle].sin()], 1)

    # Use.

    def critic_gap(
        self, x: Rows, context: Tensor | None = None, *, seed: int | None = None
    ) -> Figure:
        """Mean of the critic on real rows minus that on as many samples, and its standard error.

        Near zero the critic cannot distinguish them, either because they agree or because it is weak. The gap
        of a `wgan-gp` estimates the Wasserstein-1 distance W between the standardised columns: a weak
        critic finds less, and a penalty λ lets the best one find about W (1 + W/2λ).

        Parameters
        ----------
        x : Tensor, shape (n, *domain.shape)
            Real rows, best such as training has not seen.
        context : Tensor, shape (n, *context.shape), optional
            Of these rows; the samples are drawn given the same.
        seed : int, optional
            Of the samples.

        Raises
        ------
        DataError
            If a row lies outside the domain, or there are fewer than two.
        """
        x = accept_inside(self, x)
        if len(x) < 2:
            raise DataError(f"critic_gap: give at least two rows, not {len(x)}")

        def gap(x: Tensor, c: Tensor | None) -> Tensor:
            real, fake = self._real(x), self._seen(self._sample_real(len(x), c))
            return (self.critic(real, c) - self.critic(fake, c))[None]

        gaps = map_chunks(self, gap, x, context, seed)[0].double()
        return Figure(gaps.mean().item(), gaps.std().item() / len(gaps) ** 0.5)
