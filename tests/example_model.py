"""Independent Laplace distributions (Laplace 1774)."""

from __future__ import annotations

from typing import Annotated, Any

import torch
from torch import Tensor

import likely as lk
from likely.contract.options import Range
from likely.contract.real import RealModel


@lk.register(
    "laplace",
    title="independent Laplace distributions",
    density="exact",
    constraint="independent columns of one width",
    paper="Laplace 1774",
)
class Laplace(RealModel):
    """p(z) = Π_i e^(−|z_i − m_i|/b) / 2b of standardised columns z; b starts at the option `width`."""

    accepts = frozenset({lk.Real, lk.Positive, lk.Constant})
    takes_context = False

    def __init__(
        self,
        domain: lk.Domain,
        *,
        width: Annotated[float, Range(0, open="low")] = 1.0,
        **options: Any,
    ) -> None:
        super().__init__(domain, **options)
        self.mean = torch.nn.Parameter(torch.zeros(self.view.dim))
        self.log_width = torch.nn.Parameter(torch.tensor(width).log())

    def _log_prob_real(self, z: Tensor, context: Tensor | None) -> Tensor:
        width = self.log_width.exp()
        return -((z - self.mean).abs() / width + (2 * width).log()).sum(1)

    def _sample_real(self, n: int, context: Tensor | None) -> Tensor:
        noise = torch.distributions.Laplace(torch.zeros_like(self.mean), 1.0).sample((n,))
        return self.mean + self.log_width.exp() * noise
