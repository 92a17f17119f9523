"""What heads have in common, and mixtures."""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from likely.core.columns import Column, Interval

ALL = slice(None)
NARROWEST = 1e-4  # least width of a component: without one, a density could grow without bound


class Head(nn.Module):
    """Distributions of several columns of one kind, each with the same number of outputs.

    Outputs have the shape (n, columns, size), and entries x the shape (n, columns); `at` says which
    of the columns they are.
    """

    size: int  # outputs of a column
    entries: Tensor  # which entries of the domain the columns are, shape (columns,)
    slots: Tensor  # where their outputs stand, shape (columns, size)

    @staticmethod
    def shared(column: Column) -> Any:
        """What columns must share to stand in one head of this class."""
        return None

    def prepare(self, x: Tensor, weight: Tensor) -> None:
        """Take scales from rows of the training split."""

    def initial(self, x: Tensor, weight: Tensor) -> Tensor:
        """Outputs that give about the marginals of these rows, shape (columns, size)."""
        raise NotImplementedError

    def log_prob(self, outputs: Tensor, x: Tensor, at: slice = ALL) -> Tensor:
        """Log-probability or log-density of each entry, shape (n, columns)."""
        raise NotImplementedError

    def sample(self, outputs: Tensor, at: slice = ALL) -> Tensor:
        """A draw for each entry, shape (n, columns), in a type that resolves it."""
        raise NotImplementedError

    def mean(self, outputs: Tensor) -> Tensor:
        """What to show of each entry without noise.

        Its mean; on a half-line or an interval the median; of categories the likeliest one.
        """
        raise NotImplementedError

    def type_of_draws(self, dtype: torch.dtype) -> torch.dtype:
        """`dtype`, or float64 where draws need it."""
        return dtype


class Mixture(Head):
    """Mixtures of K components with two parameters each; the first K outputs are the logits."""

    components: int

    def parameters_of(self, outputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Logits and the two parameters, shape (n, columns, components) each."""
        logits, first, second = outputs.unflatten(-1, (3, self.components)).unbind(-2)
        return logits, first, second

    def mixed(self, logits: Tensor, terms: Tensor) -> Tensor:
        """Log-density of a mixture whose components have the log-densities `terms`."""
        return (logits + terms).logsumexp(-1) - logits.logsumexp(-1)

    def chosen(self, outputs: Tensor) -> tuple[Tensor, Tensor]:
        """The two parameters of a component drawn for each entry, shape (n, columns) each."""
        logits, first, second = self.parameters_of(outputs)
        component = choose(logits)[..., None]
        return first.gather(-1, component)[..., 0], second.gather(-1, component)[..., 0]


def choose(logits: Float[Tensor, "*shape k"]) -> Shaped[Tensor, "*shape"]:
    """Draw a category for each row of logits, by inversion; some may be −inf."""
    # Inversion needs no normalisation, and torch's softmax is slow over a few categories.
    mass = (logits - logits.amax(-1, keepdim=True)).exp().cumsum(-1)
    return (mass <= torch.rand_like(mass[..., :1]) * mass[..., -1:]).sum(-1)


def kernels(
    z: Float[Tensor, "n columns"], weight: Float[Tensor, " n"], components: int
) -> tuple[Float[Tensor, "columns components"], Float[Tensor, "columns components"]]:
    """Means and widths of equally weighted kernels that together resemble a sample."""
    z, order = z.sort(0)
    mass = weight[order].cumsum(0).T
    levels = torch.arange(1, 4 * components, device=z.device) / (4 * components)
    index = torch.searchsorted(mass.contiguous(), mass[:, -1:] * levels)
    quantiles = z.T.gather(1, index.clamp_max(len(z) - 1))
    widths = quantiles[:, 2::4] - quantiles[:, ::4]
    return quantiles[:, 1::4], (0.7 * widths).clamp_min(0.01)


def bounds_of(columns: Sequence[Interval], like: Tensor) -> tuple[Tensor, Tensor]:
    """Lower and upper bounds of columns, in the type of x, in which `Domain` compares them too.

    They are no buffers, since those are rounded to whatever type the model had first.
    """
    dtype = torch.promote_types(like.dtype, torch.float32)
    bounds = [[column.low for column in columns], [column.high for column in columns]]
    low, high = torch.tensor(bounds, dtype=dtype, device=like.device)
    return low, high
