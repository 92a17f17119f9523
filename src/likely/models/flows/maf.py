"""Masked and inverse autoregressive flows: one construction, run in either direction.

With networks μ and s of the entries before and of the context, masked as in MADE,

    z_i = x_i exp(s_i(x_{<i})) + μ_i(x_{<i}),       log |det ∂z/∂x| = Σ_i s_i.

As the map from the data to the base this is the masked autoregressive flow (Papamakarios, Pavlakou &
Murray 2017, arXiv:1705.07057, where s is called −α, and μ is −μ exp(−α)): the density takes one pass
of the networks, and a sample is solved for entry by entry. As the map from the base to the data it
is the inverse autoregressive flow (Kingma et al. 2016, arXiv:1606.04934): a sample takes one pass,
and the density of given data is solved for entry by entry.
"""

from typing import Any, ClassVar

from torch import nn

from likely.contract import Widths, register
from likely.core.domain import Domain
from likely.models.flows.affine import Affine
from likely.models.flows.base import AffineFlow, Linear
from likely.models.flows.transforms import Inverse


@register(
    "maf",
    title="masked autoregressive flow",
    density="exact; lower bound on integers",
    constraint="invertible; triangular Jacobian; density in one pass, sampled entry by entry",
    paper="Papamakarios, Pavlakou & Murray 2017, arXiv:1705.07057",
)
class MAF(AffineFlow):
    """Masked autoregressive flow: the density is fast, sampling goes entry by entry.

    A sample still evaluates each hidden unit once, but in as many steps as there are columns.

    Parameters
    ----------
    domain : Domain
        Of real, positive, bounded, integer, count or binary columns; none may be periodic.
    context : Domain, optional
    transforms : int
        Number of layers; the ordering of the entries turns round from one to the next.
    hidden : sequence of int
        Widths of the hidden layers of μ and s.
    linear : {"lu"}, optional
        Linear maps of all columns between the layers, as products of triangular matrices that start at the
        identity. None leaves them out.

    Examples
    --------
    >>> import likely as lk
    >>> data = lk.load_data("moons")
    >>> model = lk.flows.MAF(data.domain, transforms=3)
    >>> history = lk.fit(model, data, steps=100)
    >>> model.log_prob(model.sample(5, seed=1)).shape
    torch.Size([5])
    """

    samples_in_one_pass: ClassVar[bool] = False

    def __init__(
        self,
        domain: Domain,
        *,
        transforms: int = 8,
        hidden: Widths = (128, 128),
        linear: Linear = None,
        **options: Any,
    ) -> None:
        super().__init__(domain, **options)
        layers = self._autoregressive(Affine, transforms, hidden, linear)
        self.transforms = nn.ModuleList(
            map(Inverse, layers) if self.samples_in_one_pass else layers
        )
