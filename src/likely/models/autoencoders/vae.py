"""Variational autoencoder.

    p(x) = ∫ p(x|z) N(z; 0, 1) dz,      q(z|x) = N(z; μ(x), diag σ(x)²)

    log p(x) ≥ ELBO(x) = E_q log p(x|z) − KL(q(z|x)‖N(0, 1))

    log p(x) ≥ E log 1/K Σ_k p(x|z_k) N(z_k; 0, 1)/q(z_k|x),      z_k ~ q(z|x)

(Kingma & Welling 2014, arXiv:1312.6114, eq. 3; Rezende, Mohamed & Wierstra 2014, arXiv:1401.4082). The second
bound is the ELBO at K = 1 and rises with K to log p(x) (Burda, Grosse & Salakhutdinov 2016,
arXiv:1509.00519, theorem 1).
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from likely.contract import Batch, NonNegative, NonNegativeInt, Recipe, Rows, register
from likely.contract.inputs import CHUNK, context_features, map_chunks
from likely.core.domain import Domain
from likely.core.likelihood import Estimator, Kind, Likelihood, importance_bound, mean_and_error
from likely.models.autoencoders.base import Codes, LatentModel
from likely.nets.heads import NARROWEST


@register(
    "vae",
    title="variational autoencoder",
    constraint="entries independent given `latent` Gaussian variables",
    paper="Kingma & Welling 2014, arXiv:1312.6114",
)
class VAE(LatentModel):
    """Variational autoencoder.

    The other parameters and the errors are those of `LatentModel`.

    Parameters
    ----------
    latent : int
        Number of latent variables.
    beta : float
        Weight of the KL divergence in the loss (Higgins et al. 2017); 1 trains on the ELBO. The
        reported likelihoods are bounds of log p(x) whatever it is.
    warm_up : int
        Steps over which that weight rises from zero (Sønderby et al. 2016, arXiv:1602.02282).
    free_bits : float
        KL divergence in nats that each latent variable has for free (Kingma et al. 2016,
        arXiv:1606.04934, eq. 15).

    Examples
    --------
    >>> import likely as lk
    >>> data = lk.load_data("digits")
    >>> model = lk.autoencoders.VAE(data.domain, latent=8)
    >>> history = lk.fit(model, data, steps=20)
    >>> str(model.log_likelihood(data.test.x[:4], draws=64).kind)
    'lower bound'
    """

    density = Kind.LOWER
    recipe = Recipe(batch=128, rate=3e-3, weight_decay=0.01)
    per_code = 2

    def __init__(
        self,
        domain: Domain,
        *,
        beta: NonNegative = 1.0,
        warm_up: NonNegativeInt = 200,
        free_bits: NonNegative = 0.0,
        **options: Any,
    ) -> None:
        super().__init__(domain, **options)
        self.beta, self.warm_up, self.free_bits = beta, warm_up, free_bits

    def _posterior(self, x: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        """μ and σ of q(z|x), shape (n, latent) each."""
        mean, raw = self.encoder(self.features(x), context).chunk(2, 1)
        return mean, F.softplus(raw + math.log(math.e - 1)) + NARROWEST

    def _code(self, x: Tensor, context: Tensor | None) -> Tensor:
        return self._posterior(x, context)[0]

    def loss(self, batch: Batch) -> Float[Tensor, " n"]:
        """−log p(x|z) + β KL of each row, with one draw of z."""
        context = context_features(self, batch.context, len(batch))
        mean, std = self._posterior(batch.x, context)
        z = mean + std * torch.randn_like(std)
        divergence = _divergence(mean, std)
        if self.free_bits:
            weight = torch.ones_like(mean[:, 0]) if batch.weight is None else batch.weight.to(mean)
            free = weight @ divergence < self.free_bits * weight.sum()
            divergence = torch.where(free, self.free_bits, divergence)
        beta = self.beta * min(1.0, (batch.step + 1) / max(1, self.warm_up))
        return beta * divergence.sum(1) - self._log_prob_given(batch.x, z, context)

    # Bounds.

    def estimator(self, *, seed: int | None = None, draws: int = 64) -> Estimator:
        """The importance-weighted bound of each row, with K = `draws`; its error is the delta method's."""
        return Estimator(self._reduced(importance_bound, draws), Kind.LOWER)

    def elbo(
        self, x: Rows, context: Tensor | None = None, *, seed: int | None = None, draws: int = 64
    ) -> Likelihood:
        """The evidence lower bound of each row: the mean over `draws` draws, with its error."""
        value, *stderr = map_chunks(self, self._reduced(mean_and_error, draws), x, context, seed)
        return Likelihood(value, Kind.LOWER, *stderr)

    def _reduced(
        self, reduce: Callable[[Tensor], Tensor], draws: int
    ) -> Callable[[Tensor, Tensor | None], Tensor]:
        """`reduce` of the log-weights of all draws, shape (draws, n): a bound and its error."""

        def bound(x: Tensor, context: Tensor | None) -> Tensor:
            posterior = self._posterior(x, context)
            at_a_time = max(1, 8 * CHUNK // max(1, x.numel()))
            parts = [
                self._log_weights(x, context, *posterior, min(at_a_time, draws - done))
                for done in range(0, draws, at_a_time)
            ]
            return reduce(torch.cat(parts))

        return bound

    def _log_weights(
        self, x: Tensor, context: Tensor | None, mean: Tensor, std: Tensor, draws: int
    ) -> Float[Tensor, "draws n"]:
        """log p(x|z) N(z; 0, 1)/q(z|x) for draws z ~ q(z|x)."""
        noise = torch.randn(draws, *mean.shape, dtype=mean.dtype, device=mean.device)
        z = mean + std * noise
        repeated = x.expand(draws, *x.shape).flatten(0, 1)
        features = None if context is None else context.repeat(draws, 1)
        given = self._log_prob_given(repeated, z.flatten(0, 1), features).view(draws, -1)
        return given + ((noise.square() - z.square()) / 2 + std.log()).sum(2)

    def _sample_code(self, n: int, context: Tensor | None) -> Codes:
        return self.decoder.bias.new_empty(n, self.latent).normal_()


def _divergence(mean: Tensor, std: Tensor) -> Tensor:
    """KL(N(μ, σ²)‖N(0, 1)) of each latent variable."""
    return (mean.square() + std.square() - 1) / 2 - std.log()
