"""A network that a user wrote, where a family has one of flat rows."""

import copy

import torch
from jaxtyping import Float
from torch import Tensor, nn

from likely.core.domain import Domain
from likely.core.errors import LikelyError


class OwnNetwork(nn.Module):
    """A copy of a network of arrays, as one of flat rows.

    Parameters
    ----------
    net : Module
        It sees (n, *domain.shape), and more inputs of n rows each, some of them None.
    domain : Domain
    dim : int
        Numbers in a flat row.
    outputs : int
        Numbers that it gives for each row.
    *more : Tensor or None
        More inputs for two rows, to try it with.

    Raises
    ------
    LikelyError
        If rows are not arrays, or the network does not take them, or gives other numbers.
    """

    def __init__(
        self, net: nn.Module, domain: Domain, dim: int, outputs: int, *more: Tensor | None
    ) -> None:
        super().__init__()
        name = type(net).__name__
        if dim != domain.size:
            raise LikelyError(f"network: {name} sees whole rows: leave constant columns out")
        self.shape = domain.shape
        self.net = copy.deepcopy(net).to(torch.get_default_dtype())
        try:
            with torch.no_grad():
                given = self.net(torch.zeros(2, *domain.shape), *more)
        except (RuntimeError, ValueError, IndexError, TypeError) as error:
            raise LikelyError(
                f"network: {name} does not take rows of shape {self.shape}: {error}"
            ) from error
        if len(given) != 2 or given.numel() != 2 * outputs:
            raise LikelyError(
                f"network: {name} gives {tuple(given.shape)} for 2 rows, and {outputs} for each are needed"
            )

    def forward(
        self, z: Float[Tensor, "n dim"], *more: Tensor | None
    ) -> Float[Tensor, "n outputs"]:
        inputs = [None if part is None else part.expand(len(z), *part.shape[1:]) for part in more]
        return self.net(z.unflatten(1, self.shape), *inputs).reshape(len(z), -1)
