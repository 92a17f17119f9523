"""Autoencoder.

    z = e(x),      loss = −log p(x|z),      p(x|z) = Π_i p(x_i | d(z)_i)

An encoder e squeezes a sample into a short code, and a decoder d gives the distribution of each entry
around its reconstruction (Hinton & Salakhutdinov 2006, Science 313, 504). With Gaussians of fixed
width the loss is the squared error. It has no likelihood: log p(x|z) leaves out how rare a code is.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from likely.contract import Batch, Recipe, Rows, register
from likely.contract.inputs import chunks, context_features
from likely.core.domain import Domain
from likely.core.likelihood import Kind
from likely.models.autoencoders.base import Codes, LatentModel
from likely.nets.mlp import with_context


@register(
    "ae",
    title="autoencoder",
    constraint="data near a surface of `latent` dimensions; samples from a Gaussian of the codes",
    paper="Hinton & Salakhutdinov 2006, Science 313, 504",
)
class Autoencoder(LatentModel):
    """Autoencoder; it reconstructs, detects anomalies, and samples codes from a Gaussian.

    After training, the Gaussian takes the mean (linear in the context, where there is one) and the
    covariance of the training rows' codes.

    Parameters and errors are those of `LatentModel`.

    Examples
    --------
    >>> import likely as lk
    >>> data = lk.load_data("digits")
    >>> model = lk.autoencoders.Autoencoder(data.domain, latent=8)
    >>> history = lk.fit(model, data, steps=20)
    >>> model.anomaly_score(data.test.x).shape == data.test.x.shape[:1]
    True
    """

    density = Kind.NONE
    recipe = Recipe(batch=128, rate=1e-3, steps=10_000)

    def __init__(self, domain: Domain, **options: Any) -> None:
        super().__init__(domain, **options)
        self.code_mean = nn.Buffer(torch.zeros(1 + self.context_size, self.latent))
        self.code_factor = nn.Buffer(torch.eye(self.latent))

    def loss(self, batch: Batch) -> Float[Tensor, " n"]:
        """−log p(x|e(x)) of each row."""
        context = context_features(self, batch.context, len(batch))
        return -self._log_prob_given(batch.x, self._code(batch.x, context), context)

    def anomaly_score(
        self, x: Rows, context: Tensor | None = None, *, seed: int | None = None
    ) -> Float[Tensor, " n"]:
        """How badly each row is reconstructed: `reconstruction_error`."""
        return self.reconstruction_error(x, context)

    # Samples.

    @torch.no_grad()
    def finish(self, batch: Batch) -> None:
        """Fit the Gaussian of the codes: z = A (1, c) + L ε, by weighted least squares."""
        context = context_features(self, batch.context, len(batch))
        codes = [
            self._code(batch.x[at], None if context is None else context[at])
            for at in chunks(self.domain, len(batch))
        ]
        z = torch.cat(codes).double()
        root = z.new_ones(len(z)) if batch.weight is None else batch.weight.to(z).sqrt()
        design = root[:, None] * self._affine(context, len(z)).double()
        self.code_mean.copy_(torch.linalg.pinv(design) @ (root[:, None] * z))
        residual = root[:, None] * z - design @ self.code_mean.double()
        covariance = residual.mT @ residual / root.square().sum()
        jitter = 1e-6 * covariance.diagonal().mean() + torch.finfo(z.dtype).tiny
        one = torch.eye(self.latent, dtype=z.dtype, device=z.device)
        self.code_factor.copy_(torch.linalg.cholesky(covariance + jitter * one))

    def _affine(self, context: Tensor | None, n: int) -> Float[Tensor, "n features"]:
        """The context with a leading one."""
        return with_context(self.code_mean.new_ones(n, 1), context)

    def _sample_code(self, n: int, context: Tensor | None) -> Codes:
        noise = torch.randn(n, self.latent, dtype=self.code_factor.dtype, device=self.device)
        return self._affine(context, n) @ self.code_mean + noise @ self.code_factor.mT
