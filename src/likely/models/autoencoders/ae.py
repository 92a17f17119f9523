"""Autoencoder.

    z = e(x),      loss = −log p(x|z),      p(x|z) = Π_i p(x_i | d(z)_i)

An encoder e squeezes a sample into a short code, and a decoder d gives the distribution of each entry
around its reconstruction (Hinton & Salakhutdinov 2006, Science 313, 504). With Gaussians of fixed
width the loss is the squared error. It has no likelihood: log p(x|z) leaves out how rare a code is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from likely.contract.model import GenerativeModel, as_rows
from likely.contract.registry import register
from likely.contract.training import Batch, Recipe
from likely.contract.views import Features
from likely.core.columns import Column, Integer
from likely.core.domain import Domain
from likely.core.errors import DataError, LikelyError, refuse_unless_one_of
from likely.core.likelihood import Kind
from likely.models.autoencoders.networks import Decoder, Encoder
from likely.nets.convolutional import Network, image_seen
from likely.nets.heads import (
    NARROWEST,
    ColumnHeads,
    DiscretisedLogistics,
    Gaussian,
    Head,
    OrderedSoftmax,
    simple_head,
)
from likely.nets.mlp import joined

Integers = Literal["auto", "categorical", "discretised-logistic"]


@register(
    "ae",
    title="autoencoder",
    density="none",
    constraint="data near a surface of `latent` dimensions; samples from a Gaussian of the codes",
    paper="Hinton & Salakhutdinov 2006, Science 313, 504",
)
class Autoencoder(GenerativeModel):
    """Autoencoder; it reconstructs, tells anomalies, and samples codes from a Gaussian.

    After training, the Gaussian takes the mean (linear in the context, where there is one) and the
    covariance of the training rows' codes.

    Parameters
    ----------
    domain : Domain
        Of any columns.
    context : Domain, optional
        Encoder and decoder see it.
    latent : int
        Length of the code.
    hidden : sequence of int
        Widths of the hidden layers; of a convolutional network, channels at half the resolution, at
        a quarter …; the decoder has them in reverse. None takes (256, 256), or (32, 64) channels.
    network : {"auto", "mlp", "convolutional"}
        "auto" takes a convolutional network where the layout is an image.
    integers : {"auto", "categorical", "discretised-logistic"}
        Distribution of integer columns given the code; "auto" takes the categorical one for at
        most 64 levels. Reals are Gaussian (positive ones their logarithm, bounded ones their logit),
        binary columns Bernoulli, categories categorical, angles von Mises.
    scale : float, optional
        Standard deviation of the Gaussians, where each column of the data has 1; None learns one
        for each column.

    Raises
    ------
    LikelyError
        If an option is out of range, or `network` does not suit the domain.

    Examples
    --------
    >>> import likely as lk
    >>> data = lk.load_data("digits")
    >>> model = lk.autoencoders.Autoencoder(data.domain, latent=8)
    >>> history = lk.fit(model, data, steps=100)
    >>> model.anomaly_score(data.test.x).shape == data.test.x.shape[:1]
    True
    """

    recipe = Recipe(batch=128, rate=1e-3, steps=10_000)
    per_code = 1  # outputs of the encoder for each dimension of the code
    code_mean: Tensor
    code_factor: Tensor

    def __init__(
        self,
        domain: Domain,
        *,
        context: Domain | None = None,
        latent: int = 16,
        hidden: Sequence[int] | None = None,
        network: Network = "auto",
        integers: Integers = "auto",
        scale: float | None = None,
    ) -> None:
        super().__init__(
            domain,
            context=context,
            latent=latent,
            hidden=None if hidden is None else tuple(hidden),
            network=network,
            integers=integers,
            scale=scale,
        )
        if latent < 1 or (scale is not None and not NARROWEST < scale < math.inf):
            raise LikelyError(
                f"latent={latent}, scale={scale}: give a whole number above 0, and a width above "
                f"{NARROWEST:g}"
            )
        refuse_unless_one_of("network", network, Network)
        refuse_unless_one_of("integers", integers, Integers)
        self.latent = latent
        self.features = Features(domain)
        self.heads = ColumnHeads(domain, components=1, head_of=_head_of(integers))
        for head in self.heads.heads:
            if isinstance(head, Gaussian) and scale is not None:
                head.fix(scale)
        alike = self.heads.uniform and len(set(self.features.sizes)) == 1
        shape = image_seen(domain, network, alike)
        given = self.context_size
        if hidden is None:
            hidden = (256, 256) if shape is None else (32, 64)
        self.encoder = Encoder(self.features.size, self.per_code * latent, hidden, given, shape)
        self.decoder = Decoder(latent, sum(self.heads.sizes), hidden, given, shape)
        self.register_buffer("code_mean", torch.zeros(1 + given, latent))
        self.register_buffer("code_factor", torch.eye(latent))

    @property
    def density(self) -> Kind:
        return Kind.NONE

    def prepare(self, batch: Batch) -> None:
        """Take scales from the training split, and start at its independent marginals."""
        super().prepare(batch)
        self.features.prepare(batch.x, batch.weight)
        self.heads.prepare(batch.x, batch.weight)
        with torch.no_grad():
            self.decoder.bias.copy_(self.heads.initial(batch.x, batch.weight))

    def _log_prob_given(
        self, x: Tensor, z: Float[Tensor, "n latent"], context: Tensor | None
    ) -> Float[Tensor, " n"]:
        """log p(x|z)."""
        return self.heads.log_prob(self.decoder(z, context), x).sum(1)

    def _code(self, x: Tensor, context: Tensor | None) -> Float[Tensor, "n latent"]:
        return self.encoder(self.features(x), context)

    def loss(self, batch: Batch) -> Float[Tensor, " n"]:
        """−log p(x|e(x)) of each row."""
        context = self._context(batch.context, len(batch))
        return -self._log_prob_given(batch.x, self._code(batch.x, context), context)

    # What an autoencoder is for.

    def encode(
        self, x: Shaped[Tensor, "n *shape"], context: Tensor | None = None
    ) -> Float[Tensor, "n latent"]:
        """The code of each row (the mean of its distribution, where it has one).

        Raises
        ------
        DataError
            If x or the context have the wrong shape, or a row lies outside the domain.
        """
        x = self._within(x)
        _, x, features = self._checked(x, context)
        return self._code(x, features)

    def decode(
        self, z: Float[Tensor, "n latent"], context: Tensor | None = None
    ) -> Float[Tensor, "n *shape"]:
        """What each code stands for, without noise.

        That is the mean of each entry; the median, where it is positive or bounded; the likeliest
        one of categories.

        Raises
        ------
        DataError
            If a code has another length than `latent`, or the context is not as in `sample`.
        """
        z = torch.as_tensor(z).to(self.code_mean)
        if z.ndim != 2 or z.shape[1] != self.latent:
            raise DataError(f"codes of shape {tuple(z.shape)}: give (n, {self.latent})")
        return self.heads.mean(self.decoder(z, self._checked_context(context, len(z))))

    def reconstruct(
        self, x: Shaped[Tensor, "n *shape"], context: Tensor | None = None
    ) -> Float[Tensor, "n *shape"]:
        """Each row after the bottleneck, without noise."""
        with torch.no_grad():
            return self.decode(self.encode(x, context), context)

    @torch.no_grad()
    def traverse(
        self,
        x: Shaped[Tensor, "n *shape"],
        steps: Sequence[float],
        context: Tensor | None = None,
        *,
        most: int = 8,
    ) -> tuple[list[int], Float[Tensor, "dimensions steps *shape"]]:
        """Walk through the latent space from the mean code, one variable at a time.

        Parameters
        ----------
        x : Tensor, shape (n, *domain.shape)
            Rows whose codes give the mean and the standard deviation of each variable.
        steps : sequence of float
            How far to go, in these standard deviations.
        context : Tensor, optional
            As in `log_prob`; the walk has that of the first row.
        most : int
            Only so many variables, those whose codes vary most.

        Returns
        -------
        dimensions : list of int
        decoded : Tensor, shape (dimensions, steps, *domain.shape)
            Without noise, as `decode`.
        """
        z = self.encode(x, context)
        if not len(z):
            raise DataError("traverse: give at least one row")
        mean, std = z.mean(0), z.std(0, correction=0)
        dimensions = std.argsort(descending=True)[:most]
        walk = mean.repeat(len(dimensions), len(steps), 1)
        rows = torch.arange(len(dimensions), device=z.device)
        walk[rows, :, dimensions] += std[dimensions, None] * torch.tensor(steps).to(z)
        if self.context is not None and context is not None:
            context = as_rows(context, self.context, "the context")
            context = context.reshape(-1, *self.context.shape)[0]
        decoded = self.decode(walk.flatten(0, 1), context)
        return dimensions.tolist(), decoded.unflatten(0, walk.shape[:2])

    def reconstruction_error(
        self, x: Shaped[Tensor, "n *shape"], context: Tensor | None = None
    ) -> Float[Tensor, " n"]:
        """−log p(x|z) at each row's own code, in nats; infinite for rows outside the domain."""

        def error(x: Tensor, context: Tensor | None) -> Tensor:
            return self._log_prob_given(x, self._code(x, context), context)[None]

        return -self._in_chunks(error, x, context)[0]

    def anomaly_score(
        self,
        x: Shaped[Tensor, "n *shape"],
        context: Tensor | None = None,
        *,
        seed: int | None = None,
    ) -> Float[Tensor, " n"]:
        """How badly each row is reconstructed: `reconstruction_error`."""
        return self.reconstruction_error(x, context)

    # Samples.

    @torch.no_grad()
    def finish(self, batch: Batch) -> None:
        """Fit the Gaussian of the codes: z = A (1, c) + L ε, by weighted least squares."""
        context = self._context(batch.context, len(batch))
        z = torch.cat(
            [
                self._code(batch.x[a:b], None if context is None else context[a:b])
                for a, b in self._chunks(len(batch))
            ]
        ).double()
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
        return joined(torch.ones(n, 1, dtype=self.code_mean.dtype, device=self.device), context)

    def _sample_code(self, n: int, context: Tensor | None) -> Float[Tensor, "n latent"]:
        noise = torch.randn(n, self.latent, dtype=self.code_factor.dtype, device=self.device)
        return self._affine(context, n) @ self.code_mean + noise @ self.code_factor.mT

    def _sample(self, n: int, context: Tensor | None) -> Tensor:
        return self.heads.sample(self.decoder(self._sample_code(n, context), context))


def _head_of(integers: Integers) -> Callable[[Column], type[Head] | None]:
    def head_of(column: Column) -> type[Head] | None:
        if isinstance(column, Integer) and (column.levels or 0) > 2 and integers != "auto":
            return OrderedSoftmax if integers == "categorical" else DiscretisedLogistics
        return simple_head(column)

    return head_of
