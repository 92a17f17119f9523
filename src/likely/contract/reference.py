"""A simple distribution on any domain, to start from where there are no rows."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from likely.contract.views import LOG_TWO_PI, Rows, check_variable
from likely.core.domain import Domain
from likely.core.errors import DomainError
from likely.core.random import seeded


class Reference:
    """Independent columns: real ones normal in their charts, angles and finitely many levels uniform.

    An interval's chart is Φ⁻¹, so that it is uniform, too.

    Parameters
    ----------
    domain : Domain

    Raises
    ------
    DomainError
        If a column has infinitely many levels.
    """

    def __init__(self, domain: Domain) -> None:
        if any(column.discrete and not column.bounded for column, _ in domain.groups):
            raise DomainError("counts have no uniform distribution: take integer(levels)")
        self.domain = domain
        self.groups = [(column, index) for column, index in domain.groups if column.coordinates]
        check_variable(self.groups)

    def sample(self, n: int, *, seed: int | None = None) -> Rows:
        """n draws, without a seed by torch's generator."""
        with seeded(seed):
            z = torch.randn(n, self.domain.size, dtype=torch.float64)
        return self._from_normal(z)

    def rows(self, n: int) -> Rows:
        """2n rows whose columns have the reference's mean and deviation to rounding."""
        z = torch.randn(n, self.domain.size, dtype=torch.float64)
        z = z / z.square().mean(0).sqrt()
        return self._from_normal(torch.cat([z, -z]))

    def _from_normal(self, z: Tensor) -> Rows:
        x = self.domain.anchor.flatten().double().repeat(len(z), 1)
        for column, index in self.groups:
            if column.discrete:
                low, high = column.ends
                levels = (high - low) / column.step + 1
                code = (torch.special.ndtr(z[:, index]) * levels).floor().clamp(max=levels - 1)
                x[:, index] = low + column.step * code
            elif column.periodic:
                x[:, index] = column.from_reals(
                    2 * math.pi * torch.special.ndtr(z[:, index]) - math.pi
                )
            else:
                x[:, index] = column.from_reals(z[:, index])
        x = x.reshape(len(z), *self.domain.shape)
        return x.long() if self.domain.discrete else x.to(torch.get_default_dtype())

    def log_prob(self, x: Rows) -> Float[Tensor, " n"]:
        """Log-density of rows inside the domain."""
        flat = x.flatten(1)
        value = torch.zeros(len(x), device=x.device)
        for column, index in self.groups:
            if column.discrete:
                low, high = column.ends
                value = value - len(index) * math.log((high - low) / column.step + 1)
                continue
            z, log_slope = column.to_reals(flat[:, index])
            base = (
                torch.full_like(z, -LOG_TWO_PI)
                if column.periodic
                else -(z.square() + LOG_TWO_PI) / 2
            )
            value = value + (base + log_slope).sum(1)
        return value
