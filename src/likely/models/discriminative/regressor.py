"""Gaussians whose mean and covariance are a network's outputs.

    p(y|x) = N(y; μ(x), L(x) L(x)ᵀ)

with L diagonal, of deviations σ(x), or lower triangular. Where the likelihood is maximised, rows with small
σ pull at μ the most, those that are fitted badly at first with a large one hardly at all, and some never
recover. The β-NLL (Seitzer, Tavakoli, Antic & Martius 2022, arXiv:2203.09168, eq. 5) weighs the term of each
column by its σ^2β, without the gradient of that: β = 1 pulls at μ as least squares do.
"""

import math
from collections.abc import Sequence
from typing import Annotated, Any, Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from likely.contract import LOG_TWO_PI, Batch, Positive, Range, RealModel, Rows, register
from likely.contract.inputs import accept_context, accept_inside, context_features
from likely.core.columns import Constant, Real
from likely.core.domain import Domain
from likely.core.errors import LikelyError
from likely.models.discriminative.base import Discriminative
from likely.nets.convolutional import Network


class Moments(NamedTuple):
    """Mean and covariance of the columns of n rows, in the data's own units.

    Attributes
    ----------
    mean : Tensor, shape (n, *domain.shape)
    covariance : Tensor, shape (n, size, size)
    """

    mean: Tensor
    covariance: Tensor


@register(
    "regressor",
    title="regression with Gaussian errors from a network",
    constraint="real columns that are Gaussian given a context",
    paper="Seitzer et al. 2022, arXiv:2203.09168 (β-NLL)",
)
class Regressor(Discriminative, RealModel):
    """p(y|x) of real columns y: a Gaussian whose mean and covariance a network of x gives.

    `domain` is where y lives and `context` where x does: `lk.load_data(…, predict="mass")` makes such
    data, or columns and a context as for any conditional model.

    Parameters
    ----------
    domain : Domain
        Real columns.
    context : Domain
        Any; images with pixels of one kind pass a convolutional network.
    hidden : sequence of int, optional
        Widths of the hidden layers; if they are convolutional, channels at half the resolution, at a
        quarter …. None takes (128, 128), or (32, 64) channels; () is linear.
    network : {"auto", "mlp", "convolutional"}
        Convolutions are for images with pixels of one kind; "auto" takes them there.
    covariance : {"diagonal", "full"}
        Whether columns are independent given x.
    beta : float
        β of the β-NLL: 0 is maximum likelihood; ½ helps where the mean stays far off. It is for
        a diagonal covariance.
    floor : float
        The least deviation, in deviations of the column over all training rows. In a full covariance
        it is that of a column given those before it.

    Raises
    ------
    DomainError
        If a column is not real, or there is no context.
    LikelyError
        If an option is out of range, or `beta` is given with a full covariance.

    Examples
    --------
    >>> import numpy as np
    >>> import likely as lk
    >>> x = np.random.default_rng(0).normal(size=(1000, 2))
    >>> data = lk.load_data(x, predict=1)
    >>> model = lk.discriminative.Regressor(data.domain, context=data.context)
    >>> history = lk.fit(model, data, steps=20)
    >>> mean, covariance = model.moments(data.test.context)
    >>> mean.shape, covariance.shape
    (torch.Size([100, 1]), torch.Size([100, 1, 1]))
    """

    accepts = frozenset({Real, Constant})

    def __init__(
        self,
        domain: Domain,
        *,
        context: Domain | None = None,
        hidden: Annotated[Sequence[int], Range(1)] | None = None,
        network: Network = "auto",
        covariance: Literal["diagonal", "full"] = "diagonal",
        beta: Annotated[float, Range(0, 1)] = 0.0,
        floor: Positive = 1e-3,
        **options: Any,
    ) -> None:
        super().__init__(domain, context=context, **options)
        if beta and covariance == "full":
            raise LikelyError(f"beta={beta}: the β-NLL is for a diagonal covariance; take beta=0")
        self.beta, self.floor, d = beta, floor, self.view.dim
        self.below = torch.tril_indices(d, d, -1)[:, : None if covariance == "full" else 0]
        self._build(2 * d + self.below.shape[1], hidden, network)

    @torch.no_grad()
    def prepare(self, batch: Batch) -> None:
        """Take scales from the training split, and start at the Gaussian of all rows."""
        super().prepare(batch)
        d = self.view.dim
        self.last.weight.zero_()
        self.last.bias.zero_()
        self.last.bias[d : 2 * d] = math.log(math.expm1(1 - self.floor))  # deviations of 1

    def _gaussian(self, context: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """μ, the diagonal of L, and what is below it, of the columns of the view."""
        d = self.view.dim
        mean, raw, below = self.net(context).split([d, d, self.below.shape[1]], 1)
        return mean, self.floor + F.softplus(raw), below

    def _factor(self, diagonal: Tensor, below: Tensor) -> Float[Tensor, "n d d"]:
        """L."""
        factor = diagonal.diag_embed()
        factor[:, self.below[0], self.below[1]] = below
        return factor

    def _terms(
        self, z: Tensor, context: Tensor | None
    ) -> tuple[Float[Tensor, "n d"], Float[Tensor, "n d"], Float[Tensor, "n d"]]:
        """log N(ε_i; 0, 1)/L_ii of each column, ε = L⁻¹(z − μ), and the diagonal of L."""
        mean, diagonal, below = self._gaussian(context)
        noise = (z - mean) / diagonal
        if below.shape[1]:
            factor = self._factor(diagonal, below)
            noise = torch.linalg.solve_triangular(factor, (z - mean)[..., None], upper=False)[
                ..., 0
            ]
        return -(noise.square() + LOG_TWO_PI) / 2 - diagonal.log(), noise, diagonal

    def loss(self, batch: Batch) -> Float[Tensor, " n"]:
        """The β-NLL, but for a constant the negative log-likelihood at β = 0."""
        z, log_det = self.view(batch.x)
        terms, _, sigma = self._terms(z, context_features(self, batch.context, len(batch)))
        return -(terms * sigma.detach() ** (2 * self.beta)).sum(1) - log_det

    def _log_prob_real(self, z: Tensor, context: Tensor | None) -> Tensor:
        return self._terms(z, context)[0].sum(1)

    def _sample_real(self, n: int, context: Tensor | None) -> Tensor:
        mean, diagonal, below = self._gaussian(context)
        return mean + (self._factor(diagonal, below) @ torch.randn_like(mean)[..., None])[..., 0]

    @torch.no_grad()
    def moments(self, x: Any) -> Moments:
        """Conditional mean and covariance.

        Parameters
        ----------
        x : Tensor, shape (n, *context.shape)

        Returns
        -------
        Moments
            In the data's own units; a constant column has no variance.

        Raises
        ------
        DataError
            If x has the wrong shape, or lies outside its domain.
        """
        view, parts = self.view, [self._gaussian(part) for part in self._seen(x)]
        mean, diagonal, below = (torch.cat(part) for part in zip(*parts, strict=True))
        factor = mean.new_zeros(len(mean), self.domain.size, view.dim)
        factor[:, view.kept] = view.scale[:, None] * self._factor(diagonal, below)
        return Moments(view.inverse(mean), factor @ factor.mT)

    @torch.no_grad()
    def pit(self, x: Rows, context: Any = None) -> Float[Tensor, "n dim"]:
        """Probability integral transform: numbers that are uniform on (0, 1) where the model is right.

        Of each column that is not constant given x, and in a full covariance the columns before it.

        Parameters
        ----------
        x : Tensor, shape (n, *domain.shape)
        context : Tensor
            As in `log_prob`.

        Returns
        -------
        Tensor, shape (n, dim)

        Raises
        ------
        DataError
            If x or the context have the wrong shape, or lie outside their domains.
        """
        z = self.view(accept_inside(self, x))[0]
        return torch.special.ndtr(self._terms(z, accept_context(self, context, len(z)))[1])
