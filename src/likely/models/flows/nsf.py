"""Neural spline flow.

Monotone rational-quadratic splines (Durkan, Bekasov, Murray & Papamakarios 2019, arXiv:1906.04032) with
parameters from the entries before (autoregressive: sampled entry by entry) or from the other half of them
(coupling: one pass in both directions); circular ones for periodic columns (arXiv:2002.02428).
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

from torch import nn

from likely.contract import NonNegative, Positive, Recipe, register
from likely.core.domain import Domain
from likely.models.flows.base import Flow, Linear, check_vector
from likely.models.flows.lattice import LATTICE_RECIPE, lattice_couplings, lattice_shape
from likely.models.flows.spline import RationalQuadraticSpline

PAPER = "Durkan et al. 2019, arXiv:1906.04032"


@register(
    "nsf-coupling",
    title="neural spline flow, coupling",
    density="exact; lower bound on integers",
    constraint="invertible; half of the entries move at a time",
    paper=PAPER,
    coupling=True,
)
@register(
    "nsf",
    title="neural spline flow, autoregressive",
    density="exact; lower bound on integers",
    constraint="invertible; triangular Jacobian, sampled entry by entry",
    paper=PAPER,
)
class NSF(Flow):
    """Neural spline flow.

    Parameters
    ----------
    domain : Domain
        Of real, positive, bounded, periodic, integer, count or binary columns.
    context : Domain, optional
    transforms : int
        Number of layers; the ordering (or the half that moves) changes from one to the next.
    bins : int
        Bins of a spline.
    hidden : sequence of int
        Widths of the conditioner's hidden layers.
    bound, jitter : float
        Splines act on [−bound, bound]; `jitter` is the noise that training begins with. Both are in
        standard deviations of a column.
    coupling : bool
        Whether layers are couplings. On a lattice with one or two axes of even length and entries of one
        kind these have circular convolutions, and shifts by an even number of sites leave the density as
        it is; any other lattice is treated as a vector.
    channels, blocks : int
        Hidden maps and residual blocks of these convolutions.
    linear : {"lu"}, optional
        Linear maps of all columns between the layers, as products of triangular matrices that start at the
        identity, for tables without periodic columns. None leaves them out.

    Examples
    --------
    >>> import likely as lk
    >>> data = lk.load_data("eight-gaussians")
    >>> model = lk.flows.NSF(data.domain, transforms=3)
    >>> history = lk.fit(model, data, steps=100)
    >>> model.log_prob(model.sample(5, seed=1)).shape
    torch.Size([5])
    """

    recipe = Recipe(batch=1024, rate=4e-3, weight_decay=0.01, ema=0.9995)

    def __init__(
        self,
        domain: Domain,
        *,
        transforms: int = 5,
        bins: int = 8,
        hidden: Sequence[int] = (128, 128),
        bound: Positive = 5.0,
        jitter: NonNegative = 0.03,
        coupling: bool = False,
        channels: int = 32,
        blocks: int = 1,
        linear: Linear = None,
        **options: Any,
    ) -> None:
        super().__init__(domain, **options)
        self.jitter = jitter
        spline = partial(RationalQuadraticSpline, bins=bins, bound=bound)
        sides = lattice_shape(domain) if coupling else None
        if sides is not None:
            check_vector(linear)
            self.recipe = LATTICE_RECIPE
            size = channels, blocks, self.context_size
            lattice = lattice_couplings(spline, transforms, sides, self.view, *size)
            self.transforms = nn.ModuleList(lattice)
        else:
            layers = self._couplings if coupling else self._autoregressive
            self.transforms = nn.ModuleList(layers(spline, transforms, hidden, linear))
