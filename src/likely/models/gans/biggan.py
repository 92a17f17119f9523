"""BigGAN: class-conditional images from residual networks.

Brock, Donahue & Simonyan 2019, arXiv:1809.11096. On top of SNGAN (hinge loss, projection):

- Each block of the generator sees a part of the noise of its own, next to the context (hierarchical
  noise): together they set gain and shift of its batch normalisation.
- Both networks are spectrally normalised.
- The generator pays β Σ_W ‖W Wᵀ ∘ (1 − I)‖² for rows of its matrices that are not orthogonal (eq. 3). Its
  gradient is 4β (W Wᵀ ∘ (1 − I)) W; the authors' code has half of it.
- Truncation: noise of which no entry is beyond a threshold trades variety for quality. Means and variances
  of the batch normalisation are those of such noise then.
"""

import copy
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from likely.contract import Batch, NonNegative, Positive, register
from likely.contract.inputs import context_features
from likely.core.domain import Domain
from likely.models.gans.gan import STANDING_BATCH
from likely.models.gans.penalties import non_orthogonality
from likely.models.gans.sngan import SNGAN
from likely.nets.adversarial import ImageCritic, ResidualFeatures, ResidualGenerator
from likely.nets.convolutional import Shape
from likely.nets.mlp import with_context
from likely.nets.normalisation import SpectralNorm, standing_statistics

TRUNCATED = 4  # batches whose moments are those of batch norms under truncation


@register(
    "biggan",
    title="class-conditional GAN of residual networks",
    constraint="all layers have spectral norm one; the generator's matrices are drawn to orthogonal rows",
    paper="Brock, Donahue & Simonyan 2019, arXiv:1809.11096",
)
class BigGAN(SNGAN):
    """Residual GAN with hierarchical noise, projection and an orthogonal penalty, best given classes.

    Parameters
    ----------
    domain, latent, minibatch_std, critic_steps, critic_rate, penalty, penalty_every, augment
        As in `SNGAN`.
    context : Domain, optional
        Classes, or any other variables.
    hidden : sequence of int, optional
        Channels at half the resolution, at a quarter … of both networks; None doubles them from 32 on.
    orthogonal : float
        Weight β of the penalty on the generator's matrices.

    Examples
    --------
    >>> import likely as lk
    >>> data = lk.load_data("sprites", context="factors")
    >>> model = lk.gans.BigGAN(data.domain, context=data.context, hidden=(4, 8))
    >>> history = lk.fit(model, data, steps=2, batch=16)
    >>> model.sample(5, context=data.test.context[0], truncation=0.5, seed=1).shape[0]
    5
    """

    first = 32

    def __init__(self, domain: Domain, *, orthogonal: NonNegative = 1e-4, **options: Any) -> None:
        super().__init__(domain, **options)
        self.orthogonal = orthogonal
        # Of training rows, for the statistics of truncated noise.
        self.contexts = nn.Buffer(torch.zeros(STANDING_BATCH, self.context_size))

    def image_networks(
        self, image: Shape, seen: Shape, widths: tuple[int, ...]
    ) -> tuple[nn.Module, nn.Module]:
        generator = ResidualGenerator(self.latent, self.context_size, image, widths)
        features = ResidualFeatures(seen, widths, minibatch_std=self.minibatch_std)
        critic = ImageCritic(features, self.context_size)
        return SpectralNorm.layers_of(generator), SpectralNorm.layers_of(critic)

    def prepare(self, batch: Batch) -> None:
        super().prepare(batch)
        context = context_features(self, batch.context, len(batch))
        if context is not None:
            at = torch.arange(STANDING_BATCH, device=self.device) % len(batch)
            self.contexts.copy_(context[at])

    def _generator_objective(self, batch: Batch) -> Float[Tensor, " n"]:
        return super()._generator_objective(batch) + self.orthogonal * self.non_orthogonality()

    def non_orthogonality(self) -> Float[Tensor, ""]:
        """Σ_W ‖W Wᵀ ∘ (1 − I)‖² over the generator's layers."""
        layers = [m.layer for m in self.generator.modules() if isinstance(m, SpectralNorm)]
        return torch.stack([non_orthogonality(layer.weight.flatten(1)) for layer in layers]).sum()

    def _sample(
        self, n: int, context: Tensor | None, *, truncation: Positive | None = None
    ) -> Tensor:
        """Draws; with a truncation no entry of the noise is beyond it, which costs variety."""
        if truncation is None:
            return super()._sample(n, context)
        generator = copy.deepcopy(self.generator)
        inputs = (
            torch.cat([self._truncated(STANDING_BATCH, truncation), self.contexts], 1)
            for _ in range(TRUNCATED)
        )
        standing_statistics(generator, inputs)
        columns = generator(with_context(self._truncated(n, truncation), context))
        return self.view.inverse(self.view.squash(columns))

    def _truncated(self, n: int, threshold: float) -> Float[Tensor, "n latent"]:
        """Noise given that no entry is beyond the threshold."""
        return nn.init.trunc_normal_(self._noise(n), a=-threshold, b=threshold)
