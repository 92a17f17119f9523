"""What models with a latent code share: an encoder, a decoder, and what they are for."""

from collections.abc import Sequence
from functools import partial
from typing import Annotated, Any

import torch
from jaxtyping import Float
from torch import Tensor

from likely.contract import Batch, Features, GenerativeModel, Range, Rows
from likely.contract.inputs import accept, accept_context, accept_inside, as_rows, map_chunks
from likely.core.columns import Constant, Real
from likely.core.domain import Domain
from likely.core.errors import DataError, LikelyError
from likely.core.numbers import whole
from likely.models.autoencoders.networks import Decoder, Encoder
from likely.nets.convolutional import Network, Shape, image_shape_for
from likely.nets.heads import NARROWEST, ColumnHeads, Gaussian, Integers, simple_head

Codes = Float[Tensor, "n latent"]


class LatentModel(GenerativeModel):
    """A model with a code z of each row: an encoder, and a decoder that gives p(x|z) = Π_i p(x_i|z).

    A subclass writes `loss`, `_sample_code`, and `_code` where the code has a distribution.

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
    """

    def __init__(
        self,
        domain: Domain,
        *,
        latent: int = 16,
        hidden: Sequence[int] | None = None,
        network: Network = "auto",
        integers: Integers = "auto",
        scale: Annotated[float, Range(NARROWEST, open="low")] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(domain, **options)
        self.latent = latent
        self.features = Features(domain)
        head_of = partial(simple_head, integers=integers)
        self.heads = ColumnHeads(domain, components=1, head_of=head_of)
        for head in self.heads.heads:
            if isinstance(head, Gaussian) and scale is not None:
                head.fix(scale)
        alike = self.heads.uniform and len(set(self.features.sizes)) == 1
        shape = image_shape_for(domain, network, alike)
        self._build(hidden, shape)

    def _build(
        self, hidden: Sequence[int] | None, shape: Shape | None, grid: int | None = None
    ) -> None:
        """Make encoder and decoder of the options `hidden` and `network`; `grid` as in `Encoder`."""
        if hidden is None:
            hidden = (256, 256) if shape is None else (32, 64)
        inputs, outputs, given = self.features.size, sum(self.heads.sizes), self.context_size
        self.encoder = Encoder(inputs, self._encoder_outputs(), hidden, given, shape, grid)
        self.decoder = Decoder(self.latent, outputs, hidden, given, shape, grid)

    def _encoder_outputs(self) -> int:
        """How many numbers the encoder gives for a row; `latent` is known by then."""
        return self.latent

    def prepare(self, batch: Batch) -> None:
        """Take scales from the training split, and start at its independent marginals."""
        super().prepare(batch)
        self.features.prepare(batch.x, batch.weight)
        self.heads.prepare(batch.x, batch.weight)
        with torch.no_grad():
            self.decoder.bias.copy_(self._initial(batch))

    def _initial(self, batch: Batch) -> Tensor:
        """Outputs that give about the marginals of these rows."""
        return self.heads.initial(batch.x, batch.weight)

    def _log_prob_given(self, x: Tensor, z: Codes, context: Tensor | None) -> Float[Tensor, " n"]:
        """log p(x|z)."""
        return self.heads.log_prob(self.decoder(z, context), x).sum(1)

    def _code(self, x: Tensor, context: Tensor | None) -> Codes:
        return self.encoder(self.features(x), context)

    def _sample_code(self, n: int, context: Tensor | None) -> Codes:
        raise NotImplementedError

    def _sample(self, n: int, context: Tensor | None) -> Tensor:
        return self.heads.sample(self.decoder(self._sample_code(n, context), context))

    # What codes are for.

    def encode(self, x: Rows, context: Tensor | None = None) -> Codes:
        """The code of each row (the mean of its distribution, where it has one).

        Raises
        ------
        DataError
            If x or the context have the wrong shape, or a row lies outside the domain.
        """
        _, x, features = accept(self, accept_inside(self, x), context)
        return self._code(x, features)

    def decode(self, z: Codes, context: Tensor | None = None) -> Float[Tensor, "n *shape"]:
        """What each code stands for, without noise.

        That is the mean of each entry; the median, where it is positive or bounded; the likeliest
        one of categories.

        Raises
        ------
        DataError
            If a code has another length than `latent`, or the context is not as in `sample`.
        """
        z = torch.as_tensor(z).to(self.decoder.bias)
        if z.ndim != 2 or z.shape[1] != self.latent:
            raise DataError(f"codes of shape {tuple(z.shape)}: give (n, {self.latent})")
        return self._decoded(z, accept_context(self, context, len(z)))

    def _decoded(self, z: Codes, context: Tensor | None) -> Tensor:
        return self.heads.mean(self.decoder(z, context))

    @property
    def decoder_std(self) -> Float[Tensor, "*shape"] | None:
        """Standard deviation of each entry about what `decode` gives, where all are Gaussian; else None."""
        if not self.domain.kinds <= {Real, Constant}:
            return None
        std = self.heads.domain.anchor.flatten().double().zero_()
        for head in self.heads.heads:
            assert isinstance(head, Gaussian)
            std[head.entries] = (head.widths() * head.scale).detach().to(std)
        return std.reshape(self.domain.shape).to(self.device)

    def reconstruct(self, x: Rows, context: Tensor | None = None) -> Float[Tensor, "n *shape"]:
        """Each row after the bottleneck, without noise."""
        with torch.no_grad():
            return self.decode(self.encode(x, context), context)

    @torch.no_grad()
    def interpolate(
        self, x0: Rows, x1: Rows, steps: int = 8, context: Tensor | None = None
    ) -> Float[Tensor, "n steps *shape"]:
        """Walk along the straight line from the code of each row of x0 to that of the same row of x1.

        Parameters
        ----------
        x0, x1 : Tensor, shape (n, *domain.shape)
        steps : int
            Codes of each walk, both ends included.
        context : Tensor, optional
            As in `log_prob`; both ends and the walk between have it.

        Returns
        -------
        Tensor, shape (n, steps, *domain.shape)
            Without noise, as `decode`.

        Raises
        ------
        DataError
            As in `encode`, or if x0 and x1 do not have the same number of rows.
        LikelyError
            If there are fewer than two steps.
        """
        if (steps := whole("steps", steps)) < 2:
            raise LikelyError(f"interpolate: steps={steps}: give two or more, for both ends")
        ends = self.encode(x0, context), self.encode(x1, context)
        if len(ends[0]) != len(ends[1]):
            raise DataError(f"interpolate: {len(ends[0])} rows and {len(ends[1])}: give pairs")
        t = torch.linspace(0, 1, steps).to(ends[0])[:, None]
        walk = torch.lerp(ends[0][:, None], ends[1][:, None], t)
        features = accept_context(self, context, len(walk))
        features = None if features is None else features.repeat_interleave(steps, 0)
        return self._decoded(walk.flatten(0, 1), features).unflatten(0, walk.shape[:2])

    @torch.no_grad()
    def traverse(
        self, x: Rows, steps: Sequence[float], context: Tensor | None = None, *, most: int = 8
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
            Largest number of variables; those whose codes vary most.

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

    def reconstruction_error(self, x: Rows, context: Tensor | None = None) -> Float[Tensor, " n"]:
        """−log p(x|z) at each row's own code, in nats; infinite for rows outside the domain."""

        def error(x: Tensor, context: Tensor | None) -> Tensor:
            return self._log_prob_given(x, self._code(x, context), context)[None]

        return -map_chunks(self, error, x, context)[0]
