"""Denoising autoencoder.

    x̃ ~ C(x̃|x),      loss = −log p(x|e(x̃))

(Vincent, Larochelle, Bengio & Manzagol 2008, doi:10.1145/1390156.1390294). To repair what the corruption
C destroyed, the network has to learn where data lie; alternating the two,

    x̃_t ~ C(x̃|x_t),      x_{t+1} ~ p(x|e(x̃_t)),

is a Markov chain whose stationary distribution estimates that of the data (Bengio, Yao, Alain & Vincent
2013, arXiv:1305.6663, theorem 1).
"""

from typing import Annotated, Any

import torch
from torch import Tensor, nn

from likely.contract import Batch, Range, register
from likely.contract.inputs import context_features
from likely.core.domain import Domain
from likely.models.autoencoders.ae import Autoencoder


@register(
    "dae",
    title="denoising autoencoder",
    constraint="sampled by a Markov chain that corrupts and repairs",
    paper="Vincent et al. 2008; Bengio et al. 2013, arXiv:1305.6663",
)
class DenoisingAutoencoder(Autoencoder):
    """Denoising autoencoder: as `Autoencoder`, but the encoder sees corrupted samples.

    The other parameters and the errors are those of `Autoencoder`.

    Parameters
    ----------
    noise : float
        Corruption C: the probability that a discrete entry is blanked (its features become zero), and
        the standard deviation of the normal noise on a continuous one's features, which have 1.
    transitions : int
        Steps of the chain for a sample; it starts as a sample of `Autoencoder`.
    """

    def __init__(
        self,
        domain: Domain,
        *,
        noise: Annotated[float, Range(0, 1, open="low")] = 0.3,
        transitions: int = 20,
        **options: Any,
    ) -> None:
        super().__init__(domain, **options)
        self.noise, self.transitions = noise, transitions
        sizes = torch.tensor(self.features.sizes)
        discrete = torch.tensor([domain.column(i).discrete for i in range(domain.size)])
        self.entry = nn.Buffer(torch.repeat_interleave(sizes), persistent=False)  # of each feature
        self.discrete = nn.Buffer(discrete, persistent=False)  # entries

    def _corrupted(self, features: Tensor) -> Tensor:
        """C, on the features of a sample."""
        blanked = torch.rand(len(features), self.domain.size, device=self.device) < self.noise
        noisy = features + self.noise * torch.randn_like(features)
        blank = torch.where(blanked[:, self.entry], 0.0, features)
        return torch.where(self.discrete[self.entry], blank, noisy)

    def loss(self, batch: Batch) -> Tensor:
        """−log p(x|e(x̃)) of each row."""
        context = context_features(self, batch.context, len(batch))
        z = self.encoder(self._corrupted(self.features(batch.x)), context)
        return -self._log_prob_given(batch.x, z, context)

    def _sample(self, n: int, context: Tensor | None) -> Tensor:
        x = super()._sample(n, context)
        for _ in range(self.transitions):
            z = self.encoder(self._corrupted(self.features(x)), context)
            x = self.heads.sample(self.decoder(z, context))
        return x
