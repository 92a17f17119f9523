"""NICE: non-linear independent components estimation.

Dinh, Krueger & Bengio (2014), arXiv:1410.8516: additive couplings, which keep volumes, and one scale
for each component at the end,

    y₁ = x₁,  y₂ = x₂ + m(x₁)      (sec. 3.2, x₁ and x₂ the halves of the entries),
    z = eˢ ⊙ y,   log |det ∂z/∂x| = Σ_i s_i                                 (sec. 3.3).
"""

from collections.abc import Sequence
from typing import Any

from torch import nn

from likely.contract import register
from likely.core.domain import Domain
from likely.models.flows.affine import Additive
from likely.models.flows.base import AffineFlow, Linear
from likely.models.flows.linear import Diagonal


@register(
    "nice",
    title="non-linear independent components estimation",
    density="exact; lower bound on integers",
    constraint="invertible; constant Jacobian determinant, half of the entries move at a time",
    paper="Dinh, Krueger & Bengio 2014, arXiv:1410.8516",
)
class NICE(AffineFlow):
    """NICE: additive couplings and a diagonal scale; a context moves the shifts.

    Parameters
    ----------
    domain : Domain
        Of real, positive, bounded, integer, count or binary columns; none may be periodic.
    context : Domain, optional
    transforms : int
        Number of additive couplings; the halves take turns.
    hidden : sequence of int
        Widths of the hidden layers of m.
    linear : {"lu"}, optional
        Linear maps of all columns between the layers, as products of triangular matrices that start at the
        identity. None leaves them out.

    Examples
    --------
    >>> import likely as lk
    >>> data = lk.load_data("digits")
    >>> model = lk.flows.NICE(data.domain, transforms=4)
    >>> history = lk.fit(model, data, steps=20)
    >>> model.sample(5, seed=1).shape
    torch.Size([5, 8, 8])
    """

    def __init__(
        self,
        domain: Domain,
        *,
        transforms: int = 8,
        hidden: Sequence[int] = (128, 128),
        linear: Linear = None,
        **options: Any,
    ) -> None:
        super().__init__(domain, **options)
        layers = self._couplings(Additive, transforms, hidden, linear)
        self.transforms = nn.ModuleList([*layers, Diagonal(self.view.dim)])
